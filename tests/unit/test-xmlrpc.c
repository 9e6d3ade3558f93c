/* test-xmlrpc.c - XML-RPC: what is read, what is refused, and the exact bytes that are written. */
#include "daemon/codec/jsonrpc.h"
#include "daemon/codec/xmlrpc.h"

#include <string.h>

#define CALL(method, params)                                                                                           \
    "<?xml version=\"1.0\"?><methodCall><methodName>" method "</methodName><params>" params "</params></methodCall>"
#define PARAM(content) "<param><value>" content "</value></param>"
#define ONE(content)   CALL("m", PARAM(content))

static enum parse_result read_xml(struct arena *a, const char *text, struct rpc_request *req)
{
    return xmlrpc_parse_request(a, text, strlen(text), NULL, req);
}

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

/* ---- reading ---- */

static void test_xml_login(void)
{
    g_autoptr(arena) a = arena_new();
    struct rpc_request req;
    enum parse_result result = read_xml(a,
                                        "<?xml version='1.0'?>\n<methodCall>\n"
                                        "<methodName>session.login_with_password</methodName>\n<params>\n"
                                        "<param>\n<value><string>root</string></value>\n</param>\n"
                                        "<param>\n<value><string> a&amp;b&#x20AC;\n</string></value>\n</param>\n"
                                        "<param>\n<value>1.0</value>\n</param>\n"
                                        "</params>\n</methodCall>\n",
                                        &req);
    g_assert_cmpint(result, ==, PARSE_OK);
    g_assert_cmpint(req.result, ==, PARSE_OK);
    g_assert_cmpuint(req.version, ==, 0);
    g_assert_cmpstr(req.method, ==, "session.login_with_password");
    g_assert_cmpuint(req.n_args, ==, 3);
    g_assert_cmpstr(value_str(req.args[0]), ==, "root");
    g_assert_cmpstr(value_str(req.args[1]), ==, " a&b\xe2\x82\xac\n");
    g_assert_cmpstr(value_str(req.args[2]), ==, "1.0");
}

static void test_xml_values(void)
{
    static const struct {
        const char *content, *json;
        enum value_type type;
    } cases[] = {
        {"text", "\"text\"", VALUE_STRING},
        {"", "\"\"", VALUE_STRING},
        {" ", "\" \"", VALUE_STRING},
        {"<string/>", "\"\"", VALUE_STRING},
        {" <string> x </string>\n", "\" x \"", VALUE_STRING},
        {"a<!-- c -->b", "\"ab\"", VALUE_STRING},
        {"<![CDATA[<a> & ]]]]><![CDATA[>]]>", "\"<a> & ]]>\"", VALUE_STRING},
        {"&lt;&gt;&amp;&quot;&apos;", "\"<>&\\\"'\"", VALUE_STRING},
        {"a\r\nb\rc&#13;", "\"a\\nb\\nc\\r\"", VALUE_STRING},
        {"<int>1</int>", "1", VALUE_INT},
        {"<i4> -2\n</i4>", "-2", VALUE_INT},
        {"<i8>+9223372036854775807</i8>", "9223372036854775807", VALUE_INT},
        {"<i8>-9223372036854775808</i8>", "-9223372036854775808", VALUE_INT},
        {"<ex:i8 xmlns:ex=\"http://ws.apache.org/xmlrpc/namespaces/extensions\">3</ex:i8>", "3", VALUE_INT},
        {"<boolean>1</boolean>", "true", VALUE_BOOL},
        {"<boolean> false </boolean>", "false", VALUE_BOOL},
        {"<double>0.5</double>", "0.5", VALUE_FLOAT},
        {"<double> -1e3 </double>", "-1000.0", VALUE_FLOAT},
        {"<dateTime.iso8601>20240101T00:00:00Z</dateTime.iso8601>", "\"20240101T00:00:00Z\"", VALUE_DATETIME},
        {"<base64>aGVs\nbG8=</base64>", "\"hello\"", VALUE_STRING},
        {"<base64/>", "\"\"", VALUE_STRING},
        {"<nil/>", "\"\"", VALUE_VOID},
        {"<array><data/></array>", "[]", VALUE_SET},
        {"<array> <data> <value>a</value> <value><i4>1</i4></value> </data> </array>", "[\"a\",1]", VALUE_SET},
        {"<struct/>", "{}", VALUE_MAP},
        {"<struct><member><name>a</name><value>b</value></member>\n"
         "<member>\n<name> "
         "c</name>\n<value><struct><member><name/><value/></member></struct></value>\n</member></struct>",
         "{\"a\":\"b\",\" c\":{\"\":\"\"}}", VALUE_MAP},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(arena) a = arena_new();
        struct rpc_request req;
        g_autofree char *text = g_strdup_printf(ONE("%s"), cases[i].content);
        g_assert_cmpint(read_xml(a, text, &req), ==, PARSE_OK);
        g_assert_cmpuint(req.n_args, ==, 1);
        assert_json(req.args[0], cases[i].json);
        g_assert_cmpint(req.args[0]->type, ==, cases[i].type);
    }
}

