/* conf.c - the configuration file: read line by line so that every complaint names its place, laid over the defaults,
 * then checked as a whole. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/process/conf_private.h"

G_DEFINE_QUARK(xenapid - conf - error, conf_error)

static void *member(struct conf *c, const struct conf_row *row)
{
    return (char *) c + row->offset;
}

/* ---- one value ---- */

static gboolean parse_number(const char *text, gint64 min, gint64 max, gboolean units, gint64 *number)
{
    char *end;
    gint64 factor = 1;
    errno = 0;
    gint64 n = g_ascii_strtoll(text, &end, 10);
    if (errno || end == text)
        return FALSE;
    if (units && *end) {
        const char *unit = strchr("KMG", g_ascii_toupper(*end));
        if (!unit)
            return FALSE;
        factor = G_GINT64_CONSTANT(1) << (10 * (unit - "KMG" + 1));
        end++;
    }
    if (*end || n > G_MAXINT64 / factor || n < G_MININT64 / factor)
        return FALSE;
    *number = n * factor;
    return *number >= min && *number <= max;
}

static gboolean parse_bool(const char *text, gboolean *b)
{
    static const char *const words[] = {"no", "yes", "false", "true", "0", "1", "off", "on"};
    for (gsize i = 0; i < G_N_ELEMENTS(words); i++) {
        if (g_ascii_strcasecmp(text, words[i]) == 0) {
            *b = i % 2;
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean parse_octal(const char *text, int *mode)
{
    char *end;
    long n = strtol(text, &end, 8);
    if (end == text || *end || n < 0 || n > 0777)
        return FALSE;
    *mode = n;
    return TRUE;
}

static int parse_word(const char *text, const char *const *words)
{
    for (int i = 0; words[i]; i++) {
        if (strcmp(text, words[i]) == 0)
            return i;
    }
    return -1;
}

static gboolean is_name(const char *text)
{
    if (!*text || *text == '-' || *text == '.')
        return FALSE;
    for (const char *p = text; *p; p++) {
        if (!g_ascii_isalnum(*p) && !strchr("._-@", *p))
            return FALSE;
    }
    return TRUE;
}

static char *absolute(const char *path)
{
    return *path ? g_canonicalize_filename(path, NULL) : g_strdup("");
}

static gboolean good_item(const struct conf_row *row, const char *item, char **why)
{
    g_autofree char *host = NULL;
    int port;
    const char *reason;
    if (row->form == FORM_ADDRESSES && !listen_address_parse(item, &host, &port, &reason)) {
        *why = g_strdup_printf("\"%s\": %s", item, reason);
        return FALSE;
    }
    return row->form != FORM_PATHS || strlen(item) < sizeof(((struct sockaddr_un *) NULL)->sun_path);
}

/* Splits text; with append the items join those that are there. */
static gboolean set_list(const struct conf_row *row, GStrv *list, const char *text, gboolean append, char **why)
{
    g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) parts = g_strsplit(text, ";", -1);
    for (char **p = append ? *list : NULL; p && *p; p++)
        g_ptr_array_add(items, g_strdup(*p));
    for (char **p = parts; *p; p++) {
        char *item = g_strstrip(*p);
        if (!*item)
            continue;
        g_autofree char *path = row->form == FORM_PATHS ? absolute(item) : NULL;
        if (!good_item(row, path ? path : item, why))
            return FALSE;
        g_ptr_array_add(items, g_strdup(path ? path : item));
    }
    g_ptr_array_add(items, NULL);
    g_strfreev(*list);
    *list = (GStrv) g_ptr_array_free(g_steal_pointer(&items), FALSE);
    return TRUE;
}

static gboolean set_text(const struct conf_row *row, char **slot, const char *text)
{
    if ((row->form == FORM_NOT_EMPTY && !*text) || (row->form == FORM_NAME && !is_name(text)))
        return FALSE;
    g_free(*slot);
    *slot = row->type == CONF_PATH ? absolute(text) : g_strdup(text);
    return TRUE;
}

static gboolean set_number(const struct conf_row *row, void *slot, const char *text)
{
    gint64 n;
    if (!parse_number(text, row->min, row->max, row->type == CONF_SIZE, &n))
        return FALSE;
    if (row->type == CONF_SIZE)
        *(gint64 *) slot = n;
    else
        *(int *) slot = n;
    return TRUE;
}

static gboolean set_word(int *slot, const char *text, const char *const *words)
{
    int i = parse_word(text, words);
    if (i >= 0)
        *slot = i;
    return i >= 0;
}

gboolean conf_set(struct conf_whole *w, const struct conf_row *row, const char *text, int origin, char **why)
{
    static const char *const backends[] = {"xen", "sim", NULL}, *const levels[] = {"error", "warning", "info", "debug",
                                                                                   NULL};
    void *slot = member(&w->conf, row);
    int *where = &w->origins[row - conf_rows];
    gboolean good = FALSE, append = origin == FROM_OPTION && *where == FROM_OPTION;
    g_autofree char *reason = NULL;
    switch (row->type) {
    case CONF_TEXT:
    case CONF_PATH:
        good = set_text(row, slot, text);
        break;
    case CONF_LIST:
        good = set_list(row, slot, text, append, &reason);
        break;
    case CONF_BOOL:
        good = parse_bool(text, slot);
        break;
    case CONF_INT:
    case CONF_SIZE:
        good = set_number(row, slot, text);
        break;
    case CONF_OCTAL:
        good = parse_octal(text, slot);
        break;
    case CONF_BACKEND:
        good = set_word(slot, text, backends);
        break;
    case CONF_LOG_LEVEL:
        good = set_word(slot, text, levels);
        break;
    }
    if (good) {
        *where = origin;
        return TRUE;
    }
    g_autofree char *allowed = conf_allowed(row);
    *why = reason ? g_strdup_printf("%s; allowed is %s", reason, allowed)
                  : g_strdup_printf("\"%s\" is not %s", text, allowed);
    return FALSE;
}

/* ---- the whole ---- */

struct conf_whole *conf_whole_new(void)
{
    struct conf_whole *w = g_new0(struct conf_whole, 1);
    w->origins = g_new0(int, n_conf_rows);
    for (gsize i = 0; i < n_conf_rows; i++) {
        g_autofree char *why = NULL;
        if (!conf_set(w, &conf_rows[i], conf_rows[i].otherwise, FROM_DEFAULT, &why))
            g_error("default of %s: %s", conf_rows[i].key, why);
    }
    return w;
}

void conf_free(struct conf *c)
{
    struct conf_whole *w = (struct conf_whole *) c;
    if (!w)
        return;
    for (gsize i = 0; i < n_conf_rows; i++) {
        void *slot = member(c, &conf_rows[i]);
        if (conf_rows[i].type == CONF_TEXT || conf_rows[i].type == CONF_PATH)
            g_free(*(char **) slot);
        else if (conf_rows[i].type == CONF_LIST)
            g_strfreev(*(GStrv *) slot);
    }
    g_free(c->config_file);
    g_strfreev(w->options);
    g_free(w->origins);
    g_free(w);
}

static int origin_of(const struct conf_whole *w, const char *section, const char *key)
{
    return w->origins[conf_find_row(section, key) - conf_rows];
}

/* "xenapid.conf:12: [daemon] listen-http" or "--listen-http": where a value came from. */
static char *place_of(const struct conf_whole *w, const char *section, const char *key)
{
    int origin = origin_of(w, section, key);
    if (origin == FROM_OPTION)
        return g_strdup_printf("--%s", key);
    if (origin == FROM_DEFAULT)
        return g_strdup_printf("[%s] %s", section, key);
    return g_strdup_printf("%s:%d: [%s] %s", w->conf.config_file, origin, section, key);
}

static gboolean complain(const struct conf_whole *w, const char *section, const char *key, GError **error,
                         const char *what)
{
    g_autofree char *place = place_of(w, section, key);
    g_set_error(error, CONF_ERROR, 0, "%s: %s", place, what);
    return FALSE;
}

static gboolean is_loopback(const char *address)
{
    g_autofree char *host = NULL;
    int port;
    const char *why;
    if (!listen_address_parse(address, &host, &port, &why))
        return FALSE;
    return g_str_has_prefix(host, "127.") || strcmp(host, "::1") == 0;
}

/* What one key alone cannot tell. */
static gboolean check_together(const struct conf_whole *w, GError **error)
{
    const struct conf *c = &w->conf;
    for (char **a = c->listen_http; *a && !c->allow_plain_http_remote; a++) {
        if (is_loopback(*a))
            continue;
        g_autofree char *what = g_strdup_printf("\"%s\" can be reached by other hosts, who would send passwords in the "
                                                "clear; use listen-https, a loopback address, or set "
                                                "allow-plain-http-remote=yes in [daemon]",
                                                *a);
        return complain(w, "daemon", "listen-http", error, what);
    }
    if (!*c->tls_cert != !*c->tls_key)
        return complain(w, "daemon", *c->tls_cert ? "tls-cert" : "tls-key", error,
                        "tls-cert and tls-key belong together: give both or none");
    if (c->body_size < c->body_size_login)
        return complain(w, "limits", "body-size", error, "must not be less than body-size-login");
    if (c->connections < c->connections_per_address && origin_of(w, "limits", "connections-per-address"))
        return complain(w, "limits", "connections-per-address", error, "must not be more than connections");
    return TRUE;
}

/* Helpers lie beside the running program in a build tree, in libexec when installed. */
static char *find_helper_dir(void)
{
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n > 0) {
        exe[n] = '\0';
        g_autofree char *dir = g_path_get_dirname(exe);
        g_autofree char *sibling = g_build_filename(dir, "xenapid-auth", NULL);
        if (access(sibling, X_OK) == 0)
            return g_steal_pointer(&dir);
    }
    return g_strdup(LIBEXECDIR);
}

/* Defaults that depend on other values. */
static void fill_defaults(struct conf_whole *w)
{
    struct conf *c = &w->conf;
    if (!origin_of(w, "daemon", "listen-https") && origin_of(w, "daemon", "listen-http")) {
        g_strfreev(c->listen_https);
        c->listen_https = g_new0(char *, 1);
    }
    if (!origin_of(w, "daemon", "listen-unix")) {
        g_strfreev(c->listen_unix);
        c->listen_unix = g_new0(char *, 2);
        c->listen_unix[0] = g_build_filename(c->runtime_dir, "xenapid.sock", NULL);
    }
    if (!*c->helper_dir) {
        g_free(c->helper_dir);
        c->helper_dir = find_helper_dir();
    }
    if (!*c->sim_storage_dir) {
        g_free(c->sim_storage_dir);
        c->sim_storage_dir = g_build_filename(c->state_dir, "sr", NULL);
    }
}

/* ---- the file ---- */

struct reader {
    struct conf_whole *w;
    const char *file;
    int line;
    char *section; /* NULL before the first */
};

static gboolean syntax_error(const struct reader *r, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);
static gboolean syntax_error(const struct reader *r, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, CONF_ERROR, 0, "%s:%d: %s", r->file, r->line, what);
    return FALSE;
}

