/* xva_records.c - the records of an imported VM, made from those in ova.xml. */
#include "config.h"

#include <string.h>

#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"
#include "xapi-classes/transfers/xva.h"

static const char *field(const struct xva_object *o, const char *name)
{
    return value_get_str(o->snapshot, name, "");
}

static gboolean flag(const struct xva_object *o, const char *name)
{
    return value_as_bool(value_get(o->snapshot, name));
}

static struct xva_object *linked(const struct xva_plan *p, const struct xva_object *o, const char *name)
{
    return xva_ova_find(p->ova, field(o, name));
}

/* What the object that a field refers to has become here. */
static const char *linked_ref(const struct xva_plan *p, const struct xva_object *o, const char *name)
{
    const struct xva_object *other = linked(p, o, name);
    return other && *other->ref ? other->ref : NULL_REF;
}

static gboolean is_disk_drive(const struct xva_object *o)
{
    return o->class->id == CLASS_VBD && strcmp(field(o, "type"), "CD") != 0;
}

const struct xva_object *xva_memory_of(const struct xva_plan *p, const struct xva_object *vdi)
{
    for (guint i = 0; i < p->ova->objects->len; i++) {
        const struct xva_object *o = p->ova->objects->pdata[i];
        if (o->class->id == CLASS_VM && strcmp(field(o, "power_state"), "Suspended") == 0 &&
            linked(p, o, "suspend_VDI") == vdi)
            return o;
    }
    return NULL;
}

gboolean xva_is_disk(const struct xva_plan *p, const struct xva_object *vdi)
{
    if (vdi->class->id != CLASS_VDI)
        return FALSE;
    if (xva_memory_of(p, vdi))
        return TRUE;
    for (guint i = 0; i < p->ova->objects->len; i++) {
        const struct xva_object *o = p->ova->objects->pdata[i];
        if (is_disk_drive(o) && linked(p, o, "VDI") == vdi)
            return TRUE;
    }
    return FALSE;
}

/* ---- what is here already ---- */

static gboolean take(struct xva_object *o, struct record *found)
{
    g_autoptr(record) r = found;
    if (!r)
        return FALSE;
    g_strlcpy(o->ref, r->ref, sizeof o->ref);
    return TRUE;
}

static struct record *first_named(enum class_id class, const char *name)
{
    g_autoptr(GPtrArray) same = store_by_name(the_store(), class, name);
    return *name && same->len > 0 ? record_ref(same->pdata[0]) : NULL;
}

static struct record *network_on(const char *bridge)
{
    g_autoptr(GPtrArray) all = store_all(the_store(), CLASS_network);
    for (guint i = 0; *bridge && i < all->len; i++)
        if (strcmp(record_str(all->pdata[i], F_network_bridge), bridge) == 0)
            return record_ref(all->pdata[i]);
    return NULL;
}

static void find_network(struct xva_object *o)
{
    if (!take(o, store_get_by_uuid(the_store(), CLASS_network, field(o, "uuid"))) &&
        !take(o, first_named(CLASS_network, field(o, "name_label"))))
        take(o, network_on(field(o, "bridge")));
}

/* A CD in a drive: the same image, or one of the same name in a library. */
static void find_cd(struct xva_object *o)
{
    if (take(o, store_get_by_uuid(the_store(), CLASS_VDI, field(o, "uuid"))))
        return;
    g_autoptr(record) named = first_named(CLASS_VDI, field(o, "name_label"));
    g_autoptr(record) sr = named ? store_get(the_store(), CLASS_SR, record_str(named, F_VDI_SR)) : NULL;
    if (sr && strcmp(record_str(sr, F_SR_content_type), "iso") == 0)
        take(o, record_ref(named));
}

gboolean xva_find_existing(struct xva_plan *p, struct fault *f)
{
    for (guint i = 0; i < p->ova->objects->len; i++) {
        struct xva_object *o = p->ova->objects->pdata[i];
        gboolean disk = xva_is_disk(p, o);
        if (o->class->id == CLASS_network)
            find_network(o);
        else if (o->class->id == CLASS_VDI && !disk)
            find_cd(o);
        else if (disk && !p->sr && !take(o, store_get_by_uuid(the_store(), CLASS_VDI, field(o, "uuid"))) && !p->force)
            return fault_set(f, "IMPORT_ERROR_ATTACHED_DISKS_NOT_FOUND", NULL);
    }
    return TRUE;
}

