/* transfer_vhd.c - disks as VHD on the wire: dynamic ones, or differencing ones when there is a base. */
#include "config.h"

#include <string.h>

#include "xapi-classes/transfers/disk_map.h"
#include "xapi-classes/transfers/transfer_disk.h"
#include "xapi-classes/transfers/vhd.h"

static gsize table_size(const struct disk_map *m)
{
    return ((gsize) m->n * 4 + VHD_SECTOR - 1) / VHD_SECTOR * VHD_SECTOR;
}

static gboolean send_table(struct transfer *t, const struct disk_map *m)
{
    gsize size = table_size(m), bitmap = vhd_bitmap_size(VHD_BLOCK);
    g_autofree guint32 *table = g_malloc(size);
    guint32 sector = (guint32) ((VHD_SECTOR + VHD_HEADER + size) / VHD_SECTOR);
    memset(table, 0xff, size);
    for (guint32 i = 0; i < m->n; i++) {
        if (m->state[i] == BLOCK_LEFT_OUT)
            continue;
        table[i] = GUINT32_TO_BE(sector);
        sector += (guint32) ((bitmap + VHD_BLOCK) / VHD_SECTOR);
    }
    return transfer_write(t, table, size);
}

/* The last block may reach past the end of the disk. */
static gboolean send_block(struct transfer *t, struct disk *d, guint32 block, gboolean data, char *buffer)
{
    gsize bitmap = vhd_bitmap_size(VHD_BLOCK);
    memset(buffer, 0xff, bitmap);
    if (!data)
        memset(buffer + bitmap, 0, VHD_BLOCK);
    else if (!disk_read_padded(d, buffer + bitmap, VHD_BLOCK, (gint64) block * VHD_BLOCK, &t->fault))
        return FALSE;
    return transfer_write(t, buffer, bitmap + VHD_BLOCK);
}

static gboolean send_all(struct transfer *t, struct disk *d, const struct disk_map *m, const guint8 *footer,
                         const char *base, double progress)
{
    guint8 header[VHD_HEADER];
    struct vhd_header h = {
        .table_offset = VHD_SECTOR + VHD_HEADER, .entries = m->n, .block_size = VHD_BLOCK, .parent = base};
    g_autofree char *buffer = g_malloc(vhd_bitmap_size(VHD_BLOCK) + VHD_BLOCK);
    vhd_format_header(header, &h);
    if (!transfer_write(t, footer, VHD_SECTOR) || !transfer_write(t, header, sizeof header) || !send_table(t, m))
        return FALSE;
    for (guint32 i = 0; i < m->n; i++) {
        if (m->state[i] != BLOCK_LEFT_OUT && !send_block(t, d, i, m->state[i] == BLOCK_DATA, buffer))
            return FALSE;
        transfer_progress(t, progress + (1 - progress) * (double) i / (double) m->n);
    }
    return transfer_write(t, footer, VHD_SECTOR);
}

static gboolean fits(struct transfer *t, struct disk *d)
{
    g_autofree char *most = g_strdup_printf("%" G_GINT64_FORMAT, VHD_MOST);
    return disk_size(d) <= VHD_MOST || fault_set(&t->fault, "VDI_TOO_LARGE", transfer_query(t, "vdi"), most, NULL);
}

void vhd_send(struct transfer *t, struct disk *d, const char *uuid, struct disk *base, const char *base_uuid)
{
    guint8 footer[VHD_SECTOR];
    double progress = base ? 0.5 : 0;
    struct vhd_footer f = {
        .type = base ? VHD_DIFFERENCING : VHD_DYNAMIC, .size = disk_size(d), .data_offset = VHD_SECTOR};
    if (!fits(t, d))
        return;
    g_autoptr(disk_map) m = disk_map_new(t, d, base, VHD_BLOCK, progress);
    if (!m)
        return;
    vhd_format_footer(footer, &f, uuid);
    gint64 length = 2 * VHD_SECTOR + VHD_HEADER + (gint64) table_size(m) +
                    (gint64) m->n_used * ((gint64) vhd_bitmap_size(VHD_BLOCK) + VHD_BLOCK);
    disk_put_headers(t, uuid, "vhd");
    http_begin(t->r, 200, HTTP_BINARY, length);
    if (!t->is_head)
        send_all(t, d, m, footer, base ? base_uuid : NULL, progress);
    transfer_end_answer(t);
}
