/* xen_main.c - xenapid-xen: the privileged helper that drives Xen. Its table of methods, and how it begins. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <stdlib.h>

#include "xenbackend/storage/storage.h"

#define MAX_THREADS 256 /* a request that waits for a guest holds one */

struct xen xen;

static const struct helper_method methods[] = {
    {"host.info", xen_host_info},
    {"host.metrics", xen_host_metrics},
    {"host.dmesg", xen_host_dmesg},
    {"host.debug_keys", xen_host_debug_keys},
    {"host.reboot", xen_host_reboot},
    {"host.shutdown", xen_host_shutdown},
    {"host.set_hostname", xen_host_set_hostname},
    {"host.set_iscsi_iqn", xen_host_set_iscsi_iqn},
    {"host.set_syslog", xen_host_set_syslog},
    {"domain.list", xen_domain_list},
    {"domain.start", xen_domain_start},
    {"domain.pause", xen_domain_pause},
    {"domain.unpause", xen_domain_unpause},
    {"domain.shutdown", xen_domain_shutdown},
    {"domain.destroy", xen_domain_destroy},
    {"domain.reboot", xen_domain_reboot},
    {"domain.suspend", xen_domain_suspend},
    {"domain.resume", xen_domain_resume},
    {"domain.set_memory_target", xen_set_memory_target},
    {"domain.set_vcpus", xen_set_vcpus},
    {"domain.set_scheduler", xen_set_scheduler},
    {"domain.sysrq", xen_sysrq},
    {"domain.trigger", xen_trigger},
    {"domain.metrics", xen_metrics},
    {"domain.core_dump", xen_core_dump},
    {"console.open", xen_console_open},
    {"domain.vbd_plug", xen_vbd_plug},
    {"domain.vbd_unplug", xen_vbd_unplug},
    {"domain.vbd_insert", xen_vbd_insert},
    {"domain.vbd_eject", xen_vbd_eject},
    {"domain.vbd_update", xen_vbd_update},
    {"domain.vif_plug", xen_vif_plug},
    {"domain.vif_unplug", xen_vif_unplug},
    {"domain.vif_update", xen_vif_update},
    {"domain.set_pool", xen_domain_set_pool},
    {"pool.list", xen_pool_list},
    {"pool.create", xen_pool_create},
    {"pool.destroy", xen_pool_destroy},
    {"pool.add_cpu", xen_pool_add_cpu},
    {"pool.remove_cpu", xen_pool_remove_cpu},
};

static void connected(void *data G_GNUC_UNUSED)
{
    xen_watch_tell_again();
}

/* Kept open for ever: while it is, libxl's handler of ended children stays installed. */
static gboolean open_libxl(void)
{
    static struct xen_op op = XEN_OP_INIT;
    struct fault f = FAULT_INIT;
    gboolean opened = xen_op_begin(&op, NULL, &f);
    fault_clear(&f);
    return opened;
}

/* As large as one sector of a CD. */
static gboolean make_blank(const char *runtime_dir)
{
    static const char sector[2048];
    g_autoptr(GError) error = NULL;
    xen.blank = g_build_filename(runtime_dir, "blank.iso", NULL);
    g_mkdir_with_parents(runtime_dir, 0755);
    if (g_file_set_contents(xen.blank, sector, sizeof sector, &error))
        return TRUE;
    g_critical("%s", error->message);
    return FALSE;
}

static gboolean prepare(const struct conf *c, void *data G_GNUC_UNUSED)
{
    storage_init(c);
    storage_switch_over = xen_switch_over;
    xen.state_dir = g_canonicalize_filename(c->state_dir, NULL);
    xen.xc = xc_interface_open(NULL, NULL, 0);
    xen_store_guard();
    xen.xs = xen_store_open();
    if (xen.xc == NULL || xen.xs == NULL) {
        g_critical("%s: %s", xen.xc == NULL ? "no Xen here" : "xenstored takes no connection", g_strerror(errno));
        return FALSE;
    }
    xen_host_init();
    if (!make_blank(c->runtime_dir) || !open_libxl())
        return FALSE;
    xen_recover();
    if (!xen_watch_start())
        return FALSE;
    xen_recover_rest();
    xen_store_ready();
    return TRUE;
}

int main(int argc, char **argv)
{
    GArray *table = g_array_new(TRUE, TRUE, sizeof(struct helper_method));
    g_array_append_vals(table, methods, G_N_ELEMENTS(methods));
    for (const struct helper_method *m = storage_methods; m->name != NULL; m++)
        g_array_append_vals(table, m, 1);
    struct helper_options options = {
        .program = "xenapid-xen",
        .methods = (const struct helper_method *) (void *) table->data,
        .max_threads = MAX_THREADS,
        .connected = connected,
    };
    int status = helper_main(argc, argv, &options, prepare);
    g_array_unref(table);
    return status;
}
