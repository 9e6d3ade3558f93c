/* http_reply.c - answers on their way out: small ones in one buffer, large ones in blocks, compressed where the client
 * reads that. */
#include "config.h"

#include <string.h>
#include <sys/socket.h>

#include <gnutls/gnutls.h>

#include "daemon/http/http_gzip.h"
#include "daemon/http/http_internal.h"

#define FLAT_MOST    (32 * 1024)   /* up to here ranges are put together in one buffer */
#define GZIP_ONCE    (1024 * 1024) /* up to here compressed at once; more would hold up the thread's other connections */
#define BLOCK        (64 * 1024)
#define SCATTER_MOST 64 /* ranges that are sent from where they are */
#define STREAM_BLOCK (256 * 1024)

/* ---- a source of ranges that outlives the request ---- */

struct source {
    struct exchange *exchange;
    GBytes *bytes;
    struct reply_range own; /* of bytes */
    const struct reply_range *ranges;
    gsize n, length;
    gsize at, offset; /* what comes next */
    struct gzip *gzip;
};

static struct source *source_new(struct exchange *x, GBytes *bytes)
{
    struct source *s = g_new0(struct source, 1);
    if (x) {
        struct reply *r = exchange_reply(x);
        s->exchange = exchange_ref(x);
        s->ranges = reply_ranges(r, &s->n);
        s->length = reply_length(r);
    } else {
        s->bytes = g_bytes_ref(bytes);
        s->own.data = g_bytes_get_data(bytes, &s->own.len);
        s->ranges = &s->own;
        s->n = 1;
        s->length = s->own.len;
    }
    return s;
}

static void source_free(void *data)
{
    struct source *s = data;
    g_clear_pointer(&s->exchange, exchange_unref);
    g_clear_pointer(&s->bytes, g_bytes_unref);
    g_clear_pointer(&s->gzip, gzip_free);
    g_free(s);
}

static ssize_t source_read(void *data, uint64_t pos, char *buffer, size_t room)
{
    struct source *s = data;
    gsize done = 0;
    (void) pos;
    while (done < room && s->at < s->n) {
        const struct reply_range *range = &s->ranges[s->at];
        gsize n = MIN(room - done, range->len - s->offset);
        memcpy(buffer + done, (const char *) range->data + s->offset, n);
        done += n;
        s->offset += n;
        if (s->offset == range->len) {
            s->at++;
            s->offset = 0;
        }
    }
    return done > 0 ? (ssize_t) done : MHD_CONTENT_READER_END_OF_STREAM;
}

static ssize_t source_read_gzip(void *data, uint64_t pos, char *buffer, size_t room)
{
    struct source *s = data;
    (void) pos;
    gssize n = gzip_stream(s->gzip, s->ranges, s->n, &s->at, buffer, room);
    if (n < 0)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    return n > 0 ? n : MHD_CONTENT_READER_END_OF_STREAM;
}

/* ---- responses ---- */

static struct MHD_Response *flat_response(const struct reply_range *ranges, gsize n, gsize length)
{
    char *flat = malloc(length ? length : 1); /* libmicrohttpd frees it */
    if (!flat)
        return NULL;
    gsize at = 0;
    for (gsize i = 0; i < n; i++) {
        memcpy(flat + at, ranges[i].data, ranges[i].len);
        at += ranges[i].len;
    }
    return MHD_create_response_from_buffer(length, flat, MHD_RESPMEM_MUST_FREE);
}

static struct MHD_Response *streamed_response(struct source *s)
{
    return MHD_create_response_from_callback(s->length, BLOCK, source_read, s, source_free);
}

/* The kernel takes the ranges from where they are. */
static struct MHD_Response *scattered_response(struct source *s)
{
    G_STATIC_ASSERT(sizeof(struct reply_range) == sizeof(struct MHD_IoVec));
    G_STATIC_ASSERT(G_STRUCT_OFFSET(struct reply_range, data) == G_STRUCT_OFFSET(struct MHD_IoVec, iov_base));
    struct MHD_Response *response =
        MHD_create_response_from_iovec((const struct MHD_IoVec *) s->ranges, (guint) s->n, source_free, s);
    if (!response)
        source_free(s);
    return response;
}

static struct MHD_Response *gzip_response(struct source *s)
{
    struct MHD_Response *response;
    if (s->length <= GZIP_ONCE) {
        gsize size;
        void *packed = gzip_ranges(s->ranges, s->n, s->length, &size);
        source_free(s);
        if (!packed)
            return NULL;
        response = MHD_create_response_from_buffer(size, packed, MHD_RESPMEM_MUST_FREE);
    } else {
        s->gzip = gzip_new();
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, source_read_gzip, s, source_free);
    }
    if (response)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_ENCODING, "gzip");
    return response;
}

