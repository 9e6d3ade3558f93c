/* call.c - what class handlers use to read their arguments and give their answer. */
#include "daemon/call_private.h"
#include "daemon/task_private.h"

const char call_deferred_mark = 0;

static struct store *store;
static struct conf *current_conf; /* swapped as a whole at reload */

struct store *the_store(void)
{
    return store;
}

void front_set_store(struct store *s)
{
    store = s;
}

const struct conf *the_conf(void)
{
    return g_atomic_pointer_get(&current_conf);
}

static void (*restart_fn)(void);

void front_set_restart(void (*fn)(void))
{
    restart_fn = fn;
}

void front_restart(void)
{
    if (restart_fn)
        restart_fn();
}

void front_set_conf(struct conf *c)
{
    /* The one before is kept: a thread may be reading it, and reloads are rare. */
    static GSList *kept;
    struct conf *old = g_atomic_pointer_get(&current_conf);
    g_atomic_pointer_set(&current_conf, c);
    if (old)
        kept = g_slist_prepend(kept, old);
}

struct value *call_arg(const struct call *c, int i)
{
    return c->args[i];
}

const char *call_str(const struct call *c, int i)
{
    return value_str(c->args[i]);
}

gint64 call_int(const struct call *c, int i)
{
    return value_as_int(c->args[i]);
}

gboolean call_bool(const struct call *c, int i)
{
    return value_as_bool(c->args[i]);
}

double call_float(const struct call *c, int i)
{
    return value_as_float(c->args[i]);
}

static void fail_handle(struct call *c, enum class_id class, const char *ref)
{
    fault_set(&c->fault, "HANDLE_INVALID", class_by_id(class)->name, ref, NULL);
}

struct record *call_object(struct call *c, int i)
{
    enum class_id class = c->msg->params[i].type->class;
    struct record *r = store_get(store, class, call_str(c, i));
    if (!r)
        fail_handle(c, class, call_str(c, i));
    return r;
}

struct record *call_txn_object(struct call *c, struct txn *t, int i)
{
    enum class_id class = c->msg->params[i].type->class;
    struct record *r = txn_get(t, class, call_str(c, i));
    if (!r)
        fail_handle(c, class, call_str(c, i));
    return r;
}

struct value *call_fail(struct call *c, const char *code, ...)
{
    g_autoptr(GPtrArray) params = g_ptr_array_new();
    va_list ap;

    va_start(ap, code);
    for (const char *p; (p = va_arg(ap, const char *));)
        g_ptr_array_add(params, (char *) p);
    va_end(ap);
    g_ptr_array_add(params, NULL);
    fault_setv(&c->fault, code, (const char *const *) params->pdata);
    return NULL;
}

struct value *call_fail_with(struct call *c, struct fault *f)
{
    fault_move(&c->fault, f);
    return NULL;
}

void call_commit(struct call *c, struct txn *t)
{
    guint64 seq = txn_commit(t);
    if (seq > c->wait_seq)
        c->wait_seq = seq;
}

struct call *call_defer(struct call *c)
{
    return c; /* it lives in its exchange, which waits for call_complete */
}

void call_complete(struct call *c, struct value *result)
{
    struct pending_call *pc = pending_of(c);
    pc->result = result;
    if (claim(&pc->handoff))
        pc->proceed(pc);
}

gboolean call_is_abandoned(const struct call *c)
{
    const struct pending_call *pc = (const struct pending_call *) c;
    return pc->abandoned && g_atomic_int_get(pc->abandoned);
}

void call_progress(struct call *c, double fraction)
{
    if (c->task)
        task_progress(c->task, fraction);
}

gboolean call_is_cancelled(const struct call *c)
{
    return c->task && g_atomic_int_get(&c->task->cancelled);
}

struct value *call_cancelled_fault(struct call *c)
{
    return call_fail(c, "TASK_CANCELLED", call_task_ref(c), NULL);
}

gint *call_cancel_flag(struct call *c)
{
    static gint never;
    return c->task ? &c->task->cancelled : &never;
}

const char *call_task_ref(const struct call *c)
{
    return c->task ? c->task->ref : NULL_REF;
}
