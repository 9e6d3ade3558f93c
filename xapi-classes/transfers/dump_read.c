/* dump_read.c - a dump that comes in pieces, row by row, each checked against the model. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include <libxml/parser.h>
#include <libxml/xmlerror.h>

#include "xapi-classes/transfers/dump.h"

#define MOST_NESTED 8

struct dump_reader {
    dump_row_fn *fn;
    void *data;
    xmlParserCtxtPtr parser;
    xmlSAXHandler sax;
    gint64 fed;
    struct fault fault; /* the first: from then on nothing is read */
    int depth;
    const struct class *class; /* of the table */
    gint64 major;
    gboolean is_ours, ended;
    GHashTable *refs, *uuids;
    guint pools, hosts;
};

static void stop(struct dump_reader *r)
{
    xmlStopParser(r->parser);
}

static void damaged(struct dump_reader *r, const char *what)
{
    if (!r->fault.code)
        fault_set(&r->fault, "INVALID_VALUE", "xmldbdump", what, NULL);
    stop(r);
}

/* ---- texts ---- */

/* Undoes "%." and its kin; NULL when it is not such a text. */
static char *plain(const xmlChar *text, gsize len)
{
    g_autoptr(GString) out = g_string_sized_new(len);
    for (gsize i = 0; i < len; i++) {
        char c = (char) text[i];
        static const char from[] = ".tnr%", to[] = " \t\n\r%";
        if (c != '%') {
            g_string_append_c(out, c);
            continue;
        }
        const char *which = i + 1 < len && text[i + 1] ? strchr(from, text[i + 1]) : NULL;
        if (which) {
            g_string_append_c(out, to[which - from]);
            i++;
        } else if (i + 3 < len && text[i + 1] == 'x' && g_ascii_isxdigit(text[i + 2]) &&
                   g_ascii_isxdigit(text[i + 3])) {
            int n = g_ascii_xdigit_value((char) text[i + 2]) << 4 | g_ascii_xdigit_value((char) text[i + 3]);
            if (n == 0 || n >= 0x80)
                return NULL;
            g_string_append_c(out, (char) n);
            i += 3;
        } else {
            return NULL;
        }
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static struct value *read_value(const struct type *t, const char **text, int depth);

static gboolean take(const char **text, char c)
{
    while (**text == ' ')
        (*text)++;
    if (**text != c)
        return FALSE;
    (*text)++;
    return TRUE;
}

/* 'It\'s'; NULL when it is none. */
static char *quoted(const char **text)
{
    g_autoptr(GString) out = g_string_new(NULL);
    if (!take(text, '\''))
        return NULL;
    for (; **text && **text != '\''; (*text)++) {
        if (**text == '\\' && !*++(*text))
            return NULL;
        g_string_append_c(out, **text);
    }
    return take(text, '\'') ? g_string_free(g_steal_pointer(&out), FALSE) : NULL;
}

static struct value *number(const char *text, gboolean is_float)
{
    char *end = NULL;
    double d = is_float ? g_ascii_strtod(text, &end) : 0;
    gint64 i = is_float ? 0 : g_ascii_strtoll(text, &end, 10);
    if (end == text || *end)
        return NULL;
    return is_float ? value_float(NULL, d) : value_int(NULL, i);
}

/* What is no set and no map. */
static struct value *scalar(const struct type *t, const char *text)
{
    struct fault ignored = FAULT_INIT;
    gint64 seconds;
    g_autoptr(value) string = NULL;
    switch (t->kind) {
    case TYPE_INT:
    case TYPE_FLOAT:
        return number(text, t->kind == TYPE_FLOAT);
    case TYPE_BOOL:
        return strcmp(text, "true") == 0 || strcmp(text, "false") == 0 ? value_bool(*text == 't') : NULL;
    case TYPE_DATETIME:
        return datetime_parse(text, &seconds) ? value_datetime(NULL, seconds) : NULL;
    case TYPE_STRING:
    case TYPE_ENUM:
        string = value_string(NULL, text);
        struct value *v = type_convert(NULL, t, string, "", &ignored);
        fault_clear(&ignored);
        return v;
    case TYPE_REF:
        return value_string(NULL, text);
    default:
        return NULL;
    }
}

static struct value *part(const struct type *t, const char **text, int depth)
{
    if (t->kind == TYPE_SET || t->kind == TYPE_MAP)
        return read_value(t, text, depth + 1);
    g_autofree char *inner = quoted(text);
    return inner ? scalar(t, inner) : NULL;
}

/* One member of a map, between its parentheses. */
static gboolean member(struct value_builder *b, GHashTable *seen, const struct type *t, const char **text, int depth)
{
    g_autofree char *key = quoted(text);
    g_autoptr(value) right = key ? scalar(t->key, key) : NULL;
    struct value *v = right ? part(t->elem, text, depth) : NULL;
    if (!v)
        return FALSE;
    if (!take(text, ')') || !g_hash_table_add(seen, g_strdup(key))) {
        value_unref(v);
        return FALSE;
    }
    value_builder_put(b, key, v);
    return TRUE;
}

static struct value *read_map(const struct type *t, const char **text, int depth)
{
    struct value_builder b;
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    value_builder_map(&b, NULL, 4);
    while (take(text, '('))
        if (!member(&b, seen, t, text, depth)) {
            value_builder_clear(&b);
            return NULL;
        }
    return value_builder_end(&b);
}

static struct value *read_set(const struct type *t, const char **text, int depth)
{
    struct value_builder b;
    value_builder_set(&b, NULL, 4);
    while (**text == ' ' || **text == '\'' || **text == '(') {
        struct value *v = part(t->elem, text, depth);
        if (!v) {
            value_builder_clear(&b);
            return NULL;
        }
        value_builder_add(&b, v);
    }
    return value_builder_end(&b);
}

static struct value *read_value(const struct type *t, const char **text, int depth)
{
    if (t->kind != TYPE_SET && t->kind != TYPE_MAP) {
        const char *all = *text;
        *text += strlen(all);
        return scalar(t, all);
    }
    if (depth > MOST_NESTED || !take(text, '('))
        return NULL;
    g_autoptr(value) v = t->kind == TYPE_SET ? read_set(t, text, depth) : read_map(t, text, depth);
    return v && take(text, ')') ? g_steal_pointer(&v) : NULL;
}

/* ---- rows ---- */

static gboolean ref_is_right(const char *ref)
{
    if (!g_str_has_prefix(ref, "OpaqueRef:") || strlen(ref) >= REF_SIZE)
        return FALSE;
    for (const char *p = ref + 10; *p; p++)
        if (!g_ascii_isalnum(*p) && *p != '-')
            return FALSE;
    return strcmp(ref, "OpaqueRef:NULL") != 0;
}

static gboolean is_new(struct dump_reader *r, GHashTable *seen, const char *field, const char *text)
{
    char *key = g_strconcat(field, ":", text, NULL);
    if (g_hash_table_add(seen, key))
        return TRUE;
    fault_set(&r->fault, "DB_UNIQUENESS_CONSTRAINT_VIOLATION", r->class->name, field, text, NULL);
    stop(r);
    return FALSE;
}

/* FALSE: the reading has ended. */
static gboolean read_field(struct dump_reader *r, struct value_builder *b, const char *name, const char *text)
{
    const struct field *f = class_field(r->class, name);
    if (!f || f->mirrors || value_builder_has(b, name)) {
        fault_set(&r->fault, "RESTORE_INCOMPATIBLE_VERSION", NULL);
        stop(r);
        return FALSE;
    }
    const char *at = text;
    struct value *v = read_value(f->type, &at, 0);
    if (v && *at == '\0' &&
        (f->index != r->class->uuid_field || (uuid_is_valid(text) && is_new(r, r->uuids, "uuid", text)))) {
        value_builder_put(b, name, v);
        return TRUE;
    }
    value_unref(v);
    g_autofree char *what = g_strdup_printf("%s.%s", r->class->name, name);
    damaged(r, what);
    return FALSE;
}

static void read_row(struct dump_reader *r, int n, const xmlChar **attributes)
{
    struct value_builder b;
    g_autofree char *ref = NULL;
    value_builder_map(&b, NULL, (gsize) n);
    for (int i = 0; i < n && !r->fault.code; i++) {
        const xmlChar **a = attributes + 5 * i;
        const char *name = (const char *) a[0];
        g_autofree char *text = plain(a[3], (gsize) (a[4] - a[3]));
        if (!text || a[1])
            damaged(r, name);
        else if (strcmp(name, "ref") == 0)
            ref = g_steal_pointer(&text);
        else if (!g_str_has_prefix(name, "__"))
            read_field(r, &b, name, text);
    }
    g_autoptr(value) fields = value_builder_end(&b);
    if (!r->fault.code && (!ref || !ref_is_right(ref)))
        damaged(r, "ref");
    if (r->fault.code || !is_new(r, r->refs, "ref", ref))
        return;
    if (r->class->uuid_field >= 0 && !value_get(fields, r->class->fields[r->class->uuid_field].name)) {
        damaged(r, "a row without uuid");
        return;
    }
    r->pools += r->class->id == CLASS_pool;
    r->hosts += r->class->id == CLASS_host;
    if (!r->fn(r->class, ref, fields, r->data, &r->fault))
        stop(r);
}

/* ---- the document ---- */

static char *attribute(int n, const xmlChar **attributes, const char *name)
{
    for (int i = 0; i < n; i++) {
        const xmlChar **a = attributes + 5 * i;
        if (strcmp((const char *) a[0], name) == 0)
            return g_strndup((const char *) a[3], (gsize) (a[4] - a[3]));
    }
    return g_strdup("");
}

static void read_pair(struct dump_reader *r, int n, const xmlChar **attributes)
{
    g_autofree char *key = attribute(n, attributes, "key"), *text = attribute(n, attributes, "value");
    if (strcmp(key, "schema_major_vsn") == 0)
        r->major = g_ascii_strtoll(text, NULL, 10);
    else if (strcmp(key, "product") == 0)
        r->is_ours = strcmp(text, PACKAGE_NAME) == 0;
}

static void begin_table(struct dump_reader *r, int n, const xmlChar **attributes)
{
    g_autofree char *name = attribute(n, attributes, "name");
    r->class = class_by_name(name);
    if (r->major == SCHEMA_VERSION && r->is_ours && r->class && dump_has_class(r->class))
        return;
    fault_set(&r->fault, "RESTORE_INCOMPATIBLE_VERSION", NULL);
    stop(r);
}

static void on_start(void *data, const xmlChar *name, G_GNUC_UNUSED const xmlChar *prefix, const xmlChar *uri,
                     G_GNUC_UNUSED int n_spaces, G_GNUC_UNUSED const xmlChar **spaces, int n,
                     G_GNUC_UNUSED int n_default, const xmlChar **attributes)
{
    static const char *const expected[][3] = {{"database"}, {"manifest", "table"}, {"pair", "row"}};
    struct dump_reader *r = data;
    int depth = r->depth++;
    const char *tag = (const char *) name;
    if (r->fault.code)
        return;
    if (depth > 2 || uri || (strcmp(tag, expected[depth][0]) != 0 && g_strcmp0(tag, expected[depth][1]) != 0))
        damaged(r, tag);
    else if (strcmp(tag, "table") == 0)
        begin_table(r, n, attributes);
    else if (strcmp(tag, "pair") == 0)
        read_pair(r, n, attributes);
    else if (strcmp(tag, "row") == 0 && !r->class)
        damaged(r, "a row outside of a table");
    else if (strcmp(tag, "row") == 0)
        read_row(r, n, attributes);
}

static void on_end(void *data, const xmlChar *name, G_GNUC_UNUSED const xmlChar *prefix,
                   G_GNUC_UNUSED const xmlChar *uri)
{
    struct dump_reader *r = data;
    r->depth--;
    if (strcmp((const char *) name, "table") == 0)
        r->class = NULL;
    r->ended = r->depth == 0;
}

static void on_dtd(void *data, G_GNUC_UNUSED const xmlChar *name, G_GNUC_UNUSED const xmlChar *id,
                   G_GNUC_UNUSED const xmlChar *system)
{
    damaged(data, "a document type");
}

static void be_silent(G_GNUC_UNUSED void *data, G_GNUC_UNUSED xmlErrorPtr error)
{
}

struct dump_reader *dump_reader_new(dump_row_fn *fn, void *data)
{
    struct dump_reader *r = g_new0(struct dump_reader, 1);
    r->fn = fn;
    r->data = data;
    r->refs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    r->uuids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    r->sax.initialized = XML_SAX2_MAGIC;
    r->sax.startElementNs = on_start;
    r->sax.endElementNs = on_end;
    r->sax.internalSubset = on_dtd;
    r->sax.serror = (xmlStructuredErrorFunc) be_silent;
    r->parser = xmlCreatePushParserCtxt(&r->sax, r, NULL, 0, NULL);
    /* Entities: only the predefined ones, because there is no document type. */
    xmlCtxtUseOptions(r->parser, XML_PARSE_NONET | XML_PARSE_NOENT | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    return r;
}

static gboolean parse(struct dump_reader *r, const char *data, gsize len, gboolean last, struct fault *f)
{
    int error = r->fault.code ? 0 : xmlParseChunk(r->parser, data, (int) len, last);
    if (error && !r->fault.code)
        damaged(r, "this is no XML document");
    if (!r->fault.code)
        return TRUE;
    return fault_setv(f, r->fault.code, (const char *const *) r->fault.params), FALSE;
}

gboolean dump_reader_feed(struct dump_reader *r, const char *data, gsize len, struct fault *f)
{
    r->fed += (gint64) len;
    if (r->fed > DUMP_MOST)
        return fault_set(f, "INVALID_VALUE", "xmldbdump", "too large", NULL);
    return parse(r, data, len, FALSE, f);
}

gboolean dump_reader_end(struct dump_reader *r, struct fault *f)
{
    if (!parse(r, NULL, 0, TRUE, f))
        return FALSE;
    if (!r->ended)
        return fault_set(f, "INVALID_VALUE", "xmldbdump", "it was cut", NULL);
    return (r->pools == 1 && r->hosts > 0) || fault_set(f, "INVALID_VALUE", "xmldbdump", "no pool, or no host", NULL);
}

void dump_reader_free(struct dump_reader *r)
{
    if (!r)
        return;
    xmlFreeParserCtxt(r->parser);
    g_hash_table_unref(r->refs);
    g_hash_table_unref(r->uuids);
    fault_clear(&r->fault);
    g_free(r);
}
