/* world.h - what the front hears from the backend without having asked, and how records follow it. */
#ifndef XENAPID_WORLD_H
#define XENAPID_WORLD_H

#include "daemon/value/value.h"

/* A notification of the backend (docs/backend-protocol.md); for peer_notify_fn, on the reader thread. */
void world_notify(const char *method, struct value *params);
/* Compares all VMs with what the backend runs and puts their records right. Blocks on one request; FALSE when the
 * backend does not answer. Once before serving, and whenever the backend is there again. */
gboolean world_reconcile(void);
/* After the host has booted (not after a mere restart of the daemon): enables it and starts the VMs that want to be.
 * Blocks on one request; the starts are tasks. After world_reconcile. */
void world_autostart(void);

/* Handlers of notifications, each in its class's file. */
typedef void world_fn(struct value *params);
world_fn world_domain_changed, world_domain_gone, world_domain_guest, world_domain_usage, world_pool_changed;

#endif
