/* storage_bitmap.h - the dirty bitmaps that QEMU keeps in a qcow2 image: which blocks were written since one was added.
 */
#ifndef XENAPID_STORAGE_BITMAP_H
#define XENAPID_STORAGE_BITMAP_H

#include <glib.h>

#define BITMAP_BLOCK      65536 /* bytes that one bit stands for, as the API has it */
#define BITMAP_BLOCK_BITS 16

enum bitmap_found {
    BITMAP_MISSING,  /* the image has none of that name */
    BITMAP_UNUSABLE, /* it was not closed in order, or is damaged: what was written is not known */
    BITMAP_READ,
};

/* Bytes of a bitmap for that many bytes of a disk. */
gsize bitmap_size(gint64 virtual_size);
/* Reads the bitmap called name (QEMU's docs/interop/qcow2.txt) of the image behind fd, which nobody has open for
 * writing. bits holds bitmap_size(virtual_size) bytes; the bits of blocks that were written are set in it, the first
 * block's being the most significant one of the first byte. */
enum bitmap_found qcow2_bitmap_read(int fd, const char *name, gint64 virtual_size, guint8 *bits);

#endif
