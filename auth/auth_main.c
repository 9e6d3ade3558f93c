/* auth_main.c - xenapid-auth: takes the front's questions about users and gives each to a process of its own, which is
 * killed when its time is up. So a PAM or NSS module that hangs, crashes or leaks does so alone. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auth/helper_private.h"
#include "daemon/process/helper.h"
#include "daemon/process/log.h"
#include "daemon/process/spawn.h"

#define GENERIC_TEXT "Authentication failure"
/* Questions that are no logins have threads of their own. */
#define OTHER_THREADS 32
#define MOST_LOGINS   1024

/* What is used of the configuration, and how many logins are being checked. */
static struct {
    GMutex lock;
    GCond less;
    char *service, *confdir;
    enum log_level log_level;
    int timeout_ms, logins_at_once;
    int logins;
} state;

static void configure(const struct conf *c, void *data)
{
    (void) data;
    g_mutex_lock(&state.lock);
    g_free(state.service);
    g_free(state.confdir);
    state.service = g_strdup(c->pam_service);
    state.confdir = g_strdup(c->pam_confdir);
    state.log_level = c->log_level;
    state.timeout_ms = c->login_timeout * 1000;
    state.logins_at_once = c->logins_at_once;
    g_cond_broadcast(&state.less);
    g_mutex_unlock(&state.lock);
}

static gboolean prepare(const struct conf *c, void *data)
{
    configure(c, data);
    return TRUE;
}

/* ---- a worker process ---- */

static void hang_up(void *wire)
{
    shutdown(wire_fd(wire), SHUT_RDWR);
}

static struct value *worker_params(const struct helper_request *req)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 5);
    value_builder_put(&b, "request", value_ref(req->params));
    g_mutex_lock(&state.lock);
    value_builder_put_string(&b, "service", state.service);
    value_builder_put_string(&b, "confdir", state.confdir);
    value_builder_put(&b, "log_level", value_int(NULL, state.log_level));
    g_mutex_unlock(&state.lock);
    value_builder_put(&b, "id", value_int(NULL, req->id));
    return value_builder_end(&b);
}

/* The answer that the worker gave, or INTERNAL_ERROR with what became of it. */
static struct value *await_answer(struct helper_request *req, struct wire *wire, gint64 deadline, struct fault *f)
{
    struct wire_message m;
    gint64 left = (deadline - g_get_monotonic_time()) / G_TIME_SPAN_MILLISECOND;
    int got = wire_read(wire, &m, (int) MAX(left, 0));
    struct value *result = NULL;
    if (got > 0 && !m.method) {
        result = g_steal_pointer(&m.result);
        fault_move(f, &m.fault);
    } else {
        fault_set(f, "INTERNAL_ERROR",
                  helper_cancelled(req) ? "given up by who asked"
                  : got == 0            ? "no answer in time"
                                        : "the process that asked PAM died",
                  NULL);
    }
    if (got > 0)
        wire_message_clear(&m);
    return result;
}

static pid_t start_worker(int fd, GError **error)
{
    char *argv[] = {(char *) "xenapid-auth", (char *) WORKER_ARGUMENT, NULL};
    /* Prompts in English: pam_change tells the old password's from the new one's. */
    g_auto(GStrv) envp = g_environ_setenv(g_get_environ(), "LC_ALL", "C.UTF-8", TRUE);
    struct spawn s = {"/proc/self/exe", argv, envp, &fd, 1, NULL, 0};
    return spawn_child(&s, error);
}

