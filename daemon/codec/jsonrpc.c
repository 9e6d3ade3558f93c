/* jsonrpc.c - JSON-RPC 1.0 and 2.0: what a request says, and how its reply is put. */
#include "daemon/codec/codec-internal.h"
#include "daemon/codec/jsonrpc.h"

#include <string.h>

/* A batch, a request and its parameters: levels that are not the client's values. */
#define PROTOCOL_LEVELS 3

/* ---- requests ---- */

static void request_bad(struct rpc_request *req, const char *error)
{
    if (req->result == PARSE_OK) {
        req->result = PARSE_INVALID;
        req->error = error;
    }
}

static void request_version(struct rpc_request *req, struct value *v)
{
    const char *text = value_str(v);
    if (v == NULL || g_str_equal(text, "1.0"))
        req->version = 1;
    else if (!g_str_equal(text, "2.0"))
        request_bad(req, "unknown version of JSON-RPC");
}

static void request_id(struct rpc_request *req, struct value *v)
{
    req->notification = v == NULL || (req->version == 1 && v->type == VALUE_VOID);
    if (v == NULL || v->type == VALUE_VOID)
        return;
    if (v->type == VALUE_STRING || v->type == VALUE_INT || v->type == VALUE_FLOAT)
        req->id = v;
    else
        request_bad(req, "id is neither a string nor a number");
}

static void request_method(struct rpc_request *req, struct value *v)
{
    if (v == NULL || v->type != VALUE_STRING || v->u.str.len == 0)
        request_bad(req, "method is not a string");
    else if (v->u.str.len > METHOD_NAME_LENGTH)
        request_bad(req, "method is too long");
    else
        req->method = v->u.str.s;
}

static void request_params(struct rpc_request *req, struct value *v)
{
    if (v == NULL)
        return;
    if (v->type != VALUE_SET) {
        request_bad(req, "params is not an array");
        return;
    }
    req->args = v->u.set.v;
    req->n_args = v->u.set.n;
}

static void request_from_value(struct rpc_request *req, struct value *v)
{
    *req = (struct rpc_request){.method = "", .version = 2, .result = PARSE_OK};
    if (v->type != VALUE_MAP) {
        request_bad(req, "a request is an object");
        return;
    }
    request_version(req, value_get(v, "jsonrpc"));
    request_id(req, value_get(v, "id"));
    request_method(req, value_get(v, "method"));
    request_params(req, value_get(v, "params"));
}

enum parse_result jsonrpc_parse(struct arena *a, const char *text, gsize len, const struct codec_limits *limits,
                                struct rpc_request **reqs, gsize *n_reqs, gboolean *batch)
{
    struct value *v = json_read(a, text, len, limits, PROTOCOL_LEVELS, NULL);
    *reqs = NULL;
    *n_reqs = 0;
    *batch = v != NULL && v->type == VALUE_SET;
    if (v == NULL)
        return PARSE_MALFORMED;
    gsize n = *batch ? value_count(v) : 1;
    if (n == 0)
        return PARSE_INVALID;
    *reqs = arena_alloc(a, n * sizeof(struct rpc_request));
    *n_reqs = n;
    for (gsize i = 0; i < n; i++)
        request_from_value(&(*reqs)[i], *batch ? value_at(v, i) : v);
    return PARSE_OK;
}

/* ---- replies ---- */

static gboolean is_version_1(const struct rpc_request *req)
{
    return req != NULL && req->version == 1;
}

/* ,"id":...} */
static void put_id(struct reply *r, const struct rpc_request *req)
{
    reply_put_literal(r, ",\"id\":");
    if (req == NULL || req->id == NULL)
        reply_put_literal(r, "null");
    else
        codec_put_value(r, WIRE_JSON, req->id);
    reply_put_literal(r, "}");
}

void jsonrpc_put_success(struct reply *r, const struct rpc_request *req, struct value *v)
{
    if (is_version_1(req))
        reply_put_literal(r, "{\"result\":");
    else
        reply_put_literal(r, "{\"jsonrpc\":\"2.0\",\"result\":");
    codec_put_value(r, WIRE_JSON, v);
    if (is_version_1(req))
        reply_put_literal(r, ",\"error\":null");
    put_id(r, req);
}

static void put_strings(struct reply *r, const char *const *strv)
{
    struct value *v = value_string_set(NULL, strv);
    codec_put_value(r, WIRE_JSON, v);
    value_unref(v);
}

static void put_string(struct reply *r, const char *s)
{
    struct value *v = value_string(NULL, s);
    codec_put_value(r, WIRE_JSON, v);
    value_unref(v);
}

void jsonrpc_put_failure(struct reply *r, const struct rpc_request *req, const struct fault *f)
{
    if (is_version_1(req)) {
        struct value *error = fault_value(NULL, f);
        reply_put_literal(r, "{\"result\":null,\"error\":");
        codec_put_value(r, WIRE_JSON, error);
        value_unref(error);
    } else {
        reply_put_literal(r, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":");
        put_string(r, f->code);
        reply_put_literal(r, ",\"data\":");
        put_strings(r, (const char *const *) f->params);
        reply_put_literal(r, "}");
    }
    put_id(r, req);
}

void jsonrpc_put_error(struct reply *r, const struct rpc_request *req, int code, const char *text)
{
    if (is_version_1(req)) {
        reply_put_literal(r, "{\"result\":null,\"error\":");
        put_strings(r, (const char *const[]){text, NULL});
    } else {
        reply_put_literal(r, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":");
        reply_put_int(r, code);
        reply_put_literal(r, ",\"message\":");
        put_string(r, text);
        reply_put_literal(r, "}");
    }
    put_id(r, req);
}
