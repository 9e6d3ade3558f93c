/* json.c - JSON text: read into values under limits, and written from them. */
#include "daemon/codec/codec-internal.h"
#include "daemon/codec/jsonrpc.h"

#include <math.h>
#include <string.h>

/* No number that anyone means is longer. */
#define NUMBER_LENGTH 1024

struct reader {
    const guchar *p, *end;
    struct tree tree;
    const char *error;
};

static gboolean fail(struct reader *r, const char *error)
{
    if (r->error == NULL)
        r->error = r->tree.error != NULL ? r->tree.error : error;
    return FALSE;
}

static void skip_space(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
        r->p++;
}

/* The next byte after white space, or NUL at the end. */
static guchar peek(struct reader *r)
{
    skip_space(r);
    return r->p < r->end ? *r->p : '\0';
}

static gboolean take(struct reader *r, guchar c)
{
    if (peek(r) != c || r->p == r->end)
        return FALSE;
    r->p++;
    return TRUE;
}

/* ---- strings ---- */

/* 1: ends a run of plain bytes in a string. */
static const guint8 stops_run[256] = {
    [0 ... 0x1f] = 1,
    ['"'] = 1,
    ['\\'] = 1,
    [0x80 ... 0xff] = 1,
};

static gboolean read_hex4(struct reader *r, gunichar *c)
{
    *c = 0;
    if (r->end - r->p < 4)
        return fail(r, "bad \\u escape");
    for (guint i = 0; i < 4; i++) {
        int digit = g_ascii_xdigit_value((char) *r->p++);
        if (digit < 0)
            return fail(r, "bad \\u escape");
        *c = *c << 4 | (gunichar) digit;
    }
    return TRUE;
}