/* ---- new ones ---- */

static gboolean is_one_of(const char *name, const char *const *names)
{
    return names && g_strv_contains(names, name);
}

static gboolean is_reference(const struct type *type)
{
    return type->kind == TYPE_REF || (type->kind == TYPE_SET && type->elem->kind == TYPE_REF) ||
           (type->kind == TYPE_MAP && (type->elem->kind == TYPE_REF || type->key->kind == TYPE_REF));
}

/* All but references, which are others here, and what is named. */
static void copy_fields(struct txn *t, const struct xva_object *o, const char *ref, const char *const *own)
{
    static const char *const always[] = {"uuid", "allowed_operations", "current_operations", NULL};
    for (int i = 0; i < o->class->n_fields; i++) {
        const struct field *f = &o->class->fields[i];
        struct value *v = value_get(o->snapshot, f->name);
        if (v && !f->mirrors && !is_reference(f->type) && !is_one_of(f->name, always) && !is_one_of(f->name, own))
            txn_set(t, o->class->id, ref, i, value_ref(v));
    }
}

static gboolean uuid_is_free(const char *uuid, enum class_id class)
{
    g_autoptr(record) r = store_get_by_uuid(the_store(), class, uuid);
    return r == NULL && uuid_is_valid(uuid);
}

static const char *create(struct xva_plan *p, struct txn *t, struct xva_object *o)
{
    const char *uuid = field(o, "uuid");
    gboolean keep = p->restore && uuid_is_free(uuid, o->class->id);
    const char *ref = txn_create(t, o->class->id, NULL, keep ? uuid : NULL);
    g_strlcpy(o->ref, ref, sizeof o->ref);
    return ref;
}

const char *xva_make_vdi(struct xva_plan *p, struct txn *t, const struct xva_object *o, const char *uuid,
                         struct value *image)
{
    static const char *const own[] = {"location",
                                      "managed",
                                      "missing",
                                      "sm_config",
                                      "physical_utilisation",
                                      "virtual_size",
                                      "storage_lock",
                                      "cbt_enabled",
                                      "is_tools_iso",
                                      "metadata_latest",
                                      "read_only",
                                      NULL};
    const char *ref = txn_create(t, CLASS_VDI, NULL, uuid);
    copy_fields(t, o, ref, own);
    txn_set_str(t, CLASS_VDI, ref, F_VDI_SR, p->sr->ref);
    vdi_apply(t, ref, image);
    return ref;
}

static const char *make_network(struct txn *t, struct xva_object *o)
{
    static const char *const own[] = {"bridge", "managed", "assigned_ips", NULL};
    const char *ref = txn_create(t, CLASS_network, NULL, NULL);
    gsize n = store_count(the_store(), CLASS_network);
    g_autoptr(record) taken = NULL;
    g_autofree char *bridge = NULL;
    do {
        g_clear_pointer(&taken, record_unref);
        g_free(bridge);
        bridge = g_strdup_printf("xapi%" G_GSIZE_FORMAT, n++);
    } while ((taken = network_on(bridge)));
    copy_fields(t, o, ref, own);
    txn_set_str(t, CLASS_network, ref, F_network_bridge, bridge);
    g_strlcpy(o->ref, ref, sizeof o->ref);
    return o->ref;
}

/* The devices of a suspended VM stay its own: its memory believes in them. */
static gboolean is_attached(struct txn *t, const struct xva_object *o, const char *vm)
{
    return flag(o, "currently_attached") &&
           strcmp(record_str(txn_get(t, CLASS_VM, vm), F_VM_power_state), "Suspended") == 0;
}

