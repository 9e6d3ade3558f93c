/* xen_config.c - a VM's description (docs/backend-protocol.md) as libxl wants it. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <stdlib.h>
#include <string.h>

#include "xenbackend/storage/storage.h"

#define VCPUS_MAX 512

/* ---- names ---- */

/* The device model takes the name as one of its options, in which a comma ends it; xl takes digits for a domid. */
static char *plain_name(const char *name, const char *uuid)
{
    char *plain = xen_guest_text(name, 200);
    g_strstrip(g_strdelimit(plain, ",=", '_'));
    if (*plain != '\0' && strspn(plain, "0123456789") < strlen(plain))
        return plain;
    g_free(plain);
    return g_strdup(uuid);
}

/* Xen's tools want one domain of a name; VMs may share theirs. */
static char *unused_name(struct xen_op *op, struct value *config)
{
    const char *uuid = value_get_str(config, "uuid", "");
    char *name = plain_name(value_get_str(config, "name", ""), uuid);
    guint32 domid;
    if (libxl_name_to_domid(op->ctx, name, &domid) != 0)
        return name;
    char *own = g_strdup_printf("%s-%.8s", name, uuid);
    g_free(name);
    return own;
}

/* ---- keys in xenstore ---- */

static void add_key(GPtrArray *list, char *key, char *text)
{
    g_ptr_array_add(list, strdup(key));
    g_ptr_array_add(list, strdup(text));
    g_free(key);
    g_free(text);
}

static libxl_key_value_list end_keys(GPtrArray *list)
{
    char **keys = calloc(list->len + 1, sizeof *keys); /* libxl frees it */
    if (keys != NULL)
        memcpy(keys, list->pdata, list->len * sizeof *keys);
    g_ptr_array_free(list, TRUE);
    return keys;
}

/* A relative path of xenstore's characters: no way up or out. */
static gboolean is_key(const char *key)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/@.:";
    return *key != '\0' && *key != '/' && key[strspn(key, allowed)] == '\0' && strlen(key) < 1024 &&
           strstr(key, "//") == NULL && strstr(key, "..") == NULL;
}

static void add_ionice(GPtrArray *list, struct value *vbd)
{
    char *note = xen_ionice_note(vbd);
    if (note != NULL)
        add_key(list, g_strdup_printf("xenapid/ionice/%s", value_get_str(vbd, "uuid", "")), note);
}

static void add_notes(GPtrArray *list, struct value *config)
{
    struct value *vbds = value_get(config, "vbds"), *vifs = value_get(config, "vifs");
    for (gsize i = 0; i < value_count(vbds); i++) {
        struct value *vbd = value_at(vbds, i);
        add_key(list, g_strdup_printf("xenapid/vbd/%s", value_get_str(vbd, "uuid", "")), xen_disk_note(vbd));
        add_ionice(list, vbd);
    }
    for (gsize i = 0; i < value_count(vifs); i++) {
        struct value *vif = value_at(vifs, i);
        add_key(list, g_strdup_printf("xenapid/vif/%s", value_get_str(vif, "uuid", "")),
                g_strdup(value_get_str(vif, "device", "0")));
    }
}

/* They are there from the domain's first moment, so that a helper that is killed leaves no unknown domain. The VM's
 * own keys can only be those that are meant for its guest. */
static libxl_key_value_list xenstore_keys(struct value *config)
{
    struct value *data = value_get(config, "xenstore_data");
    GPtrArray *list = g_ptr_array_new();
    add_key(list, g_strdup("xenapid/state"), xen_mark("building"));
    add_key(list, g_strdup("xenapid/name"), xen_guest_text(value_get_str(config, "name", ""), 1000));
    add_notes(list, config);
    for (gsize i = 0; data != NULL && data->type == VALUE_MAP && i < value_count(data); i++) {
        const char *key = value_str(data->u.map.m[i].key), *text = value_str(data->u.map.m[i].value);
        if (is_key(key) && g_str_has_prefix(key, "vm-data/") && strlen(text) < 3000)
            add_key(list, g_strdup(key), g_strdup(text));
    }
    return end_keys(list);
}

