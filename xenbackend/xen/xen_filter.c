/* xen_filter.c - what a guest's interface may send and receive (VIF.locking_mode): rules on its bridge, up and down. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "xenbackend/xen/filter.h"
#include "xenbackend/run.h"

#define TOOL_SECONDS 20

/* One at a time: a script says how things are to be afterwards. */
static GMutex lock;
static GHashTable *filtered; /* names of interfaces that have rules */

/* ---- names ---- */

/* An HVM guest's interface has a second end, the device model's, until its driver takes over. */
struct nic_names {
    char own[24], emulated[24];
    const char *list[3];
};

static void nic_names(struct nic_names *n, int domid, int devid)
{
    g_snprintf(n->own, sizeof n->own, "vif%d.%d", domid, devid);
    g_snprintf(n->emulated, sizeof n->emulated, "%s-emu", n->own);
    n->list[0] = n->own;
    n->list[1] = strlen(n->emulated) < 16 ? n->emulated : NULL; /* no interface has a longer name */
    n->list[2] = NULL;
}

static gboolean is_there(const char *name, const char *below)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s%s", name, below);
    return access(path, F_OK) == 0;
}

static int devid_of(const struct value *vif)
{
    return (int) g_ascii_strtoll(value_get_str(vif, "device", "0"), NULL, 10);
}

/* ---- tools ---- */

/* What the tool said is in the fault, after our own words. */
static gboolean run_net(const char *const *argv, const char *code, const char *what, struct fault *f)
{
    const struct run_options o = {.timeout_s = TOOL_SECONDS};
    struct fault own = FAULT_INIT;
    if (run_tool(argv, &o, NULL, &own))
        return TRUE;
    const char *last =
        own.params != NULL && own.params[0] != NULL ? own.params[g_strv_length(own.params) - 1] : own.code;
    g_autofree char *text = g_strdup_printf("%s: %s: %s", what, argv[0], last);
    g_warning("%s", text);
    fault_clear(&own);
    return fault_set(f, code, text, NULL);
}

static gboolean run_nft(const char *script, struct fault *f)
{
    const char *const argv[] = {"nft", script, NULL};
    return run_net(argv, "OPERATION_NOT_ALLOWED", "the interface's traffic cannot be filtered", f);
}

static gboolean run_ip(const char *name, const char *key, const char *word, struct fault *f)
{
    const char *const argv[] = {"ip", "link", "set", "dev", name, *key != '\0' ? key : word, *key != '\0' ? word : NULL,
                                NULL};
    return run_net(argv, "INTERNAL_ERROR", "the interface cannot be changed", f);
}

/* ---- rules ---- */

/* With the lock held. */
static gboolean remove_rules(int domid, int devid)
{
    struct nic_names n;
    nic_names(&n, domid, devid);
    if (filtered == NULL || !g_hash_table_contains(filtered, n.own))
        return TRUE;
    gboolean last = g_hash_table_size(filtered) == 1;
    g_autofree char *script = last ? g_strdup(filter_script_end()) : filter_script_removal(n.list);
    if (!run_nft(script, NULL))
        return FALSE;
    g_hash_table_remove(filtered, n.own);
    return TRUE;
}

/* With the lock held. */
static gboolean add_rules(int domid, struct value *vif, struct fault *f)
{
    struct nic_names n;
    nic_names(&n, domid, devid_of(vif));
    const char *bridge = value_get_str(vif, "bridge", "");
    if (!is_there(bridge, "/bridge")) {
        g_autofree char *text = g_strdup_printf("\"%s\" is no bridge whose traffic can be filtered", bridge);
        return fault_set(f, "OPERATION_NOT_ALLOWED", text, NULL);
    }
    g_autofree char *script = filter_script(n.list, value_get_str(vif, "mac", ""), value_get(vif, "ipv4_allowed"),
                                            value_get(vif, "ipv6_allowed"), f);
    if (script == NULL || !run_nft(script, f))
        return FALSE;
    if (filtered == NULL)
        filtered = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_add(filtered, g_strdup(n.own));
    return TRUE;
}

gboolean xen_nic_filter(int domid, struct value *vif, struct fault *f)
{
    gboolean locked = strcmp(value_get_str(vif, "locking_mode", ""), "locked") == 0;
    g_mutex_lock(&lock);
    gboolean done = locked ? add_rules(domid, vif, f) : remove_rules(domid, devid_of(vif));
    g_mutex_unlock(&lock);
    return done || fault_set(f, "OPERATION_NOT_ALLOWED", "the interface's rules cannot be removed", NULL);
}

