/* start.c - the order in which the records are brought in line with the world, at start and when the backend returns.
 */
#include "daemon/call.h"
#include "daemon/task.h"
#include "xapi-classes/start.h"
#include "xapi-classes/world.h"
#include "xenbackend/backend.h"

#define INFO_TIMEOUT_MS 10000
#define RETRY_MS        5000
#define STEP_MS         100

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

/* Once in the life of this process, with the first backend that answers. */
static gboolean begin(void)
{
    if (!world_reconcile()) /* before images that nobody refers to are removed */
        return FALSE;
    storage_start();
    sim_fill();
    templates_start();
    checkpoints_start();
    world_autostart();
    return TRUE;
}

/* FALSE when the backend did not answer all that was asked. */
static gboolean bring_in_line(void)
{
    static GMutex one_at_a_time;
    static gboolean begun;
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&one_at_a_time);
    if (!update_host())
        return FALSE;
    if (!begun)
        return begun = begin();
    if (!world_reconcile())
        return FALSE;
    storage_backend_up();
    return TRUE;
}

/* A backend that is there but does not answer yet (it may be busy with what its predecessor left half done) is asked
 * again; one that has gone is followed by another, with a task of its own. */
static struct value *reconcile_task(struct call *c, G_GNUC_UNUSED void *data)
{
    while (!bring_in_line() && backend_is_up() && !call_is_cancelled(c))
        for (int i = 0; i < RETRY_MS && !call_is_cancelled(c); i += STEP_MS)
            g_usleep(STEP_MS * 1000);
    return value_void();
}

static void reconcile_soon(void)
{
    if (!task_spawn("reconcile with the backend", NULL, reconcile_task, NULL, NULL))
        g_warning("too many tasks to reconcile with the new backend now");
}

void classes_start(void)
{
    roles_start();
    gboolean up = bring_in_line();
    schedules_start();
    storage_coalesce_start();
    g_atomic_int_set(&started, 1);
    if (!up && backend_is_up())
        reconcile_soon();
}

void classes_backend_state(gboolean up, G_GNUC_UNUSED void *unused)
{
    if (!g_atomic_int_get(&started))
        return; /* classes_start does it */
    if (!up)
        g_warning("the backend is gone; operations fail until its supervisor has started it again");
    else
        reconcile_soon();
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
