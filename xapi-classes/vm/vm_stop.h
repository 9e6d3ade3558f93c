/* vm_stop.h - what is done about a guest that stopped by itself. */
#ifndef XENAPID_VM_STOP_H
#define XENAPID_VM_STOP_H

#include "daemon/store/store.h"

/* state: of a domain that has shut down or crashed and waits to be taken away. Queues what the VM's actions_after_...
 * ask for; does not block. */
void vm_guest_stopped(const struct record *vm, const struct value *state);

#endif
