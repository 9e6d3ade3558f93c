/* websocket.h - the server's side of WebSocket (RFC 6455) over bytes that come from and go to somebody else. */
#ifndef XENAPID_WEBSOCKET_H
#define XENAPID_WEBSOCKET_H

#include <glib.h>

/* What a stream of frames has come to; begins as zeroes. */
struct websocket {
    guint8 header[14];
    guint header_len;
    guint64 left; /* of the frame's payload */
    guint payload_at;
    guint8 control[125];
    gboolean in_payload, in_message, closed;
};

/* The value of Sec-WebSocket-Accept for that of Sec-WebSocket-Key; the caller frees it. */
char *websocket_accept(const char *key);
/* Takes all of data: what the client said is added to payload, what must be answered (pongs, the close) to reply. FALSE
 * when the client broke the protocol or has closed; reply is then to be sent and the connection to be ended. */
gboolean websocket_decode(struct websocket *w, const guint8 *data, gsize len, GByteArray *payload, GByteArray *reply);
/* Adds a frame with binary data. */
void websocket_encode(GByteArray *out, const void *data, gsize len);

#endif
