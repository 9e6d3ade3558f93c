/* peer.h - a helper process as the front sees it: calls that wait for their answer, over one wire.
 *
 * The helper may die and be replaced (the supervisor sends the new socket): calls under way then fail with
 * INTERNAL_ERROR, calls made meanwhile wait a little for the new one. Used for xenapid-auth and for the backend. */
#ifndef XENAPID_PEER_H
#define XENAPID_PEER_H

#include "daemon/codec/wire.h"

struct peer;

/* Notifications of the helper, on the peer's own reader thread, in order. May not call peer_call. */
typedef void peer_notify_fn(const char *method, struct value *params, void *data);
/* The helper was connected (up) or lost, on the reader thread. */
typedef void peer_state_fn(gboolean up, void *data);

/* name is for the log: "auth", "backend". Callbacks may be NULL. */
struct peer *peer_new(const char *name, peer_notify_fn *notify, peer_state_fn *state, void *data);
/* Connects it to a (new) helper; takes over fd. What was under way on the old one fails. */
void peer_connect(struct peer *p, int fd);
void peer_free(struct peer *p);
gboolean peer_is_up(struct peer *p);

/* How a call is made; NULL means the defaults. */
struct peer_options {
    int timeout_ms; /* default 60000; -1: no limit. Over it: the call is cancelled and fails */
    gint *cancel;   /* watched while waiting: when it becomes nonzero, "cancel" {id} is sent and the answer awaited */
    /* "progress" {id, fraction} notifications that belong to this call; on the reader thread */
    void (*progress)(double fraction, void *data);
    void *data;
    const int *send_fds; /* descriptors to send along */
    int n_send_fds;
    int *
        got_fds; /* filled with descriptors that came with the answer (the caller closes them), room for WIRE_MAX_FDS */
    int *n_got_fds;
};
/* Blocks (never on an HTTP thread). The answer's result, which the caller unrefs, or NULL with f set: the helper's own
 * fault, or INTERNAL_ERROR [what happened] when it died, did not answer in time or is not there. */
struct value *peer_call(struct peer *p, const char *method, struct value *params, const struct peer_options *options,
                        struct fault *f);
/* The same without waiting: done is called once, on the reader thread (or at once when the peer is down), borrowed
 * arguments. */
typedef void peer_done_fn(struct value *result, const struct fault *f, void *data);
void peer_call_async(struct peer *p, const char *method, struct value *params, int timeout_ms, peer_done_fn *done,
                     void *data);
/* Wakes waits that watch *cancel (after it was set). */
void peer_poke(struct peer *p);

#endif
