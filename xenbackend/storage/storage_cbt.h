/* storage_cbt.h - changed block tracking: which 64 KiB blocks of an image were written between two of its snapshots.
 *
 * Each image that is tracked, and each snapshot of one, has a log in STATE-DIR/cbt/SR/VDI: the image that came before
 * it and the blocks that were written since. A qcow2 image that is in use counts in a dirty bitmap of its own, which
 * QEMU keeps while any program of its family writes; a raw image is compared, at the next snapshot, with the sums that
 * its log has of each block. What cannot be known (a crash while writing, an image that was replaced) counts as
 * written: a backup reads too much and never too little. */
#ifndef XENAPID_STORAGE_CBT_H
#define XENAPID_STORAGE_CBT_H

#include "xenbackend/storage/storage_private.h"

/* Where the daemon keeps what outlives it: before the first request. Without it nothing is tracked. */
void cbt_init(const char *state_dir);

/* Begins or stops; what is so already is no fault. FALSE with f set. */
gboolean cbt_enable(struct storage_sr *s, const char *vdi, struct fault *f);
gboolean cbt_disable(struct storage_sr *s, const char *vdi, struct fault *f);
gboolean cbt_is_enabled(const struct storage_sr *s, const char *vdi);

/* vdi was frozen: the image in path, which nobody has open yet, counts from now on for the snapshot of that base. */
void cbt_freeze(struct storage_sr *s, const char *vdi, const char *path, const char *base);
/* The driver has made new, a snapshot of vdi (of job->base, where it was frozen): what was written until then becomes
 * its log. TRUE when it has one. */
gboolean cbt_snapshot(struct storage_sr *s, const char *vdi, const char *new, const struct storage_job *job);
/* The image is gone: what its log says goes to the one that came after it. */
void cbt_forget(struct storage_sr *s, const char *vdi);
/* So is the whole SR. */
void cbt_forget_all(const char *sr);

/* The blocks that were written from one image to a later one, as Base64. NULL with f set: VDI_NO_CBT_METADATA [vdi],
 * SR_BACKEND_FAILURE ["460", "", text] when neither came from the other. The caller frees it. */
char *cbt_changed(struct storage_sr *s, const char *from, const char *to, const struct storage_job *job,
                  struct fault *f);

#endif