static void test_xml_documents(void)
{
    static const struct {
        const char *text;
        enum parse_result result;
    } cases[] = {
        {"<methodCall><methodName>m</methodName></methodCall>", PARSE_OK},
        {"\xef\xbb\xbf<methodCall><methodName>m</methodName><params/></methodCall>", PARSE_OK},
        {"  <methodCall ><methodName > m\n</methodName ></methodCall >  ", PARSE_OK},
        {"<?xml version=\"1.0\" encoding='utf-8' "
         "standalone=\"yes\"?><methodCall><methodName>m</methodName></methodCall>",
         PARSE_OK},
        {"<!-- a --><?pi <a ?><methodCall><!-- <b --><methodName>m</methodName></methodCall><!-- c -->", PARSE_OK},
        {CALL("m", ""), PARSE_OK},
        {"", PARSE_MALFORMED},
        {" ", PARSE_MALFORMED},
        {"x", PARSE_MALFORMED},
        {"<", PARSE_MALFORMED},
        {"<a", PARSE_MALFORMED},
        {"{\"method\":\"m\"}", PARSE_MALFORMED},
        {"<methodCall>", PARSE_MALFORMED},
        {"<methodCall><methodName>m</methodName>", PARSE_MALFORMED},
        {"<methodCall><methodName>m</methodCall></methodName>", PARSE_MALFORMED},
        {"<methodCall><methodName>m</methodName></methodCall><x/>", PARSE_MALFORMED},
        {"<methodCall><methodName>m</methodName></methodCall>x", PARSE_MALFORMED},
        {"<methodCall><methodName>&x;</methodName></methodCall>", PARSE_MALFORMED},
        {"<methodCall><methodName>&#0;</methodName></methodCall>", PARSE_MALFORMED},
        {"<methodCall><methodName>\x01</methodName></methodCall>", PARSE_MALFORMED},
        {"<methodCall><methodName>\xff</methodName></methodCall>", PARSE_MALFORMED},
        {ONE("<![CDATA[\xc1\x90]]>"), PARSE_MALFORMED},
        {ONE("<!-- \xc1\x90 -->"), PARSE_MALFORMED},
        {"<!DOCTYPE methodCall><methodCall><methodName>m</methodName></methodCall>", PARSE_MALFORMED},
        {"<!DOCTYPE a [<!ENTITY x \"y\">]><methodCall><methodName>&x;</methodName></methodCall>", PARSE_MALFORMED},
        {"<?xml version=\"1.0\" encoding=\"ISO-2022-CN-EXT\"?><methodCall><methodName>m</methodName></methodCall>",
         PARSE_MALFORMED},
        {"<?xml version=\"1.0\" encoding=?><methodCall><methodName>m</methodName></methodCall>", PARSE_MALFORMED},
        {"<?xml version=\"1.0\"", PARSE_MALFORMED},
        {"<html/>", PARSE_INVALID},
        {"<methodResponse><params/></methodResponse>", PARSE_INVALID},
        {"<methodCall/>", PARSE_INVALID},
        {"<methodCall><methodName/></methodCall>", PARSE_INVALID},
        {"<methodCall><params/><methodName>m</methodName></methodCall>", PARSE_INVALID},
        {"<methodCall><methodName>m</methodName><methodName>n</methodName></methodCall>", PARSE_INVALID},
        {"<methodCall><methodName>m</methodName><params/><params/></methodCall>", PARSE_INVALID},
        {"<methodCall>x<methodName>m</methodName></methodCall>", PARSE_INVALID},
        {"<methodCall><methodName>m<b/></methodName></methodCall>", PARSE_INVALID},
        {CALL("m", "<param/>"), PARSE_INVALID},
        {CALL("m", "<value/>"), PARSE_INVALID},
        {CALL("m", "<param><value/><value/></param>"), PARSE_INVALID},
        {CALL("m", "<param>text</param>"), PARSE_INVALID},
        {ONE("text<string>x</string>"), PARSE_INVALID},
        {ONE("<string>x</string>text"), PARSE_INVALID},
        {ONE("<string>x</string><string>y</string>"), PARSE_INVALID},
        {ONE("<string><int>1</int></string>"), PARSE_INVALID},
        {ONE("<value>x</value>"), PARSE_INVALID},
        {ONE("<array/>"), PARSE_INVALID},
        {ONE("<array><data/><data/></array>"), PARSE_INVALID},
        {ONE("<array><value/></array>"), PARSE_INVALID},
        {ONE("<struct><member/></struct>"), PARSE_INVALID},
        {ONE("<struct><member><name>a</name></member></struct>"), PARSE_INVALID},
        {ONE("<struct><member><value/><name>a</name></member></struct>"), PARSE_INVALID},
        {ONE("<struct><member><name>a</name><value/><value/></member></struct>"), PARSE_INVALID},
        {ONE("<nil>x</nil>"), PARSE_INVALID},
        {ONE("<date/>"), PARSE_INVALID},
        {ONE("<struct><member><name>a</name><value/></member><member><name>a</name><value/></member></struct>"),
         PARSE_MALFORMED},
        {ONE("<int/>"), PARSE_MALFORMED},
        {ONE("<int>1x</int>"), PARSE_MALFORMED},
        {ONE("<int>1 1</int>"), PARSE_MALFORMED},
        {ONE("<int>+-1</int>"), PARSE_MALFORMED},
        {ONE("<i8>9223372036854775808</i8>"), PARSE_MALFORMED},
        {ONE("<boolean>2</boolean>"), PARSE_MALFORMED},
        {ONE("<double>nan</double>"), PARSE_MALFORMED},
        {ONE("<double>1e999</double>"), PARSE_MALFORMED},
        {ONE("<double/>"), PARSE_MALFORMED},
        {ONE("<dateTime.iso8601>today</dateTime.iso8601>"), PARSE_MALFORMED},
        {ONE("<base64>AAAA</base64>"), PARSE_MALFORMED},
        {ONE("<base64>/w==</base64>"), PARSE_MALFORMED},
        {ONE("<base64>a-b</base64>"), PARSE_MALFORMED},
        {ONE("<string a='1' b='2' c='3' d='4' e='5' f='6' g='7' h='8' i='9'>x</string>"), PARSE_MALFORMED},
    };
    g_autoptr(arena) a = arena_new();
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct rpc_request req;
        g_test_message("case %u", i);
        arena_reset(a);
        g_assert_cmpint(read_xml(a, cases[i].text, &req), ==, cases[i].result);
        g_assert_nonnull(req.method);
        if (cases[i].result != PARSE_OK)
            g_assert_true(req.error != NULL && g_utf8_validate(req.error, -1, NULL));
        /* Whatever was wrong with it, the next one is read. */
        g_assert_cmpint(read_xml(a, ONE("<i4>5</i4>"), &req), ==, PARSE_OK);
        g_assert_cmpint(value_as_int(req.args[0]), ==, 5);
    }
}

