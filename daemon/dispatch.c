/* dispatch.c - exchanges: requests run one after another, each through look-up, session, role and arguments. */
#include "daemon/dispatch_private.h"
#include "daemon/codec/jsonrpc.h"
#include "daemon/process/log.h"
#include "daemon/task.h"
#include "daemon/codec/xmlrpc.h"
#include "auth/session.h"

/* How far into a body a session reference is looked for, and in how many places. */
#define SESSION_SEARCH_BYTES 4096
#define SESSION_SEARCH_TRIES 4
#define MAX_BATCH            1000 /* calls in one JSON-RPC batch; system.multicall has the same bound */

static guint64 last_request_id;
static GThreadPool *continuations; /* go on with batches whose last call was answered on somebody else's thread */

static void exchange_step(struct exchange *x);

/* ---- checks ---- */

/* A watcher waits without a task: it holds on to its call, and a task's goes with the task. */
gboolean message_can_be_async(const struct message *m)
{
    return !m->no_session && !(m->implicit && m->field) && m->class->id != CLASS_event;
}

/* Splits "Async." off. NULL with f set when the name is unknown, or cannot be asynchronous. */
static const struct message *find_message(const char *name, gboolean *async, struct fault *f)
{
    *async = g_str_has_prefix(name, "Async.");
    const struct message *m = message_lookup(*async ? name + strlen("Async.") : name);
    if (m && *async && !message_can_be_async(m))
        m = NULL;
    if (!m)
        fault_set(f, "MESSAGE_METHOD_UNKNOWN", name, NULL);
    return m;
}

static gboolean check_count(const struct message *m, gsize got, struct fault *f)
{
    char expected[24], received[24];

    if (got <= (gsize) m->n_params && got + m->optional >= (gsize) m->n_params)
        return TRUE;
    g_snprintf(expected, sizeof expected, "%d", m->n_params);
    g_snprintf(received, sizeof received, "%" G_GSIZE_FORMAT, got);
    return fault_set(f, "MESSAGE_PARAMETER_COUNT_MISMATCH", m->full_name, expected, received, NULL);
}

/* The session that the first argument names. */
static struct session *find_session(const struct message *m, const struct rpc_request *req, struct fault *f)
{
    if (req->n_args == 0) {
        check_count(m, m->n_params ? 0 : G_MAXSIZE, f);
        return NULL;
    }
    const char *ref = value_str(req->args[0]);
    struct session *s = session_find(ref);
    if (!s)
        fault_set(f, "SESSION_INVALID", ref, NULL);
    return s;
}

gboolean dispatch_authorise(struct session *s, const struct message *m, struct value **args, struct fault *f)
{
    const char *key = NULL;

    if (m->implicit && m->field && m->field->type->kind == TYPE_MAP && m->n_params >= 2 &&
        (g_str_has_prefix(m->name, "add_to_") || g_str_has_prefix(m->name, "remove_from_")))
        key = value_str(args[1]);
    return session_allows(s, m, key, f);
}

static gboolean convert_args(struct call *c, struct arena *a, struct value **given, gsize n)
{
    const struct message *m = c->msg;

    c->args = arena_alloc(a, sizeof *c->args * (m->n_params + 1));
    for (int i = 0; i < m->n_params; i++) {
        c->args[i] = NULL;
        if ((gsize) i >= n)
            continue;
        c->args[i] = type_convert(a, m->params[i].type, given[i], m->params[i].name, &c->fault);
        if (!c->args[i])
            return FALSE;
    }
    return TRUE;
}

/* ---- replies ---- */

