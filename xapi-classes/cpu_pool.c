/* cpu_pool.c - the class cpu_pool of xend's API: pools of physical processors, and which of them VMs run in.
 *
 * A pool is a description until it is activated: then it is made in the hypervisor, of processors that belong to no
 * other pool. Processors are made free with remove_host_CPU_live on the first pool, which has all of them at first. */
#include "xapi-classes/cpu_pool.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/start.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

#define FIRST_POOL "Pool-0"
#define UNNAMED    "Pool-Unnamed"
#define POOL_NAME  "xenapid:pool_name" /* in other_config of VMs */

/* Held while processors are chosen and taken. */
static GMutex choosing;

static gboolean bad_state(struct fault *f, const struct record *pool, const char *expected)
{
    return fault_set(f, "POOL_BAD_STATE", pool->ref, expected,
                     record_bool(pool, F_cpu_pool_activated) ? "activated" : "deactivated", NULL);
}

static gboolean check_activated(struct call *c, const struct record *pool, gboolean wanted)
{
    return record_bool(pool, F_cpu_pool_activated) == wanted ||
           bad_state(&c->fault, pool, wanted ? "activated" : "deactivated");
}

/* ---- fields ---- */

static gboolean check_name(struct txn *t, const char *ref, const char *name, struct fault *f)
{
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_cpu_pool);
    if (*name == '\0')
        return fault_set(f, "INVALID_VALUE", "name_label", name, NULL);
    for (guint i = 0; i < all->len; i++) {
        const struct record *r = g_ptr_array_index(all, i);
        if (strcmp(r->ref, ref) != 0 && strcmp(record_str(r, F_cpu_pool_name_label), name) == 0)
            return fault_set(f, "INVALID_VALUE", "name_label", name, NULL);
    }
    return TRUE;
}

static gboolean check_ncpu(gint64 n, struct fault *f)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, n);
    return n >= 1 || fault_set(f, "INVALID_VALUE", "ncpu", text, NULL);
}

static gboolean is_number(const char *text)
{
    return *text != '\0' && strlen(text) < 6 && text[strspn(text, "0123456789")] == '\0';
}

static gboolean check_cpus(const struct value *cpus, struct fault *f)
{
    for (gsize i = 0; i < value_count(cpus); i++)
        if (!is_number(value_str(value_at(cpus, i))))
            return fault_set(f, "INVALID_VALUE", "proposed_CPUs", value_str(value_at(cpus, i)), NULL);
    return TRUE;
}

/* A transaction with the pool that argument 0 names, which must not be activated where that is asked for; NULL after
 * failing. */
static struct txn *begin_change(struct call *c, gboolean deactivated, struct record **pool)
{
    struct txn *t = txn_begin(the_store());
    *pool = call_txn_object(c, t, 0);
    if (*pool != NULL && (!deactivated || check_activated(c, *pool, FALSE)))
        return t;
    txn_abort(t);
    return NULL;
}

/* Ends it with a new value of a field (taken over), if all is well. */
static struct value *end_change(struct call *c, struct txn *t, int field, struct value *v)
{
    if (c->fault.code != NULL) {
        value_unref(v);
        return vm_give_up(c, t);
    }
    txn_set(t, CLASS_cpu_pool, call_str(c, 0), field, v);
    return vm_end_change(c, t);
}

struct value *cpu_pool_set_name_label(struct call *c)
{
    struct record *pool;
    struct txn *t = begin_change(c, FALSE, &pool);
    if (t == NULL)
        return NULL;
    check_name(t, pool->ref, call_str(c, 1), &c->fault);
    return end_change(c, t, F_cpu_pool_name_label, value_ref(call_arg(c, 1)));
}

struct value *cpu_pool_set_ncpu(struct call *c)
{
    struct record *pool;
    struct txn *t = begin_change(c, FALSE, &pool);
    if (t == NULL)
        return NULL;
    check_ncpu(call_int(c, 1), &c->fault);
    return end_change(c, t, F_cpu_pool_ncpu, value_ref(call_arg(c, 1)));
}

struct value *cpu_pool_set_proposed_CPUs(struct call *c)
{
    struct record *pool;
    struct txn *t = begin_change(c, TRUE, &pool);
    if (t == NULL)
        return NULL;
    check_cpus(call_arg(c, 1), &c->fault);
    return end_change(c, t, F_cpu_pool_proposed_CPUs, value_ref(call_arg(c, 1)));
}

struct value *cpu_pool_add_proposed_CPUs(struct call *c)
{
    struct record *pool;
    struct txn *t = begin_change(c, TRUE, &pool);
    if (t == NULL)
        return NULL;
    if (!is_number(call_str(c, 1)))
        call_fail(c, "INVALID_VALUE", "proposed_CPUs", call_str(c, 1), NULL);
    return end_change(c, t, F_cpu_pool_proposed_CPUs,
                      value_set_with(record_field(pool, F_cpu_pool_proposed_CPUs), call_str(c, 1)));
}

