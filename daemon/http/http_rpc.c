/* http_rpc.c - POST: a body is gathered, becomes an exchange, and its reply is sent, at once or after a wait. */
#include "config.h"

#include <string.h>

#include "daemon/http/http_internal.h"

#define DISCARD_MOST (1024 * 1024)

static gboolean body_fits(struct http_connection *c, gsize len)
{
    const struct conf *conf = the_conf();
    gsize size = c->body_len + len;
    if (size <= (gsize) conf->body_size_login)
        return TRUE;
    if (size > (gsize) conf->body_size)
        return FALSE;
    /* Asked once, when the smaller limit is crossed. */
    return c->body_len > (gsize) conf->body_size_login || dispatch_shows_session(c->body, c->body_len);
}

/* What is too large is read on for a while, since a client that still writes would not see the answer; then it is cut.
 */
static enum MHD_Result body_discard(struct http_connection *c, gsize len)
{
    body_drop(c);
    c->discarded += len;
    if (c->discarded <= DISCARD_MOST)
        return MHD_YES;
    send_too_large_raw(c);
    return MHD_NO;
}

static enum MHD_Result rpc_body(struct http_connection *c, const char *data, gsize len)
{
    if (c->discarded > 0 || !body_fits(c, len))
        return body_discard(c, len);
    body_append(c, data, len);
    return MHD_YES;
}

static void exchange_done(struct exchange *x, void *data)
{
    (void) x;
    connection_wake(data);
}

static void fill_origin(struct http_connection *c)
{
    c->origin.user_agent = MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_USER_AGENT);
    c->origin.host = MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
}

static enum MHD_Result rpc_run(struct http_connection *c)
{
    gboolean finished;
    fill_origin(c);
    connection_phase(c, PHASE_RUNNING);
    connection_wait(c);
    c->exchange =
        exchange_run(c->protocol, c->body ? c->body : "", c->body_len, &c->origin, exchange_done, c, &finished);
    if (finished)
        return send_exchange(c);
    if (connection_suspend(c))
        return MHD_YES;
    return g_atomic_int_get(&c->wait) == WAIT_GONE ? MHD_NO : send_exchange(c);
}

static enum MHD_Result rpc_end(struct http_connection *c)
{
    if (c->discarded > 0)
        return send_text(c, MHD_HTTP_CONTENT_TOO_LARGE, "The request is too large.\n", NULL);
    if (!c->exchange)
        return rpc_run(c);
    connection_resumed(c);
    return g_atomic_int_get(&c->wait) == WAIT_DONE ? send_exchange(c) : MHD_NO;
}

static void rpc_gone(struct http_connection *c)
{
    exchange_abandon(c->exchange);
}

static void rpc_finished(struct http_connection *c)
{
    if (c->exchange && g_atomic_int_get(&c->wait) == WAIT_GONE)
        exchange_abandon(c->exchange);
    g_clear_pointer(&c->exchange, exchange_unref);
    body_done(c);
}

static const struct http_ops rpc_ops = {rpc_body, rpc_end, rpc_gone, rpc_finished};

static gboolean is_json_path(const char *url)
{
    return strcmp(url, "/jsonrpc") == 0 || strcmp(url, "/jsonrpc/") == 0 || strcmp(url, "/json") == 0 ||
           strcmp(url, "/json/") == 0;
}

enum MHD_Result rpc_begin(struct http_connection *c, const char *url)
{
    c->ops = &rpc_ops;
    c->protocol = is_json_path(url) ? PROTOCOL_JSON : PROTOCOL_XML;
    /* A client that asks before it sends is told before it sends. */
    if (request_length(c) > the_conf()->body_size &&
        MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT))
        return send_text(c, MHD_HTTP_CONTENT_TOO_LARGE, "The request is too large.\n", NULL);
    return MHD_YES;
}
