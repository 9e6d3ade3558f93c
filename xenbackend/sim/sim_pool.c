/* sim_pool.c - pools of the simulated host's processors. The first one has all of them at first, and domain 0. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <string.h>

#include "xenbackend/storage/storage.h"

struct pool {
    gint64 id;
    char *uuid, *name, *scheduler;
};

static GPtrArray *pools; /* of struct pool; the first is always there */
static GArray *owner;    /* gint64 for each processor: the id of its pool, -1: free */

static const char *const schedulers[] = {"credit", "credit2", "rtds", "null", NULL};

static void pool_free(void *data)
{
    struct pool *p = data;
    g_free(p->uuid);
    g_free(p->name);
    g_free(p->scheduler);
    g_free(p);
}

static struct pool *add_pool(gint64 id, const char *uuid, const char *name, const char *scheduler)
{
    struct pool *p = g_new0(struct pool, 1);
    p->id = id;
    p->uuid = g_strdup(uuid);
    p->name = g_strdup(name);
    p->scheduler = g_strdup(scheduler);
    g_ptr_array_add(pools, p);
    return p;
}

static struct pool *pool_at(guint i)
{
    return g_ptr_array_index(pools, i);
}

static struct pool *by_uuid(const char *uuid)
{
    for (guint i = 0; i < pools->len; i++)
        if (strcmp(pool_at(i)->uuid, uuid) == 0)
            return pool_at(i);
    return NULL;
}

static struct pool *by_id(gint64 id)
{
    for (guint i = 0; i < pools->len; i++)
        if (pool_at(i)->id == id)
            return pool_at(i);
    return pool_at(0);
}

static gint64 *owner_of(gint64 cpu)
{
    return cpu >= 0 && cpu < (gint64) owner->len ? &g_array_index(owner, gint64, cpu) : NULL;
}

static guint count_cpus(gint64 id)
{
    guint n = 0;
    for (guint i = 0; i < owner->len; i++)
        n += *owner_of(i) == id;
    return n;
}

static gboolean is_used(gint64 id)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, sim.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((struct sim_domain *) value)->pool == id)
            return TRUE;
    return id == 0;
}

/* ---- the list ---- */

static struct value *cpus_of(gint64 id)
{
    struct value_builder b;
    value_builder_set(&b, NULL, owner->len);
    for (guint i = 0; i < owner->len; i++)
        if (*owner_of(i) == id)
            value_builder_add(&b, value_int(NULL, i));
    return value_builder_end(&b);
}

struct value *sim_pools(void)
{
    struct value_builder set, b;
    value_builder_set(&set, NULL, pools->len);
    for (guint i = 0; i < pools->len; i++) {
        const struct pool *p = pool_at(i);
        value_builder_map(&b, NULL, 5);
        value_builder_put_string(&b, "uuid", p->uuid);
        value_builder_put(&b, "id", value_int(NULL, p->id));
        value_builder_put_string(&b, "name", p->name);
        value_builder_put_string(&b, "scheduler", p->scheduler);
        value_builder_put(&b, "cpus", cpus_of(p->id));
        value_builder_add(&set, value_builder_end(&b));
    }
    return value_builder_end(&set);
}

static struct value *answer(void)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put(&b, "pools", sim_pools());
    value_builder_put(&b, "time", value_int(NULL, g_get_monotonic_time()));
    return value_builder_end(&b);
}

struct value *sim_pool_list(struct sim_op *op G_GNUC_UNUSED, struct fault *f G_GNUC_UNUSED)
{
    return answer();
}

const char *sim_pool_uuid(gint64 id)
{
    return by_id(id)->uuid;
}

/* ---- what survives ---- */

static void load_one(struct value *v)
{
    struct value *cpus = value_get(v, "cpus");
    gint64 id = sim_int(v, "id", 0);
    if (id != 0)
        add_pool(id, value_get_str(v, "uuid", ""), value_get_str(v, "name", ""), value_get_str(v, "scheduler", ""));
    for (gsize i = 0; i < value_count(cpus); i++) {
        gint64 *o = owner_of(value_as_int(value_at(cpus, i)));
        if (o != NULL)
            *o = id;
    }
}

void sim_pools_init(struct value *kept)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    g_autofree char *text = g_strconcat("CPU pool 0 ", sim.conf->state_dir, NULL);
    char uuid[STORAGE_UUID_LEN + 1];
    guint8 digest[20];
    gsize len = sizeof digest;
    gint64 first = kept != NULL ? -1 : 0;
    g_checksum_update(sum, (const guchar *) text, -1);
    g_checksum_get_digest(sum, digest, &len);
    storage_uuid_format(digest, 5, uuid);
    g_clear_pointer(&pools, g_ptr_array_unref);
    g_clear_pointer(&owner, g_array_unref);
    pools = g_ptr_array_new_with_free_func(pool_free);
    owner = g_array_new(FALSE, TRUE, sizeof(gint64));
    for (int i = 0; i < sim.conf->sim_cpus; i++)
        g_array_append_val(owner, first);
    add_pool(0, uuid, "Pool-0", "credit2");
    for (gsize i = 0; i < value_count(kept); i++)
        load_one(value_at(kept, i));
}

