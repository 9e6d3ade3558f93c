/* vm_recover.c - recovery of VMs and appliances into the pool of another session, which here is always this pool; what
 * a VM offers to others. */
#include "auth/session.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

/* ---- sessions ---- */

/* Only this daemon's sessions can be handed in. */
static gboolean check_target(struct call *c, int arg)
{
    struct session *s = session_find(call_str(c, arg));
    if (s == NULL)
        return fault_set(&c->fault, "HANDLE_INVALID", "session", call_str(c, arg), NULL);
    session_unref(s);
    return TRUE;
}

/* ---- repositories ---- */

static void add_srs(const struct record *vm, GPtrArray *srs)
{
    const struct value *vbds = record_field(vm, F_VM_VBDs);
    for (gsize i = 0; i < value_count(vbds); i++) {
        g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, value_str(value_at(vbds, i)));
        if (vbd == NULL || strcmp(record_str(vbd, F_VBD_type), "Disk") != 0)
            continue;
        g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, record_str(vbd, F_VBD_VDI));
        g_autoptr(record) sr = vdi != NULL ? store_get(the_store(), CLASS_SR, record_str(vdi, F_VDI_SR)) : NULL;
        if (sr != NULL && !g_ptr_array_find_with_equal_func(srs, sr->ref, g_str_equal, NULL))
            g_ptr_array_add(srs, g_strdup(sr->ref));
    }
}

static gboolean check_srs(const struct record *vm, struct fault *f)
{
    g_autoptr(GPtrArray) srs = g_ptr_array_new_with_free_func(g_free);
    add_srs(vm, srs);
    for (guint i = 0; i < srs->len; i++) {
        struct fault why = FAULT_INIT;
        g_autoptr(record) sr = storage_attached_sr(g_ptr_array_index(srs, i), &why);
        fault_clear(&why);
        if (sr == NULL)
            return fault_set(f, "VM_REQUIRES_SR", vm->ref, (char *) g_ptr_array_index(srs, i), NULL);
    }
    return TRUE;
}

static struct value *srs_value(GPtrArray *srs)
{
    struct value_builder b;
    value_builder_set(&b, NULL, srs->len);
    for (guint i = 0; i < srs->len; i++)
        value_builder_add_string(&b, g_ptr_array_index(srs, i));
    return value_builder_end(&b);
}

/* A VM that is here already is recovered by counting it as newer, and only if that is forced. */
static gboolean take(struct call *c, struct txn *t, const char *ref, gboolean force)
{
    const struct record *vm = txn_get(t, CLASS_VM, ref);
    if (vm == NULL)
        return fault_set(&c->fault, "HANDLE_INVALID", "VM", ref, NULL);
    gint64 version = record_int(vm, F_VM_version);
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, version);
    if (!force)
        return fault_set(&c->fault, "VM_TO_IMPORT_IS_NOT_NEWER_VERSION", ref, text, text, NULL);
    txn_set_int(t, CLASS_VM, ref, F_VM_version, version + 1);
    return TRUE;
}

/* ---- VMs ---- */

struct value *vm_get_SRs_required_for_recovery(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    g_autoptr(GPtrArray) srs = g_ptr_array_new_with_free_func(g_free);
    if (vm == NULL || !check_target(c, 1))
        return NULL;
    add_srs(vm, srs);
    return srs_value(srs);
}

static gboolean check_vm(struct call *c, const struct record *vm)
{
    const char *appliance = record_str(vm, F_VM_appliance);
    if (!ref_is_null(appliance))
        return fault_set(&c->fault, "VM_IS_PART_OF_AN_APPLIANCE", vm->ref, appliance, NULL);
    return check_srs(vm, &c->fault);
}

struct value *vm_assert_can_be_recovered(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    return vm != NULL && check_target(c, 1) && check_vm(c, vm) ? value_void() : NULL;
}

struct value *vm_recover(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    if (vm == NULL || !check_target(c, 1) || !check_vm(c, vm))
        return NULL;
    struct txn *t = txn_begin(the_store());
    return take(c, t, vm->ref, call_bool(c, 2)) ? vm_end_change(c, t) : vm_give_up(c, t);
}

/* ---- appliances ---- */

static GPtrArray *members(struct call *c)
{
    g_autoptr(record) appliance = call_object(c, 0);
    return appliance != NULL && check_target(c, 1) ? appliance_members(appliance) : NULL;
}

struct value *vm_appliance_get_SRs_required_for_recovery(struct call *c)
{
    g_autoptr(GPtrArray) vms = members(c), srs = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; vms != NULL && i < vms->len; i++)
        add_srs(g_ptr_array_index(vms, i), srs);
    return vms != NULL ? srs_value(srs) : NULL;
}

static gboolean check_members(struct call *c, GPtrArray *vms)
{
    for (guint i = 0; i < vms->len; i++)
        if (!check_srs(g_ptr_array_index(vms, i), &c->fault))
            return FALSE;
    return TRUE;
}

struct value *vm_appliance_assert_can_be_recovered(struct call *c)
{
    g_autoptr(GPtrArray) vms = members(c);
    return vms != NULL && check_members(c, vms) ? value_void() : NULL;
}

struct value *vm_appliance_recover(struct call *c)
{
    g_autoptr(GPtrArray) vms = members(c);
    if (vms == NULL || !check_members(c, vms))
        return NULL;
    struct txn *t = txn_begin(the_store());
    for (guint i = 0; i < vms->len; i++)
        if (!take(c, t, ((struct record *) g_ptr_array_index(vms, i))->ref, call_bool(c, 2)))
            return vm_give_up(c, t);
    return vm_end_change(c, t);
}

/* ---- disaster recovery ---- */

struct value *dr_task_create(struct call *c)
{
    return call_fail(c, "OPERATION_NOT_ALLOWED",
                     "no replicated repositories can be attached: introduce the SR and import what it holds", NULL);
}

/* There are none. */
struct value *dr_task_destroy(struct call *c)
{
    g_autoptr(record) task = call_object(c, 0);
    return task != NULL ? call_fail(c, "CANNOT_DESTROY_DISASTER_RECOVERY_TASK", "it was not made here", NULL) : NULL;
}

/* ---- services ---- */

/* What a driver domain would offer; guests here offer nothing. */
struct value *vm_query_services(struct call *c)
{
    struct txn *t = vm_begin_change(c, "query_services", NULL);
    if (t == NULL)
        return NULL;
    txn_abort(t);
    return value_empty_map();
}
