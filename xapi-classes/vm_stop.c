/* vm_stop.c - guests that power off, reboot or crash by themselves: actions_after_shutdown, _reboot and _crash. */
#include "daemon/clock.h"
#include "daemon/task.h"
#include "xapi-classes/vm.h"
#include "xapi-classes/vm_stop.h"

#include <string.h>

enum {
    QUICK_S = 60,      /* a guest that stops sooner than this after its start ... */
    FREE_RESTARTS = 5, /* ... may do so this often before its restarts are delayed */
    DELAY_S = 10,
};

enum action { ACTION_DESTROY, ACTION_RESTART, ACTION_PRESERVE };

struct stop {
    char ref[REF_SIZE];
    gint64 domid;
    enum action action;
};

/* ---- what to do ---- */

static gboolean begins_with(const char *s, const char *prefix)
{
    return g_str_has_prefix(s, prefix);
}

/* Dumps of memory are not kept: what asks for one gets the rest. */
static enum action action_of(const char *name)
{
    if (begins_with(name, "preserve"))
        return ACTION_PRESERVE;
    return strstr(name, "restart") != NULL ? ACTION_RESTART : ACTION_DESTROY;
}

static enum action choose(const struct record *vm, const struct value *state)
{
    const char *reason = value_get_str(state, "shutdown_reason", "");
    if (strcmp(value_get_str(state, "power", ""), "crashed") == 0 || begins_with(reason, "crash"))
        return action_of(record_str(vm, F_VM_actions_after_crash));
    if (strcmp(reason, "reboot") == 0)
        return action_of(record_str(vm, F_VM_actions_after_reboot));
    return action_of(record_str(vm, F_VM_actions_after_shutdown));
}

/* ---- doing it, on a worker ---- */

static void preserve(struct call *c, const char *ref)
{
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, ref) != NULL)
        vm_set_paused(t, ref, TRUE);
    call_commit(c, t);
}

/* Meanwhile somebody may have shut it down, or started it again. */
static struct value *act(struct call *c, void *data)
{
    const struct stop *s = data;
    g_autoptr(record) vm = store_get(the_store(), CLASS_VM, s->ref);
    g_auto(vm_work) w = VM_WORK_INIT;
    if (vm == NULL)
        return value_void();
    gboolean leftover = record_int(vm, F_VM_domid) == -1; /* of a VM that counts as halted */
    if (!leftover && record_int(vm, F_VM_domid) != s->domid)
        return value_void();
    vm_work_begin(&w, vm);
    if (leftover || s->action == ACTION_DESTROY)
        return vm_do_destroy_leftover(c, &w, vm) ? value_void() : NULL;
    if (s->action == ACTION_RESTART)
        return vm_do_restart(c, &w, vm, FALSE) ? value_void() : NULL;
    preserve(c, s->ref);
    return value_void();
}

/* ---- when ---- */

static void spawn(void *data)
{
    struct stop *s = data;
    g_autofree char *ref = g_strdup(s->ref);
    if (!task_spawn("VM.guest_stopped", ref, act, s, g_free))
        g_warning("the queue of tasks is full: a stopped guest is left as it is until the next comparison");
}

/* A guest that dies at each start must not keep the host busy. Only called under the watch's lock. */
static gboolean restarts_too_often(struct txn *t, const struct record *vm)
{
    static GHashTable *restarts; /* uuid -> number in a row */
    const char *uuid = record_str(vm, F_VM_uuid);
    const struct record *metrics = txn_get(t, CLASS_VM_metrics, record_str(vm, F_VM_metrics));
    gint64 started = metrics != NULL ? record_int(metrics, F_VM_metrics_start_time) : 0;
    if (restarts == NULL)
        restarts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (g_get_real_time() / G_USEC_PER_SEC - started > QUICK_S) {
        g_hash_table_remove(restarts, uuid);
        return FALSE;
    }
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(restarts, uuid)) + 1;
    g_hash_table_replace(restarts, g_strdup(uuid), GUINT_TO_POINTER(n));
    return n > FREE_RESTARTS;
}

void vm_guest_stopped(const struct record *vm, const struct value *state)
{
    struct stop *s = g_new0(struct stop, 1);
    g_strlcpy(s->ref, vm->ref, sizeof s->ref);
    s->domid = value_as_int(value_get(state, "domid"));
    s->action = choose(vm, state);
    struct txn *t = txn_begin(the_store());
    gboolean late = s->action == ACTION_RESTART && restarts_too_often(t, vm);
    txn_abort(t);
    if (late)
        clock_after(DELAY_S * 1000, spawn, s);
    else
        spawn(s);
}
