/* sim_domain.c - the simulated domains: the table, how they begin and end, what is told of them. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <string.h>

/* ---- one domain ---- */

struct sim_domain *sim_domain_ref(struct sim_domain *d)
{
    d->refs++;
    return d;
}

void sim_domain_unref(struct sim_domain *d)
{
    if (d == NULL || --d->refs > 0)
        return;
    value_unref(d->config);
    value_unref(d->vbds);
    value_unref(d->vifs);
    value_unref(d->guest);
    value_unref(d->affinity);
    g_clear_pointer(&d->io, g_hash_table_unref);
    g_cond_clear(&d->changed);
    g_free(d->uuid);
    g_free(d);
}

/* The list of devices of a description as a map; empty drives are attached, too. */
static struct value *devices(struct value *list)
{
    struct value_builder b;
    value_builder_map(&b, NULL, value_count(list));
    for (gsize i = 0; i < value_count(list); i++) {
        struct value *device = value_at(list, i);
        const char *uuid = value_get_str(device, "uuid", "");
        if (*uuid != '\0' && !value_builder_has(&b, uuid))
            value_builder_put(&b, uuid, value_ref(device));
    }
    return value_builder_end(&b);
}

struct sim_domain *sim_domain_new(struct value *config)
{
    struct sim_domain *d = g_new0(struct sim_domain, 1);
    d->refs = 1;
    g_cond_init(&d->changed);
    d->config = value_ref(config);
    d->uuid = g_strdup(value_get_str(config, "uuid", ""));
    d->power = SIM_STARTING;
    d->ours = TRUE;
    d->reason = "";
    d->memory_target = sim_int(config, "memory_target", sim_int(config, "memory_static_max", 0));
    d->memory_actual = d->memory_target;
    d->vcpus = (int) CLAMP(sim_int(config, "vcpus", 1), 1, G_MAXINT16);
    d->weight = sim_int(config, "weight", 256);
    d->cap = sim_int(config, "cap", 0);
    struct value *affinity = value_get(config, "affinity");
    d->affinity = affinity != NULL && affinity->type == VALUE_SET ? value_ref(affinity) : NULL;
    d->vbds = devices(value_get(config, "vbds"));
    d->vifs = devices(value_get(config, "vifs"));
    d->load = g_random_double_range(0.02, 0.3);
    return d;
}

const char *sim_option(const struct sim_domain *d, const char *key, const char *otherwise)
{
    return value_get_str(value_get(d->config, "other_config"), key, otherwise);
}

gint64 sim_memory_reserved(const struct sim_domain *d)
{
    return MAX(d->memory_actual, d->memory_target);
}

/* A paused domain uses no CPU; the capped one no more than its cap allows. */
void sim_account_cpu(struct sim_domain *d, gint64 now)
{
    double load = d->cap > 0 ? MIN(d->load, (double) d->cap / 100.0 / d->vcpus) : d->load;
    if (d->power == SIM_RUNNING && now > d->cpu_stamp)
        d->cpu_time += load * d->vcpus * (double) (now - d->cpu_stamp) / G_USEC_PER_SEC;
    d->cpu_stamp = now;
}

static const char *power_text(const struct sim_domain *d)
{
    static const char *const text[] = {"running", "running", "paused", "shutdown", "crashed"};
    return d->gone ? "dying" : text[d->power];
}

static struct value *keys_of(struct value *map)
{
    struct value_builder b;
    value_builder_set(&b, NULL, value_count(map));
    for (gsize i = 0; i < value_count(map); i++)
        value_builder_add(&b, value_ref(map->u.map.m[i].key));
    return value_builder_end(&b);
}

struct value *sim_domain_state(struct sim_domain *d)
{
    struct value_builder b, console;
    sim_account_cpu(d, g_get_real_time());
    value_builder_map(&console, NULL, 2);
    value_builder_put(&console, "vnc_port", value_int(NULL, 0));
    value_builder_put_string(&console, "tty", "");
    value_builder_map(&b, NULL, 16);
    value_builder_put(&b, "domid", value_int(NULL, d->domid));
    value_builder_put_string(&b, "uuid", d->uuid);
    value_builder_put_string(&b, "name", value_get_str(d->config, "name", ""));
    value_builder_put_string(&b, "power", power_text(d));
    value_builder_put_string(&b, "shutdown_reason", d->reason);
    value_builder_put(&b, "memory_actual", value_int(NULL, d->memory_actual));
    value_builder_put(&b, "memory_target", value_int(NULL, d->memory_target));
    value_builder_put(&b, "vcpus", value_int(NULL, d->vcpus));
    value_builder_put(&b, "cpu_time", value_float(NULL, d->cpu_time));
    value_builder_put(&b, "start_time", value_int(NULL, d->start_time / G_USEC_PER_SEC));
    value_builder_put_string(&b, "type", value_get_str(d->config, "type", "pv"));
    value_builder_put(&b, "ours", value_bool(d->ours));
    value_builder_put(&b, "vbds", keys_of(d->vbds));
    value_builder_put(&b, "images", sim_disk_images(d));
    value_builder_put(&b, "vifs", keys_of(d->vifs));
    value_builder_put(&b, "console", value_builder_end(&console));
    value_builder_put_string(&b, "cpu_pool", sim_pool_uuid(d->pool));
    value_builder_put(&b, "suspending", value_bool(d->suspending));
    return value_builder_end(&b);
}

