/* helper.h - what every helper process (xenapid-auth, xenapid-sim, xenapid-xen) has in common: requests come in over
 * the wire, each is run on a thread of a pool, its answer goes back.
 *
 * The wire is the socket named by XENAPID_WIRE_FD, else descriptor 3 if it is a socket, else standard input: so
 * "socat - EXEC:xenapid-sim" drives one by hand. When the supervisor started it, XENAPID_CONTROL_FD names a second
 * wire on which it sends "wire" with a descriptor (a new front: requests that the old one made run on, their answers
 * are dropped), "reload" and "stop"; without it the helper ends with its wire. SIGTERM ends it too. */
#ifndef XENAPID_HELPER_H
#define XENAPID_HELPER_H

#include "daemon/process/conf.h"
#include "daemon/codec/wire.h"

/* A request under way. Everything in it is borrowed for the time of the handler and freed by the caller of it. */
struct helper_request {
    gint64 id;
    const char *method;
    struct value *params;  /* a MAP, heap value: value_ref() keeps parts of it */
    int fds[WIRE_MAX_FDS]; /* came with the request; closed afterwards unless set to -1 (taken) */
    int n_fds;
    int answer_fds[WIRE_MAX_FDS]; /* the handler fills these: sent with the result and then closed in any case */
    int n_answer_fds;
    gint cancel; /* becomes 1 when the caller gave up: g_atomic_int_get */
    void *data;  /* the data of helper_options */
    guint front; /* which front made it, for helper_front_is_there */
};

/* Runs on a thread of the pool and may block. Answers the result, heap or static, which is taken over; or NULL with
 * *f set, which makes the answer a fault; NULL without a fault is the result "" (void). */
typedef struct value *helper_fn(struct helper_request *req, struct fault *f);

struct helper_method {
    const char *name;
    helper_fn *fn;
};

struct helper_options {
    const char *program;                 /* for the log */
    const struct helper_method *methods; /* ended by {NULL, NULL} */
    int max_threads;                     /* requests at once; others wait in order. 0: 64 */
    void *data;
    /* A front was connected, the first or a new one: what must be told to it can be sent now (helper_notify). No
     * request of it is run before this answers. On the reading thread; may be NULL, as may all below. */
    void (*connected)(void *data);
    /* The configuration was read again; c is valid until the next call. */
    void (*reload)(const struct conf *c, void *data);
    /* The helper is about to end: no request is read from now on, those under way were cancelled and are waited for. */
    void (*stop)(void *data);
};

/* Reads the command line, installs the log, runs until told to end; answers the exit status. prepare (may be NULL) is
 * called with the configuration before the first request is read; when it answers FALSE the helper ends with status 1.
 * It may keep c until reload or the end. */
int helper_main(int argc, char **argv, const struct helper_options *o,
                gboolean (*prepare)(const struct conf *c, void *data));

/* To the front that is connected now; dropped when there is none. Any thread. */
void helper_notify(const char *method, struct value *params, const int *fds, int n_fds);
/* FALSE once that front (helper_request.front) has gone, for ever: what was kept for it nobody will ask for. */
gboolean helper_front_is_there(guint front);
/* How far the request is: 0 to 1. Small steps are not sent. */
void helper_progress(struct helper_request *req, double fraction);

/* The request whose handler runs on this thread; NULL on others. */
struct helper_request *helper_current(void);
gboolean helper_cancelled(struct helper_request *req);
/* Waits; FALSE at once when the request is or becomes cancelled, TRUE when the time has passed. */
gboolean helper_sleep(struct helper_request *req, guint64 ms);
/* fn is called once when the request is cancelled (at once if it is already), on another thread and under a lock that
 * helper_off_cancel takes too: so it is never called after that. One function per request; for waits of your own. */
void helper_on_cancel(struct helper_request *req, void (*fn)(void *data), void *data);
void helper_off_cancel(struct helper_request *req);
/* What the helper needs does not answer: until helper_accept, requests are answered with the fault why, which is
 * copied, instead of being begun; those under way are answered with it at once and cancelled, and whatever they still
 * say goes nowhere. spared says of a method's name that it needs nothing of that. On any thread. */
void helper_refuse(const struct fault *why, gboolean (*spared)(const char *method));
void helper_accept(void);

#endif
