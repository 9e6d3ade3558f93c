/* test-session.c - sessions over a store of their own, with a helper that this test plays and a clock that it moves. */
#include <string.h>
#include <unistd.h>

#include "auth/roles.h"
#include "auth/session_private.h"
#include "auth/throttle.h"
#include "daemon/clock.h"
#include "daemon/event.h"
#include "daemon/jsonrpc.h"
#include "daemon/peer.h"
#include "daemon/task.h"
#include "xapi-classes/handlers.h"

#define SECOND 1000

static struct conf *config;
static const struct origin remote = {.address = "192.0.2.1", .user_agent = "test/1"};

/* ---- the helper that this test plays ---- */

/* Knows alice, bob, admin and root; "hang" never gets an answer, "die" makes it go away as often as deaths says. */
static struct peer *helper;
static gint asked, deaths;
static GPtrArray *players;

static struct value *known_user(const char *user, gint64 uid, const char *group)
{
    struct value_builder b, groups;
    g_autofree char *identifier = g_strconcat("u:", user, NULL);
    value_builder_set(&groups, NULL, 1);
    value_builder_add_string(&groups, group);
    value_builder_map(&b, NULL, 5);
    value_builder_put_string(&b, "user", user);
    value_builder_put(&b, "uid", value_int(NULL, uid));
    value_builder_put(&b, "gid", value_int(NULL, uid));
    value_builder_put(&b, "groups", value_builder_end(&groups));
    value_builder_put_string(&b, "subject_identifier", identifier);
    return value_builder_end(&b);
}

static void refuse_login(struct wire *w, gint64 id)
{
    struct fault f = FAULT_INIT;
    fault_set(&f, "SESSION_AUTHENTICATION_FAILED", "x", "the helper's own words", NULL);
    wire_answer_fault(w, id, &f);
    fault_clear(&f);
}

/* FALSE: the helper dies. */
static gboolean play(struct wire *w, struct wire_message *m)
{
    const char *user = value_get_str(m->params, "user", "");
    g_autoptr(value) result = NULL;
    g_atomic_int_inc(&asked);
    if (strcmp(user, "die") == 0 && g_atomic_int_add(&deaths, -1) > 0)
        return FALSE;
    if (strcmp(user, "hang") == 0)
        return TRUE;
    if (strcmp(value_get_str(m->params, "password", ""), "right") != 0)
        refuse_login(w, m->id);
    else if (strcmp(user, "root") == 0)
        result = known_user(user, 0, "wheel");
    else if (strcmp(user, "alice") == 0 || strcmp(user, "bob") == 0 || strcmp(user, "die") == 0)
        result = known_user(user, 12345, strcmp(user, "bob") == 0 ? "staff" : "users");
    else if (strcmp(user, "admin") == 0)
        result = known_user(user, 12346, "admins");
    else
        refuse_login(w, m->id);
    if (result)
        wire_answer(w, m->id, result, NULL, 0);
    return TRUE;
}

static void *player_thread(void *data)
{
    struct wire *w = wire_new(GPOINTER_TO_INT(data));
    struct wire_message m = {0};
    gboolean alive = TRUE;
    while (alive && wire_read(w, &m, -1) == 1) {
        alive = m.method && strcmp(m.method, "authenticate") == 0 ? play(w, &m) : TRUE;
        wire_message_clear(&m);
    }
    wire_free(w);
    return NULL;
}

static void start_helper(void)
{
    int fds[2];
    g_assert_true(wire_pair(fds));
    g_ptr_array_add(players, g_thread_new("helper", player_thread, GINT_TO_POINTER(fds[1])));
    peer_connect(helper, fds[0]);
}

/* What the supervisor does. */
static void restart_helper(gboolean up, G_GNUC_UNUSED void *data)
{
    static gint lives;
    if (!up && g_atomic_int_add(&lives, 1) < 4)
        start_helper();
}

/* ---- logging in and waiting for it ---- */

