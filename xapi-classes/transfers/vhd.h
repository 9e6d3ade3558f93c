/* vhd.h - the VHD format (Microsoft's Virtual Hard Disk Image Format Specification, 2006): its headers as bytes. No
 * input, no output. */
#ifndef XENAPID_VHD_H
#define XENAPID_VHD_H

#include <glib.h>

#define VHD_SECTOR      512
#define VHD_HEADER      1024
#define VHD_BLOCK       (2 * 1024 * 1024)     /* of those that are written here */
#define VHD_MOST        ((gint64) 2040 << 30) /* the largest disk */
#define VHD_MOST_BLOCKS (4 * 1024 * 1024)     /* of those that are read */
#define VHD_UNUSED      0xffffffffu

enum vhd_type { VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFFERENCING = 4 };

struct vhd_footer {
    enum vhd_type type;
    gint64 size;        /* of the disk */
    gint64 data_offset; /* of the header */
};
struct vhd_header {
    gint64 table_offset;
    guint32 entries, block_size;
    const char *parent; /* uuid of what it is a difference to; NULL: it is whole. Not read */
};

void vhd_format_footer(guint8 bytes[VHD_SECTOR], const struct vhd_footer *f, const char *uuid);
void vhd_format_header(guint8 bytes[VHD_HEADER], const struct vhd_header *h);
/* FALSE when it is none, or damaged. */
gboolean vhd_parse_footer(const guint8 bytes[VHD_SECTOR], struct vhd_footer *f);
gboolean vhd_parse_header(const guint8 bytes[VHD_HEADER], struct vhd_header *h);
/* Bytes of the bitmap before each block's data. */
gsize vhd_bitmap_size(guint32 block_size);
gboolean vhd_bitmap_has(const guint8 *bitmap, gsize sector);

#endif
