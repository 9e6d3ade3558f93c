/* generic.c - the handlers of the messages that every class has (see model_implicit.c), and of those that have none. */
#include "daemon/call.h"
#include "xapi-classes/model/expr.h"
#include "xapi-classes/model/generic_list.h"
#include "xapi-classes/handlers.h"

struct value *unbuilt(struct call *c)
{
    return call_fail(c, "NOT_IMPLEMENTED", c->msg->full_name, NULL);
}

struct value *removed(struct call *c)
{
    return call_fail(c, "MESSAGE_REMOVED", NULL);
}

/* ---- reading one object ---- */

struct value *generic_get(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    return r ? value_ref(record_field(r, c->msg->field->index)) : NULL;
}

struct value *generic_get_record(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    return r ? record_value(r) : NULL;
}

struct value *generic_get_by_uuid(struct call *c)
{
    const struct class *class = c->msg->class;
    g_autoptr(record) r = store_get_by_uuid(the_store(), class->id, call_str(c, 0));
    if (!r)
        return call_fail(c, "UUID_INVALID", class->name, call_str(c, 0), NULL);
    return value_string(NULL, r->ref);
}

/* ---- reading a class ---- */

static gboolean chosen(const struct record *r, const struct expr *e)
{
    return !e || expr_matches(e, r);
}

/* The references of the chosen records; without an expression, of all. */
static struct value *refs_of(GPtrArray *records, const struct expr *e)
{
    struct value_builder b;
    value_builder_set(&b, NULL, e ? 8 : records->len);
    for (guint i = 0; i < records->len; i++) {
        struct record *r = g_ptr_array_index(records, i);
        if (chosen(r, e))
            value_builder_add_string(&b, r->ref);
    }
    return value_builder_end(&b);
}

struct value *generic_records_of(GPtrArray *records, const struct expr *e)
{
    struct value_builder b;
    value_builder_map(&b, NULL, e ? 8 : records->len);
    for (guint i = 0; i < records->len; i++) {
        struct record *r = g_ptr_array_index(records, i);
        if (chosen(r, e))
            value_builder_put(&b, r->ref, record_value(r));
    }
    return value_builder_end(&b);
}

static GPtrArray *all_of(const struct class *class)
{
    return class->all ? class->all() : store_all(the_store(), class->id);
}

struct value *generic_get_by_name_label(struct call *c)
{
    g_autoptr(GPtrArray) records = store_by_name(the_store(), c->msg->class->id, call_str(c, 0));
    return refs_of(records, NULL);
}

struct value *generic_get_all(struct call *c)
{
    g_autoptr(GPtrArray) records = all_of(c->msg->class);
    return refs_of(records, NULL);
}

struct value *generic_get_all_records(struct call *c)
{
    struct value *list = generic_list(c->msg->class->id);
    if (list)
        return list;
    g_autoptr(GPtrArray) records = all_of(c->msg->class);
    return generic_records_of(records, NULL);
}

struct value *generic_get_all_where(struct call *c)
{
    g_autoptr(expr) e = expr_parse(c->msg->class, call_str(c, 0), &c->fault);
    if (!e)
        return NULL;
    g_autoptr(GPtrArray) records = all_of(c->msg->class);
    return refs_of(records, e);
}

struct value *generic_get_all_records_where(struct call *c)
{
    g_autoptr(expr) e = expr_parse(c->msg->class, call_str(c, 0), &c->fault);
    if (!e)
        return NULL;
    g_autoptr(GPtrArray) records = all_of(c->msg->class);
    return generic_records_of(records, e);
}

/* ---- references that a client hands in ---- */

static gboolean ref_exists(struct txn *t, enum class_id class, const char *ref)
{
    return class == CLASS_NONE ? txn_get_any(t, ref) != NULL : txn_get(t, class, ref) != NULL;
}

/* HANDLE_INVALID for a reference in v that is neither NULL nor an object's. */
static gboolean refs_exist(struct call *c, struct txn *t, const struct type *type, const struct value *v)
{
    switch (type->kind) {
    case TYPE_REF:
        if (ref_is_null(value_str(v)) || ref_exists(t, type->class, value_str(v)))
            return TRUE;
        call_fail(c, "HANDLE_INVALID", type->class == CLASS_NONE ? "" : class_by_id(type->class)->name, value_str(v),
                  NULL);
        return FALSE;
    case TYPE_SET:
        for (gsize i = 0; i < value_count(v); i++)
            if (!refs_exist(c, t, type->elem, value_at(v, i)))
                return FALSE;
        return TRUE;
    case TYPE_MAP:
        for (gsize i = 0; i < value_count(v); i++)
            if (!refs_exist(c, t, type->key, v->u.map.m[i].key) || !refs_exist(c, t, type->elem, v->u.map.m[i].value))
                return FALSE;
        return TRUE;
    default:
        return TRUE;
    }
}

