/* vm_twin.h - records of VMs made after other VMs: clones, copies and snapshots. */
#ifndef XENAPID_VM_TWIN_H
#define XENAPID_VM_TWIN_H

#include "daemon/call.h"

enum twin_kind { TWIN_CLONE, TWIN_COPY, TWIN_SNAPSHOT };

/* The images of a VM's disks, copied; in the order of its VBDs, NULL where there is nothing to copy (drives; disks of
 * ignore, a set of references or NULL). NULL after failing: then nothing is left of them. Blocks. */
GPtrArray *twin_copy_disks(struct call *c, const struct record *vm, enum twin_kind kind, const char *sr,
                           const struct value *ignore);
/* Takes copies back. */
void twin_drop_disks(struct call *c, GPtrArray *disks);
/* The record with its devices; the reference, valid until the transaction ends. */
const char *twin_create(struct txn *t, const struct record *vm, enum twin_kind kind, const char *name,
                        GPtrArray *disks);
/* Gives target the devices of source, with those disks. */
void twin_devices(struct txn *t, const struct record *source, const char *target, GPtrArray *disks,
                  gboolean same_addresses);

#endif
