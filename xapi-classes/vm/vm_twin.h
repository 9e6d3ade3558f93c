/* vm_twin.h - records of VMs made after other VMs: clones, copies and snapshots. */
#ifndef XENAPID_VM_TWIN_H
#define XENAPID_VM_TWIN_H

#include "daemon/call.h"

enum twin_kind { TWIN_CLONE, TWIN_COPY, TWIN_SNAPSHOT };

struct drafts;

/* The whole of VM.clone, copy and snapshot: the new VM's reference (heap), NULL with c's fault set; then nothing is
 * left of it. ignore is a set of VDIs to leave out, or NULL. Blocks. */
struct value *twin_make(struct call *c, const char *vm, enum twin_kind kind, const char *name, const char *sr,
                        const struct value *ignore);

/* The images of a VM's disks, copied; in the order of its VBDs, NULL where there is nothing to copy (drives; disks of
 * ignore, a set of references or NULL). NULL after failing. All of them are drafts: drafts_end removes those that got
 * no VBD. Blocks. */
GPtrArray *twin_copy_disks(struct call *c, const struct record *vm, enum twin_kind kind, const char *sr,
                           const struct value *ignore, struct drafts *drafts);
/* The same for the image of a suspended VM's memory. */
struct value *twin_copy_memory(struct call *c, const char *vdi, struct drafts *drafts);
/* The record with its devices; the reference, valid until the transaction ends. */
const char *twin_create(struct txn *t, const struct record *vm, enum twin_kind kind, const char *name,
                        GPtrArray *disks);
/* Gives target the devices of source, with those disks. */
void twin_devices(struct txn *t, const struct record *source, const char *target, GPtrArray *disks,
                  gboolean same_addresses);
/* Tells the guest that its past is not what it remembers, where it asks (Windows). */
void twin_renew_generation(struct txn *t, const char *ref);

#endif
