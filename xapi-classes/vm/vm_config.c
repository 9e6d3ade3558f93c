/* vm_config.c - a VM and its devices as the backend wants them described (docs/backend-protocol.md). */
#include "xapi-classes/cpu_pool.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

static void put_bool(struct value_builder *b, const char *key, gboolean v)
{
    value_builder_put(b, key, value_bool(v));
}

static void put_int(struct value_builder *b, const char *key, gint64 v)
{
    value_builder_put(b, key, value_int(NULL, v));
}

static void put_field(struct value_builder *b, const char *key, const struct record *r, int field)
{
    value_builder_put(b, key, value_ref(record_field(r, field)));
}

const char *vm_domain_type(const struct record *vm)
{
    const char *type = record_str(vm, F_VM_domain_type);
    if (strcmp(type, "pv_in_pvh") == 0)
        return "pvh";
    if (strcmp(type, "unspecified") != 0 && *type != '\0')
        return type;
    return *record_str(vm, F_VM_HVM_boot_policy) != '\0' ? "hvm" : "pv";
}

/* ---- scheduling ---- */

static gint64 number_of(const char *text, gint64 otherwise)
{
    char *end;
    if (text == NULL || *text == '\0')
        return otherwise;
    gint64 n = g_ascii_strtoll(text, &end, 10);
    return *end == '\0' ? n : otherwise;
}

/* "0,2-4": the CPUs; what is no number is left out. */
static struct value *cpu_set(const char *mask)
{
    struct value_builder b;
    g_auto(GStrv) parts = g_strsplit(mask, ",", -1);
    value_builder_set(&b, NULL, 8);
    for (guint i = 0; parts[i] != NULL; i++) {
        char *end;
        const char *part = g_strstrip(parts[i]);
        gint64 first = g_ascii_strtoll(part, &end, 10);
        if (end == part)
            continue;
        gint64 last = *end == '-' ? g_ascii_strtoll(end + 1, NULL, 10) : first;
        for (gint64 cpu = MAX(first, 0); cpu <= MIN(last, 4095); cpu++)
            value_builder_add(&b, value_int(NULL, cpu));
    }
    return value_builder_end(&b);
}

/* One mask for all virtual CPUs, or "cpumap0", "cpumap1", ... for each; without any, no affinity. */
static struct value *affinity(const struct record *vm)
{
    struct value_builder b;
    const char *mask = record_key(vm, F_VM_VCPUs_params, "mask");
    gint64 vcpus = CLAMP(record_int(vm, F_VM_VCPUs_max), 0, 4096);
    value_builder_set(&b, NULL, vcpus);
    for (gint64 i = 0; i < vcpus; i++) {
        g_autofree char *key = g_strdup_printf("cpumap%" G_GINT64_FORMAT, i);
        const char *own = record_key(vm, F_VM_VCPUs_params, key);
        if (own == NULL && mask == NULL) {
            value_builder_clear(&b);
            return value_empty_set();
        }
        value_builder_add(&b, cpu_set(own != NULL ? own : mask));
    }
    return value_builder_end(&b);
}

void vm_put_scheduling(struct value_builder *b, const struct record *vm)
{
    put_int(b, "weight", number_of(record_key(vm, F_VM_VCPUs_params, "weight"), 256));
    put_int(b, "cap", number_of(record_key(vm, F_VM_VCPUs_params, "cap"), 0));
    value_builder_put(b, "affinity", affinity(vm));
}

/* ---- devices ---- */

static void put_disk(struct value_builder *b, const struct record *vbd)
{
    g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, record_str(vbd, F_VBD_VDI));
    g_autoptr(record) sr = vdi != NULL ? store_get(the_store(), CLASS_SR, record_str(vdi, F_VDI_SR)) : NULL;
    const char *type = vdi != NULL ? record_key(vdi, F_VDI_sm_config, "type") : NULL;
    value_builder_put_string(b, "sr", sr != NULL ? record_str(sr, F_SR_uuid) : "");
    value_builder_put_string(b, "vdi", vdi != NULL ? record_str(vdi, F_VDI_uuid) : "");
    value_builder_put_string(b, "vdi_type", type != NULL ? type : "raw");
    if (vdi != NULL) {
        value_builder_put_string(b, "vdi_ref", vdi->ref);
        value_builder_put_string(b, "vdi_location", record_str(vdi, F_VDI_location));
    }
}

struct value *vbd_config(const struct record *vbd)
{
    struct value_builder b;
    vm_params(&b, record_str(vbd, F_VBD_uuid));
    put_field(&b, "device", vbd, F_VBD_device);
    put_field(&b, "userdevice", vbd, F_VBD_userdevice);
    put_field(&b, "mode", vbd, F_VBD_mode);
    put_field(&b, "type", vbd, F_VBD_type);
    put_field(&b, "bootable", vbd, F_VBD_bootable);
    put_bool(&b, "empty", record_bool(vbd, F_VBD_empty) || ref_is_null(record_str(vbd, F_VBD_VDI)));
    put_disk(&b, vbd);
    put_field(&b, "qos_type", vbd, F_VBD_qos_algorithm_type);
    put_field(&b, "qos_params", vbd, F_VBD_qos_algorithm_params);
    return value_builder_end(&b);
}

