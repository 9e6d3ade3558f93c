/* peer.c - calls to a helper process and their answers: a reader thread per peer, a table of what is under way, and
 * the change to a new helper when the old one died. See peer.h. */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/process/peer.h"

#define DEFAULT_TIMEOUT_MS 60000
/* A helper that died is restarted at once: calls made meanwhile wait this long for it. */
#define RECONNECT_MS 5000

/* A connection; held by whoever sends on it, so that a send never meets a closed descriptor. */
struct link {
    gint refs;
    struct wire *wire;
};

struct call {
    gint64 id;
    struct link *link; /* the connection it was sent on; NULL while it waits for one */
    gboolean answered;
    struct wire_message answer;
    gboolean busy; /* the reader runs its progress callback: it may not go yet */
    const struct peer_options *options;
    GCond cond;
    /* asynchronous calls only: owned by the table, their end is the reader's */
    peer_done_fn *done;
    void *data;
    gint64 deadline; /* monotonic; -1: none */
};

struct peer {
    char *name;
    peer_notify_fn *notify;
    peer_state_fn *state;
    void *data;
    GThread *reader;
    int wake; /* an eventfd: the reader is to look at next_fd, closing, deadlines */
    GMutex lock;
    GCond connected;
    struct link *link; /* NULL: down */
    int next_fd;       /* -1: none */
    gboolean closing;
    gint64 next_id;
    GHashTable *calls; /* id -> struct call */
};

static struct link *link_new(int fd)
{
    struct link *l = g_new0(struct link, 1);
    l->refs = 1;
    l->wire = wire_new(fd);
    return l;
}

static struct link *link_ref(struct link *l)
{
    g_atomic_int_inc(&l->refs);
    return l;
}

static void link_unref(struct link *l)
{
    if (!l || !g_atomic_int_dec_and_test(&l->refs))
        return;
    wire_free(l->wire);
    g_free(l);
}

