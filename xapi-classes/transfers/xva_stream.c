/* xva_stream.c - gzip and zstd between a transfer's client and the tar. */
#include "config.h"
#include "xapi-classes/transfers/xva.h"

#include <string.h>

#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#define BUFFER      (256 * 1024)
#define GZIP_WINDOW (15 + 16) /* zlib: the largest window, in gzip's form */
#define GZIP_LEVEL  Z_BEST_SPEED
#define ZSTD_LEVEL  1

enum method { PLAIN, GZIP, ZSTD };

/* ---- out ---- */

struct xva_out {
    struct transfer *t;
    enum method method;
    z_stream z;
#ifdef HAVE_ZSTD
    ZSTD_CStream *zstd;
#endif
    char *buffer;
};

struct xva_out *xva_out_new(struct transfer *t, const char *method)
{
    struct xva_out *o = g_new0(struct xva_out, 1);
    o->t = t;
    o->buffer = g_malloc(BUFFER);
    if (method && strcmp(method, "gzip") == 0) {
        o->method = GZIP;
        if (deflateInit2(&o->z, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) == Z_OK)
            return o;
        o->method = PLAIN;
        fault_set(&t->fault, "INTERNAL_ERROR", "zlib", NULL);
#ifdef HAVE_ZSTD
    } else if (method && strcmp(method, "zstd") == 0) {
        o->method = ZSTD;
        o->zstd = ZSTD_createCStream();
        ZSTD_initCStream(o->zstd, ZSTD_LEVEL);
        return o;
#endif
    } else if (!method) {
        return o;
    } else {
        fault_set(&t->fault, "VALUE_NOT_SUPPORTED", "use_compression", method, "not built in", NULL);
    }
    xva_out_free(o);
    return NULL;
}

static gboolean deflate_some(struct xva_out *o, const void *data, gsize len, int flush)
{
    o->z.next_in = (Bytef *) data;
    o->z.avail_in = (uInt) len;
    do {
        o->z.next_out = (Bytef *) o->buffer;
        o->z.avail_out = BUFFER;
        deflate(&o->z, flush);
        gsize n = BUFFER - o->z.avail_out;
        if (n > 0 && !transfer_write(o->t, o->buffer, n))
            return FALSE;
    } while (o->z.avail_out == 0);
    return TRUE;
}

#ifdef HAVE_ZSTD
static gboolean zstd_some(struct xva_out *o, const void *data, gsize len, ZSTD_EndDirective mode)
{
    ZSTD_inBuffer in = {data, len, 0};
    gsize left;
    do {
        ZSTD_outBuffer out = {o->buffer, BUFFER, 0};
        left = ZSTD_compressStream2(o->zstd, &out, &in, mode);
        if (ZSTD_isError(left))
            return fault_set(&o->t->fault, "INTERNAL_ERROR", ZSTD_getErrorName(left), NULL);
        if (out.pos > 0 && !transfer_write(o->t, o->buffer, out.pos))
            return FALSE;
    } while (mode == ZSTD_e_end ? left > 0 : in.pos < in.size);
    return TRUE;
}
#endif

gboolean xva_out_write(struct xva_out *o, const void *data, gsize len)
{
    if (o->method == GZIP)
        return deflate_some(o, data, len, Z_NO_FLUSH);
#ifdef HAVE_ZSTD
    if (o->method == ZSTD)
        return zstd_some(o, data, len, ZSTD_e_continue);
#endif
    return transfer_write(o->t, data, len);
}

gboolean xva_out_end(struct xva_out *o)
{
    if (o->method == GZIP)
        return deflate_some(o, "", 0, Z_FINISH);
#ifdef HAVE_ZSTD
    if (o->method == ZSTD)
        return zstd_some(o, "", 0, ZSTD_e_end);
#endif
    return TRUE;
}

void xva_out_free(struct xva_out *o)
{
    if (!o)
        return;
    if (o->method == GZIP)
        deflateEnd(&o->z);
#ifdef HAVE_ZSTD
    if (o->zstd)
        ZSTD_freeCStream(o->zstd);
#endif
    g_free(o->buffer);
    g_free(o);
}

/* ---- in ---- */

struct xva_in {
    struct transfer *t;
    enum method method;
    gboolean known, ended;
    z_stream z;
#ifdef HAVE_ZSTD
    ZSTD_DStream *zstd;
#endif
    char *buffer; /* of what came and was not used yet: [at, end) */
    gsize at, end;
};

