/* xen_domain.c - which domains there are, by the hypervisor's list and our keys, and what is told of one. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <string.h>
#include <xen/sched.h>

#define LIST_STEP 256

/* ---- the hypervisor's list ---- */

static const char *reason_text(guint code)
{
    switch (code) {
    case SHUTDOWN_poweroff:
        return "poweroff";
    case SHUTDOWN_reboot:
        return "reboot";
    case SHUTDOWN_suspend:
        return "suspend";
    default: /* crash, watchdog, soft reset: it did not end well */
        return "crash";
    }
}

static enum xen_power power_of(const xc_domaininfo_t *info, const char **reason)
{
    guint code = info->flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask;
    gboolean shutdown = (info->flags & XEN_DOMINF_shutdown) != 0;
    *reason = shutdown ? reason_text(code) : "";
    if ((info->flags & XEN_DOMINF_dying) != 0)
        return XEN_DYING;
    if (shutdown)
        return strcmp(*reason, "crash") == 0 ? XEN_CRASHED : XEN_SHUTDOWN;
    return (info->flags & XEN_DOMINF_paused) != 0 ? XEN_PAUSED : XEN_RUNNING;
}

static void uuid_of(const xc_domaininfo_t *info, char uuid[UUID_TEXT_SIZE])
{
    static const xen_domain_handle_t none;
    const guint8 *h = info->handle;
    if (info->domain == 0 && memcmp(h, none, sizeof none) == 0) {
        g_strlcpy(uuid, xen.dom0_uuid, UUID_TEXT_SIZE);
        return;
    }
    g_snprintf(uuid, UUID_TEXT_SIZE, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", h[0], h[1],
               h[2], h[3], h[4], h[5], h[6], h[7], h[8], h[9], h[10], h[11], h[12], h[13], h[14], h[15]);
}

static void take_info(const xc_domaininfo_t *info, struct xen_domain *d)
{
    d->domid = info->domain;
    d->info = *info;
    d->power = power_of(info, &d->reason);
    uuid_of(info, d->uuid);
}

GArray *xen_domains(void)
{
    GArray *all = g_array_new(FALSE, FALSE, sizeof(struct xen_domain));
    g_autofree xc_domaininfo_t *info = g_new(xc_domaininfo_t, LIST_STEP);
    guint32 first = 0;
    for (;;) {
        int n = xc_domain_getinfolist(xen.xc, first, LIST_STEP, info);
        if (n < 0) {
            g_warning("the hypervisor does not list its domains: %s", g_strerror(errno));
            g_array_unref(all);
            return NULL;
        }
        for (int i = 0; i < n; i++) {
            struct xen_domain d;
            take_info(&info[i], &d);
            g_array_append_val(all, d);
        }
        if (n < LIST_STEP)
            return all;
        first = info[n - 1].domain + 1u;
    }
}

gboolean xen_domain_by_id(int domid, struct xen_domain *d)
{
    xc_domaininfo_t info;
    /* It answers the first domain from this number on. */
    if (xc_domain_getinfolist(xen.xc, (guint32) domid, 1, &info) != 1 || info.domain != domid)
        return FALSE;
    take_info(&info, d);
    return TRUE;
}

gboolean xen_domain_by_uuid(const char *uuid, struct xen_domain *d)
{
    g_autoptr(GArray) all = xen_domains();
    gboolean found = FALSE;
    for (guint i = 0; all != NULL && i < all->len; i++) {
        const struct xen_domain *one = &g_array_index(all, struct xen_domain, i);
        if (g_ascii_strcasecmp(one->uuid, uuid) == 0 && one->power != XEN_DYING) {
            *d = *one;
            found = TRUE;
        }
    }
    return found;
}

/* ---- our keys ---- */

gboolean xen_is_ours(int domid)
{
    g_autofree char *state = xen_read("/local/domain/%d/xenapid/state", domid);
    return state != NULL;
}

