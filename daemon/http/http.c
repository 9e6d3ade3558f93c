/* http.c - the listeners: one libmicrohttpd daemon for each socket, and where a request goes. */
#include "config.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/http/http_internal.h"

#define CONNECTION_MEMORY (32 * 1024) /* a connection's pool: the header must fit in half of it or so */
#define THREADS_MOST      8
#define STOP_STEP_US      5000
#define CUT_MS            3000 /* for connections that were cut to be gone; less than the supervisor's grace */

static GMutex lock;
static GPtrArray *listeners;

/* ---- requests ---- */

static enum MHD_Result refuse_method(struct http_connection *c, const char *method, const char *path)
{
    static const char *const known[] = {"PUT", "DELETE", "CONNECT", "TRACE", "PATCH", NULL};
    if (!g_strv_contains(known, method))
        return plain_begin(c, MHD_HTTP_NOT_IMPLEMENTED, "This method is not known.\n", NULL);
    g_autofree char *routes = route_allow(path);
    g_autofree char *allow = g_strdup_printf("POST, %s", routes);
    return plain_begin(c, MHD_HTTP_METHOD_NOT_ALLOWED, "This method cannot be used here.\n", allow);
}

static enum MHD_Result begin(struct http_connection *c, const char *path, const char *method)
{
    c->body_len = c->discarded = 0;
    c->exchange = NULL;
    g_atomic_int_set(&c->deaf, FALSE);
    c->is_head = strcmp(method, "HEAD") == 0;
    g_atomic_int_set(&c->wait, WAIT_NONE);
    connection_phase(c, PHASE_BODY);

    gboolean is_get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0, other;
    const struct route *route = route_find(is_get ? "GET" : method, path, &other);
    if (route)
        return route_begin(c, route, path);
    if (strcmp(method, "POST") == 0)
        return rpc_begin(c, path);
    if (strcmp(method, "OPTIONS") == 0)
        return options_begin(c);
    if (is_get && strcmp(path, "/") == 0)
        return index_begin(c);
    if (is_get && !other)
        return plain_begin(c, MHD_HTTP_NOT_FOUND, "There is nothing here.\n", NULL);
    return refuse_method(c, method, path);
}

/* Called when the header is there, with each part of the body, when all of it is there, and when woken. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *len, void **context)
{
    struct http_connection *c = *context;
    (void) cls;
    (void) version;
    if (!c) {
        *context = c = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
        return begin(c, url, method);
    }
    if (*len > 0) {
        gsize n = *len;
        *len = 0;
        return c->ops->body(c, data, n);
    }
    return c->ops->end(c);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode code)
{
    struct http_connection *c = *context;
    (void) cls;
    (void) mhd;
    (void) code;
    if (!c)
        return;
    *context = NULL;
    if (c->ops->finished)
        c->ops->finished(c);
    connection_phase(c, PHASE_IDLE);
}

/* ---- libmicrohttpd's own words: what strangers cause is for debugging only ---- */

static void on_log(void *cls, const char *format, va_list ap) G_GNUC_PRINTF(2, 0);
static void on_log(void *cls, const char *format, va_list ap)
{
    (void) cls;
    g_autofree char *text = g_strchomp(g_strdup_vprintf(format, ap));
    if (strstr(format, "resource limit") || strstr(format, "Failed to create") || strstr(format, "epoll") ||
        strstr(format, "allocat"))
        g_warning("HTTP: %s", text);
    else
        g_debug("HTTP: %s", text);
}

G_NORETURN static void on_panic(void *cls, const char *file, unsigned int line, const char *reason)
{
    (void) cls;
    g_error("HTTP: %s:%u: %s", file, line, reason ? reason : "broken");
}

/* ---- listeners ---- */

static guint n_threads(void)
{
    int n = the_conf()->http_threads;
    return n > 0 ? (guint) n : CLAMP(g_get_num_processors(), 1, THREADS_MOST);
}

/* Accepted sockets inherit these: a peer that vanished without a word is noticed in some two minutes. */
static void set_keepalive(int fd)
{
    static const struct {
        int level, option, value;
    } options[] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 60},
        {IPPROTO_TCP, TCP_KEEPINTVL, 15},
        {IPPROTO_TCP, TCP_KEEPCNT, 4},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, 120 * 1000},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(options); i++)
        if (setsockopt(fd, options[i].level, options[i].option, &options[i].value, sizeof options[i].value) != 0)
            g_debug("socket option %d was not set: %s", options[i].option, g_strerror(errno));
}

