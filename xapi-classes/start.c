/* start.c - the order in which the records are brought in line with the world, at start and when the backend returns.
 */
#include "daemon/call.h"
#include "daemon/task.h"
#include "xapi-classes/start.h"
#include "xapi-classes/world.h"
#include "xenbackend/backend.h"

#define INFO_TIMEOUT_MS 10000

static gint started;

/* TRUE when the backend answered. */
static gboolean update_host(void)
{
    struct fault f = FAULT_INIT;
    struct peer_options options = {.timeout_ms = INFO_TIMEOUT_MS};
    g_autoptr(value) info = backend_call("host.info", NULL, &options, &f);

    if (!info) {
        g_autofree char *text = fault_text(&f);
        g_warning("the backend did not describe the host: %s", text);
        fault_clear(&f);
        host_set_live(FALSE);
        return FALSE;
    }
    host_update(info);
    return TRUE;
}

void classes_start(void)
{
    roles_start();
    gboolean up = update_host();
    if (up) {
        storage_start();
        world_reconcile();
        sim_fill();
        templates_start();
        checkpoints_start();
        world_autostart();
    }
    schedules_start();
    g_atomic_int_set(&started, 1);
}

static struct value *reconcile_task(G_GNUC_UNUSED struct call *c, G_GNUC_UNUSED void *data)
{
    if (update_host()) {
        storage_backend_up();
        world_reconcile();
    }
    return value_void();
}

void classes_backend_state(gboolean up, G_GNUC_UNUSED void *unused)
{
    if (!g_atomic_int_get(&started))
        return; /* classes_start does it */
    if (!up)
        g_warning("the backend is gone; operations fail until its supervisor has started it again");
    else if (!task_spawn("reconcile with the backend", NULL, reconcile_task, NULL, NULL))
        g_warning("too many tasks to reconcile with the new backend now");
}

void classes_notify(const char *method, struct value *params, G_GNUC_UNUSED void *unused)
{
    if (strcmp(method, "host.changed") == 0)
        host_metrics_update(params);
    else if (strcmp(method, "sr.changed") == 0)
        storage_changed(params);
    else if (g_str_has_prefix(method, "domain.") || g_str_has_prefix(method, "pool."))
        world_notify(method, params);
    else
        g_debug("unknown notification of the backend: %s", method);
}
