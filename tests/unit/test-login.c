/* test-login.c - logins: refusals, throttling, a helper that hangs or dies, UNIX sockets. */
#include <string.h>

#include "auth/throttle.h"
#include "tests/unit/auth-fixture.h"

/* ---- failures ---- */

static void test_refusals_alike(void)
{
    auth_begin();
    g_autofree char *wrong = NULL, *unknown = NULL, *empty = NULL;
    gint64 wrong_took, unknown_took, empty_took;
    g_assert_null(log_in_from(&remote, "alice", "wrong", "", &wrong, &wrong_took));
    g_assert_null(log_in_from(&remote, "nobody", "right", "", &unknown, &unknown_took));
    g_assert_null(log_in_from(&remote, "", "", "", &empty, &empty_took));
    g_assert_cmpstr(wrong, ==, "SESSION_AUTHENTICATION_FAILED [alice, Authentication failure]");
    g_assert_cmpstr(unknown, ==, "SESSION_AUTHENTICATION_FAILED [nobody, Authentication failure]");
    g_assert_cmpstr(empty, ==, "SESSION_AUTHENTICATION_FAILED [, Authentication failure]");
    g_assert_cmpint(wrong_took, >=, 199);
    g_assert_cmpint(unknown_took, >=, 199);
    g_assert_cmpint(empty_took, >=, 199);
    g_assert_cmpint(wrong_took, <, 1500);
    g_assert_cmpint(unknown_took, <, 1500);
    g_assert_cmpint(empty_took, <, 1500);
}

static void test_no_role(void)
{
    auth_begin();
    g_autofree char *fault = NULL;
    g_assert_null(log_in_from(&remote, "alice", "right", "", &fault, NULL));
    g_assert_true(g_str_has_prefix(fault, "SESSION_AUTHORIZATION_FAILED [alice, "));
}

static void test_slowed_login(void)
{
    auth_begin();
    for (int i = 0; i < 4; i++)
        throttle_failed("192.0.2.1", "root");
    gint before = g_atomic_int_get(&asked);
    gint64 took;
    struct outcome o;
    outcome_init(&o);
    session_login("root", "right", "", &remote, outcome_done, &o);
    struct origin elsewhere = {.address = "198.51.100.1"};
    g_free(add_subject("u:alice", "read-only"));
    struct session *other = log_in_from(&elsewhere, "alice", "right", "", NULL, &took);
    g_assert_nonnull(other); /* others do not wait behind it */
    g_assert_cmpint(took, <, 700);
    g_assert_cmpint(g_atomic_int_get(&asked), ==, before + 1); /* nobody looked at root's password yet */
    session_unref(other);
    outcome_wait(&o);
    g_assert_nonnull(o.session);
    g_assert_cmpint(o.took, >=, 795);
    outcome_clear(&o);
}

/* ---- the helper ---- */

static void test_hanging(void)
{
    auth_begin();
    struct outcome hanging[10];
    for (int i = 0; i < 10; i++) {
        outcome_init(&hanging[i]);
        session_login("hang", "x", "", &remote, outcome_done, &hanging[i]);
    }
    struct origin elsewhere = {.address = "198.51.100.1"};
    gint64 took;
    struct session *s = log_in_from(&elsewhere, "root", "right", "", NULL, &took);
    g_assert_nonnull(s);
    g_assert_cmpint(took, <, 900); /* one source never has all the places */
    session_unref(s);
    for (int i = 0; i < 10; i++) {
        outcome_wait(&hanging[i]);
        g_autofree char *fault = fault_text(&hanging[i].fault);
        g_assert_cmpstr(fault, ==, "SESSION_AUTHENTICATION_FAILED [hang, Authentication failure]");
        outcome_clear(&hanging[i]);
    }
}

static void test_helper_dies(void)
{
    auth_begin();
    g_free(add_subject("u:die", "read-only"));
    g_atomic_int_set(&deaths, 1);
    session_unref(log_in("die", "")); /* answered by the next one */
    g_atomic_int_set(&deaths, 2);
    g_autofree char *fault = NULL;
    g_assert_null(log_in_from(&remote, "die", "right", "", &fault, NULL));
    g_assert_true(g_str_has_prefix(fault, "INTERNAL_ERROR ["));
    session_unref(log_in("root", ""));
}

static void test_parallel(void)
{
    auth_begin();
    config->sessions_per_user = config->sessions_total = 100;
    struct outcome o[20];
    for (int i = 0; i < 20; i++) {
        outcome_init(&o[i]);
        session_login("root", "right", "", &remote, outcome_done, &o[i]);
    }
    for (int i = 0; i < 20; i++) {
        outcome_wait(&o[i]);
        g_assert_nonnull(o[i].session);
        outcome_clear(&o[i]);
    }
}

/* ---- UNIX sockets ---- */