/* Longer than any deadline of ours, so that it holds only for clients that stop reading an answer. */
static guint silence_limit(const struct conf *conf)
{
    return MAX(MAX(conf->header_timeout, conf->idle_timeout), conf->body_timeout) + 5;
}

static struct MHD_Daemon *start_daemon(struct http_listener *l)
{
    const struct conf *conf = the_conf();
    guint threads = n_threads();
    guint flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_NO_LISTEN_SOCKET;
    struct MHD_OptionItem options[16], *o = options;
    if (l->tls) {
        flags |= MHD_USE_TLS;
        *o++ = (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *) (intptr_t) tls_certificate};
        *o++ = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, conf->tls_priority};
    }
    if (threads > 1)
        *o++ = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, threads, NULL};
    *o = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};

    /* The limit of connections is ours (http_connection.c): libmicrohttpd would divide its own among the threads. */
    guint most = ((guint) conf->connections + 1024) * threads;
    return MHD_start_daemon(flags, 0, NULL, NULL, on_request, l, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
                            MHD_OPTION_ARRAY, options, MHD_OPTION_CONNECTION_LIMIT, most,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY,
                            MHD_OPTION_CONNECTION_TIMEOUT, silence_limit(conf), MHD_OPTION_NOTIFY_CONNECTION,
                            connection_notify, l, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
                            MHD_OPTION_URI_LOG_CALLBACK, connection_request_line, l, MHD_OPTION_END);
}

static void listener_free(struct http_listener *l)
{
    g_free(l->address);
    g_free(l);
}

gboolean http_listen(int fd, const char *kind, const char *address, GError **error)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    if (!listeners) {
        listeners = g_ptr_array_new();
        MHD_set_panic_func(on_panic, NULL);
        connections_init();
    }

    struct http_listener *l = g_new0(struct http_listener, 1);
    l->address = g_strdup(address);
    l->tls = strcmp(kind, "https") == 0;
    l->is_unix = strcmp(kind, "unix") == 0;
    if (l->tls && !tls_load(error)) {
        close(fd);
        listener_free(l);
        return FALSE;
    }
    if (!l->is_unix)
        set_keepalive(fd);
    l->fd = fd;
    l->daemon = start_daemon(l);
    if (!l->daemon) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot serve %s on %s%s", kind, address,
                    l->tls ? " (is tls-priority right?)" : "");
        close(fd);
        listener_free(l);
        return FALSE;
    }
    if (!accept_start(l, error)) {
        MHD_stop_daemon(l->daemon);
        close(fd);
        listener_free(l);
        return FALSE;
    }
    g_ptr_array_add(listeners, l);
    g_message("serving %s on %s", kind, address);
    return TRUE;
}

gboolean http_reload_tls(GError **error)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    for (guint i = 0; listeners && i < listeners->len; i++)
        if (((struct http_listener *) listeners->pdata[i])->tls)
            return tls_load(error);
    return !tls_is_loaded() || tls_load(error); /* another listener's */
}

void http_quiesce(void)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    for (guint i = 0; listeners && i < listeners->len; i++)
        accept_stop(listeners->pdata[i]);
    connections_stop(FALSE);
}

gboolean http_stop(gint64 deadline_ms)
{
    http_quiesce();
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    if (!listeners)
        return TRUE;
    while (connections_stop(FALSE) > 0 && g_get_monotonic_time() / 1000 < deadline_ms)
        g_usleep(STOP_STEP_US);
    /* A suspended connection may not be there when its daemon is stopped. */
    gint64 give_up = g_get_monotonic_time() / 1000 + CUT_MS;
    guint left;
    while ((left = connections_stop(TRUE)) > 0) {
        if (g_get_monotonic_time() / 1000 >= give_up) {
            g_warning("HTTP: connections that do not end: %u", left);
            return FALSE;
        }
        g_usleep(STOP_STEP_US);
    }
    for (guint i = 0; i < listeners->len; i++) {
        struct http_listener *l = listeners->pdata[i];
        MHD_stop_daemon(l->daemon);
        listener_free(l);
    }
    g_clear_pointer(&listeners, g_ptr_array_unref);
    return TRUE;
}