/* A large answer: TRUE in *varies when another client would get it in another coding. Takes over s. */
static struct MHD_Response *large_response(struct http_connection *c, struct source *s, gboolean *varies)
{
    int min = the_conf()->gzip_min_size;
    *varies = min > 0 && s->length >= (gsize) min && !c->listener->is_unix;
    if (*varies && gzip_accepted(MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT_ENCODING)))
        return gzip_response(s);
    /* TLS copies anyway; and libmicrohttpd keeps a list of the ranges in the connection's small memory. */
    if (s->length > FLAT_MOST && s->n <= SCATTER_MOST && !c->listener->tls)
        return scattered_response(s);
    if (s->length > FLAT_MOST)
        return streamed_response(s);
    struct MHD_Response *response = flat_response(s->ranges, s->n, s->length);
    source_free(s);
    return response;
}

static enum MHD_Result send_response(struct http_connection *c, guint status, struct MHD_Response *response)
{
    if (!response)
        return MHD_NO;
    if (connections_stopping())
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    connection_phase(c, PHASE_REPLY);
    enum MHD_Result ok = MHD_queue_response(c->mhd, status, response);
    MHD_destroy_response(response);
    return ok;
}

static enum MHD_Result send_nothing(struct http_connection *c)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(0, (void *) "", MHD_RESPMEM_PERSISTENT);
    cors_add(c, response, FALSE);
    return send_response(c, MHD_HTTP_NO_CONTENT, response);
}

enum MHD_Result send_exchange(struct http_connection *c)
{
    struct reply *r = exchange_reply(c->exchange);
    if (!r)
        return send_nothing(c);

    struct MHD_Response *response;
    gsize length = reply_length(r), n;
    int min = the_conf()->gzip_min_size;
    gboolean varies = FALSE;
    if (length <= FLAT_MOST && (min == 0 || length < (gsize) min)) {
        const struct reply_range *ranges = reply_ranges(r, &n);
        response = flat_response(ranges, n, length);
    } else {
        response = large_response(c, source_new(c->exchange, NULL), &varies);
    }
    if (!response)
        return MHD_NO;
    /* Exactly these: clients compare them. */
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                            c->protocol == PROTOCOL_JSON ? "application/json" : "text/xml");
    if (varies)
        MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, "Accept-Encoding");
    cors_add(c, response, FALSE);
    return send_response(c, MHD_HTTP_OK, response);
}

enum MHD_Result send_bytes(struct http_connection *c, guint status, const char *content_type, GBytes *bytes,
                           const char *const *headers)
{
    gboolean varies;
    struct MHD_Response *response = large_response(c, source_new(NULL, bytes), &varies);
    g_bytes_unref(bytes);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    for (; headers && headers[0]; headers += 2)
        MHD_add_response_header(response, headers[0], headers[1]);
    if (varies)
        MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, "Accept-Encoding");
    cors_add(c, response, FALSE);
    return send_response(c, status, response);
}

enum MHD_Result send_text(struct http_connection *c, guint status, const char *text, const char *allow)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), (void *) text, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain");
    if (allow)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
    cors_add(c, response, FALSE);
    return send_response(c, status, response);
}

enum MHD_Result send_stream(struct http_connection *c, guint status, const char *content_type, gint64 length,
                            const char *const *headers, MHD_ContentReaderCallback read, void *data,
                            MHD_ContentReaderFreeCallback free_data)
{
    guint64 size = length >= 0 ? (guint64) length : MHD_SIZE_UNKNOWN;
    struct MHD_Response *response = MHD_create_response_from_callback(size, STREAM_BLOCK, read, data, free_data);
    if (!response) {
        free_data(data);
        return MHD_NO;
    }
    /* Not every client of long answers reads chunks. */
    if (length < 0)
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_SERVER, MHD_RO_END);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    for (; headers && headers[0]; headers += 2)
        MHD_add_response_header(response, headers[0], headers[1]);
    cors_add(c, response, FALSE);
    return send_response(c, status, response);
}

gssize send_raw(struct http_connection *c, const void *data, gsize len)
{
    if (!c->listener->tls) {
        ssize_t n = send(c->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -1;
    }
    gnutls_session_t session = MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
    ssize_t n = gnutls_record_send(session, data, len);
    return n >= 0 ? n : n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? 0 : -1;
}

void send_too_large_raw(struct http_connection *c)
{
    static const char text[] = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    if (send_raw(c, text, sizeof text - 1) < 0)
        g_debug("413 was not sent");
}
