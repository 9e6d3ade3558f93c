/* vhd.c - footers and headers of VHDs. */
#include "config.h"
#include "xapi-classes/transfers/vhd.h"
#include "daemon/value/bytes.h"

#include <string.h>

/* Where the fields are. */
enum {
    F_FEATURES = 8,
    F_VERSION = 12,
    F_OFFSET = 16,
    F_APP = 28,
    F_APP_VERSION = 32,
    F_ORIGINAL = 40,
    F_SIZE = 48,
    F_GEOMETRY = 56,
    F_TYPE = 60,
    F_SUM = 64,
    F_UUID = 68
};
enum {
    H_OFFSET = 8,
    H_TABLE = 16,
    H_VERSION = 24,
    H_ENTRIES = 28,
    H_BLOCK = 32,
    H_SUM = 36,
    H_PARENT = 40,
    H_PARENT_NAME = 64
};

#define VERSION_1 0x00010000
#define NOWHERE   G_MAXUINT64

/* All bytes but the sum's own. */
static guint32 sum_of(const guint8 *bytes, gsize len, gsize sum_at)
{
    guint32 sum = 0;
    for (gsize i = 0; i < len; i++)
        if (i < sum_at || i >= sum_at + 4)
            sum += bytes[i];
    return ~sum;
}

/* Cylinders, heads and sectors as the format's specification works them out, for those who still ask. */
static guint32 geometry_of(gint64 size)
{
    gint64 sectors = MIN(size / VHD_SECTOR, 65535 * 16 * 255), per_track = 17, heads, cylinders_by_heads;
    if (sectors >= 65535 * 16 * 63) {
        per_track = 255;
        heads = 16;
        cylinders_by_heads = sectors / per_track;
    } else {
        cylinders_by_heads = sectors / per_track;
        heads = MAX((cylinders_by_heads + 1023) / 1024, 4);
        for (int step = 0; step < 2 && (cylinders_by_heads >= heads * 1024 || heads > 16); step++) {
            per_track = step == 0 ? 31 : 63;
            heads = 16;
            cylinders_by_heads = sectors / per_track;
        }
    }
    return (guint32) (cylinders_by_heads / heads) << 16 | (guint32) heads << 8 | (guint32) per_track;
}

static void put_uuid(guint8 *p, const char *uuid)
{
    int digits = 0;
    for (; *uuid && digits < 32; uuid++)
        if (g_ascii_isxdigit(*uuid)) {
            p[digits / 2] = (guint8) (p[digits / 2] << 4 | g_ascii_xdigit_value(*uuid));
            digits++;
        }
}

void vhd_format_footer(guint8 bytes[VHD_SECTOR], const struct vhd_footer *f, const char *uuid)
{
    memset(bytes, 0, VHD_SECTOR);
    memcpy(bytes, "conectix", 8);
    put32(bytes + F_FEATURES, 2);
    put32(bytes + F_VERSION, VERSION_1);
    put64(bytes + F_OFFSET, f->type == VHD_FIXED ? NOWHERE : (guint64) f->data_offset);
    memcpy(bytes + F_APP, "tap", 4); /* readers then believe the size, not the geometry */
    put32(bytes + F_APP_VERSION, 0x00010003);
    put64(bytes + F_ORIGINAL, (guint64) f->size);
    put64(bytes + F_SIZE, (guint64) f->size);
    put32(bytes + F_GEOMETRY, geometry_of(f->size));
    put32(bytes + F_TYPE, f->type);
    put_uuid(bytes + F_UUID, uuid);
    put32(bytes + F_SUM, sum_of(bytes, VHD_SECTOR, F_SUM));
}

/* The file that an export of the parent would have, in UTF-16. */
static void put_parent(guint8 *bytes, const char *uuid)
{
    g_autofree char *name = g_strconcat(uuid, ".vhd", NULL);
    put_uuid(bytes + H_PARENT, uuid);
    for (gsize i = 0; name[i]; i++)
        bytes[H_PARENT_NAME + 2 * i + 1] = (guint8) name[i];
}

void vhd_format_header(guint8 bytes[VHD_HEADER], const struct vhd_header *h)
{
    memset(bytes, 0, VHD_HEADER);
    memcpy(bytes, "cxsparse", 8);
    put64(bytes + H_OFFSET, NOWHERE);
    put64(bytes + H_TABLE, (guint64) h->table_offset);
    put32(bytes + H_VERSION, VERSION_1);
    put32(bytes + H_ENTRIES, h->entries);
    put32(bytes + H_BLOCK, h->block_size);
    if (h->parent)
        put_parent(bytes, h->parent);
    put32(bytes + H_SUM, sum_of(bytes, VHD_HEADER, H_SUM));
}

gboolean vhd_parse_footer(const guint8 bytes[VHD_SECTOR], struct vhd_footer *f)
{
    if (memcmp(bytes, "conectix", 8) != 0 || get32(bytes + F_SUM) != sum_of(bytes, VHD_SECTOR, F_SUM))
        return FALSE;
    guint64 size = get64(bytes + F_SIZE), offset = get64(bytes + F_OFFSET);
    f->type = get32(bytes + F_TYPE);
    f->size = (gint64) size;
    f->data_offset = f->type == VHD_FIXED ? 0 : (gint64) offset;
    return f->type >= VHD_FIXED && f->type <= VHD_DIFFERENCING && size > 0 && size <= (guint64) VHD_MOST &&
           (f->type == VHD_FIXED || offset <= (guint64) VHD_MOST);
}

gboolean vhd_parse_header(const guint8 bytes[VHD_HEADER], struct vhd_header *h)
{
    if (memcmp(bytes, "cxsparse", 8) != 0 || get32(bytes + H_SUM) != sum_of(bytes, VHD_HEADER, H_SUM))
        return FALSE;
    guint64 table = get64(bytes + H_TABLE);
    h->table_offset = (gint64) table;
    h->entries = get32(bytes + H_ENTRIES);
    h->block_size = get32(bytes + H_BLOCK);
    h->parent = NULL;
    gboolean power_of_two = (h->block_size & (h->block_size - 1)) == 0;
    return table <= (guint64) VHD_MOST && h->entries <= VHD_MOST_BLOCKS && power_of_two && h->block_size >= 64 * 1024 &&
           h->block_size <= 64 * 1024 * 1024;
}

gsize vhd_bitmap_size(guint32 block_size)
{
    gsize bytes = block_size / VHD_SECTOR / 8;
    return (bytes + VHD_SECTOR - 1) / VHD_SECTOR * VHD_SECTOR;
}

gboolean vhd_bitmap_has(const guint8 *bitmap, gsize sector)
{
    return (bitmap[sector / 8] & 0x80 >> sector % 8) != 0;
}
