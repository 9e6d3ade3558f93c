/* storage.h - storage repositories as the backends see them: a driver per SR type, a table of attached SRs, and the
 * handlers of sr.* and vdi.* that every backend puts into its method table (docs/backend-protocol.md).
 *
 * What a driver makes is whole or not there: it works under temporary names, syncs, and renames last, so that a crash
 * leaves at most a leftover that the next attach or scan removes. An image that a domain may write to must not be
 * cloned, copied or resized through here: the front sees to that (VDI_IN_USE). */
#ifndef XENAPID_STORAGE_H
#define XENAPID_STORAGE_H

#include "daemon/process/helper.h"
#include "daemon/value/value.h"

#define STORAGE_UUID_LEN 36

/* How a long operation tells and is told: all of it may be NULL. */
struct storage_job {
    gint *cancel; /* becomes nonzero when the caller gave up; the operation ends with TASK_CANCELLED */
    void (*progress)(double fraction, void *data);
    void *data;
    const char *base; /* a snapshot is of what vdi_freeze answered; NULL: of the image as it is */
};

struct storage_vdi {
    char uuid[STORAGE_UUID_LEN + 1];
    char parent[STORAGE_UUID_LEN + 1]; /* of the image that it is a difference to; "" when none */
    char *location;
    const char *type; /* "raw", "qcow2"; static */
    gint64 virtual_size, physical_utilisation;
    gboolean read_only;
    struct value *sm_config; /* a MAP or NULL */
};
void storage_vdi_clear(struct storage_vdi *v);
/* For GPtrArrays of them. v may be NULL. */
void storage_vdi_free(struct storage_vdi *v);

struct storage_space {
    gint64 physical_size, physical_utilisation, virtual_allocation;
};

/* What the front says of VDIs (sets of uuids) before images are merged. */
struct storage_coalesce {
    GHashTable *idle;  /* nobody has it open or is about to */
    GHashTable *merge; /* of those: it may become one with what it is a difference to */
};

/* One SR type. Every function answers FALSE (attach: NULL) with *f set when it fails, has then changed nothing, and may
 * be called on any thread; sr is what attach answered and lives until detach, which is only called when no other
 * function runs on it. uuids were checked to be uuids. new names a VDI that must not exist yet. */
struct storage_driver {
    const char *type, *name, *description;
    const char *const *capabilities;  /* NULL-terminated: SR_PROBE, VDI_CREATE, ... */
    const char *const *configuration; /* NULL-terminated pairs: key of device_config, what it means */
    const char *vendor, *copyright, *version, *api_version, *filename; /* NULL: our own */
    /* It tells the API itself what images there are and how large: scan finds none, and no size counts. */
    gboolean keeps_records;

    /* On a medium that is not attached. */
    gboolean (*create)(const char *uuid, struct value *device_config, gint64 size, struct fault *f);
    gboolean (*destroy)(const char *uuid, struct value *device_config, struct fault *f);
    /* Adds to srs one MAP {sr, device_config, ...} for each SR found there. */
    gboolean (*probe)(struct value *device_config, struct value_builder *srs, struct fault *f);

    void *(*attach)(const char *uuid, struct value *device_config, struct fault *f);
    /* attach was asked for once more, maybe by another front; may be NULL. */
    void (*attached_again)(void *sr);
    void (*detach)(void *sr);

    /* Appends a struct storage_vdi for each VDI; cleans up what crashes left. */
    gboolean (*scan)(void *sr, GPtrArray *vdis, struct fault *f);
    gboolean (*stat)(void *sr, struct storage_space *space, struct fault *f);
    /* Whether a snapshot is of one moment also while a domain writes; NULL: no. */
    gboolean (*snapshots_live)(void *sr);

    /* Each fills *out, which the caller clears; NULL functions answer SR_OPERATION_NOT_SUPPORTED. */
    /* type "": the driver's own. */
    gboolean (*vdi_create)(void *sr, const char *vdi, gint64 virtual_size, const char *type, struct value *sm_config,
                           struct storage_vdi *out, struct fault *f);
    gboolean (*vdi_destroy)(void *sr, const char *vdi, struct fault *f);
    gboolean (*vdi_clone)(void *sr, const char *vdi, const char *new, const struct storage_job *job,
                          struct storage_vdi *out, struct fault *f);
    gboolean (*vdi_snapshot)(void *sr, const char *vdi, const char *new, const struct storage_job *job,
                             struct storage_vdi *out, struct fault *f);
    /* Of a qcow2 image that a domain has open for writing: what it holds becomes a base, an empty difference to it
     * takes its name. Whoever has it open writes to the base until storage_switch_over; both is the same to those who
     * open it later. base is filled for a snapshot. NULL: cannot be done. */
    gboolean (*vdi_freeze)(void *sr, const char *vdi, char base[STORAGE_UUID_LEN + 1], struct fault *f);
    /* Makes new, a whole image of its own, in sr from the file path of the given format; into: new exists, is replaced
     * by the copy and keeps its type and at least its size. */
    gboolean (*vdi_copy)(void *sr, const char *new, gboolean into, const char *path, const char *format,
                         const struct storage_job *job, struct storage_vdi *out, struct fault *f);
    gboolean (*vdi_resize)(void *sr, const char *vdi, gint64 virtual_size, struct storage_vdi *out, struct fault *f);
    gboolean (*vdi_stat)(void *sr, const char *vdi, struct storage_vdi *out, struct fault *f);
    /* Where the VDI's image is and what it is, for whoever opens it (a domain's disk backend, vdi_copy): *path is the
     * caller's to free. */
    gboolean (*vdi_path)(void *sr, const char *vdi, char **path, const char **format, struct fault *f);

