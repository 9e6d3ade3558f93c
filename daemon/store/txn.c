/* txn.c - transactions: an overlay of changed records over the store, until commit puts them in place. */
#include "daemon/store/store_internal.h"

#include <string.h>

/* ---- pending objects ---- */

static void pending_free(void *data)
{
    struct pending *p = data;
    record_unref(p->old);
    record_unref(p->now);
    record_unref(p->synced);
    key_unref(p->key);
    g_free(p);
}

static void unref_record(void *r)
{
    record_unref(r);
}

struct txn *txn_new(struct store *s)
{
    struct txn *t = g_new0(struct txn, 1);
    t->store = s;
    t->overlay = g_hash_table_new(g_str_hash, g_str_equal);
    t->pendings = g_ptr_array_new_with_free_func(pending_free);
    t->old = g_ptr_array_new_with_free_func(unref_record);
    return t;
}

void txn_free(struct txn *t)
{
    g_hash_table_destroy(t->overlay);
    g_ptr_array_unref(t->pendings);
    g_ptr_array_unref(t->old);
    g_free(t);
}

static struct pending *pending_new(struct txn *t, const struct class *class, struct key *key)
{
    struct pending *p = g_new0(struct pending, 1);
    p->class = class;
    p->key = key_ref(key);
    g_ptr_array_add(t->pendings, p);
    g_hash_table_insert(t->overlay, (char *) value_str(key->text), p);
    return p;
}

struct pending *txn_pending(struct txn *t, const char *ref)
{
    if (ref == NULL)
        return NULL;
    struct pending *p = g_hash_table_lookup(t->overlay, ref);
    if (p != NULL)
        return p;
    struct record *r = store_get_any(t->store, ref);
    if (r == NULL)
        return NULL;
    p = pending_new(t, r->class, r->key);
    p->old = r;
    p->now = record_ref(r);
    p->synced = record_ref(r);
    return p;
}

struct pending *txn_add(struct txn *t, struct record *now)
{
    struct pending *p = g_hash_table_lookup(t->overlay, now->ref);
    if (p == NULL)
        p = pending_new(t, now->class, now->key);
    p->now = now;
    p->lent = FALSE;
    p->derive_due = p->mirror_due = TRUE;
    return p;
}

/* Lets go of its record; what was lent stays valid until the transaction ends. */
static struct record *pending_take(struct txn *t, struct pending *p)
{
    struct record *r = p->now;
    if (p->lent)
        g_ptr_array_add(t->old, record_ref(r));
    p->now = NULL;
    p->lent = FALSE;
    return r;
}

struct record *txn_writable(struct txn *t, struct pending *p)
{
    if (p->lent || g_atomic_int_get(&p->now->refs) > 1) {
        struct record *copy = record_copy(p->now);
        record_unref(pending_take(t, p));
        p->now = copy;
    }
    p->derive_due = TRUE;
    return p->now;
}

void txn_remove(struct txn *t, struct pending *p)
{
    record_unref(pending_take(t, p));
    p->mirror_due = TRUE;
}

/* ---- begin and end ---- */

struct txn *txn_begin(struct store *s)
{
    if (g_atomic_pointer_get(&s->writer) == g_thread_self())
        g_error("a transaction was begun inside another");
    g_mutex_lock(&s->writers);
    g_atomic_pointer_set(&s->writer, g_thread_self());
    return txn_new(s);
}

void txn_abort(struct txn *t)
{
    struct store *s = t->store;
    g_atomic_pointer_set(&s->writer, NULL);
    g_mutex_unlock(&s->writers);
    txn_free(t);
}

/* ---- reading ---- */

struct record *txn_get_any(struct txn *t, const char *ref)
{
    struct pending *p = txn_pending(t, ref);
    if (p == NULL || p->now == NULL)
        return NULL;
    p->lent = TRUE;
    return p->now;
}

struct record *txn_get(struct txn *t, enum class_id class, const char *ref)
{
    struct record *r = txn_get_any(t, ref);
    return r != NULL && r->class->id == class ? r : NULL;
}

GPtrArray *txn_all(struct txn *t, enum class_id class)
{
    const struct class_index *index = &t->store->classes[class];
    GPtrArray *all = g_ptr_array_new_full(index->all.length, unref_record);
    /* Only a transaction changes this list, and this is the only one. */
    for (GList *l = index->all.head; l != NULL; l = l->next) {
        struct object *o = l->data;
        struct pending *p = g_hash_table_lookup(t->overlay, value_str(o->key->text));
        struct record *r = p != NULL ? p->now : o->record;
        if (r != NULL)
            g_ptr_array_add(all, record_ref(r));
    }
    for (guint i = 0; i < t->pendings->len; i++) {
        struct pending *p = t->pendings->pdata[i];
        if (p->old == NULL && p->now != NULL && p->class->id == class)
            g_ptr_array_add(all, record_ref(p->now));
    }
    return all;
}

/* ---- changing ---- */

