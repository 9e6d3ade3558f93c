/* dispatch_private.h - an exchange and its requests; for dispatch.c and system.c. */
#ifndef XENAPID_DISPATCH_PRIVATE_H
#define XENAPID_DISPATCH_PRIVATE_H

#include "daemon/call_private.h"
#include "daemon/dispatch.h"

/* One HTTP body on its way to its reply. Requests run one after another; `running` is the one under way. */
struct exchange {
    gint refs;
    enum exchange_protocol protocol;
    struct arena *arena;
    struct origin origin; /* its strings are in the arena */
    struct codec_limits limits;
    struct rpc_request *reqs;
    gsize n_reqs, next;
    gboolean batch;
    gboolean put_one; /* a reply of the batch has been written */
    struct pending_call running;
    gint abandoned;
    struct reply *reply;
    struct multicall *multicall; /* the requests are parts of one system.multicall */
    GMutex lock;                 /* done, data, finished */
    gboolean finished;
    exchange_done_fn *done;
    void *data;
};

/* May be called as Async.X. */
gboolean message_can_be_async(const struct message *m);

/* system.* of the introspection API. TRUE when method is one of them: then *result is its value (NULL with f set). */
gboolean system_call(struct exchange *x, const struct rpc_request *req, struct value **result, struct fault *f);
/* system.multicall: turns x's only request into its parts. FALSE with f set. */
gboolean multicall_begin(struct exchange *x, const struct rpc_request *req, struct fault *f);
void multicall_add(struct exchange *x, struct value *result, const struct fault *f, gboolean bare);
/* The array of all results, and the request that asked for them; ends the multicall. */
struct value *multicall_end(struct exchange *x, struct rpc_request *req);

#endif
