/* backend.h - the front's end of the backend (docs/backend-protocol.md): one peer for all class handlers. */
#ifndef XENAPID_BACKEND_H
#define XENAPID_BACKEND_H

#include "daemon/process/peer.h"

/* Makes the peer; callbacks as in peer.h, may be NULL. Once, before any other function here. */
void backend_init(peer_notify_fn *notify, peer_state_fn *state, void *data);
/* A (new) backend process: takes over fd. */
void backend_connect(int fd);
void backend_stop(void);
gboolean backend_is_up(void);

/* peer_call to the backend: blocks, so only on workers and at start. params may be NULL and stays the caller's. The
 * result, which the caller unrefs, or NULL with f set. */
struct value *backend_call(const char *method, struct value *params, const struct peer_options *options,
                           struct fault *f);
/* Makes calls under way look at their cancel flags. */
void backend_poke(void);

#endif
