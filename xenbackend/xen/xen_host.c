/* xen_host.c - the host itself: host.info, its memory, the hypervisor's messages and debug keys. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "xenbackend/storage/storage.h"

#define DEBUG_KEYS_MAX 64

/* ---- memory ---- */

static gboolean physinfo(xc_physinfo_t *info)
{
    memset(info, 0, sizeof *info);
    if (xc_physinfo(xen.xc, info) == 0)
        return TRUE;
    g_warning("the hypervisor does not describe the host: %s", g_strerror(errno));
    return FALSE;
}

gint64 xen_memory_total(void)
{
    xc_physinfo_t info;
    return physinfo(&info) ? (gint64) info.total_pages * PAGE_BYTES : 0;
}

/* What is promised to domains that are being built is not free. */
gint64 xen_memory_free(void)
{
    xc_physinfo_t info;
    if (!physinfo(&info))
        return 0;
    return MAX((gint64) (info.free_pages + info.scrub_pages) - (gint64) info.outstanding_pages, 0) * PAGE_BYTES;
}

/* What is neither a domain's nor free: the hypervisor's own. */
static gint64 memory_overhead(void)
{
    gint64 used = 0;
    g_autoptr(GArray) all = xen_domains();
    for (guint i = 0; all != NULL && i < all->len; i++)
        used += (gint64) g_array_index(all, struct xen_domain, i).info.tot_pages * PAGE_BYTES;
    return MAX(xen_memory_total() - xen_memory_free() - used, 0);
}

/* ---- what it is ---- */

static void put_versions(struct value_builder *b, struct xen_op *op)
{
    struct value_builder map;
    struct utsname os;
    const libxl_version_info *v = libxl_get_version_info(op->ctx);
    uname(&os);
    value_builder_map(&map, NULL, 8);
    if (v != NULL) {
        value_builder_put(
            &map, "xen",
            value_printf(NULL, "%d.%d%s", v->xen_version_major, v->xen_version_minor, v->xen_version_extra));
        value_builder_put_string(&map, "xen_changeset", v->changeset);
        value_builder_put_string(&map, "xen_commandline", v->commandline);
        value_builder_put_string(&map, "xen_compiler", v->compiler);
        value_builder_put_string(&map, "xen_compile_date", v->compile_date);
    }
    value_builder_put_string(&map, "linux", os.release);
    value_builder_put_string(&map, "backend", "xenapid-xen");
    value_builder_put(b, "software_version", value_builder_end(&map));
}

static void put_capabilities(struct value_builder *b, struct xen_op *op)
{
    const libxl_version_info *v = libxl_get_version_info(op->ctx);
    struct value_builder set;
    g_auto(GStrv) words = g_strsplit(v != NULL ? v->capabilities : "", " ", -1);
    value_builder_set(&set, NULL, 8);
    for (guint i = 0; words[i] != NULL; i++)
        if (*words[i] != '\0')
            value_builder_add_string(&set, words[i]);
    value_builder_put(b, "capabilities", value_builder_end(&set));
}

/* From the firmware, where it says something. */
static void put_bios(struct value_builder *b)
{
    static const struct {
        const char *file, *key;
    } rows[] = {
        {"bios_vendor", "bios-vendor"},        {"bios_version", "bios-version"},
        {"sys_vendor", "system-manufacturer"}, {"product_name", "system-product-name"},
        {"product_version", "system-version"}, {"product_serial", "system-serial-number"},
    };
    struct value_builder map;
    value_builder_map(&map, NULL, G_N_ELEMENTS(rows));
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strconcat("/sys/class/dmi/id/", rows[i].file, NULL), *text = NULL;
        if (g_file_get_contents(path, &text, NULL, NULL)) {
            g_autofree char *plain = xen_guest_text(text, 200);
            value_builder_put_string(&map, rows[i].key, g_strstrip(plain));
        }
    }
    value_builder_put(b, "bios", value_builder_end(&map));
}

static void put_chipset(struct value_builder *b, struct xen_op *op)
{
    libxl_physinfo info;
    struct value_builder map;
    libxl_physinfo_init(&info);
    gboolean iommu = libxl_get_physinfo(op->ctx, &info) == 0 && info.cap_hvm_directio;
    libxl_physinfo_dispose(&info);
    value_builder_map(&map, NULL, 1);
    value_builder_put(&map, "iommu", value_bool(iommu));
    value_builder_put(b, "chipset", value_builder_end(&map));
}

