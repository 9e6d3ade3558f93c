/* store.c - the store: opening and loading, what readers see, and the indexes by reference, uuid and name. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* rwlock kinds */
#endif
#include "daemon/store/store_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* ---- indexes ---- */

static void queue_insert_by_order(GQueue *q, GList *link, const struct object *o)
{
    /* Nearly always at the end: only an undo brings back older ones. */
    GList *after = q->tail;
    while (after != NULL && ((const struct object *) after->data)->key->order > o->key->order)
        after = after->prev;
    if (after == NULL)
        g_queue_push_head_link(q, link);
    else
        g_queue_insert_after_link(q, after, link);
}

static void bucket_free(void *data)
{
    struct bucket *b = data;
    value_unref(b->name);
    g_free(b);
}

static void name_add(struct class_index *index, struct object *o, struct value *name)
{
    struct bucket *b = g_hash_table_lookup(index->by_name, value_str(name));
    if (b == NULL) {
        b = g_new(struct bucket, 1);
        *b = (struct bucket){.name = value_ref(name), .objects = G_QUEUE_INIT};
        g_hash_table_insert(index->by_name, (char *) value_str(b->name), b);
    }
    o->in_name = (GList){.data = o};
    o->bucket = b;
    queue_insert_by_order(&b->objects, &o->in_name, o);
}

static void name_remove(struct class_index *index, struct object *o)
{
    struct bucket *b = g_steal_pointer(&o->bucket);
    g_queue_unlink(&b->objects, &o->in_name);
    if (b->objects.length == 0)
        g_hash_table_remove(index->by_name, value_str(b->name));
}

static void uuid_add(struct class_index *index, struct object *o, struct value *uuid)
{
    o->uuid = value_ref(uuid);
    g_hash_table_replace(index->by_uuid, (char *) value_str(uuid), o);
}

static void uuid_remove(struct class_index *index, struct object *o)
{
    if (g_hash_table_lookup(index->by_uuid, value_str(o->uuid)) == o)
        g_hash_table_remove(index->by_uuid, value_str(o->uuid));
    g_clear_pointer(&o->uuid, value_unref);
}

static void index_add(struct store *s, struct object *o, struct record *r)
{
    struct class_index *index = &s->classes[r->class->id];
    o->in_class = (GList){.data = o};
    queue_insert_by_order(&index->all, &o->in_class, o);
    if (r->class->uuid_field >= 0)
        uuid_add(index, o, r->fields[r->class->uuid_field]);
    if (r->class->name_field >= 0)
        name_add(index, o, r->fields[r->class->name_field]);
}

static void index_remove(struct store *s, struct object *o)
{
    struct class_index *index = &s->classes[o->class->id];
    g_queue_unlink(&index->all, &o->in_class);
    if (o->uuid != NULL)
        uuid_remove(index, o);
    if (o->bucket != NULL)
        name_remove(index, o);
}

static void index_update(struct store *s, struct object *o, struct record *r)
{
    struct class_index *index = &s->classes[o->class->id];
    if (o->uuid != NULL && o->uuid != r->fields[r->class->uuid_field]) {
        uuid_remove(index, o);
        uuid_add(index, o, r->fields[r->class->uuid_field]);
    }
    if (o->bucket != NULL && !value_equal(o->bucket->name, r->fields[r->class->name_field])) {
        name_remove(index, o);
        name_add(index, o, r->fields[r->class->name_field]);
    }
}

/* ---- objects ---- */

static struct object *object_for(struct store *s, struct record *r)
{
    struct object *o = g_hash_table_lookup(s->by_ref, r->ref);
    if (o == NULL)
        o = g_new0(struct object, 1);
    if (o->record == NULL) {
        struct key *key = key_ref(record_key_of(r));
        g_hash_table_replace(s->by_ref, (char *) value_str(key->text), o);
        key_unref(o->key);
        o->key = key;
        o->class = r->class;
    }
    return o;
}

