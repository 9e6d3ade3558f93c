/* http_connection.c - the open connections: how many, what each is doing and for how long it may, and which of those
 * that wait for an answer have a client that went away. */
#include "config.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/clock.h"
#include "daemon/http/http_internal.h"

#define PHASE_BITS   3
#define PHASE_MASK   ((1u << PHASE_BITS) - 1)
#define UNIX_RESERVE 64 /* connections over the limit that local clients may have, to repair what filled it */

static GMutex lock;
static struct http_connection *connections;
static guint n_connections;
static GHashTable *by_address; /* address_key -> number of connections */
static gboolean stopping, cutting;
static gint64 complained; /* when a refusal was logged last */
static guint now_s;       /* atomic: seconds, advanced by the sweep: a phase change then costs no system call */

static guint address_hash(gconstpointer key)
{
    const guint8 *k = key;
    guint h = 5381;
    for (int i = 0; i < 17; i++)
        h = h * 33 + k[i];
    return h;
}

static gboolean address_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, 17) == 0;
}

/* IPv4 addresses count alone, also when they come through an IPv6 socket; of IPv6 the /64, which is one site's. */
static gboolean address_key(const struct sockaddr *address, guint8 key[17])
{
    memset(key, 0, 17);
    if (address->sa_family == AF_INET) {
        key[0] = 4;
        memcpy(key + 1, &((const struct sockaddr_in *) address)->sin_addr, 4);
        return TRUE;
    }
    if (address->sa_family != AF_INET6)
        return FALSE;
    const struct in6_addr *a = &((const struct sockaddr_in6 *) address)->sin6_addr;
    key[0] = IN6_IS_ADDR_V4MAPPED(a) ? 4 : 6;
    if (key[0] == 4)
        memcpy(key + 1, a->s6_addr + 12, 4);
    else
        memcpy(key + 1, a->s6_addr, IN6_IS_ADDR_LOOPBACK(a) ? 16 : 8);
    return TRUE;
}

static void address_text(const struct sockaddr *address, char *text, gsize size)
{
    g_strlcpy(text, "unix", size);
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *) address)->sin_addr, text, size);
    if (address->sa_family == AF_INET6) {
        const struct in6_addr *a = &((const struct sockaddr_in6 *) address)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(a))
            inet_ntop(AF_INET, a->s6_addr + 12, text, size);
        else
            inet_ntop(AF_INET6, a, text, size);
    }
}

/* Once a minute, so that a flood does not become one of the log, too. */
static void complain(const char *what, const char *address)
{
    gint64 now = g_get_monotonic_time();
    if (complained != 0 && now - complained < 60 * G_USEC_PER_SEC)
        return;
    complained = now;
    g_warning("a connection from %s was refused: %s", address, what);
}

/* With the lock held. */
static void count(const guint8 key[17], int change)
{
    n_connections += change;
    if (key[0] == 0)
        return;
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(by_address, key)) + change;
    if (n == 0)
        g_hash_table_remove(by_address, key);
    else
        g_hash_table_replace(by_address, g_memdup2(key, 17), GUINT_TO_POINTER(n));
}

gboolean connection_admit(const struct http_listener *l, const struct sockaddr *address)
{
    const struct conf *conf = the_conf();
    guint8 key[17] = {0};
    char text[64];
    gboolean counted = !l->is_unix && address_key(address, key);

    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    if (n_connections >= (guint) conf->connections + (l->is_unix ? UNIX_RESERVE : 0)) {
        address_text(address, text, sizeof text);
        complain("all connections are in use (limits: connections)", text);
        return FALSE;
    }
    if (counted && GPOINTER_TO_UINT(g_hash_table_lookup(by_address, key)) >= (guint) conf->connections_per_address) {
        address_text(address, text, sizeof text);
        complain("it has too many (limits: connections-per-address)", text);
        return FALSE;
    }
    count(key, 1);
    return TRUE;
}

void connection_dismiss(const struct http_listener *l, const struct sockaddr *address)
{
    guint8 key[17] = {0};
    if (!l->is_unix)
        address_key(address, key);
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    count(key, -1);
}

