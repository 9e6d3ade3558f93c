/* fuzz-xmlrpc.c - any bytes as an XML-RPC request. What is read must survive being written and read again, and must
 * leave the parser as good as new. */
#include "daemon/codec/xmlrpc.h"

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

/* <base64> can hold characters that are dropped when they are written. */
static gboolean is_xml_text(const char *s)
{
    for (; *s != '\0'; s = g_utf8_next_char(s)) {
        gunichar c = g_utf8_get_char(s);
        if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0xfffe || c == 0xffff)
            return FALSE;
    }
    return TRUE;
}

/* A double loses digits when it is written with 16 of them, an integer its type: neither is compared. */
static gboolean is_exact(const struct value *v)
{
    if (v->type == VALUE_FLOAT || v->type == VALUE_INT || v->type == VALUE_VOID)
        return FALSE;
    if (v->type == VALUE_STRING)
        return is_xml_text(value_str(v));
    for (gsize i = 0; v->type == VALUE_SET && i < v->u.set.n; i++) {
        if (!is_exact(v->u.set.v[i]))
            return FALSE;
    }
    for (gsize i = 0; v->type == VALUE_MAP && i < v->u.map.n; i++) {
        if (!is_exact(v->u.map.m[i].value))
            return FALSE;
    }
    return TRUE;
}

static void check_round_trip(struct value *v)
{
    g_autofree char *text = xmlrpc_value_text(v);
    check(g_utf8_validate(text, -1, NULL), "written text is not UTF-8", text);
    g_autoptr(value) again = xmlrpc_parse_value(text, strlen(text));
    check(again != NULL, "what was written cannot be read", text);
    check(!is_exact(v) || value_equal(v, again), "what was written reads otherwise", text);
    g_autofree char *second = xmlrpc_value_text(again);
    check(is_exact(v) ? g_str_equal(text, second) : TRUE, "written otherwise the second time", second);
}

static void check_request(const struct rpc_request *req)
{
    check(req->method[0] != '\0', "a request without a method", "");
    for (gsize i = 0; i < req->n_args; i++)
        check_round_trip(req->args[i]);
}

static void check_next_request(struct arena *a)
{
    static const char text[] = "<methodCall><methodName>m</methodName><params><param><value>x</value></param></params>"
                               "</methodCall>";
    struct rpc_request req;
    enum parse_result result = xmlrpc_parse_request(a, text, strlen(text), NULL, &req);
    check(result == PARSE_OK && req.n_args == 1, "the next request fails", req.error);
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    g_autoptr(arena) a = arena_new();
    struct codec_limits limits = {.depth = 12, .elements = 200, .string_length = 4096};
    struct rpc_request req;
    /* A copy of the exact size, so that reading past the end is seen. */
    g_autofree char *text = g_memdup2(data, size);
    if (xmlrpc_parse_request(a, text, size, &limits, &req) == PARSE_OK)
        check_request(&req);
    else
        check(req.error != NULL && g_utf8_validate(req.error, -1, NULL), "no reason is given", "");
    check_next_request(a);
    g_autoptr(value) v = xmlrpc_parse_value(text, size);
    if (v != NULL)
        check_round_trip(v);
    return 0;
}
