/* call_private.h - a call together with what the dispatcher and the task queue know of it; not for class handlers. */
#ifndef XENAPID_CALL_PRIVATE_H
#define XENAPID_CALL_PRIVATE_H

#include "daemon/call.h"

struct pending_call;

/* The call has its outcome: pc->result, or NULL and a fault. Once, on any thread. */
typedef void call_continue_fn(struct pending_call *pc);

struct pending_call {
    struct call call;          /* first: a struct call * is a struct pending_call * */
    call_continue_fn *proceed; /* for outcomes that come on another thread, after the starter has left */
    void *owner;               /* the exchange or task it belongs to */
    gint *abandoned;           /* the owner's flag: nobody waits for the answer */
    gint handoff;              /* between starter and completer: see claim */
    gint durable_handoff;      /* between who registered for durability and the journal */
    struct value *result;
};

static inline struct pending_call *pending_of(struct call *c)
{
    return (struct pending_call *) c;
}

/* Two threads meet here once each, in either order: FALSE for the first, who leaves and touches nothing any more; TRUE
 * for the second, who goes on. */
static inline gboolean claim(gint *handoff)
{
    return g_atomic_int_add(handoff, 1) == 1;
}

#endif
