/* task.c - what a task does: its object from creation to end, its work on a worker, restarts, cancellation. */
#include "daemon/task_private.h"
#include "daemon/clock.h"
#include "daemon/process/log.h"
#include "daemon/codec/xmlrpc.h"
#include "auth/session.h"
#include "xapi-classes/vm/operation.h"
#include "xenbackend/backend.h"

#define PROGRESS_INTERVAL_US 250000
#define COLLECT_EVERY_MS     15000

struct task *task_ref(struct task *t)
{
    g_atomic_int_inc(&t->refs);
    return t;
}

void task_unref(struct task *t)
{
    if (!g_atomic_int_dec_and_test(&t->refs))
        return;
    struct call *c = &t->work.call;
    for (int i = 0; c->msg && i < c->msg->n_params; i++)
        value_unref(c->args[i]);
    g_free(c->args);
    fault_clear(&c->fault);
    if (c->session)
        session_unref(c->session);
    if (t->free_data)
        t->free_data(t->data);
    g_free(t->name);
    g_free(t->object);
    g_free(t->session);
    g_free(t->owner);
    g_free(t);
}

/* ---- the task's object ---- */

static GMutex owners_lock;
static GHashTable *owners; /* task reference -> user name */

static void owner_set(const char *ref, const char *user)
{
    g_mutex_lock(&owners_lock);
    if (!owners)
        owners = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_hash_table_insert(owners, g_strdup(ref), g_strdup(user));
    g_mutex_unlock(&owners_lock);
}

gboolean task_owner_is(const char *ref, const char *user)
{
    g_mutex_lock(&owners_lock);
    const char *owner = owners ? g_hash_table_lookup(owners, ref) : NULL;
    gboolean same = owner && *user && strcmp(owner, user) == 0;
    g_mutex_unlock(&owners_lock);
    return same;
}

void task_owner_forget(const char *ref)
{
    g_mutex_lock(&owners_lock);
    if (owners)
        g_hash_table_remove(owners, ref);
    g_mutex_unlock(&owners_lock);
}

const char *task_object_create(struct txn *t, const char *name, const char *user)
{
    g_autoptr(GPtrArray) hosts = txn_all(t, CLASS_host);
    const char *ref = txn_create(t, CLASS_task, NULL, NULL);

    txn_set_str(t, CLASS_task, ref, F_task_name_label, name);
    txn_set_time(t, CLASS_task, ref, F_task_created, g_get_real_time() / G_USEC_PER_SEC);
    txn_set_str(t, CLASS_task, ref, F_task_status, "pending");
    txn_set_str(t, CLASS_task, ref, F_task_type, "<none/>");
    if (hosts->len)
        txn_set_str(t, CLASS_task, ref, F_task_resident_on, ((struct record *) hosts->pdata[0])->ref);
    owner_set(ref, user);
    return ref;
}

static void object_begin(struct txn *t, struct task *task)
{
    g_strlcpy(task->ref, task_object_create(t, task->name, task->owner), sizeof task->ref);
}

static const char *end_status(const struct fault *f)
{
    if (!f || !f->code)
        return "success";
    return strcmp(f->code, "TASK_CANCELLED") == 0 ? "cancelled" : "failure";
}

void task_object_finish(struct txn *t, const char *ref, struct value *result, const struct fault *f)
{
    if (!txn_get(t, CLASS_task, ref))
        return; /* destroyed by its client meanwhile */
    txn_set_str(t, CLASS_task, ref, F_task_status, end_status(f));
    txn_set_time(t, CLASS_task, ref, F_task_finished, g_get_real_time() / G_USEC_PER_SEC);
    txn_set_float(t, CLASS_task, ref, F_task_progress, 1.0);
    if (f && f->code) {
        txn_set(t, CLASS_task, ref, F_task_error_info, fault_value(NULL, f));
    } else if (result && result->type != VALUE_VOID) {
        g_autofree char *text = xmlrpc_value_text(result);
        txn_set_str(t, CLASS_task, ref, F_task_result, text);
    }
}

void task_progress(struct task *t, double fraction)
{
    gint64 now = g_get_monotonic_time();

    if (now - t->progress_at < PROGRESS_INTERVAL_US && fraction < 1.0)
        return;
    t->progress_at = now;
    struct txn *txn = txn_begin(the_store());
    if (txn_get(txn, CLASS_task, t->ref))
        txn_set_float(txn, CLASS_task, t->ref, F_task_progress, CLAMP(fraction, 0.0, 1.0));
    txn_commit(txn);
}

