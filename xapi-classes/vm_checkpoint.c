/* vm_checkpoint.c - VM.checkpoint: a snapshot of the disks together with the memory. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/storage.h"
#include "xapi-classes/vm.h"
#include "xapi-classes/vm_twin.h"

#include <string.h>

/* Somebody may have stopped the VM meanwhile, with its memory. */
static struct value *record_checkpoint(struct call *c, const char *state, const char *memory, GPtrArray *disks)
{
    struct txn *t = txn_begin(the_store());
    const struct record *vm = txn_get(t, CLASS_VM, call_str(c, 0));
    if (vm == NULL || !vm_is(vm, "Suspended") || txn_get(t, CLASS_VDI, memory) == NULL) {
        txn_abort(t);
        return call_fail(c, "VM_CHECKPOINT_SUSPEND_FAILED", call_str(c, 0), NULL);
    }
    struct value *result = value_string(NULL, twin_create(t, vm, TWIN_SNAPSHOT, call_str(c, 1), disks));
    const char *ref = value_str(result);
    txn_set_str(t, CLASS_VM, ref, F_VM_power_state, "Suspended");
    txn_set_str(t, CLASS_VM, ref, F_VM_suspend_VDI, memory);
    txn_put_key(t, CLASS_VM, ref, F_VM_snapshot_info, "power-state-at-snapshot", state);
    call_commit(c, t);
    return result;
}

/* copy_memory: the VM goes on owning the image. Otherwise it is the checkpoint's once the VM goes on. */
static struct value *snapshot_suspended(struct call *c, const char *state, gboolean copy_memory)
{
    g_autoptr(record) vm = call_object(c, 0);
    if (vm == NULL)
        return NULL;
    const char *image = record_str(vm, F_VM_suspend_VDI);
    if (ref_is_null(image))
        return call_fail(c, "VM_HAS_NO_SUSPEND_VDI", vm->ref, NULL);
    struct drafts *drafts = drafts_new();
    g_autoptr(value) result = NULL;
    g_autoptr(GPtrArray) disks = twin_copy_disks(c, vm, TWIN_SNAPSHOT, NULL_REF, NULL, drafts);
    g_autoptr(value) memory = disks != NULL && copy_memory ? twin_copy_memory(c, image, drafts) : NULL;
    if (disks != NULL && (memory != NULL || !copy_memory))
        result = record_checkpoint(c, state, memory != NULL ? value_str(memory) : image, disks);
    drafts_end(c, drafts);
    return c->fault.code == NULL ? g_steal_pointer(&result) : NULL;
}

static gboolean ask(struct call *c, const struct record *vm, const char *method)
{
    struct value_builder b;
    vm_params(&b, record_str(vm, F_VM_uuid));
    g_autoptr(value) answer = vm_ask(c, NULL, method, value_builder_end(&b), ASK_QUICK_MS);
    return answer != NULL;
}

/* The guest must hear that it is to be suspended, which a paused one cannot. */
static gboolean suspend_paused(struct call *c, const struct record *vm)
{
    struct fault why = FAULT_INIT;
    if (!ask(c, vm, "domain.unpause"))
        return FALSE;
    if (vm_do_suspend(c, vm, TRUE))
        return TRUE;
    fault_move(&why, &c->fault);
    ask(c, vm, "domain.pause");
    fault_clear(&c->fault);
    fault_move(&c->fault, &why);
    return FALSE;
}

static gboolean suspend(struct call *c, const struct record *vm)
{
    if (vm_is(vm, "Paused") ? suspend_paused(c, vm) : vm_do_suspend(c, vm, TRUE))
        return TRUE;
    if (strcmp(c->fault.code, "VM_NO_SUSPEND_SR") == 0 || strcmp(c->fault.code, "TASK_CANCELLED") == 0)
        return FALSE;
    g_autofree char *text = fault_text(&c->fault);
    g_message("the suspend of a checkpoint failed: %s", text);
    fault_clear(&c->fault);
    return fault_set(&c->fault, "VM_CHECKPOINT_SUSPEND_FAILED", vm->ref, NULL);
}

/* Also after a snapshot that failed or was cancelled: the VM is to go on as if nothing had been. */
static void go_on(struct call *c, const struct record *vm)
{
    struct fault before = FAULT_INIT;
    fault_move(&before, &c->fault);
    g_atomic_int_set(call_cancel_flag(c), 0);
    if (!vm_do_resume(c, vm->ref, NULL, vm_is(vm, "Paused"))) {
        g_autofree char *text = fault_text(&c->fault);
        g_message("the resume of a checkpoint failed: %s", text);
        fault_clear(&c->fault);
        fault_set(&c->fault, "VM_CHECKPOINT_RESUME_FAILED", vm->ref, NULL);
    }
    if (before.code == NULL)
        return;
    fault_clear(&c->fault);
    fault_move(&c->fault, &before);
}

struct value *vm_checkpoint(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    if (vm == NULL)
        return NULL;
    if (vm_is(vm, "Suspended"))
        return snapshot_suspended(c, "Suspended", TRUE);
    if (!suspend(c, vm))
        return NULL;
    g_autoptr(value) result = snapshot_suspended(c, record_str(vm, F_VM_power_state), FALSE);
    go_on(c, vm);
    return c->fault.code == NULL ? g_steal_pointer(&result) : NULL;
}
