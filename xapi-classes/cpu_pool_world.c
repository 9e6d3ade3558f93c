/* cpu_pool_world.c - records of CPU pools follow what the hypervisor has: pools come and go, here and by other
 * toolstacks, and so do their processors and VMs. */
#include "xapi-classes/cpu_pool.h"
#include "xapi-classes/start.h"
#include "xapi-classes/world.h"
#include "xenbackend/backend.h"

#include <string.h>

#define FOREIGN "xenapid:foreign" /* in other_config: made by another toolstack; goes with the pool */

/* Taken before the store's transactions: what is heard is applied in the order in which it was true. */
static GMutex lock;
static gint64 heard; /* the backend's clock: when that was true what was applied last */

static const char *by_uuid(struct txn *t, const char *uuid)
{
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_cpu_pool);
    for (guint i = 0; i < all->len; i++) {
        struct record *r = g_ptr_array_index(all, i);
        if (g_ascii_strcasecmp(record_str(r, F_cpu_pool_uuid), uuid) == 0)
            return r->ref;
    }
    return NULL;
}

/* ---- started_VMs ---- */

static void put_in(struct txn *t, const struct record *pool, const char *vm)
{
    txn_set(t, CLASS_cpu_pool, pool->ref, F_cpu_pool_started_VMs,
            value_set_with(record_field(pool, F_cpu_pool_started_VMs), vm));
}

static void take_out(struct txn *t, const struct record *pool, const char *vm)
{
    if (value_contains(record_field(pool, F_cpu_pool_started_VMs), vm))
        txn_set(t, CLASS_cpu_pool, pool->ref, F_cpu_pool_started_VMs,
                value_set_without(record_field(pool, F_cpu_pool_started_VMs), vm));
}

/* With one pool a VM that runs is in it already: most hosts have no other, and sets may be long. */
void cpu_pool_place(struct txn *t, const char *vm, const struct value *state, gboolean started)
{
    const char *uuid = value_get_str(state, "cpu_pool", "");
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_cpu_pool);
    if (*uuid == '\0' || (all->len == 1 && !started))
        return;
    for (guint i = 0; i < all->len; i++) {
        const struct record *r = g_ptr_array_index(all, i);
        if (g_ascii_strcasecmp(record_str(r, F_cpu_pool_uuid), uuid) != 0)
            take_out(t, r, vm);
        else
            put_in(t, r, vm);
    }
}

void cpu_pool_leave(struct txn *t, const char *vm)
{
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_cpu_pool);
    for (guint i = 0; i < all->len; i++)
        take_out(t, g_ptr_array_index(all, i), vm);
}

/* All at once: the set of each pool is made anew. */
static void place_all(struct txn *t, const struct value *domains)
{
    g_autoptr(GHashTable) refs = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) vms = txn_all(t, CLASS_VM), all = txn_all(t, CLASS_cpu_pool);
    for (guint i = 0; i < vms->len; i++) {
        const struct record *vm = g_ptr_array_index(vms, i);
        g_hash_table_insert(refs, (char *) record_str(vm, F_VM_uuid), (char *) vm->ref);
    }
    for (guint i = 0; i < all->len; i++) {
        const struct record *pool = g_ptr_array_index(all, i);
        struct value_builder b;
        value_builder_set(&b, NULL, 8);
        for (gsize k = 0; k < value_count(domains); k++) {
            const struct value *state = value_at(domains, k);
            const char *vm = g_hash_table_lookup(refs, value_get_str(state, "uuid", ""));
            if (vm != NULL && strcmp(value_get_str(state, "cpu_pool", ""), record_str(pool, F_cpu_pool_uuid)) == 0)
                value_builder_add_string(&b, vm);
        }
        txn_set(t, CLASS_cpu_pool, pool->ref, F_cpu_pool_started_VMs, value_builder_end(&b));
    }
}

/* ---- the pools themselves ---- */

static struct value *cpu_texts(const struct value *cpus)
{
    struct value_builder b;
    value_builder_set(&b, NULL, value_count(cpus));
    for (gsize i = 0; i < value_count(cpus); i++)
        value_builder_add(&b, value_printf(NULL, "%" G_GINT64_FORMAT, value_as_int(value_at(cpus, i))));
    return value_builder_end(&b);
}

static gboolean has_cpu(const struct value *cpus, gint64 number)
{
    for (gsize i = 0; i < value_count(cpus); i++)
        if (value_as_int(value_at(cpus, i)) == number)
            return TRUE;
    return FALSE;
}

static struct value *cpu_refs(GPtrArray *host_cpus, const struct value *cpus)
{
    struct value_builder b;
    value_builder_set(&b, NULL, value_count(cpus));
    for (guint i = 0; i < host_cpus->len; i++) {
        const struct record *cpu = g_ptr_array_index(host_cpus, i);
        if (has_cpu(cpus, record_int(cpu, F_host_cpu_number)))
            value_builder_add_string(&b, cpu->ref);
    }
    return value_builder_end(&b);
}

/* One that nobody described here: Xen's first one, or another toolstack's. */
static const char *new_pool(struct txn *t, const struct value *pool)
{
    const char *uuid = value_get_str(pool, "uuid", "");
    gboolean first = value_as_int(value_get(pool, "id")) == 0;
    const char *ref = txn_create(t, CLASS_cpu_pool, NULL, uuid);
    txn_set_str(t, CLASS_cpu_pool, ref, F_cpu_pool_name_description,
                first ? "The processors of the control domain, and of VMs that name no other pool"
                      : "Made by another toolstack on this host");
    txn_set(t, CLASS_cpu_pool, ref, F_cpu_pool_proposed_CPUs, cpu_texts(value_get(pool, "cpus")));
    if (!first)
        txn_put_key(t, CLASS_cpu_pool, ref, F_cpu_pool_other_config, FOREIGN, "true");
    return ref;
}

