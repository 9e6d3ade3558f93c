/* disk_map.h - which blocks of a disk have to be sent: those with data, or those in which it differs from another. */
#ifndef XENAPID_DISK_MAP_H
#define XENAPID_DISK_MAP_H

#include "xapi-classes/transfers/disk.h"
#include "xapi-classes/transfers/transfer.h"

/* A byte for each block. */
enum disk_block {
    BLOCK_LEFT_OUT, /* zeroes; with a base: as there */
    BLOCK_ZERO,     /* only with a base: zeroes where the base has something else */
    BLOCK_DATA,
};

struct disk_map {
    gsize block;    /* bytes */
    guint32 n;      /* of them; the last one may reach past the end of the disk */
    guint32 n_used; /* of them not left out, */
    guint32 n_data; /* and with data */
    guint8 *state;  /* enum disk_block */
};

/* With base (NULL is allowed) both disks are read and compared; without it the storage's word is taken for what is
 * zero. What base lacks at its end counts as zeroes. progress: the share of the transfer's progress that this is. The
 * block must be a power of two. NULL with the transfer's fault set. Blocks. */
struct disk_map *disk_map_new(struct transfer *t, struct disk *d, struct disk *base, gsize block, double progress);
void disk_map_free(struct disk_map *m); /* NULL is allowed */
typedef struct disk_map disk_map;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(disk_map, disk_map_free)

/* Reads len bytes from offset on; past the end of the disk there are zeroes. */
gboolean disk_read_padded(struct disk *d, char *buffer, gsize len, gint64 offset, struct fault *f);

#endif
