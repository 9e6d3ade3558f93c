/* sim_guest.c - what simulated guests do by themselves: report metrics, balloon, use the CPU, stop; and the clock that
 * makes them do it. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <string.h>

#include "daemon/codec/jsonrpc.h"

#define USAGE_PERIOD  (5 * G_TIME_SPAN_SECOND)
#define USAGE_BATCH   1000 /* domains in one notification: a line has its limit */
#define BALLOON_STEP  (50 * G_TIME_SPAN_MILLISECOND)
#define BALLOON_SPEED 512  /* MiB a second */
#define BOOT_METRICS  1000 /* ms after its start that a guest reports its metrics */

/* ---- guest metrics ---- */

struct value *sim_strings(const char *const *pairs)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 8);
    for (; pairs[0] != NULL; pairs += 2)
        value_builder_put_string(&b, pairs[0], pairs[1]);
    return value_builder_end(&b);
}

/* "0/ip" and so on for each interface; the address follows from domain and device, so that it can be foretold. */
static struct value *networks(const struct sim_domain *d)
{
    struct value_builder b;
    value_builder_map(&b, NULL, value_count(d->vifs) * 3);
    for (gsize i = 0; i < value_count(d->vifs); i++) {
        const char *device = value_get_str(d->vifs->u.map.m[i].value, "device", "0");
        int n = (int) (g_ascii_strtoll(device, NULL, 10) & 0x7f);
        int low = d->domid & 0xff, high = d->domid >> 8 & 0xff;
        g_autofree char *ip = g_strdup_printf("10.%d.%d.%d", n, high, low);
        g_autofree char *ip6 = g_strdup_printf("fd00:%x::%x:%x", n, high, low);
        g_autofree char *key = g_strdup_printf("%s/ip", device);
        g_autofree char *key4 = g_strdup_printf("%s/ipv4/0", device);
        g_autofree char *key6 = g_strdup_printf("%s/ipv6/0", device);
        if (value_builder_has(&b, key))
            continue;
        value_builder_put_string(&b, key, ip);
        value_builder_put_string(&b, key4, ip);
        value_builder_put_string(&b, key6, ip6);
    }
    return value_builder_end(&b);
}

static struct value *guest_memory(const struct sim_domain *d)
{
    g_autofree char *total = g_strdup_printf("%" G_GINT64_FORMAT, d->memory_actual / 1024);
    g_autofree char *unused = g_strdup_printf("%" G_GINT64_FORMAT, d->memory_actual / 1024 / 2);
    const char *const pairs[] = {"total", total, "free", unused, NULL};
    return sim_strings(pairs);
}

static struct value *standard_metrics(struct sim_domain *d)
{
    static const char *const os[] = {"name",   "Debian GNU/Linux 12 (simulated)",
                                     "distro", "debian",
                                     "major",  "12",
                                     "minor",  "0",
                                     "uname",  "6.1.0-simulated",
                                     NULL};
    static const char *const drivers[] = {"major", "7", "minor", "30", "micro", "0", "build", "1", NULL};
    static const char *const other[] = {"feature-balloon",
                                        "1",
                                        "feature-shutdown",
                                        "1",
                                        "feature-suspend",
                                        "1",
                                        "feature-vcpu-hotplug",
                                        "1",
                                        "platform-feature-multiprocessor-suspend",
                                        "1",
                                        NULL};
    struct value_builder b;
    value_builder_map(&b, NULL, 8);
    value_builder_put_string(&b, "uuid", d->uuid);
    value_builder_put(&b, "os_version", sim_strings(os));
    value_builder_put(&b, "PV_drivers_version", sim_strings(drivers));
    value_builder_put(&b, "memory", guest_memory(d));
    value_builder_put(&b, "disks", sim_disk_sizes(d));
    value_builder_put(&b, "networks", networks(d));
    value_builder_put(&b, "other", sim_strings(other));
    return value_builder_end(&b);
}

