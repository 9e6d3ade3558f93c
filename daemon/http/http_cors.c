/* http_cors.c - which pages in a browser may read our answers (conf cors-origins). */
#include "config.h"

#include <string.h>

#include "daemon/http/http_internal.h"

/* The value of Access-Control-Allow-Origin, or NULL when the origin may not. */
static const char *allowed_origin(struct http_connection *c)
{
    const GStrv origins = the_conf()->cors_origins;
    if (!origins || !origins[0])
        return NULL;
    const char *origin = MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_ORIGIN);
    if (!origin)
        return NULL;
    for (gsize i = 0; origins[i]; i++) {
        if (strcmp(origins[i], "*") == 0)
            return "*";
        if (g_ascii_strcasecmp(origins[i], origin) == 0)
            return origin;
    }
    return NULL;
}

void cors_add(struct http_connection *c, struct MHD_Response *response, gboolean preflight)
{
    const char *origin = allowed_origin(c);
    if (!origin)
        return;
    MHD_add_response_header(response, "Access-Control-Allow-Origin", origin);
    if (strcmp(origin, "*") != 0)
        MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, "Origin");
    if (!preflight)
        return;
    MHD_add_response_header(response, "Access-Control-Allow-Methods", "POST, GET, OPTIONS");
    MHD_add_response_header(response, "Access-Control-Allow-Headers", "content-type");
    MHD_add_response_header(response, "Access-Control-Max-Age", "86400");
}