    /* New content for an image: an empty one that no scan sees, for whoever writes to *path; of the type and size that
     * vdi has, or, when there is no such VDI, of those given. *size tells the size. It ends with exactly one of publish
     * (in one step it is what vdi stands for; when that fails it is gone) and unstage. NULL with f set. */
    void *(*vdi_stage)(void *sr, const char *vdi, gint64 virtual_size, const char *type, char **path,
                       const char **format, gint64 *size, struct fault *f);
    gboolean (*vdi_publish)(void *sr, void *stage, struct storage_vdi *out, struct fault *f);
    void (*vdi_unstage)(void *sr, void *stage);

    /* Images that are no VDIs (what VDIs are differences to) go where they are not needed any more; all three are NULL
     * where there are none. may_coalesce answers quickly whether it is worth the while. look adds the uuids (heap) of
     * those VDIs of which it must be known who uses them; from then on until the end of coalesce it is noted which ones
     * are used. coalesce takes as long as it takes, keeps nobody waiting, and stops when a VDI is wanted that it is
     * at (*job->cancel is nonzero then); it appends a struct storage_vdi for each VDI whose image is another one now.
     * What it cannot do now is left for the next time. One at a time. */
    gboolean (*may_coalesce)(void *sr);
    gboolean (*coalesce_look)(void *sr, GPtrArray *vdis, struct fault *f);
    gboolean (*coalesce)(void *sr, const struct storage_coalesce *who, const struct storage_job *job,
                         GPtrArray *changed, struct fault *f);
};

extern const struct storage_driver storage_file_driver; /* images in a directory */
extern const struct storage_driver storage_iso_driver;  /* a directory of .iso files, read-only */
extern const struct storage_driver storage_nfs_driver;  /* the same as file, on an NFS server */
extern const struct storage_driver storage_lvm_driver;  /* logical volumes, thick or thin */

/* Before the first request; c is not kept. */
void storage_init(const struct conf *c);

/* The handlers, ended by {NULL, NULL}: a backend copies them into its table. Any thread. */
extern const struct helper_method storage_methods[];

/* Whether an image may be snapshotted while a domain has it attached for writing ("writer" in the params of
 * vdi.snapshot). No, unless the backend says at its start that no process of its own holds images open. */
extern gboolean storage_writers_keep_still;
/* Set at its start by a backend whose device model serves the qcow2 images of domains: from its return on the model of
 * the domain writes to what the paths (NULL-terminated) stand for, to all from the same moment on; what it had open
 * until then is whole on the medium. Each was open or is a difference to what was. Those that it has open already, and
 * a domain that is gone, are no fault. FALSE with f set when it is not known to have happened; it may be asked again.
 * Blocks. NULL where nobody does that. */
extern gboolean (*storage_switch_over)(const char *domain, char *const *paths, struct fault *f);
/* Set at its start by a backend whose domains' disks are served by the servers that storage starts: the I/O priority
 * (io_priority.h) that a domain asks for of an image; called without storage's locks. NULL: none. */
extern int (*storage_io_priority)(const char *vdi);
/* What it answers for that image may be another now. Any thread, without locks that it takes. */
void storage_io_priority_changed(const char *vdi);
/* Whether an image may grow (vdi.resize with "writer") or move while a domain has it; drivers' capabilities say so. */
extern gboolean storage_changes_live;

/* An attached SR's VDI as a file: SR_NOT_ATTACHED [sr], VDI_MISSING [sr, vdi]. *path is the caller's to free. */
gboolean storage_vdi_path(const char *sr, const char *vdi, char **path, const char **format, struct fault *f);
/* Opens what that path names (or a file beside it that is made, mode 0600): open(2). Names of volumes, below /dev, are
 * links; an image in a directory that is one is not opened. */
int storage_open_path(const char *path, int flags);

/* 36 characters, hexadecimal and dashes: safe as part of a file name. text may be NULL. */
gboolean storage_uuid_is_valid(const char *text);
/* Sixteen bytes as a uuid of that version. */
void storage_uuid_format(const guint8 bytes[16], int version, char uuid[STORAGE_UUID_LEN + 1]);
/* A random one. */
void storage_uuid_new(char uuid[STORAGE_UUID_LEN + 1]);

#endif
