/* vm_create.c - VM.create and VM.destroy. */
#include "xapi-classes/cpu_pool.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

/* ---- VM.create: what the client left out ---- */

static gboolean says(const struct value *args, const char *field)
{
    return value_get(args, field) != NULL;
}

static void default_int(struct txn *t, const char *ref, const struct value *args, int field, gint64 value)
{
    if (!says(args, class_by_id(CLASS_VM)->fields[field].name))
        txn_set_int(t, CLASS_VM, ref, field, value);
}

static gint64 vm_int(struct txn *t, const char *ref, int field)
{
    return record_int(txn_get(t, CLASS_VM, ref), field);
}

static void default_size(struct txn *t, const char *ref, const struct value *args)
{
    default_int(t, ref, args, F_VM_VCPUs_max,
                says(args, "VCPUs_at_startup") ? vm_int(t, ref, F_VM_VCPUs_at_startup) : 1);
    default_int(t, ref, args, F_VM_VCPUs_at_startup, vm_int(t, ref, F_VM_VCPUs_max));
    default_int(t, ref, args, F_VM_memory_dynamic_max, vm_int(t, ref, F_VM_memory_static_max));
    default_int(t, ref, args, F_VM_memory_dynamic_min, vm_int(t, ref, F_VM_memory_dynamic_max));
}

static void default_actions(struct txn *t, const char *ref, const struct value *args)
{
    if (!says(args, "actions_after_reboot"))
        txn_set_str(t, CLASS_VM, ref, F_VM_actions_after_reboot, "restart");
    if (!says(args, "actions_after_crash"))
        txn_set_str(t, CLASS_VM, ref, F_VM_actions_after_crash, "restart");
}

/* The older way to say that a VM is HVM and the newer one follow each other. */
static void default_domain_type(struct txn *t, const char *ref)
{
    const struct record *vm = txn_get(t, CLASS_VM, ref);
    gboolean policy = *record_str(vm, F_VM_HVM_boot_policy) != '\0';
    const char *type = record_str(vm, F_VM_domain_type);
    if (strcmp(type, "unspecified") == 0)
        txn_set_str(t, CLASS_VM, ref, F_VM_domain_type, policy ? "hvm" : "pv");
    else if (strcmp(type, "hvm") == 0 && !policy)
        txn_set_str(t, CLASS_VM, ref, F_VM_HVM_boot_policy, "BIOS order");
}

/* A client may describe a VM that is suspended elsewhere; none can make one that runs. */
static void default_state(struct txn *t, const char *ref)
{
    const struct record *vm = txn_get(t, CLASS_VM, ref);
    if (!vm_is(vm, "Suspended") || ref_is_null(record_str(vm, F_VM_suspend_VDI)))
        txn_set_str(t, CLASS_VM, ref, F_VM_power_state, "Halted");
    txn_set_int(t, CLASS_VM, ref, F_VM_domid, -1);
    if (record_key(vm, F_VM_other_config, "mac_seed") == NULL) {
        char seed[UUID_SIZE];
        uuid_generate_text(seed);
        txn_put_key(t, CLASS_VM, ref, F_VM_other_config, "mac_seed", seed);
    }
}

/* ---- VM.create: what cannot be ---- */

static gboolean check_vcpus(const struct record *vm, struct fault *f)
{
    gint64 max = record_int(vm, F_VM_VCPUs_max), startup = record_int(vm, F_VM_VCPUs_at_startup);
    char text[24];
    g_snprintf(text, sizeof text, "%" G_GINT64_FORMAT, max < 1 ? max : startup);
    if (max < 1)
        return fault_set(f, "INVALID_VALUE", "VCPUs_max", text, NULL);
    if (startup < 1 || startup > max)
        return fault_set(f, "INVALID_VALUE", "VCPUs_at_startup", text, NULL);
    return TRUE;
}

static gboolean check_new(const struct record *vm, struct fault *f)
{
    return check_vcpus(vm, f) &&
           vm_check_memory(record_int(vm, F_VM_memory_static_min), record_int(vm, F_VM_memory_dynamic_min),
                           record_int(vm, F_VM_memory_dynamic_max), record_int(vm, F_VM_memory_static_max), f);
}

struct value *vm_create(struct call *c)
{
    struct value *args = call_arg(c, 0);
    struct txn *t = txn_begin(the_store());
    g_autoptr(value) result = generic_create_in(c, t, NULL);
    if (result == NULL)
        return vm_give_up(c, t);
    const char *ref = value_str(result);
    default_size(t, ref, args);
    default_actions(t, ref, args);
    default_domain_type(t, ref);
    default_state(t, ref);
    if (!check_new(txn_get(t, CLASS_VM, ref), &c->fault))
        return vm_give_up(c, t);
    vm_metrics_of(t, ref);
    call_commit(c, t);
    return g_steal_pointer(&result);
}

/* ---- VM.destroy ---- */

static void destroy_all(struct txn *t, const struct value *refs, enum class_id class)
{
    for (gsize i = 0; i < value_count(refs); i++)
        if (txn_get(t, class, value_str(value_at(refs, i))) != NULL)
            txn_destroy(t, class, value_str(value_at(refs, i)));
}

static void destroy_one(struct txn *t, const char *ref, enum class_id class)
{
    if (txn_get(t, class, ref) != NULL)
        txn_destroy(t, class, ref);
}

/* Those that pointed here point nowhere now. */
static void forget_links(struct txn *t, const struct record *vm)
{
    const struct value *snapshots = record_field(vm, F_VM_snapshots), *children = record_field(vm, F_VM_children);
    for (gsize i = 0; i < value_count(snapshots); i++)
        txn_set_str(t, CLASS_VM, value_str(value_at(snapshots, i)), F_VM_snapshot_of, NULL_REF);
    for (gsize i = 0; i < value_count(children); i++)
        txn_set_str(t, CLASS_VM, value_str(value_at(children, i)), F_VM_parent, record_str(vm, F_VM_parent));
}

void vm_destroy_record(struct txn *t, const struct record *vm)
{
    destroy_all(t, record_field(vm, F_VM_VBDs), CLASS_VBD);
    destroy_all(t, record_field(vm, F_VM_VIFs), CLASS_VIF);
    destroy_all(t, record_field(vm, F_VM_consoles), CLASS_console);
    destroy_all(t, record_field(vm, F_VM_VTPMs), CLASS_VTPM);
    destroy_all(t, record_field(vm, F_VM_crash_dumps), CLASS_crashdump);
    destroy_one(t, record_str(vm, F_VM_metrics), CLASS_VM_metrics);
    destroy_one(t, record_str(vm, F_VM_guest_metrics), CLASS_VM_guest_metrics);
    forget_links(t, vm);
    cpu_pool_leave(t, vm->ref);
    txn_destroy(t, CLASS_VM, vm->ref);
}

/* A suspended VM leaves an image of its memory, which goes first. Disks are not the VM's to destroy. */
struct value *vm_destroy(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    g_auto(vm_work) w = VM_WORK_INIT;
    if (vm == NULL)
        return NULL;
    if (vm_is(vm, "Suspended")) {
        vm_work_begin(&w, vm);
        if (!vm_do_destroy_domain(c, &w, vm))
            return NULL;
        vm_work_end(&w);
    }
    struct txn *t = txn_begin(the_store());
    if (call_txn_object(c, t, 0) == NULL)
        return vm_give_up(c, t);
    vm_destroy_record(t, txn_get(t, CLASS_VM, vm->ref));
    call_commit(c, t);
    vm_watch_forget(record_str(vm, F_VM_uuid));
    return value_void();
}
