/* transfer_vhd.c - disks as VHD on the wire: written with a table of what is not zero, read as it comes. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "xapi-classes/transfer_disk.h"
#include "xapi-classes/vhd.h"

/* ---- out ---- */

/* Which blocks hold data: a byte for each. NULL with the fault set. */
static guint8 *find_blocks(struct transfer *t, struct disk *d, guint32 entries, guint32 *used)
{
    g_autofree guint8 *blocks = g_malloc0(entries);
    for (gint64 at = 0; at < disk_size(d);) {
        gint64 len;
        gboolean data;
        if (!disk_extent(d, at, &len, &data, &t->fault))
            return NULL;
        if (data && len > 0)
            memset(blocks + at / VHD_BLOCK, 1, (gsize) ((at + len - 1) / VHD_BLOCK - at / VHD_BLOCK + 1));
        at += MAX(len, 1);
    }
    *used = 0;
    for (guint32 i = 0; i < entries; i++)
        *used += blocks[i];
    return g_steal_pointer(&blocks);
}

static gsize table_size(guint32 entries)
{
    return ((gsize) entries * 4 + VHD_SECTOR - 1) / VHD_SECTOR * VHD_SECTOR;
}

static gboolean send_table(struct transfer *t, const guint8 *blocks, guint32 entries)
{
    gsize size = table_size(entries), bitmap = vhd_bitmap_size(VHD_BLOCK);
    g_autofree guint32 *table = g_malloc(size);
    guint32 sector = (guint32) ((VHD_SECTOR + VHD_HEADER + size) / VHD_SECTOR);
    memset(table, 0xff, size);
    for (guint32 i = 0; i < entries; i++) {
        if (!blocks[i])
            continue;
        table[i] = GUINT32_TO_BE(sector);
        sector += (guint32) ((bitmap + VHD_BLOCK) / VHD_SECTOR);
    }
    return transfer_write(t, table, size);
}

/* The last block may reach past the end of the disk. */
static gboolean send_block(struct transfer *t, struct disk *d, guint32 block, char *buffer)
{
    gint64 at = (gint64) block * VHD_BLOCK;
    gsize len = (gsize) MIN(VHD_BLOCK, disk_size(d) - at), bitmap = vhd_bitmap_size(VHD_BLOCK);
    memset(buffer, 0xff, bitmap);
    if (!disk_read(d, buffer + bitmap, len, at, &t->fault))
        return FALSE;
    memset(buffer + bitmap + len, 0, VHD_BLOCK - len);
    return transfer_write(t, buffer, bitmap + VHD_BLOCK);
}

static gboolean send_all(struct transfer *t, struct disk *d, const guint8 *blocks, guint32 entries,
                         const guint8 *footer)
{
    guint8 header[VHD_HEADER];
    struct vhd_header h = {.table_offset = VHD_SECTOR + VHD_HEADER, .entries = entries, .block_size = VHD_BLOCK};
    g_autofree char *buffer = g_malloc(vhd_bitmap_size(VHD_BLOCK) + VHD_BLOCK);
    vhd_format_header(header, &h);
    if (!transfer_write(t, footer, VHD_SECTOR) || !transfer_write(t, header, sizeof header) ||
        !send_table(t, blocks, entries))
        return FALSE;
    for (guint32 i = 0; i < entries; i++) {
        if (blocks[i] && !send_block(t, d, i, buffer))
            return FALSE;
        transfer_progress(t, (double) i / (double) entries);
    }
    return transfer_write(t, footer, VHD_SECTOR);
}

void vhd_send(struct transfer *t, struct disk *d, const char *uuid)
{
    guint8 footer[VHD_SECTOR];
    guint32 entries = (guint32) ((disk_size(d) + VHD_BLOCK - 1) / VHD_BLOCK), used = 0;
    struct vhd_footer f = {.type = VHD_DYNAMIC, .size = disk_size(d), .data_offset = VHD_SECTOR};
    if (f.size > VHD_MOST) {
        g_autofree char *most = g_strdup_printf("%" G_GINT64_FORMAT, VHD_MOST);
        fault_set(&t->fault, "VDI_TOO_LARGE", uuid, most, NULL);
        return;
    }
    g_autofree guint8 *blocks = find_blocks(t, d, entries, &used);
    if (!blocks)
        return;
    vhd_format_footer(footer, &f, uuid);
    gint64 length = 2 * VHD_SECTOR + VHD_HEADER + (gint64) table_size(entries) +
                    (gint64) used * ((gint64) vhd_bitmap_size(VHD_BLOCK) + VHD_BLOCK);
    disk_put_headers(t, uuid, "vhd");
    http_begin(t->r, 200, HTTP_BINARY, length);
    if (!t->is_head)
        send_all(t, d, blocks, entries, footer);
    transfer_end_answer(t);
}

/* ---- in ---- */

struct reading {
    struct transfer *t;
    struct disk *d;
    gint64 at; /* in the stream */
    char *buffer;
};

static gboolean failed(struct reading *x, const char *what)
{
    return fault_set(&x->t->fault, "IMPORT_ERROR", what, NULL);
}

static gboolean get(struct reading *x, void *buffer, gsize len)
{
    gssize n = transfer_read(x->t, buffer, len);
    if (n >= 0 && n < (gssize) len)
        fault_set(&x->t->fault, "IMPORT_ERROR_PREMATURE_EOF", NULL);
    x->at += (gint64) len;
    return n == (gssize) len;
}