static libxl_key_value_list platform_keys(struct value *config)
{
    struct value *platform = value_get(config, "platform");
    GPtrArray *list = g_ptr_array_new();
    for (gsize i = 0; platform != NULL && platform->type == VALUE_MAP && i < value_count(platform); i++) {
        const char *key = value_str(platform->u.map.m[i].key), *text = value_str(platform->u.map.m[i].value);
        if (is_key(key) && strchr(key, '/') == NULL && strlen(text) < 3000)
            add_key(list, g_strdup(key), g_strdup(text));
    }
    return end_keys(list);
}

/* ---- type, memory, processors ---- */

static libxl_domain_type type_of(struct value *config)
{
    const char *type = value_get_str(config, "type", "pv");
    if (strcmp(type, "hvm") == 0)
        return LIBXL_DOMAIN_TYPE_HVM;
    return strcmp(type, "pvh") == 0 ? LIBXL_DOMAIN_TYPE_PVH : LIBXL_DOMAIN_TYPE_PV;
}

static void fill_create_info(struct xen_op *op, struct value *config, libxl_domain_create_info *c)
{
    g_autofree char *name = unused_name(op, config);
    c->type = type_of(config);
    c->name = strdup(name);
    libxl_uuid_from_string(&c->uuid, value_get_str(config, "uuid", ""));
    c->xsdata = xenstore_keys(config);
    c->platformdata = platform_keys(config);
}

/* The pool to start in; the first one where none is named. */
static gboolean fill_pool(struct xen_op *op, struct value *config, libxl_domain_create_info *c, struct fault *f)
{
    const char *uuid = value_get_str(config, "cpu_pool", "");
    libxl_cpupoolinfo info;
    if (*uuid == '\0')
        return TRUE;
    gboolean found = xen_pool_find(op, uuid, &info, f);
    c->poolid = found ? info.poolid : 0;
    libxl_cpupoolinfo_dispose(&info);
    return found;
}

static void fill_memory(struct value *config, libxl_domain_build_info *b)
{
    gint64 max = value_as_int(value_get(config, "memory_static_max"));
    gint64 target = value_as_int(value_get(config, "memory_target"));
    b->max_memkb = (guint64) (max > 0 ? max : target) / KIB;
    b->target_memkb = (guint64) (target > 0 ? MIN(target, MAX(max, target)) : max) / KIB;
    if (b->target_memkb > b->max_memkb)
        b->target_memkb = b->max_memkb;
    /* Reserves the memory as a whole before it is filled, so that two starts at once do not both fail half-way. */
    libxl_defbool_set(&b->claim_mode, true);
}

static gboolean fill_affinity(struct xen_op *op, struct value *config, libxl_domain_build_info *b, struct fault *f)
{
    struct value *affinity = value_get(config, "affinity");
    int n = MIN((int) value_count(affinity), b->max_vcpus);
    if (n == 0)
        return TRUE;
    b->vcpu_hard_affinity = calloc((gsize) n, sizeof *b->vcpu_hard_affinity);
    for (int i = 0; i < n; i++) {
        libxl_bitmap_init(&b->vcpu_hard_affinity[i]);
        b->num_vcpu_hard_affinity = i + 1;
        if (!xen_affinity_fill(op, value_at(affinity, (gsize) i), &b->vcpu_hard_affinity[i], f))
            return FALSE;
    }
    libxl_defbool_set(&b->numa_placement, false); /* libxl takes only one of the two */
    return TRUE;
}