struct xva_in *xva_in_new(struct transfer *t)
{
    struct xva_in *in = g_new0(struct xva_in, 1);
    in->t = t;
    in->buffer = g_malloc(BUFFER);
    return in;
}

static gboolean damaged(struct xva_in *in, const char *what)
{
    return fault_set(&in->t->fault, "IMPORT_ERROR", what, NULL);
}

/* At least one more byte; FALSE at the end, or with the fault set. */
static gboolean more(struct xva_in *in)
{
    if (in->at < in->end)
        return TRUE;
    gssize n = transfer_read_some(in->t, in->buffer, BUFFER);
    in->at = 0;
    in->end = n > 0 ? (gsize) n : 0;
    return n > 0;
}

static gboolean begin(struct xva_in *in)
{
    static const guint8 gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    gssize n = transfer_read(in->t, in->buffer, sizeof zstd);
    if (n < 0)
        return FALSE;
    in->known = TRUE;
    in->end = (gsize) n;
    if (n >= 2 && memcmp(in->buffer, gzip, sizeof gzip) == 0) {
        in->method = GZIP;
        return inflateInit2(&in->z, GZIP_WINDOW) == Z_OK || damaged(in, "zlib");
    }
    if (n == 4 && memcmp(in->buffer, zstd, sizeof zstd) == 0) {
#ifdef HAVE_ZSTD
        in->method = ZSTD;
        in->zstd = ZSTD_createDStream();
        ZSTD_initDStream(in->zstd);
#else
        return damaged(in, "zstd is not built in");
#endif
    }
    return TRUE;
}

static gssize read_plain(struct xva_in *in, char *buffer, gsize len)
{
    gsize n = MIN(len, in->end - in->at);
    memcpy(buffer, in->buffer + in->at, n);
    in->at += n;
    if (n == len)
        return (gssize) n;
    gssize rest = transfer_read(in->t, buffer + n, len - n);
    return rest < 0 ? -1 : (gssize) n + rest;
}

static gssize read_gzip(struct xva_in *in, char *buffer, gsize len)
{
    in->z.next_out = (Bytef *) buffer;
    in->z.avail_out = (uInt) len;
    while (in->z.avail_out > 0 && !in->ended && more(in)) {
        in->z.next_in = (Bytef *) in->buffer + in->at;
        in->z.avail_in = (uInt) (in->end - in->at);
        int status = inflate(&in->z, Z_NO_FLUSH);
        in->at = in->end - in->z.avail_in;
        in->ended = status == Z_STREAM_END;
        if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
            damaged(in, "damaged gzip data");
        if (in->t->fault.code)
            return -1;
    }
    return in->t->fault.code ? -1 : (gssize) (len - in->z.avail_out);
}

#ifdef HAVE_ZSTD
static gssize read_zstd(struct xva_in *in, char *buffer, gsize len)
{
    ZSTD_outBuffer out = {buffer, len, 0};
    while (out.pos < len) {
        gsize before = out.pos;
        gboolean there = more(in);
        ZSTD_inBuffer from = {in->buffer + in->at, in->end - in->at, 0};
        gsize status = ZSTD_decompressStream(in->zstd, &out, &from);
        in->at += from.pos;
        if (ZSTD_isError(status))
            damaged(in, ZSTD_getErrorName(status));
        if (in->t->fault.code)
            return -1;
        if (!there && out.pos == before)
            break;
    }
    return in->t->fault.code ? -1 : (gssize) out.pos;
}
#endif

gssize xva_in_read(struct xva_in *in, void *buffer, gsize len)
{
    if (!in->known && !begin(in))
        return -1;
    if (in->method == GZIP)
        return read_gzip(in, buffer, len);
#ifdef HAVE_ZSTD
    if (in->method == ZSTD)
        return read_zstd(in, buffer, len);
#endif
    return read_plain(in, buffer, len);
}

void xva_in_free(struct xva_in *in)
{
    if (!in)
        return;
    if (in->method == GZIP)
        inflateEnd(&in->z);
#ifdef HAVE_ZSTD
    if (in->zstd)
        ZSTD_freeDStream(in->zstd);
#endif
    g_free(in->buffer);
    g_free(in);
}
