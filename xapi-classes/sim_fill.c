/* sim_fill.c - [sim] vms=N: fills a simulated host with halted guests, for trying clients and for measuring. */
#include "daemon/call.h"
#include "xapi-classes/start.h"

#define BATCH  500
#define MIB    (G_GINT64_CONSTANT(1) << 20)
#define MEMORY (256 * MIB)

static const char *first_network(struct txn *t)
{
    g_autoptr(GPtrArray) networks = txn_all(t, CLASS_network);
    return networks->len ? ((struct record *) networks->pdata[0])->ref : NULL;
}

static void add_vif(struct txn *t, const char *vm, const char *network, int i)
{
    const char *vif = txn_create(t, CLASS_VIF, NULL, NULL);
    g_autofree char *mac =
        g_strdup_printf("02:5a:%02x:%02x:%02x:%02x", i >> 24 & 255, i >> 16 & 255, i >> 8 & 255, i & 255);

    txn_set_str(t, CLASS_VIF, vif, F_VIF_VM, vm);
    txn_set_str(t, CLASS_VIF, vif, F_VIF_network, network);
    txn_set_str(t, CLASS_VIF, vif, F_VIF_device, "0");
    txn_set_str(t, CLASS_VIF, vif, F_VIF_MAC, mac);
    txn_set_int(t, CLASS_VIF, vif, F_VIF_MTU, 1500);
}

static void add_vm(struct txn *t, const char *network, int i)
{
    const char *vm = txn_create(t, CLASS_VM, NULL, NULL);
    g_autofree char *name = g_strdup_printf("sim-%05d", i);
    static const int memory_fields[] = {F_VM_memory_static_max, F_VM_memory_dynamic_max, F_VM_memory_dynamic_min,
                                        F_VM_memory_target};

    txn_set_str(t, CLASS_VM, vm, F_VM_name_label, name);
    txn_set_str(t, CLASS_VM, vm, F_VM_name_description, "A guest of the simulated host");
    txn_set_str(t, CLASS_VM, vm, F_VM_power_state, "Halted");
    txn_set_int(t, CLASS_VM, vm, F_VM_domid, -1);
    txn_set_int(t, CLASS_VM, vm, F_VM_VCPUs_max, 1);
    txn_set_int(t, CLASS_VM, vm, F_VM_VCPUs_at_startup, 1);
    txn_set_str(t, CLASS_VM, vm, F_VM_actions_after_shutdown, "destroy");
    txn_set_str(t, CLASS_VM, vm, F_VM_actions_after_reboot, "restart");
    txn_set_str(t, CLASS_VM, vm, F_VM_actions_after_crash, "restart");
    txn_set_str(t, CLASS_VM, vm, F_VM_HVM_boot_policy, "BIOS order");
    txn_set_str(t, CLASS_VM, vm, F_VM_metrics, txn_create(t, CLASS_VM_metrics, NULL, NULL));
    for (gsize f = 0; f < G_N_ELEMENTS(memory_fields); f++)
        txn_set_int(t, CLASS_VM, vm, memory_fields[f], MEMORY);
    if (network)
        add_vif(t, vm, network, i);
}

/* The control domain is one of them. */
static int count_vms(void)
{
    g_autoptr(GPtrArray) vms = store_all(the_store(), CLASS_VM);
    int n = 0;
    for (guint i = 0; i < vms->len; i++)
        n += !record_bool(vms->pdata[i], F_VM_is_default_template);
    return n;
}

void sim_fill(void)
{
    int have = count_vms(), want = the_conf()->sim_vms;

    if (the_conf()->backend != BACKEND_SIM)
        return;
    for (int i = have; i <= want;) {
        struct txn *t = txn_begin(the_store());
        const char *network = first_network(t);
        for (int end = MIN(i + BATCH, want + 1); i < end; i++)
            add_vm(t, network, i);
        txn_commit(t);
    }
}