static void peer_of_unix_socket(struct http_connection *c)
{
    struct ucred cred;
    socklen_t len = sizeof cred;
    if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && len == sizeof cred) {
        c->origin.uid_known = TRUE;
        c->origin.uid = cred.uid;
    }
}

static void connection_open(struct http_listener *l, struct MHD_Connection *mhd, void **context)
{
    struct http_connection *c = g_new0(struct http_connection, 1);
    const struct sockaddr *address = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
    c->listener = l;
    c->mhd = mhd;
    c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    c->origin.is_unix = l->is_unix;
    c->origin.tls = l->tls;
    c->origin.address = c->address;
    if (l->is_unix) {
        g_strlcpy(c->address, "unix", sizeof c->address);
        peer_of_unix_socket(c);
    } else {
        address_text(address, c->address, sizeof c->address);
        address_key(address, c->address_key);
    }
    connection_phase(c, PHASE_NEW);
    *context = c;

    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    c->next = connections;
    if (connections)
        connections->prev = c;
    connections = c;
}

static void connection_closed(struct http_connection *c)
{
    g_mutex_lock(&lock);
    if (c->prev)
        c->prev->next = c->next;
    else
        connections = c->next;
    if (c->next)
        c->next->prev = c->prev;
    count(c->address_key, -1);
    g_mutex_unlock(&lock);
    g_free(c->body);
    g_free(c);
}

void connection_notify(void *listener, struct MHD_Connection *mhd, void **context,
                       enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        connection_open(listener, mhd, context);
    else if (*context) {
        connection_closed(*context);
        *context = NULL;
    }
}

/* ---- phases and their deadlines ---- */

void connection_phase(struct http_connection *c, enum http_phase phase)
{
    __atomic_store_n(&c->phase, __atomic_load_n(&now_s, __ATOMIC_RELAXED) << PHASE_BITS | phase, __ATOMIC_RELAXED);
}

void *connection_request_line(void *listener, const char *uri, struct MHD_Connection *mhd)
{
    struct http_connection *c = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    (void) listener;
    (void) uri;
    /* The first header counts from the connection on, with the TLS handshake. */
    if ((__atomic_load_n(&c->phase, __ATOMIC_RELAXED) & PHASE_MASK) != PHASE_NEW)
        connection_phase(c, PHASE_HEADERS);
    return NULL;
}

static int phase_limit(const struct conf *conf, enum http_phase phase)
{
    switch (phase) {
    case PHASE_NEW:
    case PHASE_HEADERS:
        return conf->header_timeout;
    case PHASE_IDLE:
        return conf->idle_timeout;
    case PHASE_BODY:
        return conf->body_timeout;
    case PHASE_RUNNING:
    case PHASE_REPLY:
        break;
    }
    return G_MAXINT;
}

static gboolean is_overdue(const struct http_connection *c, const struct conf *conf, guint now)
{
    guint word = __atomic_load_n(&c->phase, __ATOMIC_RELAXED);
    guint age = (now - (word >> PHASE_BITS)) & (G_MAXUINT >> PHASE_BITS);
    return age > (guint) phase_limit(conf, word & PHASE_MASK);
}

/* ---- waiting ---- */

void connection_wait(struct http_connection *c)
{
    g_atomic_int_set(&c->wait, WAIT_STARTED);
}

gboolean connection_suspend(struct http_connection *c)
{
    if (g_atomic_int_get(&c->wait) == WAIT_DONE)
        return FALSE;
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    if (cutting) {
        g_atomic_int_compare_and_exchange(&c->wait, WAIT_STARTED, WAIT_GONE);
        return FALSE;
    }
    c->suspended = TRUE;
    MHD_suspend_connection(c->mhd);
    if (!g_atomic_int_compare_and_exchange(&c->wait, WAIT_STARTED, WAIT_SUSPENDED))
        MHD_resume_connection(c->mhd);
    return TRUE;
}

void connection_wake(struct http_connection *c)
{
    if (g_atomic_int_compare_and_exchange(&c->wait, WAIT_STARTED, WAIT_DONE))
        return;
    /* Under the lock, so that the daemon is not stopped under our feet. */
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    if (g_atomic_int_compare_and_exchange(&c->wait, WAIT_SUSPENDED, WAIT_DONE)) {
        c->suspended = FALSE;
        MHD_resume_connection(c->mhd);
    }
}

