/* xmlrpc.c - reads XML-RPC: libxml2's SAX2 events of a request become a method name and values.
 * One parser per thread is kept and used again; after a document that it refused it is replaced. */
#include "daemon/codec/codec-internal.h"
#include "daemon/codec/xmlrpc.h"
#include "daemon/codec/xmlrpc_guard.h"

#include <libxml/parser.h>
#include <math.h>
#include <string.h>

enum element {
    NOTHING, /* outside of the document element */
    METHOD_CALL,
    METHOD_NAME,
    PARAMS,
    PARAM,
    VALUE,
    ARRAY,
    DATA,
    STRUCT,
    MEMBER,
    NAME,
    STRING,
    INTEGER,
    BOOLEAN,
    DOUBLE,
    DATE_TIME,
    BASE64,
    NIL,
    UNKNOWN,
};

/* The most frequent first. */
static const struct {
    const char *name;
    enum element element;
} element_names[] = {
    {"value", VALUE},
    {"member", MEMBER},
    {"name", NAME},
    {"string", STRING},
    {"param", PARAM},
    {"methodCall", METHOD_CALL},
    {"methodName", METHOD_NAME},
    {"params", PARAMS},
    {"struct", STRUCT},
    {"array", ARRAY},
    {"data", DATA},
    {"int", INTEGER},
    {"i4", INTEGER},
    {"i8", INTEGER},
    {"boolean", BOOLEAN},
    {"double", DOUBLE},
    {"dateTime.iso8601", DATE_TIME},
    {"base64", BASE64},
    {"nil", NIL},
};

/* libxml2 itself goes no deeper. */
#define MOST_LEVELS     256
#define MOST_ATTRIBUTES 8

/* An open element. seen counts those of its children that come once and in order. */
struct level {
    guint8 element;
    guint8 seen;
};

/* A parser is thrown away when it has grown: names and buffers of one large request are not kept. */
#define MOST_NAMES 128
#define MOST_TEXT  (64 * 1024)

/* libxml2 copies what it is given, and refuses to have too much before it. */
#define PIECE (256 * 1024)

struct parser {
    xmlParserCtxtPtr context;
    GString *text; /* of the innermost element */
    struct tree tree;
    struct arena *arena;
    gboolean fragment; /* <value> is the document element */
    guint n_levels;
    enum parse_result result;
    const char *error;
    const char *method;
    struct level levels[MOST_LEVELS];
};

static gboolean fail(struct parser *p, enum parse_result result, const char *error)
{
    if (p->result == PARSE_OK) {
        p->result = result;
        p->error = error;
        xmlStopParser(p->context);
    }
    return FALSE;
}

static gboolean malformed(struct parser *p, const char *error)
{
    return fail(p, PARSE_MALFORMED, error);
}

static gboolean invalid(struct parser *p, const char *error)
{
    return fail(p, PARSE_INVALID, error);
}

/* ---- structure ---- */

static enum element element_from_name(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(element_names); i++) {
        if (name[0] == element_names[i].name[0] && strcmp(name, element_names[i].name) == 0)
            return element_names[i].element;
    }
    return UNKNOWN;
}

static gboolean is_typed(enum element e)
{
    return e == ARRAY || e == STRUCT || (e >= STRING && e <= NIL);
}

/* What the next child of an element may be. */
static gboolean may_contain(const struct parser *p, const struct level *parent, enum element child)
{
    switch ((enum element) parent->element) {
    case NOTHING:
        return child == (p->fragment ? VALUE : METHOD_CALL);
    case METHOD_CALL:
        return (parent->seen == 0 && child == METHOD_NAME) || (parent->seen == 1 && child == PARAMS);
    case PARAMS:
        return child == PARAM;
    case PARAM:
        return parent->seen == 0 && child == VALUE;
    case VALUE:
        return parent->seen == 0 && is_typed(child);
    case ARRAY:
        return parent->seen == 0 && child == DATA;
    case DATA:
        return child == VALUE;
    case STRUCT:
        return child == MEMBER;
    case MEMBER:
        return (parent->seen == 0 && child == NAME) || (parent->seen == 1 && child == VALUE);
    default:
        return FALSE;
    }
}

