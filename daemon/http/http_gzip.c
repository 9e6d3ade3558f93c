/* http_gzip.c - gzip for answers; level 1: records compress well at any level, and time is what we lack. */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "daemon/http/http_gzip.h"

#define GZIP_WINDOW (15 + 16) /* zlib's way to ask for a gzip header */

/* The q of one coding of the list; text points behind its name. */
static gboolean has_quality(const char *text, const char *end)
{
    const char *q = memchr(text, ';', end - text);
    if (!q)
        return TRUE;
    for (q++; q < end && g_ascii_isspace(*q); q++)
        ;
    if (end - q < 2 || g_ascii_tolower(q[0]) != 'q' || q[1] != '=')
        return TRUE;
    return g_ascii_strtod(q + 2, NULL) > 0;
}

gboolean gzip_accepted(const char *accept_encoding)
{
    gboolean any = FALSE;
    for (const char *p = accept_encoding; p && *p;) {
        while (*p == ',' || g_ascii_isspace(*p))
            p++;
        const char *end = p + strcspn(p, ",");
        gsize name = strcspn(p, ",; \t");
        if ((name == 4 && g_ascii_strncasecmp(p, "gzip", 4) == 0) ||
            (name == 6 && g_ascii_strncasecmp(p, "x-gzip", 6) == 0))
            return has_quality(p + name, end);
        if (name == 1 && *p == '*')
            any = has_quality(p + name, end);
        p = end;
    }
    return any;
}

/* A deflate state is 256 KiB: each thread keeps one. */
static void free_stream(void *data)
{
    deflateEnd(data);
    g_free(data);
}

static GPrivate thread_stream = G_PRIVATE_INIT(free_stream);

static z_stream *stream_of_thread(void)
{
    z_stream *z = g_private_get(&thread_stream);
    if (z) {
        deflateReset(z);
        return z;
    }
    z = g_new0(z_stream, 1);
    if (deflateInit2(z, 1, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        g_free(z);
        return NULL;
    }
    g_private_set(&thread_stream, z);
    return z;
}

void *gzip_ranges(const struct reply_range *ranges, gsize n, gsize length, gsize *size)
{
    z_stream *z = stream_of_thread();
    gsize room = z ? deflateBound(z, length) : 0;
    char *out = z ? malloc(room) : NULL;
    if (!out)
        return NULL;
    z->next_out = (Bytef *) out;
    z->avail_out = room;
    for (gsize i = 0; i < n; i++) {
        z->next_in = (Bytef *) ranges[i].data;
        z->avail_in = ranges[i].len;
        deflate(z, Z_NO_FLUSH);
    }
    z->avail_in = 0;
    if (deflate(z, Z_FINISH) != Z_STREAM_END) {
        free(out);
        return NULL;
    }
    *size = z->total_out;
    char *fit = realloc(out, *size);
    return fit ? fit : out;
}

struct gzip {
    z_stream z;
    gboolean ended;
};

struct gzip *gzip_new(void)
{
    struct gzip *g = g_new0(struct gzip, 1);
    if (deflateInit2(&g->z, 1, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        g_error("zlib cannot begin: %s", g->z.msg ? g->z.msg : "out of memory");
    return g;
}

void gzip_free(struct gzip *g)
{
    deflateEnd(&g->z);
    g_free(g);
}

gssize gzip_stream(struct gzip *g, const struct reply_range *ranges, gsize n, gsize *at, char *buffer, gsize room)
{
    if (g->ended)
        return 0;
    g->z.next_out = (Bytef *) buffer;
    g->z.avail_out = room;
    while (g->z.avail_out > 0 && !g->ended) {
        if (g->z.avail_in == 0 && *at < n) {
            g->z.next_in = (Bytef *) ranges[*at].data;
            g->z.avail_in = ranges[*at].len;
            (*at)++;
        }
        int rc = deflate(&g->z, *at == n && g->z.avail_in == 0 ? Z_FINISH : Z_NO_FLUSH);
        if (rc == Z_STREAM_END)
            g->ended = TRUE;
        else if (rc != Z_OK && rc != Z_BUF_ERROR)
            return -1;
    }
    return room - g->z.avail_out;
}
