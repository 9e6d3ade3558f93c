/* qcow2_in.c - reads a qcow2 image that is there as a whole: its parts may stand in any order. */
#include "config.h"

#include <string.h>

#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#include "daemon/store/store.h"
#include "xapi-classes/transfers/image_io.h"
#include "xapi-classes/transfers/qcow2.h"

struct reading {
    struct image_io *io;
    struct fault *f;
    struct qcow2_header h;
    gsize cluster;
    char *buffer;     /* a chunk or a cluster, whichever is larger */
    char *compressed; /* twice a cluster */
    /* Clusters that follow each other here and there, not read yet. */
    gint64 run_from, run_to;
    gsize run_len;
    gint64 keep_from, keep_len; /* what is to stay as it was, not done yet */
};

static gboolean failed(struct reading *x, const char *what)
{
    return fault_set(x->f, "IMPORT_ERROR", what, NULL);
}

/* What has to be there, or the image was cut. */
static gboolean get(struct reading *x, void *buffer, gsize len, gint64 offset)
{
    if (offset > x->io->length || (gint64) len > x->io->length - offset)
        return fault_set(x->f, "IMPORT_ERROR_PREMATURE_EOF", NULL);
    return x->io->at(x->io->data, buffer, len, offset, x->f);
}

/* Of the cluster at that place of the disk: its last one may be less. */
static gsize used(const struct reading *x, gint64 at)
{
    return (gsize) MIN((gint64) x->cluster, x->h.size - at);
}

/* ---- what is not there ---- */

static gboolean flush_kept(struct reading *x)
{
    gint64 len = x->keep_len;
    x->keep_len = 0;
    return len == 0 || x->io->keep(x->io->data, x->keep_from, len, x->f);
}

/* Zeroes, or, in a difference, what the disk held. */
static gboolean leave_out(struct reading *x, gint64 at, gint64 len)
{
    if (!x->io->difference)
        return TRUE;
    if (at != x->keep_from + x->keep_len && !flush_kept(x))
        return FALSE;
    if (x->keep_len == 0)
        x->keep_from = at;
    x->keep_len += len;
    return TRUE;
}

/* ---- clusters ---- */

static gboolean flush(struct reading *x)
{
    gsize len = x->run_len;
    x->run_len = 0;
    for (gsize done = 0, n; done < len; done += n) {
        n = MIN(len - done, IMAGE_CHUNK);
        if (!get(x, x->buffer, n, x->run_from + (gint64) done) ||
            !x->io->write(x->io->data, x->buffer, n, x->run_to + (gint64) done, x->f))
            return FALSE;
    }
    return TRUE;
}

static gboolean add_plain(struct reading *x, gint64 from, gint64 to)
{
    gboolean follows = from == x->run_from + (gint64) x->run_len && to == x->run_to + (gint64) x->run_len;
    if (from == 0)
        return failed(x, "a cluster of the qcow2 image is its header");
    if ((!follows || x->run_len >= IMAGE_CHUNK) && !flush(x))
        return FALSE;
    if (x->run_len == 0) {
        x->run_from = from;
        x->run_to = to;
    }
    x->run_len += used(x, to);
    return TRUE;
}

/* Raw deflate, without a header; what follows in the last sector is another's. */
static gboolean inflate_cluster(struct reading *x, gsize len)
{
    z_stream z = {.next_in = (Bytef *) x->compressed, .avail_in = (uInt) len};
    z.next_out = (Bytef *) x->buffer;
    z.avail_out = (uInt) x->cluster;
    if (inflateInit2(&z, -15) != Z_OK)
        return FALSE;
    int end = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return (end == Z_STREAM_END || end == Z_BUF_ERROR) && z.avail_out == 0;
}

static gboolean unpack_zstd(struct reading *x, gsize len)
{
#ifdef HAVE_ZSTD
    ZSTD_inBuffer in = {x->compressed, len, 0};
    ZSTD_outBuffer out = {x->buffer, x->cluster, 0};
    ZSTD_DCtx *z = ZSTD_createDCtx();
    gsize left = 1;
    while (z && left != 0 && !ZSTD_isError(left) && out.pos < out.size && in.pos < in.size)
        left = ZSTD_decompressStream(z, &out, &in);
    ZSTD_freeDCtx(z);
    return !ZSTD_isError(left) && out.pos == out.size;
#else
    (void) len;
    return fault_set(x->f, "VALUE_NOT_SUPPORTED", "format", "qcow2", "zstd", NULL);
#endif
}

