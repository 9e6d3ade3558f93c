/* backend.c - the front's one peer to the backend. */
#include "xenbackend/backend.h"

static struct peer *backend;

void backend_init(peer_notify_fn *notify, peer_state_fn *state, void *data)
{
    backend = peer_new("backend", notify, state, data);
}

void backend_connect(int fd)
{
    peer_connect(backend, fd);
}

void backend_stop(void)
{
    g_clear_pointer(&backend, peer_free);
}

gboolean backend_is_up(void)
{
    return backend && peer_is_up(backend);
}

struct value *backend_call(const char *method, struct value *params, const struct peer_options *options,
                           struct fault *f)
{
    return peer_call(backend, method, params, options, f);
}

void backend_poke(void)
{
    peer_poke(backend);
}
