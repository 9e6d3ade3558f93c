/* http_body.c - the body of a request as it arrives: one buffer of the connection, kept while it is small. */
#include "config.h"

#include <string.h>

#include "daemon/http/http_internal.h"

#define BODY_FIRST 1024        /* room to begin with */
#define BODY_KEEP  (16 * 1024) /* a larger buffer is given back after the request */

/* The room grows with what has arrived, not with what the header promises. */
void body_append(struct http_connection *c, const char *data, gsize len)
{
    if (c->body_len + len > c->body_room) {
        c->body_room = MAX(MAX(c->body_room * 2, c->body_len + len), BODY_FIRST);
        c->body = g_realloc(c->body, c->body_room);
    }
    memcpy(c->body + c->body_len, data, len);
    c->body_len += len;
}

void body_drop(struct http_connection *c)
{
    g_clear_pointer(&c->body, g_free);
    c->body_len = c->body_room = 0;
}

void body_done(struct http_connection *c)
{
    if (c->body_room > BODY_KEEP)
        body_drop(c);
}
