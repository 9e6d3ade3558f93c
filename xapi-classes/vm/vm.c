/* vm.c - the class VM: changes of its record alone, and questions about it. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

/* ---- the frame of a change ---- */

struct value *vm_give_up(struct call *c, struct txn *t)
{
    (void) c;
    txn_abort(t);
    return NULL;
}

struct value *vm_end_change(struct call *c, struct txn *t)
{
    call_commit(c, t);
    return value_void();
}

/* op may be NULL: then anything goes, or the call has been admitted already. */
struct txn *vm_begin_change(struct call *c, const char *op, struct record **vm)
{
    struct txn *t = txn_begin(the_store());
    struct record *r = call_txn_object(c, t, 0);
    if (r == NULL || (op != NULL && !operation_check(t, CLASS_VM, call_str(c, 0), op, &c->fault))) {
        txn_abort(t);
        return NULL;
    }
    if (vm != NULL)
        *vm = r;
    return t;
}

/* As above, for settings that count only from the next start on. */
static struct txn *begin_halted(struct call *c, struct record **vm)
{
    struct txn *t = vm_begin_change(c, NULL, vm);
    if (t == NULL || vm_is(*vm, "Halted"))
        return t;
    fault_power_state(&c->fault, call_str(c, 0), "halted", record_str(*vm, F_VM_power_state));
    txn_abort(t);
    return NULL;
}

static struct value *set_field(struct call *c, int field)
{
    struct txn *t = vm_begin_change(c, NULL, NULL);
    if (t == NULL)
        return NULL;
    txn_set(t, CLASS_VM, call_str(c, 0), field, value_ref(call_arg(c, 1)));
    return vm_end_change(c, t);
}

/* ---- templates ---- */

static gint64 now(void)
{
    return g_get_real_time() / G_USEC_PER_SEC;
}

/* A VM becomes a template when it may; a template becomes a VM, which counts as its installation. */
struct value *vm_set_is_a_template(struct call *c)
{
    struct record *vm;
    gboolean template = call_bool(c, 1);
    struct txn *t = vm_begin_change(c, NULL, &vm);
    if (t == NULL)
        return NULL;
    if (template == record_bool(vm, F_VM_is_a_template))
        return vm_end_change(c, t);
    if (template && !operation_check(t, CLASS_VM, vm->ref, "make_into_template", &c->fault))
        return vm_give_up(c, t);
    if (!template && (record_bool(vm, F_VM_is_default_template) || record_bool(vm, F_VM_is_a_snapshot))) {
        call_fail(c, "OPERATION_NOT_ALLOWED", "a default template or snapshot has to be cloned to become a VM", NULL);
        return vm_give_up(c, t);
    }
    txn_set_bool(t, CLASS_VM, vm->ref, F_VM_is_a_template, template);
    if (!template)
        txn_set_time(t, CLASS_VM_metrics, vm_metrics_of(t, vm->ref), F_VM_metrics_install_time, now());
    return vm_end_change(c, t);
}

/* ---- boot and domain type ---- */

struct value *vm_set_HVM_boot_policy(struct call *c)
{
    struct record *vm;
    struct txn *t = begin_halted(c, &vm);
    gboolean hvm = *call_str(c, 1) != '\0';
    if (t == NULL)
        return NULL;
    txn_set_str(t, CLASS_VM, vm->ref, F_VM_HVM_boot_policy, call_str(c, 1));
    if (hvm != (strcmp(vm_domain_type(vm), "hvm") == 0))
        txn_set_str(t, CLASS_VM, vm->ref, F_VM_domain_type, hvm ? "hvm" : "pv");
    return vm_end_change(c, t);
}

struct value *vm_set_domain_type(struct call *c)
{
    struct record *vm;
    struct txn *t = begin_halted(c, &vm);
    gboolean hvm = strcmp(call_str(c, 1), "hvm") == 0;
    if (t == NULL)
        return NULL;
    txn_set_str(t, CLASS_VM, vm->ref, F_VM_domain_type, call_str(c, 1));
    if (hvm != (*record_str(vm, F_VM_HVM_boot_policy) != '\0'))
        txn_set_str(t, CLASS_VM, vm->ref, F_VM_HVM_boot_policy, hvm ? "BIOS order" : "");
    return vm_end_change(c, t);
}

struct value *vm_set_actions_after_crash(struct call *c)
{
    return set_field(c, F_VM_actions_after_crash);
}

struct value *vm_set_has_vendor_device(struct call *c)
{
    struct record *vm;
    struct txn *t = begin_halted(c, &vm);
    if (t == NULL)
        return NULL;
    txn_set_bool(t, CLASS_VM, vm->ref, F_VM_has_vendor_device, call_bool(c, 1));
    return vm_end_change(c, t);
}

/* ---- NVRAM ---- */

struct value *vm_set_NVRAM(struct call *c)
{
    struct txn *t = vm_begin_change(c, "changing_NVRAM", NULL);
    if (t == NULL)
        return NULL;
    txn_set(t, CLASS_VM, call_str(c, 0), F_VM_NVRAM, value_ref(call_arg(c, 1)));
    return vm_end_change(c, t);
}

struct value *vm_add_to_NVRAM(struct call *c)
{
    struct record *vm;
    struct txn *t = vm_begin_change(c, "changing_NVRAM", &vm);
    if (t == NULL)
        return NULL;
    if (record_key(vm, F_VM_NVRAM, call_str(c, 1)) != NULL) {
        call_fail(c, "MAP_DUPLICATE_KEY", "VM", "NVRAM", record_str(vm, F_VM_uuid), call_str(c, 1), NULL);
        return vm_give_up(c, t);
    }
    txn_put_key(t, CLASS_VM, vm->ref, F_VM_NVRAM, call_str(c, 1), call_str(c, 2));
    return vm_end_change(c, t);
}

