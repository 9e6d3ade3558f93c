/* role.c - the class role: the roles, which are objects of the store, and the permissions, whose records are made of a
 * table (auth/roles.h). */
#include <string.h>

#include "auth/roles.h"
#include "daemon/call.h"
#include "xapi-classes/handlers.h"

/* ---- reading either of the two ---- */

GPtrArray *role_all(void)
{
    GPtrArray *records = store_all(the_store(), CLASS_role);
    gsize n;
    const struct permission *all = permissions_all(&n);
    for (gsize i = 0; i < n; i++)
        g_ptr_array_add(records, record_ref(permission_record(&all[i])));
    return records;
}

static struct value *no_such_role(struct call *c, int i)
{
    return call_fail(c, "HANDLE_INVALID", "role", call_str(c, i), NULL);
}

/* That of the call's first argument; the caller unrefs it. */
static struct record *role_record(struct call *c)
{
    struct record *r = store_get(the_store(), CLASS_role, call_str(c, 0));
    const struct permission *p = r ? NULL : permission_by_ref(call_str(c, 0));
    if (p)
        return record_ref(permission_record(p));
    if (!r)
        no_such_role(c, 0);
    return r;
}

struct value *role_get(struct call *c)
{
    g_autoptr(record) r = role_record(c);
    return r ? value_ref(record_field(r, c->msg->field->index)) : NULL;
}

struct value *role_get_record(struct call *c)
{
    g_autoptr(record) r = role_record(c);
    return r ? record_value(r) : NULL;
}

struct value *role_get_by_uuid(struct call *c)
{
    const struct permission *p = permission_by_uuid(call_str(c, 0));
    return p ? value_string(NULL, permission_record(p)->ref) : generic_get_by_uuid(c);
}

struct value *role_get_by_name_label(struct call *c)
{
    const struct permission *p = permission_by_name(call_str(c, 0));
    if (!p)
        return generic_get_by_name_label(c);
    return value_string_set(NULL, (const char *const[]){permission_record(p)->ref, NULL});
}

/* ---- from roles to permissions ---- */

/* What the role of the call's first argument reaches; a permission reaches itself alone. */
static gboolean reaches(struct call *c, guint64 *roles, const struct permission **only)
{
    enum role r;
    *roles = 0;
    *only = permission_by_ref(call_str(c, 0));
    if (*only)
        return TRUE;
    if (!role_of_ref(call_str(c, 0), &r))
        return no_such_role(c, 0) != NULL;
    *roles = roles_reached(r);
    return TRUE;
}

static void add_ref(struct value_builder *b, const struct permission *p)
{
    value_builder_add_string(b, permission_record(p)->ref);
}

static void add_name(struct value_builder *b, const struct permission *p)
{
    value_builder_add_string(b, p->name);
}

typedef void add_fn(struct value_builder *b, const struct permission *p);

static struct value *permissions_of(struct call *c, add_fn *add)
{
    const struct permission *only;
    guint64 roles;
    gsize n;
    if (!reaches(c, &roles, &only))
        return NULL;
    const struct permission *all = permissions_all(&n);
    struct value_builder b;
    value_builder_set(&b, NULL, only ? 1 : n);
    for (gsize i = 0; i < n; i++)
        if (only ? &all[i] == only : permission_in(&all[i], roles))
            add(&b, &all[i]);
    return value_builder_end(&b);
}

struct value *role_get_permissions(struct call *c)
{
    return permissions_of(c, add_ref);
}

struct value *role_get_permissions_name_label(struct call *c)
{
    return permissions_of(c, add_name);
}

/* ---- from permissions to roles ---- */

static struct value *roles_with(const struct permission *p)
{
    struct value_builder b;
    value_builder_set(&b, NULL, 8);
    for (enum role r = ROLE_read_only; p && r <= ROLE_pool_admin; r++) {
        char ref[REF_SIZE];
        if (!permission_in(p, roles_reached(r)))
            continue;
        role_ref_of_name(role_name(r), ref);
        value_builder_add_string(&b, ref);
    }
    return value_builder_end(&b);
}

struct value *role_get_by_permission(struct call *c)
{
    const struct permission *p = permission_by_ref(call_str(c, 0));
    return p ? roles_with(p) : no_such_role(c, 0);
}

struct value *role_get_by_permission_name_label(struct call *c)
{
    return roles_with(permission_by_name(call_str(c, 0)));
}
