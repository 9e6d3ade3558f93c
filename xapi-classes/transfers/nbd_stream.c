/* nbd_stream.c - a socket, plain or through TLS. */
#include "config.h"
#include "xapi-classes/transfers/nbd_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/call.h"
#include "daemon/http/certificate.h"

void nbd_stream_init(struct nbd_stream *s, int fd)
{
    *s = (struct nbd_stream){.fd = fd};
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void nbd_stream_clear(struct nbd_stream *s)
{
    if (s->tls == NULL)
        return;
    gnutls_bye(s->tls, GNUTLS_SHUT_WR); /* does not wait */
    gnutls_deinit(s->tls);
    s->tls = NULL;
}

static gboolean is_later(gssize n)
{
    return n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED;
}

static gssize plain(gssize n)
{
    if (n > 0)
        return n;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

gssize nbd_stream_recv(struct nbd_stream *s, void *buffer, gsize room)
{
    if (s->tls == NULL)
        return plain(recv(s->fd, buffer, room, MSG_DONTWAIT));
    gssize n = gnutls_record_recv(s->tls, buffer, room);
    return n > 0 ? n : is_later(n) ? 0 : -1;
}

gssize nbd_stream_send(struct nbd_stream *s, const void *data, gsize len)
{
    if (s->tls == NULL)
        return plain(send(s->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL));
    gssize n = s->resend ? gnutls_record_send(s->tls, NULL, 0) : gnutls_record_send(s->tls, data, len);
    s->resend = is_later(n);
    return n > 0 ? n : s->resend ? 0 : -1;
}

gboolean nbd_stream_has_more(const struct nbd_stream *s)
{
    return s->tls != NULL && gnutls_record_check_pending(s->tls) > 0;
}

/* FALSE: the time is up. */
static gboolean wait_for(const struct nbd_stream *s, short events, gint64 deadline)
{
    struct pollfd p = {.fd = s->fd, .events = events};
    gint64 left = (deadline - g_get_monotonic_time()) / 1000;
    return left > 0 && (poll(&p, 1, (int) MIN(left, 60000)) >= 0 || errno == EINTR);
}

gboolean nbd_stream_read(struct nbd_stream *s, void *buffer, gsize len, gint64 deadline)
{
    for (char *p = buffer; len > 0;) {
        gssize n = nbd_stream_recv(s, p, len);
        if (n < 0 || (n == 0 && !wait_for(s, POLLIN, deadline)))
            return FALSE;
        p += n;
        len -= (gsize) n;
    }
    return TRUE;
}

gboolean nbd_stream_write(struct nbd_stream *s, const void *data, gsize len, gint64 deadline)
{
    for (const char *p = data; len > 0;) {
        gssize n = nbd_stream_send(s, p, len);
        if (n < 0 || (n == 0 && !wait_for(s, POLLOUT, deadline)))
            return FALSE;
        p += n;
        len -= (gsize) n;
    }
    return TRUE;
}

/* ---- TLS ---- */

/* One for all connections: it asks for the certificate each time. */
static gnutls_certificate_credentials_t credentials(void)
{
    static gsize once;
    static gnutls_certificate_credentials_t made;
    if (g_once_init_enter(&once)) {
        if (gnutls_certificate_allocate_credentials(&made) == 0)
            certificate_use(made);
        g_once_init_leave(&once, 1);
    }
    return made;
}

static int set_up(struct nbd_stream *s)
{
    int rc = gnutls_init(&s->tls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (rc == 0)
        rc = gnutls_priority_set_direct(s->tls, the_conf()->tls_priority, NULL);
    if (rc == 0)
        rc = gnutls_credentials_set(s->tls, GNUTLS_CRD_CERTIFICATE, credentials());
    if (rc == 0)
        gnutls_transport_set_int(s->tls, s->fd);
    return rc;
}

gboolean nbd_stream_start_tls(struct nbd_stream *s, gint64 deadline, const char **why)
{
    int rc = set_up(s);
    gboolean in_time = TRUE;
    while (rc == 0 && in_time) {
        rc = gnutls_handshake(s->tls);
        if (rc == 0)
            return TRUE;
        if (gnutls_error_is_fatal(rc))
            break;
        in_time = wait_for(s, gnutls_record_get_direction(s->tls) ? POLLOUT : POLLIN, deadline);
        rc = 0;
    }
    *why = in_time ? gnutls_strerror(rc) : "it took too long";
    if (s->tls != NULL)
        gnutls_deinit(s->tls);
    s->tls = NULL;
    return FALSE;
}
