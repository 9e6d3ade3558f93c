/* session_login.c - a login from its arrival to its session or its refusal: it waits its turn, is checked by the helper
 * without a thread waiting for it, and when it fails answers no sooner than any other failure does. */
#include <string.h>

#include "auth/roles.h"
#include "auth/session_private.h"
#include "auth/throttle.h"
#include "daemon/clock.h"
#include "daemon/process/log.h"
#include "daemon/process/peer.h"

/* The helper died and is being replaced: how often we look, and how long we hope. */
#define HELPER_POLL_MS 50
#define HELPER_WAIT_MS 5000

/* The helper keeps to the limit by itself and says what happened; this is for one that does not. */
#define SLACK_MS 1000

struct login {
    char *user, *password, *originator;
    struct origin origin;
    char source[SOURCE_SIZE];
    gboolean local_only;
    gint64 arrived, asked; /* milliseconds */
    gboolean retried;
    session_login_fn *done;
    void *data;
    struct fault fault; /* of one that failed and is not answered yet */
};

static struct peer *helper;

/* ---- the queue: so many at once, and nobody's source has all of them ---- */

static GMutex lock;
static GQueue waiting = G_QUEUE_INIT;
static GHashTable *checking; /* source -> number being checked */
static guint n_checking;

void auth_set_helper(struct peer *p)
{
    g_atomic_pointer_set(&helper, p);
}

struct peer *auth_helper(void)
{
    return g_atomic_pointer_get(&helper);
}

static void login_free(struct login *l)
{
    explicit_bzero(l->password, strlen(l->password));
    g_free(l->password);
    g_free(l->user);
    g_free(l->originator);
    g_free((char *) l->origin.address);
    g_free((char *) l->origin.user_agent);
    fault_clear(&l->fault);
    g_free(l);
}

static guint checking_from(const char *source)
{
    return checking ? GPOINTER_TO_UINT(g_hash_table_lookup(checking, source)) : 0;
}

static void count_checking(const char *source, int change)
{
    if (!checking)
        checking = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    guint n = checking_from(source) + change;
    n_checking += change;
    if (n)
        g_hash_table_insert(checking, g_strdup(source), GUINT_TO_POINTER(n));
    else
        g_hash_table_remove(checking, source);
}

/* The first of those whose source has the fewest under way; one source leaves a quarter of the places to others. */
static struct login *next_under_lock(void)
{
    guint places = the_conf()->logins_at_once;
    guint least = MAX(1, places - places / 4);
    GList *best = NULL;
    if (n_checking >= places)
        return NULL;
    for (GList *l = waiting.head; l; l = l->next) {
        guint n = checking_from(((struct login *) l->data)->source);
        if (n < least) {
            least = n;
            best = l;
        }
    }
    if (!best)
        return NULL;
    struct login *login = best->data;
    g_queue_delete_link(&waiting, best);
    count_checking(login->source, 1);
    return login;
}

static void ask(struct login *l);
static void wait_for_turn(void *data);

/* Starts whatever may be checked now. */
static void start_waiting(void)
{
    for (;;) {
        g_mutex_lock(&lock);
        struct login *l = next_under_lock();
        g_mutex_unlock(&lock);
        if (!l)
            return;
        ask(l);
    }
}

static void leave(struct login *l)
{
    g_mutex_lock(&lock);
    count_checking(l->source, -1);
    g_mutex_unlock(&lock);
}

/* Failures counted since it arrived make it wait, too: so many guesses sent at once gain nothing. */
static gboolean must_wait(struct login *l)
{
    gint64 rest = l->arrived + throttle_wait(l->source, l->user) - auth_now_ms();
    if (rest <= 0)
        return FALSE;
    clock_after(rest, wait_for_turn, l);
    return TRUE;
}

static void wait_for_turn(void *data)
{
    struct login *l = data;
    if (must_wait(l))
        return;
    g_mutex_lock(&lock);
    g_queue_push_tail(&waiting, l);
    g_mutex_unlock(&lock);
    start_waiting();
}

/* ---- the answer ---- */

static void answer_failure(void *data)
{
    struct login *l = data;
    l->done(NULL, &l->fault, l->data);
    login_free(l);
}

/* Answers leave at whole multiples of the delay after the arrival: what took how long cannot be seen from outside. */
static void fail(struct login *l)
{
    gint64 delay = the_conf()->login_failure_delay_ms;
    gint64 passed = auth_now_ms() - l->arrived;
    if (delay > 0)
        clock_after((passed / delay + 1) * delay - passed, answer_failure, l);
    else
        answer_failure(l);
}

static void log_outcome(const struct login *l, const char *outcome)
{
    g_autofree char *user = log_escape(l->user);
    g_autofree char *originator = log_escape(l->originator ? l->originator : "");
    g_message("login of \"%s\" from %s (%s): %s", user, l->source, originator, outcome);
}

static void refuse(struct login *l)
{
    log_outcome(l, "refused");
    fault_set(&l->fault, "SESSION_AUTHENTICATION_FAILED", l->user, "Authentication failure", NULL);
    fail(l);
}

static void refuse_without_role(struct login *l)
{
    log_outcome(l, "the user has no role here");
    fault_set(&l->fault, "SESSION_AUTHORIZATION_FAILED", l->user, "The user has no role that allows this login", NULL);
    fail(l);
}

