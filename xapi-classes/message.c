/* message.c - the class message: alerts for the administrator. The oldest go when there are too many. */
#include "daemon/call.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/message.h"

#define MAX_MESSAGES 10000

static void drop_oldest(struct txn *t)
{
    if (store_count(the_store(), CLASS_message) < MAX_MESSAGES)
        return;
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_message); /* oldest first */
    for (guint i = 0; i + MAX_MESSAGES <= all->len; i++)
        txn_destroy(t, CLASS_message, ((struct record *) all->pdata[i])->ref);
}

static const char *add(struct txn *t, const char *name, gint64 priority, const char *cls, const char *obj_uuid,
                       const char *body)
{
    drop_oldest(t);
    const char *ref = txn_create(t, CLASS_message, NULL, NULL);
    txn_set_str(t, CLASS_message, ref, F_message_name, name);
    txn_set_int(t, CLASS_message, ref, F_message_priority, priority);
    txn_set_str(t, CLASS_message, ref, F_message_cls, cls);
    txn_set_str(t, CLASS_message, ref, F_message_obj_uuid, obj_uuid);
    txn_set_str(t, CLASS_message, ref, F_message_body, body);
    txn_set_time(t, CLASS_message, ref, F_message_timestamp, g_get_real_time() / G_USEC_PER_SEC);
    return ref;
}

void message_post(const char *name, int priority, const char *cls, const char *obj_uuid, const char *body)
{
    struct txn *t = txn_begin(the_store());
    add(t, name, priority, cls, obj_uuid, body);
    txn_commit(t);
}

/* What "VM" among the values of cls names, in the model: host, VM, SR, Certificate, ... CLASS_NONE: nothing stored. */
static enum class_id class_of(const char *cls)
{
    const struct class *class = class_by_name(cls);
    return class ? class->id : CLASS_NONE;
}

struct value *message_create(struct call *c)
{
    enum class_id class = class_of(call_str(c, 2));
    g_autoptr(record) about = class == CLASS_NONE ? NULL : store_get_by_uuid(the_store(), class, call_str(c, 3));

    if (!about)
        return call_fail(c, "UUID_INVALID", call_str(c, 2), call_str(c, 3), NULL);
    struct txn *t = txn_begin(the_store());
    struct value *result =
        value_string(NULL, add(t, call_str(c, 0), call_int(c, 1), call_str(c, 2), call_str(c, 3), call_str(c, 4)));
    call_commit(c, t);
    return result;
}

struct value *message_destroy_many(struct call *c)
{
    struct value *refs = call_arg(c, 0);
    struct txn *t = txn_begin(the_store());

    for (gsize i = 0; i < value_count(refs); i++) {
        const char *ref = value_str(value_at(refs, i));
        if (!txn_get(t, CLASS_message, ref)) {
            txn_abort(t); /* all or none */
            return call_fail(c, "HANDLE_INVALID", "message", ref, NULL);
        }
        txn_destroy(t, CLASS_message, ref);
    }
    call_commit(c, t);
    return value_void();
}

/* Messages younger than since, about one object if cls is not NULL, as a map of records. */
static struct value *younger(gint64 since, const char *cls, const char *obj_uuid)
{
    g_autoptr(GPtrArray) all = store_all(the_store(), CLASS_message);
    struct value_builder b;

    value_builder_map(&b, NULL, 0);
    for (guint i = 0; i < all->len; i++) {
        struct record *r = all->pdata[i];
        if (record_int(r, F_message_timestamp) <= since)
            continue;
        if (cls && (strcmp(record_str(r, F_message_cls), cls) != 0 ||
                    strcmp(record_str(r, F_message_obj_uuid), obj_uuid) != 0))
            continue;
        value_builder_put(&b, r->ref, record_value(r));
    }
    return value_builder_end(&b);
}

struct value *message_get(struct call *c)
{
    return younger(call_int(c, 2), call_str(c, 0), call_str(c, 1));
}

struct value *message_get_since(struct call *c)
{
    return younger(call_int(c, 0), NULL, NULL);
}
