/* sim_tune.c - what is set on a simulated domain that runs: memory, vCPUs, scheduler, keys; and its metrics. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <string.h>

#define TARGET_TIMEOUT 256 /* seconds that a guest has to reach its memory target */

/* ---- memory ---- */

static gboolean target_reached(struct sim_domain *d)
{
    return d->memory_actual == d->memory_target || (1u << d->power & SIM_ALIVE) == 0;
}

static gboolean check_target(const struct sim_domain *d, gint64 target, struct fault *f)
{
    gint64 maximum = sim_int(d->config, "memory_static_max", 0);
    gint64 more = MAX(target, d->memory_actual) - sim_memory_reserved(d), available = sim_memory_free();
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, target);
    if (target <= 0 || (maximum > 0 && target > maximum))
        return fault_set(f, "INVALID_VALUE", "target", text, NULL);
    if (more <= available)
        return TRUE;
    g_autofree char *needed = g_strdup_printf("%" G_GINT64_FORMAT, more);
    g_autofree char *there = g_strdup_printf("%" G_GINT64_FORMAT, available);
    return fault_set(f, "HOST_NOT_ENOUGH_FREE_MEMORY", needed, there, NULL);
}

struct value *sim_set_memory_target(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    gint64 target = sim_int(op->params, "target", 0);
    if (d == NULL || !check_target(d, target, f))
        return NULL;
    d->memory_target = target;
    d->moved = g_get_monotonic_time();
    sim_changed(d);
    sim_host_changed();
    if (!value_as_bool(value_get(op->params, "wait")))
        return value_empty_map();
    gint64 seconds = sim_int(op->params, "timeout", TARGET_TIMEOUT);
    enum sim_end end = sim_wait(op, d, g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND, target_reached);
    if (end == SIM_CANCELLED)
        fault_set(f, "TASK_CANCELLED", "", NULL);
    else if (end == SIM_GONE)
        fault_set(f, "VM_BAD_POWER_STATE", d->uuid, "running", "halted", NULL);
    else if (!target_reached(d))
        fault_set(f, "VM_MEMORY_TARGET_WAIT_TIMEOUT", d->uuid, NULL);
    return f->code == NULL ? value_empty_map() : NULL;
}

/* ---- CPUs ---- */

struct value *sim_set_vcpus(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    if (d == NULL)
        return NULL;
    gint64 vcpus = sim_int(op->params, "vcpus", 0);
    if (vcpus < 1 || vcpus > sim_int(d->config, "vcpus_max", 1)) {
        g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, vcpus);
        fault_set(f, "INVALID_VALUE", "vcpus", text, NULL);
        return NULL;
    }
    sim_account_cpu(d, g_get_real_time());
    d->vcpus = (int) vcpus;
    sim_changed(d);
    return value_empty_map();
}

/* Each inner set holds numbers of CPUs that are there; TRUE for none at all. */
static gboolean check_affinity(struct value *affinity, struct fault *f)
{
    for (gsize i = 0; i < value_count(affinity); i++) {
        struct value *cpus = value_at(affinity, i);
        for (gsize j = 0; j < value_count(cpus); j++) {
            gint64 cpu = value_as_int(value_at(cpus, j));
            g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, cpu);
            if (cpu < 0 || cpu >= sim.conf->sim_cpus)
                return fault_set(f, "INVALID_VALUE", "affinity", text, NULL);
        }
    }
    return TRUE;
}

static gboolean check_number(const char *key, gint64 n, gint64 low, gint64 high, struct fault *f)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, n);
    return (n >= low && n <= high) || fault_set(f, "INVALID_VALUE", key, text, NULL);
}

struct value *sim_set_scheduler(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    struct value *affinity = value_get(op->params, "affinity");
    if (d == NULL)
        return NULL;
    gint64 weight = sim_int(op->params, "weight", d->weight), cap = sim_int(op->params, "cap", d->cap);
    if (!check_number("weight", weight, 1, 65535, f) || !check_number("cap", cap, 0, (gint64) d->vcpus * 100, f) ||
        !check_affinity(affinity, f))
        return NULL;
    sim_account_cpu(d, g_get_real_time());
    d->weight = weight;
    d->cap = cap;
    if (affinity != NULL && affinity->type == VALUE_SET) {
        value_unref(d->affinity);
        d->affinity = value_ref(affinity);
    }
    sim_changed(d);
    return value_empty_map();
}

/* ---- keys ---- */