struct outcome {
    GMutex lock;
    GCond done;
    int n;
    struct session *session;
    struct fault fault;
    gint64 took; /* milliseconds */
    gint64 began;
};

static void outcome_init(struct outcome *o)
{
    memset(o, 0, sizeof *o);
    g_mutex_init(&o->lock);
    g_cond_init(&o->done);
    o->began = g_get_monotonic_time();
}

static void outcome_clear(struct outcome *o)
{
    session_unref(o->session);
    fault_clear(&o->fault);
    g_mutex_clear(&o->lock);
    g_cond_clear(&o->done);
}

static void done(struct session *s, const struct fault *f, void *data)
{
    struct outcome *o = data;
    g_mutex_lock(&o->lock);
    o->session = s;
    if (f)
        fault_setv(&o->fault, f->code, (const char *const *) f->params);
    o->took = (g_get_monotonic_time() - o->began) / 1000;
    o->n++;
    g_cond_signal(&o->done);
    g_mutex_unlock(&o->lock);
}

static void outcome_wait(struct outcome *o)
{
    gint64 deadline = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    g_mutex_lock(&o->lock);
    while (!o->n && g_cond_wait_until(&o->done, &o->lock, deadline))
        ;
    g_assert_cmpint(o->n, ==, 1);
    g_mutex_unlock(&o->lock);
}

static struct session *log_in_from(const struct origin *origin, const char *user, const char *password,
                                   const char *originator, char **fault, gint64 *took)
{
    struct outcome o;
    outcome_init(&o);
    session_login(user, password, originator, origin, done, &o);
    outcome_wait(&o);
    struct session *s = o.session;
    o.session = NULL;
    if (fault)
        *fault = s ? NULL : fault_text(&o.fault);
    if (took)
        *took = o.took;
    outcome_clear(&o);
    return s;
}

static struct session *log_in(const char *user, const char *originator)
{
    g_autofree char *fault = NULL;
    struct session *s = log_in_from(&remote, user, "right", originator, &fault, NULL);
    g_assert_cmpstr(fault, ==, NULL);
    g_assert_nonnull(s);
    return s;
}

/* ---- each test begins with nobody logged in and nothing counted ---- */

static void end_everybody(void)
{
    g_autoptr(GPtrArray) all = sessions_all();
    for (guint i = 0; i < all->len; i++)
        session_end(g_ptr_array_index(all, i));
}

static char *add_subject(const char *identifier, const char *role)
{
    char ref[REF_SIZE];
    struct txn *t = txn_begin(the_store());
    char *subject = g_strdup(txn_create(t, CLASS_subject, NULL, NULL));
    role_ref_of_name(role, ref);
    txn_set_str(t, CLASS_subject, subject, F_subject_subject_identifier, identifier);
    txn_set(t, CLASS_subject, subject, F_subject_roles, value_string_set(NULL, (const char *const[]){ref, NULL}));
    txn_commit(t);
    return subject;
}

static void remove_subjects(void)
{
    g_autoptr(GPtrArray) all = store_all(the_store(), CLASS_subject);
    struct txn *t = txn_begin(the_store());
    for (guint i = 0; i < all->len; i++)
        txn_destroy(t, CLASS_subject, ((struct record *) g_ptr_array_index(all, i))->ref);
    txn_commit(t);
}

static void begin(void)
{
    end_everybody();
    remove_subjects();
    throttle_forget_all();
    config = g_memdup2(config, sizeof *config); /* threads may still be looking at the one before */
    config->sessions_per_user = 3;
    config->sessions_total = 6;
    config->session_idle_timeout = 100;
    config->login_timeout = 1;
    config->logins_at_once = 8;
    config->login_failure_delay_ms = 200;
    config->login_failures_before_slow = 3;
    config->login_delay_max = 2;
    config->unix_root_is_admin = TRUE;
    front_set_conf(config);
}

static void pass_time(int seconds)
{
    __atomic_add_fetch(&auth_clock_offset_ms, seconds * SECOND, __ATOMIC_RELAXED);
}

