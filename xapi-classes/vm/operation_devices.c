/* operation_devices.c - what may be done now to a VM's devices, to disk images, storage repositories and hosts. */
#include <string.h>

#include "xapi-classes/vm/operation_private.h"
#include "xapi-classes/vm/vm.h"

static gboolean is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* ---- VBDs and VIFs ---- */

/* While a VM comes, goes or moves its devices are left alone. */
static gboolean vm_is_steady(const struct record *vm, struct fault *f)
{
    static const char *const moving[] = {
        "start",        "start_on",      "resume",      "resume_on", "suspend",           "clean_shutdown",
        "clean_reboot", "hard_shutdown", "hard_reboot", "shutdown",  "pool_migrate",      "migrate_send",
        "checkpoint",   "reverting",     "revert",      "destroy",   "power_state_reset", NULL};
    const struct value *current = record_field(vm, F_VM_current_operations);
    for (gsize i = 0; i < value_count(current); i++) {
        const struct value_member *m = &current->u.map.m[i];
        if (g_strv_contains(moving, value_str(m->value)))
            return fault_set(f, "OTHER_OPERATION_IN_PROGRESS", "VM", vm->ref, value_str(m->value), value_str(m->key),
                             NULL);
    }
    return TRUE;
}

/* Plugging and unplugging: only in a running VM, and only what is not done already. */
static gboolean check_hotplug(const struct record *device, const struct record *vm, gboolean attached, gboolean plug,
                              struct fault *f)
{
    const char *state = record_str(vm, F_VM_power_state);
    if (!is(state, "Running"))
        return fault_power_state(f, vm->ref, "running", state);
    if (plug && attached)
        return fault_set(f, "DEVICE_ALREADY_ATTACHED", device->ref, NULL);
    if (!plug && !attached)
        return fault_set(f, "DEVICE_ALREADY_DETACHED", device->ref, NULL);
    return TRUE;
}

static gboolean check_medium(const struct record *vbd, const struct record *vm, gboolean insert, struct fault *f)
{
    gboolean empty = record_bool(vbd, F_VBD_empty);
    const char *state = record_str(vm, F_VM_power_state);
    if (!is(record_str(vbd, F_VBD_type), "CD"))
        return fault_set(f, "VBD_NOT_REMOVABLE_MEDIA", vbd->ref, NULL);
    if (insert && !empty)
        return fault_set(f, "VBD_NOT_EMPTY", vbd->ref, NULL);
    if (!insert && empty)
        return fault_set(f, "VBD_IS_EMPTY", vbd->ref, NULL);
    /* The image of a suspended VM remembers what was in the drive. */
    if (is(state, "Suspended"))
        return fault_power_state(f, vm->ref, "halted, running", state);
    return TRUE;
}

gboolean vbd_check(struct txn *t, const struct record *vbd, const char *op, struct fault *f)
{
    const struct record *vm = txn_get(t, CLASS_VM, record_str(vbd, F_VBD_VM));
    gboolean attached = record_bool(vbd, F_VBD_currently_attached);
    if (vm == NULL)
        return fault_set(f, "HANDLE_INVALID", "VM", record_str(vbd, F_VBD_VM), NULL);
    if (!operation_check_exclusive(vbd, f) || !vm_is_steady(vm, f))
        return FALSE;
    if (is(op, "plug"))
        return check_hotplug(vbd, vm, attached, TRUE, f);
    if (is(op, "unplug") && attached && !record_bool(vbd, F_VBD_unpluggable))
        return fault_set(f, "VBD_NOT_UNPLUGGABLE", vbd->ref, NULL);
    if (is(op, "unplug") || is(op, "unplug_force"))
        return check_hotplug(vbd, vm, attached, FALSE, f);
    if (is(op, "insert") || is(op, "eject"))
        return check_medium(vbd, vm, is(op, "insert"), f);
    if (is(op, "attach"))
        return !attached || fault_set(f, "DEVICE_ALREADY_ATTACHED", vbd->ref, NULL);
    return fault_set(f, "OPERATION_NOT_ALLOWED", "not possible for a VBD now", NULL);
}

