/* vm_twin.c - what clones, copies and snapshots of a VM have in common: its disks copied, its records made again. */
#include "xapi-classes/vm/vm_twin.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

/* ---- disks ---- */

static gboolean is_to_be_copied(const struct record *vbd, const struct value *ignore)
{
    const char *vdi = record_str(vbd, F_VBD_VDI);
    return strcmp(record_str(vbd, F_VBD_type), "Disk") == 0 && !ref_is_null(vdi) &&
           (ignore == NULL || !value_contains(ignore, vdi));
}

/* What is to be made of a VBD's image. */
struct plan {
    struct record *vdi;   /* NULL: nothing */
    char uuid[UUID_SIZE]; /* of the new image */
};

static void plan_free(void *data)
{
    struct plan *p = data;
    record_unref(p->vdi);
    g_free(p);
}

/* A full copy goes to one SR; the quick ways stay where the image is. */
static const char *target_sr(const struct plan *p, enum twin_kind kind, const char *sr)
{
    return kind != TWIN_COPY || ref_is_null(sr) ? record_str(p->vdi, F_VDI_SR) : sr;
}

static struct plan *plan_copy(const char *vdi_ref, enum twin_kind kind, const char *sr_ref, struct drafts *drafts)
{
    struct plan *p = g_new0(struct plan, 1);
    p->vdi = store_get(the_store(), CLASS_VDI, vdi_ref);
    if (p->vdi == NULL)
        return p;
    uuid_generate_text(p->uuid);
    g_autoptr(record) sr = store_get(the_store(), CLASS_SR, target_sr(p, kind, sr_ref));
    if (sr != NULL)
        drafts_add(drafts, record_str(sr, F_SR_uuid), p->uuid);
    return p;
}

static GPtrArray *plan_copies(struct call *c, const struct record *vm, enum twin_kind kind, const char *sr,
                              const struct value *ignore, struct drafts *drafts)
{
    const struct value *vbds = record_field(vm, F_VM_VBDs);
    g_autoptr(GPtrArray) plans = g_ptr_array_new_with_free_func(plan_free);
    for (gsize i = 0; i < value_count(vbds); i++) {
        g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, value_str(value_at(vbds, i)));
        gboolean wanted = vbd != NULL && is_to_be_copied(vbd, ignore);
        struct plan *p = plan_copy(wanted ? record_str(vbd, F_VBD_VDI) : NULL_REF, kind, sr, drafts);
        g_ptr_array_add(plans, p);
        if (wanted && p->vdi == NULL) {
            call_fail(c, "HANDLE_INVALID", "VDI", record_str(vbd, F_VBD_VDI), NULL);
            return NULL;
        }
    }
    return g_steal_pointer(&plans);
}

/* What each snapshot is to be of; an empty map where nobody writes. NULL with c's fault set. */
static struct value *freeze(struct call *c, const struct record *vm, GPtrArray *plans, enum twin_kind kind)
{
    g_autoptr(GPtrArray) vdis = g_ptr_array_new();
    for (guint i = 0; kind == TWIN_SNAPSHOT && i < plans->len; i++)
        g_ptr_array_add(vdis, ((struct plan *) g_ptr_array_index(plans, i))->vdi);
    return vdis_freeze(c, record_str(vm, F_VM_uuid), vdis);
}

static struct value *carry_out(struct call *c, const struct plan *p, enum twin_kind kind, const char *sr,
                               const struct value *bases)
{
    if (kind == TWIN_COPY)
        return vdi_copy_now(c, p->vdi->ref, p->uuid, target_sr(p, kind, sr));
    return vdi_clone_now(c, p->vdi->ref, p->uuid, kind == TWIN_SNAPSHOT,
                         value_get_str(bases, record_str(p->vdi, F_VDI_uuid), NULL));
}

static void unref_value(void *v)
{
    value_unref(v);
}

GPtrArray *twin_copy_disks(struct call *c, const struct record *vm, enum twin_kind kind, const char *sr,
                           const struct value *ignore, struct drafts *drafts)
{
    g_autoptr(GPtrArray) plans = plan_copies(c, vm, kind, sr, ignore, drafts);
    if (plans == NULL || !drafts_begin(drafts, &c->fault))
        return NULL;
    g_autoptr(value) bases = freeze(c, vm, plans, kind);
    if (bases == NULL)
        return NULL;
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func(unref_value);
    for (guint i = 0; i < plans->len; i++) {
        const struct plan *p = g_ptr_array_index(plans, i);
        struct value *copy = p->vdi != NULL ? carry_out(c, p, kind, sr, bases) : NULL;
        if (p->vdi != NULL && copy == NULL)
            return NULL;
        g_ptr_array_add(disks, copy);
        call_progress(c, (double) (i + 1) / (double) (plans->len + 1));
        if (call_is_cancelled(c)) {
            call_cancelled_fault(c);
            return NULL;
        }
    }
    return g_steal_pointer(&disks);
}