void connection_resumed(struct http_connection *c)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    c->suspended = FALSE;
}

/* Makes the connection ours to resume; with the lock held. */
static gboolean claim(struct http_connection *c)
{
    return c->suspended && g_atomic_int_compare_and_exchange(&c->wait, WAIT_SUSPENDED, WAIT_GONE);
}

/* Gives up requests that were claimed. */
static void give_up(GPtrArray *claimed)
{
    for (guint i = 0; i < claimed->len; i++) {
        struct http_connection *c = claimed->pdata[i];
        if (c->ops->gone)
            c->ops->gone(c);
        G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
        MHD_resume_connection(c->mhd);
    }
}

/* Claims the suspended connections whose client hung up: libmicrohttpd does not look at them. */
static void find_hung_up(GPtrArray *claimed)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(struct pollfd));
    g_autoptr(GPtrArray) owners = g_ptr_array_new();
    for (struct http_connection *c = connections; c; c = c->next) {
        if (!c->suspended || g_atomic_int_get(&c->deaf) || g_atomic_int_get(&c->wait) != WAIT_SUSPENDED)
            continue;
        struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
        g_array_append_val(fds, p);
        g_ptr_array_add(owners, c);
    }
    if (fds->len == 0 || poll((struct pollfd *) (void *) fds->data, fds->len, 0) <= 0)
        return;
    for (guint i = 0; i < fds->len; i++)
        if (g_array_index(fds, struct pollfd, i).revents != 0 && claim(owners->pdata[i]))
            g_ptr_array_add(claimed, owners->pdata[i]);
}

/* libmicrohttpd waits for news of a socket after a short read, and hears none when the end came with the last bytes. It
 * is given a second to work on those. */
static gboolean has_ended_unheard(struct http_connection *c)
{
    char byte;
    gboolean ended = g_atomic_int_get(&c->deaf) && !c->suspended && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
    c->ended_for = ended ? c->ended_for + 1 : 0;
    return c->ended_for > 1;
}

/* Every second: cuts who is late, gives up who has gone. */
static void sweep(void *data)
{
    (void) data;
    guint now = __atomic_add_fetch(&now_s, 1, __ATOMIC_RELAXED) & (G_MAXUINT >> PHASE_BITS);
    const struct conf *conf = the_conf();
    g_autoptr(GPtrArray) claimed = g_ptr_array_new();

    g_mutex_lock(&lock);
    for (struct http_connection *c = connections; c; c = c->next)
        if (is_overdue(c, conf, now) || has_ended_unheard(c))
            shutdown(c->fd, SHUT_RDWR);
    find_hung_up(claimed);
    g_mutex_unlock(&lock);
    give_up(claimed);
}

/* ---- the whole ---- */

void connections_init(void)
{
    if (by_address)
        return;
    by_address = g_hash_table_new_full(address_hash, address_equal, g_free, NULL);
    clock_every(1000, sweep, NULL);
}

guint connections_count(void)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    return n_connections;
}

gboolean connections_stopping(void)
{
    return __atomic_load_n(&stopping, __ATOMIC_RELAXED);
}

guint connections_stop(gboolean now)
{
    g_autoptr(GPtrArray) claimed = g_ptr_array_new();
    guint busy = 0;
    g_mutex_lock(&lock);
    __atomic_store_n(&stopping, TRUE, __ATOMIC_RELAXED);
    cutting = cutting || now;
    for (struct http_connection *c = connections; c; c = c->next) {
        enum http_phase phase = __atomic_load_n(&c->phase, __ATOMIC_RELAXED) & PHASE_MASK;
        if (now && claim(c))
            g_ptr_array_add(claimed, c);
        if (now || phase == PHASE_NEW || phase == PHASE_IDLE)
            shutdown(c->fd, SHUT_RDWR);
        busy += now || (phase != PHASE_NEW && phase != PHASE_IDLE);
    }
    g_mutex_unlock(&lock);
    give_up(claimed);
    return busy;
}
