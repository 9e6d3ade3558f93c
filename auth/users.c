/* users.c - users and groups as NSS knows them. A subject's identifier is "u:NAME" or "g:NAME": it says what it is and
 * stays the same on every host that shares the names. */
#include "config.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/types.h>

#include "auth/helper_private.h"

#define MOST_GROUPS 65536

static void put_printf(struct value_builder *b, const char *key, guint n)
{
    g_autofree char *text = g_strdup_printf("%u", n);
    value_builder_put_string(b, key, text);
}

static void put_identifier(struct value_builder *b, const char *kind, const char *name)
{
    g_autofree char *identifier = g_strconcat(kind, name, NULL);
    value_builder_put_string(b, "subject_identifier", identifier);
    value_builder_put_string(b, "subject_name", name);
}

/* A text of NSS need not be UTF-8; values are. */
static void put_text(struct value_builder *b, const char *key, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text ? text : "", -1);
    value_builder_put_string(b, key, valid);
}

/* The first of the comma-separated parts of GECOS. */
static void put_full_name(struct value_builder *b, const struct passwd *pw)
{
    const char *gecos = pw->pw_gecos ? pw->pw_gecos : "";
    g_autofree char *full = g_strndup(gecos, strcspn(gecos, ","));
    put_text(b, "subject-displayname", *full ? full : pw->pw_name);
}

/* The keys that clients of the API know subjects by. */
static struct value *user_information(const struct passwd *pw)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 8);
    value_builder_put_string(&b, "subject-name", pw->pw_name);
    put_full_name(&b, pw);
    put_text(&b, "subject-gecos", pw->pw_gecos);
    put_printf(&b, "subject-uid", pw->pw_uid);
    put_printf(&b, "subject-gid", pw->pw_gid);
    put_text(&b, "subject-homedir", pw->pw_dir);
    put_text(&b, "subject-shell", pw->pw_shell);
    value_builder_put_string(&b, "subject-is-group", "false");
    return value_builder_end(&b);
}

static struct value *describe_user(const struct passwd *pw)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 7);
    put_identifier(&b, "u:", pw->pw_name);
    value_builder_put(&b, "is_group", value_bool(FALSE));
    value_builder_put(&b, "uid", value_int(NULL, pw->pw_uid));
    value_builder_put(&b, "gid", value_int(NULL, pw->pw_gid));
    put_text(&b, "gecos", pw->pw_gecos);
    value_builder_put(&b, "information", user_information(pw));
    return value_builder_end(&b);
}

static struct value *group_information(const struct group *gr)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 4);
    value_builder_put_string(&b, "subject-name", gr->gr_name);
    value_builder_put_string(&b, "subject-displayname", gr->gr_name);
    put_printf(&b, "subject-gid", gr->gr_gid);
    value_builder_put_string(&b, "subject-is-group", "true");
    return value_builder_end(&b);
}

static struct value *describe_group(const struct group *gr)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 5);
    put_identifier(&b, "g:", gr->gr_name);
    value_builder_put(&b, "is_group", value_bool(TRUE));
    value_builder_put(&b, "gid", value_int(NULL, gr->gr_gid));
    value_builder_put(&b, "information", group_information(gr));
    return value_builder_end(&b);
}

static struct value *find_user(const char *name)
{
    const struct passwd *pw = getpwnam(name);
    return pw && g_utf8_validate(pw->pw_name, -1, NULL) ? describe_user(pw) : NULL;
}

static struct value *find_group(const char *name)
{
    const struct group *gr = getgrnam(name);
    return gr && g_utf8_validate(gr->gr_name, -1, NULL) ? describe_group(gr) : NULL;
}

struct value *users_information(const char *identifier, struct fault *f)
{
    struct value *v = NULL;
    if (g_str_has_prefix(identifier, "u:"))
        v = find_user(identifier + 2);
    else if (g_str_has_prefix(identifier, "g:"))
        v = find_group(identifier + 2);
    if (!v)
        fault_set(f, "SUBJECT_CANNOT_BE_RESOLVED", NULL);
    return v;
}

struct value *users_resolve(const char *name, struct fault *f)
{
    struct value *v = NULL;
    if (*name)
        v = find_user(name);
    if (!v && *name)
        v = find_group(name);
    return v ? v : users_information(name, f);
}

/* ---- groups of a user ---- */

static gid_t *group_ids(const char *user, gid_t first, int *n)
{
    *n = 64;
    for (;;) {
        gid_t *ids = g_new(gid_t, *n);
        int room = *n;
        if (getgrouplist(user, first, ids, n) >= 0)
            return ids;
        g_free(ids);
        /* Some say how many there are, some do not. */
        *n = MAX(*n, 2 * room);
        if (*n > MOST_GROUPS) {
            *n = 0;
            return NULL;
        }
    }
}

static GStrv group_names(const struct passwd *pw)
{
    int n;
    g_autofree char *user = g_strdup(pw->pw_name);
    g_autofree gid_t *ids = group_ids(user, pw->pw_gid, &n);
    GPtrArray *names = g_ptr_array_new();
    for (int i = 0; i < n; i++) {
        const struct group *gr = getgrgid(ids[i]);
        if (gr && g_utf8_validate(gr->gr_name, -1, NULL))
            g_ptr_array_add(names, g_strdup(gr->gr_name));
    }
    g_ptr_array_add(names, NULL);
    return (GStrv) g_ptr_array_free(names, FALSE);
}

static void put_groups(struct value_builder *b, GStrv names, const char *names_key, const char *identifiers_key)
{
    struct value_builder identifiers;
    value_builder_set(&identifiers, NULL, g_strv_length(names));
    for (char **name = names; *name; name++) {
        g_autofree char *identifier = g_strconcat("g:", *name, NULL);
        value_builder_add_string(&identifiers, identifier);
    }
    value_builder_put(b, names_key, value_string_set(NULL, (const char *const *) names));
    value_builder_put(b, identifiers_key, value_builder_end(&identifiers));
}

struct value *users_groups(const char *identifier, struct fault *f)
{
    g_auto(GStrv) names = NULL;
    struct value_builder b;
    if (g_str_has_prefix(identifier, "u:")) {
        const struct passwd *pw = getpwnam(identifier + 2);
        if (pw)
            names = group_names(pw);
    } else if (g_str_has_prefix(identifier, "g:") && getgrnam(identifier + 2)) {
        names = g_new0(char *, 1);
    }
    if (!names) {
        fault_set(f, "SUBJECT_CANNOT_BE_RESOLVED", NULL);
        return NULL;
    }
    value_builder_map(&b, NULL, 2);
    put_groups(&b, names, "names", "groups");
    return value_builder_end(&b);
}

struct value *users_identity(const char *user)
{
    const struct passwd *pw = getpwnam(user);
    /* Where names are not told apart by case there is still one that is the user's. */
    const char *name = pw && g_utf8_validate(pw->pw_name, -1, NULL) ? pw->pw_name : user;
    g_autofree char *identifier = g_strconcat("u:", name, NULL);
    struct value_builder b;
    value_builder_map(&b, NULL, 6);
    value_builder_put_string(&b, "user", name);
    value_builder_put_string(&b, "subject_identifier", identifier);
    if (pw) {
        value_builder_put(&b, "uid", value_int(NULL, pw->pw_uid));
        value_builder_put(&b, "gid", value_int(NULL, pw->pw_gid));
    }
    g_auto(GStrv) names = pw ? group_names(pw) : g_new0(char *, 1);
    put_groups(&b, names, "groups", "group_identifiers");
    return value_builder_end(&b);
}
