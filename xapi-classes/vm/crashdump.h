/* crashdump.h - the memory of guests that crashed. */
#ifndef XENAPID_CRASHDUMP_H
#define XENAPID_CRASHDUMP_H

#include "daemon/call.h"

/* Keeps the memory of the VM's domain, which has crashed and is still there, in a new VDI with a crashdump record. That
 * it cannot be done (no SR, a full one, too many already) is logged and no fault: the VM comes first. Blocks. */
void crashdump_take(struct call *c, const struct record *vm);

#endif
