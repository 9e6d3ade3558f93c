/* xen_cpupool.c - pools of processors: what the hypervisor has, what the front asks of them, what others change.
 *
 * A pool's uuid and name are kept by libxl in /local/pool/ID, as they are for those that xl makes. The first one, which
 * Xen makes itself, has neither: its uuid follows from the host's. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <string.h>

#include "xenbackend/storage/storage.h"

#define NAME_MAX_BYTES 200

/* Held while pools are changed, so that two requests do not take the same processor, and while what there is is told.
 */
static GMutex lock;
static struct value *told; /* the list that the front has */

/* ---- names ---- */

static void own_uuid(guint32 id, char uuid[UUID_TEXT_SIZE])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    g_autofree char *text = g_strdup_printf("CPU pool %u of %s", id, xen.dom0_uuid);
    guint8 digest[20];
    gsize len = sizeof digest;
    g_checksum_update(sum, (const guchar *) text, -1);
    g_checksum_get_digest(sum, digest, &len);
    storage_uuid_format(digest, 5, uuid);
}

void xen_pool_uuid(guint32 id, char uuid[UUID_TEXT_SIZE])
{
    g_autofree char *kept = id > 0 ? xen_read("/local/pool/%u/uuid", id) : NULL;
    if (kept != NULL && storage_uuid_is_valid(kept))
        g_strlcpy(uuid, kept, UUID_TEXT_SIZE);
    else
        own_uuid(id, uuid);
}

/* ---- the list ---- */

static struct value *cpus_of(const libxl_bitmap *map)
{
    struct value_builder b;
    value_builder_set(&b, NULL, 8);
    for (guint32 cpu = 0; cpu < map->size * 8; cpu++)
        if (libxl_bitmap_test(map, (int) cpu))
            value_builder_add(&b, value_int(NULL, cpu));
    return value_builder_end(&b);
}

static struct value *pool_of(const libxl_cpupoolinfo *info)
{
    struct value_builder b;
    char uuid[UUID_TEXT_SIZE];
    const char *scheduler = libxl_scheduler_to_string(info->sched);
    xen_pool_uuid(info->poolid, uuid);
    g_autofree char *name = xen_guest_text(info->pool_name != NULL ? info->pool_name : "", NAME_MAX_BYTES);
    value_builder_map(&b, NULL, 5);
    value_builder_put_string(&b, "uuid", uuid);
    value_builder_put(&b, "id", value_int(NULL, info->poolid));
    value_builder_put_string(&b, "name", name);
    value_builder_put_string(&b, "scheduler", scheduler != NULL ? scheduler : "");
    value_builder_put(&b, "cpus", cpus_of(&info->cpumap));
    return value_builder_end(&b);
}

static struct value *pools(struct xen_op *op)
{
    struct value_builder b;
    int n = 0;
    libxl_cpupoolinfo *list = libxl_list_cpupool(op->ctx, &n);
    if (list == NULL)
        return NULL;
    value_builder_set(&b, NULL, (gsize) n);
    for (int i = 0; i < n; i++)
        value_builder_add(&b, pool_of(&list[i]));
    libxl_cpupoolinfo_list_free(list, n);
    return value_builder_end(&b);
}

/* {pools, time} of a list, which it takes over. */
static struct value *answer(struct value *list)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put(&b, "pools", list);
    value_builder_put(&b, "time", value_int(NULL, g_get_monotonic_time()));
    return value_builder_end(&b);
}

/* With the lock: the answer of a request that has changed something, or wants to know. */
static struct value *look(struct xen_op *op, struct fault *f)
{
    struct value *list = pools(op);
    if (list == NULL) {
        fault_set(f, "INTERNAL_ERROR", "the hypervisor does not list its CPU pools", NULL);
        return NULL;
    }
    value_unref(told);
    told = value_ref(list);
    return answer(list);
}

void xen_pools_tell(void)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    struct fault f = FAULT_INIT;
    g_mutex_lock(&lock);
    struct value *list = xen_op_begin(&op, NULL, &f) ? pools(&op) : NULL;
    if (list != NULL && told != NULL && !value_equal(list, told)) {
        value_unref(told);
        told = value_ref(list);
        g_autoptr(value) params = answer(list);
        helper_notify("pool.changed", params, NULL, 0);
    } else {
        value_unref(list);
    }
    g_mutex_unlock(&lock);
    fault_clear(&f);
}

struct value *xen_pool_list(struct helper_request *req, struct fault *f)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    if (!xen_op_begin(&op, req, f))
        return NULL;
    g_mutex_lock(&lock);
    struct value *result = look(&op, f);
    g_mutex_unlock(&lock);
    return result;
}

