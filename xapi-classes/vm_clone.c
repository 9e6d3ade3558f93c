/* vm_clone.c - VM.clone, copy, snapshot and revert. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/operation.h"
#include "xapi-classes/storage.h"
#include "xapi-classes/vm.h"
#include "xapi-classes/vm_twin.h"

#include <string.h>

/* The disks first, which takes as long as it takes; then all records at once. */
static struct value *make_twin(struct call *c, enum twin_kind kind, const char *sr, const struct value *ignore)
{
    g_autoptr(record) vm = call_object(c, 0);
    g_autoptr(GPtrArray) disks = vm != NULL ? twin_copy_disks(c, vm, kind, sr, ignore) : NULL;
    if (disks == NULL)
        return NULL;
    if (call_is_cancelled(c)) {
        twin_drop_disks(c, disks);
        return call_cancelled_fault(c);
    }
    struct txn *t = txn_begin(the_store());
    struct record *now = call_txn_object(c, t, 0);
    if (now == NULL) {
        txn_abort(t);
        twin_drop_disks(c, disks);
        return NULL;
    }
    struct value *result = value_string(NULL, twin_create(t, now, kind, call_str(c, 1), disks));
    call_commit(c, t);
    return result;
}

struct value *vm_clone(struct call *c)
{
    return make_twin(c, TWIN_CLONE, NULL_REF, NULL);
}

struct value *vm_copy(struct call *c)
{
    return make_twin(c, TWIN_COPY, call_str(c, 2), NULL);
}

struct value *vm_snapshot(struct call *c)
{
    return make_twin(c, TWIN_SNAPSHOT, NULL_REF, call_arg(c, 2));
}

/* ---- revert ---- */

/* The disks that the VM has now, which its return to the snapshot replaces. */
static GPtrArray *present_disks(const struct record *vm)
{
    const struct value *vbds = record_field(vm, F_VM_VBDs);
    GPtrArray *disks = g_ptr_array_new_with_free_func((GDestroyNotify) value_unref);
    for (gsize i = 0; i < value_count(vbds); i++) {
        g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, value_str(value_at(vbds, i)));
        if (vbd != NULL && strcmp(record_str(vbd, F_VBD_type), "Disk") == 0 && !ref_is_null(record_str(vbd, F_VBD_VDI)))
            g_ptr_array_add(disks, value_ref(record_field(vbd, F_VBD_VDI)));
    }
    return disks;
}

/* The snapshots of the replaced image are snapshots of the new one. */
static void adopt_snapshots(struct txn *t, GPtrArray *old, const struct record *snapshot, GPtrArray *new)
{
    const struct value *vbds = record_field(snapshot, F_VM_VBDs);
    for (gsize i = 0; i < value_count(vbds) && i < new->len; i++) {
        const struct record *vbd = txn_get(t, CLASS_VBD, value_str(value_at(vbds, i)));
        const struct record *image = vbd != NULL ? txn_get(t, CLASS_VDI, record_str(vbd, F_VBD_VDI)) : NULL;
        const char *origin = image != NULL ? record_str(image, F_VDI_snapshot_of) : NULL_REF;
        const struct record *replaced = txn_get(t, CLASS_VDI, origin);
        const struct value *ref = g_ptr_array_index(new, i);
        const struct value *all = replaced != NULL ? record_field(replaced, F_VDI_snapshots) : NULL;
        gboolean goes = FALSE;
        for (guint k = 0; k < old->len; k++)
            goes |= strcmp(value_str(g_ptr_array_index(old, k)), origin) == 0;
        for (gsize k = 0; goes && ref != NULL && k < value_count(all); k++)
            txn_set_str(t, CLASS_VDI, value_str(value_at(all, k)), F_VDI_snapshot_of, value_str(ref));
    }
}

static void destroy_devices(struct txn *t, const struct record *vm)
{
    const struct value *vbds = record_field(vm, F_VM_VBDs), *vifs = record_field(vm, F_VM_VIFs);
    for (gsize i = 0; i < value_count(vbds); i++)
        txn_destroy(t, CLASS_VBD, value_str(value_at(vbds, i)));
    for (gsize i = 0; i < value_count(vifs); i++)
        txn_destroy(t, CLASS_VIF, value_str(value_at(vifs, i)));
}

