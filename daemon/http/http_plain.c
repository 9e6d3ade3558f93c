/* http_plain.c - requests that are neither calls nor have a route: the front page, OPTIONS, and what is not there. */
#include "config.h"

#include <string.h>

#include "daemon/http/http_internal.h"

#define BODY_IGNORED (64 * 1024) /* of a request that is refused, so that its client reads the answer */

static enum MHD_Result plain_body(struct http_connection *c, const char *data, gsize len)
{
    (void) data;
    c->discarded += len;
    return c->discarded <= BODY_IGNORED ? MHD_YES : MHD_NO;
}

static enum MHD_Result plain_end(struct http_connection *c)
{
    return send_text(c, c->status, c->text, c->allow);
}

static void plain_finished(struct http_connection *c)
{
    g_clear_pointer(&c->allow, g_free);
}

static const struct http_ops plain_ops = {plain_body, plain_end, NULL, plain_finished};

gint64 request_length(struct http_connection *c)
{
    const char *text = MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    guint64 n;
    if (!text || !g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT64, &n, NULL))
        return -1;
    return n;
}

enum MHD_Result plain_begin(struct http_connection *c, guint status, const char *text, const char *allow)
{
    c->ops = &plain_ops;
    c->status = status;
    c->text = text;
    c->allow = g_strdup(allow);
    if (request_length(c) > BODY_IGNORED)
        return send_text(c, status, text, allow);
    return MHD_YES;
}

/* ---- OPTIONS: 200 and what is allowed, and for browsers what CORS asks for ---- */

static enum MHD_Result options_end(struct http_connection *c)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(0, (void *) "", MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "POST, GET, HEAD, OPTIONS");
    cors_add(c, r, TRUE);
    connection_phase(c, PHASE_REPLY);
    enum MHD_Result ok = MHD_queue_response(c->mhd, MHD_HTTP_OK, r);
    MHD_destroy_response(r);
    return ok;
}

static const struct http_ops options_ops = {plain_body, options_end, NULL, NULL};

enum MHD_Result options_begin(struct http_connection *c)
{
    c->ops = &options_ops;
    return MHD_YES;
}

/* ---- GET / ---- */

static const char index_page[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>" PACKAGE_NAME "</title></head>\n"
    "<body>\n<h1>" PACKAGE_NAME " " PACKAGE_VERSION "</h1>\n<p>The Xen-API of this host.</p>\n<ul>\n"
    "<li>POST <code>/jsonrpc</code>: JSON-RPC 2.0 and 1.0</li>\n"
    "<li>POST <code>/</code>, <code>/RPC2</code> and any other path: XML-RPC</li>\n"
    "<li>GET <a href=\"/api-reference.json\"><code>/api-reference.json</code></a>: classes, fields, messages and errors"
    " (log in first)</li>\n</ul>\n</body>\n</html>\n";

static enum MHD_Result index_end(struct http_connection *c)
{
    return send_bytes(c, MHD_HTTP_OK, "text/html", g_bytes_new_static(index_page, sizeof index_page - 1), NULL);
}

static const struct http_ops index_ops = {plain_body, index_end, NULL, NULL};

enum MHD_Result index_begin(struct http_connection *c)
{
    c->ops = &index_ops;
    return MHD_YES;
}
