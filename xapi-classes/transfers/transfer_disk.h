/* transfer_disk.h - one disk's content in the forms that /export_raw_vdi and /import_raw_vdi know. */
#ifndef XENAPID_TRANSFER_DISK_H
#define XENAPID_TRANSFER_DISK_H

#include "xapi-classes/transfers/disk.h"
#include "xapi-classes/transfers/image_io.h"
#include "xapi-classes/transfers/transfer.h"

#define HTTP_BINARY "application/octet-stream"

/* The headers that all forms have. */
void disk_put_headers(struct transfer *t, const char *uuid, const char *format);

/* Answer with the disk as a dynamic VHD or a qcow2; with a base (NULL is allowed) what has changed since it, as a
 * differencing VHD or a qcow2 with a backing file named after it. When they fail, the transfer's fault is set. */
void vhd_send(struct transfer *t, struct disk *d, const char *uuid, struct disk *base, const char *base_uuid);
void qcow2_send(struct transfer *t, struct disk *d, const char *uuid, struct disk *base, const char *base_uuid);

/* ---- transfer_image.c ---- */

/* What an image that comes is for. */
struct image_target {
    const char *sr_uuid, *vdi_uuid, *vdi_ref;
    struct disk *disk;   /* the new content */
    gboolean difference; /* what the image does not say stays, though nothing in it says so */
};

/* Read the body as an image and write the new content. FALSE with the transfer's fault set. */
gboolean vhd_receive(struct transfer *t, const struct image_target *target);
gboolean qcow2_receive(struct transfer *t, const struct image_target *target);

#endif
