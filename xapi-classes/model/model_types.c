/* model_types.c - types: their names, their neutral values, the notation of defaults, and the conversion of what a
 * client sent to what a message or a field takes. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "xapi-classes/model/model_private.h"

/* ---- names ---- */

static void append_name(GString *s, const struct type *t)
{
    switch (t->kind) {
    case TYPE_VOID:
        g_string_append(s, "void");
        break;
    case TYPE_STRING:
        g_string_append(s, "string");
        break;
    case TYPE_INT:
        g_string_append(s, "int");
        break;
    case TYPE_FLOAT:
        g_string_append(s, "float");
        break;
    case TYPE_BOOL:
        g_string_append(s, "bool");
        break;
    case TYPE_DATETIME:
        g_string_append(s, "datetime");
        break;
    case TYPE_ENUM:
        g_string_append_printf(s, "enum %s", t->enumeration->name);
        break;
    case TYPE_REF:
        g_string_append_printf(s, "%s ref", t->class == CLASS_NONE ? "<class>" : class_by_id(t->class)->name);
        break;
    case TYPE_RECORD:
        g_string_append_printf(s, "%s record", t->class == CLASS_NONE ? "<class>" : class_by_id(t->class)->name);
        break;
    case TYPE_SET:
        append_name(s, t->elem);
        g_string_append(s, " set");
        break;
    case TYPE_MAP:
        g_string_append_c(s, '(');
        append_name(s, t->key);
        g_string_append(s, " -> ");
        append_name(s, t->elem);
        g_string_append(s, ") map");
        break;
    case TYPE_OPTION:
        append_name(s, t->elem);
        g_string_append(s, " option");
        break;
    case TYPE_EVENT_BATCH:
        g_string_append(s, "an event batch");
        break;
    }
}

const char *type_name(const struct type *t)
{
    g_autoptr(GString) s = g_string_sized_new(32);
    append_name(s, t);
    return g_intern_string(s->str);
}

/* ---- neutral values ---- */

struct value *type_neutral(const struct type *t)
{
    switch (t->kind) {
    case TYPE_STRING:
        return value_string(NULL, "");
    case TYPE_INT:
        return value_int(NULL, 0);
    case TYPE_FLOAT:
        return value_float(NULL, 0);
    case TYPE_BOOL:
        return value_bool(FALSE);
    case TYPE_DATETIME:
        return value_datetime(NULL, 0);
    case TYPE_ENUM:
        return value_string(NULL, t->enumeration->values[0]);
    case TYPE_REF:
        return value_string(NULL, NULL_REF);
    case TYPE_SET:
        return value_empty_set();
    case TYPE_MAP:
    case TYPE_RECORD:
    case TYPE_EVENT_BATCH:
        return value_empty_map();
    case TYPE_VOID:
    case TYPE_OPTION:
        break;
    }
    return value_void();
}

gboolean ref_is_null(const char *ref)
{
    return !ref || !*ref || strcmp(ref, NULL_REF) == 0;
}

/* ---- texts ---- */

static gboolean text_int(const char *text, gint64 *i)
{
    char *end;
    if (!g_ascii_isdigit(*text) && *text != '-' && *text != '+')
        return FALSE;
    errno = 0;
    *i = g_ascii_strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0';
}

static gboolean text_float(const char *text, double *d)
{
    char *end;
    if (!*text || g_ascii_isspace(*text))
        return FALSE;
    *d = g_ascii_strtod(text, &end);
    return *end == '\0' && isfinite(*d);
}

static gboolean text_bool(const char *text, gboolean *b)
{
    *b = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    return *b || strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
}

/* The enum's own spelling of a name, or NULL. */
/* As the API writes it; clients may write it in any case ("User", "disk"). */
static const char *enum_value(const struct enum_type *e, const char *name)
{
    for (const char *const *v = e->values; *v; v++)
        if (g_ascii_strcasecmp(*v, name) == 0)
            return *v;
    return NULL;
}

/* ---- the notation of defaults ---- */

static struct value *scalar_initial(const struct type *t, const char *text)
{
    gint64 i;
    double d;
    gboolean b;
    switch (t->kind) {
    case TYPE_STRING:
        return value_string(NULL, text);
    case TYPE_INT:
        return text_int(text, &i) ? value_int(NULL, i) : NULL;
    case TYPE_FLOAT:
        return text_float(text, &d) ? value_float(NULL, d) : NULL;
    case TYPE_BOOL:
        return text_bool(text, &b) ? value_bool(b) : NULL;
    case TYPE_DATETIME:
        return datetime_parse(text, &i) ? value_datetime(NULL, i) : NULL;
    case TYPE_ENUM:
        return enum_value(t->enumeration, text) ? value_string(NULL, enum_value(t->enumeration, text)) : NULL;
    case TYPE_REF:
        if (strcmp(text, "Null") == 0)
            return value_string(NULL, NULL_REF);
        return g_str_has_prefix(text, "OpaqueRef:") ? value_string(NULL, text) : NULL;
    default:
        return NULL;
    }
}