static gboolean go_to(struct reading *x, gint64 offset)
{
    if (offset < x->at)
        return failed(x, "the parts of the VHD are not in order");
    while (x->at < offset)
        if (!get(x, x->buffer, (gsize) MIN(DISK_CHUNK, offset - x->at)))
            return FALSE;
    return TRUE;
}

static gboolean fits(struct reading *x, gint64 size, const char *vdi_ref)
{
    g_autofree char *least = g_strdup_printf("%" G_GINT64_FORMAT, size);
    return size <= disk_size(x->d) || fault_set(&x->t->fault, "VDI_TOO_SMALL", vdi_ref, least, NULL);
}

/* A fixed one is the disk and then the footer: first is its first sector. */
static gboolean receive_fixed(struct reading *x, const guint8 *first)
{
    gint64 size = x->t->length >= 0 ? x->t->length - VHD_SECTOR : disk_size(x->d);
    struct vhd_footer f;
    guint8 footer[VHD_SECTOR];
    if (size < VHD_SECTOR || size > disk_size(x->d))
        return failed(x, "this is no VHD, or not of this size");
    if (!disk_write(x->d, first, VHD_SECTOR, 0, &x->t->fault))
        return FALSE;
    while (x->at < size) {
        gint64 at = x->at;
        gsize n = (gsize) MIN(DISK_CHUNK, size - at);
        if (!get(x, x->buffer, n) || !disk_write(x->d, x->buffer, n, at, &x->t->fault))
            return FALSE;
        transfer_progress(x->t, (double) at / (double) size);
    }
    return get(x, footer, sizeof footer) && ((vhd_parse_footer(footer, &f) && f.type == VHD_FIXED && f.size == size) ||
                                             failed(x, "the VHD has no footer"));
}

/* Where a block lies in the stream. */
struct place {
    guint32 sector, block;
};

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->sector < y->sector ? -1 : x->sector > y->sector;
}

static GArray *read_table(struct reading *x, guint32 entries)
{
    g_autoptr(GArray) places = g_array_new(FALSE, FALSE, sizeof(struct place));
    for (guint32 i = 0; i < entries; i++) {
        guint32 sector;
        if (!get(x, &sector, sizeof sector))
            return NULL;
        struct place p = {GUINT32_FROM_BE(sector), i};
        if (p.sector != VHD_UNUSED)
            g_array_append_val(places, p);
    }
    g_array_sort(places, compare_places);
    return g_steal_pointer(&places);
}

/* Sectors that the bitmap does not name are zero, whatever stands there. */
static void apply_bitmap(char *data, gsize len, const guint8 *bitmap, gsize first_sector)
{
    for (gsize i = 0; i < len / VHD_SECTOR; i++) {
        gsize sector = first_sector + i;
        if (!(bitmap[sector / 8] & 0x80 >> sector % 8))
            memset(data + i * VHD_SECTOR, 0, VHD_SECTOR);
    }
}

static gboolean receive_block(struct reading *x, const struct place *p, guint32 block_size)
{
    gsize bitmap_size = vhd_bitmap_size(block_size);
    g_autofree guint8 *bitmap = g_malloc(bitmap_size);
    gint64 start = (gint64) p->block * block_size;
    if (!go_to(x, (gint64) p->sector * VHD_SECTOR) || !get(x, bitmap, bitmap_size))
        return FALSE;
    for (gsize done = 0; done < block_size; done += DISK_CHUNK) {
        gsize n = MIN(DISK_CHUNK, block_size - done);
        if (!get(x, x->buffer, n))
            return FALSE;
        apply_bitmap(x->buffer, n, bitmap, done / VHD_SECTOR);
        gint64 at = start + (gint64) done, room = MAX(disk_size(x->d) - at, 0);
        if (!disk_write(x->d, x->buffer, (gsize) MIN((gint64) n, room), at, &x->t->fault))
            return FALSE;
    }
    return TRUE;
}

static gboolean receive_dynamic(struct reading *x, const struct vhd_footer *f)
{
    guint8 bytes[VHD_HEADER], footer[VHD_SECTOR];
    struct vhd_header h;
    struct vhd_footer last;
    if (!go_to(x, f->data_offset) || !get(x, bytes, sizeof bytes))
        return FALSE;
    if (!vhd_parse_header(bytes, &h))
        return failed(x, "the VHD's header is damaged");
    if (!go_to(x, h.table_offset))
        return FALSE;
    g_autoptr(GArray) places = read_table(x, h.entries);
    for (guint i = 0; places && i < places->len; i++) {
        const struct place *p = &g_array_index(places, struct place, i);
        if ((gint64) p->block * h.block_size >= f->size)
            return failed(x, "the VHD has more blocks than its size");
        if (!receive_block(x, p, h.block_size))
            return FALSE;
        transfer_progress(x->t, (double) i / (double) places->len);
    }
    if (!places || !get(x, footer, sizeof footer))
        return FALSE;
    return vhd_parse_footer(footer, &last) || failed(x, "the VHD has no footer");
}

gboolean vhd_receive(struct transfer *t, struct disk *d, const char *vdi_ref)
{
    guint8 first[VHD_SECTOR];
    struct vhd_footer f;
    g_autofree char *buffer = g_malloc(DISK_CHUNK);
    struct reading x = {.t = t, .d = d, .buffer = buffer};
    if (!get(&x, first, sizeof first))
        return FALSE;
    if (!vhd_parse_footer(first, &f))
        return receive_fixed(&x, first);
    if (f.type != VHD_DYNAMIC)
        return fault_set(&t->fault, "VALUE_NOT_SUPPORTED", "format", "vhd", "a difference to another disk", NULL);
    return fits(&x, f.size, vdi_ref) && receive_dynamic(&x, &f);
}