static void test_xml_latin1(void)
{
    g_autoptr(arena) a = arena_new();
    struct rpc_request req;
    const char *text = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?><methodCall><methodName>m</methodName>"
                       "<params><param><value>\xe9t\xe9</value></param></params></methodCall>";
    g_assert_cmpint(read_xml(a, text, &req), ==, PARSE_OK);
    g_assert_cmpstr(value_str(req.args[0]), ==, "\xc3\xa9t\xc3\xa9");
    static const char utf16[] = "\xff\xfe<\0m\0/\0>\0";
    g_assert_cmpint(xmlrpc_parse_request(a, utf16, sizeof(utf16) - 1, NULL, &req), ==, PARSE_MALFORMED);
}

static char *nested_xml(guint depth)
{
    GString *s = g_string_new("<methodCall><methodName>m</methodName><params><param><value>");
    for (guint i = 0; i < depth; i++)
        g_string_append(s, "<array><data><value>");
    for (guint i = 0; i < depth; i++)
        g_string_append(s, "</value></data></array>");
    g_string_append(s, "</value></param></params></methodCall>");
    return g_string_free(s, FALSE);
}

static void test_xml_limits(void)
{
    g_autoptr(arena) a = arena_new();
    struct rpc_request req;
    g_autofree char *deep = nested_xml(32);
    g_autofree char *too_deep = nested_xml(33);
    g_autofree char *endless = nested_xml(5000);
    g_assert_cmpint(read_xml(a, deep, &req), ==, PARSE_OK);
    g_assert_cmpint(read_xml(a, too_deep, &req), ==, PARSE_MALFORMED);
    g_assert_cmpint(read_xml(a, endless, &req), ==, PARSE_MALFORMED);
    struct codec_limits deeper = {.depth = 60}, few = {.elements = 3}, shorter = {.string_length = 4};
    g_autofree char *sixty = nested_xml(60);
    g_assert_cmpint(xmlrpc_parse_request(a, sixty, strlen(sixty), &deeper, &req), ==, PARSE_OK);
    const char *three = CALL("m", PARAM("a") PARAM("b")), *four = CALL("m", PARAM("a") PARAM("b") PARAM("c"));
    g_assert_cmpint(xmlrpc_parse_request(a, three, strlen(three), &few, &req), ==, PARSE_OK);
    g_assert_cmpint(xmlrpc_parse_request(a, four, strlen(four), &few, &req), ==, PARSE_MALFORMED);
    g_assert_cmpint(xmlrpc_parse_request(a, ONE("abcd"), strlen(ONE("abcd")), &shorter, &req), ==, PARSE_OK);
    g_assert_cmpint(xmlrpc_parse_request(a, ONE("abcde"), strlen(ONE("abcde")), &shorter, &req), ==, PARSE_MALFORMED);
    g_autofree char *name = g_strnfill(257, 'n');
    g_autofree char *long_name = g_strdup_printf(CALL("%s", ""), name);
    g_assert_cmpint(read_xml(a, long_name, &req), ==, PARSE_INVALID);
    name[256] = '\0';
    g_autofree char *good_name = g_strdup_printf(CALL("%s", ""), name);
    g_assert_cmpint(read_xml(a, good_name, &req), ==, PARSE_OK);
    g_assert_cmpuint(strlen(req.method), ==, 256);
}

