/* child.c - a child process, its control wire and its restarts. See child.h. */
#include "config.h"

#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/process/child.h"

#define LONG_LIFE      (10 * G_TIME_SPAN_SECOND)
#define FIRST_DELAY_MS 100
#define LAST_DELAY_MS  5000
/* What a process may still do after it closed its control wire, on its way out. */
#define MUTE_SECONDS 10
/* Beside the connections: databases, helpers, the log. */
#define OTHER_FILES 512

struct child {
    const char *name, *program;
    const struct account *become;
    struct conf *const *conf;
    const struct child_callbacks *call;
    pid_t pid;            /* 0: none */
    struct wire *control; /* NULL: down */
    guint control_source, watch, restart_timer, mute_timer;
    gint64 started_at;
    guint delay_ms; /* before the next start */
};

struct child *child_new(const char *name, const char *program, const struct account *become, struct conf *const *conf,
                        const struct child_callbacks *callbacks)
{
    struct child *c = g_new0(struct child, 1);
    c->name = name;
    c->program = program;
    c->become = become;
    c->conf = conf;
    c->call = callbacks;
    return c;
}

static void forget_mute(struct child *c)
{
    if (c->mute_timer)
        g_source_remove(c->mute_timer);
    c->mute_timer = 0;
}

static void disconnect(struct child *c)
{
    if (c->control_source)
        g_source_remove(c->control_source);
    c->control_source = 0;
    g_clear_pointer(&c->control, wire_free);
}

void child_free(struct child *c)
{
    if (!c)
        return;
    child_forget_restart(c);
    disconnect(c);
    forget_mute(c);
    if (c->watch)
        g_source_remove(c->watch);
    g_free(c);
}

const char *child_name(const struct child *c)
{
    return c->name;
}

gboolean child_is_alive(const struct child *c)
{
    return c->pid != 0;
}

gboolean child_is_up(const struct child *c)
{
    return c->control != NULL;
}

/* ---- its control wire ---- */

void child_send(struct child *c, const char *method, struct value *params, int fd)
{
    if (c->control)
        wire_notify(c->control, method, params, &fd, fd >= 0);
}

void child_request(struct child *c, gint64 id, const char *method)
{
    if (c->control)
        wire_request(c->control, id, method, NULL, NULL, 0);
}

void child_kill(struct child *c, int signal_number)
{
    if (c->pid)
        kill(c->pid, signal_number);
}

void child_stop(struct child *c)
{
    if (c->control)
        child_send(c, "stop", NULL, -1);
    else
        child_kill(c, SIGTERM);
}

static gboolean on_mute(void *data)
{
    struct child *c = data;
    c->mute_timer = 0;
    g_warning("%s has closed its control wire but lives on: killing it", c->name);
    child_kill(c, SIGKILL);
    return G_SOURCE_REMOVE;
}

static gboolean on_control(int fd, GIOCondition condition, void *data)
{
    struct child *c = data;
    struct wire_message m;
    int got;
    (void) fd, (void) condition;
    while ((got = wire_read(c->control, &m, 0)) > 0) {
        c->call->message(c, &m);
        wire_message_clear(&m);
    }
    if (got == 0)
        return G_SOURCE_CONTINUE;
    /* Its end is news of its death; one that lives on can be told nothing any more and is of no use. */
    if (errno == EPROTO)
        g_warning("%s sent what is no message", c->name);
    c->control_source = 0;
    disconnect(c);
    c->mute_timer = g_timeout_add_seconds(MUTE_SECONDS, on_mute, c);
    return G_SOURCE_REMOVE;
}

/* ---- its life ---- */

static void on_exit_status(GPid pid, int status, void *data)
{
    struct child *c = data;
    gboolean failed = WIFEXITED(status) ? WEXITSTATUS(status) != 0 : TRUE;
    g_autofree char *how =
        WIFEXITED(status) ? g_strdup_printf("ended with status %d", WEXITSTATUS(status))
                          : g_strdup_printf("died of signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    g_spawn_close_pid(pid);
    c->pid = 0;
    c->watch = 0;
    disconnect(c);
    forget_mute(c);
    if (g_get_monotonic_time() - c->started_at >= LONG_LIFE)
        c->delay_ms = 0;
    c->call->died(c, how, failed);
}

/* Our environment without what systemd said to us alone. */
static char **child_environment(void)
{
    static const char *const ours[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                       "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES"};
    char **env = g_get_environ();
    for (gsize i = 0; i < G_N_ELEMENTS(ours); i++)
        env = g_environ_unsetenv(env, ours[i]);
    return g_environ_setenv(env, "XENAPID_CONTROL_FD", "3", TRUE);
}

static char **child_argv(const char *path, const struct conf *conf)
{
    g_auto(GStrv) args = conf_to_args(conf);
    GPtrArray *argv = g_ptr_array_new();
    g_ptr_array_add(argv, g_strdup(path));
    for (char **a = args; *a; a++)
        g_ptr_array_add(argv, g_strdup(*a));
    g_ptr_array_add(argv, NULL);
    return (char **) g_ptr_array_free(argv, FALSE);
}

gboolean child_start(struct child *c, GError **error)
{
    const struct conf *conf = *c->conf;
    int fds[2];
    if (!wire_pair(fds)) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "socketpair: %s", g_strerror(errno));
        return FALSE;
    }
    g_autofree char *path = g_build_filename(conf->helper_dir, c->program, NULL);
    g_auto(GStrv) argv = child_argv(path, conf);
    g_auto(GStrv) envp = child_environment();
    struct spawn s = {path, argv, envp, &fds[1], 1, c->become, conf->connections + OTHER_FILES};
    c->started_at = g_get_monotonic_time();
    pid_t pid = spawn_child(&s, error);
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return FALSE;
    }
    g_info("%s is process %d", c->name, (int) pid);
    c->pid = pid;
    c->control = wire_new(fds[0]);
    c->control_source = g_unix_fd_add(fds[0], G_IO_IN | G_IO_HUP | G_IO_ERR, on_control, c);
    c->watch = g_child_watch_add(pid, on_exit_status, c);
    c->call->started(c);
    return TRUE;
}

static gboolean on_restart(void *data)
{
    struct child *c = data;
    g_autoptr(GError) error = NULL;
    c->restart_timer = 0;
    if (!child_start(c, &error)) {
        g_critical("%s", error->message);
        child_restart(c);
    }
    return G_SOURCE_REMOVE;
}

void child_restart(struct child *c)
{
    if (c->restart_timer)
        return;
    c->restart_timer = g_timeout_add(c->delay_ms, on_restart, c);
    c->delay_ms = CLAMP(2 * c->delay_ms, FIRST_DELAY_MS, LAST_DELAY_MS);
}

void child_forget_restart(struct child *c)
{
    if (c->restart_timer)
        g_source_remove(c->restart_timer);
    c->restart_timer = 0;
}
