/* wire.c - JSON-RPC lines and descriptors over a UNIX stream socket; see wire.h. Buffers may hold passwords: they are
 * wiped before they are given back. */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/codec/jsonrpc.h"
#include "daemon/codec/wire.h"

/* A reader that takes nothing for this long is stuck: the wire is given up rather than the sender. */
#define SEND_PATIENCE_MS 30000
#define READ_CHUNK       (64 * 1024)
/* Descriptors come with the first byte of their message, so at most an unfinished message's and the next one's wait. */
#define WAITING_FDS (2 * WIRE_MAX_FDS)

static const struct codec_limits wire_limits = {.depth = 64, .elements = 2000000, .string_length = WIRE_MAX_LINE};

struct wire {
    int fd;
    GMutex send_lock;
    /* the reader's: bytes [start, end) are unread, [start, scanned) hold no '\n' */
    char *buf;
    gsize start, scanned, end, room;
    int fds[WAITING_FDS];
    int n_fds;
};

struct wire *wire_new(int fd)
{
    struct wire *w = g_new0(struct wire, 1);
    w->fd = fd;
    g_mutex_init(&w->send_lock);
    return w;
}

static void close_fds(int *fds, int n)
{
    for (int i = 0; i < n; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

static void wiped_free(char *text, gsize len)
{
    if (text)
        explicit_bzero(text, len);
    g_free(text);
}

void wire_free(struct wire *w)
{
    if (!w)
        return;
    close_fds(w->fds, w->n_fds);
    wiped_free(w->buf, w->room);
    g_mutex_clear(&w->send_lock);
    close(w->fd);
    g_free(w);
}

int wire_fd(const struct wire *w)
{
    return w->fd;
}

void wire_message_clear(struct wire_message *m)
{
    g_free(m->method);
    value_unref(m->params);
    value_unref(m->result);
    fault_clear(&m->fault);
    close_fds(m->fds, m->n_fds);
    memset(m, 0, sizeof *m);
}

/* ---- reading ---- */

static int protocol_error(void)
{
    errno = EPROTO;
    return -1;
}

/* The fault of an "error" member: the code is its message, the parameters its data. */
static gboolean read_fault(struct value *error, struct fault *f)
{
    const char *code = value_get_str(error, "message", NULL);
    struct value *data = value_get(error, "data");
    gsize n = value_count(data);
    if (!code)
        return FALSE;
    g_autofree const char **params = g_new0(const char *, n + 1);
    for (gsize i = 0; i < n; i++)
        params[i] = value_str(value_at(data, i));
    fault_setv(f, code, params);
    return TRUE;
}

/* Moves the descriptors that the message says it brought from the waiting ones into it. */
static gboolean take_fds(struct wire *w, struct value *root, struct wire_message *m)
{
    gint64 n = value_as_int(value_get(root, "fds"));
    if (n < 0 || n > WIRE_MAX_FDS || n > w->n_fds)
        return FALSE;
    memcpy(m->fds, w->fds, n * sizeof(int));
    m->n_fds = n;
    w->n_fds -= n;
    memmove(w->fds, w->fds + n, w->n_fds * sizeof(int));
    return TRUE;
}

static gboolean fill_message(struct value *root, struct wire_message *m)
{
    struct value *id = value_get(root, "id"), *params = value_get(root, "params");
    struct value *result = value_get(root, "result"), *error = value_get(root, "error");
    const char *method = value_get_str(root, "method", NULL);

    m->id = -1;
    if (id) {
        if (id->type != VALUE_INT || id->u.i < 0)
            return FALSE;
        m->id = id->u.i;
    }
    if (method) {
        if (params && params->type != VALUE_MAP)
            return FALSE;
        m->method = g_strdup(method);
        m->params = value_ref(params ? params : value_empty_map());
        return TRUE;
    }
    if (m->id < 0)
        return FALSE;
    if (error)
        return read_fault(error, &m->fault);
    if (!result)
        return FALSE;
    m->result = value_ref(result);
    return TRUE;
}

static int parse_line(struct wire *w, const char *line, gsize len, struct wire_message *m)
{
    g_autoptr(value) root = json_parse(NULL, line, len, &wire_limits, NULL);
    if (!root || root->type != VALUE_MAP || !take_fds(w, root, m) || !fill_message(root, m)) {
        wire_message_clear(m);
        return protocol_error();
    }
    return 1;
}

/* The next whole line in the buffer, without its '\n'; NULL when there is none yet. */
static char *next_line(struct wire *w, gsize *len)
{
    char *nl = w->end > w->scanned ? memchr(w->buf + w->scanned, '\n', w->end - w->scanned) : NULL;
    if (!nl) {
        w->scanned = w->end;
        return NULL;
    }
    char *line = w->buf + w->start;
    *len = nl - line;
    w->start = w->scanned = nl + 1 - w->buf;
    return line;
}

/* Room for a chunk at the end: what was read is dropped, then the buffer grows; old copies are wiped. */
static gboolean make_room(struct wire *w)
{
    if (w->start == w->end)
        w->start = w->scanned = w->end = 0;
    if (w->room - w->end >= READ_CHUNK)
        return TRUE;
    gsize len = w->end - w->start;
    if (len > WIRE_MAX_LINE)
        return FALSE;
    gsize room = MAX(2 * len, (gsize) READ_CHUNK) + READ_CHUNK;
    char *buf = g_malloc(room);
    if (len > 0)
        memcpy(buf, w->buf + w->start, len);
    wiped_free(w->buf, w->room);
    w->buf = buf;
    w->room = room;
    w->scanned -= w->start;
    w->start = 0;
    w->end = len;
    return TRUE;
}

/* After a huge message the buffer is not kept: a daemon lives long. */
static void shrink(struct wire *w)
{
    if (w->start != w->end || w->room <= 16 * READ_CHUNK)
        return;
    wiped_free(w->buf, w->room);
    w->buf = NULL;
    w->start = w->scanned = w->end = w->room = 0;
}

/* Keeps the descriptors that came along; FALSE when the peer sends more than it may. */
static gboolean keep_fds(struct wire *w, struct msghdr *msg)
{
    gboolean good = !(msg->msg_flags & MSG_CTRUNC);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        int n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (int i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            if (w->n_fds < WAITING_FDS) {
                w->fds[w->n_fds++] = fd;
            } else {
                close(fd);
                good = FALSE;
            }
        }
    }
    return good;
}

/* Reads what is there. 1: something; 0: nothing yet; -1: the end or an error. */
static int receive(struct wire *w)
{
    union {
        char bytes[CMSG_SPACE(WIRE_MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    if (!make_room(w))
        return protocol_error();
    struct iovec iov = {w->buf + w->end, READ_CHUNK};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(w->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
    gboolean good = keep_fds(w, &msg);
    w->end += n;
    if (!good)
        return protocol_error();
    if (n == 0) {
        errno = ECONNRESET;
        return -1;
    }
    return 1;
}

/* TRUE when fd may be ready for events, FALSE when until (monotonic, -1 for ever) has passed. */
static gboolean wait_ready(int fd, short events, gint64 until)
{
    struct pollfd p = {fd, events, 0};
    for (;;) {
        int ms = -1;
        if (until >= 0) {
            gint64 left = (until - g_get_monotonic_time() + 999) / 1000;
            ms = CLAMP(left, 0, G_MAXINT);
        }
        int n = poll(&p, 1, ms);
        if (n != 0 && !(n < 0 && errno == EINTR))
            return TRUE;
        if (n == 0)
            return FALSE;
    }
}

int wire_read(struct wire *w, struct wire_message *m, int timeout_ms)
{
    gint64 until = timeout_ms < 0 ? -1 : g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    memset(m, 0, sizeof *m);
    for (;;) {
        gsize len;
        char *line = next_line(w, &len);
        if (line) {
            if (len > WIRE_MAX_LINE)
                return protocol_error();
            int result = parse_line(w, line, len, m);
            explicit_bzero(line, len);
            shrink(w);
            return result;
        }
        int got = receive(w);
        if (got < 0)
            return -1;
        if (got == 0 && !wait_ready(w->fd, POLLIN, until))
            return 0;
    }
}

/* ---- sending ---- */

/* One sendmsg, waiting while the peer is slow; the descriptors go with its first byte. Bytes sent or -1. */
static ssize_t send_some(int fd, const char *text, gsize len, const int *fds, int n_fds)
{
    union {
        char bytes[CMSG_SPACE(WIRE_MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {(char *) text, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        memset(&control, 0, sizeof control);
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    gint64 until = g_get_monotonic_time() + SEND_PATIENCE_MS * G_TIME_SPAN_MILLISECOND;
    for (;;) {
        ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0)
            return n;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return -1;
        if (!wait_ready(fd, POLLOUT, until)) {
            errno = ETIMEDOUT;
            return -1;
        }
    }
}

/* Sends the whole line. A wire on which half a message lies is of no more use: it is shut down for both ends. */
static gboolean send_line(struct wire *w, const char *line, gsize len, const int *fds, int n_fds)
{
    gboolean good = TRUE;
    g_mutex_lock(&w->send_lock);
    for (gsize done = 0; done < len;) {
        ssize_t n = send_some(w->fd, line + done, len - done, fds, done == 0 ? n_fds : 0);
        if (n < 0) {
            int saved = errno;
            shutdown(w->fd, SHUT_RDWR);
            errno = saved;
            good = FALSE;
            break;
        }
        done += n;
    }
    g_mutex_unlock(&w->send_lock);
    return good;
}

/* head, the JSON text of v (otherwise when v is NULL), the number of descriptors, the end of the object. */
static gboolean send_message(struct wire *w, const char *head, struct value *v, const char *otherwise, const int *fds,
                             int n_fds)
{
    char tail[32];
    g_return_val_if_fail(n_fds >= 0 && n_fds <= WIRE_MAX_FDS, FALSE);
    g_snprintf(tail, sizeof tail, n_fds > 0 ? ",\"fds\":%d}\n" : "}\n", n_fds);
    char *text = v ? json_text(v) : g_strdup(otherwise);
    char *line = g_strconcat(head, text, tail, NULL);
    gsize len = strlen(line);
    gboolean good = len <= WIRE_MAX_LINE;
    if (good)
        good = send_line(w, line, len, fds, n_fds);
    else
        errno = EMSGSIZE;
    wiped_free(text, strlen(text));
    wiped_free(line, len);
    return good;
}

gboolean wire_request(struct wire *w, gint64 id, const char *method, struct value *params, const int *fds, int n_fds)
{
    g_autofree char *head =
        g_strdup_printf("{\"jsonrpc\":\"2.0\",\"id\":%" G_GINT64_FORMAT ",\"method\":\"%s\",\"params\":", id, method);
    return send_message(w, head, params, "{}", fds, n_fds);
}

gboolean wire_notify(struct wire *w, const char *method, struct value *params, const int *fds, int n_fds)
{
    g_autofree char *head = g_strdup_printf("{\"jsonrpc\":\"2.0\",\"method\":\"%s\",\"params\":", method);
    return send_message(w, head, params, "{}", fds, n_fds);
}

/* An answer that is too large becomes a fault: the caller must not wait for ever. */
gboolean wire_answer(struct wire *w, gint64 id, struct value *result, const int *fds, int n_fds)
{
    g_autofree char *head = g_strdup_printf("{\"jsonrpc\":\"2.0\",\"id\":%" G_GINT64_FORMAT ",\"result\":", id);
    if (send_message(w, head, result, "\"\"", fds, n_fds))
        return TRUE;
    if (errno != EMSGSIZE)
        return FALSE;
    struct fault f = FAULT_INIT;
    fault_set(&f, "INTERNAL_ERROR", "the answer is too large for the wire", NULL);
    gboolean good = wire_answer_fault(w, id, &f);
    fault_clear(&f);
    return good;
}

gboolean wire_answer_fault(struct wire *w, gint64 id, const struct fault *f)
{
    struct value_builder error;
    value_builder_map(&error, NULL, 3);
    value_builder_put(&error, "code", value_int(NULL, 1));
    value_builder_put_string(&error, "message", f->code ? f->code : "INTERNAL_ERROR");
    value_builder_put(&error, "data", value_string_set(NULL, (const char *const *) f->params));
    g_autoptr(value) v = value_builder_end(&error);
    g_autofree char *head = g_strdup_printf("{\"jsonrpc\":\"2.0\",\"id\":%" G_GINT64_FORMAT ",\"error\":", id);
    return send_message(w, head, v, NULL, NULL, 0);
}

gboolean wire_pair(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0;
}
