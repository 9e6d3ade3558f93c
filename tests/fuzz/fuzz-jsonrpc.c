/* fuzz-jsonrpc.c - any bytes as JSON and as a JSON-RPC request. jansson says what is JSON and what it means: both
 * readers must agree, but for integers beyond 64 bits, which jansson refuses and ours reads as floats, and for a NUL
 * after a number, which jansson takes for the end. */
#include "daemon/codec/jsonrpc.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size);

static void check(gboolean ok, const char *what, const char *text)
{
    if (!ok) {
        g_printerr("%s: %s\n", what, text);
        abort(); /* libFuzzer keeps the input then */
    }
}

static gboolean same(const struct value *v, const json_t *j);

static gboolean same_members(const struct value *v, const json_t *j)
{
    if (v->u.map.n != json_object_size(j))
        return FALSE;
    for (gsize i = 0; i < v->u.map.n; i++) {
        const json_t *member = json_object_get(j, value_str(v->u.map.m[i].key));
        if (member == NULL || !same(v->u.map.m[i].value, member))
            return FALSE;
    }
    return TRUE;
}

static gboolean same_items(const struct value *v, const json_t *j)
{
    if (v->u.set.n != json_array_size(j))
        return FALSE;
    for (gsize i = 0; i < v->u.set.n; i++) {
        if (!same(v->u.set.v[i], json_array_get(j, i)))
            return FALSE;
    }
    return TRUE;
}

static gboolean same(const struct value *v, const json_t *j)
{
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return v->type == VALUE_MAP && same_members(v, j);
    case JSON_ARRAY:
        return v->type == VALUE_SET && same_items(v, j);
    case JSON_STRING:
        return v->type == VALUE_STRING && v->u.str.len == json_string_length(j) &&
               memcmp(v->u.str.s, json_string_value(j), v->u.str.len) == 0;
    case JSON_INTEGER:
        return v->type == VALUE_INT && v->u.i == json_integer_value(j);
    case JSON_REAL:
        return v->type == VALUE_FLOAT && v->u.d == json_real_value(j);
    case JSON_TRUE:
        return v->type == VALUE_BOOL && v->u.i == 1;
    case JSON_FALSE:
        return v->type == VALUE_BOOL && v->u.i == 0;
    case JSON_NULL:
        return v->type == VALUE_VOID;
    }
    return FALSE;
}

static void check_oracle(const char *text, gsize size, const struct value *v, const char *error)
{
    json_error_t why;
    if (size > 0 && memchr(text, '\0', size) != NULL) {
        check(v == NULL, "NUL is no JSON", "");
        return;
    }
    json_t *j = json_loadb(text, size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
    if (j == NULL)
        check(v == NULL || json_error_code(&why) == json_error_numeric_overflow, "only jansson refuses", why.text);
    else if (v == NULL)
        check(g_str_equal(error, "number too long"), "only ours refuses", error);
    else
        check(same(v, j), "the two readers differ", text);
    json_decref(j);
}

static gboolean has_void(const struct value *v)
{
    for (gsize i = 0; v->type == VALUE_SET && i < v->u.set.n; i++) {
        if (has_void(v->u.set.v[i]))
            return TRUE;
    }
    for (gsize i = 0; v->type == VALUE_MAP && i < v->u.map.n; i++) {
        if (has_void(v->u.map.m[i].value))
            return TRUE;
    }
    return v->type == VALUE_VOID;
}

/* What is written is read as the same by both; a null is written as "". */
static void check_round_trip(struct value *v)
{
    static const struct codec_limits generous = {.depth = 1000, .elements = G_MAXUINT};
    g_autofree char *text = json_text(v);
    g_autoptr(value) again = json_parse(NULL, text, strlen(text), &generous, NULL);
    check(again != NULL, "what was written cannot be read", text);
    check(has_void(v) || value_equal(v, again), "what was written reads otherwise", text);
    check_oracle(text, strlen(text), again, "");
}

static void check_requests(struct arena *a, const char *text, gsize size)
{
    struct codec_limits limits = {.depth = 5, .elements = 50, .string_length = 100};
    struct rpc_request *reqs;
    gboolean batch;
    gsize n;
    if (jsonrpc_parse(a, text, size, &limits, &reqs, &n, &batch) != PARSE_OK)
        return;
    check(n > 0 && (batch || n == 1), "wrong number of requests", "");
    for (gsize i = 0; i < n; i++) {
        struct reply *r = reply_new();
        check(reqs[i].result != PARSE_OK || reqs[i].method[0] != '\0', "a request without a method", "");
        jsonrpc_put_success(r, &reqs[i], reqs[i].n_args > 0 ? reqs[i].args[0] : NULL);
        g_autofree char *reply = reply_text(r);
        json_t *j = json_loads(reply, 0, NULL);
        check(j != NULL, "a reply that is not JSON", reply);
        json_decref(j);
        reply_free(r);
    }
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    /* jansson itself goes no deeper than 2048: nothing that a fuzzer makes is so large. */
    static const struct codec_limits generous = {.depth = 1000, .elements = G_MAXUINT};
    g_autoptr(arena) a = arena_new();
    const char *error = "";
    g_autofree char *text = g_memdup2(data, size);
    struct value *v = size < 1000 ? json_parse(a, text, size, &generous, &error) : NULL;
    if (size < 1000)
        check_oracle(text, size, v, error);
    if (v != NULL)
        check_round_trip(v);
    check_requests(a, text, size);
    return 0;
}
