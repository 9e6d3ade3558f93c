/* transfer_disk.h - one disk's content in the forms that /export_raw_vdi and /import_raw_vdi know. */
#ifndef XENAPID_TRANSFER_DISK_H
#define XENAPID_TRANSFER_DISK_H

#include "xapi-classes/disk.h"
#include "xapi-classes/transfer.h"

#define HTTP_BINARY "application/octet-stream"

/* The headers that all forms have. */
void disk_put_headers(struct transfer *t, const char *uuid, const char *format);

/* vhd: a dynamic one out; fixed and dynamic ones in. */
void vhd_send(struct transfer *t, struct disk *d, const char *uuid);
/* FALSE with the fault set. */
gboolean vhd_receive(struct transfer *t, struct disk *d, const char *vdi_ref);

#endif
