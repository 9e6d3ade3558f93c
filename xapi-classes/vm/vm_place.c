/* vm_place.c - where a VM could run: assert_can_boot_here, get_possible_hosts, assert_agile. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/vm/vm.h"

/* What the host has left, as far as it is known. */
static gboolean check_free_memory(struct txn *t, const struct record *vm, const char *host_ref, struct fault *f)
{
    const struct record *host = txn_get(t, CLASS_host, host_ref);
    const struct record *metrics =
        host != NULL ? txn_get(t, CLASS_host_metrics, record_str(host, F_host_metrics)) : NULL;
    char needed[24], available[24];
    if (metrics == NULL)
        return TRUE;
    gint64 need = record_int(vm, F_VM_memory_dynamic_max) + vm_memory_overhead(vm);
    gint64 have = record_int(metrics, F_host_metrics_memory_free);
    g_snprintf(needed, sizeof needed, "%" G_GINT64_FORMAT, need);
    g_snprintf(available, sizeof available, "%" G_GINT64_FORMAT, have);
    return need <= have || fault_set(f, "HOST_NOT_ENOUGH_FREE_MEMORY", needed, available, NULL);
}

static gboolean check_here(struct txn *t, const struct record *vm, const char *host, struct fault *f)
{
    return vm_check_bootable(t, vm, host, f) && disks_check(t, vm, "start", f) && check_free_memory(t, vm, host, f);
}

struct value *vm_assert_can_boot_here(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *vm = call_txn_object(c, t, 0);
    gboolean can = vm != NULL && call_txn_object(c, t, 1) != NULL && check_here(t, vm, call_str(c, 1), &c->fault);
    txn_abort(t);
    return can ? value_void() : NULL;
}

struct value *vm_get_possible_hosts(struct call *c)
{
    struct value_builder b;
    struct txn *t = txn_begin(the_store());
    struct record *vm = call_txn_object(c, t, 0);
    g_autoptr(GPtrArray) hosts = txn_all(t, CLASS_host);
    value_builder_set(&b, NULL, hosts->len);
    for (guint i = 0; vm != NULL && i < hosts->len; i++) {
        const char *host = ((struct record *) g_ptr_array_index(hosts, i))->ref;
        struct fault f = FAULT_INIT;
        if (vm_check_bootable(t, vm, host, &f))
            value_builder_add_string(&b, host);
        fault_clear(&f);
    }
    txn_abort(t);
    if (vm != NULL)
        return value_builder_end(&b);
    value_builder_clear(&b);
    return NULL;
}

/* ---- agility: nothing that only one host can reach ---- */

static gboolean check_shared_disks(struct txn *t, const struct record *vm, struct fault *f)
{
    const struct value *vbds = record_field(vm, F_VM_VBDs);
    for (gsize i = 0; i < value_count(vbds); i++) {
        const struct record *vbd = txn_get(t, CLASS_VBD, value_str(value_at(vbds, i)));
        const struct record *vdi = vbd != NULL ? txn_get(t, CLASS_VDI, record_str(vbd, F_VBD_VDI)) : NULL;
        const struct record *sr = vdi != NULL ? txn_get(t, CLASS_SR, record_str(vdi, F_VDI_SR)) : NULL;
        if (sr != NULL && !record_bool(sr, F_SR_shared))
            return fault_set(f, "HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", sr->ref, NULL);
    }
    return TRUE;
}

struct value *vm_assert_agile(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *vm = call_txn_object(c, t, 0);
    gboolean agile = vm != NULL && check_shared_disks(t, vm, &c->fault);
    txn_abort(t);
    return agile ? value_void() : NULL;
}
