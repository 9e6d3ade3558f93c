/* disk_map.c - looking for what has to be sent of a disk. */
#include "config.h"
#include "xapi-classes/transfers/disk_map.h"

#include <string.h>

#define DIFFERS  1
#define HAS_DATA 2

struct looking {
    struct transfer *t;
    struct disk *d, *base;
    struct disk_map *map;
    char *here, *there;
};

gboolean disk_read_padded(struct disk *d, char *buffer, gsize len, gint64 offset, struct fault *f)
{
    gsize n = (gsize) CLAMP(disk_size(d) - offset, 0, (gint64) len);
    gint64 known = 0;
    gboolean data = FALSE;
    if (n > 0 && !disk_extent(d, offset, &known, &data, f))
        return FALSE;
    if (!data && known >= (gint64) n)
        n = 0;
    memset(buffer + n, 0, len - n);
    return n == 0 || disk_read(d, buffer, n, offset, f);
}

/* What begins at offset of a disk that goes on with zeroes after its end. */
static gboolean extent(struct looking *l, struct disk *d, gint64 offset, gint64 *len, gboolean *data)
{
    *len = disk_size(l->d) - offset;
    *data = FALSE;
    return offset >= disk_size(d) || disk_extent(d, offset, len, data, &l->t->fault);
}

/* ---- without a base ---- */

static gboolean look(struct looking *l, double progress)
{
    struct disk_map *m = l->map;
    gint64 size = disk_size(l->d), len;
    gboolean data;
    for (gint64 at = 0; at < size; at += MAX(len, 1)) {
        if (!disk_extent(l->d, at, &len, &data, &l->t->fault) || !transfer_may_go_on(l->t))
            return FALSE;
        gsize first = (gsize) at / m->block;
        if (data && len > 0)
            memset(m->state + first, DIFFERS | HAS_DATA, (gsize) (at + len - 1) / m->block - first + 1);
        transfer_progress(l->t, progress * (double) at / (double) size);
    }
    return TRUE;
}

/* ---- with one ---- */

/* Both buffers hold what is at offset: within one block, or some whole ones. */
static void mark(struct looking *l, gint64 offset, gsize len)
{
    struct disk_map *m = l->map;
    for (gsize done = 0, n; done < len; done += n) {
        gsize at = (gsize) offset + done;
        n = MIN(len - done, m->block - at % m->block);
        guint8 *state = &m->state[at / m->block];
        if (memcmp(l->here + done, l->there + done, n) != 0)
            *state |= DIFFERS;
        if (!is_zero(l->here + done, n))
            *state |= HAS_DATA;
    }
}

static gboolean fetch(struct looking *l, struct disk *d, gboolean data, char *buffer, gsize len, gint64 offset)
{
    if (data)
        return disk_read_padded(d, buffer, len, offset, &l->t->fault);
    memset(buffer, 0, len);
    return TRUE;
}

static gboolean compare(struct looking *l, double progress)
{
    gint64 size = disk_size(l->d), here, there;
    gboolean data_here, data_there;
    for (gint64 at = 0, len; at < size; at += len) {
        if (!extent(l, l->d, at, &here, &data_here) || !extent(l, l->base, at, &there, &data_there) ||
            !transfer_may_go_on(l->t))
            return FALSE;
        len = MAX(MIN(here, there), 1);
        transfer_progress(l->t, progress * (double) at / (double) size);
        if (!data_here && !data_there)
            continue;
        len = MIN(len, DISK_CHUNK - at % DISK_CHUNK);
        if (!fetch(l, l->d, data_here, l->here, (gsize) len, at) ||
            !fetch(l, l->base, data_there, l->there, (gsize) len, at))
            return FALSE;
        mark(l, at, (gsize) len);
    }
    return TRUE;
}

/* ---- the map ---- */

static void decide(struct disk_map *m)
{
    for (guint32 i = 0; i < m->n; i++) {
        gboolean differs = m->state[i] & DIFFERS, data = m->state[i] & HAS_DATA;
        m->state[i] = !differs ? BLOCK_LEFT_OUT : data ? BLOCK_DATA : BLOCK_ZERO;
        m->n_used += m->state[i] != BLOCK_LEFT_OUT;
        m->n_data += m->state[i] == BLOCK_DATA;
    }
}

struct disk_map *disk_map_new(struct transfer *t, struct disk *d, struct disk *base, gsize block, double progress)
{
    g_autoptr(disk_map) m = g_new0(struct disk_map, 1);
    g_autofree char *here = base ? g_malloc(DISK_CHUNK) : NULL, *there = base ? g_malloc(DISK_CHUNK) : NULL;
    m->block = block;
    m->n = (guint32) (((guint64) disk_size(d) + block - 1) / block);
    m->state = g_malloc0(MAX(m->n, 1));
    struct looking l = {.t = t, .d = d, .base = base, .map = m, .here = here, .there = there};
    if (base ? !compare(&l, progress) : !look(&l, progress))
        return NULL;
    decide(m);
    return g_steal_pointer(&m);
}

void disk_map_free(struct disk_map *m)
{
    if (!m)
        return;
    g_free(m->state);
    g_free(m);
}
