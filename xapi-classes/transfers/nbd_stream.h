/* nbd_stream.h - bytes to and from a socket, plain or through TLS: what the NBD server needs of both. */
#ifndef XENAPID_NBD_STREAM_H
#define XENAPID_NBD_STREAM_H

#include <glib.h>

struct nbd_stream {
    int fd; /* does not block */
    struct gnutls_session_int *tls;
    gboolean resend; /* TLS: a record is on its way that was not sent to its end */
};

/* fd is not closed by clear. */
void nbd_stream_init(struct nbd_stream *s, int fd);
void nbd_stream_clear(struct nbd_stream *s);

/* Neither waits: bytes; 0: nothing goes now; -1: the end. */
gssize nbd_stream_recv(struct nbd_stream *s, void *buffer, gsize room);
gssize nbd_stream_send(struct nbd_stream *s, const void *data, gsize len);
/* Bytes that have come but that poll does not know of. */
gboolean nbd_stream_has_more(const struct nbd_stream *s);

/* All of it, until the monotonic time (microseconds). FALSE: it did not come, or the other side is gone. */
gboolean nbd_stream_read(struct nbd_stream *s, void *buffer, gsize len, gint64 deadline);
gboolean nbd_stream_write(struct nbd_stream *s, const void *data, gsize len, gint64 deadline);
/* From here on by TLS, with our certificate. FALSE with *why (static) when the handshake failed. */
gboolean nbd_stream_start_tls(struct nbd_stream *s, gint64 deadline, const char **why);

#endif