struct value *vm_remove_from_NVRAM(struct call *c)
{
    struct txn *t = vm_begin_change(c, "changing_NVRAM", NULL);
    if (t == NULL)
        return NULL;
    txn_remove_key(t, CLASS_VM, call_str(c, 0), F_VM_NVRAM, call_str(c, 1));
    return vm_end_change(c, t);
}

/* ---- BIOS strings ---- */

/* They are settled once for the life of a VM: guests are licensed by them. */
static struct value *settle_bios_strings(struct call *c, struct value *strings)
{
    struct record *vm;
    struct txn *t = begin_halted(c, &vm);
    if (t == NULL)
        return NULL;
    if (value_count(record_field(vm, F_VM_bios_strings)) > 0) {
        call_fail(c, "VM_BIOS_STRINGS_ALREADY_SET", NULL);
        return vm_give_up(c, t);
    }
    txn_set(t, CLASS_VM, vm->ref, F_VM_bios_strings, value_ref(strings));
    return vm_end_change(c, t);
}

struct value *vm_copy_bios_strings(struct call *c)
{
    g_autoptr(record) host = call_object(c, 1);
    return host != NULL ? settle_bios_strings(c, record_field(host, F_host_bios_strings)) : NULL;
}

struct value *vm_set_bios_strings(struct call *c)
{
    static const char *const settable[] = {"bios-vendor",
                                           "bios-version",
                                           "system-manufacturer",
                                           "system-product-name",
                                           "system-version",
                                           "system-serial-number",
                                           "enclosure-asset-tag",
                                           "baseboard-manufacturer",
                                           "baseboard-product-name",
                                           "baseboard-version",
                                           "baseboard-serial-number",
                                           "baseboard-asset-tag",
                                           "baseboard-location-in-chassis",
                                           NULL};
    struct value *strings = call_arg(c, 1);
    for (gsize i = 0; i < value_count(strings); i++) {
        const char *key = value_str(strings->u.map.m[i].key), *text = value_str(strings->u.map.m[i].value);
        if (!g_strv_contains(settable, key))
            return call_fail(c, "INVALID_VALUE", key, "Unknown key", NULL);
        if (*text == '\0' || strlen(text) > 512)
            return call_fail(c, "INVALID_VALUE", key, text, NULL);
    }
    return settle_bios_strings(c, strings);
}

/* ---- start order, protection ---- */

static struct value *set_count(struct call *c, int field, const char *name)
{
    char text[24];
    g_snprintf(text, sizeof text, "%" G_GINT64_FORMAT, call_int(c, 1));
    if (call_int(c, 1) < 0)
        return call_fail(c, "INVALID_VALUE", name, text, NULL);
    return set_field(c, field);
}

struct value *vm_set_order(struct call *c)
{
    return set_count(c, F_VM_order, "order");
}

struct value *vm_set_start_delay(struct call *c)
{
    return set_count(c, F_VM_start_delay, "start_delay");
}

struct value *vm_set_shutdown_delay(struct call *c)
{
    return set_count(c, F_VM_shutdown_delay, "shutdown_delay");
}

struct value *vm_set_ha_restart_priority(struct call *c)
{
    static const char *const known[] = {"", "restart", "best-effort", NULL};
    if (!g_strv_contains(known, call_str(c, 1)))
        return call_fail(c, "INVALID_VALUE", "ha_restart_priority", call_str(c, 1), NULL);
    return set_field(c, F_VM_ha_restart_priority);
}

struct value *vm_set_ha_always_run(struct call *c)
{
    return set_field(c, F_VM_ha_always_run);
}

struct value *vm_set_appliance(struct call *c)
{
    const char *ref = call_str(c, 1);
    if (!ref_is_null(ref)) {
        g_autoptr(record) appliance = call_object(c, 1);
        if (appliance == NULL)
            return NULL;
    }
    return set_field(c, F_VM_appliance);
}

/* ---- questions ---- */

struct value *vm_assert_operation_valid(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    gboolean valid = operation_check(t, CLASS_VM, call_str(c, 0), call_str(c, 1), &c->fault);
    txn_abort(t);
    return valid ? value_void() : NULL;
}

/* They are always up to date; a watcher sees that the call was heard. */
struct value *vm_update_allowed_operations(struct call *c)
{
    struct txn *t = vm_begin_change(c, NULL, NULL);
    if (t == NULL)
        return NULL;
    txn_touch(t, CLASS_VM, call_str(c, 0));
    return vm_end_change(c, t);
}

struct value *vm_get_cooperative(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    return vm != NULL ? value_bool(TRUE) : NULL;
}

struct value *vm_get_boot_record(struct call *c)
{
    struct record *vm;
    struct txn *t = vm_begin_change(c, "get_boot_record", &vm);
    if (t == NULL)
        return NULL;
    struct value *result = record_value(vm);
    txn_abort(t);
    return result;
}

static struct value *ask_devices(struct call *c, struct value *(*devices)(struct txn *t, const struct record *vm))
{
    struct record *vm;
    struct txn *t = vm_begin_change(c, NULL, &vm);
    if (t == NULL)
        return NULL;
    struct value *result = devices(t, vm);
    txn_abort(t);
    return result;
}

struct value *vm_get_allowed_VBD_devices(struct call *c)
{
    return ask_devices(c, vbd_free_devices);
}

struct value *vm_get_allowed_VIF_devices(struct call *c)
{
    return ask_devices(c, vif_free_devices);
}