struct value *twin_copy_memory(struct call *c, const char *vdi, struct drafts *drafts)
{
    struct plan *p = plan_copy(vdi, TWIN_CLONE, NULL_REF, drafts);
    struct value *copy = NULL;
    if (p->vdi == NULL)
        call_fail(c, "HANDLE_INVALID", "VDI", vdi, NULL);
    else if (drafts_begin(drafts, &c->fault))
        copy = carry_out(c, p, TWIN_CLONE, NULL_REF, NULL);
    plan_free(p);
    return copy;
}

/* ---- records ---- */

/* Everything but what says who an object is, where it is and what is happening to it. */
static void copy_fields(struct txn *t, const struct record *from, const char *to, const int *own, gsize n_own)
{
    const struct class *class = from->class;
    for (int i = 0; i < class->n_fields; i++) {
        gboolean skip = class->fields[i].mirrors;
        for (gsize k = 0; k < n_own && !skip; k++)
            skip = own[k] == i;
        if (!skip)
            txn_set(t, class->id, to, i, value_ref(record_field(from, i)));
    }
}

static void copy_vbd(struct txn *t, const struct record *vbd, const char *vm, const struct value *disk)
{
    static const int own[] = {F_VBD_uuid,
                              F_VBD_VM,
                              F_VBD_allowed_operations,
                              F_VBD_current_operations,
                              F_VBD_currently_attached,
                              F_VBD_status_code,
                              F_VBD_status_detail,
                              F_VBD_runtime_properties,
                              F_VBD_metrics};
    const char *ref = txn_create(t, CLASS_VBD, NULL, NULL);
    copy_fields(t, vbd, ref, own, G_N_ELEMENTS(own));
    txn_set_str(t, CLASS_VBD, ref, F_VBD_VM, vm);
    if (disk != NULL)
        txn_set_str(t, CLASS_VBD, ref, F_VBD_VDI, value_str(disk));
}

static void copy_vif(struct txn *t, const struct record *vif, const char *vm, gboolean same_address)
{
    static const int own[] = {F_VIF_uuid,
                              F_VIF_VM,
                              F_VIF_allowed_operations,
                              F_VIF_current_operations,
                              F_VIF_currently_attached,
                              F_VIF_status_code,
                              F_VIF_status_detail,
                              F_VIF_runtime_properties,
                              F_VIF_metrics};
    const char *seed = record_key(txn_get(t, CLASS_VM, vm), F_VM_other_config, "mac_seed");
    const char *ref = txn_create(t, CLASS_VIF, NULL, NULL);
    char mac[18];
    copy_fields(t, vif, ref, own, G_N_ELEMENTS(own));
    txn_set_str(t, CLASS_VIF, ref, F_VIF_VM, vm);
    if (same_address)
        return;
    mac_from_seed(seed != NULL ? seed : ref, record_str(vif, F_VIF_device), mac);
    txn_set_str(t, CLASS_VIF, ref, F_VIF_MAC, mac);
    txn_set_bool(t, CLASS_VIF, ref, F_VIF_MAC_autogenerated, TRUE);
}

/* A disk that was not to be copied does not come along. */
void twin_devices(struct txn *t, const struct record *source, const char *target, GPtrArray *disks,
                  gboolean same_addresses)
{
    const struct value *vbds = record_field(source, F_VM_VBDs), *vifs = record_field(source, F_VM_VIFs);
    for (gsize i = 0; i < value_count(vbds); i++) {
        const struct record *vbd = txn_get(t, CLASS_VBD, value_str(value_at(vbds, i)));
        const struct value *disk = i < disks->len ? g_ptr_array_index(disks, i) : NULL;
        if (vbd != NULL && (disk != NULL || strcmp(record_str(vbd, F_VBD_type), "Disk") != 0))
            copy_vbd(t, vbd, target, disk);
    }
    for (gsize i = 0; i < value_count(vifs); i++) {
        const struct record *vif = txn_get(t, CLASS_VIF, value_str(value_at(vifs, i)));
        if (vif != NULL)
            copy_vif(t, vif, target, same_addresses);
    }
}

