/* http_stream.c - bodies and answers of any length: a ring of bytes between the connection's thread, which never waits,
 * and the request's own, which does. Who finds the ring full or empty is put to sleep and woken by the other. */
#include "config.h"

#include <string.h>
#include <sys/socket.h>

#include <gnutls/gnutls.h>

#include "daemon/http/http_request.h"

#define RING       (2 * 1024 * 1024)
#define HANDFUL    (256 * 1024)       /* fewer bytes wake nobody: each time costs more than what they are worth */
#define HANDFUL_US 2000               /* how long one is waited for */
#define SLACK      (64 * 1024)        /* more than libmicrohttpd has of a body at once */
#define TEXT_MOST  4096               /* of an answer that is given in the middle of a body */
#define THROW_MOST (64 * 1024 * 1024) /* of a body whose answer is known already */

/* ---- the ring ---- */

static gsize ring_put(struct ring *r, const char *data, gsize len)
{
    if (!r->data) {
        r->data = g_malloc(RING + SLACK);
        r->room = RING + SLACK;
    }
    gsize done = 0;
    while (done < len && r->len < r->room) {
        gsize end = (r->at + r->len) % r->room;
        gsize n = MIN(len - done, MIN(r->room - r->len, r->room - end));
        memcpy(r->data + end, data + done, n);
        r->len += n;
        done += n;
    }
    return done;
}

static gsize ring_get(struct ring *r, char *buffer, gsize room)
{
    gsize done = 0;
    while (done < room && r->len > 0) {
        gsize n = MIN(room - done, MIN(r->len, r->room - r->at));
        memcpy(buffer + done, r->data + r->at, n);
        r->at = (r->at + n) % r->room;
        r->len -= n;
        done += n;
    }
    return done;
}

/* ---- on the connection's thread ---- */

static enum MHD_Result start(struct http_request *r)
{
    enum MHD_Result refused;
    if (!request_is_allowed(r, &refused))
        return refused;
    r->stage = STAGE_HANDLER;
    connection_phase(r->c, PHASE_RUNNING);
    g_atomic_int_inc(&r->refs);
    r->route->row->handler(r);
    return MHD_YES;
}

/* TRUE when the connection may go on after it was suspended, or was not. */
static gboolean is_back(struct http_connection *c)
{
    connection_resumed(c);
    return g_atomic_int_get(&c->wait) != WAIT_GONE;
}

/* With the request's lock held, which is let go. TRUE: suspended; FALSE: woken already, or given up (WAIT_GONE). */
static gboolean sleep_unlocked(struct http_request *r, struct http_connection *c)
{
    r->waits = TRUE;
    connection_wait(c);
    g_mutex_unlock(&r->lock);
    return connection_suspend(c);
}

/* With the lock held. */
static void wake(struct http_request *r)
{
    if (!r->waits)
        return;
    r->waits = FALSE;
    if (r->c)
        connection_wake(r->c);
}

static void count_down(struct http_request *r, gsize n)
{
    if (r->body_left >= 0)
        r->body_left = MAX(r->body_left - (gint64) n, 0);
}

/* All is taken that libmicrohttpd has, which is little: what it kept would be lost when the client's end of the
 * connection came next. */
static enum MHD_Result body(struct http_connection *c, const char *data, gsize len)
{
    struct http_request *r = c->request;
    if (!is_back(c))
        return MHD_NO;
    g_atomic_int_set(&c->deaf, TRUE);
    g_mutex_lock(&r->lock);
    gboolean thrown = r->answered;
    gsize n = thrown ? len : ring_put(&r->ring, data, len);
    if (thrown)
        r->thrown_away += n;
    count_down(r, n);
    gboolean good = n == len && r->thrown_away <= THROW_MOST;
    if (r->ring.len >= r->wanted)
        g_cond_broadcast(&r->changed);
    if (good && r->ring.len > RING && !thrown) {
        sleep_unlocked(r, c);
        return g_atomic_int_get(&c->wait) == WAIT_GONE ? MHD_NO : MHD_YES;
    }
    g_mutex_unlock(&r->lock);
    return good ? MHD_YES : MHD_NO;
}