struct value *cpu_pool_remove_proposed_CPUs(struct call *c)
{
    struct record *pool;
    struct txn *t = begin_change(c, TRUE, &pool);
    if (t == NULL)
        return NULL;
    return end_change(c, t, F_cpu_pool_proposed_CPUs,
                      value_set_without(record_field(pool, F_cpu_pool_proposed_CPUs), call_str(c, 1)));
}

struct value *cpu_pool_set_sched_policy(struct call *c)
{
    struct record *pool;
    struct txn *t = begin_change(c, TRUE, &pool);
    return t != NULL ? end_change(c, t, F_cpu_pool_sched_policy, value_ref(call_arg(c, 1))) : NULL;
}

/* ---- create, destroy ---- */

static void default_fields(struct txn *t, const char *ref, const struct value *args)
{
    const struct record *pool = txn_get(t, CLASS_cpu_pool, ref);
    gsize proposed = value_count(record_field(pool, F_cpu_pool_proposed_CPUs));
    if (value_get(args, "name_label") == NULL)
        txn_set_str(t, CLASS_cpu_pool, ref, F_cpu_pool_name_label, UNNAMED);
    if (value_get(args, "ncpu") == NULL)
        txn_set_int(t, CLASS_cpu_pool, ref, F_cpu_pool_ncpu, (gint64) MAX(proposed, 1));
    txn_set_bool(t, CLASS_cpu_pool, ref, F_cpu_pool_activated, FALSE);
}

struct value *cpu_pool_create(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    g_autoptr(value) result = generic_create_in(c, t, NULL);
    if (result == NULL)
        return vm_give_up(c, t);
    default_fields(t, value_str(result), call_arg(c, 0));
    const struct record *pool = txn_get(t, CLASS_cpu_pool, value_str(result));
    if (!check_name(t, pool->ref, record_str(pool, F_cpu_pool_name_label), &c->fault) ||
        !check_ncpu(record_int(pool, F_cpu_pool_ncpu), &c->fault) ||
        !check_cpus(record_field(pool, F_cpu_pool_proposed_CPUs), &c->fault))
        return vm_give_up(c, t);
    call_commit(c, t);
    return g_steal_pointer(&result);
}

struct value *cpu_pool_destroy(struct call *c)
{
    struct record *pool;
    struct txn *t = begin_change(c, TRUE, &pool);
    if (t == NULL)
        return NULL;
    txn_destroy(t, CLASS_cpu_pool, pool->ref);
    return vm_end_change(c, t);
}

/* ---- activate, deactivate ---- */

/* Of those that are in no pool first the proposed ones; NULL when there are too few. */
static struct value *choose(const struct record *pool, struct fault *f)
{
    gint64 wanted = record_int(pool, F_cpu_pool_ncpu), n = 0;
    const struct value *proposed = record_field(pool, F_cpu_pool_proposed_CPUs);
    g_autoptr(GPtrArray) cpus = store_all(the_store(), CLASS_host_cpu);
    struct value_builder b;
    value_builder_set(&b, NULL, (gsize) CLAMP(wanted, 0, 4096));
    for (int preferred = TRUE; preferred >= FALSE; preferred--) {
        for (guint i = 0; i < cpus->len; i++) {
            const struct record *cpu = g_ptr_array_index(cpus, i);
            g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, record_int(cpu, F_host_cpu_number));
            if (value_count(record_field(cpu, F_host_cpu_cpu_pool)) > 0 || value_contains(proposed, text) != preferred)
                continue;
            if (n++ < wanted)
                value_builder_add(&b, value_int(NULL, record_int(cpu, F_host_cpu_number)));
        }
    }
    if (n >= wanted)
        return value_builder_end(&b);
    g_autofree char *needed = g_strdup_printf("%" G_GINT64_FORMAT, wanted);
    g_autofree char *there = g_strdup_printf("%" G_GINT64_FORMAT, n);
    value_builder_clear(&b);
    fault_set(f, "HOST_NOT_ENOUGH_PCPUS", needed, there, NULL);
    return NULL;
}

/* Makes a request whose answer is the new list. */
static gboolean change_world(struct call *c, const char *method, struct value_builder *b)
{
    g_autoptr(value) list = vm_ask(c, NULL, method, value_builder_end(b), ASK_QUICK_MS);
    if (list != NULL)
        cpu_pools_follow(c, list);
    return list != NULL;
}