static void put_outcome(struct exchange *x, const struct rpc_request *req, struct value *result, const struct fault *f,
                        gboolean bare)
{
    if (x->multicall) {
        multicall_add(x, result, f, bare);
        return;
    }
    if (x->protocol == PROTOCOL_XML) {
        if (f->code && bare)
            xmlrpc_put_fault(x->reply, 1, f->code);
        else if (f->code)
            xmlrpc_put_failure(x->reply, f);
        else if (bare)
            xmlrpc_put_bare(x->reply, result);
        else
            xmlrpc_put_success(x->reply, result);
        return;
    }
    if (req->notification && req->version == 2)
        return;
    if (x->batch)
        reply_put(x->reply, x->put_one ? "," : "[", 1);
    x->put_one = TRUE;
    if (f->code)
        jsonrpc_put_failure(x->reply, req, f);
    else
        jsonrpc_put_success(x->reply, req, result);
}

static void put_protocol_error(struct exchange *x, const struct rpc_request *req, enum parse_result what,
                               const char *text)
{
    int code = what == PARSE_MALFORMED ? -32700 : -32600;

    if (x->multicall) {
        struct fault f = FAULT_INIT;
        fault_set(&f, "MESSAGE_METHOD_UNKNOWN", "", NULL);
        multicall_add(x, NULL, &f, FALSE);
        fault_clear(&f);
    } else if (x->protocol == PROTOCOL_XML) {
        xmlrpc_put_fault(x->reply, code, text);
    } else {
        if (x->batch)
            reply_put(x->reply, x->put_one ? "," : "[", 1);
        x->put_one = TRUE;
        jsonrpc_put_error(x->reply, req, code, text);
    }
}

/* ---- one call ---- */

static void log_outcome(const struct exchange *x, const struct call *c)
{
    if (c->fault.code)
        g_debug("%s from %s: %s", c->msg ? c->msg->full_name : "?", x->origin.address, c->fault.code);
}

/* The call's outcome is decided: writes it and lets go of what belonged to the call. */
static void conclude(struct pending_call *pc)
{
    struct exchange *x = pc->owner;
    struct call *c = &pc->call;

    if (c->fault.code)
        g_clear_pointer(&pc->result, value_unref);
    else if (!pc->result)
        fault_set(&c->fault, "INTERNAL_ERROR", "no result", NULL);
    log_outcome(x, c);
    put_outcome(x, &x->reqs[x->next - 1], pc->result, &c->fault, FALSE);
    g_clear_pointer(&pc->result, value_unref);
    fault_clear(&c->fault);
    g_clear_pointer(&c->session, session_unref);
}

/* Goes on with the exchange on another thread than its starter's. */
static void resume(struct exchange *x)
{
    if (x->next < x->n_reqs)
        g_thread_pool_push(continuations, x, NULL); /* this thread may be the journal's: it must not run handlers */
    else
        exchange_step(x);
}

static void durable(const struct fault *f, void *data)
{
    struct pending_call *pc = data;
    struct exchange *x = pc->owner;

    if (f)
        fault_setv(&pc->call.fault, f->code, (const char *const *) f->params);
    if (claim(&pc->durable_handoff)) {
        conclude(pc);
        resume(x);
    }
}

/* TRUE: the outcome stands. FALSE: the journal's thread will go on once the call's commits are decided. */
static gboolean is_decided(struct pending_call *pc)
{
    if (!pc->call.wait_seq || !store_when_durable(the_store(), pc->call.wait_seq, durable, pc))
        return TRUE;
    return claim(&pc->durable_handoff);
}

/* A deferred call was answered after its starter had left. */
static void answered_later(struct pending_call *pc)
{
    if (is_decided(pc)) {
        conclude(pc);
        resume(pc->owner);
    }
}

/* Storage drivers of the site say VDI.set_virtual_size and mean the record. */
static const struct message *as_driver(const struct message *m)
{
    g_autofree char *name = g_strdup_printf("%s.db_%s", m->class->name, m->name);
    const struct message *own = message_lookup(name);
    return own && own->for_drivers ? own : m;
}