static gboolean fill_vcpus(struct xen_op *op, struct value *config, libxl_domain_build_info *b, struct fault *f)
{
    gint64 online = MAX(value_as_int(value_get(config, "vcpus")), 1);
    gint64 max = MAX(value_as_int(value_get(config, "vcpus_max")), online);
    if (max > VCPUS_MAX)
        return fault_set(f, "VM_TOO_MANY_VCPUS", value_get_str(config, "uuid", ""), NULL);
    b->max_vcpus = (int) max;
    if (libxl_cpu_bitmap_alloc(op->ctx, &b->avail_vcpus, (int) max) != 0)
        return fault_set(f, "INTERNAL_ERROR", "libxl_cpu_bitmap_alloc", NULL);
    for (int i = 0; i < online; i++)
        libxl_bitmap_set(&b->avail_vcpus, i);
    gint64 weight = value_as_int(value_get(config, "weight")), cap = value_as_int(value_get(config, "cap"));
    if (weight > 0)
        b->sched_params.weight = (int) CLAMP(weight, 1, 65535);
    if (cap > 0)
        b->sched_params.cap = (int) MIN(cap, max * 100);
    return fill_affinity(op, config, b, f);
}

/* ---- HVM ---- */

static gboolean says_yes(const char *text)
{
    return strcmp(text, "true") == 0 || strcmp(text, "1") == 0 || strcmp(text, "yes") == 0;
}

static void fill_switches(struct value *platform, libxl_domain_build_info *b)
{
    const struct {
        const char *key;
        libxl_defbool *to;
    } switches[] = {
        {"acpi", &b->acpi},       {"apic", &b->apic},     {"nested-virt", &b->nested_hvm},
        {"pae", &b->u.hvm.pae},   {"nx", &b->u.hvm.nx},   {"viridian", &b->u.hvm.viridian},
        {"hpet", &b->u.hvm.hpet}, {"usb", &b->u.hvm.usb}, {"vkb", &b->u.hvm.vkb_device},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(switches); i++) {
        const char *text = value_get_str(platform, switches[i].key, NULL);
        if (text != NULL)
            libxl_defbool_set(switches[i].to, says_yes(text));
    }
}

static void fill_vga(struct value *platform, libxl_domain_build_info *b)
{
    const char *vga = value_get_str(platform, "vga", "std");
    gint64 mib = g_ascii_strtoll(value_get_str(platform, "videoram", "0"), NULL, 10);
    b->u.hvm.vga.kind = strcmp(vga, "cirrus") == 0 ? LIBXL_VGA_INTERFACE_TYPE_CIRRUS
                        : strcmp(vga, "none") == 0 ? LIBXL_VGA_INTERFACE_TYPE_NONE
                                                   : LIBXL_VGA_INTERFACE_TYPE_STD;
    if (mib > 0 && mib <= 256)
        b->video_memkb = (guint64) mib * 1024;
}

static void fill_vnc(libxl_vnc_info *vnc)
{
    libxl_defbool_set(&vnc->enable, true);
    libxl_defbool_set(&vnc->findunused, true);
    vnc->listen = strdup("127.0.0.1");
}

static gboolean is_boot_order(const char *order)
{
    return strlen(order) <= 4 && order[strspn(order, "abcdn")] == '\0';
}

static gboolean fill_hvm(struct value *config, libxl_domain_build_info *b, struct fault *f)
{
    struct value *platform = value_get(config, "platform");
    const char *order = value_get_str(config, "hvm_boot_order", "cd");
    const char *firmware = value_get_str(config, "firmware", value_get_str(platform, "firmware", "bios"));
    if (!is_boot_order(order))
        return fault_set(f, "INVALID_VALUE", "HVM_boot_params", order, NULL);
    b->u.hvm.boot = strdup(*order != '\0' ? order : "cd");
    b->u.hvm.bios = strcmp(firmware, "uefi") == 0 ? LIBXL_BIOS_TYPE_OVMF : LIBXL_BIOS_TYPE_SEABIOS;
    b->u.hvm.serial = strdup("pty");
    fill_switches(platform, b);
    fill_vga(platform, b);
    fill_vnc(&b->u.hvm.vnc);
    libxl_defbool_set(&b->u.hvm.xen_platform_pci, true);
    return TRUE;
}

/* ---- devices ---- */

