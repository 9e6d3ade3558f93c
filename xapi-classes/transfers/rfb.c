/* rfb.c - an RFB client that looks once. */
#include "config.h"
#include "xapi-classes/transfers/rfb.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zlib.h>

#define TICK_MS 250

struct looking {
    int fd;
    gint64 deadline;
    gint *cancel;
    struct fault *f;
    struct rfb_picture *p;
    guint8 *seen; /* a byte for each pixel that was sent */
    gsize n_seen;
};

static gboolean failed(struct looking *l, const char *what)
{
    return fault_set(l->f, "INTERNAL_ERROR", what, NULL);
}

/* ---- bytes ---- */

static gboolean wait_for(struct looking *l, short events)
{
    while (g_get_monotonic_time() < l->deadline && !(l->cancel && g_atomic_int_get(l->cancel))) {
        struct pollfd p = {l->fd, events, 0};
        if (poll(&p, 1, TICK_MS) > 0)
            return TRUE;
    }
    return failed(l, "the console does not answer");
}

static gboolean get(struct looking *l, void *buffer, gsize len)
{
    for (gsize done = 0; done < len;) {
        if (!wait_for(l, POLLIN))
            return FALSE;
        ssize_t n = read(l->fd, (char *) buffer + done, len - done);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return failed(l, "the console ended");
        done += (gsize) MAX(n, 0);
    }
    return TRUE;
}

