/* session.c - the class session: login and logout, and what a session may know of itself and of others. */
#include <string.h>

#include "auth/session.h"
#include "daemon/task.h"
#include "xapi-classes/ask_auth.h"
#include "xapi-classes/handlers.h"

/* ---- login ---- */

static void logged_in(struct session *s, const struct fault *f, void *data)
{
    struct call *c = data;
    if (!s) {
        fault_setv(&c->fault, f->code, (const char *const *) f->params);
        call_complete(c, NULL);
        return;
    }
    if (call_is_abandoned(c)) /* nobody will ever know its reference */
        session_end(s);
    struct value *ref = value_string(NULL, s->ref);
    session_unref(s);
    call_complete(c, ref);
}

struct value *session_login_with_password(struct call *c)
{
    struct value *originator = call_arg(c, 3); /* the version before it is the client's and binds nobody */
    session_login(call_str(c, 0), call_str(c, 1), originator ? value_str(originator) : NULL, c->origin, logged_in,
                  call_defer(c));
    return CALL_DEFERRED;
}

struct value *session_slave_local_login_with_password(struct call *c)
{
    session_login_local(call_str(c, 0), call_str(c, 1), NULL, c->origin, logged_in, call_defer(c));
    return CALL_DEFERRED;
}

/* ---- logout ---- */

struct value *session_logout(struct call *c)
{
    session_end(c->session);
    return value_void();
}

struct value *session_local_logout(struct call *c)
{
    if (!c->session->local_only)
        return call_fail(c, "SESSION_INVALID", c->session->ref, NULL);
    return session_logout(c);
}

/* Not the caller's own: whoever cleans up goes on working. */
struct value *session_logout_subject_identifier(struct call *c)
{
    g_autoptr(GPtrArray) all = sessions_all();
    for (guint i = 0; i < all->len; i++) {
        struct session *s = g_ptr_array_index(all, i);
        const char *identifier = session_subject_identifier(s);
        if (s != c->session && *identifier && strcmp(identifier, call_str(c, 0)) == 0)
            session_end(s);
    }
    return value_void();
}

struct value *session_get_all_subject_identifiers(G_GNUC_UNUSED struct call *c)
{
    g_autoptr(GPtrArray) all = sessions_all();
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    struct value_builder b;
    value_builder_set(&b, NULL, 8);
    for (guint i = 0; i < all->len; i++) {
        const char *identifier = session_subject_identifier(g_ptr_array_index(all, i));
        if (*identifier && g_hash_table_add(seen, (char *) identifier))
            value_builder_add_string(&b, identifier);
    }
    return value_builder_end(&b);
}

/* ---- the password ---- */

static struct value *password_changed(G_GNUC_UNUSED struct call *c, G_GNUC_UNUSED struct value *result)
{
    return value_void();
}

struct value *session_change_password(struct call *c)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "user", *c->session->user ? c->session->user : "root");
    value_builder_put_string(&b, "old", call_str(c, 0));
    value_builder_put_string(&b, "new", call_str(c, 1));
    return ask_auth(c, "change_password", value_builder_end(&b), password_changed);
}

/* ---- reading: a reference is as good as a password, so who is no admin sees only what is the session's own ---- */

static gboolean may_see(const struct call *c, const char *ref)
{
    return strcmp(c->session->ref, ref) == 0 ||
           (session_has_role(c->session, ROLE_pool_admin) && !c->session->local_only);
}

/* Another's session and one that never was look the same. */
static struct record *visible_session(struct call *c)
{
    struct record *r = may_see(c, call_str(c, 0)) ? store_get(the_store(), CLASS_session, call_str(c, 0)) : NULL;
    if (!r)
        call_fail(c, "HANDLE_INVALID", "session", call_str(c, 0), NULL);
    return r;
}

/* Not in the record: they come and go more often than anybody asks. */
static struct value *tasks_of(const struct record *r)
{
    return tasks_of_session(record_str(r, F_session_uuid));
}

struct value *session_get(struct call *c)
{
    g_autoptr(record) r = visible_session(c);
    if (!r)
        return NULL;
    if (c->msg->field->index == F_session_tasks)
        return tasks_of(r);
    if (c->msg->field->index == F_session_last_active) { /* the record is told once a minute only */
        struct session *s = session_peek(r->ref);
        struct value *v = s ? value_datetime(NULL, session_last_active(s)) : NULL;
        session_unref(s);
        if (v)
            return v;
    }
    return value_ref(record_field(r, c->msg->field->index));
}

struct value *session_get_record(struct call *c)
{
    g_autoptr(record) r = visible_session(c);
    struct value_builder b;
    if (!r)
        return NULL;
    value_builder_map(&b, NULL, (gsize) r->class->n_fields);
    for (int i = 0; i < r->class->n_fields; i++)
        value_builder_put(&b, r->class->fields[i].name,
                          i == F_session_tasks ? tasks_of(r) : value_ref(record_field(r, i)));
    return value_builder_end(&b);
}

struct value *session_get_by_uuid(struct call *c)
{
    g_autoptr(record) r = store_get_by_uuid(the_store(), CLASS_session, call_str(c, 0));
    if (!r || !may_see(c, r->ref))
        return call_fail(c, "UUID_INVALID", "session", call_str(c, 0), NULL);
    return value_string(NULL, r->ref);
}