/* ---- making and ending ---- */

/* The pool that params.uuid names; NULL with f set. */
static struct pool *find(struct sim_op *op, const char *key, struct fault *f)
{
    const char *uuid = value_get_str(op->params, key, "");
    struct pool *p = by_uuid(uuid);
    if (p == NULL)
        fault_set(f, "POOL_BAD_STATE", uuid, "activated", "deactivated", NULL);
    return p;
}

static struct value *changed(void)
{
    sim_state_save_host();
    return answer();
}

static gboolean check_free(gint64 cpu, struct fault *f)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, cpu);
    const gint64 *o = owner_of(cpu);
    if (o == NULL)
        return fault_set(f, "INVALID_VALUE", "cpu", text, NULL);
    return *o < 0 || fault_set(f, "OPERATION_NOT_ALLOWED", "The processor belongs to a CPU pool already", NULL);
}

static gint64 new_id(void)
{
    gint64 id = 1;
    while (by_id(id)->id == id)
        id++;
    return id;
}

struct value *sim_pool_create(struct sim_op *op, struct fault *f)
{
    const char *uuid = value_get_str(op->params, "uuid", "");
    const char *scheduler = value_get_str(op->params, "scheduler", "");
    struct value *cpus = value_get(op->params, "cpus");
    if (!storage_uuid_is_valid(uuid) || by_uuid(uuid) != NULL) {
        fault_set(f, "INVALID_VALUE", "uuid", uuid, NULL);
        return NULL;
    }
    if (*scheduler != '\0' && !g_strv_contains(schedulers, scheduler)) {
        fault_set(f, "INVALID_VALUE", "sched_policy", scheduler, NULL);
        return NULL;
    }
    for (gsize i = 0; i < value_count(cpus); i++)
        if (!check_free(value_as_int(value_at(cpus, i)), f))
            return NULL;
    gint64 id = new_id();
    add_pool(id, uuid, value_get_str(op->params, "name", ""), *scheduler != '\0' ? scheduler : "credit2");
    for (gsize i = 0; i < value_count(cpus); i++)
        *owner_of(value_as_int(value_at(cpus, i))) = id;
    return changed();
}

struct value *sim_pool_destroy(struct sim_op *op, struct fault *f)
{
    struct pool *p = find(op, "uuid", f);
    if (p == NULL)
        return NULL;
    if (is_used(p->id)) {
        fault_set(f, "POOL_BAD_STATE", p->uuid, "unused", "in use", NULL);
        return NULL;
    }
    for (guint i = 0; i < owner->len; i++)
        if (*owner_of(i) == p->id)
            *owner_of(i) = -1;
    g_ptr_array_remove(pools, p);
    return changed();
}

struct value *sim_pool_add_cpu(struct sim_op *op, struct fault *f)
{
    struct pool *p = find(op, "uuid", f);
    gint64 cpu = sim_int(op->params, "cpu", -1);
    if (p == NULL || !check_free(cpu, f))
        return NULL;
    *owner_of(cpu) = p->id;
    return changed();
}

struct value *sim_pool_remove_cpu(struct sim_op *op, struct fault *f)
{
    struct pool *p = find(op, "uuid", f);
    gint64 *o = owner_of(sim_int(op->params, "cpu", -1));
    if (p == NULL)
        return NULL;
    if (o == NULL || *o != p->id)
        fault_set(f, "OPERATION_NOT_ALLOWED", "The processor does not belong to this CPU pool", NULL);
    else if (is_used(p->id) && count_cpus(p->id) < 2)
        fault_set(f, "OPERATION_NOT_ALLOWED", "This is the last processor of a CPU pool with running domains", NULL);
    if (f->code != NULL)
        return NULL;
    *o = -1;
    return changed();
}

/* ---- domains ---- */

gboolean sim_pool_enter(struct sim_domain *d, const char *uuid, struct fault *f)
{
    const struct pool *p = *uuid != '\0' ? by_uuid(uuid) : pool_at(0);
    if (p == NULL)
        return fault_set(f, "POOL_BAD_STATE", uuid, "activated", "deactivated", NULL);
    if (count_cpus(p->id) == 0)
        return fault_set(f, "POOL_BAD_STATE", uuid, "activated", "without processors", NULL);
    d->pool = p->id;
    return TRUE;
}

struct value *sim_set_pool(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    if (d == NULL || !sim_pool_enter(d, value_get_str(op->params, "pool", ""), f))
        return NULL;
    sim_changed(d);
    return value_empty_map();
}