static void object_drop(struct txn *t, const char *ref)
{
    txn_destroy(t, CLASS_task, ref);
    task_owner_forget(ref);
}

/* ---- the end of a task ---- */

/* Ends the operation, writes the outcome to the object (or drops it with a synchronous call) and tells the caller. */
static void finish(struct task *t, struct value *result)
{
    struct call *c = &t->work.call;
    struct txn *txn = txn_begin(the_store());

    if (c->msg)
        operation_end(txn, c->msg, c->args, t->ref);
    if (t->async)
        task_object_finish(txn, t->ref, result, &c->fault);
    else if (txn_get(txn, CLASS_task, t->ref))
        object_drop(txn, t->ref);
    txn_commit(txn);

    if (c->fault.code) {
        g_autofree char *text = fault_text(&c->fault);
        g_info("%s failed: %s", t->name, text);
    }
    if (t->waiter) {
        fault_move(&t->waiter->fault, &c->fault);
        call_complete(t->waiter, result);
    } else {
        value_unref(result);
    }
}

static struct value *work(struct task *t)
{
    struct call *c = &t->work.call;

    if (call_is_cancelled(c))
        return call_cancelled_fault(c);
    struct value *result = t->fn ? t->fn(c, t->data) : c->msg->handler(c);
    if (result == CALL_DEFERRED) { /* only short messages defer, and they are not made tasks: see task_submit */
        g_critical("%s deferred its answer on a worker", t->name);
        return call_fail(c, "INTERNAL_ERROR", "deferred on a worker", NULL);
    }
    return result;
}

static void run(struct task *t)
{
    struct call *c = &t->work.call;
    struct log_context context = {t->ref, c->session ? c->session->uuid : NULL, t->name, c->request_id};
    const struct log_context *before = log_push(&context);

    c->arena = arena_new();
    struct value *result = work(t);
    if (result && result->in_arena) { /* outlives the arena */
        struct value *kept = value_ref(result);
        result = kept;
    }
    arena_free(c->arena);
    c->arena = NULL;
    /* Nobody may hear of success before what was done is durable. */
    if (c->wait_seq && !store_wait(the_store(), c->wait_seq, &c->fault))
        g_clear_pointer(&result, value_unref);
    finish(t, result);
    log_push(before);
}

/* ---- making one ---- */

static struct task *task_new(const char *name, struct session *session)
{
    struct task *t = g_new0(struct task, 1);

    t->refs = 1;
    t->name = g_strdup(name);
    t->session = g_strdup(session ? session->uuid : "");
    t->owner = g_strdup(session ? session->user : "");
    t->work.call.task = t;
    t->work.call.session = session ? session_ref(session) : NULL;
    return t;
}

static struct task *task_for_call(struct call *c, gboolean async)
{
    g_autofree char *name = g_strconcat(async ? "Async." : "", c->msg->full_name, NULL);
    struct task *t = task_new(name, c->session);
    struct call *w = &t->work.call;

    t->async = async;
    w->msg = c->msg;
    w->request_id = c->request_id;
    w->args = g_new0(struct value *, c->msg->n_params + 1);
    for (int i = 0; i < c->msg->n_params; i++)
        w->args[i] = c->args[i] ? value_ref(c->args[i]) : NULL;
    if (c->msg->n_params && c->msg->params[0].type->kind == TYPE_REF)
        t->object = g_strdup(value_str(c->args[0]));
    return t;
}

/* A refused Async call still answers a task: one that has failed. */
static struct value *submit_refused(struct call *c, struct task *t, struct fault *f)
{
    struct txn *txn = txn_begin(the_store());

    object_begin(txn, t);
    task_object_finish(txn, t->ref, NULL, f);
    call_commit(c, txn);
    fault_clear(f);
    return value_string(NULL, t->ref);
}

struct value *task_submit(struct call *c, gboolean async)
{
    struct fault f = FAULT_INIT;

    if (!queue_has_room(c->session ? c->session->uuid : "", &f))
        return call_fail_with(c, &f);

    struct task *t = task_for_call(c, async);
    struct value *answer = NULL;
    struct txn *txn = txn_begin(the_store());
    object_begin(txn, t);
    if (!operation_begin(txn, c->msg, t->work.call.args, t->ref, &f)) {
        txn_abort(txn);
        task_owner_forget(t->ref);
        answer = async ? submit_refused(c, t, &f) : call_fail_with(c, &f);
    } else if (async) {
        call_commit(c, txn);
        answer = value_string(NULL, t->ref);
        queue_push(t);
    } else {
        txn_commit(txn);
        t->waiter = call_defer(c);
        answer = CALL_DEFERRED;
        queue_push(t);
    }
    task_unref(t);
    return answer;
}

