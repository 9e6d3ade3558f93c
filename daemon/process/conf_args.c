/* conf_args.c - the command line: read into the configuration, and written again for a child or a reload. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "daemon/process/conf_private.h"

#define DEFAULT_FILE SYSCONFDIR "/xenapid/xenapid.conf"

static gboolean on_option(const char *name, const char *text, void *data, GError **error)
{
    GPtrArray *options = data;
    (void) error;
    g_ptr_array_add(options, g_strdup_printf("%s=%s", name, text));
    return TRUE;
}

/* The options of the rows that have one; entries live as long as the process. */
static void add_row_options(GOptionGroup *group)
{
    g_autoptr(GArray) entries = g_array_new(TRUE, TRUE, sizeof(GOptionEntry));
    for (gsize i = 0; i < n_conf_rows; i++) {
        const struct conf_row *row = &conf_rows[i];
        GOptionEntry e = {row->key, 0, 0, G_OPTION_ARG_CALLBACK, on_option, row->doc, row->argument};
        if (row->argument)
            g_array_append_val(entries, e);
    }
    g_option_group_add_entries(group, (GOptionEntry *) entries->data);
}

/* The file to read: the one that was asked for, or the default one if it is there. */
static char *choose_file(const char *wanted)
{
    if (wanted)
        return g_canonicalize_filename(wanted, NULL);
    return access(DEFAULT_FILE, F_OK) == 0 ? g_strdup(DEFAULT_FILE) : NULL;
}

static struct conf *load(const char *wanted, gboolean read_file, GStrv options, GError **error)
{
    struct conf_whole *w = conf_whole_new();
    g_autofree char *file = read_file ? choose_file(wanted) : NULL;
    w->file_wanted = wanted != NULL;
    if (conf_load(w, file, options, error))
        return &w->conf;
    conf_free(&w->conf);
    return NULL;
}

/* Paths on the command line are relative to where it was typed; what is handed on is not. */
static GStrv absolute_options(GPtrArray *options)
{
    g_autoptr(GPtrArray) out = g_ptr_array_new();
    for (guint i = 0; i < options->len; i++) {
        g_auto(GStrv) parts = g_strsplit((char *) options->pdata[i] + 2, "=", 2);
        const struct conf_row *row = conf_find_row("daemon", parts[0]);
        g_autofree char *path = NULL;
        if (*parts[1] && (row->type == CONF_PATH || row->form == FORM_PATHS))
            path = g_canonicalize_filename(parts[1], NULL);
        g_ptr_array_add(out, g_strdup_printf("--%s=%s", parts[0], path ? path : parts[1]));
    }
    g_ptr_array_add(out, NULL);
    return (GStrv) g_ptr_array_free(g_steal_pointer(&out), FALSE);
}

struct conf *conf_from_args(int *argc, char ***argv, int *status, gboolean *check_only, gboolean *describe_api,
                            gboolean *version)
{
    g_autofree char *config = NULL;
    g_autoptr(GPtrArray) options = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    const GOptionEntry entries[] = {
        {"config", 0, 0, G_OPTION_ARG_FILENAME, &config, "Configuration file (" DEFAULT_FILE ")", "FILE"},
        {"check-config", 0, 0, G_OPTION_ARG_NONE, check_only, "Check the configuration and exit", NULL},
        {"describe-api", 0, 0, G_OPTION_ARG_NONE, describe_api, "Print the API's description as JSON and exit", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, version, "Print the version and exit", NULL},
        {NULL},
    };
    *check_only = *describe_api = *version = FALSE;
    g_autoptr(GOptionContext) context = g_option_context_new("- the Xen-API server");
    GOptionGroup *group = g_option_group_new("xenapid", "", "", options, NULL);
    g_option_group_add_entries(group, entries);
    add_row_options(group);
    g_option_context_set_main_group(context, group);

    *status = 2;
    if (!g_option_context_parse(context, argc, argv, &error)) {
        g_printerr("%s: %s (see --help)\n", g_get_prgname(), error->message);
        return NULL;
    }
    if (*argc > 1) {
        g_printerr("%s: what is \"%s\"? There are only options (see --help)\n", g_get_prgname(), (*argv)[1]);
        return NULL;
    }
    g_auto(GStrv) handed = absolute_options(options);
    /* Who asks for the version need not have a good file. */
    struct conf *c = load(config, !*version && !*describe_api, handed, &error);
    if (!c) {
        g_printerr("%s: %s\n", g_get_prgname(), error->message);
        return NULL;
    }
    *status = 0;
    return c;
}

struct conf *conf_reload(const struct conf *old, GError **error)
{
    const struct conf_whole *w = (const struct conf_whole *) old;
    return load(w->file_wanted ? old->config_file : NULL, TRUE, w->options, error);
}

/* The file's values are not repeated: a child reads the same file, now and at each reload. */
GStrv conf_to_args(const struct conf *c)
{
    const struct conf_whole *w = (const struct conf_whole *) c;
    g_autoptr(GPtrArray) out = g_ptr_array_new();
    if (w->file_wanted)
        g_ptr_array_add(out, g_strdup_printf("--config=%s", c->config_file));
    for (char **o = w->options; *o; o++)
        g_ptr_array_add(out, g_strdup(*o));
    g_ptr_array_add(out, NULL);
    return (GStrv) g_ptr_array_free(g_steal_pointer(&out), FALSE);
}
