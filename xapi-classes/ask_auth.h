/* ask_auth.h - messages whose answer the login helper (xenapid-auth) knows. */
#ifndef XENAPID_ASK_AUTH_H
#define XENAPID_ASK_AUTH_H

#include "daemon/call.h"

/* Makes the message's result out of the helper's; NULL after call_fail(). */
typedef struct value *auth_answer_fn(struct call *c, struct value *result);

/* What a handler returns: params (taken over) are sent to the helper, and its answer, through answer, is the call's. No
 * thread of the listeners' waits for it; a task does. */
struct value *ask_auth(struct call *c, const char *method, struct value *params, auth_answer_fn *answer);

#endif
