/* expr.c - the query language of get_all_records_where: a parser to postfix operations and a little stack machine, so
 * that a long chain of terms costs no stack. */
#include "xapi-classes/model/expr.h"

#include <string.h>

#define MAX_DEPTH 64

enum op_kind { OP_TRUE, OP_FALSE, OP_EQUAL, OP_NOT, OP_AND, OP_OR };

#define FIELD_LITERAL (-1)
#define FIELD_REF     (-2)

struct operand {
    int field; /* its number, or one of the above */
    char *text;
};

struct op {
    enum op_kind kind;
    struct operand left, right; /* OP_EQUAL */
};

struct expr {
    GArray *ops;
};

/* ---- words ---- */

enum token { T_END, T_BAD, T_EQUAL, T_OPEN, T_CLOSE, T_TRUE, T_FALSE, T_FIELD, T_AND, T_OR, T_NOT, T_TEXT };

struct parser {
    const struct class *class;
    const char *at;   /* behind the present token */
    enum token token; /* the present one */
    const char *text; /* T_TEXT: inside the quotes */
    gsize text_len;
    GArray *ops;
};

static const struct {
    const char *word;
    enum token token;
} words[] = {
    {"=", T_EQUAL},     {"(", T_OPEN},  {")", T_CLOSE}, {"true", T_TRUE}, {"false", T_FALSE},
    {"field", T_FIELD}, {"and", T_AND}, {"or", T_OR},   {"not", T_NOT},
};

static enum token quoted(struct parser *p)
{
    const char *end = strchr(p->at + 1, *p->at);
    if (!end)
        return T_BAD;
    p->text = p->at + 1;
    p->text_len = end - p->text;
    p->at = end + 1;
    return T_TEXT;
}

static void next_token(struct parser *p)
{
    while (*p->at && strchr(" \t\r\n", *p->at))
        p->at++;
    p->token = T_BAD;
    if (!*p->at) {
        p->token = T_END;
    } else if (*p->at == '"' || *p->at == '\'') {
        p->token = quoted(p);
    } else {
        for (gsize i = 0; i < G_N_ELEMENTS(words); i++) {
            if (g_str_has_prefix(p->at, words[i].word)) {
                p->token = words[i].token;
                p->at += strlen(words[i].word);
                return;
            }
        }
    }
}

static gboolean accept(struct parser *p, enum token token)
{
    if (p->token != token)
        return FALSE;
    next_token(p);
    return TRUE;
}

/* ---- grammar ---- */

static void clear_op(void *data)
{
    struct op *op = data;
    g_free(op->left.text);
    g_free(op->right.text);
}

static void emit(struct parser *p, enum op_kind kind)
{
    struct op op = {.kind = kind};
    g_array_append_val(p->ops, op);
}

/* xapi's database joins the parts of a name with two underscores where the API has one. */
static gboolean resolve_field(const struct class *class, const char *name, int *field)
{
    if (strcmp(name, "_ref") == 0) {
        *field = FIELD_REF;
        return TRUE;
    }
    const struct field *f = class_field(class, name);
    if (!f) {
        g_auto(GStrv) parts = g_strsplit(name, "__", -1);
        g_autofree char *joined = g_strjoinv("_", parts);
        f = class_field(class, joined);
    }
    if (f)
        *field = f->index;
    return f != NULL;
}

static gboolean parse_value(struct parser *p, struct operand *o)
{
    gboolean is_field = accept(p, T_FIELD);
    if (p->token != T_TEXT)
        return FALSE;
    g_autofree char *text = g_strndup(p->text, p->text_len);
    next_token(p);
    if (is_field)
        return resolve_field(p->class, text, &o->field);
    o->field = FIELD_LITERAL;
    o->text = g_steal_pointer(&text);
    return TRUE;
}

static gboolean parse_comparison(struct parser *p)
{
    struct op op = {.kind = OP_EQUAL};
    if (!parse_value(p, &op.left) || !accept(p, T_EQUAL) || !parse_value(p, &op.right)) {
        clear_op(&op);
        return FALSE;
    }
    g_array_append_val(p->ops, op);
    return TRUE;
}

static gboolean parse_expr(struct parser *p, int depth);

static gboolean parse_operand(struct parser *p, int depth)
{
    if (accept(p, T_NOT)) {
        if (!parse_expr(p, depth + 1))
            return FALSE;
        emit(p, OP_NOT);
        return TRUE;
    }
    if (accept(p, T_OPEN))
        return parse_expr(p, depth + 1) && accept(p, T_CLOSE);
    if (p->token == T_TRUE || p->token == T_FALSE) {
        emit(p, p->token == T_TRUE ? OP_TRUE : OP_FALSE);
        next_token(p);
        return TRUE;
    }
    return parse_comparison(p);
}

