/* vm_appliance.c - the class VM_appliance: groups of VMs that start and stop together, in order and with delays. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/run_message.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

#define POLL_US (50 * G_TIME_SPAN_MILLISECOND)

/* ---- objects ---- */

/* Its VMs stand alone then. */
struct value *vm_appliance_destroy(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    const struct record *r = call_txn_object(c, t, 0);
    if (r == NULL)
        return vm_give_up(c, t);
    g_autoptr(value) vms = value_ref(record_field(r, F_VM_appliance_VMs));
    for (gsize i = 0; i < value_count(vms); i++)
        txn_set_str(t, CLASS_VM, value_str(value_at(vms, i)), F_VM_appliance, NULL_REF);
    txn_destroy(t, CLASS_VM_appliance, call_str(c, 0));
    return vm_end_change(c, t);
}

/* ---- members in order ---- */

static int by_order(gconstpointer a, gconstpointer b)
{
    const struct record *x = *(struct record *const *) a, *y = *(struct record *const *) b;
    gint64 m = record_int(x, F_VM_order), n = record_int(y, F_VM_order);
    return m != n ? (m < n ? -1 : 1) : strcmp(x->ref, y->ref);
}

GPtrArray *appliance_members(const struct record *appliance)
{
    const struct value *refs = record_field(appliance, F_VM_appliance_VMs);
    GPtrArray *vms = g_ptr_array_new_with_free_func((GDestroyNotify) record_unref);
    for (gsize i = 0; i < value_count(refs); i++) {
        struct record *vm = store_get(the_store(), CLASS_VM, value_str(value_at(refs, i)));
        if (vm != NULL)
            g_ptr_array_add(vms, vm);
    }
    g_ptr_array_sort(vms, by_order);
    return vms;
}

static GPtrArray *members(struct call *c)
{
    g_autoptr(record) appliance = call_object(c, 0);
    return appliance != NULL ? appliance_members(appliance) : NULL;
}

/* ---- what is done to one ---- */

/* The message that brings the VM where it should be; NULL when it is there. */
typedef const char *choose_fn(const struct record *vm);

static const char *choose_start(const struct record *vm)
{
    if (vm_is(vm, "Suspended"))
        return "VM.resume";
    return vm_is(vm, "Halted") ? "VM.start" : NULL;
}

static const char *choose_clean_shutdown(const struct record *vm)
{
    return vm_is(vm, "Halted") ? NULL : "VM.clean_shutdown";
}

static const char *choose_hard_shutdown(const struct record *vm)
{
    return vm_is(vm, "Halted") ? NULL : "VM.hard_shutdown";
}

static const char *choose_shutdown(const struct record *vm)
{
    return vm_is(vm, "Halted") ? NULL : "VM.shutdown";
}

/* The work on one VM of several that are in the same place of the order: on a thread of its own. */
struct part {
    const char *message, *task;
    struct record *vm;
    gboolean paused;
    gboolean failed;
    GThread *thread;
};

static void *work(void *data)
{
    struct part *p = data;
    struct fault f = FAULT_INIT;
    g_autoptr(value) ref = value_string(NULL, p->vm->ref), paused = value_bool(p->paused), force = value_bool(FALSE);
    struct value *args[] = {ref, paused, force};
    g_autoptr(value) result = run_message(p->message, args, p->task, &f);
    p->failed = result == NULL;
    if (p->failed) {
        g_autofree char *why = fault_text(&f);
        g_message("%s of %s failed: %s", p->message, record_str(p->vm, F_VM_name_label), why);
    }
    fault_clear(&f);
    return NULL;
}

/* ---- the groups ---- */

/* What one place of the order has to do, and the longest of its delays. */
struct group {
    struct part *parts;
    guint n;
    gint64 delay;
};

static void group_add(struct group *g, struct call *c, struct record *vm, const char *message, gboolean paused,
                      int delay_field)
{
    struct part *p = &g->parts[g->n++];
    *p = (struct part){.message = message, .task = call_task_ref(c), .vm = vm, .paused = paused};
    g->delay = MAX(g->delay, record_int(vm, delay_field));
}

static gboolean group_run(struct group *g)
{
    gboolean all = TRUE;
    for (guint i = 0; i < g->n; i++)
        g->parts[i].thread = g_thread_new("appliance", work, &g->parts[i]);
    for (guint i = 0; i < g->n; i++) {
        g_thread_join(g->parts[i].thread);
        all &= !g->parts[i].failed;
    }
    return all;
}

/* FALSE: cancelled. */
static gboolean wait(struct call *c, gint64 seconds)
{
    gint64 until = g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND;
    while (!call_is_cancelled(c) && g_get_monotonic_time() < until)
        g_usleep(POLL_US);
    return !call_is_cancelled(c);
}

struct plan {
    choose_fn *choose;
    gboolean backwards; /* the last ones first; one that fails does not keep the others */
    gboolean paused;
    int delay_field;
};

/* The group that begins at member *at of the order; moves on behind it. */
static gboolean run_group(struct call *c, const struct plan *p, GPtrArray *vms, guint *at, gint64 *delay)
{
    g_autofree struct part *parts = g_new0(struct part, vms->len);
    struct group g = {.parts = parts};
    gint64 order = record_int(g_ptr_array_index(vms, p->backwards ? vms->len - 1 - *at : *at), F_VM_order);
    for (; *at < vms->len; (*at)++) {
        struct record *vm = g_ptr_array_index(vms, p->backwards ? vms->len - 1 - *at : *at);
        if (record_int(vm, F_VM_order) != order)
            break;
        const char *message = p->choose(vm);
        if (message != NULL)
            group_add(&g, c, vm, message, p->paused, p->delay_field);
    }
    *delay = g.delay;
    return group_run(&g);
}

/* The delays are between groups, not after the last. */
static struct value *run(struct call *c, const struct plan *p)
{
    g_autoptr(GPtrArray) vms = members(c);
    gboolean all = TRUE;
    gint64 delay = 0;
    if (vms == NULL)
        return NULL;
    for (guint at = 0; at < vms->len && (all || p->backwards);) {
        if (!wait(c, at > 0 ? delay : 0))
            return call_cancelled_fault(c);
        all &= run_group(c, p, vms, &at, &delay);
        call_progress(c, (double) at / (double) vms->len);
    }
    return all ? value_void() : call_fail(c, "OPERATION_PARTIALLY_FAILED", c->msg->name, NULL);
}

struct value *vm_appliance_start(struct call *c)
{
    return run(c, &(struct plan){choose_start, FALSE, call_bool(c, 1), F_VM_start_delay});
}

struct value *vm_appliance_clean_shutdown(struct call *c)
{
    return run(c, &(struct plan){choose_clean_shutdown, TRUE, FALSE, F_VM_shutdown_delay});
}

struct value *vm_appliance_hard_shutdown(struct call *c)
{
    return run(c, &(struct plan){choose_hard_shutdown, TRUE, FALSE, F_VM_shutdown_delay});
}

struct value *vm_appliance_shutdown(struct call *c)
{
    return run(c, &(struct plan){choose_shutdown, TRUE, FALSE, F_VM_shutdown_delay});
}