/* An interface that follows its network's mode is told the mode that this comes to. */
static const char *locking_mode(const struct record *vif, const struct record *network)
{
    const char *mode = record_str(vif, F_VIF_locking_mode);
    if (strcmp(mode, "network_default") != 0 || network == NULL)
        return mode;
    return record_str(network, F_network_default_locking_mode);
}

struct value *vif_config(const struct record *vif)
{
    g_autoptr(record) network = store_get(the_store(), CLASS_network, record_str(vif, F_VIF_network));
    struct value_builder b;
    vm_params(&b, record_str(vif, F_VIF_uuid));
    put_field(&b, "device", vif, F_VIF_device);
    put_field(&b, "mac", vif, F_VIF_MAC);
    put_field(&b, "mtu", vif, F_VIF_MTU);
    value_builder_put_string(&b, "bridge", network != NULL ? record_str(network, F_network_bridge) : "");
    value_builder_put_string(&b, "locking_mode", locking_mode(vif, network));
    put_field(&b, "ipv4_allowed", vif, F_VIF_ipv4_allowed);
    put_field(&b, "ipv6_allowed", vif, F_VIF_ipv6_allowed);
    put_field(&b, "qos_type", vif, F_VIF_qos_algorithm_type);
    put_field(&b, "qos_params", vif, F_VIF_qos_algorithm_params);
    return value_builder_end(&b);
}

static struct value *devices(const struct record *vm, int field, enum class_id class,
                             struct value *(*config)(const struct record *r))
{
    const struct value *refs = record_field(vm, field);
    struct value_builder b;
    value_builder_set(&b, NULL, value_count(refs));
    for (gsize i = 0; i < value_count(refs); i++) {
        g_autoptr(record) r = store_get(the_store(), class, value_str(value_at(refs, i)));
        if (r != NULL)
            value_builder_add(&b, config(r));
    }
    return value_builder_end(&b);
}

/* ---- the domain ---- */

static void put_boot(struct value_builder *b, const struct record *vm)
{
    const char *order = record_key(vm, F_VM_HVM_boot_params, "order");
    const char *firmware = record_key(vm, F_VM_HVM_boot_params, "firmware");
    put_field(b, "kernel", vm, F_VM_PV_kernel);
    put_field(b, "ramdisk", vm, F_VM_PV_ramdisk);
    put_field(b, "args", vm, F_VM_PV_args);
    put_field(b, "bootloader", vm, F_VM_PV_bootloader);
    put_field(b, "bootloader_args", vm, F_VM_PV_bootloader_args);
    value_builder_put_string(b, "hvm_boot_order", order != NULL ? order : "cd");
    if (firmware != NULL)
        value_builder_put_string(b, "firmware", firmware);
    put_field(b, "platform", vm, F_VM_platform);
    put_field(b, "xenstore_data", vm, F_VM_xenstore_data);
}

static void put_size(struct value_builder *b, const struct record *vm)
{
    gint64 static_max = record_int(vm, F_VM_memory_static_max);
    gint64 target = record_int(vm, F_VM_memory_dynamic_max);
    put_int(b, "vcpus_max", record_int(vm, F_VM_VCPUs_max));
    put_int(b, "vcpus", record_int(vm, F_VM_VCPUs_at_startup));
    put_int(b, "memory_static_max", static_max);
    put_int(b, "memory_target", target > 0 ? MIN(target, static_max) : static_max);
}

/* What is wrong with it was said before; if it has just gone the host's first one does. */
static void put_pool(struct value_builder *b, const struct record *vm)
{
    struct fault f = FAULT_INIT;
    g_autoptr(record) pool = NULL;
    if (cpu_pool_of_start(vm, &pool, &f) && pool != NULL)
        put_field(b, "cpu_pool", pool, F_cpu_pool_uuid);
    fault_clear(&f);
}

struct value *vm_config(const struct record *vm, const struct value *consoles, gboolean paused)
{
    struct value_builder b;
    vm_params(&b, record_str(vm, F_VM_uuid));
    put_field(&b, "name", vm, F_VM_name_label);
    value_builder_put_string(&b, "type", vm_domain_type(vm));
    put_size(&b, vm);
    put_boot(&b, vm);
    vm_put_scheduling(&b, vm);
    put_pool(&b, vm);
    put_field(&b, "on_poweroff", vm, F_VM_actions_after_shutdown);
    put_field(&b, "on_reboot", vm, F_VM_actions_after_reboot);
    put_field(&b, "on_crash", vm, F_VM_actions_after_crash);
    value_builder_put(&b, "vbds", devices(vm, F_VM_VBDs, CLASS_VBD, vbd_config));
    value_builder_put(&b, "vifs", devices(vm, F_VM_VIFs, CLASS_VIF, vif_config));
    value_builder_put(&b, "consoles", consoles != NULL ? value_ref((struct value *) consoles) : value_empty_set());
    put_bool(&b, "paused", paused);
    put_field(&b, "other_config", vm, F_VM_other_config);
    return value_builder_end(&b);
}
