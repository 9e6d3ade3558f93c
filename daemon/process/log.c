/* log.c - the GLib log writer: fields to journald, one escaped line a message to stderr elsewhere. */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/process/log.h"

#define ESCAPED_LENGTH 200
#define MOST_FIELDS    16
#define KEPT_MOST      (256 * 1024)

static struct {
    const char *program;
    gint level; /* enum log_level; changed at SIGHUP while other threads log */
    gboolean journal, keep;
} sink = {.program = "xenapid", .level = LOG_INFO};

static __thread const struct log_context *context;

const struct log_context *log_push(const struct log_context *c)
{
    const struct log_context *before = context;
    context = c;
    return before;
}

void log_set_level(enum log_level level)
{
    g_atomic_int_set(&sink.level, level);
}

static enum log_level level_of(GLogLevelFlags flags)
{
    if (flags & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
        return LOG_ERROR;
    if (flags & G_LOG_LEVEL_WARNING)
        return LOG_WARNING;
    return flags & (G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO) ? LOG_INFO : LOG_DEBUG;
}

/* Appends s so that it stays on one line and moves no cursor. */
static void put_escaped(GString *out, const char *s, gsize len)
{
    for (const char *p = s, *end = s + len; p < end;) {
        gunichar c = g_utf8_get_char_validated(p, end - p);
        if (c == (gunichar) -1 || c == (gunichar) -2) {
            g_string_append_printf(out, "\\x%02x", (guchar) *p++);
            continue;
        }
        if (c == '\n')
            g_string_append(out, "\\n");
        else if (g_unichar_isprint(c))
            g_string_append_unichar(out, c);
        else
            g_string_append_printf(out, c < 0x80 ? "\\x%02x" : "\\u%04x", c);
        p = g_utf8_next_char(p);
    }
}

char *log_escape(const char *text)
{
    GString *out = g_string_new(NULL);
    gsize len = strlen(text);
    put_escaped(out, text, MIN(len, ESCAPED_LENGTH));
    if (len > ESCAPED_LENGTH)
        g_string_append_printf(out, "... (%" G_GSIZE_FORMAT " bytes)", len);
    return g_string_free(out, FALSE);
}

static const char *find_field(const GLogField *fields, gsize n, const char *key, gsize *len)
{
    for (gsize i = 0; i < n; i++) {
        if (strcmp(fields[i].key, key) != 0)
            continue;
        *len = fields[i].length < 0 ? strlen(fields[i].value) : (gsize) fields[i].length;
        return fields[i].value;
    }
    *len = 0;
    return "";
}

static void put_context(GString *line)
{
    if (!context)
        return;
    if (context->request_id)
        g_string_append_printf(line, " request=%" G_GUINT64_FORMAT, context->request_id);
    const struct {
        const char *name, *value;
    } texts[] = {{"method", context->method}, {"task", context->task}, {"session", context->session}};
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        if (!texts[i].value)
            continue;
        g_string_append_printf(line, " %s=", texts[i].name);
        put_escaped(line, texts[i].value, strlen(texts[i].value));
    }
}

static GString *format_line(enum log_level level, const GLogField *fields, gsize n_fields)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    gsize len;
    const char *message = find_field(fields, n_fields, "MESSAGE", &len);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S");
    GString *line = g_string_new(NULL);
    g_string_append_printf(line, "%s.%03dZ %s[%d] %s: ", time, g_date_time_get_microsecond(now) / 1000, sink.program,
                           (int) getpid(), names[level]);
    put_escaped(line, message, len);
    put_context(line);
    g_string_append_c(line, '\n');
    return line;
}

static void write_line(const GString *line)
{
    /* One write a line, so that processes that share stderr do not mix theirs. */
    ssize_t written = write(STDERR_FILENO, line->str, line->len);
    (void) written;
}

/* ---- the last lines ---- */

static struct {
    GMutex lock;
    GQueue lines; /* of char *, the oldest first */
    gsize size;
} recent;

static void keep_line(const GString *line)
{
    g_mutex_lock(&recent.lock);
    g_queue_push_tail(&recent.lines, g_strndup(line->str, line->len));
    recent.size += line->len;
    while (recent.size > KEPT_MOST) {
        char *oldest = g_queue_pop_head(&recent.lines);
        recent.size -= strlen(oldest);
        g_free(oldest);
    }
    g_mutex_unlock(&recent.lock);
}

void log_keep(void)
{
    sink.keep = TRUE;
}

char *log_recent(void)
{
    GString *all = g_string_new(NULL);
    g_mutex_lock(&recent.lock);
    for (GList *i = recent.lines.head; i; i = i->next)
        g_string_append(all, i->data);
    g_mutex_unlock(&recent.lock);
    return g_string_free(all, FALSE);
}

static void write_journal(GLogLevelFlags flags, const GLogField *fields, gsize n_fields)
{
    char id[24];
    GLogField all[MOST_FIELDS + 5];
    gsize n = MIN(n_fields, MOST_FIELDS);
    memcpy(all, fields, n * sizeof *all);
    all[n++] = (GLogField){"SYSLOG_IDENTIFIER", sink.program, -1};
    if (context && context->request_id) {
        g_snprintf(id, sizeof id, "%" G_GUINT64_FORMAT, context->request_id);
        all[n++] = (GLogField){"REQUEST_ID", id, -1};
    }
    if (context && context->method)
        all[n++] = (GLogField){"METHOD", context->method, -1};
    if (context && context->task)
        all[n++] = (GLogField){"TASK", context->task, -1};
    if (context && context->session)
        all[n++] = (GLogField){"SESSION", context->session, -1};
    g_log_writer_journald(flags, all, n, NULL);
}

static GLogWriterOutput write_log(GLogLevelFlags flags, const GLogField *fields, gsize n_fields, void *data)
{
    (void) data;
    enum log_level level = level_of(flags);
    if ((gint) level > g_atomic_int_get(&sink.level))
        return G_LOG_WRITER_HANDLED;
    GString *line = sink.keep || !sink.journal ? format_line(level, fields, n_fields) : NULL;
    if (sink.journal)
        write_journal(flags, fields, n_fields);
    else
        write_line(line);
    if (sink.keep)
        keep_line(line);
    if (line)
        g_string_free(line, TRUE);
    return G_LOG_WRITER_HANDLED;
}

void log_init(const char *program, enum log_level level)
{
    sink.program = program;
    sink.journal = g_log_writer_is_journald(STDERR_FILENO);
    log_set_level(level);
    g_log_set_writer_func(write_log, NULL, NULL);
}
