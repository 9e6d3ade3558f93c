/* vm_revert.c - VM.revert: a VM goes back to what one of its snapshots holds. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"
#include "xapi-classes/vm/vm_twin.h"

#include <string.h>

/* ---- what goes ---- */

/* The image that the snapshot's disk i was taken of, if it is the VM's now. */
static const char *replaced_by(const struct record *vm, const struct record *snapshot_disk)
{
    const char *origin = record_str(snapshot_disk, F_VDI_snapshot_of);
    const struct value *vbds = record_field(vm, F_VM_VBDs);
    for (gsize i = 0; i < value_count(vbds); i++) {
        g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, value_str(value_at(vbds, i)));
        if (vbd != NULL && !ref_is_null(origin) && strcmp(record_str(vbd, F_VBD_VDI), origin) == 0)
            return origin;
    }
    return NULL_REF;
}

static struct record *disk_of(const struct record *vm, gsize i)
{
    g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, value_str(value_at(record_field(vm, F_VM_VBDs), i)));
    return vbd != NULL ? store_get(the_store(), CLASS_VDI, record_str(vbd, F_VBD_VDI)) : NULL;
}

static void list_image(struct drafts *drafts, const char *ref)
{
    g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, ref);
    g_autoptr(record) sr = vdi != NULL ? store_get(the_store(), CLASS_SR, record_str(vdi, F_VDI_SR)) : NULL;
    if (sr != NULL)
        drafts_add(drafts, record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid));
}

/* Images that the snapshot knows another content of are replaced. Those that it does not know leave the VM and stay:
 * nobody could bring them back. */
static void list_replaced(struct drafts *drafts, const struct record *vm, const struct record *snapshot)
{
    for (gsize i = 0; i < value_count(record_field(snapshot, F_VM_VBDs)); i++) {
        g_autoptr(record) disk = disk_of(snapshot, i);
        if (disk != NULL)
            list_image(drafts, replaced_by(vm, disk));
    }
}

/* ---- what comes ---- */

/* The snapshots of a replaced image are snapshots of the new one. */
static void adopt_snapshots(struct txn *t, const struct record *vm, const struct record *snapshot, GPtrArray *new)
{
    for (gsize i = 0; i < value_count(record_field(snapshot, F_VM_VBDs)) && i < new->len; i++) {
        g_autoptr(record) disk = disk_of(snapshot, i);
        const struct value *ref = g_ptr_array_index(new, i);
        const struct record *old = disk != NULL ? txn_get(t, CLASS_VDI, replaced_by(vm, disk)) : NULL;
        const struct value *all = old != NULL ? record_field(old, F_VDI_snapshots) : NULL;
        for (gsize k = 0; ref != NULL && k < value_count(all); k++)
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

/* A VM whose memory is kept has its disks attached, too: the memory believes in their content. */
static void set_suspended(struct txn *t, const char *ref, const struct value *memory)
{
    const struct record *vm = txn_get(t, CLASS_VM, ref);
    const struct value *vbds = record_field(vm, F_VM_VBDs), *vifs = record_field(vm, F_VM_VIFs);
    txn_set_str(t, CLASS_VM, ref, F_VM_power_state, "Suspended");
    txn_set_str(t, CLASS_VM, ref, F_VM_suspend_VDI, value_str(memory));
    for (gsize i = 0; i < value_count(vbds); i++)
        txn_set_bool(t, CLASS_VBD, value_str(value_at(vbds, i)), F_VBD_currently_attached, TRUE);
    for (gsize i = 0; i < value_count(vifs); i++)
        txn_set_bool(t, CLASS_VIF, value_str(value_at(vifs, i)), F_VIF_currently_attached, TRUE);
}

static void commit_revert(struct call *c, const char *vm_ref, GPtrArray *new, const struct value *memory)
{
    struct txn *t = txn_begin(the_store());
    const struct record *vm = txn_get(t, CLASS_VM, vm_ref), *snapshot = txn_get(t, CLASS_VM, call_str(c, 0));
    if (vm == NULL || snapshot == NULL || !vm_is(vm, "Halted")) {
        txn_abort(t);
        call_fail(c, "VM_REVERT_FAILED", vm_ref, call_str(c, 0), NULL);
        return;
    }
    adopt_snapshots(t, vm, snapshot, new);
    destroy_devices(t, vm);
    restore_settings(t, snapshot, vm_ref);
    twin_devices(t, snapshot, vm_ref, new, TRUE);
    twin_renew_generation(t, vm_ref);
    if (memory != NULL)
        set_suspended(t, vm_ref, memory);
    call_commit(c, t);
}

/* ---- the steps ---- */

static gboolean stop(struct call *c, const char *ref)
{
    g_autoptr(record) vm = store_get(the_store(), CLASS_VM, ref);
    g_auto(vm_work) w = VM_WORK_INIT;
    if (vm == NULL || vm_is(vm, "Halted"))
        return vm != NULL;
    vm_work_begin(&w, vm);
    return vm_do_destroy_domain(c, &w, vm);
}

/* Everything that can fail for want of space comes before the VM is touched. */
static void revert_to(struct call *c, const struct record *snapshot, const struct record *vm, struct drafts *drafts)
{
    list_replaced(drafts, vm, snapshot);
    g_autoptr(GPtrArray) new = twin_copy_disks(c, snapshot, TWIN_CLONE, NULL_REF, NULL, drafts);
    gboolean suspended = vm_is(snapshot, "Suspended");
    g_autoptr(value) memory =
        new != NULL &&suspended ? twin_copy_memory(c, record_str(snapshot, F_VM_suspend_VDI), drafts) : NULL;
    if (new != NULL && (memory != NULL || !suspended) && stop(c, vm->ref))
        commit_revert(c, vm->ref, new, memory);
}

/* The VM of the snapshot is the one that changes: that is where the operation is told, too. */
static struct record *begin_reverting(struct call *c, const char *ref)
{
    struct txn *t = txn_begin(the_store());
    struct record *vm = NULL;
    if (operation_check(t, CLASS_VM, ref, "reverting", &c->fault)) {
        vm = record_ref(txn_get(t, CLASS_VM, ref));
        txn_put_key(t, CLASS_VM, ref, F_VM_current_operations, call_task_ref(c), "reverting");
    }
    txn_commit(t);
    return vm;
}

static void end_reverting(struct call *c, const char *ref)
{
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, ref) != NULL)
        txn_remove_key(t, CLASS_VM, ref, F_VM_current_operations, call_task_ref(c));
    call_commit(c, t);
}

struct value *vm_revert(struct call *c)
{
    g_autoptr(record) snapshot = call_object(c, 0);
    g_autoptr(record) vm = snapshot != NULL ? begin_reverting(c, record_str(snapshot, F_VM_snapshot_of)) : NULL;
    if (vm == NULL)
        return NULL;
    struct drafts *drafts = drafts_new();
    revert_to(c, snapshot, vm, drafts);
    drafts_end(c, drafts);
    end_reverting(c, vm->ref);
    return c->fault.code == NULL ? value_void() : NULL;
}