/* ---- finding one ---- */

gboolean xen_pool_find(struct xen_op *op, const char *uuid, libxl_cpupoolinfo *info, struct fault *f)
{
    int n = 0;
    libxl_cpupoolinfo *list = libxl_list_cpupool(op->ctx, &n);
    gboolean found = FALSE;
    libxl_cpupoolinfo_init(info);
    for (int i = 0; list != NULL && i < n && !found; i++) {
        char own[UUID_TEXT_SIZE];
        xen_pool_uuid(list[i].poolid, own);
        found = g_ascii_strcasecmp(own, uuid) == 0;
        if (found)
            libxl_cpupoolinfo_copy(op->ctx, info, &list[i]);
    }
    if (list != NULL)
        libxl_cpupoolinfo_list_free(list, n);
    return found || fault_set(f, "POOL_BAD_STATE", uuid, "activated", "deactivated", NULL);
}

/* ---- making and ending ---- */

static gboolean invalid(const char *key, const char *text, struct fault *f)
{
    return fault_set(f, "INVALID_VALUE", key, text, NULL);
}

static gboolean take_cpu(struct xen_op *op, struct value *v, const libxl_bitmap *unused, libxl_bitmap *map,
                         struct fault *f)
{
    gint64 cpu = value_as_int(v);
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, cpu);
    if (cpu < 0 || cpu >= libxl_get_max_cpus(op->ctx))
        return invalid("cpu", text, f);
    if (!libxl_bitmap_test(unused, (int) cpu))
        return fault_set(f, "OPERATION_NOT_ALLOWED", "The processor belongs to a CPU pool already", NULL);
    libxl_bitmap_set(map, (int) cpu);
    return TRUE;
}

static gboolean take_cpus(struct xen_op *op, struct value *cpus, libxl_bitmap *map, struct fault *f)
{
    libxl_bitmap unused;
    libxl_bitmap_init(&unused);
    int rc = libxl_get_freecpus(op->ctx, &unused);
    if (rc == 0)
        rc = libxl_cpu_bitmap_alloc(op->ctx, map, 0);
    gboolean taken = rc == 0 || xen_op_fault(op, rc, "", "get_freecpus", f);
    for (gsize i = 0; taken && i < value_count(cpus); i++)
        taken = take_cpu(op, value_at(cpus, i), &unused, map, f);
    libxl_bitmap_dispose(&unused);
    return taken;
}

/* The scheduler of the host where none is named. */
static gboolean scheduler_of(struct xen_op *op, const char *name, libxl_scheduler *scheduler, struct fault *f)
{
    if (*name == '\0') {
        int rc = libxl_get_scheduler(op->ctx);
        *scheduler = rc < 0 ? LIBXL_SCHEDULER_UNKNOWN : (libxl_scheduler) rc;
        return rc >= 0 || xen_op_fault(op, rc, "", "get_scheduler", f);
    }
    if (libxl_scheduler_from_string(name, scheduler) != 0 || *scheduler == LIBXL_SCHEDULER_UNKNOWN)
        return invalid("sched_policy", name, f);
    return TRUE;
}

static gboolean create(struct xen_op *op, struct value *params, struct fault *f)
{
    const char *uuid = value_get_str(params, "uuid", "");
    guint32 id = LIBXL_CPUPOOL_POOLID_ANY;
    libxl_scheduler scheduler;
    libxl_uuid binary;
    libxl_bitmap map;
    if (!storage_uuid_is_valid(uuid) || libxl_uuid_from_string(&binary, uuid) != 0)
        return invalid("uuid", uuid, f);
    if (!scheduler_of(op, value_get_str(params, "scheduler", ""), &scheduler, f))
        return FALSE;
    g_autofree char *name = xen_guest_text(value_get_str(params, "name", ""), NAME_MAX_BYTES);
    libxl_bitmap_init(&map);
    gboolean done = take_cpus(op, value_get(params, "cpus"), &map, f);
    int rc = done ? libxl_cpupool_create(op->ctx, name, scheduler, map, &binary, &id) : 0;
    libxl_bitmap_dispose(&map);
    return rc == 0 ? done : xen_op_fault(op, rc, uuid, "cpupool_create", f);
}

static gboolean destroy(struct xen_op *op, struct value *params, const libxl_cpupoolinfo *info, struct fault *f)
{
    const char *uuid = value_get_str(params, "uuid", "");
    if (info->n_dom > 0)
        return fault_set(f, "POOL_BAD_STATE", uuid, "unused", "in use", NULL);
    if (info->poolid == 0)
        return fault_set(f, "OPERATION_NOT_ALLOWED", "This is the control domain's CPU pool", NULL);
    int rc = libxl_cpupool_destroy(op->ctx, info->poolid);
    return rc == 0 || xen_op_fault(op, rc, uuid, "cpupool_destroy", f);
}