/* ---- what changes ---- */

void sim_changed(struct sim_domain *d)
{
    sim_account_cpu(d, g_get_real_time());
    sim_state_save(d);
    sim_notify("domain.changed", sim_domain_state(d));
    g_cond_broadcast(&d->changed);
    g_cond_signal(&sim.wake);
}

void sim_stop(struct sim_domain *d, enum sim_power power, const char *reason)
{
    sim_account_cpu(d, g_get_real_time());
    d->power = power;
    d->reason = reason;
    sim_dmesg("Domain %d %s: %s", d->domid, power == SIM_CRASHED ? "crashed" : "shutdown", reason);
    sim_changed(d);
}

static void tell_gone(const struct sim_domain *d, const char *reason)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "uuid", d->uuid);
    value_builder_put(&b, "domid", value_int(NULL, d->domid));
    value_builder_put_string(&b, "reason", reason);
    sim_notify("domain.gone", value_builder_end(&b));
    sim_dmesg("Domain %d destroyed", d->domid);
    sim_host_changed();
}

void sim_remove(struct sim_domain *d, const char *otherwise)
{
    if (d->gone || !g_hash_table_steal(sim.domains, d->uuid))
        return;
    d->gone = TRUE;
    g_cond_broadcast(&d->changed);
    if (d->power != SIM_STARTING) {
        sim_state_save(d);
        tell_gone(d, *d->reason != '\0' ? d->reason : otherwise);
    }
    sim_domain_unref(d); /* the table's */
}

static gboolean domid_is_used(int domid)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, sim.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((struct sim_domain *) value)->domid == domid)
            return TRUE;
    return FALSE;
}

/* Upwards, as Xen does; after the last one those that are free again. A host of more than that many domains, which
 * only a simulation can be, goes on counting. */
static int new_domid(void)
{
    if (sim.next_domid >= DOMID_FIRST_INVALID && g_hash_table_size(sim.domains) < DOMID_FIRST_INVALID - 1) {
        int domid = 1;
        while (domid_is_used(domid))
            domid++;
        return domid;
    }
    return sim.next_domid++;
}

void sim_alive(struct sim_domain *d, gboolean paused)
{
    d->domid = new_domid();
    d->power = paused ? SIM_PAUSED : SIM_RUNNING;
    d->start_time = d->cpu_stamp = g_get_real_time();
    d->moved = g_get_monotonic_time();
    sim_dmesg("Domain %d created: %s", d->domid, d->uuid);
    sim_changed(d);
    sim_host_changed();
}

/* ---- finding ---- */

struct sim_domain *sim_find(struct sim_op *op, guint mask, struct fault *f)
{
    static const char *const text[] = {"starting", "running", "paused", "shutdown", "crashed"};
    const char *uuid = value_get_str(op->params, "uuid", "");
    struct sim_domain *d = g_hash_table_lookup(sim.domains, uuid);
    if (d != NULL && (mask & 1u << d->power) != 0)
        return sim_domain_ref(d);
    if (d == NULL && strcmp(uuid, sim.dom0->uuid) == 0) {
        fault_set(f, "OPERATION_NOT_ALLOWED", "This is the control domain", NULL);
        return NULL;
    }
    const char *expected = (mask & 1u << SIM_RUNNING) != 0 ? "running" : "paused";
    fault_set(f, "VM_BAD_POWER_STATE", uuid, expected, d != NULL ? text[d->power] : "halted", NULL);
    return NULL;
}

static void add_state(struct value_builder *set, struct sim_domain *d)
{
    if (d != NULL && d->power != SIM_STARTING)
        value_builder_add(set, sim_domain_state(d));
}

