/* vm_foreign.c - VMs for domains that another toolstack made: seen, and touched only when a client asks for it. */
#include "xapi-classes/vm/vm_foreign.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

#define FOREIGN "xenapid:foreign"

gboolean vm_is_foreign(const struct record *vm)
{
    return record_key(vm, F_VM_other_config, FOREIGN) != NULL;
}

static void set_size(struct txn *t, const char *ref, const struct value *state)
{
    static const int fields[] = {F_VM_memory_static_max, F_VM_memory_dynamic_max, F_VM_memory_dynamic_min};
    gint64 memory = value_as_int(value_get(state, "memory_target")), vcpus = value_as_int(value_get(state, "vcpus"));
    if (memory <= 0)
        memory = value_as_int(value_get(state, "memory_actual"));
    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++)
        txn_set_int(t, CLASS_VM, ref, fields[i], memory);
    txn_set_int(t, CLASS_VM, ref, F_VM_VCPUs_max, MAX(vcpus, 1));
    txn_set_int(t, CLASS_VM, ref, F_VM_VCPUs_at_startup, MAX(vcpus, 1));
}

static void set_type(struct txn *t, const char *ref, const char *type)
{
    static const char *const known[] = {"hvm", "pv", "pvh", NULL};
    if (!g_strv_contains(known, type))
        type = "pv";
    txn_set_str(t, CLASS_VM, ref, F_VM_domain_type, type);
    txn_set_str(t, CLASS_VM, ref, F_VM_HVM_boot_policy, strcmp(type, "hvm") == 0 ? "BIOS order" : "");
}

void vm_foreign_appeared(const struct value *state)
{
    const char *uuid = value_get_str(state, "uuid", ""), *name = value_get_str(state, "name", "");
    if (!uuid_is_valid(uuid) || value_as_int(value_get(state, "domid")) <= 0)
        return;
    struct txn *t = txn_begin(the_store());
    const char *ref = txn_create(t, CLASS_VM, NULL, uuid);
    txn_set_str(t, CLASS_VM, ref, F_VM_name_label, *name != '\0' ? name : uuid);
    txn_set_str(t, CLASS_VM, ref, F_VM_name_description, "Made by another toolstack on this host");
    txn_set_str(t, CLASS_VM, ref, F_VM_actions_after_crash, "preserve");
    txn_put_key(t, CLASS_VM, ref, F_VM_other_config, FOREIGN, "true");
    txn_set_int(t, CLASS_VM, ref, F_VM_domid, -1);
    set_size(t, ref, state);
    set_type(t, ref, value_get_str(state, "type", "pv"));
    vm_set_running(t, ref, state, NULL);
    txn_commit(t);
}

/* Its toolstack writes the name after the domain is there. */
void vm_foreign_changed(const struct record *vm, const struct value *state)
{
    const char *name = value_get_str(state, "name", ""), *uuid = record_str(vm, F_VM_uuid);
    gboolean is_named = *name == '\0' || strcmp(record_str(vm, F_VM_name_label), uuid) != 0;
    if (is_named && record_int(vm, F_VM_memory_static_max) > 0)
        return;
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, vm->ref) != NULL) {
        if (!is_named)
            txn_set_str(t, CLASS_VM, vm->ref, F_VM_name_label, name);
        if (record_int(vm, F_VM_memory_static_max) <= 0)
            set_size(t, vm->ref, state);
        set_type(t, vm->ref, value_get_str(state, "type", "pv"));
    }
    txn_commit(t);
}

void vm_foreign_gone(const struct record *vm)
{
    struct txn *t = txn_begin(the_store());
    const struct record *now = txn_get(t, CLASS_VM, vm->ref);
    if (now != NULL)
        vm_destroy_record(t, now);
    txn_commit(t);
}