static ssize_t read_answer(void *data, uint64_t pos, char *buffer, size_t room)
{
    struct http_request *r = data;
    (void) pos;
    for (;;) {
        g_mutex_lock(&r->lock);
        struct http_connection *c = r->c;
        if (!c || !is_back(c)) {
            g_mutex_unlock(&r->lock);
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        gsize n = ring_get(&r->ring, buffer, room);
        if (n > 0 && r->ring.len <= RING / 2)
            g_cond_broadcast(&r->changed);
        if (n > 0 || r->ended) {
            gboolean whole = r->is_whole;
            g_mutex_unlock(&r->lock);
            return n > 0 ? (ssize_t) n : whole ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
        }
        if (sleep_unlocked(r, c))
            return 0;
    }
}

static void answer_sent(void *data)
{
    request_unref(data);
}

/* What http_begin or http_answer said. */
static enum MHD_Result send_it(struct http_request *r)
{
    if (r->raw)
        return MHD_NO;
    if (!r->streams_answer)
        return request_send(r);
    g_ptr_array_add(r->headers, NULL);
    g_ptr_array_add(r->headers, NULL);
    g_atomic_int_set(&r->c->deaf, FALSE);
    g_atomic_int_inc(&r->refs);
    return send_stream(r->c, r->status, r->content_type, r->length, (const char *const *) r->headers->pdata,
                       read_answer, r, answer_sent);
}

static enum MHD_Result end(struct http_connection *c)
{
    struct http_request *r = c->request;
    if (!is_back(c))
        return MHD_NO;
    if (r->stage != STAGE_HANDLER)
        return start(r);
    g_atomic_int_set(&c->deaf, FALSE);
    for (;;) {
        g_mutex_lock(&r->lock);
        r->body_done = TRUE;
        g_cond_broadcast(&r->changed);
        if (r->answered) {
            g_mutex_unlock(&r->lock);
            return r->taken_over ? MHD_NO : send_it(r);
        }
        if (sleep_unlocked(r, c))
            return MHD_YES;
        if (g_atomic_int_get(&c->wait) == WAIT_GONE)
            return MHD_NO;
    }
}

/* A socket that is taken over is in use: its user is made to notice, and awaited. */
static void gone(struct http_connection *c)
{
    struct http_request *r = c->request;
    g_mutex_lock(&r->lock);
    r->waits = FALSE;
    if (r->taken_over && !r->answered)
        shutdown(c->fd, SHUT_RDWR);
    while (r->taken_over && !r->answered)
        g_cond_wait(&r->changed, &r->lock);
    r->c = NULL;
    g_cond_broadcast(&r->changed);
    g_mutex_unlock(&r->lock);
}

static void finished(struct http_connection *c)
{
    gone(c);
    request_unref(g_steal_pointer(&c->request));
    body_done(c);
}

static const struct http_ops stream_ops = {body, end, gone, finished};

enum MHD_Result stream_begin(struct http_connection *c)
{
    struct http_request *r = c->request;
    c->ops = &stream_ops;
    r->body_left = request_length(c);
    if (r->body_left < 0 && !MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING))
        r->body_left = 0; /* no body at all */
    if (r->route->row->access == HTTP_PUBLIC || r->session)
        return start(r);
    if (request_login(r))
        return request_suspend_or(r, start);
    return r->route->row->access == HTTP_OPTIONAL ? start(r) : request_deny(c);
}

/* ---- on the request's own thread ---- */

gint64 http_length(const struct http_request *r)
{
    return r->body_left;
}

gboolean http_is_head(const struct http_request *r)
{
    return r->c && r->c->is_head;
}

gssize http_read(struct http_request *r, void *buffer, gsize room)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&r->lock);
    r->wanted = 1;
    while (r->ring.len == 0 && !r->body_done && r->c && !r->interrupted)
        g_cond_wait(&r->changed, &r->lock);
    /* More comes soon, or the client waits for what we make of this. */
    gint64 until = g_get_monotonic_time() + HANDFUL_US;
    r->wanted = MIN(room, HANDFUL);
    while (r->ring.len < r->wanted && !r->body_done && r->c && !r->interrupted)
        if (!g_cond_wait_until(&r->changed, &r->lock, until))
            break;
    if (r->interrupted)
        return -1;
    gsize n = ring_get(&r->ring, buffer, room);
    if (!r->body_done && r->ring.len <= RING / 2)
        wake(r);
    if (n > 0)
        return (gssize) n;
    return r->body_done ? 0 : -1;
}

void http_interrupt(struct http_request *r)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&r->lock);
    r->interrupted = TRUE;
    g_cond_broadcast(&r->changed);
}

/* libmicrohttpd answers no request before all of its body is there. Where that is far away, or not known, the answer is
 * written past it; it sends nothing itself at this time. */
