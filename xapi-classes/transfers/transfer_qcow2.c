/* transfer_qcow2.c - disks as qcow2 on the wire: which clusters there are is known before the first byte is sent, so
 * that header, tables and counts come first and then the data, in order. */
#include "config.h"

#include <string.h>

#include "xapi-classes/transfers/disk_map.h"
#include "xapi-classes/transfers/qcow2.h"
#include "xapi-classes/transfers/transfer_disk.h"

#define LEAST_BITS 16
#define MOST_BITS  21
#define MOST       (4 * 1024 * 1024) /* clusters, unless the disk is too large for it */

/* Numbers of clusters, and where each part begins. All clusters are counted once. */
struct layout {
    const struct disk_map *map;
    guint32 bits;
    gsize cluster;
    guint64 l1, l2, counts_table, counts, data; /* where they begin */
    guint64 total;
    guint32 l1_entries;
};

/* ---- where everything is ---- */

static guint32 bits_for(gint64 size)
{
    guint32 bits = LEAST_BITS;
    while (bits < MOST_BITS && size >> bits > MOST)
        bits++;
    return bits;
}

static gboolean part_is_used(const struct layout *l, guint64 part)
{
    gsize of = l->cluster / 8;
    for (guint64 i = part * of; i < MIN((part + 1) * of, l->map->n); i++)
        if (l->map->state[i] != BLOCK_LEFT_OUT)
            return TRUE;
    return FALSE;
}

static guint64 rounded(guint64 n, guint64 by)
{
    return (n + by - 1) / by;
}

static void plan(struct layout *l, const struct disk_map *map, guint32 bits)
{
    guint64 tables = 0, counts = 0, table = 0;
    *l = (struct layout){.map = map, .bits = bits, .cluster = (gsize) 1 << bits, .l1 = 1};
    l->l1_entries = (guint32) rounded(map->n, l->cluster / 8);
    for (guint64 part = 0; part < l->l1_entries; part++)
        tables += part_is_used(l, part);
    l->l2 = l->l1 + rounded((guint64) l->l1_entries * 8, l->cluster);
    l->counts_table = l->l2 + tables;
    do { /* the counts count themselves */
        l->total = l->counts_table + table + counts + map->n_data;
        table = rounded(counts * 8, l->cluster);
        counts = rounded(l->total, l->cluster / 2);
    } while (l->total != l->counts_table + table + counts + map->n_data);
    l->counts = l->counts_table + table;
    l->data = l->counts + counts;
}

/* ---- the parts ---- */

static gboolean send_header(struct transfer *t, const struct layout *l, gint64 size, const char *base, guint8 *buffer)
{
    struct qcow2_header h = {.cluster_bits = l->bits, .l1_entries = l->l1_entries, .size = size};
    h.l1_offset = (gint64) (l->l1 * l->cluster);
    h.refcounts_offset = (gint64) (l->counts_table * l->cluster);
    h.refcounts_clusters = (guint32) (l->counts - l->counts_table);
    if (base)
        g_snprintf(h.backing, sizeof h.backing, "%s.qcow2", base);
    memset(buffer, 0, l->cluster);
    qcow2_format_header(buffer, &h);
    return transfer_write(t, buffer, l->cluster);
}

/* n entries, padded to whole clusters: those that are not 0 follow each other from the cluster first on. */
static gboolean send_table(struct transfer *t, const struct layout *l, guint64 n, guint64 first, guint64 flag,
                           gboolean (*is_used)(const struct layout *l, guint64 i), guint8 *buffer)
{
    gsize of = l->cluster / 8;
    for (guint64 i = 0; i < n; i += of) {
        memset(buffer, 0, l->cluster);
        for (gsize k = 0; k < MIN(of, n - i); k++)
            if (is_used(l, i + k))
                qcow2_put_entry(buffer, k, first++ * l->cluster | flag);
        if (!transfer_write(t, buffer, l->cluster))
            return FALSE;
    }
    return TRUE;
}

static gboolean always(G_GNUC_UNUSED const struct layout *l, G_GNUC_UNUSED guint64 i)
{
    return TRUE;
}

static gboolean send_l2(struct transfer *t, const struct layout *l, guint8 *buffer)
{
    guint64 next = l->data;
    gsize of = l->cluster / 8;
    for (guint64 part = 0; part < l->l1_entries; part++) {
        if (!part_is_used(l, part))
            continue;
        memset(buffer, 0, l->cluster);
        for (gsize k = 0; k < MIN(of, l->map->n - part * of); k++) {
            guint8 state = l->map->state[part * of + k];
            if (state == BLOCK_DATA)
                qcow2_put_entry(buffer, k, next++ * l->cluster | QCOW2_COPIED);
            else if (state == BLOCK_ZERO)
                qcow2_put_entry(buffer, k, QCOW2_ZERO);
        }
        if (!transfer_write(t, buffer, l->cluster))
            return FALSE;
    }
    return TRUE;
}

/* Sixteen bits each. */
static gboolean send_counts(struct transfer *t, const struct layout *l, guint8 *buffer)
{
    gsize of = l->cluster / 2;
    for (guint64 i = 0; i < l->total; i += of) {
        memset(buffer, 0, l->cluster);
        for (gsize k = 0; k < MIN(of, l->total - i); k++)
            buffer[2 * k + 1] = 1;
        if (!transfer_write(t, buffer, l->cluster))
            return FALSE;
    }
    return TRUE;
}

/* As many clusters at once as follow each other. */
static gboolean send_data(struct transfer *t, struct disk *d, const struct disk_map *m, char *buffer, double progress)
{
    gsize most = MAX(DISK_CHUNK / m->block, 1);
    for (guint32 i = 0, n; i < m->n; i += n) {
        for (n = 1; n < most && i + n < m->n && m->state[i + n] == m->state[i];)
            n++;
        if (m->state[i] != BLOCK_DATA)
            continue;
        if (!disk_read_padded(d, buffer, n * m->block, (gint64) i * (gint64) m->block, &t->fault) ||
            !transfer_write(t, buffer, n * m->block))
            return FALSE;
        transfer_progress(t, progress + (1 - progress) * (double) i / (double) m->n);
    }
    return TRUE;
}

void qcow2_send(struct transfer *t, struct disk *d, const char *uuid, struct disk *base, const char *base_uuid)
{
    double progress = base ? 0.5 : 0;
    guint32 bits = bits_for(disk_size(d));
    struct layout l;
    g_autoptr(disk_map) m = disk_map_new(t, d, base, (gsize) 1 << bits, progress);
    if (!m)
        return;
    plan(&l, m, bits);
    g_autofree guint8 *buffer = g_malloc(MAX(l.cluster, DISK_CHUNK));
    guint64 n_counts = l.data - l.counts;
    disk_put_headers(t, uuid, "qcow2");
    http_begin(t->r, 200, HTTP_BINARY, (gint64) (l.total * l.cluster));
    if (!t->is_head && send_header(t, &l, disk_size(d), base ? base_uuid : NULL, buffer) &&
        send_table(t, &l, l.l1_entries, l.l2, QCOW2_COPIED, part_is_used, buffer) && send_l2(t, &l, buffer) &&
        send_table(t, &l, n_counts, l.counts, 0, always, buffer) && send_counts(t, &l, buffer))
        send_data(t, d, m, (char *) buffer, progress);
    transfer_end_answer(t);
}
