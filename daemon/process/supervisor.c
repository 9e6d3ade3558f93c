/* supervisor.c - the life of xenapid's processes. Each child has a control wire; the front and a helper are joined by
 * a socketpair whose ends go to them over it, so either can be replaced while the other lives on. */
#include "config.h"

#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/process/child.h"
#include "daemon/process/log.h"
#include "daemon/process/notify.h"
#include "daemon/process/supervisor.h"

/* Beyond stop-timeout: what a process has to end by itself before it is killed. */
#define GRACE_SECONDS 5

enum { AUTH, BACKEND, FRONT, N_CHILDREN };

static struct {
    struct conf **conf;
    const struct listeners *listeners;
    struct child *children[N_CHILDREN];
    GMainLoop *loop;
    int status;
    gboolean ready; /* the front was, once: from then on what dies is restarted */
    gboolean stopping;
    gboolean front_asked; /* for another front: that it ends is no failure */
    guint patience;       /* the timer that ends in SIGKILL */
    gint64 pings;
} sup;

/* ---- joining the front and the helpers ---- */

static void send_fd(struct child *to, const char *method, struct value *params, int fd)
{
    child_send(to, method, params, fd);
    close(fd);
}

static struct value *text_params(const char *key, const char *text, const char *key2, const char *text2)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, key, text);
    if (key2)
        value_builder_put_string(&b, key2, text2);
    return value_builder_end(&b);
}

/* Gives the front and a helper a new socket to each other, when both are there. */
static void join(struct child *helper)
{
    struct child *front = sup.children[FRONT];
    int fds[2];
    if (!child_is_up(front) || !child_is_up(helper))
        return;
    if (!wire_pair(fds)) {
        g_critical("socketpair: %s", g_strerror(errno));
        return;
    }
    g_autoptr(value) params = text_params("name", child_name(helper), NULL, NULL);
    send_fd(helper, "wire", NULL, fds[0]);
    send_fd(front, "helper", params, fds[1]);
}

static void send_listeners(struct child *front)
{
    for (int i = 0; i < sup.listeners->n; i++) {
        const struct control_listener *l = &sup.listeners->l[i];
        g_autoptr(value) params = text_params("kind", listener_kind_name(l->kind), "address", l->address);
        child_send(front, "listener", params, l->fd);
    }
}

static void on_started(struct child *c)
{
    struct child *front = sup.children[FRONT];
    if (c != front) {
        join(c);
        return;
    }
    send_listeners(front);
    join(sup.children[AUTH]);
    join(sup.children[BACKEND]);
    child_send(front, "start", NULL, -1);
}

/* ---- stopping ---- */

static gboolean helpers_gone(void)
{
    return !child_is_alive(sup.children[AUTH]) && !child_is_alive(sup.children[BACKEND]);
}

static gboolean on_impatience(void *data)
{
    (void) data;
    sup.patience = 0;
    g_warning("killing what has not stopped");
    for (int i = 0; i < N_CHILDREN; i++) {
        if (i == FRONT || !child_is_alive(sup.children[FRONT]))
            child_kill(sup.children[i], SIGKILL);
    }
    return G_SOURCE_REMOVE;
}

static void forget_patience(void)
{
    if (sup.patience)
        g_source_remove(sup.patience);
    sup.patience = 0;
}

static void set_patience(int seconds)
{
    forget_patience();
    sup.patience = g_timeout_add_seconds((guint) seconds, on_impatience, NULL);
}

/* The front first, as what it finishes needs the helpers; then these. */
static void go_on_stopping(void)
{
    if (child_is_alive(sup.children[FRONT]))
        return;
    if (helpers_gone()) {
        g_main_loop_quit(sup.loop);
        return;
    }
    child_stop(sup.children[AUTH]);
    child_stop(sup.children[BACKEND]);
    set_patience(GRACE_SECONDS);
}

static void stop(int status)
{
    int patience = (*sup.conf)->stop_timeout + GRACE_SECONDS;
    if (sup.stopping)
        return;
    sup.stopping = TRUE;
    sup.status = status;
    notify_stopping(patience + GRACE_SECONDS);
    for (int i = 0; i < N_CHILDREN; i++)
        child_forget_restart(sup.children[i]);
    child_stop(sup.children[FRONT]);
    set_patience(patience);
    go_on_stopping();
}

/* A client wants another front. What it has under way has the time that it has at the end. */
static void replace_front(void)
{
    if (sup.stopping || sup.front_asked || !child_is_up(sup.children[FRONT]))
        return;
    sup.front_asked = TRUE;
    notify_status("starting the front again");
    child_stop(sup.children[FRONT]);
    set_patience((*sup.conf)->stop_timeout + GRACE_SECONDS);
}

/* ---- what children do ---- */

static void on_died(struct child *c, const char *how, gboolean failed)
{
    if (sup.stopping) {
        g_info("%s %s", child_name(c), how);
        go_on_stopping();
        return;
    }
    if (c == sup.children[FRONT] && sup.front_asked) {
        sup.front_asked = FALSE;
        forget_patience();
        g_message("%s %s, as it was asked to: another one takes its place", child_name(c), how);
        child_restart(c);
        return;
    }
    if (!sup.ready && failed) {
        g_critical("%s %s before everything had started: giving up", child_name(c), how);
        stop(1);
        return;
    }
    if (c == sup.children[FRONT] && !failed) /* it asked for that */
        g_message("%s %s: starting it anew", child_name(c), how);
    else
        g_warning("%s %s: starting it again", child_name(c), how);
    if (c == sup.children[FRONT])
        notify_status("starting the front again");
    child_restart(c);
}

