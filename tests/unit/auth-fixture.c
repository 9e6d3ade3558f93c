/* auth-fixture.c - see auth-fixture.h. */
#include <string.h>
#include <unistd.h>

#include "auth/roles.h"
#include "auth/throttle.h"
#include "daemon/clock.h"
#include "daemon/event.h"
#include "daemon/process/peer.h"
#include "daemon/task.h"
#include "tests/unit/auth-fixture.h"

struct conf *config;
const struct origin remote = {.address = "192.0.2.1", .user_agent = "test/1"};

/* ---- the helper that this test plays ---- */

/* Knows alice, bob, admin and root; "hang" never gets an answer, "die" makes it go away as often as deaths says. */
static struct peer *helper;
gint asked, deaths;
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

void outcome_init(struct outcome *o)
{
    memset(o, 0, sizeof *o);
    g_mutex_init(&o->lock);
    g_cond_init(&o->done);
    o->began = g_get_monotonic_time();
}

void outcome_clear(struct outcome *o)
{
    session_unref(o->session);
    fault_clear(&o->fault);
    g_mutex_clear(&o->lock);
    g_cond_clear(&o->done);
}

void outcome_done(struct session *s, const struct fault *f, void *data)
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

void outcome_wait(struct outcome *o)
{
    gint64 deadline = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    g_mutex_lock(&o->lock);
    while (!o->n && g_cond_wait_until(&o->done, &o->lock, deadline))
        ;
    g_assert_cmpint(o->n, ==, 1);
    g_mutex_unlock(&o->lock);
}

struct session *log_in_from(const struct origin *origin, const char *user, const char *password, const char *originator,
                            char **fault, gint64 *took)
{
    struct outcome o;
    outcome_init(&o);
    session_login(user, password, originator, origin, outcome_done, &o);
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

struct session *log_in(const char *user, const char *originator)
{
    g_autofree char *fault = NULL;
    struct session *s = log_in_from(&remote, user, "right", originator, &fault, NULL);
    g_assert_cmpstr(fault, ==, NULL);
    g_assert_nonnull(s);
    return s;
}

/* ---- each test begins with nobody logged in and nothing counted ---- */

void end_everybody(void)
{
    g_autoptr(GPtrArray) all = sessions_all();
    for (guint i = 0; i < all->len; i++)
        session_end(g_ptr_array_index(all, i));
}

char *add_subject(const char *identifier, const char *role)
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

void remove_subjects(void)
{
    g_autoptr(GPtrArray) all = store_all(the_store(), CLASS_subject);
    struct txn *t = txn_begin(the_store());
    for (guint i = 0; i < all->len; i++)
        txn_destroy(t, CLASS_subject, ((struct record *) g_ptr_array_index(all, i))->ref);
    txn_commit(t);
}

void auth_begin(void)
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

void pass_time(int seconds)
{
    __atomic_add_fetch(&auth_clock_offset_ms, seconds * 1000, __ATOMIC_RELAXED);
}

gboolean lives(const char *ref)
{
    struct session *s = session_peek(ref);
    session_unref(s);
    g_autoptr(record) r = store_get(the_store(), CLASS_session, ref);
    g_assert_cmpint(s != NULL, ==, r != NULL);
    return s != NULL;
}

void auth_set_up(void)
{
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_FLAG_FATAL); /* a helper that dies is worth a warning */
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

void auth_tear_down(void)
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
