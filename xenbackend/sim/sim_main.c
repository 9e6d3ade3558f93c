/* sim_main.c - xenapid-sim: a host with no Xen on it. The table of methods, and how their handlers wait and tell. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#include "xenbackend/storage/storage.h"

#define MAX_THREADS   1024 /* a request that waits for a guest holds one */
#define PROGRESS_TICK (100 * G_TIME_SPAN_MILLISECOND)

struct sim sim = {.next_domid = 1};

static const struct {
    const char *name;
    sim_fn *fn;
} methods[] = {
    {"host.info", sim_host_info},
    {"host.metrics", sim_host_metrics},
    {"host.dmesg", sim_host_dmesg},
    {"host.debug_keys", sim_host_debug_keys},
    {"host.reboot", sim_host_reboot},
    {"host.shutdown", sim_host_shutdown},
    {"host.set_hostname", sim_host_set_hostname},
    {"host.set_iscsi_iqn", sim_host_set_iscsi_iqn},
    {"host.set_syslog", sim_host_set_syslog},
    {"domain.list", sim_list},
    {"domain.start", sim_start},
    {"domain.pause", sim_pause},
    {"domain.unpause", sim_unpause},
    {"domain.shutdown", sim_shutdown},
    {"domain.destroy", sim_destroy},
    {"domain.reboot", sim_reboot},
    {"domain.suspend", sim_suspend},
    {"domain.resume", sim_resume},
    {"domain.set_memory_target", sim_set_memory_target},
    {"domain.set_vcpus", sim_set_vcpus},
    {"domain.set_scheduler", sim_set_scheduler},
    {"domain.sysrq", sim_sysrq},
    {"domain.trigger", sim_trigger},
    {"domain.metrics", sim_domain_metrics},
    {"domain.vbd_plug", sim_vbd_plug},
    {"domain.vbd_unplug", sim_vbd_unplug},
    {"domain.vbd_insert", sim_vbd_insert},
    {"domain.vbd_eject", sim_vbd_eject},
    {"domain.vbd_update", sim_vbd_update},
    {"domain.vbd_mirror", sim_vbd_mirror},
    {"domain.vbd_pivot", sim_vbd_pivot},
    {"domain.vbd_resized", sim_vbd_resized},
    {"domain.vif_plug", sim_vif_plug},
    {"domain.vif_unplug", sim_vif_unplug},
    {"domain.vif_update", sim_vif_update},
    {"domain.core_dump", sim_core_dump},
    {"domain.set_pool", sim_set_pool},
    {"pool.list", sim_pool_list},
    {"pool.create", sim_pool_create},
    {"pool.destroy", sim_pool_destroy},
    {"pool.add_cpu", sim_pool_add_cpu},
    {"pool.remove_cpu", sim_pool_remove_cpu},
    {"console.open", sim_console_open},
    {"sim.fault", sim_fault},
    {"sim.guest", sim_guest},
    {"sim.populate", sim_populate},
    {"sim.power_on", sim_power_on},
    {"sim.state", sim_tell},
};

/* ---- notifications ---- */

struct note {
    char *method;
    struct value *params;
};

static GQueue notes = G_QUEUE_INIT; /* under sim.lock */
static GMutex sending;              /* held while sending, so that the order stays */

void sim_notify(const char *method, struct value *params)
{
    struct note *n = g_new(struct note, 1);
    n->method = g_strdup(method);
    n->params = params;
    g_queue_push_tail(&notes, n);
}

void sim_flush(void)
{
    g_mutex_lock(&sending);
    for (;;) {
        g_mutex_lock(&sim.lock);
        struct note *n = g_queue_pop_head(&notes);
        g_mutex_unlock(&sim.lock);
        if (n == NULL)
            break;
        helper_notify(n->method, n->params, NULL, 0);
        value_unref(n->params);
        g_free(n->method);
        g_free(n);
    }
    g_mutex_unlock(&sending);
}

/* ---- waiting ---- */

/* helper.h calls this under its own lock, which is never taken with ours held. */
static void on_cancel(void *data)
{
    struct sim_op *op = data;
    g_mutex_lock(&sim.lock);
    if (op->waits_for != NULL)
        g_cond_broadcast(&op->waits_for->changed);
    g_mutex_unlock(&sim.lock);
}

enum sim_end sim_wait(struct sim_op *op, struct sim_domain *d, gint64 until, gboolean (*stop)(struct sim_domain *d))
{
    gboolean in_time = TRUE;
    op->waits_for = d;
    while (in_time && !helper_cancelled(op->req) && !d->gone && (stop == NULL || !stop(d))) {
        if (until == G_MAXINT64)
            g_cond_wait(&d->changed, &sim.lock);
        else
            in_time = g_cond_wait_until(&d->changed, &sim.lock, until);
    }
    op->waits_for = NULL;
    if (d->gone)
        return SIM_GONE;
    if (stop != NULL && stop(d))
        return SIM_DONE;
    return helper_cancelled(op->req) ? SIM_CANCELLED : SIM_DONE;
}

