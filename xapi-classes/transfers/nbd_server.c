/* nbd_server.c - the NBD listeners: open while a network has the purpose, a thread for each connection. */
#include "config.h"
#include "xapi-classes/transfers/nbd_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "auth/session.h"
#include "daemon/call.h"
#include "daemon/http/certificate.h"

#define BACKLOG   64
#define PIPE_SIZE (256 * 1024)
#define FULL_US   (100 * 1000)
#define TICK_MS   1000 /* how soon the end of a session, a task or the purpose is seen */

static struct {
    GMutex lock;
    GCond changed;
    GPtrArray *connections;
    GArray *listeners; /* int */
    char *addresses;   /* that they were opened for */
    GThread *thread;
    int wake; /* eventfd: the listeners or stopping changed */
    int port;
    guint asked, done; /* refreshes */
    gboolean stopping;
} server;

/* ---- which networks ---- */

enum nbd_purpose nbd_purpose_of(const struct record *network)
{
    const struct value *purpose = record_field(network, F_network_purpose);
    if (value_contains(purpose, "nbd"))
        return NBD_TLS;
    return value_contains(purpose, "insecure_nbd") ? NBD_PLAIN : NBD_OFF;
}

static gboolean has_address(const struct record *pif, const char *address)
{
    const struct value *v6 = record_field(pif, F_PIF_IPv6);
    gsize len = strlen(address);
    for (gsize i = 0; i < value_count(v6); i++) {
        const char *with_length = value_str(value_at(v6, i));
        if (strncmp(with_length, address, len) == 0 && (with_length[len] == '/' || with_length[len] == '\0'))
            return TRUE;
    }
    return strcmp(record_str(pif, F_PIF_IP), address) == 0;
}

static enum nbd_purpose purpose_at(const char *address)
{
    enum nbd_purpose found = NBD_OFF;
    g_autoptr(GPtrArray) pifs = store_all(the_store(), CLASS_PIF);
    for (guint i = 0; i < pifs->len; i++) {
        const struct record *pif = pifs->pdata[i];
        g_autoptr(record) network = store_get(the_store(), CLASS_network, record_str(pif, F_PIF_network));
        if (network != NULL && has_address(pif, address))
            found = MAX(found, nbd_purpose_of(network));
    }
    return found;
}

/* On the loopback interface the strictest rule that anybody made holds. */
static enum nbd_purpose purpose_of_host(void)
{
    gboolean tls = FALSE, plain = FALSE;
    g_autoptr(GPtrArray) all = store_all(the_store(), CLASS_network);
    for (guint i = 0; i < all->len; i++) {
        tls = tls || nbd_purpose_of(all->pdata[i]) == NBD_TLS;
        plain = plain || nbd_purpose_of(all->pdata[i]) == NBD_PLAIN;
    }
    return tls ? NBD_TLS : plain ? NBD_PLAIN : NBD_OFF;
}

