/* storage_coalesce.c - sr.coalesce_look and sr.coalesce: images that nobody needs any more by themselves are merged. */
#include "config.h"
#include "xenbackend/storage/storage_private.h"

static GMutex lock; /* guards coalescing of all SRs */

/* One at a time for each SR: FALSE when one is under way, maybe of a front that has gone. */
static gboolean begin(struct storage_sr *s)
{
    g_mutex_lock(&lock);
    gboolean free = !s->coalescing;
    s->coalescing = TRUE;
    g_mutex_unlock(&lock);
    return free;
}

/* TRUE when it was stopped, also before it had begun. */
static gboolean end(struct storage_sr *s)
{
    g_mutex_lock(&lock);
    s->coalescing = FALSE;
    gboolean stopped = g_atomic_int_get(&s->stop_coalescing) != 0;
    g_atomic_int_set(&s->stop_coalescing, 0);
    g_mutex_unlock(&lock);
    return stopped;
}

gboolean storage_may_coalesce(const struct storage_sr *s)
{
    return s->driver->may_coalesce != NULL && s->driver->may_coalesce(s->sr);
}

void storage_stop_coalescing(void *sr)
{
    struct storage_sr *s = sr;
    g_atomic_int_set(&s->stop_coalescing, 1);
}

struct value *storage_sr_coalesce_look(struct helper_request *req, struct fault *f)
{
    g_autoptr(storage_sr) s = storage_sr_get(value_get_str(req->params, "sr", ""), f);
    g_autoptr(GPtrArray) vdis = g_ptr_array_new_with_free_func(g_free);
    if (s == NULL)
        return NULL;
    if (storage_may_coalesce(s) && begin(s)) {
        gboolean looked = s->driver->coalesce_look(s->sr, vdis, f);
        end(s);
        if (!looked)
            return NULL;
    }
    struct value_builder set, b;
    value_builder_set(&set, NULL, vdis->len);
    for (guint i = 0; i < vdis->len; i++)
        value_builder_add_string(&set, vdis->pdata[i]);
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "vdis", value_builder_end(&set));
    return value_builder_end(&b);
}

static GHashTable *set_of(const struct helper_request *req, const char *key)
{
    GHashTable *set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    struct value *uuids = value_get(req->params, key);
    for (gsize i = 0; i < value_count(uuids); i++)
        g_hash_table_add(set, g_strdup(value_str(value_at(uuids, i))));
    return set;
}

static gboolean coalesce(struct helper_request *req, struct storage_sr *s, GPtrArray *changed, struct fault *f)
{
    g_autoptr(GHashTable) idle = set_of(req, "idle"), merge = set_of(req, "merge");
    const struct storage_coalesce who = {.idle = idle, .merge = merge};
    const struct storage_job job = {.cancel = &s->stop_coalescing};
    helper_on_cancel(req, storage_stop_coalescing, s);
    gboolean done = s->driver->coalesce(s->sr, &who, &job, changed, f);
    helper_off_cancel(req);
    return done;
}

struct value *storage_sr_coalesce(struct helper_request *req, struct fault *f)
{
    g_autoptr(storage_sr) s = storage_sr_get(value_get_str(req->params, "sr", ""), f);
    g_autoptr(GPtrArray) changed = g_ptr_array_new_with_free_func((GDestroyNotify) storage_vdi_free);
    if (s == NULL)
        return NULL;
    if (!storage_may_coalesce(s) || !begin(s))
        return value_empty_map();
    gboolean done = coalesce(req, s, changed, f);
    gboolean again = end(s);
    storage_tell_space(s);
    if (!done)
        return NULL;
    struct value_builder set, b;
    value_builder_set(&set, NULL, changed->len);
    for (guint i = 0; i < changed->len; i++)
        value_builder_add(&set, storage_vdi_value(changed->pdata[i], FALSE));
    value_builder_map(&b, NULL, 2);
    value_builder_put(&b, "vdis", value_builder_end(&set));
    value_builder_put(&b, "again", value_bool(again));
    return value_builder_end(&b);
}
