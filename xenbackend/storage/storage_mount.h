/* storage_mount.h - file systems that a driver mounts for an SR: below the runtime directory, by mount(8), and a check
 * that does not hang when the file system does. */
#ifndef XENAPID_STORAGE_MOUNT_H
#define XENAPID_STORAGE_MOUNT_H

#include "xenbackend/storage/storage.h"

/* Where the SR's file system is mounted: RUNTIME-DIR/sr-mount/NAME. The caller frees it. */
char *mount_place(const char *name);

/* Mounts source at place, which is made, by running argv (a mount program with all its arguments). What is mounted
 * there already is kept when it is the same source, as after a restart of this process, and replaced otherwise. FALSE
 * with f set: SR_BACKEND_FAILURE. Blocks at most timeout_s. */
gboolean mount_at(const char *place, const char *source, const char *const *argv, int timeout_s, struct fault *f);
/* Unmounts and removes the place; lazily when it is busy or hangs and lazy is TRUE. Nothing mounted there is no fault.
 */
gboolean mount_end(const char *place, gboolean lazy, struct fault *f);
/* Whether something is mounted at exactly that place; *source (may be NULL) is then what, the caller's to free. */
gboolean mount_find(const char *place, char **source);

/* Whether the file system answers, asked on a thread of its own so that one that hangs holds up nobody for longer than
 * the limit: SR_BACKEND_FAILURE ["110", "", words] then, and at once for all who ask while it still hangs. */
struct mount_watch;
struct mount_watch *mount_watch_new(const char *path);
gboolean mount_answers(struct mount_watch *w, struct fault *f);
void mount_watch_free(struct mount_watch *w); /* NULL is allowed; does not wait for a file system that hangs */

#endif
