/* role.c - the class role: the roles, which are objects of the store, and the permissions, which are answered out of a
 * table (auth/roles.h): get_all lists the roles only, but whoever has a permission's reference can ask for all of it.
 */
#include <string.h>

#include "auth/roles.h"
#include "daemon/call.h"
#include "xapi-classes/handlers.h"

/* ---- reading either of the two ---- */

static struct value *permission_field(const struct permission *p, int field)
{
    char ref[REF_SIZE];
    switch (field) {
    case F_role_uuid:
        role_ref_of_name(p->name, ref);
        return value_string(NULL, ref + strlen("OpaqueRef:"));
    case F_role_name_label:
        return value_string(NULL, p->name);
    case F_role_name_description:
        return value_string(NULL, strstr(p->name, "/key:") ? "Permission to write one key of a map"
                                                           : "Permission to make one call");
    default:
        return value_ref(class_by_id(CLASS_role)->fields[field].initial_value);
    }
}

static struct value *permission_record(const struct permission *p)
{
    const struct class *class = class_by_id(CLASS_role);
    struct value_builder b;
    value_builder_map(&b, NULL, class->n_fields);
    for (int i = 0; i < class->n_fields; i++)
        value_builder_put(&b, class->fields[i].name, permission_field(p, i));
    return value_builder_end(&b);
}

static struct value *no_such_role(struct call *c, int i)
{
    return call_fail(c, "HANDLE_INVALID", "role", call_str(c, i), NULL);
}

struct value *role_get(struct call *c)
{
    g_autoptr(record) r = store_get(the_store(), CLASS_role, call_str(c, 0));
    if (r)
        return value_ref(record_field(r, c->msg->field->index));
    const struct permission *p = permission_by_ref(call_str(c, 0));
    return p ? permission_field(p, c->msg->field->index) : no_such_role(c, 0);
}

struct value *role_get_record(struct call *c)
{
    g_autoptr(record) r = store_get(the_store(), CLASS_role, call_str(c, 0));
    if (r)
        return record_value(r);
    const struct permission *p = permission_by_ref(call_str(c, 0));
    return p ? permission_record(p) : no_such_role(c, 0);
}

struct value *role_get_by_uuid(struct call *c)
{
    const struct permission *p = permission_by_uuid(call_str(c, 0));
    if (!p)
        return generic_get_by_uuid(c);
    return value_printf(NULL, "OpaqueRef:%s", call_str(c, 0));
}

struct value *role_get_by_name_label(struct call *c)
{
    const struct permission *p = permission_by_name(call_str(c, 0));
    char ref[REF_SIZE];
    if (!p)
        return generic_get_by_name_label(c);
    role_ref_of_name(p->name, ref);
    return value_string_set(NULL, (const char *const[]){ref, NULL});
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
    char ref[REF_SIZE];
    role_ref_of_name(p->name, ref);
    value_builder_add_string(b, ref);
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