gboolean vif_check(struct txn *t, const struct record *vif, const char *op, struct fault *f)
{
    const struct record *vm = txn_get(t, CLASS_VM, record_str(vif, F_VIF_VM));
    gboolean attached = record_bool(vif, F_VIF_currently_attached);
    if (vm == NULL)
        return fault_set(f, "HANDLE_INVALID", "VM", record_str(vif, F_VIF_VM), NULL);
    if (!operation_check_exclusive(vif, f) || !vm_is_steady(vm, f))
        return FALSE;
    if (is(op, "plug") || is(op, "unplug"))
        return check_hotplug(vif, vm, attached, is(op, "plug"), f);
    return !attached || fault_set(f, "DEVICE_ALREADY_ATTACHED", vif->ref, NULL);
}

/* ---- VDIs ---- */

enum { UNUSED, READ, WRITTEN };

/* How running VMs use the image. */
static int vdi_use(struct txn *t, const struct record *vdi)
{
    const struct value *vbds = record_field(vdi, F_VDI_VBDs);
    int use = UNUSED;
    for (gsize i = 0; i < value_count(vbds) && use != WRITTEN; i++) {
        const struct record *vbd = txn_get(t, CLASS_VBD, value_str(value_at(vbds, i)));
        if (vbd != NULL && record_bool(vbd, F_VBD_currently_attached))
            use = is(record_str(vbd, F_VBD_mode), "RW") ? WRITTEN : READ;
    }
    return use;
}

/* Can the repository do it while guests use the image? */
static gboolean sr_can(struct txn *t, const char *ref, const char *capability)
{
    const struct record *sr = txn_get(t, CLASS_SR, ref);
    g_autoptr(GPtrArray) drivers = sr != NULL ? txn_all(t, CLASS_SM) : NULL;
    for (guint i = 0; drivers != NULL && i < drivers->len; i++)
        if (is(record_str(drivers->pdata[i], F_SM_type), record_str(sr, F_SR_type)))
            return value_contains(record_field(drivers->pdata[i], F_SM_capabilities), capability);
    return FALSE;
}

static gboolean check_vdi_use(struct txn *t, const struct record *vdi, int use, const char *op, struct fault *f)
{
    static const char *const offline[] = {"destroy", "forget", "data_destroy", "set_on_boot", "blocked", NULL};
    static const char *const unwritten[] = {"clone", "copy", NULL};
    gboolean frozen = record_bool(vdi, F_VDI_is_a_snapshot);
    if ((use != UNUSED && g_strv_contains(offline, op)) || (use == WRITTEN && g_strv_contains(unwritten, op)) ||
        (use != UNUSED && !frozen && is(op, "list_changed_blocks")) ||
        (use != UNUSED && is(op, "resize") && !sr_can(t, record_str(vdi, F_VDI_SR), "VDI_RESIZE_ONLINE")))
        return fault_set(f, "VDI_IN_USE", vdi->ref, op, NULL);
    return TRUE;
}

/* What goes with images of some types only, or not with changed block tracking. */
static gboolean check_vdi_kind(const struct record *vdi, const char *op, struct fault *f)
{
    static const char *const data[] = {"snapshot", "clone", "resize", "copy", "set_on_boot", "mirror", NULL};
    const char *type = record_str(vdi, F_VDI_type);
    gboolean tracked = record_bool(vdi, F_VDI_cbt_enabled), frozen = record_bool(vdi, F_VDI_is_a_snapshot);
    if (is(type, "cbt_metadata") && g_strv_contains(data, op))
        return fault_set(f, "VDI_INCOMPATIBLE_TYPE", vdi->ref, type, NULL);
    if (tracked && (is(op, "mirror") || is(op, "set_on_boot")))
        return fault_set(f, "VDI_CBT_ENABLED", vdi->ref, NULL);
    if (is(op, "data_destroy") && !frozen)
        return fault_set(f, "OPERATION_NOT_ALLOWED", "VDI is not a snapshot", NULL);
    if (is(op, "data_destroy") && !tracked)
        return fault_set(f, "VDI_NO_CBT_METADATA", vdi->ref, NULL);
    if (!is(op, "enable_cbt") && !is(op, "disable_cbt"))
        return TRUE;
    if (frozen)
        return fault_set(f, "OPERATION_NOT_ALLOWED", "VDI is a snapshot", NULL);
    if (!is(type, "user") && !is(type, "system"))
        return fault_set(f, "VDI_INCOMPATIBLE_TYPE", vdi->ref, type, NULL);
    return !is(record_str(vdi, F_VDI_on_boot), "reset") ||
           fault_set(f, "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION", NULL);
}

