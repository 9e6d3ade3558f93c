/* xen_usage.c - processor time: what domains and processors did between two measurements. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <string.h>

#define BATCH 500 /* domains in one notification: a line has its limit */

struct usage {
    char uuid[UUID_TEXT_SIZE];
    GArray *time;  /* nanoseconds of each virtual processor */
    GArray *share; /* double, of the last period */
    gint64 when;
    guint round;
};

static GMutex lock;         /* of all below */
static GHashTable *domains; /* domid -> struct usage */
static GArray *cpu_idle;    /* nanoseconds of each processor */
static GArray *cpu_share;   /* double */
static gint64 cpu_when;
static guint rounds;

static void usage_free(void *data)
{
    struct usage *u = data;
    g_array_unref(u->time);
    g_array_unref(u->share);
    g_free(u);
}

static struct usage *usage_of(const struct xen_domain *d)
{
    struct usage *u = g_hash_table_lookup(domains, GINT_TO_POINTER(d->domid));
    if (u != NULL && strcmp(u->uuid, d->uuid) == 0)
        return u;
    u = g_new0(struct usage, 1);
    g_strlcpy(u->uuid, d->uuid, sizeof u->uuid);
    u->time = g_array_new(FALSE, TRUE, sizeof(guint64));
    u->share = g_array_new(FALSE, TRUE, sizeof(double));
    g_hash_table_replace(domains, GINT_TO_POINTER(d->domid), u);
    return u;
}

static double fraction(guint64 before, guint64 now, gint64 passed_us)
{
    if (before == 0 || now < before || passed_us <= 0)
        return 0;
    return MIN((double) (now - before) / 1000.0 / (double) passed_us, 1.0);
}

static void measure_domain(const struct xen_domain *d, gint64 now)
{
    struct usage *u = usage_of(d);
    guint n = d->info.max_vcpu_id == XEN_INVALID_MAX_VCPU_ID ? 0 : d->info.max_vcpu_id + 1;
    g_array_set_size(u->time, n);
    g_array_set_size(u->share, n);
    for (guint i = 0; i < n; i++) {
        xc_vcpuinfo_t info;
        guint64 *time = &g_array_index(u->time, guint64, i);
        if (xc_vcpu_getinfo(xen.xc, (guint32) d->domid, i, &info) != 0)
            continue;
        g_array_index(u->share, double, i) = fraction(*time, info.cpu_time, now - u->when);
        *time = info.cpu_time;
    }
    u->when = now;
    u->round = rounds;
}

static void measure_cpus(gint64 now)
{
    enum { CPUS_MAX = 4096 };
    g_autofree xc_cpuinfo_t *info = g_new0(xc_cpuinfo_t, CPUS_MAX);
    int n = 0;
    if (xc_getcpuinfo(xen.xc, CPUS_MAX, info, &n) != 0)
        return;
    g_array_set_size(cpu_idle, (guint) n);
    g_array_set_size(cpu_share, (guint) n);
    for (int i = 0; i < n; i++) {
        guint64 *idle = &g_array_index(cpu_idle, guint64, i);
        g_array_index(cpu_share, double, i) = *idle > 0 ? 1.0 - fraction(*idle, info[i].idletime, now - cpu_when) : 0.0;
        *idle = info[i].idletime;
    }
    cpu_when = now;
}

static struct value *shares(const GArray *share)
{
    struct value_builder b;
    value_builder_set(&b, NULL, share->len);
    for (guint i = 0; i < share->len; i++)
        value_builder_add(&b, value_float(NULL, g_array_index(share, double, i)));
    return value_builder_end(&b);
}

static struct value *tell_one(const struct xen_domain *d)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 4);
    value_builder_put_string(&b, "uuid", d->uuid);
    value_builder_put(&b, "memory_actual", value_int(NULL, (gint64) d->info.tot_pages * PAGE_BYTES));
    value_builder_put(&b, "cpu", shares(usage_of(d)->share));
    value_builder_put(&b, "vbds", xen_disk_usage(d->domid));
    return value_builder_end(&b);
}

static gboolean is_old(gpointer key G_GNUC_UNUSED, gpointer value, gpointer data G_GNUC_UNUSED)
{
    return ((struct usage *) value)->round != rounds;
}

static void send_batch(struct value_builder *set)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "domains", value_builder_end(set));
    g_autoptr(value) params = value_builder_end(&b);
    helper_notify("domain.usage", params, NULL, 0);
}

static void begin(void)
{
    if (domains != NULL)
        return;
    domains = g_hash_table_new_full(NULL, NULL, NULL, usage_free);
    cpu_idle = g_array_new(FALSE, TRUE, sizeof(guint64));
    cpu_share = g_array_new(FALSE, TRUE, sizeof(double));
}

void xen_usage_tell(void)
{
    struct value_builder set;
    g_autoptr(GArray) all = xen_domains();
    if (all == NULL)
        return;
    xen_disk_usage_measure();
    g_mutex_lock(&lock);
    begin();
    rounds++;
    gint64 now = g_get_monotonic_time();
    measure_cpus(now);
    value_builder_set(&set, NULL, MIN(all->len, BATCH));
    for (guint i = 0; i < all->len; i++) {
        const struct xen_domain *d = &g_array_index(all, struct xen_domain, i);
        measure_domain(d, now);
        value_builder_add(&set, tell_one(d));
        if (set.n == BATCH && i + 1 < all->len) {
            send_batch(&set);
            value_builder_set(&set, NULL, BATCH);
        }
    }
    g_hash_table_foreach_remove(domains, is_old, NULL);
    g_mutex_unlock(&lock);
    send_batch(&set);
    g_autoptr(value) host = xen_usage_host();
    helper_notify("host.changed", host, NULL, 0);
}

double xen_usage_vcpu(int domid, guint vcpu)
{
    g_mutex_lock(&lock);
    begin();
    struct usage *u = g_hash_table_lookup(domains, GINT_TO_POINTER(domid));
    double share = u != NULL && vcpu < u->share->len ? g_array_index(u->share, double, vcpu) : 0;
    g_mutex_unlock(&lock);
    return share;
}

struct value *xen_usage_host(void)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 4);
    value_builder_put(&b, "memory_total", value_int(NULL, xen_memory_total()));
    value_builder_put(&b, "memory_free", value_int(NULL, xen_memory_free()));
    g_mutex_lock(&lock);
    begin();
    value_builder_put(&b, "cpu_utilisation", shares(cpu_share));
    g_mutex_unlock(&lock);
    value_builder_put(&b, "live", value_bool(TRUE));
    return value_builder_end(&b);
}
