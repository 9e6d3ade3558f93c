/* vhd_in.c - reads a VHD as it comes. */
#include "config.h"

#include <string.h>

#include "xapi-classes/transfers/image_io.h"
#include "xapi-classes/transfers/vhd.h"

struct reading {
    struct image_io *io;
    struct fault *f;
    gint64 at; /* in the stream */
    char *buffer, *old;
};

gboolean image_fits(const struct image_io *io, gint64 size, struct fault *f)
{
    g_autofree char *least = g_strdup_printf("%" G_GINT64_FORMAT, size);
    return size <= io->size || fault_set(f, "VDI_TOO_SMALL", io->vdi_ref, least, NULL);
}

static gboolean failed(struct reading *x, const char *what)
{
    return fault_set(x->f, "IMPORT_ERROR", what, NULL);
}

static gboolean get(struct reading *x, void *buffer, gsize len)
{
    gssize n = x->io->next(x->io->data, buffer, len, x->f);
    if (n >= 0 && n < (gssize) len)
        fault_set(x->f, "IMPORT_ERROR_PREMATURE_EOF", NULL);
    x->at += (gint64) len;
    return n == (gssize) len;
}

static gboolean go_to(struct reading *x, gint64 offset)
{
    if (offset < x->at)
        return failed(x, "the parts of the VHD are not in order");
    while (x->at < offset)
        if (!get(x, x->buffer, (gsize) MIN(IMAGE_CHUNK, offset - x->at)))
            return FALSE;
    return TRUE;
}

static gboolean put(struct reading *x, const void *data, gsize len, gint64 offset)
{
    return x->io->write(x->io->data, data, len, offset, x->f);
}

/* ---- fixed ones: the disk, and then the footer. first is the disk's first sector ---- */

static gboolean read_fixed(struct reading *x, const guint8 *first)
{
    gint64 size = x->io->length >= 0 ? x->io->length - VHD_SECTOR : x->io->size;
    struct vhd_footer f;
    guint8 footer[VHD_SECTOR];
    if (size < VHD_SECTOR || size > x->io->size)
        return failed(x, "this is no VHD, or not of this size");
    if (!put(x, first, VHD_SECTOR, 0))
        return FALSE;
    while (x->at < size) {
        gint64 at = x->at;
        gsize n = (gsize) MIN(IMAGE_CHUNK, size - at);
        if (!get(x, x->buffer, n) || !put(x, x->buffer, n, at))
            return FALSE;
        x->io->progress(x->io->data, (double) at / (double) size);
    }
    return get(x, footer, sizeof footer) && ((vhd_parse_footer(footer, &f) && f.type == VHD_FIXED && f.size == size) ||
                                             failed(x, "the VHD has no footer"));
}

/* ---- dynamic and differencing ones ---- */

/* Where a block lies in the stream. */
struct place {
    guint32 sector, block;
};

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->sector < y->sector ? -1 : x->sector > y->sector;
}

/* The table of blocks; what a difference does not hold is kept, in runs as long as they are. */
static GArray *read_table(struct reading *x, const struct vhd_header *h, gint64 size)
{
    g_autoptr(GArray) places = g_array_new(FALSE, FALSE, sizeof(struct place));
    gint64 kept = 0; /* up to where it is known */
    for (guint32 i = 0; i < h->entries; i++) {
        guint32 sector;
        if (!get(x, &sector, sizeof sector))
            return NULL;
        struct place p = {GUINT32_FROM_BE(sector), i};
        if (p.sector == VHD_UNUSED)
            continue;
        gint64 start = (gint64) i * h->block_size;
        if (start >= size) {
            failed(x, "the VHD has more blocks than its size");
            return NULL;
        }
        if (x->io->difference && start > kept && !x->io->keep(x->io->data, kept, start - kept, x->f))
            return NULL;
        kept = start + h->block_size;
        g_array_append_val(places, p);
    }
    if (x->io->difference && kept < x->io->size && !x->io->keep(x->io->data, kept, x->io->size - kept, x->f))
        return NULL;
    g_array_sort(places, compare_places);
    return g_steal_pointer(&places);
}

/* Sectors that the bitmap does not name are those of the parent, or zero, whatever stands there. */
static gboolean apply_bitmap(struct reading *x, gsize len, const guint8 *bitmap, gsize first_sector, gint64 offset)
{
    gboolean asked = FALSE;
    for (gsize i = 0; i < len / VHD_SECTOR; i++) {
        char *sector = x->buffer + i * VHD_SECTOR;
        if (vhd_bitmap_has(bitmap, first_sector + i))
            continue;
        if (x->io->difference && !asked && !x->io->old(x->io->data, x->old, len, offset, x->f))
            return FALSE;
        asked = TRUE;
        if (x->io->difference)
            memcpy(sector, x->old + i * VHD_SECTOR, VHD_SECTOR);
        else
            memset(sector, 0, VHD_SECTOR);
    }
    return TRUE;
}

static gboolean read_block(struct reading *x, const struct place *p, guint32 block_size)
{
    gsize bitmap_size = vhd_bitmap_size(block_size);
    g_autofree guint8 *bitmap = g_malloc(bitmap_size);
    gint64 start = (gint64) p->block * block_size;
    if (!go_to(x, (gint64) p->sector * VHD_SECTOR) || !get(x, bitmap, bitmap_size))
        return FALSE;
    for (gsize done = 0; done < block_size; done += IMAGE_CHUNK) {
        gsize n = MIN(IMAGE_CHUNK, block_size - done);
        gint64 at = start + (gint64) done, room = MAX(x->io->size - at, 0);
        if (!get(x, x->buffer, n) || !apply_bitmap(x, n, bitmap, done / VHD_SECTOR, at))
            return FALSE;
        gsize fits = (gsize) MIN((gint64) n, room);
        if (fits > 0 && !put(x, x->buffer, fits, at))
            return FALSE;
    }
    return TRUE;
}

static gboolean read_dynamic(struct reading *x, const struct vhd_footer *f)
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
    g_autoptr(GArray) places = read_table(x, &h, f->size);
    for (guint i = 0; places && i < places->len; i++) {
        if (!read_block(x, &g_array_index(places, struct place, i), h.block_size))
            return FALSE;
        x->io->progress(x->io->data, (double) i / (double) places->len);
    }
    if (!places || !get(x, footer, sizeof footer))
        return FALSE;
    return vhd_parse_footer(footer, &last) || failed(x, "the VHD has no footer");
}

gboolean vhd_read(struct image_io *io, struct fault *f)
{
    guint8 first[VHD_SECTOR];
    struct vhd_footer footer;
    g_autofree char *buffer = g_malloc(IMAGE_CHUNK), *old = g_malloc(IMAGE_CHUNK);
    struct reading x = {.io = io, .f = f, .buffer = buffer, .old = old};
    if (!get(&x, first, sizeof first))
        return FALSE;
    if (!vhd_parse_footer(first, &footer))
        return read_fixed(&x, first);
    io->difference = footer.type == VHD_DIFFERENCING;
    if (footer.type == VHD_FIXED)
        return failed(&x, "the parts of the VHD are not in order");
    return image_fits(io, footer.size, f) && read_dynamic(&x, &footer);
}