const char *txn_create(struct txn *t, enum class_id class, const char *ref, const char *uuid)
{
    const struct class *c = class_by_id(class);
    char made_uuid[UUID_SIZE], made_ref[REF_SIZE];
    if (uuid == NULL) {
        uuid_generate_text(made_uuid);
        uuid = made_uuid;
    }
    gboolean given = ref != NULL;
    if (!given) {
        char text[UUID_SIZE];
        uuid_generate_text(text);
        g_snprintf(made_ref, sizeof(made_ref), "OpaqueRef:%s", text);
        ref = made_ref;
    }
    struct pending *p = txn_pending(t, ref);
    if (p != NULL && (p->now != NULL || p->class != c)) {
        g_critical("%s %s is there already", p->class->name, ref);
        return value_str(p->key->text);
    }
    struct key *key = p != NULL ? key_ref(p->key) : key_new(ref, t->store->next_order++);
    struct record *r = record_new(c, key);
    if (p != NULL && p->old != NULL)
        r->created = p->old->created;
    if (c->uuid_field >= 0)
        record_put(r, c->uuid_field, value_string(NULL, uuid));
    p = txn_add(t, r);
    p->given_ref = given;
    key_unref(key);
    return r->ref;
}

/* Whether a value has the form that codecs expect of the type; what is inside of it is the caller's affair. */
static gboolean value_suits(const struct type *type, const struct value *v)
{
    switch (type->kind) {
    case TYPE_STRING:
    case TYPE_ENUM:
    case TYPE_REF:
        return v->type == VALUE_STRING;
    case TYPE_INT:
        return v->type == VALUE_INT;
    case TYPE_FLOAT:
        return v->type == VALUE_FLOAT;
    case TYPE_BOOL:
        return v->type == VALUE_BOOL;
    case TYPE_DATETIME:
        return v->type == VALUE_DATETIME;
    case TYPE_SET:
        return v->type == VALUE_SET;
    case TYPE_MAP:
        return v->type == VALUE_MAP;
    default:
        return TRUE;
    }
}

/* The object and field that a setter is about; NULL, with a message for whoever wrote the call, when it is wrong. */
static struct pending *pending_for_field(struct txn *t, enum class_id class, const char *ref, int field)
{
    const struct class *c = class_by_id(class);
    struct pending *p = txn_pending(t, ref);
    if (p == NULL || p->now == NULL || p->class != c) {
        g_critical("no %s %s to change", c->name, ref != NULL ? ref : "(null)");
        return NULL;
    }
    if (field < 0 || field >= c->n_fields || c->fields[field].mirrors) {
        g_critical("field %d of %s cannot be set", field, c->name);
        return NULL;
    }
    return p;
}

/* Takes over v. */
static void pending_set(struct txn *t, struct pending *p, int field, struct value *v)
{
    const struct field *f = &p->class->fields[field];
    if (!value_suits(f->type, v)) {
        g_critical("%s.%s: a value of the wrong type", p->class->name, f->name);
        value_unref(v);
        return;
    }
    if (v == p->now->fields[field] || value_equal(v, p->now->fields[field])) {
        t->leaned |= !f->ephemeral && !(p->class->flags & EPHEMERAL);
        value_unref(v);
        return;
    }
    record_put(txn_writable(t, p), field, v);
    if (f->type->kind == TYPE_REF && class_mirrors_field(p->class->id, field))
        p->mirror_due = TRUE;
}

void txn_set(struct txn *t, enum class_id class, const char *ref, int field, struct value *v)
{
    /* The store keeps heap values only. */
    struct value *kept = value_ref(v);
    value_unref(v);
    struct pending *p = pending_for_field(t, class, ref, field);
    if (p != NULL)
        pending_set(t, p, field, kept);
    else
        value_unref(kept);
}

void txn_set_str(struct txn *t, enum class_id class, const char *ref, int field, const char *s)
{
    txn_set(t, class, ref, field, value_string(NULL, s));
}

void txn_set_int(struct txn *t, enum class_id class, const char *ref, int field, gint64 i)
{
    txn_set(t, class, ref, field, value_int(NULL, i));
}

void txn_set_bool(struct txn *t, enum class_id class, const char *ref, int field, gboolean b)
{
    txn_set(t, class, ref, field, value_bool(b));
}

void txn_set_float(struct txn *t, enum class_id class, const char *ref, int field, double d)
{
    txn_set(t, class, ref, field, value_float(NULL, d));
}

void txn_set_time(struct txn *t, enum class_id class, const char *ref, int field, gint64 epoch_seconds)
{
    txn_set(t, class, ref, field, value_datetime(NULL, epoch_seconds));
}

void txn_put_key(struct txn *t, enum class_id class, const char *ref, int field, const char *key, const char *value)
{
    struct pending *p = pending_for_field(t, class, ref, field);
    if (p != NULL)
        pending_set(t, p, field, value_map_with(p->now->fields[field], key, value_string(NULL, value)));
}

void txn_remove_key(struct txn *t, enum class_id class, const char *ref, int field, const char *key)
{
    struct pending *p = pending_for_field(t, class, ref, field);
    if (p != NULL)
        pending_set(t, p, field, value_map_without(p->now->fields[field], key));
}

void txn_destroy(struct txn *t, enum class_id class, const char *ref)
{
    struct pending *p = txn_pending(t, ref);
    if (p == NULL || p->now == NULL || p->class->id != class) {
        g_critical("no %s %s to destroy", class_by_id(class)->name, ref != NULL ? ref : "(null)");
        return;
    }
    txn_remove(t, p);
}

void txn_touch(struct txn *t, enum class_id class, const char *ref)
{
    struct pending *p = txn_pending(t, ref);
    if (p == NULL || p->now == NULL || p->class->id != class) {
        g_critical("no %s %s to touch", class_by_id(class)->name, ref != NULL ? ref : "(null)");
        return;
    }
    txn_writable(t, p);
    p->touched = TRUE;
}
