/* vm_metrics.c - what the backend measures of domains and what guests say of themselves, in VM_metrics and
 * VM_guest_metrics. */
#include "xapi-classes/vm/vm.h"
#include "xapi-classes/world.h"

#include <math.h>
#include <string.h>

static gint64 now(void)
{
    return g_get_real_time() / G_USEC_PER_SEC;
}

/* ---- guests ---- */

static char *as_text(const struct value *v)
{
    char buffer[G_ASCII_DTOSTR_BUF_SIZE];
    switch (v->type) {
    case VALUE_INT:
    case VALUE_I4:
        return g_strdup_printf("%" G_GINT64_FORMAT, value_as_int(v));
    case VALUE_BOOL:
        return g_strdup(value_as_bool(v) ? "true" : "false");
    case VALUE_FLOAT:
        return g_strdup(g_ascii_dtostr(buffer, sizeof buffer, value_as_float(v)));
    default:
        return g_strdup(value_str(v));
    }
}

/* Guests write what they like; the fields are maps of texts. */
static struct value *text_map(const struct value *v)
{
    struct value_builder b;
    value_builder_map(&b, NULL, value_count(v));
    for (gsize i = 0; v->type == VALUE_MAP && i < value_count(v); i++) {
        g_autofree char *text = as_text(v->u.map.m[i].value);
        value_builder_put_string(&b, value_str(v->u.map.m[i].key), text);
    }
    return value_builder_end(&b);
}

static const char *guest_metrics_of(struct txn *t, const char *vm)
{
    const char *ref = record_str(txn_get(t, CLASS_VM, vm), F_VM_guest_metrics);
    if (txn_get(t, CLASS_VM_guest_metrics, ref) != NULL)
        return ref;
    ref = txn_create(t, CLASS_VM_guest_metrics, NULL, NULL);
    txn_set_str(t, CLASS_VM, vm, F_VM_guest_metrics, ref);
    return ref;
}

static void take_guest_fields(struct txn *t, const char *ref, const struct value *params)
{
    static const struct {
        const char *key;
        int field;
    } fields[] = {
        {"os_version", F_VM_guest_metrics_os_version}, {"PV_drivers_version", F_VM_guest_metrics_PV_drivers_version},
        {"memory", F_VM_guest_metrics_memory},         {"disks", F_VM_guest_metrics_disks},
        {"networks", F_VM_guest_metrics_networks},     {"other", F_VM_guest_metrics_other},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++) {
        const struct value *v = value_get(params, fields[i].key);
        if (v != NULL)
            txn_set(t, CLASS_VM_guest_metrics, ref, fields[i].field, text_map(v));
    }
}

/* Drivers that are there can do what drivers do. */
static void derive_drivers(struct txn *t, const char *ref)
{
    const struct record *gm = txn_get(t, CLASS_VM_guest_metrics, ref);
    gboolean drivers = value_count(record_field(gm, F_VM_guest_metrics_PV_drivers_version)) > 0;
    txn_set_bool(t, CLASS_VM_guest_metrics, ref, F_VM_guest_metrics_PV_drivers_detected, drivers);
    txn_set_bool(t, CLASS_VM_guest_metrics, ref, F_VM_guest_metrics_PV_drivers_up_to_date, drivers);
    txn_set_str(t, CLASS_VM_guest_metrics, ref, F_VM_guest_metrics_can_use_hotplug_vbd,
                drivers ? "yes" : "unspecified");
    txn_set_str(t, CLASS_VM_guest_metrics, ref, F_VM_guest_metrics_can_use_hotplug_vif,
                drivers ? "yes" : "unspecified");
}

void world_domain_guest(struct value *params)
{
    g_autoptr(record) vm = store_get_by_uuid(the_store(), CLASS_VM, value_get_str(params, "uuid", ""));
    if (vm == NULL)
        return;
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, vm->ref) != NULL) {
        const char *ref = guest_metrics_of(t, vm->ref);
        take_guest_fields(t, ref, params);
        derive_drivers(t, ref);
        txn_set_bool(t, CLASS_VM_guest_metrics, ref, F_VM_guest_metrics_live, TRUE);
        txn_set_time(t, CLASS_VM_guest_metrics, ref, F_VM_guest_metrics_last_updated, now());
    }
    txn_commit(t);
}

/* ---- the hypervisor's figures ---- */

/* In hundredths, so that an idle VM is not news. */
static struct value *utilisation(const struct value *cpus)
{
    struct value_builder b;
    value_builder_map(&b, NULL, value_count(cpus));
    for (gsize i = 0; i < value_count(cpus); i++) {
        char number[16];
        g_snprintf(number, sizeof number, "%" G_GSIZE_FORMAT, i);
        double fraction = CLAMP(value_as_float(value_at(cpus, i)), 0.0, 1.0);
        value_builder_put(&b, number, value_float(NULL, round(fraction * 100.0) / 100.0));
    }
    return value_builder_end(&b);
}

static void take_usage(struct txn *t, const struct value *usage)
{
    g_autoptr(record) vm = store_get_by_uuid(the_store(), CLASS_VM, value_get_str(usage, "uuid", ""));
    const struct record *m = vm != NULL ? txn_get(t, CLASS_VM_metrics, record_str(vm, F_VM_metrics)) : NULL;
    const struct value *memory = value_get(usage, "memory_actual"), *cpus = value_get(usage, "cpu");
    if (m == NULL || record_int(vm, F_VM_domid) < 0)
        return;
    g_autoptr(value) load = utilisation(cpus);
    if ((memory == NULL || value_as_int(memory) == record_int(m, F_VM_metrics_memory_actual)) &&
        value_equal(load, record_field(m, F_VM_metrics_VCPUs_utilisation)))
        return;
    if (memory != NULL)
        txn_set_int(t, CLASS_VM_metrics, m->ref, F_VM_metrics_memory_actual, value_as_int(memory));
    txn_set(t, CLASS_VM_metrics, m->ref, F_VM_metrics_VCPUs_utilisation, value_ref(load));
    txn_set_time(t, CLASS_VM_metrics, m->ref, F_VM_metrics_last_updated, now());
}

void world_domain_usage(struct value *params)
{
    const struct value *domains = value_get(params, "domains");
    vm_rates_take(domains);
    struct txn *t = txn_begin(the_store());
    for (gsize i = 0; i < value_count(domains); i++)
        take_usage(t, value_at(domains, i));
    txn_commit(t);
}
