/* listen.c - makes the listening sockets: TCP, UNIX, or those that systemd holds. See listen.h. */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "daemon/process/listen.h"

#define BACKLOG 1024

const char *listener_kind_name(enum listener_kind kind)
{
    static const char *const names[] = {"https", "http", "unix"};
    return names[kind];
}

static gboolean set_errno(GError **error, const char *what, const char *address, const char *advice)
{
    int code = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(code), "%s %s: %s%s", what, address, g_strerror(code),
                advice);
    return FALSE;
}

static void add(struct listeners *ls, enum listener_kind kind, char *address, int fd)
{
    ls->l = g_renew(struct control_listener, ls->l, ls->n + 1);
    ls->l[ls->n++] = (struct control_listener){kind, address, fd};
    g_message("listening: %s %s", listener_kind_name(kind), address);
}

/* ---- TCP ---- */

/* "127.0.0.1:8443", "[::1]:8443" of a bound socket. */
static char *bound_address(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getsockname(fd, (struct sockaddr *) &a, &len) < 0 ||
        getnameinfo((struct sockaddr *) &a, len, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV))
        return g_strdup("?");
    return g_strdup_printf(a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static void set_option(int fd, int level, int option, int value)
{
    setsockopt(fd, level, option, &value, sizeof value);
}

/* Accepted sockets inherit these: a client that vanished is noticed within two minutes. */
static void set_tcp_options(int fd)
{
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 15);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

/* -1 with errno. */
static int listen_at(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    set_tcp_options(fd);
    if (a->ai_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

static int listen_tcp(const char *host, int port)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *a;
    char service[8];
    g_snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(host, service, &hints, &a)) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int fd = listen_at(a), why = errno;
    freeaddrinfo(a);
    /* A host without IPv6 still has all of IPv4. */
    if (fd < 0 && (why == EAFNOSUPPORT || why == EADDRNOTAVAIL) && strcmp(host, "::") == 0)
        return listen_tcp("0.0.0.0", port);
    errno = why;
    return fd;
}

static const char *tcp_advice(int port)
{
    if (errno == EACCES && port < 1024)
        return "; ports below 1024 are root's: use another, as in --listen-https 127.0.0.1:8443";
    if (errno == EADDRINUSE)
        return "; another program has it, perhaps xapi or another xenapid";
    return "";
}

static gboolean open_tcp(struct listeners *ls, enum listener_kind kind, GStrv addresses, GError **error)
{
    for (char **a = addresses; *a; a++) {
        g_autofree char *host = NULL;
        const char *why;
        int port;
        if (!listen_address_parse(*a, &host, &port, &why)) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: %s", *a, why);
            return FALSE;
        }
        int fd = listen_tcp(host, port);
        if (fd < 0)
            return set_errno(error, "cannot listen on", *a, tcp_advice(port));
        add(ls, kind, bound_address(fd), fd);
    }
    return TRUE;
}

/* ---- UNIX ---- */

static gboolean parse_id(const char *text, guint32 *id)
{
    guint64 n;
    gboolean good = g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32 - 1, &n, NULL);
    *id = (guint32) n;
    return good;
}

/* Who owns a socket's file; -1 leaves it as it is. */
static gboolean find_owner(const struct conf *c, const struct account *account, uid_t *uid, gid_t *gid, GError **error)
{
    struct passwd *pw;
    struct group *gr;
    *uid = account ? account->uid : (uid_t) -1;
    *gid = account ? account->gid : (gid_t) -1;
    if (*c->unix_owner && !parse_id(c->unix_owner, uid)) {
        if (!(pw = getpwnam(c->unix_owner))) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "unix-owner: there is no user %s", c->unix_owner);
            return FALSE;
        }
        *uid = pw->pw_uid;
    }
    if (*c->unix_group && !parse_id(c->unix_group, gid)) {
        if (!(gr = getgrnam(c->unix_group))) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "unix-group: there is no group %s", c->unix_group);
            return FALSE;
        }
        *gid = gr->gr_gid;
    }
    return TRUE;
}

static gboolean fill_address(struct sockaddr_un *a, const char *path)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    errno = ENAMETOOLONG;
    return g_strlcpy(a->sun_path, path, sizeof a->sun_path) < sizeof a->sun_path;
}

/* Removes what an earlier process left: only a socket, and only one where nobody listens. FALSE with errno. */
static gboolean remove_stale(const struct sockaddr_un *a)
{
    struct stat st;
    if (lstat(a->sun_path, &st) < 0)
        return errno == ENOENT;
    errno = EEXIST;
    if (!S_ISSOCK(st.st_mode))
        return FALSE;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return FALSE;
    int result = connect(fd, (const struct sockaddr *) a, sizeof *a), why = errno;
    close(fd);
    if (result == 0 || why != ECONNREFUSED) {
        errno = EADDRINUSE;
        return FALSE;
    }
    return unlink(a->sun_path) == 0;
}

