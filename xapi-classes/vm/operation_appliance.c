/* operation_appliance.c - what may be done to an appliance now: it follows from the power states of its VMs. */
#include <string.h>

#include "xapi-classes/vm/operation_private.h"

static const char *const names[] = {"start", "clean_shutdown", "hard_shutdown", "shutdown"};

enum { TO_START = 1, RUNNING = 2, TO_STOP = 4 };

static guint states(struct txn *t, const struct record *appliance)
{
    const struct value *vms = record_field(appliance, F_VM_appliance_VMs);
    guint found = 0;
    for (gsize i = 0; i < value_count(vms); i++) {
        const struct record *vm = txn_get(t, CLASS_VM, value_str(value_at(vms, i)));
        const char *state = vm != NULL ? record_str(vm, F_VM_power_state) : "";
        if (strcmp(state, "Halted") == 0 || strcmp(state, "Suspended") == 0)
            found |= TO_START;
        if (strcmp(state, "Running") == 0)
            found |= RUNNING;
        if (*state != '\0' && strcmp(state, "Halted") != 0)
            found |= TO_STOP;
    }
    return found;
}

gboolean appliance_check(struct txn *t, const struct record *appliance, const char *op, struct fault *f)
{
    guint needed = TO_STOP;
    if (!operation_check_exclusive(appliance, f))
        return FALSE;
    if (strcmp(op, "start") == 0)
        needed = TO_START;
    else if (strcmp(op, "clean_shutdown") == 0)
        needed = RUNNING;
    return (states(t, appliance) & needed) != 0 ||
           fault_set(f, "OPERATION_NOT_ALLOWED", "no VM of the appliance is in a state for this", NULL);
}

void appliance_derive(struct txn *t, const char *ref)
{
    const struct record *r = txn_get(t, CLASS_VM_appliance, ref);
    guint64 mask = 0;
    if (r == NULL)
        return;
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (appliance_check(t, r, names[i], NULL))
            mask |= (guint64) 1 << i;
    txn_set(t, CLASS_VM_appliance, ref, F_VM_appliance_allowed_operations, operation_set(names, sizeof *names, mask));
}
