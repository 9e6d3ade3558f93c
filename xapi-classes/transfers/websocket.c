/* websocket.c - WebSocket frames, read byte by byte as they come. */
#include "config.h"
#include "xapi-classes/transfers/websocket.h"

#include <string.h>

#define KEY_SUFFIX "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

enum { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { FIN = 0x80, RESERVED = 0x70, OPCODE = 0x0f, MASKED = 0x80, LENGTH = 0x7f, CONTROL = 0x08 };
enum { STATUS_NORMAL = 1000, STATUS_PROTOCOL = 1002 };

char *websocket_accept(const char *key)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    guint8 digest[20];
    gsize len = sizeof digest;
    g_checksum_update(sum, (const guint8 *) key, (gssize) strlen(key));
    g_checksum_update(sum, (const guint8 *) KEY_SUFFIX, strlen(KEY_SUFFIX));
    g_checksum_get_digest(sum, digest, &len);
    return g_base64_encode(digest, len);
}

static void put_frame(GByteArray *out, int opcode, const void *data, gsize len)
{
    guint8 header[10] = {(guint8) (FIN | opcode)};
    guint n = len < 126 ? 2 : len < 65536 ? 4 : 10;
    header[1] = n == 2 ? (guint8) len : n == 4 ? 126 : 127;
    for (guint i = n - 1, rest = 0; n > 2 && i >= 2; i--, rest += 8)
        header[i] = (guint8) ((guint64) len >> rest);
    g_byte_array_append(out, header, n);
    if (len > 0)
        g_byte_array_append(out, data, (guint) len);
}

void websocket_encode(GByteArray *out, const void *data, gsize len)
{
    put_frame(out, BINARY, data, len);
}

static gboolean close_with(struct websocket *w, GByteArray *reply, int status)
{
    guint8 code[2] = {(guint8) (status >> 8), (guint8) status};
    put_frame(reply, CLOSE, code, sizeof code);
    w->closed = TRUE;
    return FALSE;
}

/* ---- headers ---- */

static guint header_size(const struct websocket *w)
{
    if (w->header_len < 2)
        return 2;
    guint length = w->header[1] & LENGTH;
    return 2 + (length == 126 ? 2 : length == 127 ? 8 : 0) + 4;
}

static guint64 payload_length(const struct websocket *w)
{
    guint length = w->header[1] & LENGTH, bytes = length == 126 ? 2 : length == 127 ? 8 : 0;
    guint64 n = bytes > 0 ? 0 : length;
    for (guint i = 0; i < bytes; i++)
        n = n << 8 | w->header[2 + i];
    return n;
}

/* The header is whole: is it one that a client may send now? */
static gboolean begin_frame(struct websocket *w)
{
    int opcode = w->header[0] & OPCODE;
    gboolean fin = (w->header[0] & FIN) != 0;
    w->left = payload_length(w);
    w->payload_at = 0;
    w->in_payload = TRUE;
    if ((w->header[0] & RESERVED) != 0 || w->left > G_MAXINT64)
        return FALSE;
    if (opcode & CONTROL)
        return fin && w->left <= sizeof w->control && opcode <= PONG;
    if (opcode > BINARY || (opcode == CONTINUATION) != w->in_message)
        return FALSE;
    w->in_message = !fin;
    return TRUE;
}

/* ---- payloads ---- */

static void take_payload(struct websocket *w, const guint8 *data, gsize len, GByteArray *payload)
{
    const guint8 *mask = w->header + w->header_len - 4;
    gboolean control = (w->header[0] & CONTROL) != 0;
    guint start = payload->len;
    if (len == 0)
        return;
    if (!control)
        g_byte_array_set_size(payload, start + (guint) len);
    guint8 *to = control ? w->control + w->payload_at : payload->data + start;
    for (gsize i = 0; i < len; i++)
        to[i] = data[i] ^ mask[(w->payload_at + i) % 4];
    w->payload_at = control ? w->payload_at + (guint) len : (w->payload_at + (guint) len) % 4;
    w->left -= len;
}

static gboolean end_frame(struct websocket *w, GByteArray *reply)
{
    int opcode = w->header[0] & OPCODE;
    w->in_payload = FALSE;
    w->header_len = 0;
    if (opcode == PING)
        put_frame(reply, PONG, w->control, w->payload_at);
    return opcode != CLOSE || close_with(w, reply, STATUS_NORMAL);
}

gboolean websocket_decode(struct websocket *w, const guint8 *data, gsize len, GByteArray *payload, GByteArray *reply)
{
    while (!w->closed) {
        if (!w->in_payload) {
            while (len > 0 && w->header_len < header_size(w)) {
                w->header[w->header_len++] = *data++;
                len--;
            }
            /* A client that does not mask has no mask to be waited for. */
            if (w->header_len >= 2 && (w->header[1] & MASKED) == 0)
                return close_with(w, reply, STATUS_PROTOCOL);
            if (w->header_len < header_size(w))
                return TRUE;
            if (!begin_frame(w))
                return close_with(w, reply, STATUS_PROTOCOL);
        }
        gsize n = (gsize) MIN((guint64) len, w->left);
        take_payload(w, data, n, payload);
        data += n;
        len -= n;
        if (w->left > 0)
            return TRUE;
        if (!end_frame(w, reply))
            return FALSE;
    }
    return FALSE;
}
