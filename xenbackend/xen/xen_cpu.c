/* xen_cpu.c - the host's processors: the hypervisor knows how many there are and how they lie together, domain 0's
 * kernel what they are. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <string.h>

#define INVALID_ENTRY (~(guint32) 0)

/* The first processor of /proc/cpuinfo, "key : text"; all are of one kind. */
static GHashTable *cpuinfo(void)
{
    g_autofree char *text = NULL;
    GHashTable *map = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (!g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL))
        return map;
    char *end = strstr(text, "\n\n");
    if (end != NULL)
        *end = '\0';
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        char *colon = strchr(lines[i], ':');
        if (colon == NULL)
            continue;
        *colon = '\0';
        g_hash_table_replace(map, g_strdup(g_strstrip(lines[i])), g_strdup(g_strstrip(colon + 1)));
    }
    return map;
}

static const char *text_of(GHashTable *map, const char *key)
{
    const char *text = g_hash_table_lookup(map, key);
    return text != NULL ? text : "";
}

static gint64 number_of(GHashTable *map, const char *key)
{
    return g_ascii_strtoll(text_of(map, key), NULL, 10);
}

static char *features_text(const libxl_physinfo *info)
{
    GString *text = g_string_new(NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(info->hw_cap); i++)
        g_string_append_printf(text, "%s%08x", i > 0 ? "-" : "", info->hw_cap[i]);
    return g_string_free(text, FALSE);
}

static struct value *cpu(int number, const libxl_cputopology *t, const libxl_physinfo *info, GHashTable *map)
{
    struct value_builder b;
    g_autofree char *features = features_text(info);
    value_builder_map(&b, NULL, 12);
    value_builder_put(&b, "number", value_int(NULL, number));
    value_builder_put_string(&b, "vendor", text_of(map, "vendor_id"));
    value_builder_put(&b, "speed", value_int(NULL, info->cpu_khz / 1000));
    value_builder_put_string(&b, "modelname", text_of(map, "model name"));
    value_builder_put_string(&b, "stepping", text_of(map, "stepping"));
    value_builder_put(&b, "model", value_int(NULL, number_of(map, "model")));
    value_builder_put(&b, "family", value_int(NULL, number_of(map, "cpu family")));
    value_builder_put_string(&b, "flags", text_of(map, "flags"));
    value_builder_put_string(&b, "features", features);
    value_builder_put(&b, "socket", value_int(NULL, t->socket));
    value_builder_put(&b, "core", value_int(NULL, t->core));
    value_builder_put(&b, "node", value_int(NULL, t->node));
    return value_builder_end(&b);
}

static int count_sockets(const libxl_cputopology *t, int n)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    for (int i = 0; i < n; i++)
        if (t[i].socket != INVALID_ENTRY)
            g_hash_table_add(seen, GUINT_TO_POINTER(t[i].socket + 1));
    return MAX((int) g_hash_table_size(seen), 1);
}

gboolean xen_put_cpus(struct value_builder *b, struct xen_op *op, struct fault *f)
{
    libxl_physinfo info;
    struct value_builder set;
    int n = 0;
    g_autoptr(GHashTable) map = cpuinfo();
    libxl_physinfo_init(&info);
    int rc = libxl_get_physinfo(op->ctx, &info);
    libxl_cputopology *t = rc == 0 ? libxl_get_cpu_topology(op->ctx, &n) : NULL;
    if (t == NULL) {
        libxl_physinfo_dispose(&info);
        return xen_op_fault(op, rc != 0 ? rc : ERROR_FAIL, "", "get_physinfo", f);
    }
    value_builder_set(&set, NULL, (gsize) n);
    for (int i = 0; i < n; i++)
        if (t[i].core != INVALID_ENTRY)
            value_builder_add(&set, cpu(i, &t[i], &info, map));
    value_builder_put(b, "cpus", value_builder_end(&set));
    value_builder_put(b, "cpu_sockets", value_int(NULL, count_sockets(t, n)));
    value_builder_put(b, "threads_per_core", value_int(NULL, info.threads_per_core));
    libxl_cputopology_list_free(t, n);
    libxl_physinfo_dispose(&info);
    return TRUE;
}
