/* vm_vcpus.c - the virtual CPUs of VMs: how many, and how they are scheduled. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

static struct value *fail_number(struct call *c, const char *field, gint64 n)
{
    char text[24];
    g_snprintf(text, sizeof text, "%" G_GINT64_FORMAT, n);
    return call_fail(c, "INVALID_VALUE", field, text, NULL);
}

struct value *vm_set_VCPUs_max(struct call *c)
{
    struct record *vm;
    struct txn *t = vm_begin_change(c, "changing_VCPUs", &vm);
    gint64 n = call_int(c, 1);
    if (t == NULL)
        return NULL;
    if (n < 1 || n < record_int(vm, F_VM_VCPUs_at_startup)) {
        fail_number(c, "VCPUs_max", n);
        return vm_give_up(c, t);
    }
    txn_set_int(t, CLASS_VM, call_str(c, 0), F_VM_VCPUs_max, n);
    return vm_end_change(c, t);
}

struct value *vm_set_VCPUs_at_startup(struct call *c)
{
    struct record *vm;
    struct txn *t = vm_begin_change(c, "changing_VCPUs", &vm);
    gint64 n = call_int(c, 1);
    if (t == NULL)
        return NULL;
    if (n < 1 || n > record_int(vm, F_VM_VCPUs_max)) {
        fail_number(c, "VCPUs_at_startup", n);
        return vm_give_up(c, t);
    }
    txn_set_int(t, CLASS_VM, call_str(c, 0), F_VM_VCPUs_at_startup, n);
    return vm_end_change(c, t);
}

struct value *vm_set_VCPUs_number_live(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    gint64 n = call_int(c, 1);
    struct value_builder b;
    if (vm == NULL)
        return NULL;
    if (n < 1 || n > record_int(vm, F_VM_VCPUs_max))
        return fail_number(c, "nvcpu", n);
    vm_params(&b, record_str(vm, F_VM_uuid));
    value_builder_put(&b, "vcpus", value_int(NULL, n));
    g_autoptr(value) answer = vm_ask(c, NULL, "domain.set_vcpus", value_builder_end(&b), ASK_QUICK_MS);
    if (answer == NULL)
        return NULL;
    struct txn *t = txn_begin(the_store());
    if (call_txn_object(c, t, 0) == NULL)
        return vm_give_up(c, t);
    txn_set_int(t, CLASS_VM, vm->ref, F_VM_VCPUs_at_startup, n);
    txn_set_int(t, CLASS_VM_metrics, vm_metrics_of(t, vm->ref), F_VM_metrics_VCPUs_number, n);
    return vm_end_change(c, t);
}

/* ---- scheduling ---- */

/* The record first, in memory only: the description for the backend is made of it. */
static struct record *with_param(struct call *c, const char *key, const char *value)
{
    struct txn *t = txn_begin(the_store());
    struct record *vm = call_txn_object(c, t, 0), *changed = NULL;
    if (vm != NULL) {
        txn_put_key(t, CLASS_VM, call_str(c, 0), F_VM_VCPUs_params, key, value);
        changed = record_ref(txn_get(t, CLASS_VM, call_str(c, 0)));
    }
    txn_abort(t);
    return changed;
}

struct value *vm_add_to_VCPUs_params_live(struct call *c)
{
    g_autoptr(record) vm = with_param(c, call_str(c, 1), call_str(c, 2));
    struct value_builder b;
    if (vm == NULL)
        return NULL;
    vm_params(&b, record_str(vm, F_VM_uuid));
    vm_put_scheduling(&b, vm);
    g_autoptr(value) answer = vm_ask(c, NULL, "domain.set_scheduler", value_builder_end(&b), ASK_QUICK_MS);
    if (answer == NULL)
        return NULL;
    struct txn *t = txn_begin(the_store());
    if (call_txn_object(c, t, 0) == NULL)
        return vm_give_up(c, t);
    txn_put_key(t, CLASS_VM, vm->ref, F_VM_VCPUs_params, call_str(c, 1), call_str(c, 2));
    txn_set(t, CLASS_VM_metrics, vm_metrics_of(t, vm->ref), F_VM_metrics_VCPUs_params,
            value_ref(record_field(vm, F_VM_VCPUs_params)));
    return vm_end_change(c, t);
}