static gint64 with_jitter(int ms)
{
    gint64 us = (gint64) ms * G_TIME_SPAN_MILLISECOND;
    int jitter = sim.conf->sim_jitter;
    return jitter > 0 ? us + us * g_random_int_range(-jitter, jitter + 1) / 100 : us;
}

enum sim_end sim_work(struct sim_op *op, struct sim_domain *d, int ms, double from, double to)
{
    gint64 begin = g_get_monotonic_time(), length = with_jitter(ms);
    enum sim_end end = SIM_DONE;
    for (gint64 now = begin; end == SIM_DONE && now < begin + length;) {
        end = sim_wait(op, d, MIN(begin + length, now + PROGRESS_TICK), NULL);
        now = g_get_monotonic_time();
        if (end != SIM_DONE)
            break;
        double done = MIN((double) (now - begin) / (double) length, 1.0);
        g_mutex_unlock(&sim.lock);
        helper_progress(op->req, from + (to - from) * done);
        g_mutex_lock(&sim.lock);
    }
    if (end == SIM_DONE && d->gone)
        end = SIM_GONE;
    return end == SIM_DONE && helper_cancelled(op->req) ? SIM_CANCELLED : end;
}

gint64 sim_int(struct value *map, const char *key, gint64 otherwise)
{
    struct value *v = value_get(map, key);
    if (v == NULL)
        return otherwise;
    return v->type == VALUE_STRING ? g_ascii_strtoll(value_str(v), NULL, 10) : value_as_int(v);
}

/* ---- requests ---- */

static sim_fn *find(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(methods); i++)
        if (strcmp(methods[i].name, name) == 0)
            return methods[i].fn;
    return NULL;
}

static struct value *run_sim(struct helper_request *req, struct fault *f)
{
    struct sim_op op = {.req = req, .params = req->params};
    helper_on_cancel(req, on_cancel, &op);
    g_mutex_lock(&sim.lock);
    sim.calls++;
    struct value *result = find(req->method)(&op, f);
    g_mutex_unlock(&sim.lock);
    helper_off_cancel(req);
    sim_flush();
    return result;
}

static struct value *run_storage(struct helper_request *req, struct fault *f)
{
    for (const struct helper_method *m = storage_methods; m->name != NULL; m++)
        if (strcmp(m->name, req->method) == 0)
            return m->fn(req, f);
    return NULL;
}

/* Every method comes through here, so that any of them can be made to fail. */
static struct value *handle(struct helper_request *req, struct fault *f)
{
    if (!sim_fault_before(req, f) || !sim_is_on(req->method, f))
        return NULL;
    g_autoptr(value) result = find(req->method) != NULL ? run_sim(req, f) : run_storage(req, f);
    if (f->code == NULL && !sim_fault_after(req, f))
        return NULL;
    return g_steal_pointer(&result);
}

/* ---- the process ---- */

static void connected(void *data G_GNUC_UNUSED)
{
    g_mutex_lock(&sim.lock);
    sim_guest_tell_again();
    g_mutex_unlock(&sim.lock);
}

static void reload(const struct conf *c, void *data G_GNUC_UNUSED)
{
    g_mutex_lock(&sim.lock);
    sim.conf = c;
    g_mutex_unlock(&sim.lock);
}

static void stop(void *data G_GNUC_UNUSED)
{
    sim_clock_stop();
}

static gboolean prepare(const struct conf *c, void *data G_GNUC_UNUSED)
{
    sim.conf = c;
    storage_init(c);
    storage_writers_keep_still = TRUE; /* no process of ours holds images open between two requests */
    storage_changes_live = TRUE;
    storage_io_priority = sim_disk_priority;
    sim.domains = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) sim_domain_unref);
    g_mutex_lock(&sim.lock);
    gboolean opened = sim_state_open(c->runtime_dir);
    if (opened)
        sim_host_init();
    g_mutex_unlock(&sim.lock);
    if (opened)
        sim_clock_start();
    return opened;
}

int main(int argc, char **argv)
{
    GArray *table = g_array_new(TRUE, TRUE, sizeof(struct helper_method));
    for (gsize i = 0; i < G_N_ELEMENTS(methods); i++) {
        struct helper_method m = {methods[i].name, handle};
        g_array_append_val(table, m);
    }
    for (const struct helper_method *s = storage_methods; s->name != NULL; s++) {
        struct helper_method m = {s->name, handle};
        g_array_append_val(table, m);
    }
    struct helper_options o = {.program = "xenapid-sim",
                               .methods = (const struct helper_method *) (void *) table->data,
                               .max_threads = MAX_THREADS,
                               .connected = connected,
                               .reload = reload,
                               .stop = stop};
    int status = helper_main(argc, argv, &o, prepare);
    g_array_free(table, TRUE);
    return status;
}