static gboolean vdi_allows(struct txn *t, const struct record *vdi, int use, const char *op, struct fault *f)
{
    const struct value *current = record_field(vdi, F_VDI_current_operations);
    for (gsize i = 0; i < value_count(current); i++) {
        const struct value_member *m = &current->u.map.m[i];
        if (is(op, "copy") && is(value_str(m->value), "copy"))
            continue; /* both only read */
        return fault_set(f, "OTHER_OPERATION_IN_PROGRESS", "VDI", vdi->ref, value_str(m->value), value_str(m->key),
                         NULL);
    }
    if (record_bool(vdi, F_VDI_missing) && !is(op, "forget") && !is(op, "destroy"))
        return fault_set(f, "VDI_MISSING", record_str(vdi, F_VDI_SR), vdi->ref, NULL);
    if (!check_vdi_kind(vdi, op, f))
        return FALSE;
    if (is(op, "resize") && record_bool(vdi, F_VDI_is_a_snapshot))
        return fault_set(f, "OPERATION_NOT_ALLOWED", "a snapshot keeps its size", NULL);
    return check_vdi_use(t, vdi, use, op, f);
}

/* A VM that is just being started will write to it. */
gboolean vdi_check(struct txn *t, const struct record *vdi, const char *op, struct fault *f)
{
    return vdi_allows(t, vdi, vdi_is_reserved(vdi->ref) ? WRITTEN : vdi_use(t, vdi), op, f);
}

/* ---- SRs ---- */

static gboolean sr_is_attached(struct txn *t, const struct record *sr)
{
    const struct value *pbds = record_field(sr, F_SR_PBDs);
    for (gsize i = 0; i < value_count(pbds); i++) {
        const struct record *pbd = txn_get(t, CLASS_PBD, value_str(value_at(pbds, i)));
        if (pbd != NULL && record_bool(pbd, F_PBD_currently_attached))
            return TRUE;
    }
    return FALSE;
}

/* What concerns the repository as a whole tolerates nothing beside it, and work on its images nothing of that kind. */
static gboolean sr_is_free(const struct record *sr, const char *op, struct fault *f)
{
    static const char *const whole[] = {"scan", "destroy", "forget", "plug", "unplug", NULL};
    const struct value *current = record_field(sr, F_SR_current_operations);
    for (gsize i = 0; i < value_count(current); i++) {
        const struct value_member *m = &current->u.map.m[i];
        if (g_strv_contains(whole, op) || g_strv_contains(whole, value_str(m->value)))
            return fault_set(f, "OTHER_OPERATION_IN_PROGRESS", "SR", sr->ref, value_str(m->value), value_str(m->key),
                             NULL);
    }
    return TRUE;
}

static gboolean sr_allows(const struct record *sr, gboolean attached, const char *op, struct fault *f)
{
    static const char *const detached[] = {"destroy", "forget", NULL};
    static const char *const always[] = {"plug", "unplug", "update", "pbd_create", "pbd_destroy", NULL};
    if (!sr_is_free(sr, op, f))
        return FALSE;
    if (g_strv_contains(always, op))
        return TRUE;
    if (g_strv_contains(detached, op) && attached)
        return fault_set(f, "SR_HAS_PBD", sr->ref, NULL);
    if (value_count(record_field(sr, F_SR_PBDs)) == 0 && !is(op, "forget"))
        return fault_set(f, "SR_HAS_NO_PBDS", sr->ref, NULL);
    return attached || g_strv_contains(detached, op) || fault_set(f, "SR_NOT_ATTACHED", sr->ref, NULL);
}

gboolean sr_check(struct txn *t, const struct record *sr, const char *op, struct fault *f)
{
    return sr_allows(sr, sr_is_attached(t, sr), op, f);
}

/* ---- hosts ---- */

/* A host that still takes VMs cannot go down; one that does not cannot start any. */
gboolean host_check(const struct record *host, const char *op, struct fault *f)
{
    static const char *const down[] = {"shutdown", "reboot", NULL};
    static const char *const running[] = {"provision", "vm_start", "vm_resume", "vm_migrate", NULL};
    gboolean enabled = record_bool(host, F_host_enabled);
    if (!operation_check_exclusive(host, f))
        return FALSE;
    if (g_strv_contains(down, op))
        return !enabled || fault_set(f, "HOST_NOT_DISABLED", NULL);
    if (g_strv_contains(running, op))
        return enabled || fault_set(f, "HOST_DISABLED", host->ref, NULL);
    return TRUE;
}

