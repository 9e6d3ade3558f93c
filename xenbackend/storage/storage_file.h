/* storage_file.h - the VDI operations of the driver `file` (storage_file_vdi.c), as its table in storage_file.c lists
 * them, and what both share. The signatures are those of struct storage_driver. */
#ifndef XENAPID_STORAGE_FILE_H
#define XENAPID_STORAGE_FILE_H

#include "xenbackend/storage/storage_dir.h"

/* The bases' references: one image more or less is a difference to base ("" is no base). unref removes the bases that
 * nobody needs any more. With the directory's lock. */
void file_ref_base(struct storage_dir *d, const char *base);
void file_unref_base(struct storage_dir *d, const char *base);
/* Fills *out from what is on the medium. */
void file_describe(struct storage_dir *d, const struct image *image, struct storage_vdi *out);

gboolean file_vdi_create(void *sr, const char *vdi, gint64 virtual_size, const char *type, struct value *sm_config,
                         struct storage_vdi *out, struct fault *f);
gboolean file_vdi_destroy(void *sr, const char *vdi, struct fault *f);
gboolean file_vdi_clone(void *sr, const char *vdi, const char *new, const struct storage_job *job,
                        struct storage_vdi *out, struct fault *f);
gboolean file_vdi_freeze(void *sr, const char *vdi, char base[STORAGE_UUID_LEN + 1], struct fault *f);
gboolean file_vdi_copy(void *sr, const char *new, gboolean into, const char *path, const char *format,
                       const struct storage_job *job, struct storage_vdi *out, struct fault *f);
gboolean file_vdi_resize(void *sr, const char *vdi, gint64 virtual_size, struct storage_vdi *out, struct fault *f);
gboolean file_vdi_stat(void *sr, const char *vdi, struct storage_vdi *out, struct fault *f);
gboolean file_vdi_path(void *sr, const char *vdi, char **path, const char **format, struct fault *f);

void *file_vdi_stage(void *sr, const char *vdi, gint64 virtual_size, const char *type, char **path, const char **format,
                     gint64 *size, struct fault *f);
gboolean file_vdi_publish(void *sr, void *stage, struct storage_vdi *out, struct fault *f);
void file_vdi_unstage(void *sr, void *stage);

/* ---- merging images (storage_file_coalesce.c) ---- */

gboolean file_may_coalesce(void *sr);
gboolean file_coalesce_look(void *sr, GPtrArray *vdis, struct fault *f);
gboolean file_coalesce(void *sr, const struct storage_coalesce *who, const struct storage_job *job, GPtrArray *changed,
                       struct fault *f);
/* vdi is about to be used or changed: it is not merged until the next look; if it is just being merged, that has ended.
 * With the lock, which may be let go meanwhile. */
void file_leave_alone(struct storage_dir *d, const char *vdi);
/* SR_BACKEND_FAILURE_109 when image's chain must not become longer (storage_file_chain.c). With the lock. */
gboolean file_chain_has_room(struct storage_dir *d, const struct image *image, struct fault *f);

/* ---- the steps of making an image, for storage_file_stage.c ---- */

gboolean file_check_size(const char *vdi, gint64 *size, struct fault *f);
/* Makes an empty image in the temporary file tmp. */
gboolean file_make_empty(struct storage_dir *d, const char *tmp, const char *vdi, gint64 size, const char *type,
                         struct fault *f);
/* The last step, with the lock: the image in tmp, which is complete, becomes a VDI, or takes the place of old. */
gboolean file_publish_new(struct storage_dir *d, const char *tmp, const char *vdi, const char *type,
                          struct value *sm_config, const char *origin, struct storage_vdi *out, struct fault *f);
gboolean file_publish_over(struct storage_dir *d, const char *tmp, const struct image *old, struct storage_vdi *out,
                           struct fault *f);

#endif