/* "text" in quotes is text; what has none stays as it is. */
static char *unquoted(const char *text)
{
    g_autofree char *s = g_strstrip(g_strdup(text));
    gsize n = strlen(s);
    if (n >= 2 && s[0] == '"' && s[n - 1] == '"')
        return g_strndup(s + 1, n - 2);
    return g_steal_pointer(&s);
}

static gboolean member_initial(const struct type *t, const char *text, struct value_builder *b)
{
    g_autofree char *key = NULL;
    if (t->kind == TYPE_MAP) {
        const char *arrow = strstr(text, "->");
        if (!arrow)
            return FALSE;
        g_autofree char *left = g_strndup(text, arrow - text);
        key = unquoted(left);
        text = arrow + 2;
    }
    g_autofree char *s = unquoted(text);
    struct value *v = scalar_initial(t->elem, s);
    if (!v)
        return FALSE;
    if (key)
        value_builder_put(b, key, v);
    else
        value_builder_add(b, v);
    return TRUE;
}

/* {a, b} or {"a" -> "b", ...}: no member of a default holds a comma. */
static struct value *container_initial(const struct type *t, const char *text)
{
    gsize n = strlen(text);
    if (n < 2 || text[0] != '{' || text[n - 1] != '}')
        return NULL;
    if (n == 2)
        return type_neutral(t);
    g_autofree char *inner = g_strndup(text + 1, n - 2);
    g_auto(GStrv) parts = g_strsplit(inner, ",", -1);
    struct value_builder b;
    if (t->kind == TYPE_MAP)
        value_builder_map(&b, NULL, g_strv_length(parts));
    else
        value_builder_set(&b, NULL, g_strv_length(parts));
    for (char **p = parts; *p; p++) {
        if (!member_initial(t, *p, &b)) {
            value_builder_clear(&b);
            return NULL;
        }
    }
    return value_builder_end(&b);
}

struct value *type_parse_initial(const struct type *t, const char *text)
{
    return t->kind == TYPE_SET || t->kind == TYPE_MAP ? container_initial(t, text) : scalar_initial(t, text);
}

/* ---- conversion ---- */

static struct value *wrong_kind(const char *what, struct fault *f)
{
    fault_set(f, "FIELD_TYPE_ERROR", what, NULL);
    return NULL;
}

/* A reference to v itself: in the call's arena as it is, so that nothing is copied; else counted. */
static struct value *same(struct arena *a, struct value *v)
{
    return a && v->in_arena ? v : value_ref(v);
}

static struct value *convert_int(struct arena *a, struct value *v, const char *what, struct fault *f)
{
    gint64 i;
    if (v->type == VALUE_INT)
        return same(a, v);
    if (v->type == VALUE_I4)
        return value_int(a, value_as_int(v));
    if (v->type == VALUE_STRING && text_int(value_str(v), &i))
        return value_int(a, i);
    /* JSON has one kind of number, and some clients write 5 as 5.0. */
    if (v->type == VALUE_FLOAT && v->u.d == rint(v->u.d) && fabs(v->u.d) < 9007199254740992.0)
        return value_int(a, (gint64) v->u.d);
    return wrong_kind(what, f);
}

static struct value *convert_float(struct arena *a, struct value *v, const char *what, struct fault *f)
{
    double d;
    if (v->type == VALUE_FLOAT)
        return same(a, v);
    if (v->type == VALUE_INT || v->type == VALUE_I4)
        return value_float(a, (double) value_as_int(v));
    if (v->type == VALUE_STRING && text_float(value_str(v), &d))
        return value_float(a, d);
    return wrong_kind(what, f);
}

static struct value *convert_bool(struct value *v, const char *what, struct fault *f)
{
    gboolean b;
    if (v->type == VALUE_BOOL)
        return value_bool(value_as_bool(v));
    if ((v->type == VALUE_INT || v->type == VALUE_I4) && (value_as_int(v) == 0 || value_as_int(v) == 1))
        return value_bool(value_as_int(v) == 1);
    if (v->type == VALUE_STRING && text_bool(value_str(v), &b))
        return value_bool(b);
    return wrong_kind(what, f);
}

static struct value *convert_datetime(struct arena *a, struct value *v, const char *what, struct fault *f)
{
    gint64 t;
    switch (v->type) {
    case VALUE_DATETIME:
        return same(a, v);
    case VALUE_INT:
    case VALUE_I4:
        return value_datetime(a, value_as_int(v));
    case VALUE_FLOAT:
        return value_datetime(a, (gint64) CLAMP(value_as_float(v), -1e11, 1e12));
    case VALUE_STRING:
        if (datetime_parse(value_str(v), &t))
            return value_datetime(a, t);
        return wrong_kind(what, f);
    default:
        return wrong_kind(what, f);
    }
}

static struct value *convert_enum(struct arena *a, const struct enum_type *e, struct value *v, const char *what,
                                  struct fault *f)
{
    const char *known = enum_value(e, value_str(v));
    if (known)
        return strcmp(known, value_str(v)) == 0 ? same(a, v) : value_string(a, known);
    g_autofree char *reason = g_strdup_printf("not one of %s", e->name);
    fault_set(f, "VALUE_NOT_SUPPORTED", what, value_str(v), reason, NULL);
    return NULL;
}

