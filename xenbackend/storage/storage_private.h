/* storage_private.h - what storage.c, which keeps the attached SRs, shares with storage_open.c, which opens images. */
#ifndef XENAPID_STORAGE_PRIVATE_H
#define XENAPID_STORAGE_PRIVATE_H

#include "xenbackend/storage/storage.h"

/* Users keep an SR from being detached; operations on it run side by side, the driver locks what it must. */
struct storage_sr {
    char *uuid;
    const struct storage_driver *driver;
    struct value *device_config;
    void *sr; /* the driver's */
    guint users;
    gboolean leaving;
    gboolean coalescing; /* storage_coalesce.c */
    gint stop_coalescing;
};

/* The attached SR with one more user, which storage_sr_put takes back; NULL with f set: SR_NOT_ATTACHED [sr]. */
struct storage_sr *storage_sr_get(const char *uuid, struct fault *f);
void storage_sr_put(struct storage_sr *s); /* NULL is allowed */
typedef struct storage_sr storage_sr;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(storage_sr, storage_sr_put)

/* A parameter that must be a uuid; NULL with f set when it is none. */
const char *storage_uuid_param(const struct helper_request *req, const char *key, struct fault *f);
/* SR_OPERATION_NOT_SUPPORTED; answers FALSE. */
gboolean storage_unsupported(const char *sr, struct fault *f);
/* An image as the protocol tells it. recorded: the API knows the sizes from the driver itself. */
struct value *storage_vdi_value(const struct storage_vdi *v, gboolean recorded);
/* Tells the front how full the SR is after it was changed. */
void storage_tell_space(struct storage_sr *s);
/* What a handler that made or changed a VDI answers: NULL when it is not done. Takes over what v holds. */
struct value *storage_vdi_done(struct storage_sr *s, gboolean done, struct storage_vdi *v);

/* ---- for drivers ---- */

/* Where they may mount and note things: as the configuration says. */
extern char *storage_runtime_dir, *storage_sm_dir, *storage_plugin_dir;
/* The driver whose create, destroy, probe or attach runs on this thread. */
extern _Thread_local const struct storage_driver *storage_driver_now;
/* What the request that runs on this thread says beyond the functions' arguments: the parameter sm_config; an empty map
 * when it has none or there is no request. Borrowed. */
struct value *storage_sm_config(void);

/* ---- storage_live.c ---- */

helper_fn storage_vdi_freeze;
/* Before a snapshot of an image that the domain writer has open: base is what the snapshot is to be of, "" when the
 * driver knows how to do without. FALSE with f set: VDI_IN_USE where it cannot be done, or what went wrong. */
gboolean storage_freeze(struct storage_sr *s, const char *vdi, const char *writer, char base[STORAGE_UUID_LEN + 1],
                        struct fault *f);

/* ---- storage_coalesce.c ---- */

helper_fn storage_sr_coalesce_look, storage_sr_coalesce;
/* Whether there is something for these two, as far as that is known. */
gboolean storage_may_coalesce(const struct storage_sr *s);
/* The one under way, if any, ends soon. sr is a struct storage_sr; any thread. */
void storage_stop_coalescing(void *sr);

/* ---- storage_open.c ---- */

helper_fn storage_vdi_open, storage_vdi_stage, storage_vdi_publish, storage_vdi_unstage, storage_vdi_adopt;

#endif
