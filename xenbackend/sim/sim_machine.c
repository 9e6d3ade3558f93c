/* sim_machine.c - the simulated machine as a whole: booted again, switched off and on, and what its administrator sets.
 */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <string.h>

/* Everything in memory is gone; what is on disks stays. */
static void all_gone(void)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, sim.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(all, value);
    for (guint i = 0; i < all->len; i++)
        sim_remove(all->pdata[i], "destroyed");
}

static void boot(void)
{
    sim.off = FALSE;
    sim.boot_time = MAX(g_get_real_time(), sim.boot_time + 1); /* no two boots have the same name */
    sim.dom0->start_time = sim.dom0->cpu_stamp = sim.boot_time;
    sim_pools_init(NULL);
    sim_state_save_host();
    sim_dmesg("The simulated machine has booted");
    sim_host_changed();
}

struct value *sim_host_reboot(struct sim_op *op G_GNUC_UNUSED, struct fault *f G_GNUC_UNUSED)
{
    all_gone();
    boot();
    return value_empty_map();
}

struct value *sim_host_shutdown(struct sim_op *op G_GNUC_UNUSED, struct fault *f G_GNUC_UNUSED)
{
    all_gone();
    sim.off = TRUE;
    return value_empty_map();
}

/* sim.power_on: the button on the simulated machine. */
struct value *sim_power_on(struct sim_op *op G_GNUC_UNUSED, struct fault *f G_GNUC_UNUSED)
{
    if (sim.off)
        boot();
    return value_empty_map();
}

/* What a machine that is off does not do. */
gboolean sim_is_on(const char *method, struct fault *f)
{
    static const char *const parts[] = {"host.", "domain.", "sr.", "vdi.", "console."};
    gboolean needed = FALSE;
    g_mutex_lock(&sim.lock);
    for (gsize i = 0; i < G_N_ELEMENTS(parts); i++)
        needed = needed || g_str_has_prefix(method, parts[i]);
    gboolean on = !sim.off;
    g_mutex_unlock(&sim.lock);
    return on || !needed || fault_set(f, "HOST_NOT_LIVE", NULL);
}

static struct value *keep(char **where, const char *text)
{
    g_free(*where);
    *where = g_strdup(text);
    sim_state_save_host();
    return value_empty_map();
}

struct value *sim_host_set_hostname(struct sim_op *op, struct fault *f G_GNUC_UNUSED)
{
    return keep(&sim.hostname, value_get_str(op->params, "hostname", ""));
}

struct value *sim_host_set_iscsi_iqn(struct sim_op *op, struct fault *f G_GNUC_UNUSED)
{
    return keep(&sim.iscsi_iqn, value_get_str(op->params, "iqn", ""));
}

struct value *sim_host_set_syslog(struct sim_op *op, struct fault *f G_GNUC_UNUSED)
{
    return keep(&sim.syslog, value_get_str(op->params, "destination", ""));
}