static struct value *ask_worker(struct helper_request *req, gint64 deadline, struct fault *f)
{
    int fds[2];
    g_autoptr(GError) error = NULL;
    if (!wire_pair(fds)) {
        fault_set(f, "INTERNAL_ERROR", g_strerror(errno), NULL);
        return NULL;
    }
    struct wire *wire = wire_new(fds[0]);
    struct value *result = NULL;
    pid_t pid = start_worker(fds[1], &error);
    close(fds[1]);
    if (pid > 0) {
        g_autoptr(value) params = worker_params(req);
        helper_on_cancel(req, hang_up, wire);
        wire_request(wire, 1, req->method, params, NULL, 0);
        result = await_answer(req, wire, deadline, f);
        helper_off_cancel(req);
        /* With all that its modules started in its process group; until it is waited for, its number is its own. */
        kill(-pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    } else {
        g_critical("%s", error->message);
        fault_set(f, "INTERNAL_ERROR", "no process to check it could be started", NULL);
    }
    wire_free(wire);
    return result;
}

/* ---- logins: at most so many at once ---- */

static gint64 deadline_of(void)
{
    g_mutex_lock(&state.lock);
    gint64 deadline = g_get_monotonic_time() + state.timeout_ms * G_TIME_SPAN_MILLISECOND;
    g_mutex_unlock(&state.lock);
    return deadline;
}

static gboolean enter(gint64 deadline)
{
    gboolean room = TRUE;
    g_mutex_lock(&state.lock);
    while (room && state.logins >= state.logins_at_once)
        room = g_cond_wait_until(&state.less, &state.lock, deadline);
    if (room)
        state.logins++;
    g_mutex_unlock(&state.lock);
    return room;
}

static void leave(void)
{
    g_mutex_lock(&state.lock);
    state.logins--;
    g_cond_signal(&state.less);
    g_mutex_unlock(&state.lock);
}

static struct value *ask_in_turn(struct helper_request *req, struct fault *f)
{
    gint64 deadline = deadline_of();
    if (!enter(deadline)) {
        fault_set(f, "INTERNAL_ERROR", "too many logins at once", NULL);
        return NULL;
    }
    struct value *result = ask_worker(req, deadline, f);
    leave();
    return result;
}

/* The request's own copy of a secret; nobody reads it any more. */
static void wipe(struct helper_request *req, const char *key)
{
    const char *secret = value_get_str(req->params, key, NULL);
    if (secret)
        explicit_bzero((char *) secret, strlen(secret));
}

/* ---- methods ---- */

/* Whatever the reason, the answer is the same: what a stranger learns is that it did not work. */
static struct value *authenticate(struct helper_request *req, struct fault *f)
{
    struct fault reason = FAULT_INIT;
    struct value *result = ask_in_turn(req, &reason);
    wipe(req, "password");
    const char *user = value_get_str(req->params, "user", "");
    if (!result) {
        if (g_strcmp0(reason.code, "SESSION_AUTHENTICATION_FAILED") != 0) {
            g_autofree char *name = log_escape(user), *text = fault_text(&reason);
            g_warning("login of \"%s\" failed: %s", name, text);
        }
        fault_set(f, "SESSION_AUTHENTICATION_FAILED", user, GENERIC_TEXT, NULL);
    }
    fault_clear(&reason);
    return result;
}

static struct value *change_password(struct helper_request *req, struct fault *f)
{
    struct fault reason = FAULT_INIT;
    struct value *result = ask_in_turn(req, &reason);
    wipe(req, "old");
    wipe(req, "new");
    if (g_strcmp0(reason.code, "INTERNAL_ERROR") == 0)
        fault_set(f, "CHANGE_PASSWORD_REJECTED", reason.params[0], NULL);
    fault_move(f, &reason);
    fault_clear(&reason);
    return result;
}

/* Not a login: may run beside as many as there are threads. */
static struct value *look_up(struct helper_request *req, struct fault *f)
{
    return ask_worker(req, deadline_of(), f);
}

int main(int argc, char **argv)
{
    static const struct helper_method methods[] = {
        {"authenticate", authenticate},
        {"change_password", change_password},
        {"resolve", look_up},
        {"info", look_up},
        {"groups", look_up},
        {NULL, NULL},
    };
    const struct helper_options options = {
        .program = "xenapid-auth",
        .methods = methods,
        .max_threads = MOST_LOGINS + OTHER_THREADS,
        .reload = configure,
    };
    if (argc == 2 && strcmp(argv[1], WORKER_ARGUMENT) == 0)
        return worker_main();
    return helper_main(argc, argv, &options, prepare);
}