void xen_filter_remove(int domid, int devid)
{
    g_mutex_lock(&lock);
    remove_rules(domid, devid);
    g_mutex_unlock(&lock);
}

/* Numbers of the domain's interfaces that have rules. */
static GArray *filtered_of(int domid)
{
    GArray *devids = g_array_new(FALSE, FALSE, sizeof(int));
    GHashTableIter iter;
    gpointer name;
    if (filtered == NULL)
        return devids;
    g_hash_table_iter_init(&iter, filtered);
    while (g_hash_table_iter_next(&iter, &name, NULL)) {
        int of, devid;
        if (sscanf(name, "vif%d.%d", &of, &devid) == 2 && of == domid)
            g_array_append_val(devids, devid);
    }
    return devids;
}

void xen_filter_forget(int domid)
{
    g_mutex_lock(&lock);
    g_autoptr(GArray) devids = filtered_of(domid);
    for (guint i = 0; i < devids->len; i++)
        remove_rules(domid, g_array_index(devids, int, i));
    g_mutex_unlock(&lock);
}

static void *forget_thread(void *data)
{
    xen_filter_forget(GPOINTER_TO_INT(data));
    return NULL;
}

/* News do not wait for a tool. */
void xen_filter_forget_later(int domid)
{
    g_mutex_lock(&lock);
    g_autoptr(GArray) devids = filtered_of(domid);
    g_mutex_unlock(&lock);
    if (devids->len > 0)
        g_thread_unref(g_thread_new("filter", forget_thread, GINT_TO_POINTER(domid)));
}

void xen_filter_recover(void)
{
    const char *const argv[] = {"nft", "list", "table", "bridge", "xenapid", NULL};
    const struct run_options o = {.timeout_s = TOOL_SECONDS};
    g_autofree char *listing = NULL;
    if (!run_tool(argv, &o, &listing, NULL)) /* no tool, or no table: there are no rules */
        return;
    g_auto(GStrv) names = filter_parse_names(listing);
    g_mutex_lock(&lock);
    filtered = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (int i = 0; names[i] != NULL; i++)
        g_hash_table_add(filtered, g_strdup(names[i]));
    g_mutex_unlock(&lock);
    for (int i = 0; names[i] != NULL; i++) {
        struct xen_domain d;
        int domid;
        if (sscanf(names[i], "vif%d.", &domid) == 1 && !xen_domain_by_id(domid, &d))
            xen_filter_forget(domid);
    }
}

/* ---- up, down, and to another bridge ---- */

gboolean xen_nic_is_disabled(const struct value *vif)
{
    return strcmp(value_get_str(vif, "locking_mode", ""), "disabled") == 0;
}

gboolean xen_nic_lock(int domid, struct value *vif, struct fault *f)
{
    struct nic_names n;
    nic_names(&n, domid, devid_of(vif));
    for (int i = 0; n.list[i] != NULL; i++)
        if ((i == 0 || is_there(n.list[i], "")) && !run_ip(n.list[i], "", xen_nic_is_disabled(vif) ? "down" : "up", f))
            return FALSE;
    return TRUE;
}

gboolean xen_nic_move(int domid, struct value *vif, struct fault *f)
{
    const char *bridge = value_get_str(vif, "bridge", "");
    g_autofree char *now = xen_read("/local/domain/0/backend/vif/%d/%d/bridge", domid, devid_of(vif));
    struct nic_names n;
    nic_names(&n, domid, devid_of(vif));
    if (g_strcmp0(now, bridge) == 0)
        return TRUE;
    if (!is_there(bridge, "/bridge")) {
        g_autofree char *text = g_strdup_printf("there is no bridge \"%s\"", bridge);
        return fault_set(f, "OPERATION_NOT_ALLOWED", text, NULL);
    }
    for (int i = 0; n.list[i] != NULL; i++)
        if (is_there(n.list[i], "") && !run_ip(n.list[i], "master", bridge, f))
            return FALSE;
    /* The hotplug script takes it from there when it goes. */
    xen_write(bridge, "/local/domain/0/backend/vif/%d/%d/bridge", domid, devid_of(vif));
    return TRUE;
}
