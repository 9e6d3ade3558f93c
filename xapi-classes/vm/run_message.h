/* run_message.h - another message as a part of a piece of work: VM.start for an appliance, VM.snapshot for a schedule.
 */
#ifndef XENAPID_RUN_MESSAGE_H
#define XENAPID_RUN_MESSAGE_H

#include "daemon/call.h"

/* Runs the message's handler on this thread, which may block: admitted and recorded under task_ref in
 * current_operations as a client's call would be, and durable before it is told. NULL with f set. */
struct value *run_message(const char *name, struct value *const *args, const char *task_ref, struct fault *f);

#endif