static void make_vbd(struct xva_plan *p, struct txn *t, struct xva_object *o, const char *vm)
{
    static const char *const own[] = {
        "currently_attached", "status_code", "status_detail", "runtime_properties", "empty", "storage_lock", NULL};
    const char *vdi = linked_ref(p, o, "VDI");
    if (ref_is_null(vdi) && is_disk_drive(o))
        return; /* a disk that was not brought */
    const char *ref = create(p, t, o);
    copy_fields(t, o, ref, own);
    txn_set_str(t, CLASS_VBD, ref, F_VBD_VM, vm);
    txn_set_str(t, CLASS_VBD, ref, F_VBD_VDI, vdi);
    txn_set_bool(t, CLASS_VBD, ref, F_VBD_empty, ref_is_null(vdi));
    txn_set_bool(t, CLASS_VBD, ref, F_VBD_currently_attached, is_attached(t, o, vm));
}

static void make_vif(struct xva_plan *p, struct txn *t, struct xva_object *o, const char *vm)
{
    static const char *const own[] = {"currently_attached", "status_code", "status_detail", "runtime_properties", NULL};
    struct xva_object *network = linked(p, o, "network");
    if (!network || network->class->id != CLASS_network)
        return;
    const char *on = *network->ref ? network->ref : make_network(t, network);
    const char *ref = create(p, t, o);
    copy_fields(t, o, ref, own);
    txn_set_str(t, CLASS_VIF, ref, F_VIF_VM, vm);
    txn_set_str(t, CLASS_VIF, ref, F_VIF_network, on);
    txn_set_bool(t, CLASS_VIF, ref, F_VIF_currently_attached, is_attached(t, o, vm));
    if (p->restore && mac_is_valid(field(o, "MAC")))
        return;
    const char *seed = record_key(txn_get(t, CLASS_VM, vm), F_VM_other_config, "mac_seed");
    char mac[18];
    mac_from_seed(seed ? seed : ref, field(o, "device"), mac);
    txn_set_str(t, CLASS_VIF, ref, F_VIF_MAC, mac);
    txn_set_bool(t, CLASS_VIF, ref, F_VIF_MAC_autogenerated, TRUE);
}

static void make_devices(struct xva_plan *p, struct txn *t, const struct xva_object *vm)
{
    for (guint i = 0; i < p->ova->objects->len; i++) {
        struct xva_object *o = p->ova->objects->pdata[i];
        if (o->class->id == CLASS_VBD && linked(p, o, "VM") == vm)
            make_vbd(p, t, o, vm->ref);
        else if (o->class->id == CLASS_VIF && linked(p, o, "VM") == vm)
            make_vif(p, t, o, vm->ref);
    }
}

/* The memory says whose it is; under another uuid that must be known when it is loaded. */
static void resumable(struct xva_plan *p, struct txn *t, const struct xva_object *o)
{
    const struct xva_object *memory = linked(p, o, "suspend_VDI");
    if (!p->sr || strcmp(field(o, "power_state"), "Suspended") != 0 || !memory || !*memory->ref)
        return;
    struct record *vdi = txn_get(t, CLASS_VDI, memory->ref);
    if (!vdi)
        return;
    const struct xva_object *saved = flag(o, "is_a_snapshot") ? linked(p, o, "snapshot_of") : o;
    if (saved && !record_key(vdi, F_VDI_other_config, VM_SAVED_AS))
        txn_put_key(t, CLASS_VDI, memory->ref, F_VDI_other_config, VM_SAVED_AS, field(saved, "uuid"));
    txn_set_str(t, CLASS_VM, o->ref, F_VM_power_state, "Suspended");
    txn_set_str(t, CLASS_VM, o->ref, F_VM_suspend_VDI, memory->ref);
    txn_set_str(t, CLASS_VM, o->ref, F_VM_last_booted_record, field(o, "last_booted_record"));
}

/* Numbers that no VM may have become such that any may. */
static void tame(struct txn *t, const char *ref)
{
    struct record *vm = txn_get(t, CLASS_VM, ref);
    gint64 max = MAX(record_int(vm, F_VM_VCPUs_max), 1), most = record_int(vm, F_VM_memory_static_max);
    txn_set_int(t, CLASS_VM, ref, F_VM_VCPUs_max, max);
    txn_set_int(t, CLASS_VM, ref, F_VM_VCPUs_at_startup, CLAMP(record_int(vm, F_VM_VCPUs_at_startup), 1, max));
    if (vm_check_memory(record_int(vm, F_VM_memory_static_min), record_int(vm, F_VM_memory_dynamic_min),
                        record_int(vm, F_VM_memory_dynamic_max), most, NULL))
        return;
    most = MAX(most, 16 << 20);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_static_min, 0);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_dynamic_min, most);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_dynamic_max, most);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_static_max, most);
}

