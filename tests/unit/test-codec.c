/* test-codec.c - JSON and JSON-RPC, and what replies are made of. */
#include "daemon/codec/jsonrpc.h"
#include "daemon/codec/xmlrpc.h"

#include <string.h>

static void assert_reply(struct reply *r, const char *expected)
{
    g_autofree char *text = reply_text(r);
    g_assert_cmpstr(text, ==, expected);
    g_assert_cmpuint(reply_length(r), ==, strlen(expected));
    reply_free(r);
}

static void assert_json(struct value *v, const char *expected)
{
    g_autofree char *text = json_text(v);
    g_assert_cmpstr(text, ==, expected);
}

static void assert_quick(const char *what, gint64 since)
{
    double seconds = (double) (g_get_monotonic_time() - since) / G_USEC_PER_SEC;
    g_test_message("%s: %.3f s", what, seconds);
    g_assert_cmpfloat(seconds, <, 5);
}

/* ---- JSON ---- */

static void test_json_values(void)
{
    static const struct {
        const char *text, *written; /* NULL: as text */
    } good[] = {
        {"0", NULL},
        {"-0", "0"},
        {"9223372036854775807", NULL},
        {"-9223372036854775808", NULL},
        {"9223372036854775808", "9.223372036854776e+18"},
        {"1.0", NULL},
        {"0.1", NULL},
        {"1e2", "100.0"},
        {"1E-2", "0.01"},
        {"-1.5e+300", "-1.5e+300"},
        {"0.30000000000000004", NULL},
        {"5e-324", "4.94065645841247e-324"},
        {"true", NULL},
        {"false", NULL},
        {"null", "\"\""},
        {"\"\"", NULL},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\""},
        {"\"\\u00e9\\uD83D\\ude00\\u0001\"", "\"\xc3\xa9\xf0\x9f\x98\x80\\u0001\""},
        {"\"\xc3\xa9\x7f\"", NULL},
        {"\"a\\u0020b\\u0020c\"", "\"a b c\""},
        {"[]", NULL},
        {"{}", NULL},
        {" [ 1 , [ ] , { } , \"x\" ] ", "[1,[],{},\"x\"]"},
        {"\t{\"a\" : 1,\r\n\"b\":{\"c\":[true]}}", "{\"a\":1,\"b\":{\"c\":[true]}}"},
        {"{\"\":0}", NULL},
    };
    static const char *const bad[] = {
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "[",
        "]",
        "{",
        "}",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{\"a\" 1}",
        "[}",
        "{]",
        "[1}",
        "1 2",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "\"",
        "\"a",
        "\"\\",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800x\"",
        "\"\n\"",
        "\"\x1f\"",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xe2\x82\"",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "\xef\xbb\xbf[]",
        "//",
        "[1]//",
        "'a'",
        "{\"\\u0000\":1}",
    };
    for (guint i = 0; i < G_N_ELEMENTS(good); i++) {
        const char *error = NULL;
        g_autoptr(value) v = json_parse(NULL, good[i].text, strlen(good[i].text), NULL, &error);
        g_assert_cmpstr(error, ==, NULL);
        assert_json(v, good[i].written != NULL ? good[i].written : good[i].text);
    }
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        const char *error = NULL;
        g_test_message("case %u", i);
        g_assert_null(json_parse(NULL, bad[i], strlen(bad[i]), NULL, &error));
        g_assert_nonnull(error);
    }
    g_assert_null(json_parse(NULL, NULL, 0, NULL, NULL));
    g_assert_null(json_parse(NULL, "[\0]", 3, NULL, NULL));
    g_assert_null(json_parse(NULL, "\"a\0b\"", 5, NULL, NULL));
    g_assert_null(json_parse(NULL, "1\0", 2, NULL, NULL));
}