static void wake_reader(struct peer *p)
{
    guint64 one = 1;
    while (write(p->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void fail(const struct peer *p, struct fault *f, const char *what)
{
    g_autofree char *text = g_strdup_printf("%s: %s", p->name, what);
    fault_set(f, "INTERNAL_ERROR", text, NULL);
}

/* ---- the end of calls ---- */

/* Tells an asynchronous call's caller and frees it. Without the lock, on the reader thread. */
static void finish_async(struct call *call)
{
    call->done(call->answer.result, &call->answer.fault, call->data);
    wire_message_clear(&call->answer);
    g_free(call);
}

/* Hands the answer (moved out of m) to the call. With the lock held; answers an asynchronous call, which is then out
 * of the table and is the caller's to finish. */
static struct call *set_answer(struct peer *p, struct call *call, struct wire_message *m)
{
    call->answer = *m;
    memset(m, 0, sizeof *m);
    call->answered = TRUE;
    if (call->done) {
        g_hash_table_remove(p->calls, &call->id);
        return call;
    }
    g_cond_signal(&call->cond);
    return NULL;
}

static void set_failure(struct peer *p, struct call *call, const char *what, GSList **asyncs)
{
    struct wire_message m = {.id = call->id};
    fail(p, &m.fault, what);
    struct call *async = set_answer(p, call, &m);
    if (async)
        *asyncs = g_slist_prepend(*asyncs, async);
}

static void finish_asyncs(GSList *asyncs)
{
    asyncs = g_slist_reverse(asyncs);
    for (GSList *s = asyncs; s; s = s->next)
        finish_async(s->data);
    g_slist_free(asyncs);
}

/* Fails the calls that were sent on a connection that is lost. */
static void fail_calls(struct peer *p, const struct link *link, const char *what)
{
    GSList *asyncs = NULL;
    g_mutex_lock(&p->lock);
    g_autoptr(GList) calls = g_hash_table_get_values(p->calls);
    for (GList *i = calls; i; i = i->next) {
        struct call *call = i->data;
        if (call->link == link && !call->answered)
            set_failure(p, call, what, &asyncs);
    }
    g_mutex_unlock(&p->lock);
    finish_asyncs(asyncs);
}

/* Fails asynchronous calls whose time is up; answers the milliseconds to the next deadline, -1 for none. */
static int expire(struct peer *p)
{
    GSList *asyncs = NULL;
    gint64 now = g_get_monotonic_time(), next = G_MAXINT64;
    g_mutex_lock(&p->lock);
    g_autoptr(GList) calls = g_hash_table_get_values(p->calls);
    for (GList *i = calls; i; i = i->next) {
        struct call *call = i->data;
        if (!call->done || call->deadline < 0)
            continue;
        if (call->deadline <= now)
            set_failure(p, call, "no answer in time", &asyncs);
        else
            next = MIN(next, call->deadline);
    }
    g_mutex_unlock(&p->lock);
    finish_asyncs(asyncs);
    if (next == G_MAXINT64)
        return -1;
    return CLAMP((next - now) / 1000 + 1, 1, G_MAXINT);
}

/* ---- the reader thread ---- */

static void on_answer(struct peer *p, const struct link *link, struct wire_message *m)
{
    g_mutex_lock(&p->lock);
    struct call *call = g_hash_table_lookup(p->calls, &m->id), *async = NULL;
    if (call && call->link == link && !call->answered)
        async = set_answer(p, call, m);
    g_mutex_unlock(&p->lock);
    if (async)
        finish_async(async);
}

static void on_progress(struct peer *p, struct value *params)
{
    gint64 id = value_as_int(value_get(params, "id"));
    double fraction = value_as_float(value_get(params, "fraction"));
    g_mutex_lock(&p->lock);
    struct call *call = g_hash_table_lookup(p->calls, &id);
    if (call && call->options && call->options->progress && !call->answered) {
        call->busy = TRUE;
        g_mutex_unlock(&p->lock);
        call->options->progress(CLAMP(fraction, 0.0, 1.0), call->options->data);
        g_mutex_lock(&p->lock);
        call->busy = FALSE;
        g_cond_signal(&call->cond);
    }
    g_mutex_unlock(&p->lock);
}

static void on_message(struct peer *p, const struct link *link, struct wire_message *m)
{
    if (!m->method)
        on_answer(p, link, m);
    else if (m->id >= 0)
        g_warning("%s sent the request %s; only notifications are expected", p->name, m->method);
    else if (strcmp(m->method, "progress") == 0)
        on_progress(p, m->params);
    else if (p->notify)
        p->notify(m->method, m->params, p->data);
}

/* Waits until the wire (NULL: none) or the wake descriptor has something. */
static void wait_for_news(struct peer *p, struct wire *wire)
{
    struct pollfd fds[2] = {{p->wake, POLLIN, 0}, {wire ? wire_fd(wire) : -1, POLLIN, 0}};
    guint64 drained;
    if (poll(fds, 2, expire(p)) > 0 && fds[0].revents && read(p->wake, &drained, sizeof drained) < 0 &&
        errno != EAGAIN && errno != EINTR)
        g_critical("eventfd: %s", g_strerror(errno));
}

/* Is there a reason to leave the connection? */
static gboolean is_over(struct peer *p)
{
    g_mutex_lock(&p->lock);
    gboolean over = p->closing || p->next_fd >= 0;
    g_mutex_unlock(&p->lock);
    return over;
}

static void read_link(struct peer *p, struct link *link)
{
    while (!is_over(p)) {
        struct wire_message m;
        int got = wire_read(link->wire, &m, 0);
        if (got > 0) {
            on_message(p, link, &m);
            wire_message_clear(&m);
        } else if (got == 0) {
            wait_for_news(p, link->wire);
        } else {
            if (errno == EPROTO)
                g_warning("%s sent what is no message", p->name);
            return;
        }
    }
}

/* Takes the descriptor that peer_connect left as the new connection; NULL when there is none. */
static struct link *take_next(struct peer *p)
{
    struct link *link = NULL;
    g_mutex_lock(&p->lock);
    if (p->next_fd >= 0) {
        link = link_new(p->next_fd);
        p->next_fd = -1;
        p->link = link_ref(link);
    }
    g_mutex_unlock(&p->lock);
    return link;
}

static void lose(struct peer *p, struct link *link)
{
    g_mutex_lock(&p->lock);
    link_unref(g_steal_pointer(&p->link));
    g_mutex_unlock(&p->lock);
    /* Whoever is in the middle of sending on it shall not wait for a reader that is gone. */
    shutdown(wire_fd(link->wire), SHUT_RDWR);
    fail_calls(p, link, "the helper died");
    link_unref(link);
}

static void *read_peer(void *data)
{
    struct peer *p = data;
    for (;;) {
        struct link *link = take_next(p);
        if (link) {
            if (p->state)
                p->state(TRUE, p->data);
            g_mutex_lock(&p->lock);
            g_cond_broadcast(&p->connected);
            g_mutex_unlock(&p->lock);
            read_link(p, link);
            lose(p, link);
            if (p->state)
                p->state(FALSE, p->data);
            continue;
        }
        g_mutex_lock(&p->lock);
        gboolean closing = p->closing;
        g_mutex_unlock(&p->lock);
        if (closing)
            return NULL;
        wait_for_news(p, NULL);
    }
}

/* ---- life ---- */

struct peer *peer_new(const char *name, peer_notify_fn *notify, peer_state_fn *state, void *data)
{
    struct peer *p = g_new0(struct peer, 1);
    p->name = g_strdup(name);
    p->notify = notify;
    p->state = state;
    p->data = data;
    p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->next_fd = -1;
    p->next_id = 1;
    p->calls = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_mutex_init(&p->lock);
    g_cond_init(&p->connected);
    g_autofree char *thread_name = g_strdup_printf("peer-%s", name);
    p->reader = g_thread_new(thread_name, read_peer, p);
    return p;
}

void peer_connect(struct peer *p, int fd)
{
    g_mutex_lock(&p->lock);
    if (p->next_fd >= 0)
        close(p->next_fd);
    p->next_fd = fd;
    g_mutex_unlock(&p->lock);
    wake_reader(p);
}

void peer_free(struct peer *p)
{
    if (!p)
        return;
    g_mutex_lock(&p->lock);
    p->closing = TRUE;
    if (p->next_fd >= 0)
        close(p->next_fd);
    p->next_fd = -1;
    g_cond_broadcast(&p->connected);
    g_mutex_unlock(&p->lock);
    wake_reader(p);
    g_thread_join(p->reader);
    close(p->wake);
    g_hash_table_unref(p->calls);
    g_mutex_clear(&p->lock);
    g_cond_clear(&p->connected);
    g_free(p->name);
    g_free(p);
}

gboolean peer_is_up(struct peer *p)
{
    g_mutex_lock(&p->lock);
    gboolean up = p->link != NULL;
    g_mutex_unlock(&p->lock);
    return up;
}

void peer_poke(struct peer *p)
{
    GHashTableIter i;
    void *call;
    g_mutex_lock(&p->lock);
    g_cond_broadcast(&p->connected);
    g_hash_table_iter_init(&i, p->calls);
    while (g_hash_table_iter_next(&i, NULL, &call)) {
        if (!((struct call *) call)->done)
            g_cond_signal(&((struct call *) call)->cond);
    }
    g_mutex_unlock(&p->lock);
}

/* ---- calls ---- */

static gboolean is_cancelled(const struct peer_options *o)
{
    return o->cancel && g_atomic_int_get(o->cancel) != 0;
}

/* Waits for a connection. With the lock held; a reference to it, or NULL with f set. */
static struct link *wait_link(struct peer *p, const struct peer_options *o, gint64 deadline, struct fault *f)
{
    gint64 until = g_get_monotonic_time() + RECONNECT_MS * G_TIME_SPAN_MILLISECOND;
    if (deadline >= 0)
        until = MIN(until, deadline);
    while (!p->link && !p->closing && !is_cancelled(o)) {
        if (!g_cond_wait_until(&p->connected, &p->lock, until))
            break;
    }
    if (is_cancelled(o))
        fault_set(f, "TASK_CANCELLED", "", NULL);
    else if (!p->link)
        fail(p, f, "the helper is not there");
    else
        return link_ref(p->link);
    return NULL;
}

static void send_cancel(struct link *link, gint64 id)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "id", value_int(NULL, id));
    g_autoptr(value) params = value_builder_end(&b);
    wire_notify(link->wire, "cancel", params, NULL, 0);
}

/* Waits for the answer of a call that was sent. With the lock held, which it gives up while it sends. */
static void wait_answer(struct peer *p, struct call *call, gint64 deadline, struct fault *f)
{
    gboolean cancel_sent = FALSE, late = FALSE;
    while (!call->answered && !late) {
        if (!cancel_sent && is_cancelled(call->options)) {
            cancel_sent = TRUE;
            g_mutex_unlock(&p->lock);
            send_cancel(call->link, call->id);
            g_mutex_lock(&p->lock);
        } else if (deadline < 0) {
            g_cond_wait(&call->cond, &p->lock);
        } else {
            late = !g_cond_wait_until(&call->cond, &p->lock, deadline);
        }
    }
    if (call->answered)
        return;
    fail(p, f, "no answer in time");
    if (cancel_sent)
        return;
    g_mutex_unlock(&p->lock);
    send_cancel(call->link, call->id);
    g_mutex_lock(&p->lock);
}

/* Takes the call out of the table; then nobody but its caller knows it. With the lock held. */
static void retire(struct peer *p, struct call *call)
{
    while (call->busy)
        g_cond_wait(&call->cond, &p->lock);
    g_hash_table_remove(p->calls, &call->id);
}

/* Sends and waits, on one connection. FALSE when it was lost before the whole request was sent: nobody acted on it.
 * With the lock held, which it gives up while it sends. */
static gboolean try_call(struct peer *p, struct call *call, const char *method, struct value *params, gint64 deadline,
                         struct fault *f)
{
    call->id = p->next_id++;
    g_hash_table_insert(p->calls, &call->id, call);
    g_mutex_unlock(&p->lock);
    gboolean sent =
        wire_request(call->link->wire, call->id, method, params, call->options->send_fds, call->options->n_send_fds);
    int why = errno;
    g_mutex_lock(&p->lock);
    if (sent)
        wait_answer(p, call, deadline, f);
    else if (why == EMSGSIZE)
        fail(p, f, "the request is too large for the wire");
    retire(p, call);
    return sent || why == EMSGSIZE;
}

static struct value *take_result(struct call *call, struct fault *f)
{
    const struct peer_options *o = call->options;
    if (!call->answered)
        return NULL;
    fault_move(f, &call->answer.fault);
    if (o->got_fds) {
        memcpy(o->got_fds, call->answer.fds, sizeof call->answer.fds);
        *o->n_got_fds = call->answer.n_fds;
        call->answer.n_fds = 0;
    }
    return g_steal_pointer(&call->answer.result);
}

struct value *peer_call(struct peer *p, const char *method, struct value *params, const struct peer_options *options,
                        struct fault *f)
{
    static const struct peer_options defaults;
    struct call call = {.options = options ? options : &defaults};
    int timeout = call.options->timeout_ms ? call.options->timeout_ms : DEFAULT_TIMEOUT_MS;
    gint64 deadline = timeout < 0 ? -1 : g_get_monotonic_time() + timeout * G_TIME_SPAN_MILLISECOND;
    gboolean over = FALSE;
    if (call.options->n_got_fds)
        *call.options->n_got_fds = 0;
    g_cond_init(&call.cond);
    g_mutex_lock(&p->lock);
    while (!over) {
        wire_message_clear(&call.answer);
        call.answered = FALSE;
        call.link = wait_link(p, call.options, deadline, f);
        over = !call.link || try_call(p, &call, method, params, deadline, f);
        /* The reader has yet to notice that this connection is dead; a new one is another link. */
        if (!over && p->link == call.link)
            link_unref(g_steal_pointer(&p->link));
        link_unref(call.link);
    }
    g_mutex_unlock(&p->lock);
    struct value *result = take_result(&call, f);
    wire_message_clear(&call.answer);
    g_cond_clear(&call.cond);
    return result;
}

void peer_call_async(struct peer *p, const char *method, struct value *params, int timeout_ms, peer_done_fn *done,
                     void *data)
{
    struct call *call = g_new0(struct call, 1);
    int timeout = timeout_ms ? timeout_ms : DEFAULT_TIMEOUT_MS;
    call->done = done;
    call->data = data;
    call->deadline = timeout < 0 ? -1 : g_get_monotonic_time() + timeout * G_TIME_SPAN_MILLISECOND;

    g_mutex_lock(&p->lock);
    struct link *link = p->link ? link_ref(p->link) : NULL;
    call->id = p->next_id++;
    call->link = link;
    gint64 id = call->id;
    if (link)
        g_hash_table_insert(p->calls, &call->id, call);
    else
        fail(p, &call->answer.fault, "the helper is not there");
    g_mutex_unlock(&p->lock);

    if (!link) {
        finish_async(call);
        return;
    }
    wake_reader(p);
    /* When this fails the reader sees the same end and fails the call; only a request that is too large is ours. */
    if (!wire_request(link->wire, id, method, params, NULL, 0) && errno == EMSGSIZE) {
        GSList *asyncs = NULL;
        g_mutex_lock(&p->lock);
        call = g_hash_table_lookup(p->calls, &id);
        if (call)
            set_failure(p, call, "the request is too large for the wire", &asyncs);
        g_mutex_unlock(&p->lock);
        finish_asyncs(asyncs);
    }
    link_unref(link);
}
