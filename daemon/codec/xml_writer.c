/* xml_writer.c - values and replies as XML-RPC text, without a byte between elements. */
#include "daemon/codec/codec-internal.h"
#include "daemon/codec/xmlrpc.h"

#include <string.h>

/* 1: does not stand for itself in text. */
static const guint8 stops_run[256] = {
    [0 ... 0x1f] = 1, /* but see put_special() */
    ['"'] = 1,        ['&'] = 1, ['<'] = 1, ['>'] = 1, [0x80 ... 0xff] = 1,
};

/* The length of the character at p if it goes out as it is, otherwise 0. */
static guint plain_length(const guchar *p, gsize left)
{
    if (*p < 0x80)
        return stops_run[*p] == 0 || *p == '\n' || *p == '\t';
    guint len = utf8_length(p, left);
    /* U+FFFE and U+FFFF are no characters of XML. */
    return len == 3 && p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe ? 0 : len;
}

/* Writes the character at p that does not go out as it is, and answers its length. */
static guint put_special(struct reply *r, const guchar *p, gsize left)
{
    switch (*p) {
    case '"':
        reply_put_literal(r, "&quot;");
        return 1;
    case '&':
        reply_put_literal(r, "&amp;");
        return 1;
    case '<':
        reply_put_literal(r, "&lt;");
        return 1;
    case '>':
        reply_put_literal(r, "&gt;");
        return 1;
    case '\r': /* a parser would read a bare one as a line feed */
        reply_put_literal(r, "&#13;");
        return 1;
    default:
        break;
    }
    if (*p < 0x80)
        return 1;
    guint len = utf8_length(p, left);
    if (len > 0)
        return len;
    reply_put_literal(r, REPLACEMENT_CHARACTER);
    return 1;
}

static void put_escaped(struct reply *r, const char *s, gsize len)
{
    const guchar *p = (const guchar *) s, *end = p + len, *run = p;
    while (p < end) {
        guint n = stops_run[*p] == 0 ? 1 : plain_length(p, (gsize) (end - p));
        if (n > 0) {
            p += n;
            continue;
        }
        reply_put(r, (const char *) run, (gsize) (p - run));
        p += put_special(r, p, (gsize) (end - p));
        run = p;
    }
    reply_put(r, (const char *) run, (gsize) (end - run));
}

static void put_set(struct reply *r, const struct value *v)
{
    reply_put_literal(r, "<array><data>");
    for (gsize i = 0; i < v->u.set.n; i++)
        codec_put_value(r, WIRE_XML, v->u.set.v[i]);
    reply_put_literal(r, "</data></array>");
}

static void put_map(struct reply *r, const struct value *v)
{
    reply_put_literal(r, "<struct>");
    for (gsize i = 0; i < v->u.map.n; i++) {
        const struct value_member *m = &v->u.map.m[i];
        reply_put_literal(r, "<member><name>");
        put_escaped(r, m->key->u.str.s, m->key->u.str.len);
        reply_put_literal(r, "</name>");
        codec_put_value(r, WIRE_XML, m->value);
        reply_put_literal(r, "</member>");
    }
    reply_put_literal(r, "</struct>");
}

static void put_i4(struct reply *r, gint64 i)
{
    reply_put_literal(r, "<i4>");
    reply_put_int(r, i);
    reply_put_literal(r, "</i4>");
}

static void put_float(struct reply *r, double d)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    g_ascii_formatd(text, sizeof(text), "%.16g", d);
    reply_put_literal(r, "<double>");
    reply_put_string(r, text);
    reply_put_literal(r, "</double>");
}

static void put_datetime(struct reply *r, gint64 epoch_seconds)
{
    char text[DATETIME_TEXT_SIZE];
    datetime_format(epoch_seconds, text);
    reply_put_literal(r, "<dateTime.iso8601>");
    reply_put_string(r, text);
    reply_put_literal(r, "</dateTime.iso8601>");
}

/* What stands between <value> and </value>. */
static void put_content(struct reply *r, const struct value *v)
{
    switch ((enum value_type) v->type) {
    case VALUE_STRING:
        put_escaped(r, v->u.str.s, v->u.str.len);
        break;
    case VALUE_INT:
        reply_put_int(r, v->u.i);
        break;
    case VALUE_I4:
        put_i4(r, v->u.i);
        break;
    case VALUE_FLOAT:
        put_float(r, v->u.d);
        break;
    case VALUE_BOOL:
        reply_put_string(r, v->u.i ? "<boolean>1</boolean>" : "<boolean>0</boolean>");
        break;
    case VALUE_DATETIME:
        put_datetime(r, v->u.i);
        break;
    case VALUE_SET:
        put_set(r, v);
        break;
    case VALUE_MAP:
        put_map(r, v);
        break;
    case VALUE_VOID:
    case VALUE_BLOB: /* brings its own <value> */
        break;
    }
}

void xml_put_value(struct reply *r, struct value *v)
{
    reply_put_literal(r, "<value>");
    put_content(r, v);
    reply_put_literal(r, "</value>");
}

char *xmlrpc_value_text(struct value *v)
{
    struct reply *r = reply_new();
    codec_put_value(r, WIRE_XML, v);
    char *text = reply_text(r);
    reply_free(r);
    return text;
}

/* ---- replies ---- */

#define RESPONSE     "<?xml version=\"1.0\"?><methodResponse>"
#define RESPONSE_END "</methodResponse>"
#define PARAM        "<params><param>"
#define PARAM_END    "</param></params>"
#define STATUS(s)    "<value><struct><member><name>Status</name><value>" s "</value></member><member><name>"
#define STATUS_END   "</member></struct></value>"

void xmlrpc_put_success(struct reply *r, struct value *v)
{
    reply_put_literal(r, RESPONSE PARAM STATUS("Success") "Value</name>");
    codec_put_value(r, WIRE_XML, v);
    reply_put_literal(r, STATUS_END PARAM_END RESPONSE_END);
}

void xmlrpc_put_failure(struct reply *r, const struct fault *f)
{
    struct value *description = fault_value(NULL, f);
    reply_put_literal(r, RESPONSE PARAM STATUS("Failure") "ErrorDescription</name>");
    codec_put_value(r, WIRE_XML, description);
    reply_put_literal(r, STATUS_END PARAM_END RESPONSE_END);
    value_unref(description);
}

void xmlrpc_put_bare(struct reply *r, struct value *v)
{
    reply_put_literal(r, RESPONSE PARAM);
    codec_put_value(r, WIRE_XML, v);
    reply_put_literal(r, PARAM_END RESPONSE_END);
}

void xmlrpc_put_fault(struct reply *r, int code, const char *text)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put(&b, "faultCode", value_i4(NULL, code));
    value_builder_put_string(&b, "faultString", text);
    struct value *v = value_builder_end(&b);
    reply_put_literal(r, RESPONSE "<fault>");
    codec_put_value(r, WIRE_XML, v);
    reply_put_literal(r, "</fault>" RESPONSE_END);
    value_unref(v);
}

struct value *xmlrpc_status_value(struct arena *a, struct value *v, const struct fault *f)
{
    struct value_builder b;
    gboolean failed = f != NULL && f->code != NULL;
    value_builder_map(&b, a, 2);
    value_builder_put_string(&b, "Status", failed ? "Failure" : "Success");
    if (failed)
        value_builder_put(&b, "ErrorDescription", fault_value(a, f));
    else
        value_builder_put(&b, "Value", v != NULL ? value_ref(v) : value_void());
    return value_builder_end(&b);
}
