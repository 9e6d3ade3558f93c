/* storage_bitmap.c - reads a dirty bitmap out of a qcow2 image without starting a tool. */
#include "config.h"
#include "xenbackend/storage/storage_bitmap.h"

#include "daemon/value/bytes.h"

#include <string.h>
#include <unistd.h>

#define QCOW2_MAGIC       0x514649fbU
#define HEADER_V3         104
#define EXTENSION_BITMAPS 0x23852875U
#define AUTOCLEAR_BITMAPS 1U
#define MOST_EXTENSIONS   64
#define MOST_BITMAPS      65535
#define MOST_DIRECTORY    (16 * 1024 * 1024)
#define MOST_TABLE        (8 * 1024 * 1024) /* entries */
#define ENTRY_SIZE        24
#define FLAG_IN_USE       1U
#define OFFSET_MASK       G_GUINT64_CONSTANT(0x00fffffffffffe00)

struct directory {
    guint32 n;
    guint64 size, offset;
};

struct entry {
    guint64 table_offset;
    guint32 table_size, flags;
    guint granularity_bits;
};

static gboolean read_at(int fd, void *buffer, gsize len, guint64 offset)
{
    return offset <= G_MAXINT64 / 2 && pread(fd, buffer, len, (off_t) offset) == (gssize) len;
}

gsize bitmap_size(gint64 virtual_size)
{
    return (gsize) ((virtual_size + 8 * (gint64) BITMAP_BLOCK - 1) / (8 * (gint64) BITMAP_BLOCK));
}

/* ---- where the bitmaps are ---- */

static enum bitmap_found find_directory(int fd, const guint8 *header, struct directory *d)
{
    guint64 at = get32(header + 100);
    for (int i = 0; i < MOST_EXTENSIONS; i++) {
        guint8 e[8 + 24];
        if (!read_at(fd, e, 8, at))
            return BITMAP_UNUSABLE;
        guint32 type = get32(e), len = get32(e + 4);
        if (type == 0)
            return BITMAP_MISSING;
        if (type == EXTENSION_BITMAPS) {
            if (len != 24 || !read_at(fd, e + 8, 24, at + 8))
                return BITMAP_UNUSABLE;
            *d = (struct directory){get32(e + 8), get64(e + 16), get64(e + 24)};
            return d->n <= MOST_BITMAPS && d->size <= MOST_DIRECTORY ? BITMAP_READ : BITMAP_UNUSABLE;
        }
        at += 8 + ((guint64) len + 7) / 8 * 8;
    }
    return BITMAP_UNUSABLE;
}

static enum bitmap_found find_entry(const guint8 *p, const struct directory *d, const char *name, struct entry *found)
{
    const guint8 *end = p + d->size;
    for (guint32 i = 0; i < d->n; i++) {
        if (end - p < ENTRY_SIZE)
            return BITMAP_UNUSABLE;
        gsize name_len = (gsize) p[18] << 8 | p[19], extra = get32(p + 20);
        gsize len = (ENTRY_SIZE + extra + name_len + 7) / 8 * 8;
        if (extra > MOST_DIRECTORY || len > (gsize) (end - p))
            return BITMAP_UNUSABLE;
        if (name_len == strlen(name) && memcmp(p + ENTRY_SIZE + extra, name, name_len) == 0) {
            *found = (struct entry){get64(p), get32(p + 8), get32(p + 12), p[17]};
            return BITMAP_READ;
        }
        p += len;
    }
    return BITMAP_MISSING;
}

static enum bitmap_found find(int fd, const guint8 *header, const char *name, struct entry *found)
{
    struct directory d = {0};
    enum bitmap_found there = find_directory(fd, header, &d);
    if (there != BITMAP_READ)
        return there;
    g_autofree guint8 *text = g_malloc(d.size + 1);
    if (!read_at(fd, text, d.size, d.offset))
        return BITMAP_UNUSABLE;
    return find_entry(text, &d, name, found);
}

/* ---- the bits ---- */

/* QEMU's first block is the least significant bit. */
static guint8 turned(guint8 b)
{
    b = (guint8) (b >> 4 | b << 4);
    b = (guint8) ((b & 0xcc) >> 2 | (b & 0x33) << 2);
    return (guint8) ((b & 0xaa) >> 1 | (b & 0x55) << 1);
}

static gboolean read_bits(int fd, const struct entry *e, gsize cluster, guint8 *bits, gsize size)
{
    g_autofree guint8 *table = g_malloc((gsize) e->table_size * 8 + 1), *data = g_malloc(cluster);
    if (e->table_size < (size + cluster - 1) / cluster ||
        !read_at(fd, table, (gsize) e->table_size * 8, e->table_offset))
        return FALSE;
    for (gsize i = 0, at = 0; at < size; i++, at += cluster) {
        guint64 word = get64(table + i * 8), offset = word & OFFSET_MASK;
        gsize n = MIN(cluster, size - at);
        if (offset == 0) {
            memset(data, (word & 1) != 0 ? 0xff : 0, n);
        } else if (!read_at(fd, data, n, offset)) {
            return FALSE;
        }
        for (gsize k = 0; k < n; k++)
            bits[at + k] |= turned(data[k]);
    }
    return TRUE;
}

enum bitmap_found qcow2_bitmap_read(int fd, const char *name, gint64 virtual_size, guint8 *bits)
{
    guint8 h[HEADER_V3];
    struct entry e;
    if (!read_at(fd, h, sizeof h, 0) || get32(h) != QCOW2_MAGIC || get32(h + 4) != 3)
        return BITMAP_MISSING;
    if ((get64(h + 88) & AUTOCLEAR_BITMAPS) == 0) /* a program that knows nothing of them has written to it */
        return BITMAP_MISSING;
    guint32 cluster_bits = get32(h + 20);
    enum bitmap_found found = find(fd, h, name, &e);
    if (found != BITMAP_READ)
        return found;
    if ((e.flags & FLAG_IN_USE) != 0 || e.granularity_bits != BITMAP_BLOCK_BITS || cluster_bits < 9 ||
        cluster_bits > 21 || e.table_size > MOST_TABLE)
        return BITMAP_UNUSABLE;
    return read_bits(fd, &e, (gsize) 1 << cluster_bits, bits, bitmap_size(virtual_size)) ? BITMAP_READ
                                                                                         : BITMAP_UNUSABLE;
}
