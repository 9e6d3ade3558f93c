/* storage_dir.h - a directory of disk images: its names, its lock, temporary files, and how a file becomes visible.
 *
 * UUID.raw and UUID.qcow2 are VDIs; UUID.base.qcow2 is an image that VDIs and other bases are differences to, never
 * written again; UUID.json says what an image cannot (written before it, worthless without it); *.tmp is work under
 * way or left by a crash; sr.json names the SR; .lock is held by the process that has it attached. */
#ifndef XENAPID_STORAGE_DIR_H
#define XENAPID_STORAGE_DIR_H

#include "xenbackend/storage/storage.h"

#define IMAGE_NAME_SIZE 64
#define SUFFIX_RAW      ".raw"
#define SUFFIX_QCOW2    ".qcow2"
#define SUFFIX_BASE     ".base.qcow2"
#define SUFFIX_JSON     ".json"

struct storage_dir {
    char *uuid, *path;
    int fd, lock_fd;
    gint64 quota;        /* bytes; 0: as much as the file system has */
    GMutex lock;         /* guards all below, and every change of what names stand for */
    GHashTable *making;  /* names of temporary files under way */
    GHashTable *refs;    /* uuid of a base -> number of images that are a difference to it */
    gboolean refs_known; /* FALSE: an image could not be read, so no base may be removed */
    gint64 virtual_allocation;
    /* While images are merged (storage_file_coalesce.c): */
    GHashTable *still;                  /* uuids of images that were there at the look and are not used since */
    char merging[STORAGE_UUID_LEN + 1]; /* the VDI that becomes one with its base now; "" when none does */
    gint *stop;                         /* ends that, once it is nonzero */
    GCond merged;                       /* merging has become "" */
};

/* An image as found. */
struct image {
    char name[IMAGE_NAME_SIZE];
    char uuid[STORAGE_UUID_LEN + 1];
    char base[STORAGE_UUID_LEN + 1]; /* "" when it is whole in itself */
    const char *type;                /* "raw", "qcow2" */
    gint64 virtual_size, physical;
    gboolean empty; /* qcow2 only: nothing was written to it */
    gboolean read_only;
};

/* The directory that a device_config names ("location" or "path"): absolute, without "..". NULL with f set. */
char *dir_path(struct value *device_config, struct fault *f);

/* Opens and locks it, for SR uuid (NULL: whichever it is). NULL with f set when there is none, another process has
 * it, or it holds another SR. */
struct storage_dir *dir_open(const char *path, const char *uuid, struct fault *f);
void dir_close(struct storage_dir *d);
typedef struct storage_dir storage_dir;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(storage_dir, dir_close)

/* The uuid in path/sr.json; NULL when there is none. The caller frees it. */
char *dir_read_label(const char *path);
gboolean dir_write_label(struct storage_dir *d, struct fault *f);

/* Names in the directory, without "." and "..". */
GPtrArray *dir_names(struct storage_dir *d, struct fault *f);
/* Splits "UUID.suffix"; FALSE when name is something else. suffix points into name. */
gboolean name_split(const char *name, char uuid[STORAGE_UUID_LEN + 1], const char **suffix);
void name_make(char name[IMAGE_NAME_SIZE], const char *uuid, const char *suffix);

/* Reads the image of that name; FALSE with f set (VDI_MISSING, SR_BACKEND_FAILURE). */
gboolean dir_image(struct storage_dir *d, const char *name, struct image *image, struct fault *f);
/* The VDI's image, whatever its type is. */
gboolean dir_vdi(struct storage_dir *d, const char *vdi, struct image *image, struct fault *f);
gboolean dir_has_vdi(struct storage_dir *d, const char *vdi);

/* sm_config of the VDI's sidecar, or NULL; and writing the sidecar, whole or not at all. */
struct value *dir_read_sidecar(struct storage_dir *d, const char *vdi);
gboolean dir_write_sidecar(struct storage_dir *d, const char *vdi, struct value *sm_config, const char *origin,
                           struct fault *f);

/* A new temporary name for what will be called name; known as under way until dir_tmp_end, which removes the file if
 * it is still there and frees tmp. NULL is allowed there. */
char *dir_tmp(struct storage_dir *d, const char *name);
void dir_tmp_end(struct storage_dir *d, char *tmp);
/* The full path; the caller frees it. */
char *dir_file(struct storage_dir *d, const char *name);
/* Syncs the file's content. */
gboolean dir_sync_file(struct storage_dir *d, const char *name, struct fault *f);
/* Renames (over name if it exists) and syncs the directory. */
gboolean dir_publish(struct storage_dir *d, const char *tmp, const char *name, struct fault *f);
gboolean dir_sync(struct storage_dir *d, struct fault *f);

/* Space as the front wants to see it, virtual_allocation apart. With the lock. */
gboolean dir_space(struct storage_dir *d, gint64 *size, gint64 *used, struct fault *f);
/* SR_FULL [requested, maximum] when there is no room for that many bytes more. With the lock. */
gboolean dir_room(struct storage_dir *d, gint64 bytes, struct fault *f);
/* A fault for errno err: SR_FULL when the medium is full, SR_BACKEND_FAILURE otherwise. Answers FALSE. */
gboolean dir_fault(struct storage_dir *d, const char *what, int err, struct fault *f);

#endif
