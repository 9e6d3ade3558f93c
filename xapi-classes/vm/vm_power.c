/* vm_power.c - VM.pause, unpause, the shutdowns, and signals to guests. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

static struct value *ask_uuid(struct call *c, struct vm_work *w, const char *method)
{
    struct value_builder b;
    vm_params(&b, w->uuid);
    return vm_ask(c, w, method, value_builder_end(&b), ASK_QUICK_MS);
}

/* What the work has made of the VM is written unless somebody else (hard_shutdown) has made something of it meanwhile.
 */
static void commit_state(struct call *c, struct vm_work *w, void (*set)(struct txn *t, const char *ref))
{
    struct txn *t = txn_begin(the_store());
    const struct record *vm = txn_get(t, CLASS_VM, w->ref);
    if (vm != NULL && record_int(vm, F_VM_domid) == w->domid)
        set(t, w->ref);
    call_commit(c, t);
    w->unsure = FALSE;
}

/* ---- pause, unpause ---- */

static void set_paused(struct txn *t, const char *ref)
{
    vm_set_paused(t, ref, TRUE);
}

static void set_unpaused(struct txn *t, const char *ref)
{
    vm_set_paused(t, ref, FALSE);
}

static struct value *halt_or_go(struct call *c, const char *method, void (*set)(struct txn *t, const char *ref))
{
    g_autoptr(record) vm = call_object(c, 0);
    g_auto(vm_work) w = VM_WORK_INIT;
    if (vm == NULL)
        return NULL;
    vm_work_begin(&w, vm);
    g_autoptr(value) answer = ask_uuid(c, &w, method);
    if (answer == NULL)
        return NULL;
    commit_state(c, &w, set);
    return value_void();
}

struct value *vm_pause(struct call *c)
{
    return halt_or_go(c, "domain.pause", set_paused);
}

struct value *vm_unpause(struct call *c)
{
    return halt_or_go(c, "domain.unpause", set_unpaused);
}

/* ---- shutdown ---- */

/* The image of a memory that is of no use any more goes with the domain. */
gboolean vm_do_destroy_domain(struct call *c, struct vm_work *w, const struct record *vm)
{
    g_autofree char *path = vm_suspend_path(record_str(vm, F_VM_uuid));
    struct value_builder b;
    vm_params(&b, w->uuid);
    value_builder_put_string(&b, "path", path);
    g_autoptr(value) answer = vm_ask(c, w, "domain.destroy", value_builder_end(&b), ASK_QUICK_MS);
    if (answer == NULL)
        return FALSE;
    commit_state(c, w, vm_set_halted);
    vm_drop_suspend_image(c, record_str(vm, F_VM_suspend_VDI));
    return TRUE;
}

gboolean vm_do_destroy_leftover(struct call *c, struct vm_work *w, const struct record *vm)
{
    if (record_int(vm, F_VM_domid) != -1)
        return vm_do_destroy_domain(c, w, vm);
    g_autoptr(value) answer = ask_uuid(c, w, "domain.destroy");
    return answer != NULL;
}

/* Asks the guest; then nothing of the domain is left. */
static gboolean shut_down(struct call *c, struct vm_work *w, const struct record *vm)
{
    int timeout = the_conf()->clean_shutdown_timeout;
    struct value_builder b;
    vm_params(&b, w->uuid);
    value_builder_put_string(&b, "reason", "poweroff");
    value_builder_put(&b, "timeout", value_int(NULL, timeout));
    g_autoptr(value) answer =
        vm_ask_part(c, w, "domain.shutdown", value_builder_end(&b), timeout * 1000 + ASK_QUICK_MS, 0.0, 0.9);
    return answer != NULL && vm_do_destroy_domain(c, w, vm);
}

struct value *vm_clean_shutdown(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    g_auto(vm_work) w = VM_WORK_INIT;
    if (vm == NULL)
        return NULL;
    vm_work_begin(&w, vm);
    return shut_down(c, &w, vm) ? value_void() : NULL;
}

struct value *vm_hard_shutdown(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    g_auto(vm_work) w = VM_WORK_INIT;
    if (vm == NULL)
        return NULL;
    vm_work_begin(&w, vm);
    return vm_do_destroy_domain(c, &w, vm) ? value_void() : NULL;
}

/* Kindly first. A call that was cancelled does not go on to force. */
struct value *vm_shutdown(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    g_auto(vm_work) w = VM_WORK_INIT;
    if (vm == NULL)
        return NULL;
    vm_work_begin(&w, vm);
    if (vm_is(vm, "Running") && shut_down(c, &w, vm))
        return value_void();
    if (call_is_cancelled(c))
        return call_cancelled_fault(c);
    fault_clear(&c->fault);
    return vm_do_destroy_domain(c, &w, vm) ? value_void() : NULL;
}

/* Only the record is put right: for a VM whose domain is known to be gone. */
struct value *vm_power_state_reset(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    if (call_txn_object(c, t, 0) == NULL)
        return vm_give_up(c, t);
    vm_set_halted(t, call_str(c, 0));
    return vm_end_change(c, t);
}

/* ---- signals to the guest ---- */

static struct value *send(struct call *c, const char *method, const char *key)
{
    g_autoptr(record) vm = call_object(c, 0);
    struct value_builder b;
    if (vm == NULL)
        return NULL;
    vm_params(&b, record_str(vm, F_VM_uuid));
    value_builder_put_string(&b, key, call_str(c, 1));
    g_autoptr(value) answer = vm_ask(c, NULL, method, value_builder_end(&b), ASK_QUICK_MS);
    return answer != NULL ? value_void() : NULL;
}

struct value *vm_send_sysrq(struct call *c)
{
    return send(c, "domain.sysrq", "key");
}

struct value *vm_send_trigger(struct call *c)
{
    return send(c, "domain.trigger", "trigger");
}
