/* front.c - xenapid-front: the process that faces the network. It has no privilege; what needs some it asks the helpers
 * for. The supervisor gives it its sockets (control.h). */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/session.h"
#include "daemon/call.h"
#include "daemon/clock.h"
#include "daemon/process/control.h"
#include "daemon/event.h"
#include "daemon/http/http.h"
#include "daemon/http/http_route.h"
#include "daemon/store/journal.h"
#include "daemon/codec/jsonrpc.h"
#include "daemon/process/log.h"
#include "daemon/process/peer.h"
#include "daemon/task.h"
#include "xapi-classes/transfers/nbd_server.h"
#include "xapi-classes/transfers/dump.h"
#include "xapi-classes/start.h"
#include "xapi-classes/transfers/transfer.h"
#include "xenbackend/backend.h"

#define LAST_WORDS_MS 5000 /* for transfers whose connections were cut to say so in their tasks */

/* What the supervisor said, for the main thread to act on. */
static struct {
    GMutex lock;
    GCond said;
    gboolean start, stop;
    GArray *listeners; /* struct control_listener */
} told;

static struct peer *auth;

/* ---- on control's thread: short ---- */

static void on_listeners(const struct control_listener *l, int n, G_GNUC_UNUSED void *data)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&told.lock);
    for (int i = 0; i < n; i++) {
        struct control_listener copy = {l[i].kind, g_strdup(l[i].address), l[i].fd};
        g_array_append_val(told.listeners, copy);
    }
    told.start = TRUE;
    g_cond_signal(&told.said);
}

static void on_helper(const char *name, int fd, G_GNUC_UNUSED void *data)
{
    if (strcmp(name, "auth") == 0)
        peer_connect(auth, fd);
    else if (strcmp(name, "backend") == 0)
        backend_connect(fd);
    else
        close(fd);
}

static void on_reload(G_GNUC_UNUSED void *data)
{
    g_autoptr(GError) error = NULL;
    struct conf *conf = conf_reload(the_conf(), &error);
    if (!conf) {
        g_warning("the configuration stays as it was: %s", error->message);
        return;
    }
    front_set_conf(conf);
    log_set_level(conf->log_level);
    sessions_recheck();
    nbd_server_reload();
    if (!http_reload_tls(&error))
        g_warning("the certificate stays as it was: %s", error->message);
    else
        g_message("the configuration was read again");
    if (the_store())
        certificate_changed();
}

static void on_stop(G_GNUC_UNUSED void *data)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&told.lock);
    told.stop = TRUE;
    g_cond_signal(&told.said);
}

/* Ends as if we were told to; the supervisor starts another one. */
static void end_to_begin_anew(void)
{
    on_stop(NULL);
}

/* A front whose store is stuck is of no use to anybody. */
static gboolean on_ping(G_GNUC_UNUSED void *data)
{
    if (the_store())
        store_count(the_store(), CLASS_VM);
    return TRUE;
}

/* When we end ourselves, that helpers are lost is no news. */
static void on_backend_state(gboolean up, G_GNUC_UNUSED void *data)
{
    g_mutex_lock(&told.lock);
    gboolean stopping = told.stop;
    g_mutex_unlock(&told.lock);
    if (!stopping)
        classes_backend_state(up, NULL);
}

/* ---- start ---- */

/* Connections are descriptors: as many as the hard limit allows. */
static void raise_descriptor_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return;
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    if (r.rlim_cur != RLIM_INFINITY && r.rlim_cur < (rlim_t) the_conf()->connections + 256)
        g_warning("only %lu descriptors are allowed; for limits: connections=%d it should be %d more than those",
                  (gulong) r.rlim_cur, the_conf()->connections, 256);
}

static gboolean open_store(GError **error)
{
    struct journal *journal = journal_sqlite_open(the_conf()->state_dir, error);
    if (!journal)
        return FALSE;
    if (!dump_apply(journal, the_conf()->state_dir, error)) {
        journal->ops->close(journal);
        return FALSE;
    }
    struct store *store = store_open(journal, error);
    if (!store)
        return FALSE;
    store_set_max_tombstones(store, the_conf()->tombstones);
    front_set_store(store);
    return TRUE;
}