/* What follows \u: a character, or two halves of one that is beyond 16 bits. */
static gboolean read_unicode_escape(struct reader *r, GString *out)
{
    gunichar c, low;
    if (!read_hex4(r, &c))
        return FALSE;
    if (c == 0)
        return fail(r, "NUL in a string");
    if (c >= 0xd800 && c <= 0xdfff) {
        if (c >= 0xdc00 || r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
            return fail(r, "lone surrogate");
        r->p += 2;
        if (!read_hex4(r, &low))
            return FALSE;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(r, "lone surrogate");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    g_string_append_unichar(out, c);
    return TRUE;
}

static gboolean read_escape(struct reader *r, GString *out)
{
    static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    r->p++; /* the backslash */
    if (r->p == r->end)
        return fail(r, "unfinished string");
    guchar c = *r->p++;
    if (c == 'u')
        return read_unicode_escape(r, out);
    const char *name = c != '\0' ? strchr(names, c) : NULL;
    if (name == NULL)
        return fail(r, "bad escape in a string");
    g_string_append_c(out, meant[name - names]);
    return TRUE;
}

/* Moves over bytes that stand for themselves. FALSE when what follows cannot be in a string. */
static gboolean skip_run(struct reader *r)
{
    while (r->p < r->end) {
        if (!stops_run[*r->p]) {
            r->p++;
        } else if (*r->p >= 0x80) {
            guint len = utf8_length(r->p, (gsize) (r->end - r->p));
            if (len == 0)
                return fail(r, "invalid UTF-8");
            r->p += len;
        } else {
            return *r->p >= 0x20 || fail(r, "control character in a string");
        }
    }
    return fail(r, "unfinished string");
}

static gboolean add_text(struct reader *r, gboolean is_key, const char *s, gsize len)
{
    gboolean ok = is_key ? tree_key(&r->tree, s, len) : tree_string(&r->tree, s, len);
    return ok || fail(r, NULL);
}

/* A string with escapes, of which the bytes from start to r->p have been looked at. */
static gboolean read_escaped_string(struct reader *r, const guchar *start, gboolean is_key)
{
    GString *out = g_string_new_len((const char *) start, r->p - start);
    gboolean ok = TRUE;
    while (ok && *r->p == '\\') {
        ok = read_escape(r, out);
        const guchar *run = r->p;
        ok = ok && skip_run(r);
        if (ok)
            g_string_append_len(out, (const char *) run, r->p - run);
    }
    ok = ok && add_text(r, is_key, out->str, out->len);
    g_string_free(out, TRUE);
    return ok;
}

static gboolean read_string(struct reader *r, gboolean is_key)
{
    const guchar *start = ++r->p;
    if (!skip_run(r))
        return FALSE;
    gboolean ok = *r->p == '"' ? add_text(r, is_key, (const char *) start, (gsize) (r->p - start))
                               : read_escaped_string(r, start, is_key);
    r->p++; /* the closing quote */
    return ok;
}

/* ---- numbers and names ---- */

static gsize skip_digits(struct reader *r)
{
    const guchar *start = r->p;
    while (r->p < r->end && g_ascii_isdigit(*r->p))
        r->p++;
    return (gsize) (r->p - start);
}

/* Moves over one number and says whether it is written as an integer. */
static gboolean skip_number(struct reader *r, gboolean *integer)
{
    *integer = TRUE;
    if (*r->p == '-')
        r->p++;
    gboolean zero = r->p < r->end && *r->p == '0';
    gsize digits = skip_digits(r);
    if (digits == 0 || (zero && digits > 1))
        return fail(r, "bad number");
    if (r->p < r->end && *r->p == '.') {
        r->p++;
        *integer = FALSE;
        if (skip_digits(r) == 0)
            return fail(r, "bad number");
    }
    if (r->p < r->end && (*r->p == 'e' || *r->p == 'E')) {
        r->p++;
        *integer = FALSE;
        if (r->p < r->end && (*r->p == '+' || *r->p == '-'))
            r->p++;
        if (skip_digits(r) == 0)
            return fail(r, "bad number");
    }
    return TRUE;
}

static gboolean int64_from_digits(const guchar *p, const guchar *end, gint64 *result)
{
    gboolean negative = *p == '-';
    gint64 n = 0;
    /* Counted downwards: the least integer has no positive counterpart. */
    for (p += negative; p < end; p++) {
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_sub_overflow(n, *p - '0', &n))
            return FALSE;
    }
    if (!negative && n == G_MININT64)
        return FALSE;
    *result = negative ? n : -n;
    return TRUE;
}

static gboolean read_number(struct reader *r)
{
    const guchar *start = r->p;
    gboolean integer;
    gint64 i;
    if (!skip_number(r, &integer))
        return FALSE;
    if (integer && int64_from_digits(start, r->p, &i))
        return tree_value(&r->tree, value_int(r->tree.arena, i)) || fail(r, NULL);
    gsize len = (gsize) (r->p - start);
    if (len > NUMBER_LENGTH)
        return fail(r, "number too long");
    char text[NUMBER_LENGTH + 1];
    memcpy(text, start, len);
    text[len] = '\0';
    double d = g_ascii_strtod(text, NULL);
    if (!isfinite(d))
        return fail(r, "number too large");
    return tree_value(&r->tree, value_float(r->tree.arena, d)) || fail(r, NULL);
}

static gboolean read_word(struct reader *r, const char *word, struct value *meaning)
{
    gsize len = strlen(word);
    if ((gsize) (r->end - r->p) < len || memcmp(r->p, word, len) != 0)
        return fail(r, "not a JSON value");
    r->p += len;
    return tree_value(&r->tree, meaning) || fail(r, NULL);
}

/* ---- structure ---- */

static gboolean read_key(struct reader *r)
{
    if (peek(r) != '"')
        return fail(r, "a name is expected");
    if (!read_string(r, TRUE))
        return FALSE;
    return take(r, ':') || fail(r, "a colon is expected");
}

static gboolean close_container(struct reader *r)
{
    r->p++;
    return tree_close(&r->tree) || fail(r, NULL);
}

/* Opens an array or object. *done says that it was empty and is closed already. */
static gboolean read_opening(struct reader *r, gboolean *done)
{
    gboolean map = *r->p++ == '{';
    if (!tree_open(&r->tree, map ? VALUE_MAP : VALUE_SET))
        return fail(r, NULL);
    *done = peek(r) == (map ? '}' : ']');
    if (*done)
        return close_container(r);
    return map ? read_key(r) : TRUE;
}

/* Reads a scalar, or the opening of an array or object. *done says whether a whole value has been read. */
static gboolean read_start(struct reader *r, gboolean *done)
{
    *done = TRUE;
    switch (peek(r)) {
    case '{':
    case '[':
        return read_opening(r, done);
    case '"':
        return read_string(r, FALSE);
    case 't':
        return read_word(r, "true", value_bool(TRUE));
    case 'f':
        return read_word(r, "false", value_bool(FALSE));
    case 'n':
        return read_word(r, "null", value_void());
    case '-':
    case '0' ... '9':
        return read_number(r);
    default:
        return fail(r, r->p == r->end ? "unfinished" : "not a JSON value");
    }
}

/* After a value inside an array or object: closes all that end here, or goes on to the next member's value. */
static gboolean read_end(struct reader *r)
{
    while (r->tree.depth > 0) {
        gboolean map = r->tree.frames[r->tree.depth - 1].type == VALUE_MAP;
        if (take(r, ','))
            return map ? read_key(r) : TRUE;
        if (peek(r) != (map ? '}' : ']'))
            return fail(r, "a comma or a closing bracket is expected");
        if (!close_container(r))
            return FALSE;
    }
    return TRUE;
}

static gboolean read_text(struct reader *r)
{
    do {
        gboolean done;
        if (!read_start(r, &done))
            return FALSE;
        if (done && !read_end(r))
            return FALSE;
    } while (r->tree.depth > 0);
    skip_space(r);
    return r->p == r->end || fail(r, "something follows the value");
}

struct value *json_read(struct arena *a, const char *text, gsize len, const struct codec_limits *limits,
                        guint more_depth, const char **error)
{
    const guchar *start = (const guchar *) (len > 0 ? text : "");
    struct reader r = {.p = start, .end = start + len};
    tree_init(&r.tree, a, limits, more_depth);
    if (read_text(&r))
        return r.tree.root;
    if (error != NULL)
        *error = r.error;
    return NULL;
}

struct value *json_parse(struct arena *a, const char *text, gsize len, const struct codec_limits *limits,
                         const char **error)
{
    if (a != NULL)
        return json_read(a, text, len, limits, 0, error);
    g_autoptr(arena) own = arena_new();
    struct value *v = json_read(own, text, len, limits, 0, error);
    return v != NULL ? value_ref(v) : NULL;
}

/* ---- writing ---- */

static void put_escape(struct reply *r, guchar c)
{
    static const char names[] = "\b\t\n\f\r\"\\", letters[] = "btnfr\"\\";
    const char *name = c != '\0' ? strchr(names, c) : NULL;
    char text[] = "\\u0000";
    if (name != NULL) {
        text[1] = letters[name - names];
        reply_put(r, text, 2);
        return;
    }
    text[4] = "0123456789abcdef"[c >> 4];
    text[5] = "0123456789abcdef"[c & 15];
    reply_put(r, text, 6);
}

static void put_string(struct reply *r, const char *s, gsize len)
{
    const guchar *p = (const guchar *) s, *end = p + len, *run = p;
    reply_put_literal(r, "\"");
    while (p < end) {
        guint n = stops_run[*p] == 0 ? 1 : *p >= 0x80 ? utf8_length(p, (gsize) (end - p)) : 0;
        if (n > 0) {
            p += n;
            continue;
        }
        reply_put(r, (const char *) run, (gsize) (p - run));
        if (*p >= 0x80)
            reply_put_literal(r, REPLACEMENT_CHARACTER);
        else
            put_escape(r, *p);
        run = ++p;
    }
    reply_put(r, (const char *) run, (gsize) (end - run));
    reply_put_literal(r, "\"");
}

/* The shortest text that reads back as d and still looks like a float. */
static void put_float(struct reply *r, double d)
{
    static const char *const formats[] = {"%.15g", "%.16g", "%.17g"};
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    for (guint i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_ascii_formatd(text, sizeof(text), formats[i], d);
        if (g_ascii_strtod(text, NULL) == d)
            break;
    }
    reply_put_string(r, text);
    if (strpbrk(text, ".e") == NULL)
        reply_put_literal(r, ".0");
}

static void put_set(struct reply *r, const struct value *v)
{
    reply_put_literal(r, "[");
    for (gsize i = 0; i < v->u.set.n; i++) {
        if (i > 0)
            reply_put_literal(r, ",");
        codec_put_value(r, WIRE_JSON, v->u.set.v[i]);
    }
    reply_put_literal(r, "]");
}

static void put_map(struct reply *r, const struct value *v)
{
    reply_put_literal(r, "{");
    for (gsize i = 0; i < v->u.map.n; i++) {
        const struct value_member *m = &v->u.map.m[i];
        if (i > 0)
            reply_put_literal(r, ",");
        put_string(r, m->key->u.str.s, m->key->u.str.len);
        reply_put_literal(r, ":");
        codec_put_value(r, WIRE_JSON, m->value);
    }
    reply_put_literal(r, "}");
}

void json_put_value(struct reply *r, struct value *v)
{
    char date[DATETIME_TEXT_SIZE];
    switch ((enum value_type) v->type) {
    case VALUE_VOID:
        reply_put_literal(r, "\"\"");
        break;
    case VALUE_STRING:
        put_string(r, v->u.str.s, v->u.str.len);
        break;
    case VALUE_INT:
    case VALUE_I4:
        reply_put_int(r, v->u.i);
        break;
    case VALUE_FLOAT:
        put_float(r, v->u.d);
        break;
    case VALUE_BOOL:
        reply_put_string(r, v->u.i ? "true" : "false");
        break;
    case VALUE_DATETIME:
        datetime_format(v->u.i, date);
        put_string(r, date, strlen(date));
        break;
    case VALUE_SET:
        put_set(r, v);
        break;
    case VALUE_MAP:
        put_map(r, v);
        break;
    case VALUE_BLOB:
        codec_put_value(r, WIRE_JSON, v);
        break;
    }
}

char *json_text(struct value *v)
{
    struct reply *r = reply_new();
    codec_put_value(r, WIRE_JSON, v);
    char *text = reply_text(r);
    reply_free(r);
    return text;
}