static gboolean is_section(const char *name)
{
    for (gsize i = 0; i < n_conf_rows; i++) {
        if (strcmp(conf_rows[i].section, name) == 0)
            return TRUE;
    }
    return FALSE;
}

/* The names of a section's keys, or of all sections, for a complaint. */
static char *known_names(const char *section)
{
    GString *out = g_string_new(NULL);
    const char *last = "";
    for (gsize i = 0; i < n_conf_rows; i++) {
        const char *name = section ? conf_rows[i].key : conf_rows[i].section;
        if ((section && strcmp(conf_rows[i].section, section) != 0) || strcmp(last, name) == 0)
            continue;
        g_string_append_printf(out, "%s%s", out->len ? ", " : "", name);
        last = name;
    }
    return g_string_free(out, FALSE);
}

static gboolean read_section(struct reader *r, char *line, GError **error)
{
    gsize len = strlen(line);
    if (line[len - 1] != ']')
        return syntax_error(r, error, "a section ends in ']'");
    line[len - 1] = '\0';
    if (!is_section(line + 1)) {
        g_autofree char *known = known_names(NULL);
        return syntax_error(r, error, "unknown section [%s]; known are %s", line + 1, known);
    }
    g_free(r->section);
    r->section = g_strdup(line + 1);
    return TRUE;
}

