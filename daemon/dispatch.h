/* dispatch.h - requests to calls: the method's row, the session, the role, the arguments, then the handler.
 *
 * An exchange is one HTTP body and its reply: one call, or several (a JSON-RPC batch, system.multicall), which run one
 * after another. It may finish at once or later; it lives on when its client goes away. */
#ifndef XENAPID_DISPATCH_H
#define XENAPID_DISPATCH_H

#include "daemon/call.h"
#include "daemon/codec/codec.h"

struct exchange;

enum exchange_protocol { PROTOCOL_XML, PROTOCOL_JSON };

/* Called once, on any thread, when an exchange that did not finish at once is finished. */
typedef void exchange_done_fn(struct exchange *x, void *data);

/* Parses and runs body. origin's strings are copied. Answers a counted exchange; *finished says whether its reply is
 * ready now; otherwise done is called later. request_id is for the log. */
struct exchange *exchange_run(enum exchange_protocol protocol, const char *body, gsize len, const struct origin *origin,
                              exchange_done_fn *done, void *data, gboolean *finished);
/* The reply, once finished; owned by the exchange. NULL: nothing is to be sent (only notifications): HTTP 204. */
struct reply *exchange_reply(struct exchange *x);
/* Nobody waits for the reply any more: done will not be called after this returns. */
void exchange_abandon(struct exchange *x);
struct exchange *exchange_ref(struct exchange *x);
void exchange_unref(struct exchange *x);
/* TRUE when text (the beginning of a body) shows a live session reference: then the larger body limit holds. */
gboolean dispatch_shows_session(const char *text, gsize len);

/* Checks role and map key for a call of msg with args, as the dispatcher does for clients; for HTTP handlers too. */
gboolean dispatch_authorise(struct session *s, const struct message *msg, struct value **args, struct fault *f);

#endif