static gboolean parse_expr(struct parser *p, int depth)
{
    if (depth > MAX_DEPTH || !parse_operand(p, depth))
        return FALSE;
    while (p->token == T_AND || p->token == T_OR) {
        enum op_kind kind = p->token == T_AND ? OP_AND : OP_OR;
        next_token(p);
        if (!parse_operand(p, depth))
            return FALSE;
        emit(p, kind);
    }
    return TRUE;
}

struct expr *expr_parse(const struct class *class, const char *text, struct fault *f)
{
    struct parser p = {.class = class, .at = text};
    p.ops = g_array_new(FALSE, FALSE, sizeof(struct op));
    g_array_set_clear_func(p.ops, clear_op);
    next_token(&p);
    if (!parse_expr(&p, 0) || p.token != T_END) {
        g_array_unref(p.ops);
        fault_set(f, "INVALID_VALUE", "expr", text, NULL);
        return NULL;
    }
    struct expr *e = g_new(struct expr, 1);
    e->ops = p.ops;
    return e;
}

void expr_free(struct expr *e)
{
    if (!e)
        return;
    g_array_unref(e->ops);
    g_free(e);
}

/* ---- evaluation ---- */

static void append_quoted(GString *s, const char *text)
{
    g_string_append_c(s, '\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            g_string_append_c(s, '\\');
        g_string_append_c(s, *text);
    }
    g_string_append_c(s, '\'');
}

static void append_text(GString *s, const struct value *v);

static void append_member(GString *s, const struct value *v)
{
    g_autoptr(GString) text = g_string_new(NULL);
    append_text(text, v);
    append_quoted(s, text->str);
}

static void append_set(GString *s, const struct value *v)
{
    g_string_append_c(s, '(');
    for (gsize i = 0; i < value_count(v); i++) {
        if (i > 0)
            g_string_append_c(s, ' ');
        append_member(s, value_at(v, i));
    }
    g_string_append_c(s, ')');
}

static void append_map(GString *s, const struct value *v)
{
    g_string_append_c(s, '(');
    for (gsize i = 0; i < value_count(v); i++) {
        g_string_append(s, i > 0 ? " (" : "(");
        append_member(s, v->u.map.m[i].key);
        g_string_append_c(s, ' ');
        append_member(s, v->u.map.m[i].value);
        g_string_append_c(s, ')');
    }
    g_string_append_c(s, ')');
}

/* A value as xapi's database writes it. */
static void append_text(GString *s, const struct value *v)
{
    char buffer[MAX(G_ASCII_DTOSTR_BUF_SIZE, DATETIME_TEXT_SIZE)];
    switch (v->type) {
    case VALUE_STRING:
        g_string_append(s, value_str(v));
        break;
    case VALUE_INT:
    case VALUE_I4:
        g_string_append_printf(s, "%" G_GINT64_FORMAT, value_as_int(v));
        break;
    case VALUE_FLOAT:
        g_string_append(s, g_ascii_dtostr(buffer, sizeof buffer, value_as_float(v)));
        break;
    case VALUE_BOOL:
        g_string_append(s, value_as_bool(v) ? "true" : "false");
        break;
    case VALUE_DATETIME:
        datetime_format(value_as_int(v), buffer);
        g_string_append(s, buffer);
        break;
    case VALUE_SET:
        append_set(s, v);
        break;
    case VALUE_MAP:
        append_map(s, v);
        break;
    default:
        break;
    }
}

/* Most fields that are asked for are strings: these are not copied. */
static const char *operand_text(const struct operand *o, const struct record *r, GString *scratch)
{
    if (o->field == FIELD_LITERAL)
        return o->text;
    if (o->field == FIELD_REF)
        return r->ref;
    const struct value *v = record_field(r, o->field);
    if (v->type == VALUE_STRING)
        return value_str(v);
    g_string_truncate(scratch, 0);
    append_text(scratch, v);
    return scratch->str;
}

static gboolean equal(const struct op *op, const struct record *r)
{
    g_autoptr(GString) left = g_string_new(NULL), right = g_string_new(NULL);
    return strcmp(operand_text(&op->left, r, left), operand_text(&op->right, r, right)) == 0;
}

gboolean expr_matches(const struct expr *e, const struct record *r)
{
    /* Each level of nesting holds one left side back; the innermost has a right side too. */
    gboolean stack[MAX_DEPTH + 2];
    int n = 0;
    for (guint i = 0; i < e->ops->len; i++) {
        const struct op *op = &g_array_index(e->ops, struct op, i);
        switch (op->kind) {
        case OP_TRUE:
        case OP_FALSE:
            stack[n++] = op->kind == OP_TRUE;
            break;
        case OP_EQUAL:
            stack[n++] = equal(op, r);
            break;
        case OP_NOT:
            stack[n - 1] = !stack[n - 1];
            break;
        case OP_AND:
            n--;
            stack[n - 1] = stack[n - 1] && stack[n];
            break;
        case OP_OR:
            n--;
            stack[n - 1] = stack[n - 1] || stack[n];
            break;
        }
        g_assert(n >= 1 && n <= (int) G_N_ELEMENTS(stack));
    }
    return stack[0];
}
