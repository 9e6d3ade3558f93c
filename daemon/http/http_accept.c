/* http_accept.c - taking connections from a listening socket. libmicrohttpd can do it, but not stop doing it: in
 * 0.9.75 MHD_quiesce_daemon races with the threads of the pool for removing the socket from their epoll sets, and who
 * comes second ends the process. A thread for each socket does it here, and hands over what came. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/http/http_internal.h"

#define SHORTAGE_MS   100 /* until the next attempt when there is nothing to accept with */
#define AT_ONCE       64  /* connections, before a look at whether to end */
#define COMPLAINTS_US (60 * G_USEC_PER_SEC)

static void hand_over(struct http_listener *l, int fd, const struct sockaddr *address, socklen_t len)
{
    if (!connection_admit(l, address)) {
        close(fd);
        return;
    }
    if (MHD_add_connection(l->daemon, fd, address, len) != MHD_YES) /* which closed it */
        connection_dismiss(l, address);
}

/* Whether accepting failed for want of something that others must give back first. */
static gboolean is_shortage(int why)
{
    return why == EMFILE || why == ENFILE || why == ENOMEM || why == ENOBUFS;
}

/* Takes connections that wait. FALSE: there is a shortage. */
static gboolean accept_some(struct http_listener *l)
{
    for (int i = 0; i < AT_ONCE; i++) {
        struct sockaddr_storage address = {0};
        socklen_t len = sizeof address;
        int fd = accept4(l->fd, (struct sockaddr *) &address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return !is_shortage(errno); /* all else is about the one connection, or that there is none: accept(2) */
        hand_over(l, fd, (const struct sockaddr *) &address, len);
    }
    return TRUE;
}

static void *accept_thread(void *data)
{
    struct http_listener *l = data;
    gint64 complained = 0;
    struct pollfd fds[] = {{.fd = l->ring, .events = POLLIN}, {.fd = l->fd, .events = POLLIN}};
    for (;;) {
        if (poll(fds, G_N_ELEMENTS(fds), -1) < 0)
            continue;
        if (fds[0].revents != 0)
            return NULL;
        if (accept_some(l))
            continue;
        int why = errno;
        gint64 now = g_get_monotonic_time();
        if (complained == 0 || now - complained > COMPLAINTS_US) {
            g_warning("HTTP: connections cannot be accepted on %s: %s", l->address, g_strerror(why));
            complained = now;
        }
        poll(fds, 1, SHORTAGE_MS);
    }
}

gboolean accept_start(struct http_listener *l, GError **error)
{
    l->ring = eventfd(0, EFD_CLOEXEC);
    if (l->ring < 0 || fcntl(l->fd, F_SETFL, fcntl(l->fd, F_GETFL) | O_NONBLOCK) != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "cannot accept on %s: %s", l->address,
                    g_strerror(errno));
        if (l->ring >= 0)
            close(l->ring);
        return FALSE;
    }
    l->accept = g_thread_new("accept", accept_thread, l);
    return TRUE;
}

void accept_stop(struct http_listener *l)
{
    if (!l->accept)
        return;
    eventfd_write(l->ring, 1);
    g_thread_join(l->accept);
    l->accept = NULL;
    close(l->ring);
    close(l->fd);
}
