/* subject.c - the class subject: which users and groups may log in, and with which roles. */
#include <string.h>

#include "auth/access.h"
#include "auth/roles.h"
#include "auth/session.h"
#include "xapi-classes/handlers.h"

/* ---- making and removing ---- */

static gboolean is_taken(struct txn *t, const char *identifier)
{
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_subject);
    for (guint i = 0; i < all->len; i++)
        if (strcmp(record_str(g_ptr_array_index(all, i), F_subject_subject_identifier), identifier) == 0)
            return TRUE;
    return FALSE;
}

/* Sessions learn at once what the commit changed: for better or worse. */
static struct value *commit_and_tell(struct call *c, struct txn *t, struct value *result)
{
    call_commit(c, t);
    sessions_recheck();
    return result;
}

struct value *subject_create(struct call *c)
{
    struct value *args = call_arg(c, 0), *other_config = value_get(args, "other_config");
    const char *identifier = value_get_str(args, "subject_identifier", "");
    if (!access_identifier_is_valid(identifier))
        return call_fail(c, "SUBJECT_CANNOT_BE_RESOLVED", NULL);
    struct txn *t = txn_begin(the_store());
    if (is_taken(t, identifier)) {
        txn_abort(t);
        return call_fail(c, "SUBJECT_ALREADY_EXISTS", NULL);
    }
    const char *ref = txn_create(t, CLASS_subject, NULL, NULL);
    txn_set_str(t, CLASS_subject, ref, F_subject_subject_identifier, identifier);
    if (other_config)
        txn_set(t, CLASS_subject, ref, F_subject_other_config, value_ref(other_config));
    return commit_and_tell(c, t, value_string(NULL, ref));
}

struct value *subject_destroy(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    if (!call_txn_object(c, t, 0)) {
        txn_abort(t);
        return NULL;
    }
    txn_destroy(t, CLASS_subject, call_str(c, 0));
    return commit_and_tell(c, t, value_void());
}

/* ---- its roles ---- */

/* The subject of the call, when its second argument is a role that can be given. */
static struct record *subject_and_role(struct call *c, struct txn *t)
{
    struct record *subject = call_txn_object(c, t, 0);
    enum role r;
    if (subject && !role_of_ref(call_str(c, 1), &r)) {
        call_fail(c, "ROLE_NOT_FOUND", NULL);
        return NULL;
    }
    return subject;
}

struct value *subject_add_to_roles(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *subject = subject_and_role(c, t);
    struct value *roles = subject ? record_field(subject, F_subject_roles) : NULL;
    if (roles && value_contains(roles, call_str(c, 1)))
        call_fail(c, "ROLE_ALREADY_EXISTS", NULL);
    if (c->fault.code) {
        txn_abort(t);
        return NULL;
    }
    txn_set(t, CLASS_subject, call_str(c, 0), F_subject_roles, value_set_with(roles, call_str(c, 1)));
    return commit_and_tell(c, t, value_void());
}

struct value *subject_remove_from_roles(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *subject = subject_and_role(c, t);
    struct value *roles = subject ? record_field(subject, F_subject_roles) : NULL;
    if (roles && !value_contains(roles, call_str(c, 1)))
        call_fail(c, "ROLE_NOT_FOUND", NULL);
    if (c->fault.code) {
        txn_abort(t);
        return NULL;
    }
    txn_set(t, CLASS_subject, call_str(c, 0), F_subject_roles, value_set_without(roles, call_str(c, 1)));
    return commit_and_tell(c, t, value_void());
}

struct value *subject_get_permissions_name_label(struct call *c)
{
    g_autoptr(record) subject = call_object(c, 0);
    guint64 reached = 0;
    if (!subject)
        return NULL;
    struct value *roles = record_field(subject, F_subject_roles);
    for (gsize i = 0; i < value_count(roles); i++) {
        enum role r;
        if (role_of_ref(value_str(value_at(roles, i)), &r))
            reached |= roles_reached(r);
    }
    return roles_permission_names(reached);
}