/* With what sim.guest said instead. */
static void tell_guest(struct sim_domain *d)
{
    struct value *v = standard_metrics(d);
    for (gsize i = 0; i < value_count(d->guest); i++) {
        const struct value_member *m = &d->guest->u.map.m[i];
        struct value *with = value_map_with(v, value_str(m->key), value_ref(m->value));
        value_unref(v);
        v = with;
    }
    d->told_guest = TRUE;
    sim_notify("domain.guest", v);
}

void sim_guest_tell_again(void)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, sim.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        ((struct sim_domain *) value)->told_guest = FALSE;
    g_cond_signal(&sim.wake);
}

/* ---- the clock: what is due ---- */

/* Runs what is due at now and answers when the next is, both real time; G_MAXINT64 for never. */
typedef gint64 step_fn(struct sim_domain *d, gint64 now);

/* A number of the option, in thousandths when it may be fractional; -1 when it is not set. */
static gint64 option_ms(const struct sim_domain *d, const char *key, double unit)
{
    const char *text = sim_option(d, key, NULL);
    return text != NULL && *text != '\0' ? (gint64) (g_ascii_strtod(text, NULL) * unit) : -1;
}

static gint64 step_metrics(struct sim_domain *d, gint64 now)
{
    gint64 ms = option_ms(d, "sim:boot-metrics-ms", 1);
    gint64 due = d->start_time + (ms >= 0 ? ms : BOOT_METRICS) * G_TIME_SPAN_MILLISECOND;
    if (d->told_guest || strcmp(sim_option(d, "sim:metrics", ""), "none") == 0)
        return G_MAXINT64;
    if (now < due)
        return due;
    tell_guest(d);
    return G_MAXINT64;
}

static gint64 step_memory(struct sim_domain *d, gint64 now)
{
    if (d->memory_actual == d->memory_target || strcmp(sim_option(d, "sim:balloon", ""), "ignore") == 0)
        return G_MAXINT64;
    gint64 speed = option_ms(d, "sim:balloon-mib-per-s", 1);
    gint64 monotonic = g_get_monotonic_time(), passed = monotonic - d->moved;
    if (passed < BALLOON_STEP)
        return now + BALLOON_STEP - passed;
    double mib = (double) (speed > 0 ? speed : BALLOON_SPEED) * (double) passed / G_USEC_PER_SEC;
    gint64 step = (gint64) (MIN(mib, 1e9) * (double) MIB), left = d->memory_target - d->memory_actual;
    d->moved = monotonic;
    d->memory_actual += CLAMP(left, -step, step);
    if (d->memory_actual != d->memory_target)
        return now + BALLOON_STEP;
    sim_changed(d);
    sim_host_changed();
    return G_MAXINT64;
}

static gint64 step_ending(struct sim_domain *d, gint64 now)
{
    static const struct {
        const char *option, *reason;
        enum sim_power power;
    } endings[] = {
        {"sim:poweroff-after", "poweroff", SIM_SHUTDOWN},
        {"sim:reboot-after", "reboot", SIM_SHUTDOWN},
        {"sim:crash-after", "crash", SIM_CRASHED},
    };
    gint64 next = G_MAXINT64;
    for (gsize i = 0; i < G_N_ELEMENTS(endings) && d->power == SIM_RUNNING; i++) {
        gint64 ms = option_ms(d, endings[i].option, 1000);
        gint64 due = d->start_time + ms * G_TIME_SPAN_MILLISECOND;
        if (ms >= 0 && now >= due)
            sim_stop(d, endings[i].power, endings[i].reason);
        else if (ms >= 0)
            next = MIN(next, due);
    }
    return next;
}

static gint64 run_due(gint64 now)
{
    static step_fn *const steps[] = {step_metrics, step_memory, step_ending};
    gint64 next = G_MAXINT64;
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, sim.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct sim_domain *d = value;
        for (gsize i = 0; i < G_N_ELEMENTS(steps) && d->power == SIM_RUNNING; i++)
            next = MIN(next, steps[i](d, now));
    }
    return next;
}

