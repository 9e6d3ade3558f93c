/* access.c - from a user's name and groups to roles, and whether these reach a message. See access.h, session.h. */
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "auth/access.h"
#include "auth/roles.h"
#include "auth/session_private.h"

/* ---- who somebody is ---- */

void identity_clear(struct identity *id)
{
    g_clear_pointer(&id->user, g_free);
    g_clear_pointer(&id->sid, g_free);
    g_clear_pointer(&id->groups, g_strfreev);
}

gboolean access_identifier_is_valid(const char *identifier)
{
    return (g_str_has_prefix(identifier, "u:") || g_str_has_prefix(identifier, "g:")) && identifier[2];
}

/* The account that a root daemon drops to serves the network: its uid proves nothing about a person. */
static gboolean runs_as_service_account(void)
{
    struct passwd pw, *found = NULL;
    char buffer[4096];
    const char *user = the_conf()->user;
    return user && *user && getpwnam_r(user, &pw, buffer, sizeof buffer, &found) == 0 && found &&
           found->pw_uid == geteuid();
}

gboolean access_uid_is_superuser(gint64 uid)
{
    if (uid == 0)
        return TRUE;
    return uid == (gint64) geteuid() && !runs_as_service_account();
}

/* ---- from there to roles ---- */

GHashTable *access_subjects(void)
{
    GHashTable *subjects = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) record_unref);
    g_autoptr(GPtrArray) all = store_all(the_store(), CLASS_subject);
    for (guint i = 0; i < all->len; i++) {
        struct record *r = g_ptr_array_index(all, i);
        g_hash_table_replace(subjects, (char *) record_str(r, F_subject_subject_identifier), record_ref(r));
    }
    return subjects;
}

static void add_subject(struct access *a, GHashTable *subjects, const char *kind, const char *name)
{
    g_autofree char *identifier = g_strconcat(kind, name, NULL);
    struct record *subject = g_hash_table_lookup(subjects, identifier);
    if (!subject)
        return;
    struct value *roles = record_field(subject, F_subject_roles);
    for (gsize i = 0; i < value_count(roles); i++) {
        enum role r;
        if (role_of_ref(value_str(value_at(roles, i)), &r))
            a->roles |= roles_reached(r);
    }
    if (a->roles && ref_is_null(a->subject))
        g_strlcpy(a->subject, subject->ref, REF_SIZE);
}

static gboolean in_admin_group(const struct identity *id)
{
    const struct conf *conf = the_conf();
    for (GStrv g = id->groups; g && *g; g++)
        if (conf->admin_groups && g_strv_contains((const char *const *) conf->admin_groups, *g))
            return TRUE;
    return FALSE;
}

void access_resolve(const struct identity *id, GHashTable *subjects, struct access *a)
{
    memset(a, 0, sizeof *a);
    g_strlcpy(a->subject, NULL_REF, REF_SIZE);
    if (access_uid_is_superuser(id->uid)) {
        if (id->peer && !the_conf()->unix_root_is_admin)
            return;
        a->local_superuser = TRUE;
        a->roles = roles_reached(ROLE_local_root);
        return;
    }
    add_subject(a, subjects, "u:", id->user);
    for (GStrv g = id->groups; g && *g; g++)
        add_subject(a, subjects, "g:", *g);
    if (in_admin_group(id))
        a->roles |= roles_reached(ROLE_pool_admin);
}

/* ---- from roles to an answer ---- */

gboolean session_has_role(const struct session *s, enum role r)
{
    return r == ROLE_none || (session_roles(s) & ROLE_BIT(r)) != 0;
}

/* What a session that was opened in an emergency is for: to end it, to look at itself, to get the host out of it. */
static gboolean is_for_emergencies(const struct message *m)
{
    static const char *const messages[] = {
        "session.logout",          "session.local_logout", "host.list_methods",   "host.local_management_reconfigure",
        "host.management_disable", "host.restart_agent",   "host.shutdown_agent", NULL,
    };
    if (m->class->id == CLASS_session && g_str_has_prefix(m->name, "get_"))
        return TRUE;
    if (g_str_has_prefix(m->name, "emergency_"))
        return TRUE;
    return g_strv_contains(messages, m->full_name);
}

static gboolean denied(struct fault *f, const char *permission, enum role needed)
{
    g_autofree char *text = NULL;
    if (needed == ROLE_local_root)
        text = g_strdup("Only the local superuser may do this");
    else
        text = g_strdup_printf("No permission in the user's session: this needs the role %s%s", role_name(needed),
                               needed == ROLE_pool_admin ? "" : " or one that includes it");
    return fault_set(f, "RBAC_PERMISSION_DENIED", permission, text, NULL);
}

gboolean session_allows(const struct session *s, const struct message *m, const char *key, struct fault *f)
{
    enum role needed = m->role;
    g_autofree char *own = NULL; /* the key's own permission, when it has one */
    if (key && m->field) {
        gboolean own_row;
        enum role of_key = key_role(m->class, m->field, key, &own_row);
        if (own_row) {
            needed = of_key;
            own = permission_of_key(m->permission, key);
        }
    }
    const char *permission = own ? own : m->permission;
    if (m->for_drivers && !s->of_drivers)
        return denied(f, permission, needed);
    if (needed == ROLE_none)
        return TRUE;
    if (s->local_only && !is_for_emergencies(m))
        return fault_set(f, "RBAC_PERMISSION_DENIED", permission, "This session is for emergencies on this host only",
                         NULL);
    if (session_has_role(s, needed))
        return TRUE;
    if (m->client_cert && (session_roles(s) & ROLES_CLIENT_CERT))
        return TRUE;
    return denied(f, permission, needed);
}