static void on_message(struct child *c, struct wire_message *m)
{
    if (c != sup.children[FRONT])
        return;
    if (!m->method && m->id == sup.pings) {
        notify_watchdog();
    } else if (m->method && strcmp(m->method, "ready") == 0) {
        g_message("ready");
        sup.ready = TRUE;
        notify_ready();
    } else if (m->method && strcmp(m->method, "status") == 0) {
        notify_status(value_get_str(m->params, "text", ""));
    } else if (m->method && strcmp(m->method, "restart") == 0) {
        replace_front();
    } else if (m->method && strcmp(m->method, "stop") == 0) {
        g_message("stopping, as a client asks");
        stop(0);
    }
}

/* The answer to the last ping is what feeds the watchdog: a front that hangs lets it lapse. */
static gboolean on_ping_time(void *data)
{
    (void) data;
    if (child_is_up(sup.children[FRONT]) && !sup.stopping)
        child_request(sup.children[FRONT], ++sup.pings, "ping");
    return G_SOURCE_CONTINUE;
}

/* ---- signals ---- */

static gboolean on_stop_signal(void *data)
{
    if (sup.stopping) {
        g_warning("%s again: killing what has not stopped", (const char *) data);
        for (int i = 0; i < N_CHILDREN; i++)
            child_kill(sup.children[i], SIGKILL);
    } else {
        g_message("%s: stopping", (const char *) data);
        stop(0);
    }
    return G_SOURCE_CONTINUE;
}

static gboolean same_list(GStrv a, GStrv b)
{
    return g_strv_equal((const char *const *) a, (const char *const *) b);
}

/* Says which changes a reload cannot make. */
static void tell_unchanged(const struct conf *old, const struct conf *new)
{
    if (!same_list(old->listen_https, new->listen_https) || !same_list(old->listen_http, new->listen_http) ||
        !same_list(old->listen_unix, new->listen_unix))
        g_warning("listeners change at the next start, not at a reload");
    if (old->backend != new->backend || strcmp(old->state_dir, new->state_dir) || strcmp(old->user, new->user) ||
        strcmp(old->runtime_dir, new->runtime_dir))
        g_warning("backend, state-dir, runtime-dir and user change at the next start, not at a reload");
}

static gboolean on_hangup(void *data)
{
    (void) data;
    g_autoptr(GError) error = NULL;
    if (sup.stopping)
        return G_SOURCE_CONTINUE;
    notify_reloading();
    struct conf *c = conf_reload(*sup.conf, &error);
    if (c) {
        tell_unchanged(*sup.conf, c);
        conf_free(*sup.conf);
        *sup.conf = c;
        log_set_level(c->log_level);
        for (int i = 0; i < N_CHILDREN; i++)
            child_send(sup.children[i], "reload", NULL, -1);
        g_message("configuration read again");
    } else {
        g_warning("the configuration stays as it was: %s", error->message);
    }
    if (sup.ready)
        notify_ready();
    return G_SOURCE_CONTINUE;
}

/* ---- all together ---- */

static gboolean start_all(void)
{
    for (int i = 0; i < N_CHILDREN; i++) {
        g_autoptr(GError) error = NULL;
        if (child_start(sup.children[i], &error))
            continue;
        g_critical("%s", error->message);
        return FALSE;
    }
    return TRUE;
}

/* The simulator needs no more rights than the front; the other helpers are there because they do. */
static void make_children(const struct account *account)
{
    static const struct child_callbacks callbacks = {on_started, on_died, on_message};
    gboolean sim = (*sup.conf)->backend == BACKEND_SIM;
    sup.children[AUTH] = child_new("auth", "xenapid-auth", NULL, sup.conf, &callbacks);
    sup.children[BACKEND] =
        child_new("backend", sim ? "xenapid-sim" : "xenapid-xen", sim ? account : NULL, sup.conf, &callbacks);
    sup.children[FRONT] = child_new("front", "xenapid-front", account, sup.conf, &callbacks);
}

int supervisor_run(struct conf **c, const struct listeners *listeners, const struct account *account)
{
    sup.conf = c;
    sup.listeners = listeners;
    sup.loop = g_main_loop_new(NULL, FALSE);
    signal(SIGPIPE, SIG_IGN);
    g_unix_signal_add(SIGTERM, on_stop_signal, (void *) "SIGTERM");
    g_unix_signal_add(SIGINT, on_stop_signal, (void *) "SIGINT");
    g_unix_signal_add(SIGHUP, on_hangup, NULL);
    guint interval = notify_watchdog_interval_ms();
    if (interval)
        g_timeout_add(interval, on_ping_time, NULL);

    make_children(account);
    notify_status("starting");
    if (!start_all())
        stop(1);
    /* Stopping may have come to its end before the loop began. */
    if (!sup.stopping || child_is_alive(sup.children[FRONT]) || !helpers_gone())
        g_main_loop_run(sup.loop);
    for (int i = 0; i < N_CHILDREN; i++)
        child_free(sup.children[i]);
    g_main_loop_unref(sup.loop);
    return sup.status;
}