/* ---- usage ---- */

static struct value *usage(struct sim_domain *d)
{
    struct value_builder b, cpus;
    value_builder_set(&cpus, NULL, (gsize) d->vcpus);
    for (int i = 0; i < d->vcpus; i++)
        value_builder_add(&cpus, value_float(NULL, d->power == SIM_RUNNING ? d->load : 0));
    value_builder_map(&b, NULL, 4);
    value_builder_put_string(&b, "uuid", d->uuid);
    value_builder_put(&b, "memory_actual", value_int(NULL, d->memory_actual));
    value_builder_put(&b, "cpu", value_builder_end(&cpus));
    value_builder_put(&b, "vbds", sim_disk_usage(d));
    return value_builder_end(&b);
}

static void drift(struct sim_domain *d, gint64 now)
{
    sim_account_cpu(d, now);
    d->load = CLAMP(d->load + g_random_double_range(-0.1, 0.1), 0.01, 0.99);
}

static void send_usage(struct value_builder *set)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "domains", value_builder_end(set));
    sim_notify("domain.usage", value_builder_end(&b));
}

static void tell_usage(gint64 now)
{
    struct value_builder set;
    GHashTableIter iter;
    void *value;
    value_builder_set(&set, NULL, USAGE_BATCH);
    drift(sim.dom0, now);
    value_builder_add(&set, usage(sim.dom0));
    g_hash_table_iter_init(&iter, sim.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct sim_domain *d = value;
        if ((1u << d->power & SIM_ALIVE) == 0)
            continue;
        drift(d, now);
        value_builder_add(&set, usage(d));
        if (set.n == USAGE_BATCH) {
            send_usage(&set);
            value_builder_set(&set, NULL, USAGE_BATCH);
        }
    }
    send_usage(&set);
    sim_host_changed();
}

/* ---- the clock: its thread ---- */

static GThread *clock_runs;
static gboolean clock_stopping; /* under sim.lock */

static void *clock_thread(void *data G_GNUC_UNUSED)
{
    gint64 usage_due = g_get_real_time() + USAGE_PERIOD;
    g_mutex_lock(&sim.lock);
    while (!clock_stopping) {
        gint64 now = g_get_real_time();
        if (now >= usage_due) {
            if (sim.conf->sim_metrics)
                tell_usage(now);
            usage_due = now + USAGE_PERIOD;
        }
        gint64 next = MIN(run_due(now), usage_due);
        g_mutex_unlock(&sim.lock);
        sim_flush();
        g_mutex_lock(&sim.lock);
        gint64 wait = CLAMP(next - g_get_real_time(), G_TIME_SPAN_MILLISECOND, USAGE_PERIOD);
        g_cond_wait_until(&sim.wake, &sim.lock, g_get_monotonic_time() + wait);
    }
    g_mutex_unlock(&sim.lock);
    return NULL;
}

void sim_clock_start(void)
{
    clock_runs = g_thread_new("clock", clock_thread, NULL);
}

void sim_clock_stop(void)
{
    if (!clock_runs)
        return;
    g_mutex_lock(&sim.lock);
    clock_stopping = TRUE;
    g_cond_broadcast(&sim.wake);
    g_mutex_unlock(&sim.lock);
    g_thread_join(g_steal_pointer(&clock_runs));
}

/* ---- sim.guest ---- */

static void set_option(struct sim_domain *d, const char *key, const char *text)
{
    struct value *options = value_get(d->config, "other_config");
    struct value *with = value_map_with(options != NULL ? options : value_empty_map(), key, value_string(NULL, text));
    struct value *config = value_map_with(d->config, "other_config", with);
    value_unref(d->config);
    d->config = config;
    sim_changed(d);
}

/* A map, also as its JSON text. NULL when it is neither. */
static struct value *as_map(struct value *v)
{
    if (v != NULL && v->type == VALUE_STRING) {
        struct value *parsed = json_parse(NULL, value_str(v), strlen(value_str(v)), NULL, NULL);
        if (parsed == NULL || parsed->type == VALUE_MAP)
            return parsed;
        value_unref(parsed);
        return NULL;
    }
    return v != NULL && v->type == VALUE_MAP ? value_ref(v) : NULL;
}