static gboolean is_foreign(const struct record *pool)
{
    return record_key(pool, F_cpu_pool_other_config, FOREIGN) != NULL;
}

/* Answers its reference. */
static const char *follow_one(struct txn *t, const struct value *pool, GPtrArray *host_cpus)
{
    const char *ref = by_uuid(t, value_get_str(pool, "uuid", "")), *name = value_get_str(pool, "name", "");
    struct value *cpus = value_get(pool, "cpus");
    gboolean is_new = ref == NULL, first = value_as_int(value_get(pool, "id")) == 0;
    if (is_new)
        ref = new_pool(t, pool);
    if (is_new || first || is_foreign(txn_get(t, CLASS_cpu_pool, ref))) {
        txn_set_str(t, CLASS_cpu_pool, ref, F_cpu_pool_name_label, *name != '\0' ? name : "Pool-Unnamed");
        txn_set_int(t, CLASS_cpu_pool, ref, F_cpu_pool_ncpu, (gint64) value_count(cpus));
    }
    txn_set_str(t, CLASS_cpu_pool, ref, F_cpu_pool_sched_policy, value_get_str(pool, "scheduler", ""));
    txn_set_bool(t, CLASS_cpu_pool, ref, F_cpu_pool_activated, TRUE);
    txn_set_str(t, CLASS_cpu_pool, ref, F_cpu_pool_resident_on, host_ref());
    txn_set(t, CLASS_cpu_pool, ref, F_cpu_pool_host_CPUs, cpu_refs(host_cpus, cpus));
    return ref;
}

static void end_one(struct txn *t, const struct record *pool)
{
    if (is_foreign(pool)) {
        txn_destroy(t, CLASS_cpu_pool, pool->ref);
        return;
    }
    txn_set_bool(t, CLASS_cpu_pool, pool->ref, F_cpu_pool_activated, FALSE);
    txn_set_str(t, CLASS_cpu_pool, pool->ref, F_cpu_pool_resident_on, NULL_REF);
    txn_set(t, CLASS_cpu_pool, pool->ref, F_cpu_pool_host_CPUs, value_empty_set());
    txn_set(t, CLASS_cpu_pool, pool->ref, F_cpu_pool_started_VMs, value_empty_set());
}

static void end_others(struct txn *t, GHashTable *there)
{
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_cpu_pool);
    for (guint i = 0; i < all->len; i++) {
        const struct record *pool = g_ptr_array_index(all, i);
        if (record_bool(pool, F_cpu_pool_activated) && !g_hash_table_contains(there, pool->ref))
            end_one(t, pool);
    }
}

static void follow_cpus(struct txn *t, GPtrArray *host_cpus)
{
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_cpu_pool);
    for (guint i = 0; i < host_cpus->len; i++) {
        const struct record *cpu = g_ptr_array_index(host_cpus, i);
        struct value_builder b;
        value_builder_set(&b, NULL, 1);
        for (guint k = 0; k < all->len; k++) {
            const struct record *pool = g_ptr_array_index(all, k);
            if (value_contains(record_field(pool, F_cpu_pool_host_CPUs), cpu->ref))
                value_builder_add_string(&b, pool->ref);
        }
        txn_set(t, CLASS_host_cpu, cpu->ref, F_host_cpu_cpu_pool, value_builder_end(&b));
    }
}

static void follow(struct txn *t, const struct value *list)
{
    const struct value *pools = value_get(list, "pools");
    g_autoptr(GPtrArray) host_cpus = txn_all(t, CLASS_host_cpu);
    g_autoptr(GHashTable) there = g_hash_table_new(g_str_hash, g_str_equal);
    for (gsize i = 0; i < value_count(pools); i++)
        if (uuid_is_valid(value_get_str(value_at(pools, i), "uuid", "")))
            g_hash_table_add(there, (char *) g_intern_string(follow_one(t, value_at(pools, i), host_cpus)));
    end_others(t, there);
    follow_cpus(t, host_cpus);
}

/* With the lock. */
static gboolean is_news(const struct value *list)
{
    gint64 time = value_as_int(value_get(list, "time"));
    if (time < heard)
        return FALSE;
    heard = time;
    return TRUE;
}

void cpu_pools_follow(struct call *c, const struct value *list)
{
    g_mutex_lock(&lock);
    struct txn *t = txn_begin(the_store());
    if (is_news(list))
        follow(t, list);
    if (c != NULL)
        call_commit(c, t);
    else
        txn_commit(t);
    g_mutex_unlock(&lock);
}

void world_pool_changed(struct value *params)
{
    cpu_pools_follow(NULL, params);
}

void cpu_pools_reconcile(const struct value *domains)
{
    struct fault f = FAULT_INIT;
    g_autoptr(value) list = backend_call("pool.list", NULL, NULL, &f);
    if (list == NULL) {
        g_autofree char *text = fault_text(&f);
        g_warning("the backend does not say which CPU pools there are: %s", text);
        fault_clear(&f);
        return;
    }
    g_mutex_lock(&lock);
    heard = value_as_int(value_get(list, "time")); /* perhaps the host has booted since */
    struct txn *t = txn_begin(the_store());
    follow(t, list);
    if (domains != NULL)
        place_all(t, domains);
    txn_commit(t);
    g_mutex_unlock(&lock);
}