static gboolean activate(struct call *c, const char *ref)
{
    g_autoptr(record) pool = store_get(the_store(), CLASS_cpu_pool, ref);
    struct value_builder b;
    if (pool == NULL)
        return fault_set(&c->fault, "HANDLE_INVALID", "cpu_pool", ref, NULL);
    if (!check_activated(c, pool, FALSE))
        return FALSE;
    struct value *cpus = choose(pool, &c->fault);
    if (cpus == NULL)
        return FALSE;
    vm_params(&b, record_str(pool, F_cpu_pool_uuid));
    value_builder_put_string(&b, "name", record_str(pool, F_cpu_pool_name_label));
    value_builder_put_string(&b, "scheduler", record_str(pool, F_cpu_pool_sched_policy));
    value_builder_put(&b, "cpus", cpus);
    return change_world(c, "pool.create", &b);
}

struct value *cpu_pool_activate(struct call *c)
{
    g_mutex_lock(&choosing);
    gboolean done = activate(c, call_str(c, 0));
    g_mutex_unlock(&choosing);
    return done ? value_void() : NULL;
}

struct value *cpu_pool_deactivate(struct call *c)
{
    g_autoptr(record) pool = call_object(c, 0);
    struct value_builder b;
    if (pool == NULL || !check_activated(c, pool, TRUE))
        return NULL;
    vm_params(&b, record_str(pool, F_cpu_pool_uuid));
    return change_world(c, "pool.destroy", &b) ? value_void() : NULL;
}

/* ---- processors of an activated pool ---- */

static struct value *change_cpu(struct call *c, const char *method, gboolean add)
{
    g_autoptr(record) pool = call_object(c, 0), cpu = pool != NULL ? call_object(c, 1) : NULL;
    struct value_builder b;
    if (cpu == NULL || !check_activated(c, pool, TRUE))
        return NULL;
    vm_params(&b, record_str(pool, F_cpu_pool_uuid));
    value_builder_put(&b, "cpu", value_ref(record_field(cpu, F_host_cpu_number)));
    g_mutex_lock(&choosing);
    gboolean done = change_world(c, method, &b);
    g_mutex_unlock(&choosing);
    if (!done)
        return NULL;
    /* The next activation is to bring the same ones. */
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, record_int(cpu, F_host_cpu_number));
    struct txn *t = txn_begin(the_store());
    const struct record *now = txn_get(t, CLASS_cpu_pool, pool->ref);
    if (now != NULL) {
        const struct value *proposed = record_field(now, F_cpu_pool_proposed_CPUs);
        txn_set(t, CLASS_cpu_pool, now->ref, F_cpu_pool_proposed_CPUs,
                add ? value_set_with(proposed, text) : value_set_without(proposed, text));
        txn_set_int(t, CLASS_cpu_pool, now->ref, F_cpu_pool_ncpu,
                    (gint64) MAX(value_count(record_field(now, F_cpu_pool_host_CPUs)), 1));
    }
    call_commit(c, t);
    return value_void();
}

struct value *cpu_pool_add_host_CPU_live(struct call *c)
{
    return change_cpu(c, "pool.add_cpu", TRUE);
}

struct value *cpu_pool_remove_host_CPU_live(struct call *c)
{
    return change_cpu(c, "pool.remove_cpu", FALSE);
}

struct value *host_cpu_get_unassigned_cpus(struct call *c G_GNUC_UNUSED)
{
    g_autoptr(GPtrArray) cpus = store_all(the_store(), CLASS_host_cpu);
    struct value_builder b;
    value_builder_set(&b, NULL, cpus->len);
    for (guint i = 0; i < cpus->len; i++) {
        const struct record *cpu = g_ptr_array_index(cpus, i);
        if (value_count(record_field(cpu, F_host_cpu_cpu_pool)) == 0)
            value_builder_add_string(&b, cpu->ref);
    }
    return value_builder_end(&b);
}

/* ---- VMs ---- */

static const char *name_of_start(const struct record *vm)
{
    const char *name = record_key(vm, F_VM_other_config, POOL_NAME);
    return name != NULL && *name != '\0' ? name : FIRST_POOL;
}

struct value *vm_get_cpu_pool(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    g_autoptr(GPtrArray) all = store_all(the_store(), CLASS_cpu_pool);
    struct value_builder b;
    if (vm == NULL)
        return NULL;
    value_builder_set(&b, NULL, 1);
    for (guint i = 0; i < all->len; i++) {
        const struct record *pool = g_ptr_array_index(all, i);
        if (value_contains(record_field(pool, F_cpu_pool_started_VMs), vm->ref))
            value_builder_add_string(&b, pool->ref);
    }
    return value_builder_end(&b);
}

struct value *vm_get_pool_name(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    return vm != NULL ? value_string(NULL, name_of_start(vm)) : NULL;
}

