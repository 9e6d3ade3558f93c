/* storage.h - what the storage classes (SR, PBD, VDI, SM) share: the backend's answers as records, plugs and scans. */
#ifndef XENAPID_CLASSES_STORAGE_H
#define XENAPID_CLASSES_STORAGE_H

#include "daemon/call.h"

/* The params of a backend call about an SR and maybe an image: {"sr": uuid, "vdi": uuid}; vdi may be NULL. Heap. */
struct value *storage_params(const char *sr_uuid, const char *vdi_uuid);
/* The same as a builder that the caller adds to. */
void storage_params_begin(struct value_builder *b, const char *sr_uuid, const char *vdi_uuid);
/* A backend call with the task's progress and cancellation; takes over params. NULL with c's fault set. */
struct value *storage_call(struct call *c, const char *method, struct value *params);
/* The SR, if some PBD of it is plugged; else NULL with f set: SR_HAS_NO_PBDS [sr], SR_NOT_ATTACHED [sr],
 * HANDLE_INVALID. Counted. */
struct record *storage_attached_sr(const char *sr_ref, struct fault *f);

/* Sets what the storage says of an image (docs/backend-protocol.md: vdi) in the record ref. */
void vdi_apply(struct txn *t, const char *ref, struct value *vdi);
/* Sets sizes of the SR from a scan's or stat's answer. */
void sr_apply(struct txn *t, const char *ref, struct value *stat);
/* Brings the VDI records of an attached SR in line with what is there. FALSE with f set. Blocks. */
gboolean sr_scan_now(struct call *c, const char *sr_ref);
/* Removes the VDI's record with its unattached VBDs; drives become empty. */
void vdi_forget_record(struct txn *t, const char *ref);

/* Attaches the PBD's SR and scans it; sets currently_attached. FALSE with c's fault set. Blocks. */
gboolean pbd_plug_now(struct call *c, const char *pbd_ref);
/* The image that a clone, snapshot or full copy makes: a new VDI's reference (heap), NULL with c's fault set. Block. */
struct value *vdi_clone_now(struct call *c, const char *vdi_ref, gboolean snapshot);
struct value *vdi_copy_now(struct call *c, const char *vdi_ref, const char *sr_ref);
/* TRUE when an SM record has that type. */
gboolean sr_type_is_known(const char *type);

#endif
