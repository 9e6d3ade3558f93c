/* dump_write.c - records as rows of XML. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/codec/jsonrpc.h"
#include "daemon/call.h"
#include "xapi-classes/transfers/dump.h"

gboolean dump_has_class(const struct class *class)
{
    return (class->flags & (OBJECT | STORED)) && !(class->flags & EPHEMERAL) && class->id != CLASS_task &&
           class->id != CLASS_session;
}

/* An attribute's value: blanks would not come back as they were. */
static void put_text(GString *out, const char *text)
{
    for (const char *p = text; *p; p++)
        switch (*p) {
        case ' ':
            g_string_append(out, "%.");
            break;
        case '\t':
            g_string_append(out, "%t");
            break;
        case '\n':
            g_string_append(out, "%n");
            break;
        case '\r':
            g_string_append(out, "%r");
            break;
        case '%':
            g_string_append(out, "%%");
            break;
        case '&':
            g_string_append(out, "&amp;");
            break;
        case '<':
            g_string_append(out, "&lt;");
            break;
        case '>':
            g_string_append(out, "&gt;");
            break;
        case '"':
            g_string_append(out, "&quot;");
            break;
        default:
            if ((guchar) *p >= 0x20 && *p != 0x7f)
                g_string_append_c(out, *p);
            else /* which XML has no place for */
                g_string_append_printf(out, "%%x%02x", (guint) (guchar) *p);
        }
}

static void put_value(GString *out, struct value *v);

static void quote(GString *out, const char *text)
{
    g_string_append_c(out, '\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            g_string_append_c(out, '\\');
        g_string_append_c(out, *text);
    }
    g_string_append_c(out, '\'');
}

/* Within a set or map: everything but those is quoted. */
static void put_part(GString *out, struct value *v)
{
    g_autoptr(GString) text = g_string_new(NULL);
    if (v->type == VALUE_SET || v->type == VALUE_MAP) {
        put_value(out, v);
        return;
    }
    put_value(text, v);
    quote(out, text->str);
}

static void put_value(GString *out, struct value *v)
{
    char date[DATETIME_TEXT_SIZE], number[G_ASCII_DTOSTR_BUF_SIZE];
    switch ((enum value_type) v->type) {
    case VALUE_SET:
        g_string_append_c(out, '(');
        for (gsize i = 0; i < value_count(v); i++) {
            g_string_append(out, i > 0 ? " " : "");
            put_part(out, value_at(v, i));
        }
        g_string_append_c(out, ')');
        break;
    case VALUE_MAP:
        g_string_append_c(out, '(');
        for (gsize i = 0; i < value_count(v); i++) {
            g_string_append(out, i > 0 ? " (" : "(");
            put_part(out, v->u.map.m[i].key);
            g_string_append_c(out, ' ');
            put_part(out, v->u.map.m[i].value);
            g_string_append_c(out, ')');
        }
        g_string_append_c(out, ')');
        break;
    case VALUE_INT:
    case VALUE_I4:
        g_string_append_printf(out, "%" G_GINT64_FORMAT, value_as_int(v));
        break;
    case VALUE_FLOAT:
        g_string_append(out, g_ascii_dtostr(number, sizeof number, value_as_float(v)));
        break;
    case VALUE_BOOL:
        g_string_append(out, value_as_bool(v) ? "true" : "false");
        break;
    case VALUE_DATETIME:
        datetime_format(value_as_int(v), date);
        g_string_append(out, date);
        break;
    case VALUE_STRING:
    case VALUE_VOID:
    case VALUE_BLOB:
        g_string_append(out, value_str(v));
        break;
    }
}

static void put_pair(GString *out, const char *key, gint64 n)
{
    g_string_append_printf(out, "<pair key=\"%s\" value=\"%" G_GINT64_FORMAT "\"/>", key, n);
}

void dump_begin(GString *out)
{
    g_string_append(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<database><manifest>");
    put_pair(out, "schema_major_vsn", SCHEMA_VERSION);
    put_pair(out, "schema_minor_vsn", 0);
    put_pair(out, "generation_count", (gint64) store_generation(the_store()));
    g_string_append(out, "<pair key=\"product\" value=\"" PACKAGE_NAME "\"/></manifest>\n");
}

void dump_table_begin(GString *out, const struct class *class)
{
    g_string_append_printf(out, "<table name=\"%s\">\n", class->name);
}

void dump_row(GString *out, const struct record *r)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_string_append_printf(out, "<row ref=\"%s\"", r->ref);
    for (int i = 0; i < r->class->n_fields; i++) {
        const struct field *f = &r->class->fields[i];
        if (f->mirrors || f->ephemeral || value_equal(r->fields[i], f->initial_value))
            continue;
        g_string_truncate(text, 0);
        put_value(text, r->fields[i]);
        g_string_append_printf(out, " %s=\"", f->name);
        put_text(out, text->str);
        g_string_append_c(out, '"');
    }
    g_string_append(out, "/>\n");
}

void dump_table_end(GString *out)
{
    g_string_append(out, "</table>\n");
}

void dump_end(GString *out)
{
    g_string_append(out, "</database>\n");
}
