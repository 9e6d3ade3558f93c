/* test-session.c - sessions: references, records, quotas, expiry, many threads. */
#include <string.h>

#include "tests/unit/auth-fixture.h"

/* ---- references ---- */

static void test_references(void)
{
    auth_begin();
    config->sessions_per_user = config->sessions_total = 10000;
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    guint ones[128] = {0};
    for (int i = 0; i < 500; i++) {
        struct session *s = log_in("root", "many");
        g_assert_cmpuint(strlen(s->ref), ==, strlen("OpaqueRef:") + 36);
        g_assert_true(g_str_has_prefix(s->ref, "OpaqueRef:"));
        g_assert_null(strstr(s->ref, s->uuid));
        g_assert_true(g_hash_table_add(seen, g_strdup(s->ref)));
        int bit = 0;
        for (const char *p = s->ref + strlen("OpaqueRef:"); *p; p++)
            for (int b = 3; *p != '-' && b >= 0; b--)
                ones[bit++] += g_ascii_xdigit_value(*p) >> b & 1;
        g_assert_cmpint(bit, ==, 128);
        session_unref(s);
    }
    for (int i = 0; i < 128; i++) { /* seven standard deviations */
        g_assert_cmpuint(ones[i], >, 250 - 79);
        g_assert_cmpuint(ones[i], <, 250 + 79);
    }
}

static void test_record(void)
{
    auth_begin();
    g_autofree char *subject = add_subject("g:staff", "vm-admin");
    struct session *s = log_in("bob", "me");
    g_autoptr(record) r = store_get(the_store(), CLASS_session, s->ref);
    g_assert_cmpstr(record_str(r, F_session_uuid), ==, s->uuid);
    g_assert_cmpstr(record_str(r, F_session_auth_user_name), ==, "bob");
    g_assert_cmpstr(record_str(r, F_session_auth_user_sid), ==, "u:bob");
    g_assert_cmpstr(record_str(r, F_session_subject), ==, subject);
    g_assert_cmpstr(record_str(r, F_session_originator), ==, "me");
    g_assert_false(record_bool(r, F_session_is_local_superuser));
    struct value *permissions = record_field(r, F_session_rbac_permissions);
    g_assert_true(value_contains(permissions, "vm-admin"));
    g_assert_true(value_contains(permissions, "vm.start"));
    g_assert_false(value_contains(permissions, "pool-admin"));
    g_assert_false(value_contains(permissions, "subject.create"));
    session_unref(s);
    s = log_in("root", NULL);
    g_assert_true(s->local_superuser);
    g_assert_cmpstr(s->originator, ==, "test/1");
    session_unref(s);
    g_autofree char *longest = g_strnfill(10000, 'x');
    s = log_in("root", longest);
    g_assert_cmpuint(strlen(s->originator), ==, 255);
    session_unref(s);
}

/* ---- quotas ---- */

static void test_quota(void)
{
    auth_begin();
    char refs[5][REF_SIZE];
    struct session *other = log_in("root", "other client");
    for (int i = 0; i < 3; i++) {
        struct session *s = log_in("root", "leaky");
        g_strlcpy(refs[i], s->ref, REF_SIZE);
        session_unref(s);
        pass_time(1);
    }
    session_unref(session_find(refs[0])); /* now the second is the one that was active longest ago */
    struct session *s = log_in("root", "leaky");
    g_assert_true(lives(refs[0]));
    g_assert_false(lives(refs[1]));
    g_assert_true(lives(refs[2]));
    g_assert_true(lives(other->ref));
    session_unref(s);
    session_unref(other);
}

/* A reference in somebody's hand is a call or a task under way. */
static void test_quota_in_use(void)
{
    auth_begin();
    struct session *used[3];
    for (int i = 0; i < 3; i++)
        used[i] = log_in("root", "busy");
    g_autofree char *fault = NULL;
    g_assert_null(log_in_from(&remote, "root", "right", "busy", &fault, NULL));
    g_assert_cmpstr(fault, ==, "TOO_BUSY []");
    for (int i = 0; i < 3; i++)
        g_assert_true(lives(used[i]->ref));
    g_autofree char *ref = g_strdup(used[2]->ref);
    session_unref(used[2]);
    used[2] = log_in("root", "busy");
    g_assert_false(lives(ref));
    for (int i = 0; i < 3; i++)
        session_unref(used[i]);
}