static struct value *convert_string(struct arena *a, const struct type *t, struct value *v, const char *what,
                                    struct fault *f)
{
    if (v->type != VALUE_STRING)
        return wrong_kind(what, f);
    if (t->kind == TYPE_REF && !*value_str(v))
        return value_string(a, NULL_REF);
    return t->kind == TYPE_ENUM ? convert_enum(a, t->enumeration, v, what, f) : same(a, v);
}

static struct value *convert_set(struct arena *a, const struct type *t, struct value *v, const char *what,
                                 struct fault *f)
{
    if (v->type != VALUE_SET)
        return wrong_kind(what, f);
    gsize n = value_count(v);
    if (n == 0)
        return value_empty_set();
    struct value_builder b;
    value_builder_set(&b, a, n);
    for (gsize i = 0; i < n; i++) {
        struct value *e = type_convert(a, t->elem, value_at(v, i), what, f);
        if (!e) {
            value_builder_clear(&b);
            return NULL;
        }
        value_builder_add(&b, e);
    }
    return value_builder_end(&b);
}

/* Keys are texts whatever their type is; they have to read as one of it. */
static struct value *convert_key(struct arena *a, const struct type *t, struct value *key, const char *what,
                                 struct fault *f)
{
    g_autoptr(value) k = type_convert(a, t, key, what, f);
    return k ? same(a, key) : NULL;
}

static struct value *convert_map(struct arena *a, const struct type *t, struct value *v, const char *what,
                                 struct fault *f)
{
    if (v->type != VALUE_MAP)
        return wrong_kind(what, f);
    gsize n = value_count(v);
    if (n == 0)
        return value_empty_map();
    struct value_builder b;
    value_builder_map(&b, a, n);
    for (gsize i = 0; i < n; i++) {
        struct value_member *m = &v->u.map.m[i];
        struct value *key = convert_key(a, t->key, m->key, what, f);
        struct value *e = key ? type_convert(a, t->elem, m->value, what, f) : NULL;
        if (!e) {
            value_unref(key);
            value_builder_clear(&b);
            return NULL;
        }
        value_builder_put_key(&b, key, e);
    }
    return value_builder_end(&b);
}

static struct value *convert_record(struct arena *a, const struct type *t, struct value *v, const char *what,
                                    struct fault *f)
{
    if (v->type != VALUE_MAP)
        return wrong_kind(what, f);
    if (t->class == CLASS_NONE)
        return same(a, v);
    const struct class *class = class_by_id(t->class);
    struct value_builder b;
    value_builder_map(&b, a, value_count(v));
    for (gsize i = 0; i < value_count(v); i++) {
        struct value_member *m = &v->u.map.m[i];
        const struct field *field = class_field(class, value_str(m->key));
        if (!field)
            continue;
        struct value *e = type_convert(a, field->type, m->value, field->name, f);
        if (!e) {
            value_builder_clear(&b);
            return NULL;
        }
        value_builder_put_key(&b, same(a, m->key), e);
    }
    return value_builder_end(&b);
}

/* None is an empty set or void, some is a set of one, or the value alone. */
static struct value *convert_option(struct arena *a, const struct type *t, struct value *v, const char *what,
                                    struct fault *f)
{
    if (v->type == VALUE_VOID || (v->type == VALUE_SET && value_count(v) == 0))
        return value_void();
    if (v->type == VALUE_SET && t->elem->kind != TYPE_SET && value_count(v) == 1)
        v = value_at(v, 0);
    return type_convert(a, t->elem, v, what, f);
}

struct value *type_convert(struct arena *a, const struct type *t, struct value *v, const char *what, struct fault *f)
{
    if (v->type == VALUE_BLOB) {
        g_autoptr(value) inner = v->u.blob.ops->value(v->u.blob.data);
        return type_convert(a, t, inner, what, f);
    }
    /* A heap value converts to heap values: then nobody has to know of parts in an arena that are counted. */
    if (!v->in_arena)
        a = NULL;
    switch (t->kind) {
    case TYPE_VOID:
        return value_void();
    case TYPE_INT:
        return convert_int(a, v, what, f);
    case TYPE_FLOAT:
        return convert_float(a, v, what, f);
    case TYPE_BOOL:
        return convert_bool(v, what, f);
    case TYPE_DATETIME:
        return convert_datetime(a, v, what, f);
    case TYPE_STRING:
    case TYPE_ENUM:
    case TYPE_REF:
        return convert_string(a, t, v, what, f);
    case TYPE_SET:
        return convert_set(a, t, v, what, f);
    case TYPE_MAP:
        return convert_map(a, t, v, what, f);
    case TYPE_RECORD:
        return convert_record(a, t, v, what, f);
    case TYPE_OPTION:
        return convert_option(a, t, v, what, f);
    case TYPE_EVENT_BATCH: /* only ever an answer */
        break;
    }
    return wrong_kind(what, f);
}