static gboolean add_cpu(struct xen_op *op, struct value *params, const libxl_cpupoolinfo *info, struct fault *f)
{
    struct value_builder one;
    libxl_bitmap map;
    value_builder_set(&one, NULL, 1);
    value_builder_add(&one, value_int(NULL, value_as_int(value_get(params, "cpu"))));
    g_autoptr(value) cpus = value_builder_end(&one);
    libxl_bitmap_init(&map);
    gboolean done = take_cpus(op, cpus, &map, f);
    libxl_bitmap_dispose(&map);
    int rc = done ? libxl_cpupool_cpuadd(op->ctx, info->poolid, (int) value_as_int(value_get(params, "cpu"))) : 0;
    return rc == 0 ? done : xen_op_fault(op, rc, value_get_str(params, "uuid", ""), "cpupool_cpuadd", f);
}

static gboolean remove_cpu(struct xen_op *op, struct value *params, const libxl_cpupoolinfo *info, struct fault *f)
{
    gint64 cpu = value_as_int(value_get(params, "cpu"));
    if (cpu < 0 || cpu > G_MAXINT || !libxl_bitmap_test(&info->cpumap, (int) cpu))
        return fault_set(f, "OPERATION_NOT_ALLOWED", "The processor does not belong to this CPU pool", NULL);
    if (info->n_dom > 0 && libxl_bitmap_count_set(&info->cpumap) < 2)
        return fault_set(f, "OPERATION_NOT_ALLOWED", "This is the last processor of a CPU pool with running domains",
                         NULL);
    int rc = libxl_cpupool_cpuremove(op->ctx, info->poolid, (int) cpu);
    return rc == 0 || xen_op_fault(op, rc, value_get_str(params, "uuid", ""), "cpupool_cpuremove", f);
}

/* ---- requests ---- */

/* Changes the pool that params.uuid names, and answers what there is then. */
static struct value *change(struct helper_request *req,
                            gboolean (*fn)(struct xen_op *op, struct value *params, const libxl_cpupoolinfo *info,
                                           struct fault *f),
                            struct fault *f)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    libxl_cpupoolinfo info;
    if (!xen_op_begin(&op, req, f))
        return NULL;
    g_mutex_lock(&lock);
    gboolean done =
        xen_pool_find(&op, value_get_str(req->params, "uuid", ""), &info, f) && fn(&op, req->params, &info, f);
    libxl_cpupoolinfo_dispose(&info);
    struct value *result = done ? look(&op, f) : NULL;
    g_mutex_unlock(&lock);
    return result;
}

struct value *xen_pool_create(struct helper_request *req, struct fault *f)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    if (!xen_op_begin(&op, req, f))
        return NULL;
    g_mutex_lock(&lock);
    struct value *result = create(&op, req->params, f) ? look(&op, f) : NULL;
    g_mutex_unlock(&lock);
    return result;
}

struct value *xen_pool_destroy(struct helper_request *req, struct fault *f)
{
    return change(req, destroy, f);
}

struct value *xen_pool_add_cpu(struct helper_request *req, struct fault *f)
{
    return change(req, add_cpu, f);
}

struct value *xen_pool_remove_cpu(struct helper_request *req, struct fault *f)
{
    return change(req, remove_cpu, f);
}

struct value *xen_domain_set_pool(struct helper_request *req, struct fault *f)
{
    const char *pool = value_get_str(req->params, "pool", "");
    g_auto(xen_op) op = XEN_OP_INIT;
    libxl_cpupoolinfo info;
    struct xen_domain d;
    if (!xen_find(req->params, XEN_ALIVE, &d, f) || !xen_op_begin(&op, req, f))
        return NULL;
    g_mutex_lock(&lock);
    gboolean found = xen_pool_find(&op, pool, &info, f);
    if (found && libxl_bitmap_is_empty(&info.cpumap))
        found = fault_set(f, "POOL_BAD_STATE", pool, "activated", "without processors", NULL);
    int rc = found ? libxl_cpupool_movedomain(op.ctx, info.poolid, (guint32) d.domid) : 0;
    libxl_cpupoolinfo_dispose(&info);
    g_mutex_unlock(&lock);
    if (rc != 0)
        xen_op_fault(&op, rc, d.uuid, "cpupool_movedomain", f);
    xen_watch_tell(d.domid);
    return found && rc == 0 ? value_empty_map() : NULL;
}