/* Documents larger than one piece for libxml2, with characters of every length on its borders. */
static void test_xml_long_text(void)
{
    static const char *const units[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "&lt;", "&#233;", "\r\n"};
    static const char *const meanings[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "<", "\xc3\xa9", "\n"};
    for (guint i = 0; i < G_N_ELEMENTS(units); i++) {
        for (guint shift = 0; shift < 6; shift++) {
            g_autoptr(arena) a = arena_new();
            struct rpc_request req;
            GString *text = g_string_new("<methodCall><methodName>m</methodName><params><param><value>");
            GString *expected = g_string_new(NULL);
            for (guint k = 0; k < shift; k++) {
                g_string_append_c(text, '-');
                g_string_append_c(expected, '-');
            }
            for (guint k = 0; k < 400000; k++) {
                g_string_append(text, units[i]);
                g_string_append(expected, meanings[i]);
            }
            g_string_append(text, "</value></param></params></methodCall>");
            g_assert_cmpint(read_xml(a, text->str, &req), ==, PARSE_OK);
            g_assert_cmpuint(req.args[0]->u.str.len, ==, expected->len);
            g_assert_true(g_str_equal(value_str(req.args[0]), expected->str));
            g_string_free(text, TRUE);
            g_string_free(expected, TRUE);
        }
    }
}