gboolean task_spawn(const char *name, const char *ref, task_fn *fn, void *data, GDestroyNotify free_data)
{
    if (!queue_has_room("", NULL)) {
        if (free_data)
            free_data(data);
        return FALSE;
    }
    struct task *t = task_new(name, NULL);
    t->object = g_strdup(ref);
    t->fn = fn;
    t->data = data;
    t->free_data = free_data;
    struct txn *txn = txn_begin(the_store());
    object_begin(txn, t);
    txn_commit(txn);
    queue_push(t);
    task_unref(t);
    return TRUE;
}

/* ---- cancellation ---- */

static gboolean cancel_live(struct task *t)
{
    if (queue_cancel(t)) {
        struct call *c = &t->work.call;
        call_cancelled_fault(c);
        finish(t, NULL);
        task_unref(t); /* the queue's */
        return TRUE;
    }
    backend_poke(); /* whoever waits for the backend looks at its flag again */
    return FALSE;
}

gboolean task_cancel(const char *ref, struct fault *f)
{
    struct task *live = queue_find(ref);
    gboolean over = live && cancel_live(live);

    if (live)
        task_unref(live);
    if (over)
        return TRUE;
    struct txn *txn = txn_begin(the_store());
    struct record *r = txn_get(txn, CLASS_task, ref);
    if (!r) {
        txn_abort(txn);
        return fault_set(f, "HANDLE_INVALID", "task", ref, NULL);
    }
    const char *status = record_str(r, F_task_status);
    if (strcmp(status, "pending") != 0 && strcmp(status, "cancelling") != 0) {
        txn_abort(txn);
        return fault_set(f, "OPERATION_NOT_ALLOWED", "the task has ended", NULL);
    }
    /* A client's own task has nobody here who would end it. */
    if (live) {
        txn_set_str(txn, CLASS_task, ref, F_task_status, "cancelling");
    } else {
        struct fault cancelled = FAULT_INIT;
        fault_set(&cancelled, "TASK_CANCELLED", ref, NULL);
        task_object_finish(txn, ref, NULL, &cancelled);
        fault_clear(&cancelled);
    }
    txn_commit(txn);
    return TRUE;
}

guint task_count_for_session(const char *session_uuid)
{
    return queue_count(session_uuid);
}

struct value *tasks_of_session(const char *session_uuid)
{
    return queue_refs(session_uuid);
}

/* ---- start, collection, stop ---- */

/* Tasks of the last run that had not ended cannot go on: their clients learn so. */
static void fail_interrupted(void)
{
    struct fault f = FAULT_INIT;
    struct txn *txn = txn_begin(the_store());
    g_autoptr(GPtrArray) tasks = txn_all(txn, CLASS_task);

    fault_set(&f, "INTERNAL_ERROR", "xenapid was restarted while this task was pending or running", NULL);
    for (guint i = 0; i < tasks->len; i++) {
        struct record *r = tasks->pdata[i];
        const char *status = record_str(r, F_task_status);
        if (strcmp(status, "pending") == 0 || strcmp(status, "cancelling") == 0)
            task_object_finish(txn, r->ref, NULL, &f);
    }
    operations_clear(txn);
    txn_commit(txn);
    fault_clear(&f);
}

/* Removes finished tasks that nobody destroyed in time. */
static void collect(G_GNUC_UNUSED void *data)
{
    gint64 deadline = g_get_real_time() / G_USEC_PER_SEC - the_conf()->keep_finished;
    g_autoptr(GPtrArray) tasks = store_all(the_store(), CLASS_task);
    struct txn *txn = NULL;

    for (guint i = 0; i < tasks->len; i++) {
        struct record *r = tasks->pdata[i];
        const char *status = record_str(r, F_task_status);
        if (strcmp(status, "pending") == 0 || strcmp(status, "cancelling") == 0 ||
            record_int(r, F_task_finished) > deadline)
            continue;
        if (!txn)
            txn = txn_begin(the_store());
        if (txn_get(txn, CLASS_task, r->ref))
            object_drop(txn, r->ref);
    }
    if (txn)
        txn_commit(txn);
}

void tasks_init(void)
{
    queue_init(run);
    fail_interrupted();
    clock_every(COLLECT_EVERY_MS, collect, NULL);
}

void tasks_stop(gint64 deadline_ms)
{
    guint left = queue_stop(deadline_ms);
    if (left)
        g_warning("%u tasks were still running when the time to stop was up; clients will see them as failed", left);
}