static void test_unix_root(void)
{
    auth_begin();
    gint before = g_atomic_int_get(&asked);
    struct origin o = {.address = "unix", .is_unix = TRUE, .uid_known = TRUE, .uid = 0};
    struct session *s = log_in_from(&o, "", "", "", NULL, NULL);
    g_assert_nonnull(s);
    g_assert_true(s->local_superuser);
    g_assert_cmpstr(s->user, ==, "");
    session_unref(s);
    g_assert_cmpint(g_atomic_int_get(&asked), ==, before);
    o.uid = 54321;
    g_assert_null(log_in_from(&o, "root", "", "", NULL, NULL));
    o.uid_known = FALSE;
    o.uid = 0;
    g_assert_null(log_in_from(&o, "root", "", "", NULL, NULL));
    o.uid_known = TRUE;
    config->unix_root_is_admin = FALSE;
    g_assert_null(log_in_from(&o, "root", "", "", NULL, NULL));
    o.is_unix = FALSE; /* a uid says nothing elsewhere */
    config->unix_root_is_admin = TRUE;
    g_assert_null(log_in_from(&o, "root", "", "", NULL, NULL));
}

/* ---- who fails often waits ---- */

static void test_throttle_growth(void)
{
    auth_begin();
    char source[SOURCE_SIZE];
    throttle_source(&remote, source);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpuint(throttle_wait(source, "alice"), ==, 0);
        throttle_failed(source, "alice");
    }
    guint wanted = 400;
    for (int i = 0; i < 6; i++) {
        g_assert_cmpuint(throttle_wait(source, "alice"), ==, MIN(wanted, 2000));
        throttle_failed(source, "alice");
        wanted *= 2;
    }
    g_assert_cmpuint(throttle_wait(source, "bob"), ==, 2000);           /* the source is slow */
    g_assert_cmpuint(throttle_wait("198.51.100.1", "alice"), ==, 2000); /* so is the user */
    g_assert_cmpuint(throttle_wait("198.51.100.1", "bob"), ==, 0);      /* nobody else is */
    pass_time(3600);
    g_assert_cmpuint(throttle_wait(source, "alice"), ==, 0);
}

/* Guessing root's password must not keep root out. */
static void test_throttle_trust(void)
{
    auth_begin();
    throttle_succeeded("192.0.2.7", "root");
    for (int i = 0; i < 50; i++)
        throttle_failed("203.0.113.9", "root");
    g_assert_cmpuint(throttle_wait("192.0.2.7", "root"), ==, 0);
    g_assert_cmpuint(throttle_wait("192.0.2.8", "root"), ==, 2000);
    for (int i = 0; i < 10; i++)
        throttle_failed("192.0.2.7", "root");
    g_assert_cmpuint(throttle_wait("192.0.2.7", "root"), ==, 2000);
}

static void test_throttle_bounds(void)
{
    auth_begin();
    for (int i = 0; i < 30; i++)
        throttle_failed("192.0.2.1", "victim");
    for (int i = 0; i < 3 * THROTTLE_ENTRIES; i++) {
        g_autofree char *source = g_strdup_printf("10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        g_autofree char *user = g_strdup_printf("user%d", i);
        throttle_failed(source, user);
    }
    g_assert_cmpuint(throttle_size(), <=, THROTTLE_ENTRIES);
    g_assert_cmpuint(throttle_wait("192.0.2.99", "victim"), ==, 2000); /* the worst are remembered */
    g_autofree char *longest = g_strnfill(100000, 'x');
    throttle_failed("192.0.2.1", longest);
}

static void test_throttle_sources(void)
{
    char a[SOURCE_SIZE], b[SOURCE_SIZE];
    throttle_source(&(struct origin){.address = "2001:db8:0:1::1"}, a);
    throttle_source(&(struct origin){.address = "2001:db8:0:1:ffff::2"}, b);
    g_assert_cmpstr(a, ==, b);
    throttle_source(&(struct origin){.address = "2001:db8:0:2::1"}, b);
    g_assert_cmpstr(a, !=, b);
    throttle_source(&(struct origin){.address = "unix", .is_unix = TRUE, .uid_known = TRUE, .uid = 5}, a);
    throttle_source(&(struct origin){.address = "unix", .is_unix = TRUE, .uid_known = TRUE, .uid = 6}, b);
    g_assert_cmpstr(a, !=, b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    auth_set_up();
    g_test_add_func("/login/refusals-alike", test_refusals_alike);
    g_test_add_func("/login/no-role", test_no_role);
    g_test_add_func("/login/slowed", test_slowed_login);
    g_test_add_func("/login/hanging", test_hanging);
    g_test_add_func("/login/helper-dies", test_helper_dies);
    g_test_add_func("/login/parallel", test_parallel);
    g_test_add_func("/login/unix-root", test_unix_root);
    g_test_add_func("/throttle/growth", test_throttle_growth);
    g_test_add_func("/throttle/trust", test_throttle_trust);
    g_test_add_func("/throttle/bounds", test_throttle_bounds);
    g_test_add_func("/throttle/sources", test_throttle_sources);
    int rc = g_test_run();
    auth_tear_down();
    return rc;
}