static gboolean is_suspending(int domid)
{
    g_autofree char *state = xen_read("/local/domain/%d/xenapid/state", domid);
    return state != NULL && g_str_has_prefix(state, "suspending");
}

gboolean xen_is_building(int domid)
{
    g_autofree char *state = xen_read("/local/domain/%d/xenapid/state", domid);
    return state != NULL && g_str_has_prefix(state, "building");
}

/* ---- finding the one of a request ---- */

const char *xen_power_text(enum xen_power power)
{
    static const char *const text[] = {"running", "paused", "shutdown", "crashed", "dying"};
    return text[power];
}

gboolean xen_find(struct value *params, guint mask, struct xen_domain *d, struct fault *f)
{
    const char *uuid = value_get_str(params, "uuid", "");
    gboolean found = xen_domain_by_uuid(uuid, d) && !xen_is_building(d->domid);
    if (found && d->domid == 0 && (mask & XEN_DOM0) == 0)
        return fault_set(f, "OPERATION_NOT_ALLOWED", "This is the control domain", NULL);
    if (found && (mask & 1u << d->power) != 0)
        return TRUE;
    const char *expected = (mask & 1u << XEN_RUNNING) != 0 ? "running" : "paused";
    return fault_set(f, "VM_BAD_POWER_STATE", uuid, expected, found ? xen_power_text(d->power) : "halted", NULL);
}

/* ---- telling ---- */

const char *xen_type(const struct xen_domain *d)
{
    static const char *const types[] = {"pv", "pvh", "hvm"};
    g_autofree char *type = xen_read("/libxl/%d/type", d->domid);
    for (gsize i = 0; i < G_N_ELEMENTS(types); i++)
        if (g_strcmp0(type, types[i]) == 0)
            return types[i];
    return (d->info.flags & XEN_DOMINF_hvm_guest) != 0 ? "hvm" : "pv";
}

gint64 xen_start_time(const struct xen_domain *d)
{
    if (d->domid == 0) {
        g_autofree char *uptime = NULL;
        if (!g_file_get_contents("/proc/uptime", &uptime, NULL, NULL))
            return 0;
        return g_get_real_time() / G_USEC_PER_SEC - (gint64) g_ascii_strtod(uptime, NULL);
    }
    return xen_read_int(0, "/vm/%s/start_time", d->uuid);
}

static char *name_of(const struct xen_domain *d)
{
    char *name = xen_read("/local/domain/%d/xenapid/name", d->domid);
    if (name == NULL)
        name = xen_read("/local/domain/%d/name", d->domid);
    if (name == NULL && d->domid == 0)
        name = g_strdup("Domain-0");
    return name;
}

/* The names of the virtual disks that are there: those whose backend has not gone. */
static GHashTable *disks_present(int domid)
{
    GHashTable *present = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_auto(GStrv) ids = xen_list("/libxl/%d/device/vbd", domid);
    for (guint i = 0; ids[i] != NULL; i++) {
        g_autofree char *backend = xen_read("/libxl/%d/device/vbd/%s/backend", domid, ids[i]);
        char *device = backend != NULL ? xen_read("%s/dev", backend) : NULL;
        if (device != NULL)
            g_hash_table_add(present, device);
    }
    return present;
}

static struct value *attached_disks(int domid)
{
    g_autoptr(GHashTable) present = disks_present(domid);
    g_auto(GStrv) uuids = xen_list("/local/domain/%d/xenapid/vbd", domid);
    struct value_builder b;
    value_builder_set(&b, NULL, 4);
    for (guint i = 0; uuids[i] != NULL; i++) {
        g_autofree char *note = xen_read("/local/domain/%d/xenapid/vbd/%s", domid, uuids[i]);
        gboolean empty = note != NULL && g_str_has_suffix(note, " empty");
        if (note != NULL && (empty || g_hash_table_contains(present, note)))
            value_builder_add_string(&b, uuids[i]);
    }
    return value_builder_end(&b);
}