static gboolean add_compressed(struct reading *x, guint64 entry, gint64 to)
{
    gint64 offset;
    gsize len;
    qcow2_compressed_place(entry, x->h.cluster_bits, &offset, &len);
    if (offset >= x->io->length)
        return fault_set(x->f, "IMPORT_ERROR_PREMATURE_EOF", NULL);
    len = (gsize) MIN((gint64) MIN(len, 2 * x->cluster), x->io->length - offset);
    if (!flush(x) || !x->io->at(x->io->data, x->compressed, len, offset, x->f))
        return FALSE;
    if (x->h.zstd ? !unpack_zstd(x, len) : !inflate_cluster(x, len))
        return x->f->code ? FALSE : failed(x, "a compressed cluster of the qcow2 image is damaged");
    gsize total = used(x, to);
    for (gsize done = 0, n; done < total; done += n) {
        n = MIN(total - done, IMAGE_CHUNK);
        if (!x->io->write(x->io->data, x->buffer + done, n, to + (gint64) done, x->f))
            return FALSE;
    }
    return TRUE;
}

static gboolean add_cluster(struct reading *x, guint64 entry, gint64 to)
{
    gboolean zero = x->h.version == 3 && !(entry & QCOW2_COMPRESSED) && (entry & QCOW2_ZERO);
    if (entry & QCOW2_COMPRESSED)
        return add_compressed(x, entry, to);
    if ((entry & QCOW2_OFFSET) % x->cluster != 0)
        return failed(x, "a cluster of the qcow2 image is in a strange place");
    if (!zero && (entry & QCOW2_OFFSET) != 0)
        return add_plain(x, (gint64) (entry & QCOW2_OFFSET), to);
    return zero || leave_out(x, to, (gint64) used(x, to));
}

/* ---- tables ---- */

/* The part of the disk that one entry of the first table stands for. */
static gboolean read_part(struct reading *x, guint64 entry, guint8 *table, gint64 from)
{
    gint64 offset = (gint64) (entry & QCOW2_OFFSET), part = (gint64) (x->cluster / 8 * x->cluster);
    if (offset == 0)
        return leave_out(x, from, MIN(part, x->h.size - from));
    if (offset % (gint64) x->cluster != 0)
        return failed(x, "a table of the qcow2 image is in a strange place");
    if (!get(x, table, x->cluster, offset))
        return FALSE;
    for (gsize i = 0; i < x->cluster / 8; i++) {
        gint64 to = from + (gint64) (i * x->cluster);
        if (to >= x->h.size)
            break;
        if (!add_cluster(x, qcow2_entry(table, i), to))
            return FALSE;
    }
    return flush(x);
}

static gboolean read_parts(struct reading *x)
{
    gint64 part = (gint64) (x->cluster / 8 * x->cluster);
    g_autofree guint8 *table = g_malloc(x->cluster);
    for (gint64 from = 0, i = 0; from < x->h.size; from += part, i++) {
        guint8 entry[8];
        if (!get(x, entry, sizeof entry, x->h.l1_offset + i * 8) || !read_part(x, qcow2_entry(entry, 0), table, from))
            return FALSE;
        x->io->progress(x->io->data, (double) from / (double) x->h.size);
    }
    return leave_out(x, x->h.size, x->io->size - x->h.size) && flush_kept(x);
}

/* What an export of a difference calls its base. */
static gboolean names_uuid(const char *name)
{
    g_autofree char *uuid = g_str_has_suffix(name, ".qcow2") ? g_strndup(name, strlen(name) - 6) : NULL;
    return uuid && uuid_is_valid(uuid);
}

static gboolean refuse(struct reading *x, const char *what)
{
    return fault_set(x->f, "VALUE_NOT_SUPPORTED", "format", "qcow2", what, NULL);
}

static gboolean read_header(struct reading *x)
{
    guint8 bytes[QCOW2_HEADER];
    gboolean unsupported;
    if (!x->io->at(x->io->data, bytes, sizeof bytes, 0, x->f))
        return FALSE;
    const char *wrong = qcow2_parse_header(bytes, &x->h, &unsupported);
    if (wrong)
        return unsupported ? refuse(x, wrong) : failed(x, wrong);
    if (*x->h.backing && !names_uuid(x->h.backing))
        return refuse(x, "a backing file");
    if (*x->h.backing)
        x->io->difference = TRUE;
    x->cluster = (gsize) 1 << x->h.cluster_bits;
    return image_fits(x->io, x->h.size, x->f);
}

gboolean qcow2_read(struct image_io *io, struct fault *f)
{
    struct reading x = {.io = io, .f = f};
    if (!read_header(&x))
        return FALSE;
    g_autofree char *buffer = g_malloc(MAX(x.cluster, IMAGE_CHUNK)), *compressed = g_malloc(2 * x.cluster);
    x.buffer = buffer;
    x.compressed = compressed;
    return read_parts(&x);
}
