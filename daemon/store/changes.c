/* changes.c - the list of changes in the order of their generations, tombstones, and the walk that watchers make.
 *
 * An object enters the list, or moves to its end, when the commit that changed it is durable: what is in the list may
 * be seen, and nothing of an undone commit ever gets there. */
#include "daemon/store/store_internal.h"

#include <string.h>

/* ---- the list ---- */

static void entry_clear(struct entry *e)
{
    g_clear_pointer(&e->key, key_unref);
    g_clear_pointer(&e->uuid, value_unref);
    g_clear_pointer(&e->record, record_unref);
}

static void entry_unlist(struct store *s, struct entry *e)
{
    g_queue_unlink(&s->changes, &e->link);
    e->listed = FALSE;
}

static void entry_list(struct store *s, struct entry *e, guint64 generation)
{
    e->generation = generation;
    e->link = (GList){.data = e};
    e->listed = TRUE;
    g_queue_push_tail_link(&s->changes, &e->link);
}

static void drop_oldest_tombstone(struct store *s)
{
    GList *l = g_queue_pop_head_link(&s->graves);
    struct entry *e = l->data;
    s->oldest_tombstone = e->generation;
    entry_unlist(s, e);
    entry_clear(e);
    g_free(e);
}

/* What was shown becomes a tombstone. One that no watcher can have seen yet needs none. */
static void bury(struct store *s, struct entry *shown, guint64 generation)
{
    entry_unlist(s, shown);
    if (shown->created > s->visible) {
        entry_clear(shown);
        return;
    }
    struct entry *e = g_new0(struct entry, 1);
    e->class = shown->class;
    e->created = shown->created;
    e->key = g_steal_pointer(&shown->key);
    e->uuid = g_steal_pointer(&shown->uuid);
    g_clear_pointer(&shown->record, record_unref);
    entry_list(s, e, generation);
    e->grave = (GList){.data = e};
    g_queue_push_tail_link(&s->graves, &e->grave);
    while (s->graves.length > s->max_tombstones)
        drop_oldest_tombstone(s);
}

void changes_show(struct store *s, struct object *o, struct record *record, guint64 generation)
{
    struct entry *e = &o->shown;
    if (o->class->flags & NO_EVENTS)
        return;
    if (record == NULL) {
        if (e->listed)
            bury(s, e, generation);
        return;
    }
    if (e->listed)
        entry_unlist(s, e);
    record_ref(record);
    entry_clear(e);
    e->record = record;
    e->class = record->class;
    e->key = key_ref(record_key_of(record));
    if (record->class->uuid_field >= 0)
        e->uuid = value_ref(record->fields[record->class->uuid_field]);
    e->created = record->created;
    entry_list(s, e, generation);
}

void changes_show_commit(struct store *s, struct commit *c)
{
    for (gsize i = 0; i < c->n; i++) {
        struct object *o = c->changes[i].object;
        changes_show(s, o, c->changes[i].now, c->generation);
        store_unpin(s, o);
    }
}

void changes_clear(struct store *s)
{
    GList *l;
    while ((l = g_queue_pop_head_link(&s->graves)) != NULL) {
        struct entry *e = l->data;
        entry_clear(e);
        g_free(e);
    }
}

void object_hide(struct object *o)
{
    entry_clear(&o->shown);
}

/* ---- walking ---- */

guint64 store_generation(struct store *s)
{
    store_read_lock(s);
    guint64 visible = s->visible;
    store_unlock(s);
    return visible;
}

guint64 store_oldest_tombstone(struct store *s)
{
    store_read_lock(s);
    guint64 oldest = s->oldest_tombstone;
    store_unlock(s);
    return oldest;
}

/* A change with references to all that it speaks of. */
struct seen {
    struct store_change change;
    struct key *key;
    struct value *uuid;
};

static void seen_clear(void *data)
{
    struct seen *seen = data;
    record_unref(seen->change.record);
    key_unref(seen->key);
    value_unref(seen->uuid);
}

static void see(GArray *all, const struct entry *e)
{
    struct seen seen = {
        .change =
            {
                .class = e->class,
                .ref = value_str(e->key->text),
                .uuid = value_str(e->uuid),
                .generation = e->generation,
                .created = e->created,
                .record = e->record != NULL ? record_ref(e->record) : NULL,
            },
        .key = key_ref(e->key),
        .uuid = e->uuid != NULL ? value_ref(e->uuid) : NULL,
    };
    g_array_append_val(all, seen);
}

guint64 store_walk(struct store *s, guint64 since, store_change_fn *fn, void *data)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct seen));
    g_array_set_clear_func(all, seen_clear);
    store_read_lock(s);
    for (GList *l = s->changes.tail; l != NULL; l = l->prev) {
        const struct entry *e = l->data;
        if (e->generation <= since)
            break;
        if (e->record != NULL || e->created <= since)
            see(all, e);
    }
    guint64 visible = s->visible;
    store_unlock(s);
    /* Outside the lock: what a watcher does with a change may take its time. */
    for (guint i = all->len; i > 0; i--)
        fn(&g_array_index(all, struct seen, i - 1).change, data);
    return visible;
}

/* ---- telling watchers: on a thread of its own, so that neither a commit nor the journal waits for them ---- */

void classes_add(guint64 changed[CLASS_WORDS], const struct commit *c)
{
    for (gsize i = 0; i < c->n; i++) {
        const struct class *class = change_class(&c->changes[i]);
        if (!(class->flags & NO_EVENTS))
            changed[class->id / 64] |= (guint64) 1 << (class->id % 64);
    }
}

static gboolean any_class(const guint64 changed[CLASS_WORDS])
{
    for (int i = 0; i < CLASS_WORDS; i++)
        if (changed[i] != 0)
            return TRUE;
    return FALSE;
}

void notify_classes(struct store *s, const guint64 changed[CLASS_WORDS])
{
    if (!any_class(changed))
        return;
    g_mutex_lock(&s->notify_lock);
    if (s->notify != NULL) {
        for (int i = 0; i < CLASS_WORDS; i++)
            s->dirty[i] |= changed[i];
        g_cond_signal(&s->notify_cond);
    }
    g_mutex_unlock(&s->notify_lock);
}

static gpointer notify_main(gpointer data)
{
    struct store *s = data;
    g_mutex_lock(&s->notify_lock);
    for (;;) {
        while (!s->notify_stop && !any_class(s->dirty))
            g_cond_wait(&s->notify_cond, &s->notify_lock);
        if (!any_class(s->dirty))
            break;
        guint64 changed[CLASS_WORDS];
        memcpy(changed, s->dirty, sizeof(changed));
        memset(s->dirty, 0, sizeof(s->dirty));
        g_mutex_unlock(&s->notify_lock);
        s->notify(changed, s->notify_data);
        g_mutex_lock(&s->notify_lock);
    }
    g_mutex_unlock(&s->notify_lock);
    return NULL;
}

void store_set_notify(struct store *s, store_notify_fn *fn, void *data)
{
    g_return_if_fail(s->notify == NULL && fn != NULL);
    g_mutex_lock(&s->notify_lock);
    s->notify = fn;
    s->notify_data = data;
    s->notify_thread = g_thread_new("store-notify", notify_main, s);
    g_mutex_unlock(&s->notify_lock);
}

void notify_stop(struct store *s)
{
    if (s->notify_thread == NULL)
        return;
    g_mutex_lock(&s->notify_lock);
    s->notify_stop = TRUE;
    g_cond_signal(&s->notify_cond);
    g_mutex_unlock(&s->notify_lock);
    g_thread_join(s->notify_thread);
}