static void copy_vm(struct txn *t, const struct record *vm, const char *ref)
{
    static const int own[] = {F_VM_uuid,
                              F_VM_allowed_operations,
                              F_VM_current_operations,
                              F_VM_power_state,
                              F_VM_resident_on,
                              F_VM_scheduled_to_be_resident_on,
                              F_VM_domid,
                              F_VM_domarch,
                              F_VM_metrics,
                              F_VM_guest_metrics,
                              F_VM_is_default_template,
                              F_VM_is_control_domain,
                              F_VM_suspend_VDI,
                              F_VM_is_a_snapshot,
                              F_VM_snapshot_of,
                              F_VM_snapshot_time,
                              F_VM_snapshot_info,
                              F_VM_snapshot_metadata,
                              F_VM_transportable_snapshot_id,
                              F_VM_parent,
                              F_VM_blobs,
                              F_VM_attached_PCIs,
                              F_VM_requires_reboot,
                              F_VM_blocked_operations,
                              F_VM_snapshot_schedule,
                              F_VM_is_vmss_snapshot,
                              F_VM_ha_always_run,
                              F_VM_ha_restart_priority,
                              F_VM_appliance};
    copy_fields(t, vm, ref, own, G_N_ELEMENTS(own));
    txn_set_int(t, CLASS_VM, ref, F_VM_domid, -1);
    txn_set_str(t, CLASS_VM, ref, F_VM_power_state, "Halted");
}

void twin_renew_generation(struct txn *t, const char *ref)
{
    if (strchr(record_str(txn_get(t, CLASS_VM, ref), F_VM_generation_id), ':') == NULL)
        return;
    g_autofree char *id =
        g_strdup_printf("%" G_GINT64_FORMAT ":%" G_GINT64_FORMAT, (gint64) g_random_int() << 31 | g_random_int() >> 1,
                        (gint64) g_random_int() << 31 | g_random_int() >> 1);
    txn_set_str(t, CLASS_VM, ref, F_VM_generation_id, id);
}

/* What must not be the same in two VMs that may run beside each other. */
static void renew_identity(struct txn *t, const struct record *vm, const char *ref)
{
    char seed[UUID_SIZE];
    uuid_generate_text(seed);
    txn_put_key(t, CLASS_VM, ref, F_VM_other_config, "mac_seed", seed);
    if (record_bool(vm, F_VM_is_default_template)) {
        txn_remove_key(t, CLASS_VM, ref, F_VM_other_config, "default_template");
        txn_put_key(t, CLASS_VM, ref, F_VM_other_config, "base_template_name", record_str(vm, F_VM_name_label));
    }
    twin_renew_generation(t, ref);
}

/* The line of descent goes through the newest snapshot. */
static void mark_snapshot(struct txn *t, const struct record *vm, const char *ref)
{
    txn_set_bool(t, CLASS_VM, ref, F_VM_is_a_snapshot, TRUE);
    txn_set_bool(t, CLASS_VM, ref, F_VM_is_a_template, TRUE);
    txn_set_str(t, CLASS_VM, ref, F_VM_snapshot_of, vm->ref);
    txn_set_time(t, CLASS_VM, ref, F_VM_snapshot_time, g_get_real_time() / G_USEC_PER_SEC);
    txn_put_key(t, CLASS_VM, ref, F_VM_snapshot_info, "power-state-at-snapshot", record_str(vm, F_VM_power_state));
    txn_put_key(t, CLASS_VM, ref, F_VM_snapshot_info, "disk-snapshot-type", "crash_consistent");
    txn_set_str(t, CLASS_VM, ref, F_VM_parent, record_str(vm, F_VM_parent));
    txn_set_str(t, CLASS_VM, vm->ref, F_VM_parent, ref);
}

const char *twin_create(struct txn *t, const struct record *vm, enum twin_kind kind, const char *name, GPtrArray *disks)
{
    const char *ref = txn_create(t, CLASS_VM, NULL, NULL);
    copy_vm(t, vm, ref);
    txn_set_str(t, CLASS_VM, ref, F_VM_name_label, name);
    if (kind == TWIN_SNAPSHOT)
        mark_snapshot(t, vm, ref);
    else
        renew_identity(t, vm, ref);
    if (kind != TWIN_SNAPSHOT && record_bool(vm, F_VM_is_a_snapshot))
        txn_set_str(t, CLASS_VM, ref, F_VM_parent, vm->ref);
    twin_devices(t, vm, ref, disks, kind == TWIN_SNAPSHOT);
    vm_metrics_of(t, ref);
    return ref;
}