static void place(struct store *s, struct change *c)
{
    struct object *o = object_for(s, c->now != NULL ? c->now : c->old);
    struct record *before = o->record;
    if (before == NULL && c->now != NULL)
        index_add(s, o, c->now);
    else if (before != NULL && c->now == NULL)
        index_remove(s, o);
    else if (before != NULL)
        index_update(s, o, c->now);
    o->record = c->now != NULL ? record_ref(c->now) : NULL;
    s->classes[o->class->id].version++;
    /* Never the last reference: the commit has one. */
    record_unref(before);
    o->pins++;
    c->object = o;
}

void store_place(struct store *s, struct commit *c)
{
    for (gsize i = 0; i < c->n; i++)
        place(s, &c->changes[i]);
}

static void object_free(struct object *o)
{
    object_hide(o);
    record_unref(o->record);
    value_unref(o->uuid);
    key_unref(o->key);
    g_free(o);
}

void store_unpin(struct store *s, struct object *o)
{
    o->pins--;
    if (o->pins > 0 || o->record != NULL || o->shown.listed)
        return;
    g_hash_table_remove(s->by_ref, value_str(o->key->text));
    object_free(o);
}

/* ---- opening and closing ---- */

static void rwlock_init(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
#ifdef __GLIBC__
    /* Readers come without pause on a busy host: a commit must not wait until there is none. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(lock, &attr);
    pthread_rwlockattr_destroy(&attr);
}

static struct store *store_new(struct journal *journal)
{
    struct store *s = g_new0(struct store, 1);
    s->journal = journal;
    rwlock_init(&s->lock);
    s->by_ref = g_hash_table_new(g_str_hash, g_str_equal);
    for (int i = 0; i < N_CLASSES; i++) {
        s->classes[i].by_uuid = g_hash_table_new(g_str_hash, g_str_equal);
        s->classes[i].by_name = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, bucket_free);
    }
    s->max_tombstones = MAX_TOMBSTONES;
    g_mutex_init(&s->writers);
    g_mutex_init(&s->queue_lock);
    g_cond_init(&s->work);
    g_cond_init(&s->settled);
    g_mutex_init(&s->notify_lock);
    g_cond_init(&s->notify_cond);
    return s;
}

void store_set_max_tombstones(struct store *s, gsize n)
{
    s->max_tombstones = n;
}

static void store_free(struct store *s)
{
    GHashTableIter iter;
    gpointer o;
    g_hash_table_iter_init(&iter, s->by_ref);
    while (g_hash_table_iter_next(&iter, NULL, &o))
        object_free(o);
    g_hash_table_destroy(s->by_ref);
    for (int i = 0; i < N_CLASSES; i++) {
        g_hash_table_destroy(s->classes[i].by_uuid);
        g_hash_table_destroy(s->classes[i].by_name);
    }
    changes_clear(s);
    if (s->journal != NULL)
        s->journal->ops->close(s->journal);
    pthread_rwlock_destroy(&s->lock);
    g_mutex_clear(&s->writers);
    g_mutex_clear(&s->queue_lock);
    g_cond_clear(&s->work);
    g_cond_clear(&s->settled);
    g_mutex_clear(&s->notify_lock);
    g_cond_clear(&s->notify_cond);
    g_free(s);
}

static gboolean load_object(const char *ref, const char *class, const char *json, gsize len, void *data, GError **error)
{
    struct txn *t = data;
    const struct class *c = class_by_name(class);
    if (c == NULL || !(c->flags & (OBJECT | STORED))) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "the database holds a %s, which this program does not know", class);
        return FALSE;
    }
    if (c->flags & EPHEMERAL)
        return TRUE;
    struct key *key = key_new(ref, t->store->next_order++);
    struct record *r = record_from_journal(c, key, json, len, error);
    key_unref(key);
    if (r == NULL)
        return FALSE;
    txn_add(t, r);
    return TRUE;
}

static gboolean load_all(struct store *s, GError **error)
{
    struct txn *t = txn_new(s);
    gboolean ok = s->journal->ops->load(s->journal, load_object, t, error);
    if (ok) {
        /* All members are there: each mirror set is built once. */
        txn_sync_mirrors(t);
        struct commit *c = commit_collect(t);
        if (c != NULL) {
            commit_stamp(c, s->generation);
            store_place(s, c);
            changes_show_commit(s, c);
            commit_free(c);
        }
    }
    txn_free(t);
    return ok;
}

