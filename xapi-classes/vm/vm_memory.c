/* vm_memory.c - the memory limits of VMs: static_min <= dynamic_min <= dynamic_max <= static_max. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

#define MIB ((gint64) 1 << 20)

struct limits {
    gint64 static_min, dynamic_min, dynamic_max, static_max;
};

static struct limits limits_of(const struct record *vm)
{
    return (struct limits){record_int(vm, F_VM_memory_static_min), record_int(vm, F_VM_memory_dynamic_min),
                           record_int(vm, F_VM_memory_dynamic_max), record_int(vm, F_VM_memory_static_max)};
}

gboolean vm_check_memory(gint64 static_min, gint64 dynamic_min, gint64 dynamic_max, gint64 static_max, struct fault *f)
{
    if (0 <= static_min && static_min <= dynamic_min && dynamic_min <= dynamic_max && dynamic_max <= static_max)
        return TRUE;
    return fault_set(f, "MEMORY_CONSTRAINT_VIOLATION",
                     "Memory limits must satisfy: static_min <= dynamic_min <= dynamic_max <= static_max", NULL);
}

static void write_limits(struct txn *t, const char *ref, const struct limits *l)
{
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_static_min, l->static_min);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_dynamic_min, l->dynamic_min);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_dynamic_max, l->dynamic_max);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_static_max, l->static_max);
}

/* ---- overhead ---- */

/* What the hypervisor keeps beside the guest's own memory: page tables for each MiB and each virtual CPU of guests
 * that do not bring their own, and room for the device model. */
gint64 vm_memory_overhead(const struct record *vm)
{
    gint64 vcpus = MAX(record_int(vm, F_VM_VCPUs_max), 1);
    gint64 mib = record_int(vm, F_VM_memory_static_max) / MIB;
    double multiplier = record_float(vm, F_VM_HVM_shadow_multiplier);
    if (strcmp(vm_domain_type(vm), "pv") == 0)
        return MIB;
    gint64 shadow = 4096 * (256 * vcpus + 2 * mib);
    return (gint64) ((double) shadow * MAX(multiplier, 1.0)) + 9 * MIB;
}

struct value *vm_compute_memory_overhead(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    return vm != NULL ? value_int(NULL, vm_memory_overhead(vm)) : NULL;
}

/* The overhead grows with the memory, linearly: what is over at full size is taken off again. */
struct value *vm_maximise_memory(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    gint64 total = call_int(c, 1);
    if (vm == NULL)
        return NULL;
    gint64 per_mib = strcmp(vm_domain_type(vm), "pv") == 0 ? 0 : 8192;
    gint64 fixed = vm_memory_overhead(vm) - record_int(vm, F_VM_memory_static_max) / MIB * per_mib;
    gint64 mib = (total - fixed) / (MIB + per_mib);
    return value_int(NULL, MAX(mib, 0) * MIB);
}

/* ---- setters of halted VMs ---- */

static struct value *set_limits(struct call *c, const char *op, void (*change)(struct call *c, struct limits *l))
{
    struct record *vm;
    struct txn *t = vm_begin_change(c, op, &vm);
    if (t == NULL)
        return NULL;
    struct limits l = limits_of(vm);
    change(c, &l);
    if (!vm_check_memory(l.static_min, l.dynamic_min, l.dynamic_max, l.static_max, &c->fault))
        return vm_give_up(c, t);
    write_limits(t, call_str(c, 0), &l);
    return vm_end_change(c, t);
}

static void change_static_min(struct call *c, struct limits *l)
{
    l->static_min = call_int(c, 1);
}

static void change_static_max(struct call *c, struct limits *l)
{
    l->static_max = call_int(c, 1);
}

static void change_static_range(struct call *c, struct limits *l)
{
    l->static_min = call_int(c, 1);
    l->static_max = call_int(c, 2);
}

static void change_limits(struct call *c, struct limits *l)
{
    *l = (struct limits){call_int(c, 1), call_int(c, 3), call_int(c, 4), call_int(c, 2)};
}

static void change_memory(struct call *c, struct limits *l)
{
    l->dynamic_min = l->dynamic_max = l->static_max = call_int(c, 1);
}

struct value *vm_set_memory_static_min(struct call *c)
{
    return set_limits(c, "changing_static_range", change_static_min);
}

struct value *vm_set_memory_static_max(struct call *c)
{
    return set_limits(c, "changing_static_range", change_static_max);
}

struct value *vm_set_memory_static_range(struct call *c)
{
    return set_limits(c, "changing_static_range", change_static_range);
}

/* These two run as tasks, which have been admitted before. */
struct value *vm_set_memory_limits(struct call *c)
{
    return set_limits(c, NULL, change_limits);
}