static void test_json_limits(void)
{
    g_autoptr(arena) a = arena_new();
    struct codec_limits few = {.elements = 3}, shorter = {.string_length = 4};
    GString *s = g_string_new(NULL);
    for (guint depth = 30; depth < 35; depth++) {
        g_string_truncate(s, 0);
        for (guint i = 0; i < depth; i++)
            g_string_append(s, i % 2 == 0 ? "[" : "{\"a\":");
        g_string_append(s, "1");
        for (guint i = depth; i > 0; i--)
            g_string_append(s, i % 2 == 1 ? "]" : "}");
        g_assert_true((json_parse(a, s->str, s->len, NULL, NULL) != NULL) == (depth <= 32));
    }
    g_string_assign(s, "{");
    for (guint i = 0; i < 199000; i++)
        g_string_append_printf(s, "\"%u\":0,", i);
    g_string_append(s, "\"x\":0}");
    gint64 start = g_get_monotonic_time();
    g_assert_nonnull(json_parse(a, s->str, s->len, NULL, NULL));
    assert_quick("members", start);
    g_string_free(s, TRUE);
    g_assert_nonnull(json_parse(a, "[1,2]", 5, &few, NULL));
    g_assert_null(json_parse(a, "[1,2,3]", 7, &few, NULL));
    g_assert_nonnull(json_parse(a, "\"abcd\"", 6, &shorter, NULL));
    g_assert_null(json_parse(a, "\"abcde\"", 7, &shorter, NULL));
    g_assert_null(json_parse(a, "{\"abcde\":1}", 11, &shorter, NULL));
}

static void test_json_written(void)
{
    g_autoptr(value) bad = value_string(NULL, "\xff\xc3|\x01\"\\");
    assert_json(bad, "\"\xef\xbf\xbd\xef\xbf\xbd|\\u0001\\\"\\\\\"");
    g_autoptr(value) date = value_datetime(NULL, 1704067200);
    assert_json(date, "\"20240101T00:00:00Z\"");
    g_autoptr(value) i4 = value_i4(NULL, 5);
    assert_json(i4, "5");
    assert_json(value_void(), "\"\"");
    assert_json(NULL, "\"\"");
}

/* ---- JSON-RPC ---- */

static struct rpc_request *read_json(struct arena *a, const char *text, gsize *n, gboolean *batch)
{
    struct rpc_request *reqs;
    enum parse_result result = jsonrpc_parse(a, text, strlen(text), NULL, &reqs, n, batch);
    g_assert_cmpint(result, ==, PARSE_OK);
    g_assert_cmpuint(*n, >, 0);
    return reqs;
}

