/* run_message.c - another message as a part of a piece of work. */
#include "xapi-classes/vm/run_message.h"
#include "xapi-classes/vm/operation.h"

static gboolean begin(const struct message *m, struct value *const *args, const char *task_ref, struct fault *f)
{
    struct txn *t = txn_begin(the_store());
    gboolean admitted = operation_begin(t, m, args, task_ref, f);
    if (admitted)
        txn_commit(t);
    else
        txn_abort(t);
    return admitted;
}

static void end(const struct message *m, struct value *const *args, const char *task_ref)
{
    struct txn *t = txn_begin(the_store());
    operation_end(t, m, args, task_ref);
    txn_commit(t);
}

struct value *run_message(const char *name, struct value *const *args, const char *task_ref, struct fault *f)
{
    const struct message *m = message_lookup(name);
    if (!begin(m, args, task_ref, f))
        return NULL;
    g_autoptr(arena) memory = arena_new();
    struct call c = {.msg = m, .args = (struct value **) args, .arena = memory};
    g_autoptr(value) answer = m->handler(&c);
    struct value *result = answer != NULL ? value_ref(answer) : NULL; /* on the heap: it outlives the arena */
    if (c.wait_seq != 0 && result != NULL && !store_wait(the_store(), c.wait_seq, &c.fault))
        g_clear_pointer(&result, value_unref);
    end(m, args, task_ref);
    if (result == NULL)
        fault_move(f, &c.fault);
    fault_clear(&c.fault);
    return result;
}