struct value *vm_set_memory(struct call *c)
{
    return set_limits(c, NULL, change_memory);
}

/* ---- setters that a running VM feels at once ---- */

static gboolean ask_target(struct call *c, const struct record *vm, gint64 target, gboolean wait)
{
    struct value_builder b;
    vm_params(&b, record_str(vm, F_VM_uuid));
    value_builder_put(&b, "target", value_int(NULL, target));
    value_builder_put(&b, "wait", value_bool(wait));
    g_autoptr(value) answer = vm_ask(c, NULL, "domain.set_memory_target", value_builder_end(&b), ASK_LONG_MS);
    return answer != NULL;
}

static struct value *set_dynamic_range(struct call *c, const struct record *vm, gint64 min, gint64 max)
{
    struct limits l = limits_of(vm);
    l.dynamic_min = min;
    l.dynamic_max = max;
    if (!vm_check_memory(l.static_min, l.dynamic_min, l.dynamic_max, l.static_max, &c->fault))
        return NULL;
    if (vm_is(vm, "Running") && max != record_int(vm, F_VM_memory_target) && !ask_target(c, vm, max, FALSE))
        return NULL;
    struct txn *t = txn_begin(the_store());
    if (call_txn_object(c, t, 0) == NULL)
        return vm_give_up(c, t);
    write_limits(t, vm->ref, &l);
    if (vm_is(vm, "Running"))
        txn_set_int(t, CLASS_VM, vm->ref, F_VM_memory_target, max);
    return vm_end_change(c, t);
}

struct value *vm_set_memory_dynamic_range(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    return vm != NULL ? set_dynamic_range(c, vm, call_int(c, 1), call_int(c, 2)) : NULL;
}

struct value *vm_set_memory_dynamic_max(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    return vm != NULL ? set_dynamic_range(c, vm, record_int(vm, F_VM_memory_dynamic_min), call_int(c, 1)) : NULL;
}

struct value *vm_set_memory_dynamic_min(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    return vm != NULL ? set_dynamic_range(c, vm, call_int(c, 1), record_int(vm, F_VM_memory_dynamic_max)) : NULL;
}

/* The target alone, within what the domain can have. */
struct value *vm_set_memory_target_live(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    gint64 target = call_int(c, 1);
    if (vm == NULL)
        return NULL;
    if (target < record_int(vm, F_VM_memory_static_min) || target > record_int(vm, F_VM_memory_static_max))
        return call_fail(c, "MEMORY_CONSTRAINT_VIOLATION", "The target must lie between static_min and static_max",
                         NULL);
    if (!ask_target(c, vm, target, FALSE))
        return NULL;
    struct txn *t = txn_begin(the_store());
    if (call_txn_object(c, t, 0) == NULL)
        return vm_give_up(c, t);
    txn_set_int(t, CLASS_VM, vm->ref, F_VM_memory_target, target);
    return vm_end_change(c, t);
}

struct value *vm_wait_memory_target_live(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    if (vm == NULL)
        return NULL;
    gint64 target = record_int(vm, F_VM_memory_target);
    if (target <= 0)
        target = record_int(vm, F_VM_memory_dynamic_max);
    return ask_target(c, vm, target, TRUE) ? value_void() : NULL;
}

/* ---- shadow memory ---- */

struct value *vm_set_HVM_shadow_multiplier(struct call *c)
{
    struct txn *t = vm_begin_change(c, "changing_shadow_memory", NULL);
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    if (t == NULL)
        return NULL;
    if (call_float(c, 1) < 1.0) {
        call_fail(c, "INVALID_VALUE", "HVM_shadow_multiplier", g_ascii_dtostr(text, sizeof text, call_float(c, 1)),
                  NULL);
        return vm_give_up(c, t);
    }
    txn_set_float(t, CLASS_VM, call_str(c, 0), F_VM_HVM_shadow_multiplier, call_float(c, 1));
    return vm_end_change(c, t);
}

/* A domain's shadow memory is laid out when it is built. */
struct value *vm_set_shadow_multiplier_live(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    double wanted = call_float(c, 1);
    if (vm == NULL)
        return NULL;
    if (wanted == record_float(vm, F_VM_HVM_shadow_multiplier))
        return value_void();
    g_ascii_dtostr(text, sizeof text, wanted);
    if (!(wanted >= 1.0))
        return call_fail(c, "INVALID_VALUE", "multiplier", text, NULL);
    return call_fail(c, "VALUE_NOT_SUPPORTED", "multiplier", text, "it can be changed while the VM is halted", NULL);
}