/* The mode is set by the umask, not by chmod: the directory may be another's, who could put something else in the
 * file's place. -1 with errno. */
static int listen_unix(const char *path, uid_t uid, gid_t gid, mode_t mode)
{
    struct sockaddr_un a;
    if (!fill_address(&a, path) || !remove_stale(&a))
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    mode_t before = umask(~mode & 0777);
    int bound = bind(fd, (struct sockaddr *) &a, sizeof a), why = errno;
    umask(before);
    if (bound == 0 && lchown(path, uid, gid) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    if (bound == 0) {
        why = errno;
        unlink(path);
    }
    close(fd);
    errno = why;
    return -1;
}

static gboolean open_unix(struct listeners *ls, const struct conf *c, const struct account *account, GError **error)
{
    uid_t uid;
    gid_t gid;
    if (!find_owner(c, account, &uid, &gid, error))
        return FALSE;
    for (char **path = c->listen_unix; *path; path++) {
        int fd = listen_unix(*path, uid, gid, (mode_t) c->unix_mode);
        if (fd < 0) {
            const char *advice = errno == EADDRINUSE ? "; another process listens there"
                                 : errno == EEXIST   ? "; what is there is no socket and is left alone"
                                                     : "";
            return set_errno(error, "cannot listen on", *path, advice);
        }
        g_ptr_array_add(ls->made, g_strdup(*path));
        add(ls, LISTENER_UNIX, g_strdup(*path), fd);
    }
    return TRUE;
}

/* ---- systemd ---- */

#ifdef HAVE_SYSTEMD
static gboolean is_remote(int fd)
{
    g_autofree char *address = bound_address(fd);
    return !g_str_has_prefix(address, "127.") && !g_str_has_prefix(address, "[::1]");
}

static gboolean adopt(struct listeners *ls, int fd, const char *name, const struct conf *c, GError **error)
{
    enum listener_kind kind = strcmp(name, "http") == 0 ? LISTENER_HTTP : LISTENER_HTTPS;
    if (sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0) {
        struct sockaddr_un a;
        socklen_t len = sizeof a;
        gboolean named = getsockname(fd, (struct sockaddr *) &a, &len) == 0 && len > sizeof(sa_family_t) && *a.sun_path;
        add(ls, LISTENER_UNIX, named ? g_strndup(a.sun_path, sizeof a.sun_path) : g_strdup("(unnamed)"), fd);
    } else if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0 || (kind == LISTENER_HTTPS && strcmp(name, "https"))) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "the socket \"%s\" from systemd is not one to use: TCP sockets have FileDescriptorName=https or "
                    "http, others are UNIX stream sockets",
                    name);
        return FALSE;
    } else if (kind == LISTENER_HTTP && is_remote(fd) && !c->allow_plain_http_remote) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "the socket \"http\" from systemd can be reached by other hosts; allow-plain-http-remote is no");
        return FALSE;
    } else {
        set_tcp_options(fd);
        add(ls, kind, bound_address(fd), fd);
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return TRUE;
}

static gboolean adopt_all(struct listeners *ls, const struct conf *c, GError **error)
{
    g_auto(GStrv) names = NULL;
    int n = sd_listen_fds_with_names(1, &names);
    for (int i = 0; i < n; i++) {
        if (!adopt(ls, SD_LISTEN_FDS_START + i, names[i], c, error))
            return FALSE;
    }
    return TRUE;
}
#else
static gboolean adopt_all(struct listeners *ls, const struct conf *c, GError **error)
{
    (void) ls, (void) c, (void) error;
    return TRUE;
}
#endif

/* ---- all ---- */

gboolean listeners_open(struct listeners *ls, const struct conf *c, const struct account *account, GError **error)
{
    *ls = (struct listeners){.made = g_ptr_array_new_with_free_func(g_free)};
    if (!adopt_all(ls, c, error))
        return FALSE;
    if (ls->n > 0)
        return TRUE;
    if (!open_tcp(ls, LISTENER_HTTPS, c->listen_https, error) || !open_tcp(ls, LISTENER_HTTP, c->listen_http, error) ||
        !open_unix(ls, c, account, error))
        return FALSE;
    if (ls->n > 0)
        return TRUE;
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                "there is nothing to listen on: give listen-https, listen-http or listen-unix");
    return FALSE;
}

void listeners_close(struct listeners *ls)
{
    for (int i = 0; i < ls->n; i++) {
        close(ls->l[i].fd);
        g_free(ls->l[i].address);
    }
    for (guint i = 0; ls->made && i < ls->made->len; i++)
        unlink(ls->made->pdata[i]);
    g_clear_pointer(&ls->made, g_ptr_array_unref);
    g_clear_pointer(&ls->l, g_free);
    ls->n = 0;
}
