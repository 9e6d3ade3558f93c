/* operation.h - allowed_operations and current_operations: what may be done to an object now, in one place.
 *
 * Each class with such fields has a table: operation, the states in which it is allowed, what may run beside it. The
 * derive functions keep allowed_operations; a task's begin and end keep current_operations. */
#ifndef XENAPID_OPERATION_H
#define XENAPID_OPERATION_H

#include "daemon/store/store.h"

/* Admits m's operation (m->op) on its first argument: checks the power state, templates, blocked_operations and what
 * else is in progress, and records the operation under task_ref in current_operations. Messages without op are admitted
 * always. FALSE with f set: VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED, VM_IS_TEMPLATE,
 * the code of blocked_operations, HANDLE_INVALID, ... */
gboolean operation_begin(struct txn *t, const struct message *m, struct value *const *args, const char *task_ref,
                         struct fault *f);
/* Takes the operation out again; the object may be gone. */
void operation_end(struct txn *t, const struct message *m, struct value *const *args, const char *task_ref);
/* The same check without recording: for assert_operation_valid and handlers that do several things. */
gboolean operation_check(struct txn *t, enum class_id class, const char *ref, const char *op, struct fault *f);
/* VM_BAD_POWER_STATE [vm, expected, actual]; answers FALSE as fault_set does. */
gboolean fault_power_state(struct fault *f, const char *vm, const char *expected, const char *actual);
/* After a restart nothing is in progress: clears all current_operations. */
void operations_clear(struct txn *t);

/* pbd_derive keeps those of its SR, vm_derive those of its devices, too. */
derive_fn vm_derive, vbd_derive, vif_derive, vdi_derive, sr_derive, pbd_derive, host_derive, pool_derive, task_derive,
    appliance_derive;

#endif