/* ---- writing a field ---- */

/* Ends a write: v is the field's new value (taken over), or NULL when the call has failed. */
static struct value *finish_write(struct call *c, struct txn *t, struct value *v)
{
    if (!v) {
        txn_abort(t);
        return NULL;
    }
    txn_set(t, c->msg->class->id, call_str(c, 0), c->msg->field->index, v);
    call_commit(c, t);
    return value_void();
}

struct value *generic_set(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct value *v = call_arg(c, 1);
    if (!call_txn_object(c, t, 0) || !refs_exist(c, t, c->msg->field->type, v))
        return finish_write(c, t, NULL);
    return finish_write(c, t, value_ref(v));
}

struct value *generic_add_to(struct call *c)
{
    const struct field *f = c->msg->field;
    const struct class *class = c->msg->class;
    const char *key = call_str(c, 1);
    struct txn *t = txn_begin(the_store());
    struct record *r = call_txn_object(c, t, 0);
    if (!r || !refs_exist(c, t, f->type->elem, call_arg(c, 2)))
        return finish_write(c, t, NULL);
    struct value *map = record_field(r, f->index);
    if (value_get(map, key)) {
        const char *who = class->uuid_field >= 0 ? record_str(r, class->uuid_field) : r->ref;
        call_fail(c, "MAP_DUPLICATE_KEY", class->name, f->name, who, key, NULL);
        return finish_write(c, t, NULL);
    }
    return finish_write(c, t, value_map_with(map, key, value_ref(call_arg(c, 2))));
}

struct value *generic_remove_from(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *r = call_txn_object(c, t, 0);
    if (!r)
        return finish_write(c, t, NULL);
    return finish_write(c, t, value_map_without(record_field(r, c->msg->field->index), call_str(c, 1)));
}

struct value *generic_add(struct call *c)
{
    const struct field *f = c->msg->field;
    struct txn *t = txn_begin(the_store());
    struct record *r = call_txn_object(c, t, 0);
    if (!r || !refs_exist(c, t, f->type->elem, call_arg(c, 1)))
        return finish_write(c, t, NULL);
    return finish_write(c, t, value_set_with(record_field(r, f->index), call_str(c, 1)));
}

struct value *generic_remove(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *r = call_txn_object(c, t, 0);
    if (!r)
        return finish_write(c, t, NULL);
    return finish_write(c, t, value_set_without(record_field(r, c->msg->field->index), call_str(c, 1)));
}

/* ---- objects ---- */

/* What a constructor may say is RO/constructor and RW; the rest of the record is the daemon's own business. */
static gboolean set_from_record(struct call *c, struct txn *t, const char *ref, const struct value *args)
{
    const struct class *class = c->msg->class;
    for (gsize i = 0; i < value_count(args); i++) {
        const struct value_member *m = &args->u.map.m[i];
        const struct field *f = class_field(class, value_str(m->key));
        if (!f || f->qualifier == RO)
            continue;
        if (!refs_exist(c, t, f->type, m->value))
            return FALSE;
        txn_set(t, class->id, ref, f->index, value_ref(m->value));
    }
    return TRUE;
}

struct value *generic_create_in(struct call *c, struct txn *t, const char *uuid)
{
    const char *ref = txn_create(t, c->msg->class->id, NULL, uuid);
    return set_from_record(c, t, ref, call_arg(c, 0)) ? value_string(NULL, ref) : NULL;
}

struct value *generic_create(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct value *result = generic_create_in(c, t, NULL);
    if (!result) {
        txn_abort(t);
        return NULL;
    }
    call_commit(c, t);
    return result;
}

struct value *generic_destroy(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    if (!call_txn_object(c, t, 0)) {
        txn_abort(t);
        return NULL;
    }
    txn_destroy(t, c->msg->class->id, call_str(c, 0));
    call_commit(c, t);
    return value_void();
}