static void text_of(const struct sockaddr_storage *a, socklen_t len, char *text, gsize size)
{
    char host[NI_MAXHOST] = "?";
    getnameinfo((const struct sockaddr *) a, len, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    g_strlcpy(text, g_str_has_prefix(host, "::ffff:") ? host + strlen("::ffff:") : host, size);
}

/* By the address that the client came to. */
static enum nbd_purpose purpose_for(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    char text[64];
    if (getsockname(fd, (struct sockaddr *) &a, &len) < 0)
        return NBD_OFF;
    text_of(&a, len, text, sizeof text);
    return g_str_has_prefix(text, "127.") || strcmp(text, "::1") == 0 ? purpose_of_host() : purpose_at(text);
}

/* ---- a connection ---- */

static gboolean task_is_open(const char *ref)
{
    g_autoptr(record) task = store_get(the_store(), CLASS_task, ref);
    return task != NULL && strcmp(record_str(task, F_task_status), "pending") == 0;
}

static gboolean may_go_on(struct nbd_connection *c)
{
    return !g_atomic_int_get(&c->stop) && g_atomic_int_get(&c->session->valid) &&
           session_has_role(c->session, ROLE_vm_admin) && task_is_open(c->task) &&
           purpose_for(c->client.fd) >= (c->client.tls != NULL ? NBD_TLS : NBD_PLAIN);
}

struct half {
    struct nbd_stream *from, *to;
    char *buffer;
    gsize at, len;
    gboolean ended;
};

/* TRUE when anything moved. */
static gboolean move(struct half *h)
{
    gssize n = 0;
    if (h->len == 0 && !h->ended) {
        n = nbd_stream_recv(h->from, h->buffer, PIPE_SIZE);
        h->ended = n < 0;
        h->at = 0;
        h->len = (gsize) MAX(n, 0);
    }
    if (h->len == 0)
        return FALSE;
    gssize sent = nbd_stream_send(h->to, h->buffer + h->at, h->len);
    if (sent < 0) {
        h->ended = TRUE;
        h->len = 0;
        return FALSE;
    }
    h->at += (gsize) sent;
    h->len -= (gsize) sent;
    return n > 0 || sent > 0;
}

static void wait_for(const struct half *up, const struct half *down)
{
    struct pollfd p[2] = {{.fd = up->from->fd}, {.fd = down->from->fd}};
    p[0].events = (short) ((up->len == 0 ? POLLIN : 0) | (down->len > 0 ? POLLOUT : 0));
    p[1].events = (short) ((down->len == 0 ? POLLIN : 0) | (up->len > 0 ? POLLOUT : 0));
    poll(p, 2, nbd_stream_has_more(up->from) && up->len == 0 ? 0 : TICK_MS);
}

/* Until one side has had enough. */
static void pump(struct nbd_connection *c)
{
    g_autofree char *a = g_malloc(PIPE_SIZE), *b = g_malloc(PIPE_SIZE);
    struct half up = {.from = &c->client, .to = &c->image, .buffer = a};
    struct half down = {.from = &c->image, .to = &c->client, .buffer = b};
    gint64 looked = 0;
    for (;;) {
        gint64 now = g_get_monotonic_time();
        if (now - looked >= TICK_MS * G_TIME_SPAN_MILLISECOND) {
            if (!may_go_on(c))
                return;
            looked = now;
        }
        gboolean moved = move(&up);
        moved = move(&down) || moved;
        if ((up.ended && up.len == 0) || (down.ended && down.len == 0))
            return;
        if (!moved)
            wait_for(&up, &down);
    }
}

static void *serve(void *data)
{
    struct nbd_connection *c = data;
    if (nbd_negotiate(c))
        pump(c);
    nbd_release(c);
    nbd_stream_clear(&c->client);
    g_mutex_lock(&server.lock);
    close(c->client.fd);
    g_ptr_array_remove_fast(server.connections, c);
    g_cond_broadcast(&server.changed);
    g_mutex_unlock(&server.lock);
    g_free(c);
    return NULL;
}

static void set_options(int fd)
{
    static const struct {
        int level, option, value;
    } options[] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},    {IPPROTO_TCP, TCP_KEEPIDLE, 60},
        {IPPROTO_TCP, TCP_KEEPINTVL, 15}, {IPPROTO_TCP, TCP_USER_TIMEOUT, 120 * 1000},
        {IPPROTO_TCP, TCP_NODELAY, 1},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(options); i++)
        setsockopt(fd, options[i].level, options[i].option, &options[i].value, sizeof options[i].value);
}

static void refuse(int fd, const char *address, const char *why)
{
    g_info("NBD: a connection from %s was refused: %s", address, why);
    close(fd);
}

static void accept_one(int listener)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    char address[64];
    int fd = accept4(listener, (struct sockaddr *) &a, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            g_usleep(FULL_US); /* it stays in the backlog, and the thread would spin */
        return;
    }
    text_of(&a, len, address, sizeof address);
    enum nbd_purpose purpose = purpose_for(fd);
    if (purpose == NBD_OFF) {
        refuse(fd, address, "no network with that purpose has the address");
        return;
    }
    set_options(fd);
    struct nbd_connection *c = g_new0(struct nbd_connection, 1);
    nbd_stream_init(&c->client, fd);
    c->image.fd = -1;
    c->must_be_tls = purpose != NBD_PLAIN;
    g_strlcpy(c->address, address, sizeof c->address);
    g_mutex_lock(&server.lock);
    gboolean room = !server.stopping && server.connections->len < (guint) the_conf()->nbd_connections;
    if (room)
        g_ptr_array_add(server.connections, c);
    g_mutex_unlock(&server.lock);
    g_autoptr(GError) error = NULL;
    GThread *thread = room ? g_thread_try_new("nbd-client", serve, c, &error) : NULL;
    if (thread != NULL) {
        g_thread_unref(thread);
        return;
    }
    if (room) {
        g_mutex_lock(&server.lock);
        g_ptr_array_remove_fast(server.connections, c);
        g_cond_broadcast(&server.changed);
        g_mutex_unlock(&server.lock);
    }
    refuse(fd, address, room ? error->message : "there are as many as the configuration allows (nbd: connections)");
    g_free(c);
}

/* ---- listeners ---- */

static int listen_at(const char *host, int port)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *a;
    char service[8];
    int one = 1, zero = 0, fd = -1;
    g_snprintf(service, sizeof service, "%d", port);
    errno = EADDRNOTAVAIL;
    if (getaddrinfo(host, service, &hints, &a) != 0)
        return -1;
    fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (a->ai_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
        if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
            int why = errno;
            close(fd);
            fd = -1;
            errno = why;
        }
    }
    int why = errno;
    freeaddrinfo(a);
    errno = why;
    if (fd < 0 && strcmp(host, "::") == 0 && (why == EAFNOSUPPORT || why == EADDRNOTAVAIL))
        return listen_at("0.0.0.0", port); /* a host without IPv6 */
    return fd;
}

