/* vm_foreign.h - domains that somebody else made on this host: they have a record as long as they run. */
#ifndef XENAPID_VM_FOREIGN_H
#define XENAPID_VM_FOREIGN_H

#include "daemon/store/store.h"

gboolean vm_is_foreign(const struct record *vm);
/* Makes a record for a running domain that has none. */
void vm_foreign_appeared(const struct value *state);
/* Takes over what was not known yet when the record was made. */
void vm_foreign_changed(const struct record *vm, const struct value *state);
/* Removes the record of one that is gone. */
void vm_foreign_gone(const struct record *vm);

#endif
