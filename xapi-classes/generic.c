/* generic.c - the handlers of the messages that every class has (see model_implicit.c), and of those that have none. */
#include "daemon/call.h"
#include "xapi-classes/handlers.h"

struct value *unbuilt(struct call *c)
{
    return call_fail(c, "NOT_IMPLEMENTED", c->msg->full_name, NULL);
}

struct value *removed(struct call *c)
{
    return call_fail(c, "MESSAGE_REMOVED", NULL);
}