static gboolean fill_disks(struct value *config, gboolean hvm, libxl_domain_config *c, struct fault *f)
{
    struct value *vbds = value_get(config, "vbds");
    gsize n = value_count(vbds);
    c->disks = n > 0 ? calloc(n, sizeof *c->disks) : NULL;
    for (gsize i = 0; i < n; i++) {
        struct value *vbd = value_at(vbds, i);
        if (!xen_disk_is_device(vbd, hvm))
            continue;
        libxl_device_disk *disk = &c->disks[c->num_disks++];
        if (!xen_disk_fill(vbd, hvm, disk, f))
            return FALSE;
        if (disk->format == LIBXL_DISK_FORMAT_EMPTY) {
            disk->format = LIBXL_DISK_FORMAT_RAW;
            disk->pdev_path = strdup(xen.blank);
        }
    }
    return TRUE;
}

static gboolean fill_nics(struct value *config, gboolean hvm, libxl_domain_config *c, struct fault *f)
{
    struct value *vifs = value_get(config, "vifs");
    gsize n = value_count(vifs);
    c->nics = n > 0 ? calloc(n, sizeof *c->nics) : NULL;
    for (gsize i = 0; i < n; i++)
        if (!xen_nic_fill(value_at(vifs, i), hvm, &c->nics[c->num_nics++], f))
            return FALSE;
    return TRUE;
}

/* A PV guest has a screen only where one is asked for. */
static void fill_screen(struct value *config, libxl_domain_config *c)
{
    struct value *consoles = value_get(config, "consoles");
    gboolean wanted = FALSE;
    for (gsize i = 0; i < value_count(consoles); i++)
        wanted |= strcmp(value_get_str(value_at(consoles, i), "protocol", ""), "rfb") == 0;
    if (!wanted || c->c_info.type != LIBXL_DOMAIN_TYPE_PV)
        return;
    c->vfbs = calloc(1, sizeof *c->vfbs);
    c->vkbs = calloc(1, sizeof *c->vkbs);
    libxl_device_vfb_init(c->vfbs);
    libxl_device_vkb_init(c->vkbs);
    c->num_vfbs = c->num_vkbs = 1;
    fill_vnc(&c->vfbs->vnc);
}

/* ---- the whole ---- */

static gboolean check_uuids(struct value *list, struct fault *f)
{
    for (gsize i = 0; i < value_count(list); i++) {
        const char *uuid = value_get_str(value_at(list, i), "uuid", "");
        if (!storage_uuid_is_valid(uuid))
            return fault_set(f, "INVALID_VALUE", "uuid", uuid, NULL);
    }
    return TRUE;
}

/* The domain stays when its guest stops: what happens then is the front's to say. */
static void keep_when_stopped(libxl_domain_config *c)
{
    c->on_poweroff = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;
    c->on_reboot = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;
    c->on_watchdog = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;
    c->on_crash = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;
    c->on_soft_reset = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;
}

gboolean xen_config_fill(struct xen_op *op, struct value *config, gboolean boots, libxl_domain_config *c,
                         struct fault *f)
{
    const char *uuid = value_get_str(config, "uuid", "");
    libxl_domain_config_init(c);
    if (!storage_uuid_is_valid(uuid))
        return fault_set(f, "INVALID_VALUE", "uuid", uuid, NULL);
    if (!check_uuids(value_get(config, "vbds"), f) || !check_uuids(value_get(config, "vifs"), f))
        return FALSE;
    if (value_as_int(value_get(config, "memory_static_max")) < KIB * 4)
        return fault_set(f, "VM_MEMORY_SIZE_TOO_LOW", uuid, NULL);
    fill_create_info(op, config, &c->c_info);
    libxl_domain_build_info_init_type(&c->b_info, c->c_info.type);
    keep_when_stopped(c);
    fill_memory(config, &c->b_info);
    fill_screen(config, c);
    gboolean hvm = c->c_info.type == LIBXL_DOMAIN_TYPE_HVM;
    return fill_pool(op, config, &c->c_info, f) && fill_vcpus(op, config, &c->b_info, f) &&
           (!boots || xen_boot_fill(config, &c->b_info, f)) && (!hvm || fill_hvm(config, &c->b_info, f)) &&
           fill_disks(config, hvm, c, f) && fill_nics(config, hvm, c, f);
}