/* Fills c from req. FALSE with the fault set when it must not run. */
static gboolean prepare(struct exchange *x, struct call *c, const struct rpc_request *req, gboolean *async)
{
    c->msg = find_message(req->method, async, &c->fault);
    if (!c->msg)
        return FALSE;
    gsize skip = c->msg->no_session ? 0 : 1;
    if (skip && !(c->session = find_session(c->msg, req, &c->fault)))
        return FALSE;
    if (c->session && c->session->of_drivers)
        c->msg = as_driver(c->msg);
    return check_count(c->msg, req->n_args - skip, &c->fault) &&
           convert_args(c, x->arena, req->args + skip, req->n_args - skip) &&
           (!skip || dispatch_authorise(c->session, c->msg, c->args, &c->fault));
}

static struct value *run_handler(struct call *c, gboolean async)
{
    struct log_context context = {NULL, c->session ? c->session->uuid : NULL, c->msg->full_name, c->request_id};
    const struct log_context *before = log_push(&context);
    struct value *result = async || c->msg->long_running ? task_submit(c, async) : c->msg->handler(c);

    log_push(before);
    return result;
}

/* Runs the call of req. TRUE: its outcome is written. FALSE: another thread goes on with the exchange. */
static gboolean run_call(struct exchange *x, const struct rpc_request *req)
{
    struct pending_call *pc = &x->running;
    struct call *c = &pc->call;
    gboolean async;

    memset(pc, 0, sizeof *pc);
    pc->proceed = answered_later;
    pc->owner = x;
    pc->abandoned = &x->abandoned;
    c->origin = &x->origin;
    c->arena = x->arena;
    c->request_id = __atomic_add_fetch(&last_request_id, 1, __ATOMIC_RELAXED);
    if (prepare(x, c, req, &async)) {
        struct value *result = run_handler(c, async);
        if (result != CALL_DEFERRED)
            pc->result = result;
        else if (!claim(&pc->handoff))
            return FALSE;
        if (!is_decided(pc))
            return FALSE;
    }
    conclude(pc);
    return TRUE;
}

/* ---- the exchange ---- */

static void run_continuation(void *data, G_GNUC_UNUSED void *unused)
{
    exchange_step(data);
}

/* Writes what a request that is not an API call answers. TRUE when it was one. */
static gboolean run_system(struct exchange *x, const struct rpc_request *req)
{
    struct fault f = FAULT_INIT;
    struct value *result = NULL;

    if (!g_str_has_prefix(req->method, "system."))
        return FALSE;
    if (strcmp(req->method, "system.multicall") == 0) {
        if (multicall_begin(x, req, &f))
            return TRUE;
    } else if (!system_call(x, req, &result, &f)) {
        return FALSE;
    }
    put_outcome(x, req, result, &f, TRUE);
    value_unref(result);
    fault_clear(&f);
    return TRUE;
}

static void finish(struct exchange *x)
{
    if (x->multicall) {
        struct fault none = FAULT_INIT;
        struct rpc_request req;
        struct value *all = multicall_end(x, &req);
        put_outcome(x, &req, all, &none, TRUE);
        value_unref(all);
    }
    if (x->batch && x->put_one)
        reply_put(x->reply, "]", 1);
    g_mutex_lock(&x->lock);
    x->finished = TRUE;
    exchange_done_fn *done = x->done;
    void *data = x->data;
    if (done)
        done(x, data); /* under the lock: exchange_abandon promises that it is not called later */
    g_mutex_unlock(&x->lock);
    exchange_unref(x); /* the one that was for running */
}

/* Runs requests until one is not answered at once. */
static void exchange_step(struct exchange *x)
{
    while (x->next < x->n_reqs) {
        struct rpc_request *req = &x->reqs[x->next++];
        if (req->result != PARSE_OK) {
            put_protocol_error(x, req, req->result, req->error);
        } else if (!run_system(x, req)) {
            if (!run_call(x, req))
                return;
        }
    }
    finish(x);
}

