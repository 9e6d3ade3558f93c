/* cpu_pool.h - pools of physical processors (class cpu_pool), as other files need them. */
#ifndef XENAPID_CPU_POOL_H
#define XENAPID_CPU_POOL_H

#include "daemon/call.h"

/* ---- records as the backend says (cpu_pool_world.c) ---- */

/* Asks the backend which pools there are and puts the records right, those of running VMs included, which domains (a
 * list of states, may be NULL) tells. Blocks on one request. */
void cpu_pools_reconcile(const struct value *domains);
/* pool.list's answer, or pool.changed: the records follow, unless something newer was heard. c may be NULL; its answer
 * waits until the change is durable. */
void cpu_pools_follow(struct call *c, const struct value *list);
/* The VM runs as state (backend-protocol) says: in started_VMs of one pool. started: it did not before. */
void cpu_pool_place(struct txn *t, const char *vm, const struct value *state, gboolean started);
/* The VM runs no more. */
void cpu_pool_leave(struct txn *t, const char *vm);

/* ---- the pool that a VM is to start in (cpu_pool.c) ---- */

/* The record, counted; NULL when none is named or the host's first one is. FALSE with f set when it cannot be used:
 * INVALID_VALUE [pool_name, name], POOL_BAD_STATE [pool, activated, deactivated]. */
gboolean cpu_pool_of_start(const struct record *vm, struct record **pool, struct fault *f);
/* Activates those that want to be, once after each boot of the host, before VMs are started. Blocks. */
void cpu_pools_autostart(void);

#endif