/* Whether text in the element means something; elsewhere only white space may be. */
static gboolean has_text(const struct level *l)
{
    enum element e = l->element;
    return e == METHOD_NAME || e == NAME || (e == VALUE && l->seen == 0) || (e >= STRING && e <= BASE64);
}

static gboolean is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static gboolean is_blank(const char *s, gsize len)
{
    while (len > 0 && is_space(s[len - 1]))
        len--;
    return len == 0;
}

static gboolean open_container(struct parser *p, enum value_type type)
{
    return tree_open(&p->tree, type) || malformed(p, p->tree.error);
}

static void on_start(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int n_namespaces,
                     const xmlChar **namespaces, int n_attributes, int n_defaulted, const xmlChar **attributes)
{
    struct parser *p = data;
    struct level *parent = &p->levels[p->n_levels - 1];
    enum element e = element_from_name((const char *) name);
    (void) prefix, (void) uri, (void) namespaces, (void) n_defaulted, (void) attributes;
    if (p->result != PARSE_OK)
        return;
    if (n_attributes > MOST_ATTRIBUTES || n_namespaces > MOST_ATTRIBUTES) {
        malformed(p, "too many attributes");
        return;
    }
    if (!may_contain(p, parent, e) || !is_blank(p->text->str, p->text->len)) {
        invalid(p, "not an element or not at this place in XML-RPC");
        return;
    }
    if (p->n_levels == MOST_LEVELS) {
        malformed(p, "nested too deeply");
        return;
    }
    parent->seen++;
    p->levels[p->n_levels++] = (struct level){(guint8) e, 0};
    g_string_truncate(p->text, 0);
    /* The parameters are a set of their own, which is not the client's. */
    if (e == ARRAY || e == PARAMS)
        open_container(p, VALUE_SET);
    else if (e == STRUCT)
        open_container(p, VALUE_MAP);
}

static void on_text(void *data, const xmlChar *s, int len)
{
    struct parser *p = data;
    if (p->result != PARSE_OK)
        return;
    if (!has_text(&p->levels[p->n_levels - 1])) {
        if (!is_blank((const char *) s, (gsize) len))
            invalid(p, "text between elements");
    } else if ((gsize) len > p->tree.limits.string_length - p->text->len) {
        malformed(p, "a string is too long");
    } else {
        g_string_append_len(p->text, (const char *) s, len);
    }
}

/* ---- scalars ---- */

static gboolean add_string(struct parser *p)
{
    return tree_string(&p->tree, p->text->str, p->text->len) || malformed(p, p->tree.error);
}

static gboolean add_value(struct parser *p, struct value *v)
{
    return tree_value(&p->tree, v) || malformed(p, p->tree.error);
}

/* The text without white space at its ends. */
static const char *trimmed(struct parser *p)
{
    GString *text = p->text;
    gsize start = 0;
    while (text->len > 0 && is_space(text->str[text->len - 1]))
        g_string_truncate(text, text->len - 1);
    while (is_space(text->str[start]))
        start++;
    return text->str + start;
}

static gboolean add_integer(struct parser *p)
{
    const char *s = trimmed(p);
    gint64 i;
    gboolean plus = s[0] == '+';
    if (plus && !g_ascii_isdigit(s[1]))
        return malformed(p, "bad integer");
    if (!g_ascii_string_to_signed(s + plus, 10, G_MININT64, G_MAXINT64, &i, NULL))
        return malformed(p, "bad integer");
    return add_value(p, value_int(p->arena, i));
}

static gboolean add_boolean(struct parser *p)
{
    const char *s = trimmed(p);
    if (g_str_equal(s, "1") || g_str_equal(s, "true"))
        return add_value(p, value_bool(TRUE));
    if (g_str_equal(s, "0") || g_str_equal(s, "false"))
        return add_value(p, value_bool(FALSE));
    return malformed(p, "bad boolean");
}