static void test_quota_total(void)
{
    auth_begin();
    g_free(add_subject("u:alice", "read-only"));
    config->sessions_per_user = 100;
    char first[REF_SIZE], roots[REF_SIZE];
    struct session *s = log_in("root", "");
    g_strlcpy(roots, s->ref, REF_SIZE);
    session_unref(s);
    pass_time(1);
    for (int i = 0; i < 5; i++) {
        g_autofree char *name = g_strdup_printf("client %d", i);
        s = log_in("alice", name);
        if (i == 0)
            g_strlcpy(first, s->ref, REF_SIZE);
        session_unref(s);
        pass_time(1);
    }
    session_unref(log_in("alice", "client 6")); /* of her own, though root's is older */
    g_assert_true(lives(roots));
    g_assert_false(lives(first));
}

static void test_quota_greedy(void)
{
    auth_begin();
    g_free(add_subject("u:alice", "read-only"));
    g_free(add_subject("u:bob", "read-only"));
    config->sessions_per_user = 100;
    char roots[REF_SIZE];
    struct session *s = log_in("root", "");
    g_strlcpy(roots, s->ref, REF_SIZE);
    session_unref(s);
    pass_time(1);
    for (int i = 0; i < 5; i++)
        session_unref(log_in("alice", "flood"));
    session_unref(log_in("bob", "new")); /* has none to give: alice has the most */
    g_assert_true(lives(roots));
    g_autoptr(GPtrArray) all = sessions_all();
    g_assert_cmpuint(all->len, ==, 6);
}

/* ---- expiry ---- */

static void test_expiry(void)
{
    auth_begin();
    struct session *kept = log_in("root", "kept"), *idle = log_in("root", "idle");
    g_autofree char *ref = g_strdup(idle->ref);
    session_unref(idle);
    pass_time(101);
    g_assert_null(session_find(ref)); /* before any sweep */
    sessions_sweep(NULL);
    g_assert_false(lives(ref));
    g_assert_true(lives(kept->ref)); /* somebody holds it */
    pass_time(60);
    sessions_sweep(NULL);
    g_assert_true(lives(kept->ref));
    g_autofree char *kept_ref = g_strdup(kept->ref);
    session_unref(kept);
    pass_time(99);
    sessions_sweep(NULL);
    g_assert_true(lives(kept_ref)); /* work counts as activity */
    pass_time(2);
    sessions_sweep(NULL);
    g_assert_false(lives(kept_ref));
}

static void test_activity(void)
{
    auth_begin();
    struct session *s = log_in("root", "");
    g_autoptr(record) before = store_get(the_store(), CLASS_session, s->ref);
    pass_time(30);
    session_unref(session_find(s->ref));
    sessions_sweep(NULL);
    g_autoptr(record) soon = store_get(the_store(), CLASS_session, s->ref);
    g_assert_true(soon == before); /* not more often than once a minute */
    pass_time(40);
    session_unref(session_find(s->ref));
    sessions_sweep(NULL);
    g_autoptr(record) later = store_get(the_store(), CLASS_session, s->ref);
    g_assert_true(later != before);
    session_unref(s);
}

static void test_end(void)
{
    auth_begin();
    struct session *s = log_in("root", "");
    session_end(s);
    g_assert_false(lives(s->ref));
    g_assert_null(session_find(s->ref));
    g_assert_cmpint(s->valid, ==, 0);
    session_end(s); /* twice is once */
    session_unref(s);
    g_assert_null(session_find(NULL));
    g_assert_null(session_find(""));
    g_assert_null(session_find(NULL_REF));
}

/* ---- many threads ---- */

static void *use_sessions(void *data)
{
    struct session *s = data;
    for (int i = 0; i < 2000; i++) {
        struct session *found = session_find(s->ref);
        g_assert_true(found == s);
        session_has_role(found, ROLE_vm_admin);
        session_unref(found);
        if (i % 100 == 0)
            sessions_recheck();
    }
    return NULL;
}

static void test_threads(void)
{
    auth_begin();
    config->sessions_per_user = config->sessions_total = 4;
    struct session *s = log_in("root", "");
    GThread *threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = g_thread_new("user", use_sessions, s);
    for (int i = 0; i < 50; i++)
        session_unref(log_in("root", ""));
    for (int i = 0; i < 3; i++)
        g_thread_join(threads[i]);
    g_assert_true(lives(s->ref));
    session_unref(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    auth_set_up();
    g_test_add_func("/session/references", test_references);
    g_test_add_func("/session/record", test_record);
    g_test_add_func("/session/quota", test_quota);
    g_test_add_func("/session/quota/in-use", test_quota_in_use);
    g_test_add_func("/session/quota/total", test_quota_total);
    g_test_add_func("/session/quota/greedy", test_quota_greedy);
    g_test_add_func("/session/expiry", test_expiry);
    g_test_add_func("/session/activity", test_activity);
    g_test_add_func("/session/end", test_end);
    g_test_add_func("/session/threads", test_threads);
    int rc = g_test_run();
    auth_tear_down();
    return rc;
}