static int port_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    if (getsockname(fd, (struct sockaddr *) &a, &len) < 0)
        return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) (void *) &a)->sin6_port
                                         : ((struct sockaddr_in *) (void *) &a)->sin_port);
}

static void wake(void)
{
    guint64 one = 1;
    if (server.wake >= 0 && write(server.wake, &one, sizeof one) < 0)
        g_debug("NBD: the listener's thread is awake already");
}

/* With the lock; the thread closes what it polls. */
static void open_listeners(void)
{
    g_autoptr(GError) error = NULL;
    if (!certificate_ready(&error)) {
        g_warning("NBD is not offered, for there is no certificate: %s", error->message);
        return;
    }
    for (char **address = the_conf()->nbd_listen; *address != NULL; address++) {
        g_autofree char *host = NULL;
        const char *why;
        int port, fd = -1;
        if (listen_address_parse(*address, &host, &port, &why))
            fd = listen_at(host, port);
        if (fd < 0) {
            g_warning("NBD is not offered on %s: %s", *address, g_strerror(errno));
            continue;
        }
        if (server.port == 0)
            server.port = port_of(fd);
        g_array_append_val(server.listeners, fd);
        g_message("serving nbd on %s", *address);
    }
}

static void close_listeners(void)
{
    for (guint i = 0; i < server.listeners->len; i++)
        close(g_array_index(server.listeners, int, i));
    if (server.listeners->len > 0)
        g_message("nbd is served no more");
    g_array_set_size(server.listeners, 0);
    g_clear_pointer(&server.addresses, g_free);
    server.port = 0;
}

/* Accepts; opens and closes listeners when it is woken. */
static void *attend(G_GNUC_UNUSED void *data)
{
    for (;;) {
        g_mutex_lock(&server.lock);
        gboolean wanted = !server.stopping && purpose_of_host() != NBD_OFF;
        g_autofree char *addresses = g_strjoinv(";", the_conf()->nbd_listen);
        if (!wanted || g_strcmp0(addresses, server.addresses) != 0)
            close_listeners();
        if (wanted && server.listeners->len == 0) {
            open_listeners();
            server.addresses = g_steal_pointer(&addresses);
        }
        guint n = server.listeners->len;
        g_autofree struct pollfd *p = g_new0(struct pollfd, n + 1);
        for (guint i = 0; i < n; i++)
            p[i] = (struct pollfd){.fd = g_array_index(server.listeners, int, i), .events = POLLIN};
        gboolean stopping = server.stopping;
        server.done = server.asked;
        g_cond_broadcast(&server.changed);
        g_mutex_unlock(&server.lock);
        if (stopping)
            return NULL;
        p[n] = (struct pollfd){.fd = server.wake, .events = POLLIN};
        if (poll(p, n + 1, -1) < 0)
            continue;
        guint64 times;
        if ((p[n].revents & POLLIN) != 0 && read(server.wake, &times, sizeof times) < 0)
            continue;
        for (guint i = 0; i < n; i++)
            if ((p[i].revents & POLLIN) != 0)
                accept_one(p[i].fd);
    }
}

/* ---- for others ---- */

void nbd_server_refresh(void)
{
    g_mutex_lock(&server.lock);
    server.asked++;
    if (server.thread == NULL && !server.stopping) {
        server.connections = g_ptr_array_new();
        server.listeners = g_array_new(FALSE, FALSE, sizeof(int));
        server.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        server.thread = g_thread_new("nbd-listen", attend, NULL);
    } else if (server.thread != NULL) {
        wake();
    }
    g_mutex_unlock(&server.lock);
}

void nbd_server_reload(void)
{
    g_mutex_lock(&server.lock);
    gboolean runs = server.thread != NULL;
    g_mutex_unlock(&server.lock);
    if (runs)
        nbd_server_refresh();
}

int nbd_server_port(void)
{
    g_mutex_lock(&server.lock);
    while (server.thread != NULL && server.done != server.asked)
        g_cond_wait(&server.changed, &server.lock);
    int port = server.port;
    g_mutex_unlock(&server.lock);
    return port;
}

void nbd_server_stop(gint64 deadline_ms)
{
    g_mutex_lock(&server.lock);
    server.stopping = TRUE;
    GThread *thread = g_steal_pointer(&server.thread);
    if (thread != NULL)
        wake();
    for (guint i = 0; thread != NULL && i < server.connections->len; i++) {
        struct nbd_connection *c = server.connections->pdata[i];
        g_atomic_int_set(&c->stop, 1);
        shutdown(c->client.fd, SHUT_RDWR);
    }
    while (thread != NULL && server.connections->len > 0)
        if (!g_cond_wait_until(&server.changed, &server.lock, deadline_ms * 1000))
            break;
    g_mutex_unlock(&server.lock);
    if (thread != NULL)
        g_thread_join(thread);
}