/* FALSE: stop came first. */
static gboolean wait_for_start(void)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&told.lock);
    while (!told.start && !told.stop)
        g_cond_wait(&told.said, &told.lock);
    return !told.stop;
}

static gboolean listen_everywhere(GError **error)
{
    static const char *const kinds[] = {"https", "http", "unix"};
    for (guint i = 0; i < told.listeners->len; i++) {
        struct control_listener *l = &g_array_index(told.listeners, struct control_listener, i);
        int fd = l->fd;
        l->fd = -1;
        if (!http_listen(fd, kinds[l->kind], l->address, error))
            return FALSE;
    }
    return TRUE;
}

static void wait_for_stop(void)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&told.lock);
    while (!told.stop)
        g_cond_wait(&told.said, &told.lock);
}

/* ---- stop ---- */

/* Watchers are answered first and tasks given time to end, so that those who wait for them get their answers. */
static void stop(void)
{
    gint64 deadline = g_get_monotonic_time() / 1000 + the_conf()->stop_timeout * 1000;
    http_quiesce();
    transfers_quiesce();
    events_stop();
    storage_coalesce_stop();
    tasks_stop(deadline);
    /* What was acknowledged is on disk. */
    if (!http_stop(MAX(deadline, g_get_monotonic_time() / 1000 + 500)))
        _exit(EXIT_FAILURE);
    transfers_stop(g_get_monotonic_time() / 1000 + LAST_WORDS_MS);
    nbd_server_stop(g_get_monotonic_time() / 1000 + LAST_WORDS_MS);
}

/* From "start" to "stop". */
static int run(void)
{
    g_autoptr(GError) error = NULL;
    if (!wait_for_start())
        return EXIT_SUCCESS;
    /* Nothing is answered before what we believe agrees with what runs. */
    classes_start();
    if (!listen_everywhere(&error)) {
        g_critical("%s", error->message);
        return EXIT_FAILURE;
    }
    nbd_server_refresh();
    certificate_changed();
    control_ready();
    wait_for_stop();
    return EXIT_SUCCESS;
}

static int serve(void)
{
    g_autoptr(GError) error = NULL;
    if (!open_store(&error)) {
        g_critical("the store cannot be opened: %s", error->message);
        return EXIT_FAILURE;
    }
    clock_init();
    sessions_init();
    tasks_init();
    events_init();
    http_reference_init();
    transfers_init();
    front_set_restart(end_to_begin_anew);
    auth = peer_new("auth", NULL, NULL, NULL);
    auth_set_helper(auth);
    backend_init(classes_notify, on_backend_state, NULL);

    static const struct control_callbacks callbacks = {on_listeners, on_helper, on_reload, on_stop, on_ping, NULL};
    int status = control_start(&callbacks) ? run() : EXIT_FAILURE;
    stop();
    control_end();
    sessions_stop();
    clock_stop();
    peer_free(auth);
    backend_stop();
    store_close(the_store());
    return status;
}

/* Ctrl-C in a shell reaches every process of it; only the supervisor is to act on it, and tells us. */
static void ignore_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

static int describe_model(void)
{
    model_init();
    g_autoptr(value) model = model_describe();
    g_autofree char *text = json_text(model);
    return puts(text) == EOF || fflush(stdout) == EOF ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    int status;
    gboolean check_only, describe_api, version;
    struct conf *conf = conf_from_args(&argc, &argv, &status, &check_only, &describe_api, &version);
    if (!conf)
        return status;
    if (describe_api || version || check_only) {
        conf_free(conf);
        return describe_api ? describe_model() : puts(PACKAGE_STRING) == EOF;
    }

    umask(077);
    ignore_signals();
    log_init("xenapid-front", conf->log_level);
    log_keep();
    front_set_conf(conf);
    raise_descriptor_limit();
    model_init();
    told.listeners = g_array_new(FALSE, FALSE, sizeof(struct control_listener));
    return serve();
}