static void put_dom0(struct value_builder *b)
{
    struct xen_domain d;
    struct value_builder map;
    gboolean there = xen_domain_by_id(0, &d);
    value_builder_map(&map, NULL, 3);
    value_builder_put_string(&map, "uuid", there ? d.uuid : xen.dom0_uuid);
    value_builder_put(&map, "memory", value_int(NULL, there ? (gint64) d.info.tot_pages * PAGE_BYTES : 0));
    value_builder_put(&map, "vcpus", value_int(NULL, there ? d.info.nr_online_vcpus : 1));
    value_builder_put(b, "dom0", value_builder_end(&map));
}

static gint64 boot_time(void)
{
    struct xen_domain d = {.domid = 0};
    return xen_start_time(&d);
}

struct value *xen_host_info(struct helper_request *req, struct fault *f)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    struct value_builder b;
    g_autofree char *address = xen_address(), *name = xen_host_name(), *iqn = xen_host_iscsi_iqn();
    if (!xen_op_begin(&op, req, f))
        return NULL;
    value_builder_map(&b, NULL, 24);
    value_builder_put_string(&b, "hostname", name);
    if (iqn != NULL)
        value_builder_put_string(&b, "iscsi_iqn", iqn);
    value_builder_put_string(&b, "address", address);
    value_builder_put(&b, "memory_total", value_int(NULL, xen_memory_total()));
    value_builder_put(&b, "memory_free", value_int(NULL, xen_memory_free()));
    value_builder_put(&b, "memory_overhead", value_int(NULL, memory_overhead()));
    if (!xen_put_cpus(&b, &op, f)) {
        value_builder_clear(&b);
        return NULL;
    }
    put_versions(&b, &op);
    put_capabilities(&b, &op);
    int scheduler = libxl_get_scheduler(op.ctx);
    value_builder_put_string(&b, "scheduler",
                             scheduler >= 0 ? libxl_scheduler_to_string((libxl_scheduler) scheduler) : "");
    value_builder_put(&b, "boot_time", value_int(NULL, boot_time()));
    put_chipset(&b, &op);
    put_bios(&b);
    value_builder_put(&b, "interfaces", xen_interfaces());
    put_dom0(&b);
    return value_builder_end(&b);
}

struct value *xen_host_metrics(struct helper_request *req G_GNUC_UNUSED, struct fault *f G_GNUC_UNUSED)
{
    return xen_usage_host();
}

/* ---- the hypervisor's console ---- */

struct value *xen_host_dmesg(struct helper_request *req, struct fault *f)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    struct value_builder b;
    char *line;
    if (!xen_op_begin(&op, req, f))
        return NULL;
    libxl_xen_console_reader *reader =
        libxl_xen_console_read_start(op.ctx, value_as_bool(value_get(req->params, "clear")) ? 1 : 0);
    if (reader == NULL) {
        xen_op_fault(&op, ERROR_FAIL, "", "xen_console_read", f);
        return NULL;
    }
    g_autoptr(GString) text = g_string_new(NULL);
    while (libxl_xen_console_read_line(op.ctx, reader, &line) > 0)
        g_string_append(text, line);
    libxl_xen_console_read_finish(op.ctx, reader);
    g_autofree char *valid = g_utf8_make_valid(text->str, -1);
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "text", valid);
    return value_builder_end(&b);
}

struct value *xen_host_debug_keys(struct helper_request *req, struct fault *f)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    g_autofree char *keys = g_strdup(value_get_str(req->params, "keys", ""));
    if (*keys == '\0' || strlen(keys) > DEBUG_KEYS_MAX || !g_str_is_ascii(keys)) {
        fault_set(f, "INVALID_VALUE", "keys", keys, NULL);
        return NULL;
    }
    if (!xen_op_begin(&op, req, f))
        return NULL;
    int rc = libxl_send_debug_keys(op.ctx, keys);
    return rc == 0 || xen_op_fault(&op, rc, "", "send_debug_keys", f) ? value_empty_map() : NULL;
}

/* ---- the beginning ---- */

/* Xen gives domain 0 none of its own unless it was told one: the same one on this machine for ever. */
void xen_host_init(void)
{
    g_autofree char *machine = NULL;
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    guint8 digest[20];
    gsize len = sizeof digest;
    if (g_file_get_contents("/etc/machine-id", &machine, NULL, NULL))
        g_checksum_update(sum, (const guchar *) machine, -1);
    g_checksum_update(sum, (const guchar *) "domain 0", -1);
    g_checksum_get_digest(sum, digest, &len);
    storage_uuid_format(digest, 5, xen.dom0_uuid);
}