/* Takes over id's content. */
static void admit(struct login *l, struct identity *id)
{
    g_autoptr(GHashTable) subjects = access_subjects();
    struct access a;
    access_resolve(id, subjects, &a);
    if (!a.roles || (l->local_only && !(a.roles & ROLE_BIT(ROLE_pool_admin)))) {
        identity_clear(id);
        refuse_without_role(l);
        return;
    }
    struct session *s = session_create(id, &a, l->originator, &l->origin, l->local_only, &l->fault);
    identity_clear(id);
    if (!s) {
        log_outcome(l, "no room for one more session");
        fail(l);
        return;
    }
    g_autoptr(GHashTable) subjects_now = access_subjects();
    session_recheck(s, subjects_now); /* the subject may have gone since we looked */
    g_autofree char *outcome = g_strdup_printf("session %s", s->uuid);
    log_outcome(l, outcome);
    l->done(s, NULL, l->data);
    login_free(l);
}

/* ---- asking the helper ---- */

static gboolean identity_from(struct identity *id, const struct value *result)
{
    struct value *uid = value_get(result, "uid"), *groups = value_get(result, "groups");
    id->user = g_strdup(value_get_str(result, "user", ""));
    id->sid = g_strdup(value_get_str(result, "subject_identifier", ""));
    if (!*id->sid) {
        g_free(id->sid);
        id->sid = g_strconcat("u:", id->user, NULL);
    }
    id->uid = uid && (uid->type == VALUE_INT || uid->type == VALUE_I4) ? value_as_int(uid) : -1;
    id->groups = g_new0(char *, value_count(groups) + 1);
    for (gsize i = 0; i < value_count(groups); i++)
        id->groups[i] = g_strdup(value_str(value_at(groups, i)));
    return *id->user != '\0';
}

static void accepted(struct login *l, const struct value *result)
{
    struct identity id = {0};
    if (!identity_from(&id, result)) {
        g_warning("the login helper answered without a user's name");
        identity_clear(&id);
        refuse(l);
        return;
    }
    throttle_succeeded(l->source, l->user);
    admit(l, &id);
}

static void helper_lost(struct login *l)
{
    log_outcome(l, "the login helper is not there");
    fault_set(&l->fault, "INTERNAL_ERROR", "The service that checks logins does not answer", NULL);
    fail(l);
}

static void ask_again(void *data)
{
    struct login *l = data;
    if (peer_is_up(auth_helper()))
        wait_for_turn(l);
    else if (auth_now_ms() - l->asked < HELPER_WAIT_MS)
        clock_after(HELPER_POLL_MS, ask_again, l);
    else
        helper_lost(l);
}

/* The helper gave no verdict: it died, which is worth one more try, or took too long. */
static void no_verdict(struct login *l, const struct fault *f)
{
    if (auth_now_ms() - l->asked >= 1000 * (gint64) the_conf()->login_timeout) {
        log_outcome(l, "the check took too long");
        refuse(l);
    } else if (!l->retried) {
        l->retried = TRUE;
        l->asked = auth_now_ms();
        clock_after(HELPER_POLL_MS, ask_again, l);
    } else {
        g_autofree char *text = fault_text(f);
        g_warning("the login helper failed twice: %s", text);
        helper_lost(l);
    }
}

static void checked(struct value *result, const struct fault *f, void *data)
{
    struct login *l = data;
    leave(l);
    if (!f || !f->code) {
        accepted(l, result);
    } else if (strcmp(f->code, "SESSION_AUTHENTICATION_FAILED") == 0) {
        throttle_failed(l->source, l->user);
        refuse(l);
    } else {
        no_verdict(l, f);
    }
    start_waiting();
}

static void ask(struct login *l)
{
    struct value_builder b;
    if (must_wait(l)) {
        leave(l);
        return;
    }
    if (!auth_helper()) {
        leave(l);
        helper_lost(l);
        return;
    }
    l->asked = auth_now_ms();
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "user", l->user);
    value_builder_put_string(&b, "password", l->password);
    g_autoptr(value) params = value_builder_end(&b);
    peer_call_async(auth_helper(), "authenticate", params, 1000 * the_conf()->login_timeout + SLACK_MS, checked, l);
}

/* ---- the beginning ---- */

static gboolean is_superuser_peer(const struct origin *o)
{
    return o->is_unix && o->uid_known && access_uid_is_superuser(o->uid) && the_conf()->unix_root_is_admin;
}

static void begin(const char *user, const char *password, const char *originator, const struct origin *origin,
                  gboolean local_only, session_login_fn *done, void *data)
{
    struct login *l = g_new0(struct login, 1);
    l->user = g_strdup(user);
    l->password = g_strdup(password);
    l->originator = g_strdup(originator);
    l->origin = *origin;
    l->origin.address = g_strdup(origin->address);
    l->origin.user_agent = g_strdup(origin->user_agent);
    l->origin.host = NULL;
    l->local_only = local_only;
    l->arrived = auth_now_ms();
    l->done = done;
    l->data = data;
    throttle_source(origin, l->source);
    if (is_superuser_peer(origin)) {
        struct identity id = {.user = g_strdup(user), .uid = origin->uid, .peer = TRUE};
        admit(l, &id);
    } else if (!*user) { /* PAM would ask for a name */
        throttle_failed(l->source, l->user);
        refuse(l);
    } else {
        wait_for_turn(l);
    }
}

void session_login(const char *user, const char *password, const char *originator, const struct origin *origin,
                   session_login_fn *done, void *data)
{
    begin(user, password, originator, origin, FALSE, done, data);
}

void session_login_local(const char *user, const char *password, const char *originator, const struct origin *origin,
                         session_login_fn *done, void *data)
{
    begin(user, password, originator, origin, TRUE, done, data);
}