static gboolean add_double(struct parser *p)
{
    const char *s = trimmed(p);
    char *end;
    /* strtod() would also read "inf", "nan" and hexadecimal. */
    if (s[0] == '\0' || s[strspn(s, "0123456789+-.eE")] != '\0')
        return malformed(p, "bad double");
    double d = g_ascii_strtod(s, &end);
    if (*end != '\0' || !isfinite(d))
        return malformed(p, "bad double");
    return add_value(p, value_float(p->arena, d));
}

static gboolean add_date_time(struct parser *p)
{
    gint64 epoch_seconds;
    if (!datetime_parse(trimmed(p), &epoch_seconds))
        return malformed(p, "bad dateTime.iso8601");
    return add_value(p, value_datetime(p->arena, epoch_seconds));
}

static gboolean add_base64(struct parser *p)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= \t\r\n";
    GString *text = p->text;
    gsize len;
    if (text->str[strspn(text->str, alphabet)] != '\0')
        return malformed(p, "bad base64");
    if (text->len > 0) {
        g_base64_decode_inplace(text->str, &len);
        g_string_truncate(text, len);
    }
    if (!g_utf8_validate_len(text->str, text->len, NULL))
        return malformed(p, "base64 of what is not text");
    return add_string(p);
}

/* ---- ends of elements ---- */

static gboolean end_method_name(struct parser *p)
{
    const char *name = trimmed(p);
    gsize len = strlen(name);
    if (len == 0)
        return invalid(p, "empty methodName");
    if (len > METHOD_NAME_LENGTH)
        return invalid(p, "methodName is too long");
    p->method = arena_strndup(p->arena, name, len);
    return TRUE;
}

/* An untyped value is its text. */
static gboolean end_value(struct parser *p, const struct level *l)
{
    return l->seen > 0 || add_string(p);
}

static gboolean end_container(struct parser *p)
{
    return tree_close(&p->tree) || malformed(p, p->tree.error);
}

static gboolean end_element(struct parser *p, const struct level *l)
{
    switch ((enum element) l->element) {
    case METHOD_CALL:
        return l->seen > 0 || invalid(p, "no methodName");
    case METHOD_NAME:
        return end_method_name(p);
    case PARAM:
        return l->seen > 0 || invalid(p, "param without a value");
    case MEMBER:
        return l->seen == 2 || invalid(p, "member without a name and a value");
    case ARRAY:
        return l->seen > 0 ? end_container(p) : invalid(p, "array without data");
    case PARAMS:
    case STRUCT:
        return end_container(p);
    case VALUE:
        return end_value(p, l);
    case NAME:
        return tree_key(&p->tree, p->text->str, p->text->len) || malformed(p, p->tree.error);
    case STRING:
        return add_string(p);
    case INTEGER:
        return add_integer(p);
    case BOOLEAN:
        return add_boolean(p);
    case DOUBLE:
        return add_double(p);
    case DATE_TIME:
        return add_date_time(p);
    case BASE64:
        return add_base64(p);
    case NIL:
        return add_value(p, value_void());
    default:
        return TRUE;
    }
}

static void on_end(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
    struct parser *p = data;
    (void) name, (void) prefix, (void) uri;
    if (p->result != PARSE_OK)
        return;
    end_element(p, &p->levels[--p->n_levels]);
    g_string_truncate(p->text, 0);
}

static void on_doctype(void *data, const xmlChar *name, const xmlChar *external_id, const xmlChar *system_id)
{
    (void) name, (void) external_id, (void) system_id;
    malformed(data, "a document type is not allowed");
}

#if LIBXML_VERSION >= 21200
static void on_error(void *data, const xmlError *error)
#else
static void on_error(void *data, xmlErrorPtr error)
#endif
{
    struct parser *p = data;
    if (error->level != XML_ERR_FATAL || p->result != PARSE_OK)
        return;
    /* Not stopped from here: libxml2 stops by itself before its next step. */
    g_autofree char *text = g_utf8_make_valid(error->message != NULL ? error->message : "not XML", -1);
    g_strchomp(text);
    p->result = PARSE_MALFORMED;
    p->error = arena_strndup(p->arena, text, strlen(text));
}