static void set_metrics(struct sim_domain *d, struct value *params)
{
    static const char *const keys[] = {"os_version", "PV_drivers_version", "memory", "disks", "networks", "other"};
    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autoptr(value) v = as_map(value_get(params, keys[i]));
        if (v == NULL)
            continue;
        struct value *with = value_map_with(d->guest != NULL ? d->guest : value_empty_map(), keys[i], value_ref(v));
        value_unref(d->guest);
        d->guest = with;
    }
    sim_state_save(d);
    tell_guest(d);
}

/* A domain that another toolstack made. */
static struct value *appear(struct value *params, struct fault *f)
{
    const char *uuid = value_get_str(params, "uuid", "");
    if (*uuid == '\0' || g_hash_table_contains(sim.domains, uuid)) {
        fault_set(f, *uuid == '\0' ? "INVALID_VALUE" : "DOMAIN_EXISTS", *uuid == '\0' ? "uuid" : uuid, "", NULL);
        return NULL;
    }
    struct value_builder b;
    value_builder_map(&b, NULL, 8);
    value_builder_put_string(&b, "uuid", uuid);
    value_builder_put_string(&b, "name", value_get_str(params, "name", "foreign"));
    value_builder_put_string(&b, "type", value_get_str(params, "type", "pv"));
    value_builder_put(&b, "memory_target", value_int(NULL, sim_int(params, "memory", 128 * MIB)));
    value_builder_put(&b, "vcpus", value_int(NULL, sim_int(params, "vcpus", 1)));
    g_autoptr(value) config = value_builder_end(&b);
    g_autoptr(sim_domain) d = sim_domain_new(config);
    d->ours = FALSE;
    g_hash_table_replace(sim.domains, d->uuid, sim_domain_ref(d));
    sim_alive(d, FALSE);
    return sim_domain_state(d);
}

struct value *sim_guest(struct sim_op *op, struct fault *f)
{
    const char *what = value_get_str(op->params, "do", "");
    if (strcmp(what, "appear") == 0)
        return appear(op->params, f);
    g_autoptr(sim_domain) d = sim_find(op, SIM_ANY, f);
    if (d == NULL)
        return NULL;
    if (strcmp(what, "poweroff") == 0 || strcmp(what, "reboot") == 0 || strcmp(what, "crash") == 0 ||
        strcmp(what, "suspend") == 0) {
        g_autoptr(sim_domain) runs = sim_find(op, 1u << SIM_RUNNING, f);
        if (runs == NULL)
            return NULL;
        if (*what == 'c')
            sim_stop(d, SIM_CRASHED, "crash");
        else
            sim_stop(d, SIM_SHUTDOWN, *what == 'r' ? "reboot" : *what == 's' ? "suspend" : "poweroff");
    } else if (strcmp(what, "ignore_shutdown") == 0) {
        set_option(d, "sim:shutdown", "ignore");
    } else if (strcmp(what, "obey_shutdown") == 0) {
        set_option(d, "sim:shutdown", "obey");
    } else if (strcmp(what, "option") == 0) {
        set_option(d, value_get_str(op->params, "key", ""), value_get_str(op->params, "value", ""));
    } else if (strcmp(what, "metrics") == 0) {
        set_metrics(d, op->params);
    } else if (strcmp(what, "read") == 0 || strcmp(what, "write") == 0) {
        g_autoptr(sim_domain) alive = sim_find(op, SIM_ALIVE, f);
        return alive != NULL ? sim_disk_io(op, alive, f) : NULL;
    } else if (strcmp(what, "vanish") == 0) {
        sim_remove(d, "destroyed");
    } else {
        fault_set(f, "INVALID_VALUE", "do", what, NULL);
        return NULL;
    }
    return value_empty_map();
}