static gboolean lives(const char *ref)
{
    struct session *s = session_peek(ref);
    session_unref(s);
    g_autoptr(record) r = store_get(the_store(), CLASS_session, ref);
    g_assert_cmpint(s != NULL, ==, r != NULL);
    return s != NULL;
}

/* ---- references ---- */

static void test_references(void)
{
    begin();
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
    begin();
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
    begin();
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
    begin();
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
    begin();
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
    begin();
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
    begin();
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
    begin();
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
    begin();
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

/* ---- failures ---- */

static void test_refusals_alike(void)
{
    begin();
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
    g_assert_cmpint(wrong_took, <, 395);
    g_assert_cmpint(unknown_took, <, 395);
    g_assert_cmpint(empty_took, <, 395);
}

static void test_no_role(void)
{
    begin();
    g_autofree char *fault = NULL;
    g_assert_null(log_in_from(&remote, "alice", "right", "", &fault, NULL));
    g_assert_true(g_str_has_prefix(fault, "SESSION_AUTHORIZATION_FAILED [alice, "));
}

static void test_throttle_growth(void)
{
    begin();
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
    begin();
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
    begin();
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

static void test_slowed_login(void)
{
    begin();
    for (int i = 0; i < 4; i++)
        throttle_failed("192.0.2.1", "root");
    gint before = g_atomic_int_get(&asked);
    gint64 took;
    struct outcome o;
    outcome_init(&o);
    session_login("root", "right", "", &remote, done, &o);
    struct origin elsewhere = {.address = "198.51.100.1"};
    g_free(add_subject("u:alice", "read-only"));
    struct session *other = log_in_from(&elsewhere, "alice", "right", "", NULL, &took);
    g_assert_nonnull(other); /* others do not wait behind it */
    g_assert_cmpint(took, <, 300);
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
    begin();
    struct outcome hanging[10];
    for (int i = 0; i < 10; i++) {
        outcome_init(&hanging[i]);
        session_login("hang", "x", "", &remote, done, &hanging[i]);
    }
    struct origin elsewhere = {.address = "198.51.100.1"};
    gint64 took;
    struct session *s = log_in_from(&elsewhere, "root", "right", "", NULL, &took);
    g_assert_nonnull(s);
    g_assert_cmpint(took, <, 500); /* one source never has all the places */
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
    begin();
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
    begin();
    config->sessions_per_user = config->sessions_total = 100;
    struct outcome o[20];
    for (int i = 0; i < 20; i++) {
        outcome_init(&o[i]);
        session_login("root", "right", "", &remote, done, &o[i]);
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
    begin();
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

/* ---- roles ---- */

static void check(const struct session *s, const char *message, const char *key, const char *denied)
{
    struct fault f = FAULT_INIT;
    gboolean allowed = session_allows(s, message_lookup(message), key, &f);
    g_assert_cmpint(allowed, ==, denied == NULL);
    if (denied) {
        g_assert_cmpstr(f.code, ==, "RBAC_PERMISSION_DENIED");
        g_assert_cmpstr(f.params[0], ==, denied);
        g_assert_cmpuint(g_strv_length(f.params), ==, 2);
    }
    fault_clear(&f);
}

static struct session *log_in_as(const char *role)
{
    remove_subjects();
    g_free(add_subject("u:alice", role));
    return log_in("alice", role);
}

static void test_roles(void)
{
    begin();
    config->sessions_per_user = config->sessions_total = 100;
    struct session *s = log_in_as("read-only");
    check(s, "VM.get_name_label", NULL, NULL);
    check(s, "VM.start", NULL, "vm.start");
    check(s, "VM.add_to_other_config", "anything", "vm.add_to_other_config");
    session_unref(s);
    s = log_in_as("vm-operator");
    check(s, "VM.start", NULL, NULL);
    check(s, "VM.destroy", NULL, "vm.destroy");
    check(s, "VM.add_to_other_config", "folder", NULL);
    check(s, "VM.remove_from_other_config", "XenCenter.CustomFields.colour", NULL);
    check(s, "VM.add_to_other_config", "anything", "vm.add_to_other_config");
    check(s, "secret.get_value", NULL, "secret.get_value");
    session_unref(s);
    s = log_in_as("read-only");
    check(s, "VM.add_to_other_config", "folder", "vm.add_to_other_config/key:folder");
    session_unref(s);
    s = log_in_as("pool-operator");
    check(s, "secret.get_value", NULL, NULL);
    check(s, "subject.create", NULL, "subject.create");
    session_unref(s);
    s = log_in_as("pool-admin");
    check(s, "subject.create", NULL, NULL);
    check(s, "session.change_password", NULL, "session.change_password");
    session_unref(s);
    s = log_in("root", "");
    check(s, "session.change_password", NULL, NULL);
    session_unref(s);
}

static void test_client_cert(void)
{
    begin();
    struct session s = {.roles = ROLES_CLIENT_CERT};
    check(&s, "VM.get_name_label", NULL, NULL);
    check(&s, "VM.start", NULL, "vm.start");
}

static void test_role_sources(void)
{
    begin();
    g_free(add_subject("g:staff", "vm-operator"));
    g_free(add_subject("u:bob", "read-only"));
    struct session *s = log_in("bob", ""); /* the union of both */
    g_assert_true(session_has_role(s, ROLE_vm_operator));
    g_assert_false(session_has_role(s, ROLE_vm_admin));
    session_unref(s);
    s = log_in("admin", "");
    g_assert_true(session_has_role(s, ROLE_pool_admin));
    g_assert_false(session_has_role(s, ROLE_local_root));
    g_assert_false(s->local_superuser);
    session_unref(s);
}

static void test_revocation(void)
{
    begin();
    g_autofree char *staff = add_subject("g:staff", "vm-operator");
    g_autofree char *bob = add_subject("u:bob", "pool-admin");
    struct session *s = log_in("bob", "");
    g_assert_true(session_has_role(s, ROLE_pool_admin));
    struct txn *t = txn_begin(the_store());
    txn_destroy(t, CLASS_subject, bob);
    txn_commit(t);
    sessions_recheck();
    g_assert_false(session_has_role(s, ROLE_pool_admin));
    g_assert_true(session_has_role(s, ROLE_vm_operator));
    g_autoptr(record) r = store_get(the_store(), CLASS_session, s->ref);
    g_assert_false(value_contains(record_field(r, F_session_rbac_permissions), "pool-admin"));
    t = txn_begin(the_store());
    txn_destroy(t, CLASS_subject, staff);
    txn_commit(t);
    sessions_recheck();
    g_assert_false(lives(s->ref));
    session_unref(s);
}

static void test_local_only(void)
{
    begin();
    struct outcome o;
    outcome_init(&o);
    session_login_local("root", "right", NULL, &remote, done, &o);
    outcome_wait(&o);
    g_assert_nonnull(o.session);
    check(o.session, "session.local_logout", NULL, NULL);
    check(o.session, "session.get_uuid", NULL, NULL);
    check(o.session, "pool.emergency_transition_to_master", NULL, NULL);
    check(o.session, "VM.start", NULL, "vm.start");
    check(o.session, "VM.get_all_records", NULL, "vm.get_all_records");
    outcome_clear(&o);
    g_free(add_subject("u:alice", "pool-operator"));
    outcome_init(&o);
    session_login_local("alice", "right", NULL, &remote, done, &o);
    outcome_wait(&o);
    g_assert_cmpstr(o.fault.code, ==, "SESSION_AUTHORIZATION_FAILED");
    outcome_clear(&o);
}

/* ---- permissions ---- */

static void test_permissions(void)
{
    char ref[REF_SIZE];
    gsize n;
    enum role r;
    permissions_all(&n);
    g_assert_cmpuint(n, >, 1500);
    role_ref_of_name("pool-admin", ref);
    g_assert_cmpstr(ref, ==, "OpaqueRef:0165f154-ba3e-034e-6b27-5d271af109ba");
    g_assert_true(role_of_ref(ref, &r) && r == ROLE_pool_admin);
    g_assert_false(role_of_ref("OpaqueRef:NULL", &r));
    const struct permission *p = permission_by_name("vm.start");
    g_assert_cmpint(p->role, ==, ROLE_vm_operator);
    role_ref_of_name("vm.start", ref);
    g_assert_true(permission_by_ref(ref) == p);
    g_assert_true(permission_by_uuid(ref + 10) == p);
    ref[20] = ref[20] == '0' ? '1' : '0';
    g_assert_null(permission_by_ref(ref));
    g_assert_null(permission_by_name("vm.fly"));
    g_assert_null(permission_by_name("session.change_password")); /* no role has it */
    g_assert_null(permission_by_uuid(""));
    g_assert_nonnull(permission_by_name("vm.add_to_other_config/key:folder"));
    g_assert_true(permission_in(p, roles_reached(ROLE_vm_admin)));
    g_assert_false(permission_in(p, roles_reached(ROLE_read_only)));
    g_autoptr(value) names = roles_permission_names(roles_reached(ROLE_read_only));
    g_autoptr(value) again = roles_permission_names(roles_reached(ROLE_read_only));
    g_assert_true(names == again);
    for (r = ROLE_read_only; r <= ROLE_pool_admin; r++) { /* clients take one without subroles for a permission */
        role_ref_of_name(role_name(r), ref);
        g_autoptr(record) role = store_get(the_store(), CLASS_role, ref);
        g_assert_cmpstr(record_str(role, F_role_name_label), ==, role_name(r));
        g_assert_cmpuint(value_count(record_field(role, F_role_subroles)), >, 0);
    }
}

/* ---- the messages ---- */

static char *run_as(struct session *s, const char *name, const char *json)
{
    g_autoptr(arena) a = arena_new();
    struct value *given = json_parse(a, json, strlen(json), NULL, NULL);
    struct value *args[8] = {NULL};
    struct call c = {.msg = message_lookup(name), .args = args, .arena = a, .session = s, .origin = &remote};
    for (gsize i = 0; i < value_count(given); i++) {
        args[i] = type_convert(a, c.msg->params[i].type, value_at(given, i), c.msg->params[i].name, &c.fault);
        g_assert_nonnull(args[i]);
    }
    g_autoptr(value) result = c.msg->handler(&c);
    char *text = result ? json_text(result) : fault_text(&c.fault);
    fault_clear(&c.fault);
    return text;
}

static void assert_run(struct session *s, const char *name, const char *json, const char *wanted)
{
    g_autofree char *got = run_as(s, name, json);
    g_assert_cmpstr(got, ==, wanted);
}

static void test_others_sessions(void)
{
    begin();
    g_free(add_subject("u:alice", "pool-operator"));
    struct session *alice = log_in("alice", ""), *root = log_in("root", "");
    g_autofree char *of_root = g_strdup_printf("[\"%s\"]", root->ref),
                    *of_alice = g_strdup_printf("[\"%s\"]", alice->ref);
    g_autofree char *no = g_strdup_printf("HANDLE_INVALID [session, %s]", root->ref);
    g_autofree char *uuid = g_strdup_printf("\"%s\"", root->uuid), *own = g_strdup_printf("\"%s\"", alice->uuid);
    g_autofree char *by_uuid = g_strdup_printf("[%s]", uuid), *by_own = g_strdup_printf("[%s]", own);
    g_autofree char *no_uuid = g_strdup_printf("UUID_INVALID [session, %s]", root->uuid);
    g_autofree char *own_ref = g_strdup_printf("\"%s\"", alice->ref), *root_ref = g_strdup_printf("\"%s\"", root->ref);
    assert_run(alice, "session.get_uuid", of_root, no);
    assert_run(alice, "session.get_record", of_root, no);
    assert_run(alice, "session.get_by_uuid", by_uuid, no_uuid);
    assert_run(alice, "session.get_uuid", of_alice, own);
    assert_run(alice, "session.get_by_uuid", by_own, own_ref);
    assert_run(root, "session.get_uuid", of_alice, own);
    assert_run(root, "session.get_by_uuid", by_uuid, root_ref);
    assert_run(root, "session.get_all_subject_identifiers", "[]", "[\"u:alice\"]");
    assert_run(alice, "session.logout_subject_identifier", "[\"u:alice\"]", "\"\"");
    g_assert_true(lives(alice->ref)); /* not the caller's own */
    assert_run(root, "session.logout_subject_identifier", "[\"\"]", "\"\"");
    g_assert_true(lives(root->ref));
    assert_run(root, "session.logout_subject_identifier", "[\"u:alice\"]", "\"\"");
    g_assert_false(lives(alice->ref));
    session_unref(alice);
    session_unref(root);
}

static void test_subject_messages(void)
{
    begin();
    struct session *root = log_in("root", "");
    char power[REF_SIZE], admin[REF_SIZE];
    role_ref_of_name("vm-power-admin", power);
    role_ref_of_name("pool-admin", admin);
    assert_run(root, "subject.create", "[{\"subject_identifier\":\"alice\"}]", "SUBJECT_CANNOT_BE_RESOLVED []");
    g_autofree char *quoted = run_as(root, "subject.create", "[{\"subject_identifier\":\"u:alice\"}]");
    g_autofree char *ref = g_strndup(quoted + 1, strlen(quoted) - 2);
    assert_run(root, "subject.create", "[{\"subject_identifier\":\"u:alice\"}]", "SUBJECT_ALREADY_EXISTS []");
    struct session *alice = log_in("alice", "");
    g_assert_true(session_has_role(alice, ROLE_pool_admin)); /* the API's default */
    g_autofree char *add = g_strdup_printf("[\"%s\",\"%s\"]", ref, power);
    g_autofree char *remove = g_strdup_printf("[\"%s\",\"%s\"]", ref, admin);
    g_autofree char *bad = g_strdup_printf("[\"%s\",\"OpaqueRef:none\"]", ref);
    g_autofree char *self = g_strdup_printf("[\"%s\"]", ref);
    assert_run(root, "subject.add_to_roles", add, "\"\"");
    assert_run(root, "subject.add_to_roles", add, "ROLE_ALREADY_EXISTS []");
    assert_run(root, "subject.add_to_roles", bad, "ROLE_NOT_FOUND []");
    assert_run(root, "subject.remove_from_roles", remove, "\"\"");
    assert_run(root, "subject.remove_from_roles", remove, "ROLE_NOT_FOUND []");
    g_assert_false(session_has_role(alice, ROLE_pool_operator));
    g_assert_true(session_has_role(alice, ROLE_vm_power_admin));
    g_autofree char *names = run_as(root, "subject.get_permissions_name_label", self);
    g_assert_nonnull(strstr(names, "\"vm.start\""));
    g_assert_null(strstr(names, "\"subject.create\""));
    assert_run(root, "subject.destroy", self, "\"\"");
    g_assert_false(lives(alice->ref));
    session_unref(alice);
    session_unref(root);
}

static void test_role_messages(void)
{
    begin();
    struct session *root = log_in("root", "");
    char start[REF_SIZE], operator[REF_SIZE], admin[REF_SIZE];
    role_ref_of_name("vm.start", start);
    role_ref_of_name("vm-operator", operator);
    role_ref_of_name("pool-admin", admin);
    g_autofree char *of_start = g_strdup_printf("[\"%s\"]", start), *start_set = g_strdup(of_start);
    g_autofree char *of_operator = g_strdup_printf("[\"%s\"]", operator);
    assert_run(root, "role.get_name_label", of_start, "\"vm.start\"");
    assert_run(root, "role.get_subroles", of_start, "[]");
    assert_run(root, "role.get_by_name_label", "[\"vm.start\"]", start_set);
    assert_run(root, "role.get_by_name_label", "[\"pool-admin\"]",
               "[\"OpaqueRef:0165f154-ba3e-034e-6b27-5d271af109ba\"]");
    assert_run(root, "role.get_permissions_name_label", of_start, "[\"vm.start\"]");
    assert_run(root, "role.get_name_label", "[\"OpaqueRef:x\"]", "HANDLE_INVALID [role, OpaqueRef:x]");
    assert_run(root, "role.get_permissions", "[\"OpaqueRef:x\"]", "HANDLE_INVALID [role, OpaqueRef:x]");
    g_autofree char *record = run_as(root, "role.get_record", of_start);
    g_assert_nonnull(strstr(record, "\"name_label\":\"vm.start\""));
    g_autofree char *names = run_as(root, "role.get_permissions_name_label", of_operator);
    g_assert_nonnull(strstr(names, "\"vm.start\""));
    g_assert_nonnull(strstr(names, "\"vm.get_name_label\""));
    g_assert_null(strstr(names, "\"vm.destroy\""));
    g_autofree char *refs = run_as(root, "role.get_permissions", of_operator);
    g_assert_nonnull(strstr(refs, start));
    g_autofree char *roles = run_as(root, "role.get_by_permission_name_label", "[\"vm.start\"]");
    g_autofree char *same = run_as(root, "role.get_by_permission", of_start);
    g_assert_cmpstr(roles, ==, same);
    g_assert_nonnull(strstr(roles, operator));
    g_assert_nonnull(strstr(roles, admin));
    assert_run(root, "role.get_by_permission_name_label", "[\"vm.fly\"]", "[]");
    session_unref(root);
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
    begin();
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

static void set_up(void)
{
    char *argv[] = {(char *) "xenapid", NULL}, **v = argv;
    int argc = 1, status;
    gboolean check_only, describe, version;
    config = conf_from_args(&argc, &v, &status, &check_only, &describe, &version);
    g_assert_nonnull(config);
    g_strfreev(config->admin_groups);
    config->admin_groups = g_strsplit("root,admins", ",", -1);
    front_set_conf(config);
    model_init();
    front_set_store(store_open(NULL, NULL));
    clock_init();
    tasks_init();
    events_init();
    roles_start();
    sessions_init();
    players = g_ptr_array_new();
    helper = peer_new("auth", NULL, restart_helper, NULL);
    auth_set_helper(helper);
    start_helper();
}

static void tear_down(void)
{
    end_everybody();
    sessions_stop();
    tasks_stop(0);
    events_stop();
    peer_free(helper);
    for (guint i = 0; i < players->len; i++)
        g_thread_join(g_ptr_array_index(players, i));
    g_ptr_array_unref(players);
    clock_stop();
    store_close(the_store());
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_FLAG_FATAL); /* a helper that dies is worth a warning */
    set_up();
    g_test_add_func("/session/references", test_references);
    g_test_add_func("/session/record", test_record);
    g_test_add_func("/session/quota", test_quota);
    g_test_add_func("/session/quota/in-use", test_quota_in_use);
    g_test_add_func("/session/quota/total", test_quota_total);
    g_test_add_func("/session/quota/greedy", test_quota_greedy);
    g_test_add_func("/session/expiry", test_expiry);
    g_test_add_func("/session/activity", test_activity);
    g_test_add_func("/session/end", test_end);
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
    g_test_add_func("/roles/messages", test_roles);
    g_test_add_func("/roles/client-cert", test_client_cert);
    g_test_add_func("/roles/sources", test_role_sources);
    g_test_add_func("/roles/revocation", test_revocation);
    g_test_add_func("/roles/local-only", test_local_only);
    g_test_add_func("/roles/permissions", test_permissions);
    g_test_add_func("/messages/others-sessions", test_others_sessions);
    g_test_add_func("/messages/subject", test_subject_messages);
    g_test_add_func("/messages/role", test_role_messages);
    g_test_add_func("/session/threads", test_threads);
    int rc = g_test_run();
    tear_down();
    return rc;
}
