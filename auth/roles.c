/* roles.c - the roles as objects of the store, the permissions as a table worked out of the model. See roles.h. */
#include <string.h>

#include "auth/roles.h"
#include "daemon/call.h"

#define FIRST_ROLE ROLE_read_only
#define LAST_ROLE  ROLE_pool_admin

static const char *const descriptions[] = {
    [ROLE_read_only] = "May log in and look at everything, but change nothing",
    [ROLE_vm_operator] = "May also start, stop and use virtual machines and their consoles",
    [ROLE_vm_admin] = "May also make, change and remove virtual machines and templates",
    [ROLE_vm_power_admin] = "May also choose where virtual machines run, take snapshots and move disks",
    [ROLE_pool_operator] = "May also manage hosts, networks and storage",
    [ROLE_pool_admin] = "May do everything, also say who may log in and with which roles",
};

guint64 roles_reached(enum role r)
{
    return (ROLE_BIT(r) << 1) - 1;
}

/* ---- names, uuids, references ---- */

static void id_of_name(const char *name, guint8 id[16])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_MD5);
    gsize len = 16;
    g_checksum_update(sum, (const guchar *) name, -1);
    g_checksum_get_digest(sum, id, &len);
}

static void uuid_of_id(const guint8 id[16], char uuid[UUID_SIZE])
{
    char *p = uuid;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        p += g_snprintf(p, 3, "%02x", id[i]);
    }
}

void role_ref_of_name(const char *name, char ref[REF_SIZE])
{
    guint8 id[16];
    char uuid[UUID_SIZE];
    id_of_name(name, id);
    uuid_of_id(id, uuid);
    g_snprintf(ref, REF_SIZE, "OpaqueRef:%s", uuid);
}

gboolean role_of_ref(const char *ref, enum role *r)
{
    for (enum role i = FIRST_ROLE; i <= LAST_ROLE; i++) {
        char own[REF_SIZE];
        role_ref_of_name(role_name(i), own);
        if (strcmp(own, ref) == 0) {
            *r = i;
            return TRUE;
        }
    }
    return FALSE;
}

/* ---- the permissions ---- */

static struct permission *permissions;
static struct record **records; /* of each */
static gsize n_permissions;

static int compare_ids(const void *a, const void *b)
{
    return memcmp(((const struct permission *) a)->id, ((const struct permission *) b)->id, 16);
}

char *permission_of_key(const char *message_permission, const char *key)
{
    return g_strdup_printf("%s/key:%s", message_permission, key);
}

static void add_permission(GArray *all, const char *name, enum role role, gboolean client_cert)
{
    struct permission p = {.name = name, .role = role, .client_cert = client_cert};
    id_of_name(name, p.id);
    g_array_append_val(all, p);
}

static gboolean writes_one_key(const struct message *m)
{
    return m->implicit && m->field && m->field->type->kind == TYPE_MAP &&
           (g_str_has_prefix(m->name, "add_to_") || g_str_has_prefix(m->name, "remove_from_"));
}

static void add_key_permissions(GArray *all, const struct message *m)
{
    for (int i = 0; i < m->class->n_key_roles; i++) {
        const struct key_role *k = &m->class->key_roles[i];
        if (strcmp(k->field, m->field->name) == 0)
            add_permission(all, permission_of_key(m->permission, k->key), k->role, m->client_cert);
    }
}

static struct record *make_record(const struct permission *p)
{
    char ref[REF_SIZE];
    role_ref_of_name(p->name, ref);
    struct record *r = record_standing(CLASS_role, ref);
    record_put(r, F_role_uuid, value_string(NULL, ref + strlen("OpaqueRef:")));
    record_put(r, F_role_name_label, value_string(NULL, p->name));
    record_put(r, F_role_name_description,
               value_string(NULL, strstr(p->name, "/key:") ? "Permission to write one key of a map"
                                                           : "Permission to make one call"));
    return r;
}

/* Messages that only the daemon itself or nobody may call are no permissions that a role can have. */
static gpointer build_permissions(G_GNUC_UNUSED gpointer data)
{
    gsize n;
    const struct message *const *messages = message_all(&n);
    GArray *all = g_array_new(FALSE, FALSE, sizeof(struct permission));
    for (gsize i = 0; i < n; i++) {
        const struct message *m = messages[i];
        if (m->role < FIRST_ROLE || m->role > LAST_ROLE || m->state == STATE_removed)
            continue;
        add_permission(all, m->permission, m->role, m->client_cert);
        if (writes_one_key(m))
            add_key_permissions(all, m);
    }
    n_permissions = all->len;
    permissions = (struct permission *) g_array_free(all, FALSE);
    qsort(permissions, n_permissions, sizeof *permissions, compare_ids);
    records = g_new(struct record *, n_permissions);
    for (gsize i = 0; i < n_permissions; i++)
        records[i] = make_record(&permissions[i]);
    return permissions;
}