static void parse(struct exchange *x, const char *body, gsize len)
{
    static struct rpc_request unreadable = {.method = "", .version = 2};
    enum parse_result result;

    if (x->protocol == PROTOCOL_XML) {
        x->reqs = arena_alloc(x->arena, sizeof *x->reqs);
        memset(x->reqs, 0, sizeof *x->reqs);
        x->n_reqs = 1;
        x->reqs->result = xmlrpc_parse_request(x->arena, body, len, &x->limits, x->reqs);
        return;
    }
    result = jsonrpc_parse(x->arena, body, len, &x->limits, &x->reqs, &x->n_reqs, &x->batch);
    if (result == PARSE_OK && x->n_reqs > MAX_BATCH)
        result = PARSE_INVALID;
    if (result != PARSE_OK) {
        x->reqs = arena_alloc(x->arena, sizeof *x->reqs);
        *x->reqs = unreadable;
        x->reqs->result = result;
        x->reqs->error = result == PARSE_MALFORMED ? "Parse error" : "Invalid Request";
        x->n_reqs = 1;
        x->batch = FALSE;
    }
}

static char *keep(struct exchange *x, const char *s)
{
    return s ? arena_strndup(x->arena, s, strlen(s)) : NULL;
}

struct exchange *exchange_run(enum exchange_protocol protocol, const char *body, gsize len, const struct origin *origin,
                              exchange_done_fn *done, void *data, gboolean *finished)
{
    static gsize once;
    struct exchange *x = g_new0(struct exchange, 1);
    const struct conf *conf = the_conf();

    if (g_once_init_enter(&once)) {
        continuations = g_thread_pool_new(run_continuation, NULL, 2, FALSE, NULL);
        g_once_init_leave(&once, 1);
    }
    x->refs = 2; /* the caller's, and one until it is finished */
    x->protocol = protocol;
    x->arena = arena_new();
    x->origin = *origin;
    x->origin.address = keep(x, origin->address);
    x->origin.user_agent = keep(x, origin->user_agent);
    x->origin.host = keep(x, origin->host);
    x->limits = (struct codec_limits){conf->depth, conf->elements, conf->string_length};
    x->reply = reply_new();
    g_mutex_init(&x->lock);
    parse(x, body, len);
    exchange_step(x);
    g_mutex_lock(&x->lock);
    *finished = x->finished;
    if (!x->finished) {
        x->done = done;
        x->data = data;
    }
    g_mutex_unlock(&x->lock);
    return x;
}

struct reply *exchange_reply(struct exchange *x)
{
    return reply_length(x->reply) ? x->reply : NULL;
}

void exchange_abandon(struct exchange *x)
{
    g_atomic_int_set(&x->abandoned, 1);
    g_mutex_lock(&x->lock);
    x->done = NULL;
    g_mutex_unlock(&x->lock);
}

struct exchange *exchange_ref(struct exchange *x)
{
    g_atomic_int_inc(&x->refs);
    return x;
}

void exchange_unref(struct exchange *x)
{
    if (!x || !g_atomic_int_dec_and_test(&x->refs))
        return;
    reply_free(x->reply);
    arena_free(x->arena);
    g_mutex_clear(&x->lock);
    g_free(x);
}

gboolean dispatch_shows_session(const char *text, gsize len)
{
    static const char mark[] = "OpaqueRef:";
    const char *p = text, *end = text + MIN(len, SESSION_SEARCH_BYTES);

    for (int i = 0; i < SESSION_SEARCH_TRIES; i++) {
        p = g_strstr_len(p, end - p, mark);
        if (!p || end - p < (gssize) (strlen(mark) + 36))
            return FALSE;
        g_autofree char *ref = g_strndup(p, strlen(mark) + 36);
        struct session *s = session_peek(ref);
        if (s) {
            session_unref(s);
            return TRUE;
        }
        p += strlen(mark);
    }
    return FALSE;
}