static void assert_quick(const char *what, gint64 since)
{
    double seconds = (double) (g_get_monotonic_time() - since) / G_USEC_PER_SEC;
    g_test_message("%s: %.3f s", what, seconds);
    g_assert_cmpfloat(seconds, <, 5);
}

/* Requests that would take quadratic time if they were read without care. */
static void test_xml_hostile(void)
{
    g_autoptr(arena) a = arena_new();
    struct rpc_request req;
    gint64 start = g_get_monotonic_time();
    GString *s = g_string_new("<methodCall");
    for (guint i = 0; i < 300000; i++)
        g_string_append_printf(s, " a%u=''", i);
    g_string_append(s, "/>");
    g_assert_cmpint(read_xml(a, s->str, &req), ==, PARSE_MALFORMED);
    assert_quick("attributes", start);

    start = g_get_monotonic_time();
    g_string_assign(s, "<methodCall><methodName>m</methodName><params><param><value><struct>");
    for (guint i = 0; i < 199000; i++)
        g_string_append_printf(s, "<member><name>%u</name><value/></member>", i);
    g_string_append(s, "</struct></value></param></params></methodCall>");
    g_assert_cmpint(read_xml(a, s->str, &req), ==, PARSE_OK);
    g_assert_cmpuint(value_count(req.args[0]), ==, 199000);
    assert_quick("members", start);

    start = g_get_monotonic_time();
    g_string_assign(s, "<methodCall>");
    for (guint i = 0; i < 2000000; i++)
        g_string_append(s, "&x;<");
    g_assert_cmpint(read_xml(a, s->str, &req), ==, PARSE_MALFORMED);
    assert_quick("errors", start);
    g_string_free(s, TRUE);
}

static gpointer parse_many(gpointer data)
{
    g_autoptr(arena) a = arena_new();
    struct rpc_request req;
    (void) data;
    for (int i = 0; i < 2000; i++) {
        g_autofree char *text = g_strdup_printf(ONE("<i4>%d</i4>"), i);
        arena_reset(a);
        g_assert_cmpint(read_xml(a, text, &req), ==, PARSE_OK);
        g_assert_cmpint(value_as_int(req.args[0]), ==, i);
        if (i % 10 == 0)
            g_assert_cmpint(read_xml(a, "<a>", &req), !=, PARSE_OK);
    }
    return NULL;
}

