/* task.c - the class task: what clients may do to tasks, their own and the daemon's. */
#include "daemon/task_private.h"
#include "auth/session.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"

static gboolean status_is_open(const struct record *r)
{
    const char *status = record_str(r, F_task_status);
    return strcmp(status, "pending") == 0 || strcmp(status, "cancelling") == 0;
}

void task_derive(struct txn *t, const char *ref)
{
    static const char *const open[] = {"cancel", "destroy", NULL}, *const ended[] = {"destroy", NULL};
    struct record *r = txn_get(t, CLASS_task, ref);
    txn_set(t, CLASS_task, ref, F_task_allowed_operations,
            value_string_set(NULL, strcmp(record_str(r, F_task_status), "pending") == 0 ? open : ended));
}

/* A task belongs to the user who caused it; operators may handle anybody's. */
static gboolean may_handle(struct call *c, const char *ref)
{
    if (session_has_role(c->session, ROLE_pool_operator) || task_owner_is(ref, c->session->user))
        return TRUE;
    call_fail(c, "RBAC_PERMISSION_DENIED", c->msg->permission, "the task was made by another user", NULL);
    return FALSE;
}

/* Begins a change of a task that is its client's to manage: NULL after failing. */
static struct txn *begin_change(struct call *c)
{
    if (!may_handle(c, call_str(c, 0)))
        return NULL;
    struct txn *t = txn_begin(the_store());
    if (call_txn_object(c, t, 0))
        return t;
    txn_abort(t);
    return NULL;
}

/* The same for changes that only an open task without a worker can have. */
static struct txn *begin_report(struct call *c)
{
    struct task *live = queue_find(call_str(c, 0));
    if (live) {
        task_unref(live);
        call_fail(c, "OPERATION_NOT_ALLOWED", "the task is run by the server", NULL);
        return NULL;
    }
    struct txn *t = begin_change(c);
    if (t && !status_is_open(txn_get(t, CLASS_task, call_str(c, 0)))) {
        txn_abort(t);
        call_fail(c, "OPERATION_NOT_ALLOWED", "the task has ended", NULL);
        return NULL;
    }
    return t;
}

static struct value *end_change(struct call *c, struct txn *t)
{
    call_commit(c, t);
    return value_void();
}

struct value *task_create(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct value *ref = value_string(NULL, task_object_create(t, call_str(c, 0), c->session->user));

    txn_set_str(t, CLASS_task, value_str(ref), F_task_name_description, call_str(c, 1));
    call_commit(c, t);
    return ref;
}

struct value *task_destroy(struct call *c)
{
    struct txn *t = begin_change(c);
    if (!t)
        return NULL;
    txn_destroy(t, CLASS_task, call_str(c, 0));
    task_owner_forget(call_str(c, 0));
    return end_change(c, t);
}

struct value *task_cancel_message(struct call *c)
{
    if (!may_handle(c, call_str(c, 0)))
        return NULL;
    return task_cancel(call_str(c, 0), &c->fault) ? value_void() : NULL;
}

struct value *task_set_status(struct call *c)
{
    const char *ref = call_str(c, 0), *status = call_str(c, 1);
    struct txn *t = begin_report(c);
    if (!t)
        return NULL;
    txn_set_str(t, CLASS_task, ref, F_task_status, status);
    if (strcmp(status, "pending") != 0 && strcmp(status, "cancelling") != 0) {
        txn_set_time(t, CLASS_task, ref, F_task_finished, g_get_real_time() / G_USEC_PER_SEC);
        if (strcmp(status, "success") == 0)
            txn_set_float(t, CLASS_task, ref, F_task_progress, 1.0);
    }
    return end_change(c, t);
}

struct value *task_set_progress(struct call *c)
{
    struct txn *t = begin_report(c);
    if (!t)
        return NULL;
    txn_set_float(t, CLASS_task, call_str(c, 0), F_task_progress, CLAMP(call_float(c, 1), 0.0, 1.0));
    return end_change(c, t);
}

struct value *task_set_result(struct call *c)
{
    struct txn *t = begin_report(c);
    if (!t)
        return NULL;
    txn_set_str(t, CLASS_task, call_str(c, 0), F_task_result, call_str(c, 1));
    return end_change(c, t);
}

struct value *task_set_error_info(struct call *c)
{
    struct txn *t = begin_report(c);
    if (!t)
        return NULL;
    txn_set(t, CLASS_task, call_str(c, 0), F_task_error_info, value_ref(call_arg(c, 1)));
    return end_change(c, t);
}