/* What Linux does on the magic key, where it ends something. */
struct value *sim_sysrq(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, 1u << SIM_RUNNING, f);
    const char *key = value_get_str(op->params, "key", "");
    if (d == NULL)
        return NULL;
    if (strlen(key) != 1) {
        fault_set(f, "INVALID_VALUE", "key", key, NULL);
        return NULL;
    }
    if (*key == 'c')
        sim_stop(d, SIM_CRASHED, "crash");
    else if (*key == 'b')
        sim_stop(d, SIM_SHUTDOWN, "reboot");
    else if (*key == 'o')
        sim_stop(d, SIM_SHUTDOWN, "poweroff");
    else
        sim_dmesg("Domain %d: SysRq %c", d->domid, *key);
    return value_empty_map();
}

struct value *sim_trigger(struct sim_op *op, struct fault *f)
{
    static const char *const known[] = {"nmi", "reset", "init", "power", "sleep", "s3resume", NULL};
    g_autoptr(sim_domain) d = sim_find(op, 1u << SIM_RUNNING, f);
    const char *trigger = value_get_str(op->params, "trigger", "");
    if (d == NULL)
        return NULL;
    if (!g_strv_contains(known, trigger)) {
        fault_set(f, "INVALID_VALUE", "trigger", trigger, NULL);
        return NULL;
    }
    if (strcmp(trigger, "reset") == 0)
        sim_stop(d, SIM_SHUTDOWN, "reboot");
    else if (strcmp(trigger, "power") == 0)
        sim_stop(d, SIM_SHUTDOWN, "poweroff");
    return value_empty_map();
}

/* ---- metrics ---- */

static struct value *vcpu(const struct sim_domain *d, int i)
{
    struct value_builder b, params, flags;
    gboolean online = i < d->vcpus, runs = online && d->power == SIM_RUNNING;
    value_builder_map(&params, NULL, 2);
    g_autofree char *weight = g_strdup_printf("%" G_GINT64_FORMAT, d->weight);
    g_autofree char *cap = g_strdup_printf("%" G_GINT64_FORMAT, d->cap);
    value_builder_put_string(&params, "weight", weight);
    value_builder_put_string(&params, "cap", cap);
    value_builder_set(&flags, NULL, 2);
    if (online)
        value_builder_add_string(&flags, "online");
    if (runs)
        value_builder_add_string(&flags, "running");
    struct value *pinned = value_at(d->affinity, (gsize) i);
    gint64 cpu = value_count(pinned) > 0 ? value_as_int(value_at(pinned, 0)) : (d->domid + i) % sim.conf->sim_cpus;
    value_builder_map(&b, NULL, 5);
    value_builder_put(&b, "number", value_int(NULL, i));
    value_builder_put(&b, "cpu", value_int(NULL, cpu));
    value_builder_put(&b, "utilisation", value_float(NULL, runs ? d->load : 0));
    value_builder_put(&b, "flags", value_builder_end(&flags));
    value_builder_put(&b, "params", value_builder_end(&params));
    return value_builder_end(&b);
}

struct value *sim_domain_metrics(struct sim_op *op, struct fault *f)
{
    static const char *const states[] = {"", "running", "paused", "shutdown", "crashed"};
    gboolean control = strcmp(value_get_str(op->params, "uuid", ""), sim.dom0->uuid) == 0;
    g_autoptr(sim_domain) d = control ? sim_domain_ref(sim.dom0) : sim_find(op, SIM_ANY, f);
    if (d == NULL)
        return NULL;
    struct value_builder b, vcpus, state;
    gint64 n = MAX(sim_int(d->config, "vcpus_max", d->vcpus), d->vcpus);
    value_builder_set(&vcpus, NULL, (gsize) n);
    for (int i = 0; i < n; i++)
        value_builder_add(&vcpus, vcpu(d, i));
    value_builder_set(&state, NULL, 1);
    value_builder_add_string(&state, states[d->power]);
    value_builder_map(&b, NULL, 8);
    value_builder_put(&b, "memory_actual", value_int(NULL, d->memory_actual));
    value_builder_put(&b, "vcpus", value_builder_end(&vcpus));
    value_builder_put(&b, "state", value_builder_end(&state));
    value_builder_put(&b, "start_time", value_int(NULL, d->start_time / G_USEC_PER_SEC));
    value_builder_put(&b, "hvm", value_bool(strcmp(value_get_str(d->config, "type", "pv"), "hvm") == 0));
    value_builder_put(&b, "nested_virt", value_bool(FALSE));
    value_builder_put(&b, "nomigrate", value_bool(FALSE));
    return value_builder_end(&b);
}