static gboolean read_line(struct reader *r, char *line, GError **error)
{
    g_strstrip(line);
    if (!*line || *line == '#' || *line == ';')
        return TRUE;
    if (*line == '[')
        return read_section(r, line, error);
    char *equals = strchr(line, '=');
    if (!equals)
        return syntax_error(r, error, "\"%s\" is neither a [section], a key=value nor a # comment", line);
    *equals = '\0';
    char *key = g_strchomp(line), *text = g_strchug(equals + 1);
    if (!r->section)
        return syntax_error(r, error, "key %s stands before the first [section]", key);
    const struct conf_row *row = conf_find_row(r->section, key);
    if (!row) {
        g_autofree char *known = known_names(r->section);
        return syntax_error(r, error, "[%s] has no key %s; it has %s", r->section, key, known);
    }
    int before = r->w->origins[row - conf_rows];
    if (before > 0)
        return syntax_error(r, error, "[%s] %s was given in line %d already", r->section, key, before);
    g_autofree char *why = NULL;
    if (!conf_set(r->w, row, text, r->line, &why))
        return syntax_error(r, error, "[%s] %s: %s", r->section, key, why);
    return TRUE;
}

static gboolean read_file(struct conf_whole *w, const char *file, GError **error)
{
    g_autofree char *text = NULL;
    gsize len;
    struct reader r = {w, file, 0, NULL};
    if (!g_file_get_contents(file, &text, &len, error))
        return FALSE;
    const char *bad;
    if (!g_utf8_validate(text, len, &bad)) {
        for (const char *p = text; p < bad; p++)
            r.line += *p == '\n';
        r.line++;
        return syntax_error(&r, error, "not UTF-8 text");
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    gboolean good = TRUE;
    for (char **line = lines; *line && good; line++) {
        r.line++;
        good = read_line(&r, *line, error);
    }
    g_free(r.section);
    return good;
}

/* An option as conf_to_args writes it: "--key=value". The command line sets keys of [daemon] only. */
static gboolean apply_option(struct conf_whole *w, const char *option, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(option + 2, "=", 2);
    g_autofree char *why = NULL;
    if (conf_set(w, conf_find_row("daemon", parts[0]), parts[1], FROM_OPTION, &why))
        return TRUE;
    g_set_error(error, CONF_ERROR, 0, "--%s: %s", parts[0], why);
    return FALSE;
}

gboolean conf_load(struct conf_whole *w, const char *file, GStrv options, GError **error)
{
    if (file) {
        w->conf.config_file = g_strdup(file);
        if (!read_file(w, file, error))
            return FALSE;
    }
    w->options = g_strdupv(options);
    for (char **o = options; *o; o++) {
        if (!apply_option(w, *o, error))
            return FALSE;
    }
    fill_defaults(w);
    return check_together(w, error);
}