struct store *store_open(struct journal *journal, GError **error)
{
    struct store *s = store_new(journal);
    s->generation = s->visible = 1;
    if (journal != NULL && !load_all(s, error)) {
        store_free(s);
        return NULL;
    }
    journal_start(s);
    return s;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    journal_stop(s);
    notify_stop(s);
    store_free(s);
}

char *store_get_meta(struct store *s, const char *key)
{
    return s->journal != NULL ? s->journal->ops->get_meta(s->journal, key) : NULL;
}

gboolean store_set_meta(struct store *s, const char *key, const char *value, struct fault *f)
{
    return s->journal == NULL || s->journal->ops->set_meta(s->journal, key, value, f);
}

/* ---- readers ---- */

struct record *store_get_any(struct store *s, const char *ref)
{
    if (ref == NULL)
        return NULL;
    store_read_lock(s);
    struct object *o = g_hash_table_lookup(s->by_ref, ref);
    struct record *r = o != NULL && o->record != NULL ? record_ref(o->record) : NULL;
    store_unlock(s);
    return r;
}

struct record *store_get(struct store *s, enum class_id class, const char *ref)
{
    struct record *r = store_get_any(s, ref);
    if (r == NULL || r->class->id == class)
        return r;
    record_unref(r);
    return NULL;
}

struct record *store_get_by_uuid(struct store *s, enum class_id class, const char *uuid)
{
    if (uuid == NULL)
        return NULL;
    store_read_lock(s);
    struct object *o = g_hash_table_lookup(s->classes[class].by_uuid, uuid);
    struct record *r = o != NULL ? record_ref(o->record) : NULL;
    store_unlock(s);
    return r;
}

static void unref_record(void *r)
{
    record_unref(r);
}

/* The read lock is held. */
static GPtrArray *records_of(const GQueue *objects)
{
    GPtrArray *all = g_ptr_array_new_full(objects->length, unref_record);
    for (GList *l = objects->head; l != NULL; l = l->next)
        g_ptr_array_add(all, record_ref(((struct object *) l->data)->record));
    return all;
}

GPtrArray *store_all(struct store *s, enum class_id class)
{
    store_read_lock(s);
    GPtrArray *all = records_of(&s->classes[class].all);
    store_unlock(s);
    return all;
}

GPtrArray *store_by_name(struct store *s, enum class_id class, const char *name_label)
{
    static const GQueue none = G_QUEUE_INIT;
    store_read_lock(s);
    struct bucket *b = NULL;
    if (name_label != NULL)
        b = g_hash_table_lookup(s->classes[class].by_name, name_label);
    GPtrArray *all = records_of(b != NULL ? &b->objects : &none);
    store_unlock(s);
    return all;
}

guint64 store_class_version(struct store *s, enum class_id class)
{
    store_read_lock(s);
    guint64 version = s->classes[class].version;
    store_unlock(s);
    return version;
}

gsize store_count(struct store *s, enum class_id class)
{
    store_read_lock(s);
    gsize n = s->classes[class].all.length;
    store_unlock(s);
    return n;
}

/* ---- uuids ---- */

static void random_bytes(guint8 *bytes, gsize n)
{
    for (gsize got = 0; got < n;) {
        gssize r = getrandom(bytes + got, n - got, 0);
        if (r < 0 && errno != EINTR)
            g_error("getrandom: %s", g_strerror(errno));
        got += r > 0 ? (gsize) r : 0;
    }
}

void uuid_generate_text(char uuid[UUID_SIZE])
{
    guint8 b[16];
    random_bytes(b, sizeof(b));
    b[6] = (guint8) ((b[6] & 0x0f) | 0x40);
    b[8] = (guint8) ((b[8] & 0x3f) | 0x80);
    char *p = uuid;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = "0123456789abcdef"[b[i] >> 4];
        *p++ = "0123456789abcdef"[b[i] & 15];
    }
    *p = '\0';
}

gboolean uuid_is_valid(const char *text)
{
    if (text == NULL || strlen(text) != UUID_SIZE - 1)
        return FALSE;
    for (int i = 0; i < UUID_SIZE - 1; i++) {
        gboolean dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !g_ascii_isxdigit(text[i]))
            return FALSE;
    }
    return TRUE;
}
