/* task.h - long operations: a queue, a bounded pool of workers, and the task objects that clients see.
 *
 * A call becomes a task when its message is LONG or it is called as Async.X. The task object is made, and the operation
 * is admitted (xapi-classes/vm/operation.h), in one transaction on the caller's thread: what cannot run now is refused
 * at once. Workers take tasks from the sessions in turn (fair), oldest first; tasks on the same object run one after
 * another unless the message is OVER. Cancelled while pending, a task never starts; while running, its flag is set.
 * A task's result is an XML value, its error_info a code and parameters. Finished tasks of Async calls stay until
 * task.destroy or the deadline (conf keep_finished); tasks of synchronous calls go with their answer. */
#ifndef XENAPID_TASK_H
#define XENAPID_TASK_H

#include "daemon/call.h"

/* Starts the workers. After a restart: tasks that were pending are failed, with the reason, and what they held
 * (current_operations) is put in order. Call once the store is open, before requests. */
void tasks_init(void);
/* No new tasks; waits for running ones until deadline_ms (monotonic), then cancels them. */
void tasks_stop(gint64 deadline_ms);

/* Makes a task of c's message with c's args (copied). async: the task's reference is the result. Otherwise c is
 * deferred and completed with the task's outcome. Answers what the handler would: a value, NULL with c's fault set, or
 * CALL_DEFERRED. On the caller's thread; does not block. */
struct value *task_submit(struct call *c, gboolean async);

/* A task of the daemon's own (actions after a guest's shutdown, autostart): runs fn on a worker with a call that has no
 * session. ref is the object it is queued with; name is the task's name_label. Answers FALSE when the queue is full. */
typedef struct value *task_fn(struct call *c, void *data);
gboolean task_spawn(const char *name, const char *ref, task_fn *fn, void *data, GDestroyNotify free_data);

/* Cancels; the handler of task.cancel, also used at shutdown. FALSE with f: OPERATION_NOT_ALLOWED. */
gboolean task_cancel(const char *ref, struct fault *f);
/* Number of tasks pending or running for a session (sessions with any are never dropped). */
guint task_count_for_session(const char *session_uuid);
/* Their references, as a set. Heap. */
struct value *tasks_of_session(const char *session_uuid);

/* A task object without a worker, made by a client (task.create) or an HTTP transfer, is finished by these. */
void task_object_finish(struct txn *t, const char *ref, struct value *result, const struct fault *f);

#endif
