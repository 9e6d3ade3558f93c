/* start.h - from an empty or loaded store to a host that is true: what happens before the first request is served. */
#ifndef XENAPID_START_H
#define XENAPID_START_H

#include "daemon/store/store.h"

/* Brings the records in line with the world, in this order: roles, the host (host_start), its storage, its domains.
 * Call once, when the store is open, the tasks and the backend's peer are up. Blocks for as long as the backend takes
 * to answer, a few seconds at most: when it does not, the host is shown as not live and it is done when the backend
 * comes. */
void classes_start(void);
/* The backend came (back) or was lost: peer_state_fn of its peer. Reconciles on a worker. */
void classes_backend_state(gboolean up, void *unused);
/* A notification of the backend: peer_notify_fn. */
void classes_notify(const char *method, struct value *params, void *unused);

/* ---- the parts ---- */

/* host_records.c: makes or updates pool, host, metrics, CPUs, networks, PIFs and the control domain from host.info. */
void host_update(struct value *info);
void host_set_live(gboolean live);
void host_metrics_update(struct value *metrics); /* host.changed */
/* The one host of this daemon; NULL_REF before host_update. Interned. */
const char *host_ref(void);
const char *pool_ref(void);

/* certificate.c: the record of the certificate that the https listeners show: in t, or in a transaction of its own. */
void certificate_update(struct txn *t);
void certificate_changed(void);

/* storage_start.c: the drivers' SM records, the default SR of a new host, PBDs plugged again as tasks of their own. */
void storage_start(void);
void storage_backend_up(void);              /* a new backend process has nothing attached */
void storage_changed(struct value *params); /* sr.changed */

/* storage_coalesce.c: what could not be merged because it was in use is looked at again now and then, from now on. */
void storage_coalesce_start(void);
/* The daemon is about to end: work of that kind under way does not keep it from it. */
void storage_coalesce_stop(void);

/* template.c: those of the pool's built-in templates that are not there yet. */
void templates_start(void);

/* vm_checkpoint.c: VMs that a checkpoint of an earlier process left suspended go on. */
void checkpoints_start(void);

/* vmss_run.c: snapshot schedules run by the clock from now on. */
void schedules_start(void);

/* sim_fill.c: [sim] vms=N. */
void sim_fill(void);

/* auth/roles.c, subjects */
void roles_start(void);

#endif