static gboolean put(struct looking *l, const void *data, gsize len)
{
    for (gsize done = 0; done < len;) {
        if (!wait_for(l, POLLOUT))
            return FALSE;
        ssize_t n = send(l->fd, (const char *) data + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return failed(l, "the console ended");
        done += (gsize) MAX(n, 0);
    }
    return TRUE;
}

static gboolean skip(struct looking *l, gsize len)
{
    guint8 buffer[512];
    for (; len > 0; len -= MIN(len, sizeof buffer))
        if (!get(l, buffer, MIN(len, sizeof buffer)))
            return FALSE;
    return TRUE;
}

static guint load16(const guint8 *p)
{
    return (guint) p[0] << 8 | p[1];
}

static guint32 load32(const guint8 *p)
{
    return (guint32) load16(p) << 16 | load16(p + 2);
}

/* ---- the beginning ---- */

static gboolean agree_on_security(struct looking *l, gboolean old)
{
    guint8 types[255], n, result[4];
    static const guint8 none = 1;
    if (old)
        return get(l, result, 4) && (load32(result) == 1 || failed(l, "the console wants a password"));
    if (!get(l, &n, 1) || !get(l, types, n))
        return FALSE;
    if (!memchr(types, none, n))
        return failed(l, "the console wants a password");
    return put(l, &none, 1) && get(l, result, 4) && (load32(result) == 0 || failed(l, "the console refuses us"));
}

static gboolean greet(struct looking *l)
{
    static const guint8 shared = 1;
    char version[12];
    if (!get(l, version, sizeof version))
        return FALSE;
    if (memcmp(version, "RFB 003.", 8) != 0)
        return failed(l, "the console does not speak RFB 3");
    gboolean old = memcmp(version + 8, "008", 3) != 0;
    return put(l, old ? "RFB 003.003\n" : "RFB 003.008\n", 12) && agree_on_security(l, old) && put(l, &shared, 1);
}

/* Size of the screen; then how we want it: 32 bits, red first, as rectangles of plain pixels. */
static gboolean agree_on_picture(struct looking *l)
{
    static const guint8 wishes[] = {0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0, /* format */
                                    2, 0, 0, 1, 0,  0,  0, 0};                                           /* raw */
    guint8 head[24], ask[10] = {3};
    if (!get(l, head, sizeof head))
        return FALSE;
    l->p->width = load16(head);
    l->p->height = load16(head + 2);
    guint32 name = load32(head + 20);
    if (l->p->width == 0 || l->p->height == 0 || l->p->width * l->p->height > RFB_MOST_PIXELS || name > 64 * 1024)
        return failed(l, "the screen is of a strange size");
    memcpy(ask + 6, head, 4);
    return skip(l, name) && put(l, wishes, sizeof wishes) && put(l, ask, sizeof ask);
}

/* ---- the picture ---- */

static gboolean read_rectangle(struct looking *l)
{
    guint8 head[12];
    if (!get(l, head, sizeof head))
        return FALSE;
    guint x = load16(head), y = load16(head + 2), w = load16(head + 4), h = load16(head + 6);
    if (load32(head + 8) != 0 || x + w > l->p->width || y + h > l->p->height)
        return failed(l, "the console sends what was not asked for");
    for (guint i = 0; i < h; i++) {
        gsize at = (gsize) (y + i) * l->p->width + x;
        if (!get(l, l->p->pixels + at * 4, (gsize) w * 4))
            return FALSE;
        for (guint k = 0; k < w; k++) {
            l->n_seen += !l->seen[at + k];
            l->seen[at + k] = 1;
        }
    }
    return TRUE;
}

static gboolean read_update(struct looking *l)
{
    guint8 head[3];
    if (!get(l, head, sizeof head))
        return FALSE;
    for (guint n = load16(head + 1); n > 0; n--)
        if (!read_rectangle(l))
            return FALSE;
    return TRUE;
}

/* Colours, a bell, the clipboard: nothing to see. */
static gboolean read_message(struct looking *l)
{
    guint8 type, head[7];
    if (!get(l, &type, 1))
        return FALSE;
    switch (type) {
    case 0:
        return read_update(l);
    case 1:
        return get(l, head, 5) && skip(l, (gsize) load16(head + 3) * 6);
    case 2:
        return TRUE;
    case 3:
        return get(l, head, 7) && skip(l, load32(head + 3));
    default:
        return failed(l, "the console says something strange");
    }
}

gboolean rfb_look(int fd, gint64 deadline, gint *cancel, struct rfb_picture *p, struct fault *f)
{
    struct looking l = {.fd = fd, .deadline = deadline, .cancel = cancel, .f = f, .p = p};
    *p = (struct rfb_picture){0};
    if (!greet(&l) || !agree_on_picture(&l))
        return FALSE;
    gsize n = (gsize) p->width * p->height;
    g_autofree guint8 *seen = g_malloc0(n);
    l.seen = seen;
    p->pixels = g_malloc0(n * 4);
    while (l.n_seen < n)
        if (!read_message(&l)) {
            g_clear_pointer(&p->pixels, g_free);
            return FALSE;
        }
    return TRUE;
}

/* ---- PNG (ISO/IEC 15948): eight bits of each colour, one chunk of data ---- */

static void put32(GByteArray *out, guint32 n)
{
    n = GUINT32_TO_BE(n);
    g_byte_array_append(out, (const guint8 *) &n, 4);
}

static void put_chunk(GByteArray *out, const char *type, const guint8 *data, gsize len)
{
    guint start = out->len + 4;
    put32(out, (guint32) len);
    g_byte_array_append(out, (const guint8 *) type, 4);
    if (len > 0)
        g_byte_array_append(out, data, (guint) len);
    put32(out, (guint32) crc32(0, out->data + start, (uInt) (out->len - start)));
}

static guint8 *rows_of(const struct rfb_picture *p, gsize *len)
{
    gsize row = 1 + (gsize) p->width * 3;
    guint8 *rows = g_malloc(row * p->height), *to = rows;
    const guint8 *from = p->pixels;
    for (guint y = 0; y < p->height; y++) {
        *to++ = 0; /* no filter */
        for (guint x = 0; x < p->width; x++, from += 4, to += 3)
            memcpy(to, from, 3);
    }
    *len = row * p->height;
    return rows;
}

GBytes *rfb_png(const struct rfb_picture *p)
{
    guint8 head[13] = {0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0};
    guint32 size[2] = {GUINT32_TO_BE(p->width), GUINT32_TO_BE(p->height)};
    gsize len;
    g_autofree guint8 *rows = rows_of(p, &len);
    uLongf packed = compressBound(len);
    g_autofree guint8 *data = g_malloc(packed);
    compress2(data, &packed, rows, len, 6);
    memcpy(head, size, sizeof size);
    GByteArray *out = g_byte_array_sized_new((guint) packed + 64);
    g_byte_array_append(out, (const guint8 *) "\x89PNG\r\n\x1a\n", 8);
    put_chunk(out, "IHDR", head, sizeof head);
    put_chunk(out, "IDAT", data, packed);
    put_chunk(out, "IEND", NULL, 0);
    return g_byte_array_free_to_bytes(out);
}