static void answer_early(struct http_request *r)
{
    gsize len;
    const char *text = g_bytes_get_data(r->answer, &len);
    g_autoptr(GString) more = g_string_new(NULL);
    for (guint i = 0; i + 1 < r->headers->len; i += 2)
        g_string_append_printf(more, "%s: %s\r\n", (char *) r->headers->pdata[i], (char *) r->headers->pdata[i + 1]);
    len = MIN(len, TEXT_MOST);
    g_autofree char *head = g_strdup_printf("HTTP/1.1 %u %s\r\nConnection: close\r\nContent-Type: %s\r\n%s"
                                            "Content-Length: %" G_GSIZE_FORMAT "\r\n\r\n%.*s",
                                            r->status, MHD_get_reason_phrase_for(r->status), r->content_type, more->str,
                                            len, (int) len, text);
    r->raw = TRUE;
    if (send_raw(r->c, head, strlen(head)) < 0)
        g_debug("the answer %u was not sent", r->status);
}

gboolean http_accept_early(struct http_request *r)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nConnection: close\r\nCache-Control: no-cache, no-store\r\n\r\n";
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&r->lock);
    r->raw = TRUE;
    if (r->c && send_raw(r->c, head, sizeof head - 1) < 0)
        g_debug("the early answer was not sent");
    r->wanted = 1;
    while (r->ring.len == 0 && !r->body_done && r->c && !r->interrupted)
        g_cond_wait(&r->changed, &r->lock);
    return r->ring.len > 0;
}

void stream_answered(struct http_request *r)
{
    r->answered = TRUE;
    if (r->c && !r->raw && !r->body_done && (r->body_left < 0 || r->body_left > THROW_MOST))
        answer_early(r);
    wake(r);
}

void http_begin(struct http_request *r, guint status, const char *content_type, gint64 length)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&r->lock);
    r->status = status;
    r->content_type = g_strdup(content_type);
    r->streams_answer = TRUE;
    r->length = length;
    while (!r->body_done && r->c)
        g_cond_wait(&r->changed, &r->lock);
    r->answered = TRUE;
    wake(r);
}

gboolean http_write(struct http_request *r, const void *data, gsize len)
{
    const char *p = data;
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&r->lock);
    while (r->c && !r->interrupted) {
        gsize n = ring_put(&r->ring, p, len);
        p += n;
        len -= n;
        if (r->ring.len >= HANDFUL)
            wake(r);
        if (len == 0)
            return TRUE;
        g_cond_wait(&r->changed, &r->lock);
    }
    return FALSE;
}

void http_end(struct http_request *r, gboolean is_whole)
{
    g_mutex_lock(&r->lock);
    r->ended = TRUE;
    r->is_whole = is_whole;
    wake(r);
    g_mutex_unlock(&r->lock);
    request_unref(r);
}

/* ---- the connection as it is ---- */

struct http_socket {
    struct http_request *r;
    struct http_connection *c; /* suspended: libmicrohttpd does not touch it */
    gnutls_session_t tls;      /* NULL: there is none */
};

/* Until libmicrohttpd has let go of the connection. FALSE when it is gone. */
static gboolean wait_suspended(struct http_request *r)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&r->lock);
    while (r->c && !(r->waits && g_atomic_int_get(&r->c->wait) == WAIT_SUSPENDED && r->body_done))
        g_cond_wait_until(&r->changed, &r->lock, g_get_monotonic_time() + G_TIME_SPAN_MILLISECOND);
    if (!r->c)
        return FALSE;
    g_atomic_int_set(&r->c->deaf, TRUE);
    r->taken_over = TRUE;
    return TRUE;
}

struct http_socket *http_take_over(struct http_request *r, const char *head)
{
    if (!wait_suspended(r)) {
        request_unref(r);
        return NULL;
    }
    struct http_socket *s = g_new0(struct http_socket, 1);
    s->r = r;
    s->c = r->c;
    if (s->c->listener->tls)
        s->tls = MHD_get_connection_info(s->c->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
    /* The first bytes of a connection that waits for them always fit. */
    if (send_raw(s->c, head, strlen(head)) == (gssize) strlen(head))
        return s;
    http_socket_close(s);
    return NULL;
}

int http_socket_fd(const struct http_socket *s)
{
    return s->c->fd;
}

gssize http_socket_read(struct http_socket *s, void *buffer, gsize room)
{
    ssize_t n;
    if (s->tls) {
        n = gnutls_record_recv(s->tls, buffer, room);
        if (n < 0 && !gnutls_error_is_fatal((int) n))
            return 0;
    } else {
        n = recv(s->c->fd, buffer, room, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
    }
    return n > 0 ? n : -1;
}

gssize http_socket_write(struct http_socket *s, const void *data, gsize len)
{
    return send_raw(s->c, data, len);
}

void http_socket_close(struct http_socket *s)
{
    struct http_request *r = s->r;
    g_mutex_lock(&r->lock);
    r->answered = TRUE; /* end() cuts it */
    g_cond_broadcast(&r->changed);
    wake(r);
    g_mutex_unlock(&r->lock);
    request_unref(r);
    g_free(s);
}