/* ---- allowed_operations ---- */

static const char *const vbd_names[] = {"attach", "eject", "insert", "plug", "unplug", "unplug_force"};
static const char *const vbd_qos_names[] = {"ionice"};
static const char *const vif_names[] = {"attach", "plug", "unplug"};
/* Only what clients of all ages know. */
static const char *const vdi_names[] = {"clone",   "copy",   "resize", "snapshot",
                                        "destroy", "forget", "update", "generate_config"};
static const char *const sr_names[] = {"scan",      "destroy",      "forget",        "plug",        "unplug",
                                       "update",    "vdi_create",   "vdi_introduce", "vdi_destroy", "vdi_resize",
                                       "vdi_clone", "vdi_snapshot", "pbd_create",    "pbd_destroy"};
static const char *const host_names[] = {"provision", "evacuate",  "shutdown",  "reboot",
                                         "vm_start",  "vm_resume", "vm_migrate"};

#define SHARED_SET(names, mask) operation_set(names, sizeof *(names), mask)
#define BIT(i)                  ((guint64) 1 << (i))

/* A change of the image's use changes what may be done to the image. */
void vbd_derive(struct txn *t, const char *ref)
{
    struct record *vbd = txn_get(t, CLASS_VBD, ref);
    guint64 mask = 0;
    if (vbd == NULL)
        return;
    for (gsize i = 0; i < G_N_ELEMENTS(vbd_names); i++)
        if (vbd_check(t, vbd, vbd_names[i], NULL))
            mask |= BIT(i);
    txn_set(t, CLASS_VBD, ref, F_VBD_allowed_operations, SHARED_SET(vbd_names, mask));
    txn_set(t, CLASS_VBD, ref, F_VBD_qos_supported_algorithms, SHARED_SET(vbd_qos_names, BIT(0)));
    vdi_derive(t, record_str(vbd, F_VBD_VDI));
}

void vif_derive(struct txn *t, const char *ref)
{
    struct record *vif = txn_get(t, CLASS_VIF, ref);
    guint64 mask = 0;
    if (vif == NULL)
        return;
    for (gsize i = 0; i < G_N_ELEMENTS(vif_names); i++)
        if (vif_check(t, vif, vif_names[i], NULL))
            mask |= BIT(i);
    txn_set(t, CLASS_VIF, ref, F_VIF_allowed_operations, SHARED_SET(vif_names, mask));
}

void vdi_derive(struct txn *t, const char *ref)
{
    struct record *vdi = txn_get(t, CLASS_VDI, ref);
    guint64 mask = 0;
    if (vdi == NULL)
        return;
    int use = vdi_use(t, vdi);
    for (gsize i = 0; i < G_N_ELEMENTS(vdi_names); i++)
        if (vdi_allows(t, vdi, use, vdi_names[i], NULL))
            mask |= BIT(i);
    txn_set(t, CLASS_VDI, ref, F_VDI_allowed_operations, SHARED_SET(vdi_names, mask));
}

void sr_derive(struct txn *t, const char *ref)
{
    struct record *sr = txn_get(t, CLASS_SR, ref);
    guint64 mask = 0;
    if (sr == NULL)
        return;
    gboolean attached = sr_is_attached(t, sr);
    for (gsize i = 0; i < G_N_ELEMENTS(sr_names); i++)
        if (sr_allows(sr, attached, sr_names[i], NULL))
            mask |= BIT(i);
    txn_set(t, CLASS_SR, ref, F_SR_allowed_operations, SHARED_SET(sr_names, mask));
}

void pbd_derive(struct txn *t, const char *ref)
{
    struct record *pbd = txn_get(t, CLASS_PBD, ref);
    if (pbd != NULL)
        sr_derive(t, record_str(pbd, F_PBD_SR));
}

void host_derive(struct txn *t, const char *ref)
{
    struct record *host = txn_get(t, CLASS_host, ref);
    guint64 mask = 0;
    if (host == NULL)
        return;
    for (gsize i = 0; i < G_N_ELEMENTS(host_names); i++)
        if (host_check(host, host_names[i], NULL))
            mask |= BIT(i);
    txn_set(t, CLASS_host, ref, F_host_allowed_operations, SHARED_SET(host_names, mask));
}

/* High availability, clusters and updates are what a pool's operations are about; there is none of them here. */
void pool_derive(G_GNUC_UNUSED struct txn *t, G_GNUC_UNUSED const char *ref)
{
}
