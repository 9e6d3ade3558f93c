/* call.h - one API call from its arguments to its answer: what a class handler sees.
 *
 * Before a handler runs, the dispatcher has checked the session, the role, and the number and types of the arguments.
 * A handler runs to its end on one thread and answers a value, or NULL after call_fail(). Handlers of short messages
 * run on an HTTP thread and must not block; those of LONG messages (and everything called as Async.X) run on a worker
 * as a task and may. A handler whose answer comes later (event.from, login) returns call_defer() and somebody calls
 * call_complete() then. */
#ifndef XENAPID_CALL_H
#define XENAPID_CALL_H

#include "daemon/store/store.h"
#include "daemon/process/conf.h"
#include "xapi-classes/model/model.h"

struct session;
struct task;

/* Where a request came from; lives as long as any call of it. */
struct origin {
    const char *address; /* "192.0.2.1", "::1", "unix" */
    gboolean is_unix, tls;
    gboolean uid_known; /* UNIX sockets */
    guint uid;
    const char *user_agent; /* may be NULL */
    const char *host;       /* the Host header, or NULL: what this client calls us */
};

struct call {
    const struct message *msg;
    struct value **args;     /* msg->n_params of them, converted; NULL for an optional one that was left out */
    struct session *session; /* NULL for messages without one */
    const struct origin *origin;
    struct task *task;   /* NULL unless it runs as a task */
    struct arena *arena; /* for what lives no longer than the handler */
    struct fault fault;
    guint64 wait_seq; /* the answer waits until this commit is durable */
    guint64 request_id;
};

/* The one store and configuration of the process. */
struct store *the_store(void);
const struct conf *the_conf(void); /* replaced as a whole at reload: do not keep the pointer */
void front_set_store(struct store *s);
void front_set_conf(
    struct conf *c); /* takes over c; the one before is kept until the process ends (reloads are rare) */
/* Ends this process in good order, so that another one is started in its place; any thread, does not wait. */
void front_restart(void);
void front_set_restart(void (*fn)(void)); /* what that does */

/* ---- arguments ---- */

struct value *call_arg(const struct call *c, int i); /* borrowed; NULL when left out */
const char *call_str(const struct call *c, int i);   /* strings, enums, references */
gint64 call_int(const struct call *c, int i);
gboolean call_bool(const struct call *c, int i);
double call_float(const struct call *c, int i);
/* The record that argument i refers to; NULL after failing with HANDLE_INVALID [Class, ref]. Counted: unref it. */
struct record *call_object(struct call *c, int i);
/* The same inside a transaction (borrowed). */
struct record *call_txn_object(struct call *c, struct txn *t, int i);

/* ---- answers ---- */

/* Sets the fault (parameters are strings, ended by NULL) and answers NULL, for "return call_fail(...)". */
struct value *call_fail(struct call *c, const char *code, ...) G_GNUC_NULL_TERMINATED;
/* Takes over f's content. */
struct value *call_fail_with(struct call *c, struct fault *f);
/* Commits and makes the answer wait for it. */
void call_commit(struct call *c, struct txn *t);

/* The answer comes later: returns a counted handle, and the handler must return CALL_DEFERRED. A deferred call's args,
 * session, origin and arena stay valid until call_complete. Only for handlers on an HTTP thread (c->task is NULL). */
struct call *call_defer(struct call *c);
#define CALL_DEFERRED ((struct value *) &call_deferred_mark)
extern const char call_deferred_mark;
/* Once per deferred call, on any thread; takes over result (NULL after call_fail). */
void call_complete(struct call *c, struct value *result);
/* True when the client of a deferred or running call has gone away (its answer will be dropped). */
gboolean call_is_abandoned(const struct call *c);

/* ---- tasks: these do nothing, and answer FALSE, when the call is not a task ---- */

/* 0.0 to 1.0; cheap enough to be called often: what watchers see is limited to a few changes a second. */
void call_progress(struct call *c, double fraction);
/* TRUE once task.cancel was called: undo, and "return call_cancelled_fault(c)". A safe point. */
gboolean call_is_cancelled(const struct call *c);
struct value *call_cancelled_fault(struct call *c); /* TASK_CANCELLED [task] */
/* The flag behind it, for peer_options.cancel; never NULL. */
gint *call_cancel_flag(struct call *c);
const char *call_task_ref(const struct call *c); /* NULL_REF when it is no task */

#endif