/* ---- the parser of a thread ---- */

static void parser_free(gpointer data)
{
    struct parser *p = data;
    xmlFreeParserCtxt(p->context);
    g_string_free(p->text, TRUE);
    g_free(p);
}

static struct parser *parser_new(void)
{
    static const xmlSAXHandler handler = {
        .initialized = XML_SAX2_MAGIC,
        .internalSubset = on_doctype,
        .startElementNs = on_start,
        .endElementNs = on_end,
        .characters = on_text,
        .ignorableWhitespace = on_text,
        .cdataBlock = on_text,
        .serror = on_error,
    };
    struct parser *p = g_new0(struct parser, 1);
    xmlSAXHandler copy = handler;
    p->context = xmlCreatePushParserCtxt(&copy, p, NULL, 0, NULL);
    if (p->context == NULL)
        g_error("libxml2 has no memory for a parser");
    xmlCtxtUseOptions(p->context, XML_PARSE_NONET);
    p->text = g_string_sized_new(1024);
    return p;
}

static GPrivate thread_parser = G_PRIVATE_INIT(parser_free);

static struct parser *parser_take(void)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        xmlInitParser();
        g_once_init_leave(&once, 1);
    }
    struct parser *p = g_private_get(&thread_parser);
    if (p == NULL) {
        p = parser_new();
        g_private_set(&thread_parser, p);
    } else {
        xmlCtxtResetPush(p->context, NULL, 0, NULL, NULL);
    }
    return p;
}

/* libxml2 does not reset all of a context that stopped half way, and never forgets a name. */
static void parser_give_back(struct parser *p)
{
    if (p->result != PARSE_OK || p->text->allocated_len > MOST_TEXT || xmlDictSize(p->context->dict) > MOST_NAMES)
        g_private_replace(&thread_parser, NULL);
}

static enum parse_result parse(struct parser *p, const char *text, gsize len)
{
    /* libxml2's push parser does not take a byte order mark in its stride. */
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        len -= 3;
    }
    const char *refused = len > 0 ? xmlrpc_guard(text, len) : "empty";
    p->n_levels = 1;
    p->levels[0] = (struct level){NOTHING, 0};
    p->result = PARSE_OK;
    p->error = NULL;
    p->method = "";
    g_string_truncate(p->text, 0);
    if (refused != NULL) {
        p->result = PARSE_MALFORMED;
        p->error = refused;
        return p->result;
    }
    for (gsize at = 0, n; at < len && p->result == PARSE_OK; at += n) {
        n = MIN(len - at, PIECE);
        xmlParseChunk(p->context, text + at, (int) n, at + n == len);
    }
    if (p->result == PARSE_OK && (!p->context->wellFormed || p->n_levels != 1 || p->levels[0].seen == 0))
        malformed(p, "not a whole document");
    return p->result;
}

enum parse_result xmlrpc_parse_request(struct arena *a, const char *text, gsize len, const struct codec_limits *limits,
                                       struct rpc_request *req)
{
    struct parser *p = parser_take();
    p->arena = a;
    p->fragment = FALSE;
    tree_init(&p->tree, a, limits, 1);
    *req = (struct rpc_request){.result = parse(p, text, len)};
    req->method = p->method;
    req->error = p->error;
    if (req->result == PARSE_OK && p->tree.root != NULL) {
        req->args = p->tree.root->u.set.v;
        req->n_args = p->tree.root->u.set.n;
    }
    parser_give_back(p);
    return req->result;
}

struct value *xmlrpc_parse_value(const char *text, gsize len)
{
    g_autoptr(arena) a = arena_new();
    struct parser *p = parser_take();
    p->arena = a;
    p->fragment = TRUE;
    tree_init(&p->tree, a, NULL, 0);
    enum parse_result result = parse(p, text, len);
    struct value *v = result == PARSE_OK ? value_ref(p->tree.root) : NULL;
    parser_give_back(p);
    return v;
}