const struct permission *permissions_all(gsize *n)
{
    static GOnce once = G_ONCE_INIT;
    g_once(&once, build_permissions, NULL);
    *n = n_permissions;
    return permissions;
}

struct record *permission_record(const struct permission *p)
{
    return records[p - permissions];
}

static const struct permission *by_id(const guint8 id[16])
{
    struct permission wanted = {0};
    gsize n;
    const struct permission *all = permissions_all(&n);
    memcpy(wanted.id, id, sizeof wanted.id);
    return bsearch(&wanted, all, n, sizeof *all, compare_ids);
}

const struct permission *permission_by_name(const char *name)
{
    guint8 id[16];
    id_of_name(name, id);
    const struct permission *p = by_id(id);
    return p && strcmp(p->name, name) == 0 ? p : NULL;
}

const struct permission *permission_by_uuid(const char *uuid)
{
    guint8 id[16];
    int n = 0;
    if (strlen(uuid) != UUID_SIZE - 1)
        return NULL;
    for (const char *p = uuid; *p; p++) {
        if (*p == '-')
            continue;
        if (n == 32 || !g_ascii_isxdigit(*p))
            return NULL;
        guint8 digit = g_ascii_xdigit_value(*p);
        id[n / 2] = n % 2 ? id[n / 2] | digit : digit << 4;
        n++;
    }
    if (n != 32)
        return NULL;
    const struct permission *p = by_id(id);
    char own[UUID_SIZE];
    if (!p)
        return NULL;
    uuid_of_id(p->id, own);
    return strcmp(own, uuid) == 0 ? p : NULL;
}

const struct permission *permission_by_ref(const char *ref)
{
    return g_str_has_prefix(ref, "OpaqueRef:") ? permission_by_uuid(ref + strlen("OpaqueRef:")) : NULL;
}

gboolean permission_in(const struct permission *p, guint64 roles)
{
    return (roles & ROLE_BIT(p->role)) || (p->client_cert && (roles & ROLES_CLIENT_CERT));
}

static struct value *build_names(guint64 roles)
{
    gsize n;
    const struct permission *all = permissions_all(&n);
    struct value_builder b;
    value_builder_set(&b, NULL, n);
    for (enum role r = FIRST_ROLE; r <= LAST_ROLE; r++)
        if (roles & ROLE_BIT(r))
            value_builder_add_string(&b, role_name(r));
    for (gsize i = 0; i < n; i++)
        if (permission_in(&all[i], roles))
            value_builder_add_string(&b, all[i].name);
    return value_builder_end(&b);
}

struct value *roles_permission_names(guint64 roles)
{
    static GMutex lock;
    static GHashTable *kept; /* there are as many sets of roles as there are roles, or a few more */
    roles &= roles_reached(LAST_ROLE) | ROLES_CLIENT_CERT;
    g_mutex_lock(&lock);
    if (!kept)
        kept = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    struct value *v = g_hash_table_lookup(kept, &roles);
    if (!v) {
        v = build_names(roles);
        g_hash_table_insert(kept, g_memdup2(&roles, sizeof roles), v);
    }
    v = value_ref(v);
    g_mutex_unlock(&lock);
    return v;
}

/* ---- the roles' objects ---- */

/* The next lower role, and the permissions that this one adds to it. */
static struct value *subroles(enum role r)
{
    gsize n;
    const struct permission *all = permissions_all(&n);
    char ref[REF_SIZE];
    struct value_builder b;
    value_builder_set(&b, NULL, 256);
    if (r > FIRST_ROLE) {
        role_ref_of_name(role_name(r - 1), ref);
        value_builder_add_string(&b, ref);
    }
    for (gsize i = 0; i < n; i++) {
        if (all[i].role != r)
            continue;
        char uuid[UUID_SIZE];
        uuid_of_id(all[i].id, uuid);
        value_builder_add(&b, value_printf(NULL, "OpaqueRef:%s", uuid));
    }
    return value_builder_end(&b);
}

static void put_role(struct txn *t, enum role r)
{
    char ref[REF_SIZE];
    role_ref_of_name(role_name(r), ref);
    if (!txn_get(t, CLASS_role, ref))
        txn_create(t, CLASS_role, ref, ref + strlen("OpaqueRef:"));
    txn_set_str(t, CLASS_role, ref, F_role_name_label, role_name(r));
    txn_set_str(t, CLASS_role, ref, F_role_name_description, descriptions[r]);
    txn_set(t, CLASS_role, ref, F_role_subroles, subroles(r));
}

void roles_start(void)
{
    struct txn *t = txn_begin(the_store());
    for (enum role r = FIRST_ROLE; r <= LAST_ROLE; r++)
        put_role(t, r);
    txn_commit(t);
}
