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

/* The first of these SRs (the list ends with NULL) that is attached, counted; NULL when none is. */
struct record *storage_first_attached(const char *const *refs);

/* Sets what the storage says of an image (docs/backend-protocol.md: vdi) in the record ref. */
void vdi_apply(struct txn *t, const char *ref, struct value *vdi);
/* Sets sizes of the SR from a scan's or stat's answer. */
void sr_apply(struct txn *t, const char *ref, struct value *stat);
/* An image and its record, which come and go together; between a begin and its end no scan touches that image's record.
 * uuid is the image's. */
void image_work_begin(const char *uuid);
void image_work_end(const char *uuid);
void image_scan_begin(void);
void image_scan_end(void);
gboolean image_scan_may_be_stale(const char *uuid); /* TRUE: the scan under way must leave it alone */
/* Has the backend make an image (method, params as for storage_call; params name uuid), then the record: record makes
 * a VDI with that uuid, sr and what the storage says are set after it. Undoes the image when that fails. Answers the
 * record's reference (heap), NULL with c's fault set. Blocks. */
typedef struct value *image_record_fn(struct call *c, struct txn *t, const char *uuid, void *data);
struct value *image_make(struct call *c, const char *method, struct value *params, const struct record *sr,
                         const char *uuid, image_record_fn *record, void *data);
/* The second half of it: the record of an image that is there (made: what the backend says of it). */
struct value *image_record(struct call *c, const struct record *sr, const char *uuid, struct value *made,
                           image_record_fn *record, void *data);
/* Removes an image whose record is gone or was never made, also for a call that was cancelled. Blocks. */
void image_remove(const char *sr_uuid, const char *uuid);

/* Images that belong to nobody while a piece of work is under way (storage_draft.c): new ones until the record of who
 * is to hold them is there, old ones from when it lets go of them. They are listed on stable storage before the work
 * begins; at its end, or when the SR is attached again after a crash, those that no VBD and no suspended VM refers to
 * are removed, image and record. */
struct drafts;
struct drafts *drafts_new(void);
void drafts_add(struct drafts *d, const char *sr_uuid, const char *uuid);
gboolean drafts_begin(struct drafts *d, struct fault *f);
/* Waits until what c committed is durable, with c's fault set when it is not; frees d. Blocks. */
void drafts_end(struct call *c, struct drafts *d);
/* The same without a call, once what was committed is durable: images that nothing refers to are removed. Ends d. */
void drafts_drop(struct drafts *d);
/* All of them stay, whatever refers to them. Ends d. */
void drafts_keep(struct drafts *d);
/* Of an attached SR: those whose work has ended without being able to remove them. Blocks. */
void drafts_sweep(const char *sr_uuid);

/* Has the images of the SR merged that are not needed by themselves any more (a task "Garbage Collection"), if the
 * backend's answer (to sr.scan, vdi.destroy; may be NULL) says that there may be some. Does not wait. Not inside a
 * transaction. */
void storage_coalesce_soon(const char *sr_uuid, struct value *answer);

/* Brings the VDI records of an attached SR in line with what is there. FALSE with f set. Blocks. */
gboolean sr_scan_now(struct call *c, const char *sr_ref);
/* Removes the VDI's record with its unattached VBDs; drives become empty. */
void vdi_forget_record(struct txn *t, const char *ref);

/* Attaches the PBD's SR and scans it; sets currently_attached. FALSE with c's fault set. Blocks. */
gboolean pbd_plug_now(struct call *c, const char *pbd_ref);
/* The image that a clone, snapshot or full copy makes: a new VDI's reference (heap), NULL with c's fault set. uuid is
 * the new image's; NULL: a random one. base (NULL: none) is what vdis_freeze answered for the image. Block. */
struct value *vdi_clone_now(struct call *c, const char *vdi_ref, const char *uuid, gboolean snapshot, const char *base);
struct value *vdi_copy_now(struct call *c, const char *vdi_ref, const char *uuid, const char *sr_ref);
/* Before the snapshots of several images, records in vdis (NULLs are left out): those that the running VM writes to
 * stop at one moment, where the backend can do that. A MAP (heap) of uuid to what the snapshot is to be of, which an
 * image may be missing from; NULL with c's fault set. Blocks. */
struct value *vdis_freeze(struct call *c, const char *vm_uuid, GPtrArray *vdis);
/* TRUE when the type's driver is one that the site added. */
gboolean sr_type_is_of_site(const char *type);
/* params (taken over) with the member "context" when they name an SR or a type whose driver the site added: what such a
 * driver needs to call us. */
struct value *storage_with_context(struct call *c, struct value *params);
/* TRUE when a storage driver of the site calls. */
gboolean call_is_of_driver(const struct call *c);
/* TRUE when an SM record has that type. */
gboolean sr_type_is_known(const char *type);

#endif