static void add_all_states(struct value_builder *set)
{
    GHashTableIter iter;
    void *value;
    add_state(set, sim.dom0);
    g_hash_table_iter_init(&iter, sim.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        add_state(set, value);
}

struct value *sim_list(struct sim_op *op, struct fault *f G_GNUC_UNUSED)
{
    struct value_builder set, b;
    const char *uuid = value_get_str(op->params, "uuid", NULL);
    value_builder_set(&set, NULL, uuid != NULL ? 1 : g_hash_table_size(sim.domains) + 1);
    if (uuid == NULL)
        add_all_states(&set);
    else
        add_state(&set, strcmp(uuid, sim.dom0->uuid) == 0 ? sim.dom0 : g_hash_table_lookup(sim.domains, uuid));
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "domains", value_builder_end(&set));
    return value_builder_end(&b);
}

/* ---- starting ---- */

static gboolean check_config(struct value *config, struct fault *f)
{
    if (config == NULL || config->type != VALUE_MAP)
        return fault_set(f, "INVALID_VALUE", "config", "", NULL);
    const char *uuid = value_get_str(config, "uuid", "");
    if (*uuid == '\0')
        return fault_set(f, "INVALID_VALUE", "uuid", "", NULL);
    if (sim_int(config, "memory_target", sim_int(config, "memory_static_max", 0)) <= 0)
        return fault_set(f, "VM_MEMORY_SIZE_TOO_LOW", uuid, NULL);
    if (sim_int(config, "vcpus", 1) < 1)
        return fault_set(f, "VM_NO_VCPUS", uuid, NULL);
    return TRUE;
}

static gboolean check_memory(const struct sim_domain *d, struct fault *f)
{
    gint64 needed = sim_memory_reserved(d), available = sim_memory_free();
    if (needed <= available)
        return TRUE;
    g_autofree char *a = g_strdup_printf("%" G_GINT64_FORMAT, needed);
    g_autofree char *b = g_strdup_printf("%" G_GINT64_FORMAT, available);
    return fault_set(f, "HOST_NOT_ENOUGH_FREE_MEMORY", a, b, NULL);
}

/* "sim:fail-start" = a code and its parameters, separated by commas. */
static gboolean check_fail_option(const struct sim_domain *d, struct fault *f)
{
    const char *text = sim_option(d, "sim:fail-start", "");
    if (*text == '\0')
        return TRUE;
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    return fault_setv(f, parts[0], (const char *const *) parts + 1);
}

/* The disks are looked for on the medium, without the mutex. */
static gboolean check_disks(struct sim_domain *d, struct fault *f)
{
    g_autoptr(value) vbds =
        value_ref(value_get(d->config, "vbds") != NULL ? value_get(d->config, "vbds") : value_empty_set());
    g_mutex_unlock(&sim.lock);
    gboolean there = sim_check_disks(d->uuid, vbds, f);
    g_mutex_lock(&sim.lock);
    return there;
}

static gboolean spend_time(struct sim_op *op, struct sim_domain *d, int ms, struct fault *f)
{
    const char *own = sim_option(d, "sim:start-ms", NULL);
    if (own != NULL)
        ms = (int) CLAMP(g_ascii_strtoll(own, NULL, 10), 0, G_MAXINT);
    /* Destroyed while it was built is what was asked of it by somebody else: as good as cancelled. */
    return sim_work(op, d, ms, 0.0, 1.0) == SIM_DONE || fault_set(f, "TASK_CANCELLED", "", NULL);
}

static struct value *started(struct sim_domain *d)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put(&b, "domid", value_int(NULL, d->domid));
    value_builder_put(&b, "state", sim_domain_state(d));
    return value_builder_end(&b);
}

struct value *sim_build(struct sim_op *op, struct value *config, int ms, struct sim_domain *replaces,
                        const char *reason, gboolean paused, struct fault *f)
{
    if (!check_config(config, f))
        return NULL;
    g_autoptr(sim_domain) d = sim_domain_new(config);
    struct sim_domain *there = g_hash_table_lookup(sim.domains, d->uuid);
    if (there != NULL && there != replaces) {
        char domid[16];
        g_snprintf(domid, sizeof(domid), "%d", there->domid);
        fault_set(f, "DOMAIN_EXISTS", d->uuid, domid, NULL);
        return NULL;
    }
    if (replaces != NULL)
        sim_remove(replaces, reason);
    if (!sim_pool_enter(d, value_get_str(config, "cpu_pool", ""), f) || !check_memory(d, f))
        return NULL;
    /* From here on the memory and the name are taken. */
    g_hash_table_replace(sim.domains, d->uuid, sim_domain_ref(d));
    if (!check_disks(d, f) || !spend_time(op, d, ms, f) || !check_fail_option(d, f) || d->gone) {
        fault_set(f, "TASK_CANCELLED", "", NULL);
        sim_remove(d, "");
        return NULL;
    }
    sim_alive(d, paused);
    return started(d);
}