static void test_jsonrpc_requests(void)
{
    static const struct {
        const char *text;
        guint version;
        gboolean notification;
        enum parse_result result;
        const char *id;
    } cases[] = {
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[1,\"x\"],\"id\":0}", 2, FALSE, PARSE_OK, "0"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[1,\"x\"],\"id\":\"u\"}", 2, FALSE, PARSE_OK, "\"u\""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[1,\"x\"],\"id\":1.5}", 2, FALSE, PARSE_OK, "1.5"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[1,\"x\"],\"id\":null}", 2, FALSE, PARSE_OK, NULL},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[1,\"x\"]}", 2, TRUE, PARSE_OK, NULL},
        {"{\"method\":\"m\",\"params\":[1,\"x\"],\"id\":3}", 1, FALSE, PARSE_OK, "3"},
        {"{\"method\":\"m\",\"params\":[1,\"x\"],\"id\":null}", 1, TRUE, PARSE_OK, NULL},
        {"{\"jsonrpc\":\"1.0\",\"method\":\"m\",\"params\":[1,\"x\"],\"id\":3,\"more\":[]}", 1, FALSE, PARSE_OK, "3"},
        {"{\"jsonrpc\":\"3.0\",\"method\":\"m\",\"id\":3}", 2, FALSE, PARSE_INVALID, "3"},
        {"{\"jsonrpc\":2.0,\"method\":\"m\",\"id\":3}", 2, FALSE, PARSE_INVALID, "3"},
        {"{\"jsonrpc\":\"2.0\",\"id\":3}", 2, FALSE, PARSE_INVALID, "3"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"\",\"id\":3}", 2, FALSE, PARSE_INVALID, "3"},
        {"{\"jsonrpc\":\"2.0\",\"method\":1,\"id\":3}", 2, FALSE, PARSE_INVALID, "3"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":[]}", 2, FALSE, PARSE_INVALID, NULL},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{},\"id\":3}", 2, FALSE, PARSE_INVALID, "3"},
        {"{}", 1, TRUE, PARSE_INVALID, NULL},
        {"1", 2, FALSE, PARSE_INVALID, NULL},
        {"null", 2, FALSE, PARSE_INVALID, NULL},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(arena) a = arena_new();
        gsize n;
        gboolean batch;
        g_test_message("%s", cases[i].text);
        struct rpc_request *req = read_json(a, cases[i].text, &n, &batch);
        g_assert_false(batch);
        g_assert_cmpuint(n, ==, 1);
        g_assert_cmpint(req->result, ==, cases[i].result);
        g_assert_cmpuint(req->version, ==, cases[i].version);
        g_assert_cmpint(req->notification, ==, cases[i].notification);
        g_autofree char *id = req->id != NULL ? json_text(req->id) : NULL;
        g_assert_cmpstr(id, ==, cases[i].id);
        if (cases[i].result != PARSE_OK) {
            g_assert_nonnull(req->error);
            continue;
        }
        g_assert_cmpstr(req->method, ==, "m");
        g_assert_cmpuint(req->n_args, ==, 2);
        g_assert_cmpstr(value_str(req->args[1]), ==, "x");
    }
}

static void test_jsonrpc_batch(void)
{
    g_autoptr(arena) a = arena_new();
    struct rpc_request *reqs;
    gsize n;
    gboolean batch;
    reqs = read_json(a, "[{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"id\":1},7,{\"method\":\"b\",\"params\":[],\"id\":2}]",
                     &n, &batch);
    g_assert_true(batch);
    g_assert_cmpuint(n, ==, 3);
    g_assert_cmpstr(reqs[0].method, ==, "a");
    g_assert_cmpint(reqs[1].result, ==, PARSE_INVALID);
    g_assert_cmpstr(reqs[2].method, ==, "b");
    g_assert_cmpint(jsonrpc_parse(a, "[]", 2, NULL, &reqs, &n, &batch), ==, PARSE_INVALID);
    g_assert_cmpint(jsonrpc_parse(a, "[1", 2, NULL, &reqs, &n, &batch), ==, PARSE_MALFORMED);
    g_assert_cmpuint(n, ==, 0);
    g_autofree char *name = g_strnfill(257, 'n');
    g_autofree char *text = g_strdup_printf("{\"method\":\"%s\",\"id\":1}", name);
    reqs = read_json(a, text, &n, &batch);
    g_assert_cmpint(reqs[0].result, ==, PARSE_INVALID);
}

static void test_jsonrpc_replies(void)
{
    g_autoptr(value) id = value_int(NULL, 7);
    struct rpc_request one = {.version = 1, .id = id}, two = {.version = 2, .id = id}, none = {.version = 2};
    struct fault f = FAULT_INIT;
    fault_set(&f, "VM_BAD_POWER_STATE", "a\"b", NULL);
    struct reply *r = reply_new();
    jsonrpc_put_success(r, &two, value_bool(TRUE));
    assert_reply(r, "{\"jsonrpc\":\"2.0\",\"result\":true,\"id\":7}");
    r = reply_new();
    jsonrpc_put_success(r, &one, NULL);
    assert_reply(r, "{\"result\":\"\",\"error\":null,\"id\":7}");
    r = reply_new();
    jsonrpc_put_failure(r, &two, &f);
    assert_reply(r,
                 "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":\"VM_BAD_POWER_STATE\",\"data\":[\"a\\\"b\"]},"
                 "\"id\":7}");
    r = reply_new();
    jsonrpc_put_failure(r, &one, &f);
    assert_reply(r, "{\"result\":null,\"error\":[\"VM_BAD_POWER_STATE\",\"a\\\"b\"],\"id\":7}");
    r = reply_new();
    jsonrpc_put_error(r, NULL, -32700, "Parse error");
    assert_reply(r, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32700,\"message\":\"Parse error\"},\"id\":null}");
    r = reply_new();
    jsonrpc_put_error(r, &none, -32600, "Invalid Request");
    assert_reply(r, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32600,\"message\":\"Invalid Request\"},\"id\":null}");
    r = reply_new();
    jsonrpc_put_error(r, &one, -32600, "Invalid Request");
    assert_reply(r, "{\"result\":null,\"error\":[\"Invalid Request\"],\"id\":7}");
    fault_clear(&f);
}

/* ---- replies ---- */

struct record {
    GBytes *bytes[N_WIRE_FORMATS];
};

static GBytes *record_bytes(void *data, enum wire_format format)
{
    struct record *record = data;
    return record->bytes[format];
}

static void record_unref(void *data)
{
    struct record *record = data;
    for (guint i = 0; i < N_WIRE_FORMATS; i++)
        g_bytes_unref(record->bytes[i]);
    g_free(record);
}

static const struct value_blob_ops record_ops = {record_bytes, NULL, record_unref};

static struct value *record_new(struct value *v)
{
    struct record *record = g_new(struct record, 1);
    for (guint i = 0; i < N_WIRE_FORMATS; i++)
        record->bytes[i] = codec_value_bytes(i, v);
    return value_blob(&record_ops, record);
}

/* Large stored bytes are referred to and outlive their value; small ones are copied. */
static void test_reply_blobs(void)
{
    g_autofree char *long_text = g_strnfill(1000, 'x');
    g_autoptr(value) large = value_string(NULL, long_text);
    g_autoptr(value) small = value_string(NULL, "y");
    for (guint format = 0; format < N_WIRE_FORMATS; format++) {
        struct value_builder b;
        struct reply *r = reply_new(), *plain = reply_new();
        value_builder_set(&b, NULL, 0);
        for (int i = 0; i < 20; i++)
            value_builder_add(&b, record_new(i % 2 == 0 ? large : small));
        struct value *blobs = value_builder_end(&b);
        codec_put_value(r, format, blobs);
        value_unref(blobs);
        gsize n, total = 0;
        const struct reply_range *ranges = reply_ranges(r, &n);
        g_assert_cmpuint(n, ==, 21);
        for (gsize i = 0; i < n; i++)
            total += ranges[i].len;
        g_assert_cmpuint(total, ==, reply_length(r));
        value_builder_set(&b, NULL, 0);
        for (int i = 0; i < 20; i++)
            value_builder_add(&b, value_ref(i % 2 == 0 ? large : small));
        g_autoptr(value) values = value_builder_end(&b);
        codec_put_value(plain, format, values);
        g_autofree char *expected = reply_text(plain);
        reply_free(plain);
        assert_reply(r, expected);
    }
}

static void test_reply_growth(void)
{
    struct reply *r = reply_new();
    GString *expected = g_string_new(NULL);
    for (guint i = 0; i < 100000; i++) {
        g_autofree char *text = g_strdup_printf("%u ", i * i);
        reply_put(r, text, strlen(text));
        g_string_append(expected, text);
    }
    g_autofree char *large = g_strnfill(1000000, 'z');
    reply_put(r, large, strlen(large));
    g_string_append(expected, large);
    reply_put(r, "", 0);
    assert_reply(r, expected->str);
    g_string_free(expected, TRUE);
    reply_free(NULL);
}

/* What one codec writes it reads again; the types that XML-RPC has no words for become strings. */
static void test_round_trip(void)
{
    static const char text[] =
        "{\"s\":\"a\\r\\n<&>\\\"\\t\xe2\x82\xac\",\"f\":0.1,\"b\":true,\"set\":[\"\",[],{\"k\":\"v\"}],\"e\":{}}";
    g_autoptr(value) v = json_parse(NULL, text, strlen(text), NULL, NULL);
    g_autofree char *xml = xmlrpc_value_text(v);
    g_autoptr(value) again = xmlrpc_parse_value(xml, strlen(xml));
    g_assert_true(value_equal(v, again));
    assert_json(again, text);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json/values", test_json_values);
    g_test_add_func("/json/limits", test_json_limits);
    g_test_add_func("/json/written", test_json_written);
    g_test_add_func("/jsonrpc/requests", test_jsonrpc_requests);
    g_test_add_func("/jsonrpc/batch", test_jsonrpc_batch);
    g_test_add_func("/jsonrpc/replies", test_jsonrpc_replies);
    g_test_add_func("/reply/blobs", test_reply_blobs);
    g_test_add_func("/reply/growth", test_reply_growth);
    g_test_add_func("/round-trip", test_round_trip);
    return g_test_run();
}