/* The settings that a snapshot keeps; name and what clients attached to the VM since stay. */
static void restore_settings(struct txn *t, const struct record *snapshot, const char *vm)
{
    static const int fields[] = {F_VM_memory_static_max,
                                 F_VM_memory_static_min,
                                 F_VM_memory_dynamic_max,
                                 F_VM_memory_dynamic_min,
                                 F_VM_VCPUs_params,
                                 F_VM_VCPUs_max,
                                 F_VM_VCPUs_at_startup,
                                 F_VM_PV_bootloader,
                                 F_VM_PV_kernel,
                                 F_VM_PV_ramdisk,
                                 F_VM_PV_args,
                                 F_VM_PV_bootloader_args,
                                 F_VM_HVM_boot_policy,
                                 F_VM_HVM_boot_params,
                                 F_VM_HVM_shadow_multiplier,
                                 F_VM_platform,
                                 F_VM_domain_type,
                                 F_VM_NVRAM,
                                 F_VM_actions_after_shutdown,
                                 F_VM_actions_after_reboot,
                                 F_VM_actions_after_crash,
                                 F_VM_xenstore_data,
                                 F_VM_has_vendor_device,
                                 F_VM_hardware_platform_version};
    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++)
        txn_set(t, CLASS_VM, vm, fields[i], value_ref(record_field(snapshot, fields[i])));
    txn_set_str(t, CLASS_VM, vm, F_VM_parent, snapshot->ref);
}

static gboolean commit_revert(struct call *c, const char *vm_ref, GPtrArray *old, GPtrArray *new)
{
    struct txn *t = txn_begin(the_store());
    const struct record *vm = txn_get(t, CLASS_VM, vm_ref), *snapshot = call_txn_object(c, t, 0);
    gboolean can = vm != NULL && snapshot != NULL && vm_is(vm, "Halted");
    if (can) {
        destroy_devices(t, vm);
        restore_settings(t, snapshot, vm_ref);
        twin_devices(t, snapshot, vm_ref, new, TRUE);
        adopt_snapshots(t, old, snapshot, new);
    } else {
        call_fail(c, "VM_REVERT_FAILED", vm_ref, call_str(c, 0), NULL);
    }
    call_commit(c, t);
    return can;
}

static gboolean revert_to(struct call *c, const struct record *snapshot, const struct record *vm)
{
    if (!vm_is(vm, "Halted")) {
        g_auto(vm_work) w = VM_WORK_INIT;
        vm_work_begin(&w, vm);
        if (!vm_do_destroy_domain(c, &w, vm))
            return FALSE;
    }
    g_autoptr(GPtrArray) old = present_disks(vm);
    g_autoptr(GPtrArray) new = twin_copy_disks(c, snapshot, TWIN_CLONE, NULL_REF, NULL);
    if (new == NULL)
        return FALSE;
    gboolean done = commit_revert(c, vm->ref, old, new);
    twin_drop_disks(c, done ? old : new);
    return done;
}

/* The VM of the snapshot is the one that changes: that is where the operation is told, too. */
struct value *vm_revert(struct call *c)
{
    g_autoptr(record) snapshot = call_object(c, 0);
    if (snapshot == NULL)
        return NULL;
    const char *ref = record_str(snapshot, F_VM_snapshot_of);
    struct txn *t = txn_begin(the_store());
    g_autoptr(record) vm = NULL;
    if (operation_check(t, CLASS_VM, ref, "reverting", &c->fault)) {
        vm = record_ref(txn_get(t, CLASS_VM, ref));
        txn_put_key(t, CLASS_VM, ref, F_VM_current_operations, call_task_ref(c), "reverting");
    }
    txn_commit(t);
    if (vm == NULL)
        return NULL;
    gboolean done = revert_to(c, snapshot, vm);
    t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, ref) != NULL)
        txn_remove_key(t, CLASS_VM, ref, F_VM_current_operations, call_task_ref(c));
    call_commit(c, t);
    return done ? value_void() : NULL;
}