static void make_vm(struct xva_plan *p, struct txn *t, struct xva_object *o)
{
    static const char *const own[] = {"power_state",
                                      "domid",
                                      "domarch",
                                      "is_default_template",
                                      "is_control_domain",
                                      "is_vmss_snapshot",
                                      "requires_reboot",
                                      "blocked_operations",
                                      "ha_always_run",
                                      "ha_restart_priority",
                                      "memory_overhead",
                                      "memory_target",
                                      "last_booted_record",
                                      "last_boot_CPU_flags",
                                      NULL};
    const char *ref = create(p, t, o);
    copy_fields(t, o, ref, own);
    txn_set_int(t, CLASS_VM, ref, F_VM_domid, -1);
    txn_set_str(t, CLASS_VM, ref, F_VM_power_state, "Halted");
    if (!p->restore && !flag(o, "is_a_snapshot")) {
        char seed[UUID_SIZE];
        uuid_generate_text(seed);
        txn_put_key(t, CLASS_VM, ref, F_VM_other_config, "mac_seed", seed);
    }
    tame(t, ref);
    vm_metrics_of(t, ref);
}

static gboolean is_vm(const struct xva_object *o)
{
    return o->class->id == CLASS_VM && !flag(o, "is_control_domain");
}

/* A snapshot that comes without what it is one of: a template, with disks of its own. */
static gboolean is_orphan(const struct xva_plan *p, const struct xva_object *o)
{
    return !p->restore && flag(o, "is_a_snapshot") && !linked(p, o, "snapshot_of");
}

static void link_vm(const struct xva_plan *p, struct txn *t, const struct xva_object *o)
{
    if (is_orphan(p, o))
        txn_set_bool(t, CLASS_VM, o->ref, F_VM_is_a_snapshot, FALSE);
    txn_set_str(t, CLASS_VM, o->ref, F_VM_snapshot_of, linked_ref(p, o, "snapshot_of"));
    txn_set_str(t, CLASS_VM, o->ref, F_VM_parent, linked_ref(p, o, "parent"));
}

static void link_vdi(const struct xva_plan *p, struct txn *t, const struct xva_object *o)
{
    if (!p->sr || !*o->ref || !txn_get(t, CLASS_VDI, o->ref))
        return;
    if (is_orphan(p, o))
        txn_set_bool(t, CLASS_VDI, o->ref, F_VDI_is_a_snapshot, FALSE);
    txn_set_str(t, CLASS_VDI, o->ref, F_VDI_snapshot_of, linked_ref(p, o, "snapshot_of"));
}

/* The VMs themselves; of a snapshot that was exported alone, that. */
static struct value *result_of(const struct xva_plan *p)
{
    struct value_builder b;
    value_builder_set(&b, NULL, 1);
    for (int snapshots = 0; snapshots < 2 && b.n == 0; snapshots++)
        for (guint i = 0; i < p->ova->objects->len; i++) {
            const struct xva_object *o = p->ova->objects->pdata[i];
            if (is_vm(o) && (snapshots || !flag(o, "is_a_snapshot")))
                value_builder_add_string(&b, o->ref);
        }
    return value_builder_end(&b);
}

struct value *xva_make_vms(struct xva_plan *p, struct txn *t)
{
    GPtrArray *objects = p->ova->objects;
    for (guint i = 0; i < objects->len; i++)
        if (is_vm(objects->pdata[i]))
            make_vm(p, t, objects->pdata[i]);
    for (guint i = 0; i < objects->len; i++) {
        const struct xva_object *o = objects->pdata[i];
        if (is_vm(o)) {
            link_vm(p, t, o);
            resumable(p, t, o);
            make_devices(p, t, o);
        } else if (xva_is_disk(p, o)) {
            link_vdi(p, t, o);
        }
    }
    return result_of(p);
}
