/* storage_lvm.h - the driver `lvm`: a volume group per SR, a logical volume per VDI. What its SR part (storage_lvm.c)
 * and its VDI part (storage_lvm_vdi.c) share.
 *
 * VG_XenStorage-SR is the group; LV-UUID a VDI, raw; tmp-UUID-N work under way or left by a crash; old-UUID what a new
 * content is about to replace; pool the thin pool, if the SR is thin. The tag xenapid.wipe=OFFSET says that what lies
 * behind that offset is not zeroed yet, xenapid.origin=UUID what it was cloned of. */
#ifndef XENAPID_STORAGE_LVM_H
#define XENAPID_STORAGE_LVM_H

#include "xenbackend/storage/storage.h"

#define LVM_VG_PREFIX  "VG_XenStorage-"
#define LVM_VDI_PREFIX "LV-"
#define LVM_TMP_PREFIX "tmp-"
#define LVM_OLD_PREFIX "old-"
#define LVM_POOL       "pool"
#define LVM_TAG_WIPE   "xenapid.wipe="
#define LVM_TAG_ORIGIN "xenapid.origin="
#define LVM_NAME_SIZE  96

struct lvm_sr {
    char uuid[STORAGE_UUID_LEN + 1];
    char vg[LVM_NAME_SIZE];
    char *devices; /* separated by commas */
    gboolean thin;
    gint64 extent;
    GMutex lock;
    GHashTable *making; /* names of volumes under way, under the lock */
};

/* A logical volume as lvs tells it. */
struct lvm_lv {
    char name[LVM_NAME_SIZE];
    gint64 size;
    double data_percent; /* thin volumes and pools; -1 otherwise */
    GStrv tags;
};
void lvm_lv_free(struct lvm_lv *v);

/* Runs an LVM command: devices (NULL: all) are the only ones that it looks at. args is NULL-terminated and begins with
 * the command's name. What it says of a lack of space becomes SR_FULL. *out (may be NULL) is the caller's. */
gboolean lvm_run(const char *devices, const char *const *args, char **out, struct fault *f);
/* The volumes of the group, or, when name is not NULL, that one. NULL with f set. */
GPtrArray *lvm_volumes(struct lvm_sr *s, const char *name, struct fault *f);
/* Parses lvs' JSON; NULL when it is none. */
GPtrArray *lvm_parse_volumes(const char *text);
/* The group's size, free space and extent size. */
gboolean lvm_group(const char *devices, const char *vg, gint64 *size, gint64 *free, gint64 *extent, struct fault *f);
gboolean lvm_parse_group(const char *text, gint64 *size, gint64 *free, gint64 *extent);

/* Up to a whole number of extents. */
gint64 lvm_round(const struct lvm_sr *s, gint64 size);
/* /dev/GROUP/VOLUME; the caller frees it. */
char *lvm_device(const struct lvm_sr *s, const char *name);
/* Zeroes the volume from there to its end. */
gboolean lvm_wipe(const char *path, gint64 from, const struct storage_job *job, struct fault *f);
/* The offset of the wipe tag; -1 when there is none. */
gint64 lvm_wipe_offset(const struct lvm_lv *v);
/* Fills *out of a volume named LV-UUID. */
void lvm_describe(const struct lvm_lv *v, struct storage_vdi *out);
gboolean lvm_remove(struct lvm_sr *s, const char *name, struct fault *f);
gboolean lvm_rename(struct lvm_sr *s, const char *from, const char *to, struct fault *f);
gboolean lvm_is_making(struct lvm_sr *s, const char *name);

gboolean lvm_vdi_create(void *sr, const char *vdi, gint64 virtual_size, const char *type, struct value *sm_config,
                        struct storage_vdi *out, struct fault *f);
gboolean lvm_vdi_destroy(void *sr, const char *vdi, struct fault *f);
gboolean lvm_vdi_clone(void *sr, const char *vdi, const char *new, const struct storage_job *job,
                       struct storage_vdi *out, struct fault *f);
gboolean lvm_vdi_copy(void *sr, const char *new, gboolean into, const char *path, const char *format,
                      const struct storage_job *job, struct storage_vdi *out, struct fault *f);
gboolean lvm_vdi_resize(void *sr, const char *vdi, gint64 virtual_size, struct storage_vdi *out, struct fault *f);
gboolean lvm_vdi_stat(void *sr, const char *vdi, struct storage_vdi *out, struct fault *f);
gboolean lvm_vdi_path(void *sr, const char *vdi, char **path, const char **format, struct fault *f);
void *lvm_vdi_stage(void *sr, const char *vdi, gint64 virtual_size, const char *type, char **path, const char **format,
                    gint64 *size, struct fault *f);
gboolean lvm_vdi_publish(void *sr, void *stage, struct storage_vdi *out, struct fault *f);
void lvm_vdi_unstage(void *sr, void *stage);

#endif
