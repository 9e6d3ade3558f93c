/* task_private.h - a task as its queue, its worker and its object see it; not for class handlers. */
#ifndef XENAPID_TASK_PRIVATE_H
#define XENAPID_TASK_PRIVATE_H

#include "daemon/call_private.h"
#include "daemon/task.h"

enum task_state { TASK_PENDING, TASK_RUNNING, TASK_DONE };

struct task {
    gint refs;
    char ref[REF_SIZE];
    char *name;
    struct pending_call work; /* the worker's own call: arguments on the heap, no client behind it */
    struct call *waiter;      /* the synchronous caller's deferred call, or NULL */
    gboolean async;           /* its object stays after the end */
    char *object;             /* reference it is queued with, or NULL */
    char *session;            /* public uuid of the session, "" for the daemon's own: whose turn it takes */
    char *owner;              /* user name, "" for the daemon's own */
    enum task_state state;    /* under the queue's lock */
    gint cancelled;           /* atomic */
    gint64 progress_at;       /* when watchers were told last, monotonic microseconds; worker only */
    task_fn *fn;              /* tasks of the daemon's own */
    void *data;
    GDestroyNotify free_data;
};

struct task *task_ref(struct task *t);
void task_unref(struct task *t);
void task_progress(struct task *t, double fraction);

/* Adds a pending task object that belongs to user; answers its reference, valid until the transaction ends. */
const char *task_object_create(struct txn *t, const char *name, const char *user);
/* Whose task it is: kept beside the object, gone with the process (then only operators may handle it). */
gboolean task_owner_is(const char *ref, const char *user);
void task_owner_forget(const char *ref);

/* ---- the queue (task_queue.c) ---- */

/* How tasks are run, on a worker; set by queue_init. */
typedef void task_run_fn(struct task *t);
void queue_init(task_run_fn *run);
/* FALSE with f (TOO_MANY_PENDING_TASKS) when the queue or the session's share of it is full; takes a reference. */
gboolean queue_has_room(const char *session, struct fault *f);
void queue_push(struct task *t);
/* A live task by reference, counted; NULL when it has ended or never was one. */
struct task *queue_find(const char *ref);
/* Sets the cancel flag. TRUE when it was pending and is now out of the queue: the caller finishes it. */
gboolean queue_cancel(struct task *t);
guint queue_count(const char *session); /* pending and running ones */
/* Their references, as a set. */
struct value *queue_refs(const char *session);
/* No more tasks are taken; waits until none runs or the deadline (monotonic milliseconds). Answers how many still run.
 */
guint queue_stop(gint64 deadline_ms);

#endif