static void set_name(struct txn *t, const char *vm, const char *name)
{
    if (*name == '\0' || strcmp(name, FIRST_POOL) == 0)
        txn_remove_key(t, CLASS_VM, vm, F_VM_other_config, POOL_NAME);
    else
        txn_put_key(t, CLASS_VM, vm, F_VM_other_config, POOL_NAME, name);
}

/* The pool need not be there before the VM starts. */
struct value *vm_set_pool_name(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    if (call_txn_object(c, t, 0) == NULL)
        return vm_give_up(c, t);
    set_name(t, call_str(c, 0), call_str(c, 1));
    return vm_end_change(c, t);
}

gboolean cpu_pool_of_start(const struct record *vm, struct record **pool, struct fault *f)
{
    const char *name = name_of_start(vm);
    *pool = NULL;
    if (strcmp(name, FIRST_POOL) == 0)
        return TRUE;
    g_autoptr(GPtrArray) named = store_by_name(the_store(), CLASS_cpu_pool, name);
    if (named->len == 0)
        return fault_set(f, "INVALID_VALUE", "pool_name", name, NULL);
    struct record *r = g_ptr_array_index(named, 0);
    if (!record_bool(r, F_cpu_pool_activated))
        return bad_state(f, r, "activated");
    *pool = record_ref(r);
    return TRUE;
}

static gboolean check_move(struct call *c, const struct record *vm, const struct record *pool)
{
    if (!vm_is(vm, "Running") && !vm_is(vm, "Paused"))
        call_fail(c, "VM_BAD_POWER_STATE", vm->ref, "running", record_str(vm, F_VM_power_state), NULL);
    else if (record_bool(vm, F_VM_is_control_domain))
        call_fail(c, "OPERATION_NOT_ALLOWED", "This is the control domain", NULL);
    else
        check_activated(c, pool, TRUE);
    return c->fault.code == NULL;
}

/* It starts in that pool from now on, too. */
struct value *vm_cpu_pool_migrate(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0), pool = vm != NULL ? call_object(c, 1) : NULL;
    struct value_builder b;
    if (pool == NULL || !check_move(c, vm, pool))
        return NULL;
    vm_params(&b, record_str(vm, F_VM_uuid));
    value_builder_put_string(&b, "pool", record_str(pool, F_cpu_pool_uuid));
    g_autoptr(value) answer = vm_ask(c, NULL, "domain.set_pool", value_builder_end(&b), ASK_QUICK_MS);
    if (answer == NULL)
        return NULL;
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, vm->ref) != NULL && txn_get(t, CLASS_cpu_pool, pool->ref) != NULL)
        set_name(t, vm->ref, record_str(txn_get(t, CLASS_cpu_pool, pool->ref), F_cpu_pool_name_label));
    return vm_end_change(c, t);
}

/* ---- the beginning ---- */

/* After a boot the first pool has all processors: it gives those that this one had before. */
static void free_proposed(struct call *c, const struct record *pool)
{
    g_autoptr(GPtrArray) cpus = store_all(the_store(), CLASS_host_cpu);
    for (guint i = 0; i < cpus->len; i++) {
        const struct record *cpu = g_ptr_array_index(cpus, i);
        const struct value *owner = record_field(cpu, F_host_cpu_cpu_pool);
        g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, record_int(cpu, F_host_cpu_number));
        g_autoptr(record) first = store_get(the_store(), CLASS_cpu_pool, value_str(value_at(owner, 0)));
        struct value_builder b;
        if (first == NULL || strcmp(record_str(first, F_cpu_pool_name_label), FIRST_POOL) != 0 ||
            !value_contains(record_field(pool, F_cpu_pool_proposed_CPUs), text))
            continue;
        vm_params(&b, record_str(first, F_cpu_pool_uuid));
        value_builder_put(&b, "cpu", value_ref(record_field(cpu, F_host_cpu_number)));
        if (!change_world(c, "pool.remove_cpu", &b))
            return;
    }
}

void cpu_pools_autostart(void)
{
    g_autoptr(GPtrArray) all = store_all(the_store(), CLASS_cpu_pool);
    for (guint i = 0; i < all->len; i++) {
        const struct record *pool = g_ptr_array_index(all, i);
        struct call c = {.fault = FAULT_INIT};
        if (!record_bool(pool, F_cpu_pool_auto_power_on) || record_bool(pool, F_cpu_pool_activated))
            continue;
        free_proposed(&c, pool);
        fault_clear(&c.fault);
        if (!activate(&c, pool->ref)) {
            g_autofree char *text = fault_text(&c.fault);
            g_warning("the CPU pool %s is not activated: %s", record_str(pool, F_cpu_pool_name_label), text);
        }
        fault_clear(&c.fault);
    }
}
