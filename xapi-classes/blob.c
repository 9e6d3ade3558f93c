/* blob.c - the class blob: the records of binary data that is kept beside objects. */
#include "daemon/call.h"
#include "xapi-classes/transfers/blob_data.h"
#include "xapi-classes/handlers.h"

static const char *add_blob(struct txn *t, const char *name, struct value *mime_type, struct value *public)
{
    const char *ref = txn_create(t, CLASS_blob, NULL, NULL);
    const char *type = value_str(mime_type);
    txn_set_str(t, CLASS_blob, ref, F_blob_name_label, name);
    txn_set_str(t, CLASS_blob, ref, F_blob_mime_type, *type ? type : "application/octet-stream");
    txn_set(t, CLASS_blob, ref, F_blob_public, value_ref(public));
    return ref;
}

/* blob.create(mime_type, public). */
struct value *blob_create(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct value *ref = value_string(NULL, add_blob(t, "", call_arg(c, 0), call_arg(c, 1)));
    call_commit(c, t);
    return ref;
}

/* X.create_new_blob(x, name, mime_type, public), of every class that has blobs. */
struct value *blob_create_new(struct call *c)
{
    const struct class *class = c->msg->class;
    const struct field *blobs = class_field(class, "blobs");
    const char *name = call_str(c, 1);
    struct txn *t = txn_begin(the_store());
    struct record *owner = call_txn_object(c, t, 0);

    if (owner && value_get(record_field(owner, blobs->index), name))
        call_fail(c, "MAP_DUPLICATE_KEY", class->name, "blobs", record_str(owner, class->uuid_field), name, NULL);
    if (c->fault.code) {
        txn_abort(t);
        return NULL;
    }
    struct value *ref = value_string(NULL, add_blob(t, name, call_arg(c, 2), call_arg(c, 3)));
    txn_put_key(t, class->id, owner->ref, blobs->index, name, value_str(ref));
    call_commit(c, t);
    return ref;
}

/* ---- destroy ---- */

static void leave_owner(struct txn *t, const struct record *owner, int field, const char *blob)
{
    struct value *map = record_field(owner, field);
    for (gsize i = 0; i < value_count(map); i++) {
        const struct value_member *m = &map->u.map.m[i];
        if (strcmp(value_str(m->value), blob) == 0)
            txn_remove_key(t, owner->class->id, owner->ref, field, value_str(m->key));
    }
}

/* Blobs do not know whose they are. */
static void leave_owners(struct txn *t, const char *blob)
{
    for (int id = 0; id < N_CLASSES; id++) {
        const struct field *blobs = class_field(class_by_id(id), "blobs");
        if (!blobs)
            continue;
        g_autoptr(GPtrArray) all = txn_all(t, id);
        for (guint i = 0; i < all->len; i++)
            leave_owner(t, all->pdata[i], blobs->index, blob);
    }
}

static void data_may_go(const struct fault *f, void *uuid)
{
    if (!f)
        blob_data_remove(uuid);
    g_free(uuid);
}

struct value *blob_destroy(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    const struct record *blob = call_txn_object(c, t, 0);
    if (!blob) {
        txn_abort(t);
        return NULL;
    }
    char *uuid = g_strdup(record_str(blob, F_blob_uuid));
    leave_owners(t, call_str(c, 0));
    txn_destroy(t, CLASS_blob, call_str(c, 0));
    call_commit(c, t);
    if (!store_when_durable(the_store(), c->wait_seq, data_may_go, uuid))
        data_may_go(NULL, uuid);
    return value_void();
}