static struct value *attached_interfaces(int domid)
{
    g_auto(GStrv) uuids = xen_list("/local/domain/%d/xenapid/vif", domid);
    g_auto(GStrv) present = xen_list("/libxl/%d/device/vif", domid);
    struct value_builder b;
    value_builder_set(&b, NULL, 4);
    for (guint i = 0; uuids[i] != NULL; i++) {
        g_autofree char *number = xen_read("/local/domain/%d/xenapid/vif/%s", domid, uuids[i]);
        if (number != NULL && g_strv_contains((const char *const *) present, number))
            value_builder_add_string(&b, uuids[i]);
    }
    return value_builder_end(&b);
}

static struct value *consoles(int domid, gboolean hvm)
{
    g_autofree char *tty = xen_read("/local/domain/%d/%s", domid, hvm ? "serial/0/tty" : "console/tty");
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put(&b, "vnc_port", value_int(NULL, xen_read_int(0, "/local/domain/%d/console/vnc-port", domid)));
    value_builder_put_string(&b, "tty", tty != NULL ? tty : "");
    return value_builder_end(&b);
}

static void put_measured(struct value_builder *b, const struct xen_domain *d)
{
    value_builder_put(b, "memory_actual", value_int(NULL, (gint64) d->info.tot_pages * PAGE_BYTES));
    value_builder_put(b, "cpu_time", value_float(NULL, (double) d->info.cpu_time / 1e9));
    value_builder_put(b, "start_time", value_int(NULL, xen_start_time(d)));
}

struct value *xen_state(const struct xen_domain *d, gboolean all)
{
    struct value_builder b;
    char pool[UUID_TEXT_SIZE];
    g_autofree char *name = name_of(d);
    const char *type = xen_type(d);
    gint64 target = xen_read_int(-1, "/local/domain/%d/memory/target", d->domid);
    xen_pool_uuid(d->info.cpupool, pool);
    value_builder_map(&b, NULL, 16);
    value_builder_put(&b, "domid", value_int(NULL, d->domid));
    value_builder_put_string(&b, "uuid", d->uuid);
    value_builder_put_string(&b, "name", name != NULL ? name : "");
    value_builder_put_string(&b, "power", xen_power_text(d->power));
    value_builder_put_string(&b, "shutdown_reason", d->reason);
    value_builder_put(&b, "memory_target",
                      value_int(NULL, target >= 0 ? target * KIB : (gint64) d->info.tot_pages * PAGE_BYTES));
    value_builder_put(&b, "vcpus", value_int(NULL, d->info.nr_online_vcpus));
    value_builder_put_string(&b, "type", type);
    value_builder_put(&b, "ours", value_bool(d->domid == 0 || xen_is_ours(d->domid)));
    value_builder_put(&b, "vbds", attached_disks(d->domid));
    value_builder_put(&b, "vifs", attached_interfaces(d->domid));
    value_builder_put(&b, "console", consoles(d->domid, strcmp(type, "hvm") == 0));
    value_builder_put_string(&b, "cpu_pool", pool);
    value_builder_put(&b, "suspending", value_bool(is_suspending(d->domid)));
    if (all)
        put_measured(&b, d);
    return value_builder_end(&b);
}

struct value *xen_domain_list(struct helper_request *req G_GNUC_UNUSED, struct fault *f)
{
    struct value_builder set, b;
    g_autoptr(GArray) all = xen_domains();
    if (all == NULL) {
        fault_set(f, "INTERNAL_ERROR", "the hypervisor does not list its domains", NULL);
        return NULL;
    }
    value_builder_set(&set, NULL, all->len);
    for (guint i = 0; i < all->len; i++) {
        const struct xen_domain *d = &g_array_index(all, struct xen_domain, i);
        if (d->power != XEN_DYING && !xen_is_building(d->domid))
            value_builder_add(&set, xen_state(d, TRUE));
    }
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "domains", value_builder_end(&set));
    return value_builder_end(&b);
}
