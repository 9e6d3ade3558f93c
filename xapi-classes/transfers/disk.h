/* disk.h - the bytes of a disk image, which the backend gives the front over NBD. All functions block. */
#ifndef XENAPID_DISK_H
#define XENAPID_DISK_H

#include "daemon/store/store.h"
#include "xapi-classes/transfers/disk_queue.h" /* DISK_CHUNK: what is best read and written at once */

struct disk;

/* For reading. NULL with f set. */
struct disk *disk_open(const char *sr_uuid, const char *vdi_uuid, struct fault *f);
/* New content for the image, or for one that is to be made of that type and size; all zeroes, seen by nobody before
 * disk_publish. */
struct disk *disk_stage(const char *sr_uuid, const char *vdi_uuid, gint64 size, const char *type, struct fault *f);
gint64 disk_size(const struct disk *d);
gboolean disk_read(struct disk *d, void *buffer, gsize len, gint64 offset, struct fault *f);
/* Of a staged one, over what is zero there. Zeroes cost nothing. It may be written later: what fails then, a later call
 * or disk_publish tells. */
gboolean disk_write(struct disk *d, const void *data, gsize len, gint64 offset, struct fault *f);
/* Waits until it is written: what is read of a staged one from then on is the new content. */
gboolean disk_rest(struct disk *d, struct fault *f);
/* What begins at offset: *len bytes that are all zeroes, or (*data) may be anything. FALSE with f set. */
gboolean disk_extent(struct disk *d, gint64 offset, gint64 *len, gboolean *data, struct fault *f);
/* Of a staged image whose bytes, up to length, are a qcow2: what it is the content of becomes the content of d, without
 * another copy, when *adopted is told; image is of no more use then. Else both are as they were: it is for another
 * disk, not plain, damaged, or this repository cannot. FALSE with f set: neither is of use. */
gboolean disk_adopt(struct disk *d, struct disk *image, gint64 length, gint *cancel, gboolean *adopted,
                    struct fault *f);
/* The staged content becomes the image's. Answers what the backend says of it (heap). NULL with f set: then nothing was
 * changed, and d is of no more use. */
struct value *disk_publish(struct disk *d, gint *cancel, struct fault *f);
/* Closes; what was staged and not published is dropped. NULL is allowed. */
void disk_free(struct disk *d);
typedef struct disk disk;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(disk, disk_free)

gboolean is_zero(const void *data, gsize len);

#endif