static void test_xml_threads(void)
{
    GThread *threads[4];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("parser", parse_many, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
}

static void test_xml_fragment(void)
{
    static const char text[] = "<value><array><data><value>OpaqueRef:1</value></data></array></value>";
    g_autoptr(value) v = xmlrpc_parse_value(text, strlen(text));
    assert_json(v, "[\"OpaqueRef:1\"]");
    g_autofree char *again = xmlrpc_value_text(v);
    g_assert_cmpstr(again, ==, text);
    g_assert_null(xmlrpc_parse_value("", 0));
    g_assert_null(xmlrpc_parse_value(NULL, 0));
    g_assert_null(xmlrpc_parse_value("OpaqueRef:1", 11));
    g_assert_null(xmlrpc_parse_value("<value>", 7));
    g_assert_null(xmlrpc_parse_value("<value/><value/>", 16));
    g_assert_null(xmlrpc_parse_value(CALL("m", ""), strlen(CALL("m", ""))));
}

/* ---- writing ---- */

#define RESPONSE(content)                                                                                              \
    "<?xml version=\"1.0\"?><methodResponse><params><param>" content "</param></params></methodResponse>"
#define STATUS(status, name, v)                                                                                        \
    "<value><struct><member><name>Status</name><value>" status "</value></member><member><name>" name "</name>" v      \
    "</member></struct></value>"

static void test_xml_replies(void)
{
    struct fault f = FAULT_INIT;
    struct reply *r = reply_new();
    xmlrpc_put_success(r, value_void());
    assert_reply(r, RESPONSE(STATUS("Success", "Value", "<value></value>")));

    fault_set(&f, "VM_BAD_POWER_STATE", "OpaqueRef:1", "<Halted>", NULL);
    r = reply_new();
    xmlrpc_put_failure(r, &f);
    assert_reply(r, RESPONSE(STATUS("Failure", "ErrorDescription",
                                    "<value><array><data><value>VM_BAD_POWER_STATE</value><value>OpaqueRef:1</value>"
                                    "<value>&lt;Halted&gt;</value></data></array></value>")));

    r = reply_new();
    xmlrpc_put_bare(r, value_empty_set());
    assert_reply(r, RESPONSE("<value><array><data></data></array></value>"));

    r = reply_new();
    xmlrpc_put_fault(r, 5, "a < b");
    assert_reply(r, "<?xml version=\"1.0\"?><methodResponse><fault><value><struct><member><name>faultCode</name>"
                    "<value><i4>5</i4></value></member><member><name>faultString</name><value>a &lt; b</value></member>"
                    "</struct></value></fault></methodResponse>");

    g_autoptr(value) failure = xmlrpc_status_value(NULL, NULL, &f);
    assert_json(failure,
                "{\"Status\":\"Failure\",\"ErrorDescription\":[\"VM_BAD_POWER_STATE\",\"OpaqueRef:1\",\"<Halted>\"]}");
    g_autoptr(value) success = xmlrpc_status_value(NULL, value_bool(TRUE), NULL);
    assert_json(success, "{\"Status\":\"Success\",\"Value\":true}");
    fault_clear(&f);
}

static void assert_xml(struct value *v, const char *expected)
{
    g_autofree char *text = xmlrpc_value_text(v);
    g_assert_cmpstr(text, ==, expected);
    value_unref(v);
}

static void test_xml_written(void)
{
    assert_xml(value_int(NULL, G_MININT64), "<value>-9223372036854775808</value>");
    assert_xml(value_int(NULL, 0), "<value>0</value>");
    assert_xml(value_i4(NULL, -7), "<value><i4>-7</i4></value>");
    assert_xml(value_float(NULL, 0.1), "<value><double>0.1</double></value>");
    assert_xml(value_float(NULL, 1), "<value><double>1</double></value>");
    assert_xml(value_bool(TRUE), "<value><boolean>1</boolean></value>");
    assert_xml(value_bool(FALSE), "<value><boolean>0</boolean></value>");
    assert_xml(value_datetime(NULL, 1704067200),
               "<value><dateTime.iso8601>20240101T00:00:00Z</dateTime.iso8601></value>");
    assert_xml(value_void(), "<value></value>");
    assert_xml(value_empty_map(), "<value><struct></struct></value>");
    assert_xml(value_empty_set(), "<value><array><data></data></array></value>");
    assert_xml(value_string(NULL, "a&b<c>\"d\"'\t\n\r"), "<value>a&amp;b&lt;c&gt;&quot;d&quot;'\t\n&#13;</value>");
    assert_xml(value_string(NULL, "\x01x\x1f\x7f\xc3\xa9\xf0\x9f\x98\x80"),
               "<value>x\x7f\xc3\xa9\xf0\x9f\x98\x80</value>");
    assert_xml(value_string(NULL, "\xef\xbf\xbe|\xef\xbf\xbf|\xef\xbf\xbd"), "<value>||\xef\xbf\xbd</value>");
    assert_xml(value_string(NULL, "\xff|\xc3|\xed\xa0\x80"),
               "<value>\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd</value>");
    assert_xml(value_map_with(NULL, "<k>", value_string(NULL, "v")),
               "<value><struct><member><name>&lt;k&gt;</name><value>v</value></member></struct></value>");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xmlrpc/login", test_xml_login);
    g_test_add_func("/xmlrpc/values", test_xml_values);
    g_test_add_func("/xmlrpc/documents", test_xml_documents);
    g_test_add_func("/xmlrpc/latin1", test_xml_latin1);
    g_test_add_func("/xmlrpc/limits", test_xml_limits);
    g_test_add_func("/xmlrpc/long-text", test_xml_long_text);
    g_test_add_func("/xmlrpc/hostile", test_xml_hostile);
    g_test_add_func("/xmlrpc/threads", test_xml_threads);
    g_test_add_func("/xmlrpc/fragment", test_xml_fragment);
    g_test_add_func("/xmlrpc/replies", test_xml_replies);
    g_test_add_func("/xmlrpc/written", test_xml_written);
    return g_test_run();
}
