/* http_reference.c - GET /api-reference.json: the model as data, for those who write clients. */
#include "config.h"

#include "daemon/codec/codec.h"
#include "daemon/http/http_route.h"

/* The model does not change while we run. */
static GBytes *reference_bytes(void)
{
    static gsize once;
    static GBytes *bytes;
    if (g_once_init_enter(&once)) {
        g_autoptr(value) model = model_describe();
        bytes = codec_value_bytes(WIRE_JSON, model);
        g_once_init_leave(&once, 1);
    }
    return g_bytes_ref(bytes);
}

static void get_reference(struct http_request *r)
{
    http_answer(r, 200, "application/json", reference_bytes());
}

static const struct http_route reference_route = {"GET", "/api-reference.json", HTTP_SESSION, ROLE_none, get_reference};

void http_reference_init(void)
{
    http_route_add(&reference_route);
}
