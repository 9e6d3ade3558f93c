/* codec.c - replies: a list of ranges of bytes, some copied into it, some only referred to. */
#include "daemon/codec/codec-internal.h"

#include <string.h>

/* Shorter bytes are cheaper to copy than to send as a range of their own. */
#define WORTH_REFERRING 512

#define FIRST_CHUNK   1536
#define LARGEST_CHUNK (256 * 1024)
#define FIRST_RANGES  8

struct chunk {
    struct chunk *next;
    char data[];
};

/* Text goes into chunks that never move, so that a range can point into them. */
struct reply {
    char *at, *end; /* the free part of the newest chunk */
    gsize length;
    struct reply_range *ranges;
    gsize n_ranges, room;
    struct chunk *chunks;
    gsize next_size;
    GPtrArray *bytes; /* GBytes referred to; NULL while there are none */
    struct reply_range first_ranges[FIRST_RANGES];
    char first[FIRST_CHUNK];
};

struct reply *reply_new(void)
{
    struct reply *r = g_malloc(sizeof(struct reply));
    r->at = r->first;
    r->end = r->first + sizeof(r->first);
    r->length = 0;
    r->ranges = r->first_ranges;
    r->n_ranges = 0;
    r->room = FIRST_RANGES;
    r->chunks = NULL;
    r->next_size = 4 * FIRST_CHUNK;
    r->bytes = NULL;
    return r;
}

void reply_free(struct reply *r)
{
    if (r == NULL)
        return;
    for (struct chunk *c = r->chunks; c != NULL;) {
        struct chunk *next = c->next;
        g_free(c);
        c = next;
    }
    if (r->ranges != r->first_ranges)
        g_free(r->ranges);
    if (r->bytes != NULL)
        g_ptr_array_unref(r->bytes);
    g_free(r);
}

static void reply_add_range(struct reply *r, const void *data, gsize len)
{
    if (r->n_ranges == r->room) {
        gboolean first = r->ranges == r->first_ranges;
        r->room *= 2;
        r->ranges = g_renew(struct reply_range, first ? NULL : r->ranges, r->room);
        if (first)
            memcpy(r->ranges, r->first_ranges, sizeof(r->first_ranges));
    }
    r->ranges[r->n_ranges++] = (struct reply_range){data, len};
}

/* Copies to where there is room, in the last range if it ends there. */
static void reply_append(struct reply *r, const char *text, gsize len)
{
    struct reply_range *last = r->n_ranges > 0 ? &r->ranges[r->n_ranges - 1] : NULL;
    memcpy(r->at, text, len);
    if (last != NULL && (const char *) last->data + last->len == r->at)
        last->len += len;
    else
        reply_add_range(r, r->at, len);
    r->at += len;
}

static void reply_add_chunk(struct reply *r, gsize least)
{
    gsize size = MAX(r->next_size, least);
    struct chunk *c = g_malloc(sizeof(struct chunk) + size);
    c->next = r->chunks;
    r->chunks = c;
    r->next_size = MIN(2 * r->next_size, LARGEST_CHUNK);
    r->at = c->data;
    r->end = c->data + size;
}

void reply_put(struct reply *r, const char *text, gsize len)
{
    gsize room = (gsize) (r->end - r->at);
    if (len == 0)
        return;
    r->length += len;
    if (G_UNLIKELY(len > room)) {
        if (room > 0)
            reply_append(r, text, room);
        text += room;
        len -= room;
        reply_add_chunk(r, len);
    }
    reply_append(r, text, len);
}

void reply_put_string(struct reply *r, const char *text)
{
    reply_put(r, text, strlen(text));
}

void reply_put_bytes(struct reply *r, GBytes *bytes)
{
    gsize len;
    const char *data = g_bytes_get_data(bytes, &len);
    if (len < WORTH_REFERRING) {
        reply_put(r, data, len);
        return;
    }
    if (r->bytes == NULL)
        r->bytes = g_ptr_array_new_with_free_func((GDestroyNotify) g_bytes_unref);
    g_ptr_array_add(r->bytes, g_bytes_ref(bytes));
    reply_add_range(r, data, len);
    r->length += len;
}

gsize reply_length(const struct reply *r)
{
    return r->length;
}

const struct reply_range *reply_ranges(struct reply *r, gsize *n)
{
    *n = r->n_ranges;
    return r->ranges;
}

char *reply_text(struct reply *r)
{
    char *text = g_malloc(r->length + 1), *p = text;
    for (gsize i = 0; i < r->n_ranges; i++) {
        memcpy(p, r->ranges[i].data, r->ranges[i].len);
        p += r->ranges[i].len;
    }
    *p = '\0';
    return text;
}

void reply_put_int(struct reply *r, gint64 i)
{
    char digits[24], *end = digits + sizeof(digits), *p = end;
    guint64 n = i < 0 ? -(guint64) i : (guint64) i;
    do {
        *--p = '0' + n % 10;
        n /= 10;
    } while (n > 0);
    if (i < 0)
        *--p = '-';
    reply_put(r, p, (gsize) (end - p));
}

void codec_put_value(struct reply *r, enum wire_format format, struct value *v)
{
    if (v == NULL)
        v = value_void();
    if (v->type == VALUE_BLOB)
        reply_put_bytes(r, v->u.blob.ops->bytes(v->u.blob.data, format));
    else if (format == WIRE_XML)
        xml_put_value(r, v);
    else
        json_put_value(r, v);
}

GBytes *codec_value_bytes(enum wire_format format, struct value *v)
{
    struct reply *r = reply_new();
    codec_put_value(r, format, v);
    gsize len = reply_length(r);
    GBytes *bytes = g_bytes_new_take(reply_text(r), len);
    reply_free(r);
    return bytes;
}
