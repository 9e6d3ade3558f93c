/* vm_stop.c - guests that power off, reboot or crash by themselves: actions_after_shutdown, _reboot and _crash. */
#include "daemon/clock.h"
#include "daemon/task.h"
#include "xapi-classes/vm/crashdump.h"
#include "xapi-classes/vm/vm.h"
#include "xapi-classes/vm/vm_stop.h"

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
    gboolean dump; /* its memory is to be kept */
};

/* ---- what to do ---- */

static gboolean begins_with(const char *s, const char *prefix)
{
    return g_str_has_prefix(s, prefix);
}

static enum action action_of(const char *name)
{
    if (begins_with(name, "preserve"))
        return ACTION_PRESERVE;
    return strstr(name, "restart") != NULL ? ACTION_RESTART : ACTION_DESTROY;
}

static gboolean has_crashed(const struct value *state)
{
    return strcmp(value_get_str(state, "power", ""), "crashed") == 0 ||
           begins_with(value_get_str(state, "shutdown_reason", ""), "crash");
}

static enum action choose(const struct record *vm, const struct value *state)
{
    const char *reason = value_get_str(state, "shutdown_reason", "");
    if (has_crashed(state))
        return action_of(record_str(vm, F_VM_actions_after_crash));
    if (strcmp(reason, "reboot") == 0)
        return action_of(record_str(vm, F_VM_actions_after_reboot));
    return action_of(record_str(vm, F_VM_actions_after_shutdown));
}

/* ---- doing it, on a worker ---- */

static struct value *preserve(struct call *c, const char *ref)
{
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, ref) != NULL)
        vm_set_paused(t, ref, TRUE);
    return vm_end_change(c, t);
}

/* Before anything else happens to the domain. */
static void keep_memory(struct call *c, const struct stop *s)
{
    g_autoptr(record) vm = store_get(the_store(), CLASS_VM, s->ref);
    if (vm != NULL && record_int(vm, F_VM_domid) == s->domid)
        crashdump_take(c, vm);
}

/* Meanwhile somebody may have shut it down, or started it again. */
static struct value *act(struct call *c, void *data)
{
    const struct stop *s = data;
    if (s->dump)
        keep_memory(c, s);
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
    if (s->action == ACTION_PRESERVE)
        return preserve(c, s->ref);
    if (vm_do_restart(c, &w, vm, FALSE))
        return value_void();
    /* What cannot be started again is not left half there. */
    struct fault why = c->fault;
    c->fault = (struct fault) FAULT_INIT;
    vm_do_destroy_domain(c, &w, vm);
    fault_clear(&c->fault);
    c->fault = why;
    return NULL;
}

/* ---- when ---- */

static void spawn(void *data)
{
    struct stop *s = data;
    g_autofree char *ref = g_strdup(s->ref);
    if (!task_spawn("VM.guest_stopped", ref, act, s, g_free))
        g_warning("the queue of tasks is full: a stopped guest is left as it is until the next comparison");
}

/* What is known of earlier stops; only used under the watch's lock. */
struct history {
    gint64 domid; /* the last that stopped */
    guint quick;  /* stops in a row that came soon after a start */
};

static struct history *history_of(const char *uuid)
{
    static GHashTable *all;
    if (all == NULL)
        all = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    struct history *h = g_hash_table_lookup(all, uuid);
    if (h == NULL) {
        h = g_new0(struct history, 1);
        g_hash_table_insert(all, g_strdup(uuid), h);
    }
    return h;
}

/* A guest that dies at each start, or a domain that cannot be taken away, must not keep the host busy. */
static gboolean stops_too_often(const struct record *vm, gint64 domid)
{
    struct history *h = history_of(record_str(vm, F_VM_uuid));
    g_autoptr(record) metrics = store_get(the_store(), CLASS_VM_metrics, record_str(vm, F_VM_metrics));
    gint64 started = metrics != NULL ? record_int(metrics, F_VM_metrics_start_time) : 0;
    gboolean again = h->domid == domid;
    h->quick = g_get_real_time() / G_USEC_PER_SEC - started > QUICK_S ? 0 : h->quick + 1;
    h->domid = domid;
    return again || h->quick > FREE_RESTARTS;
}

void vm_guest_stopped(const struct record *vm, const struct value *state)
{
    struct stop *s = g_new0(struct stop, 1);
    g_strlcpy(s->ref, vm->ref, sizeof s->ref);
    s->domid = value_as_int(value_get(state, "domid"));
    s->action = choose(vm, state);
    s->dump = has_crashed(state) && begins_with(record_str(vm, F_VM_actions_after_crash), "coredump");
    if (stops_too_often(vm, s->domid))
        clock_after(DELAY_S * 1000, spawn, s);
    else
        spawn(s);
}