struct value *sim_start(struct sim_op *op, struct fault *f)
{
    struct value *config = value_get(op->params, "config");
    gboolean paused = value_as_bool(value_get(config, "paused"));
    return sim_build(op, config, sim.conf->sim_start_ms, NULL, "", paused, f);
}

struct value *sim_destroy(struct sim_op *op, struct fault *f)
{
    const char *uuid = value_get_str(op->params, "uuid", "");
    struct sim_domain *d = g_hash_table_lookup(sim.domains, uuid);
    if (d == NULL && strcmp(uuid, sim.dom0->uuid) == 0) {
        fault_set(f, "OPERATION_NOT_ALLOWED", "This is the control domain", NULL);
        return NULL;
    }
    if (d != NULL)
        sim_remove(d, "destroyed");
    const char *image = value_get_str(op->params, "path", "");
    if (*image == '\0')
        return value_empty_map();
    g_mutex_unlock(&sim.lock);
    gboolean dropped = sim_drop_image(image, uuid, f);
    g_mutex_lock(&sim.lock);
    return dropped ? value_empty_map() : NULL;
}

/* ---- the simulator's own ---- */

/* One of many that are there from the beginning. The host grows by the memory that it lacks for them. */
static gboolean populate_one(struct value *config, struct fault *f)
{
    if (!check_config(config, f))
        return FALSE;
    g_autoptr(sim_domain) d = sim_domain_new(config);
    if (g_hash_table_contains(sim.domains, d->uuid))
        return fault_set(f, "DOMAIN_EXISTS", d->uuid, "", NULL);
    d->told_guest = TRUE;
    g_hash_table_replace(sim.domains, d->uuid, sim_domain_ref(d));
    d->domid = new_domid();
    d->power = value_as_bool(value_get(config, "paused")) ? SIM_PAUSED : SIM_RUNNING;
    d->start_time = d->cpu_stamp = g_get_real_time();
    sim_state_save(d);
    return TRUE;
}

struct value *sim_populate(struct sim_op *op, struct fault *f G_GNUC_UNUSED)
{
    struct value *configs = value_get(op->params, "domains");
    struct value_builder domains, failed, b;
    gint64 needed = 0;
    for (gsize i = 0; i < value_count(configs); i++)
        needed += MAX(sim_int(value_at(configs, i), "memory_target", 0), 0);
    gint64 lacking = needed - sim_memory_free();
    if (lacking > 0) {
        sim.extra_memory += lacking;
        sim_state_save_host();
    }
    value_builder_set(&domains, NULL, value_count(configs));
    value_builder_set(&failed, NULL, 0);
    for (gsize i = 0; i < value_count(configs); i++) {
        struct value *config = value_at(configs, i);
        struct fault why = FAULT_INIT;
        struct value_builder one;
        gboolean done = populate_one(config, &why);
        struct sim_domain *d = done ? g_hash_table_lookup(sim.domains, value_get_str(config, "uuid", "")) : NULL;
        if (d != NULL) {
            value_builder_add(&domains, sim_domain_state(d));
        } else {
            value_builder_map(&one, NULL, 2);
            value_builder_put_string(&one, "uuid", value_get_str(config, "uuid", ""));
            value_builder_put(&one, "error", fault_value(NULL, &why));
            value_builder_add(&failed, value_builder_end(&one));
        }
        fault_clear(&why);
    }
    sim_host_changed();
    g_cond_signal(&sim.wake);
    value_builder_map(&b, NULL, 2);
    value_builder_put(&b, "domains", value_builder_end(&domains));
    value_builder_put(&b, "failed", value_builder_end(&failed));
    return value_builder_end(&b);
}

struct value *sim_tell(struct sim_op *op, struct fault *f)
{
    g_autoptr(value) list = sim_list(op, f);
    struct value_builder starting, b;
    GHashTableIter iter;
    void *value;
    value_builder_set(&starting, NULL, 0);
    g_hash_table_iter_init(&iter, sim.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((struct sim_domain *) value)->power == SIM_STARTING)
            value_builder_add_string(&starting, ((struct sim_domain *) value)->uuid);
    value_builder_map(&b, NULL, 8);
    value_builder_put(&b, "domains", value_ref(value_get(list, "domains")));
    value_builder_put(&b, "starting", value_builder_end(&starting));
    value_builder_put(&b, "memory_total", value_int(NULL, sim_memory_total()));
    value_builder_put(&b, "memory_free", value_int(NULL, sim_memory_free()));
    value_builder_put(&b, "next_domid", value_int(NULL, sim.next_domid));
    value_builder_put_string(&b, "syslog", sim.syslog != NULL ? sim.syslog : "");
    value_builder_put(&b, "calls", value_int(NULL, (gint64) sim.calls));
    value_builder_put(&b, "faults", sim_fault_list());
    return value_builder_end(&b);
}
