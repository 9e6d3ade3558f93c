/* http_internal.h - what the files of the HTTP side share: the connection and the requests that pass over it.
 *
 * libmicrohttpd calls us on the thread of a connection, so all of it belongs to that thread, except what is said to be
 * atomic or under the lock of http_connection.c. A request that cannot be answered at once is suspended; whoever has
 * its answer wakes it, and it goes on on its own thread. */
#ifndef XENAPID_HTTP_INTERNAL_H
#define XENAPID_HTTP_INTERNAL_H

#include <gnutls/abstract.h>
#include <microhttpd.h>

#include "daemon/process/conf.h"
#include "daemon/dispatch.h"
#include "daemon/http/http.h"
#include "daemon/http/http_route.h"

/* What a connection is doing: it decides which deadline holds. */
enum http_phase {
    PHASE_NEW,     /* connected: TLS handshake and the first header */
    PHASE_IDLE,    /* between two requests */
    PHASE_HEADERS, /* the request line was read */
    PHASE_BODY,    /* the body is arriving */
    PHASE_RUNNING, /* ours: no deadline */
    PHASE_REPLY,   /* the answer is being sent: libmicrohttpd's own timeout for silence holds */
};

/* Where a request that waits for its answer stands; atomic. Only who moves it from WAIT_SUSPENDED may resume it. */
enum http_wait { WAIT_NONE, WAIT_STARTED, WAIT_SUSPENDED, WAIT_DONE, WAIT_GONE };

struct http_connection;

/* How a kind of request is dealt with. body and end answer MHD_NO to cut the connection; body takes all that it is
 * given, and may have suspended the connection then. */
struct http_ops {
    enum MHD_Result (*body)(struct http_connection *c, const char *data, gsize len);
    /* The whole request is here, or it was woken. */
    enum MHD_Result (*end)(struct http_connection *c);
    /* The client of a suspended request went away; any thread. It is not woken before this returns. May be NULL. */
    void (*gone)(struct http_connection *c);
    /* The request is over, answered or not. May be NULL. */
    void (*finished)(struct http_connection *c);
};

struct http_listener;

struct http_connection {
    struct http_connection *next, *prev; /* under the lock */
    struct http_listener *listener;
    struct MHD_Connection *mhd;
    int fd;
    guint phase; /* atomic: enum http_phase, and the second in which it began << PHASE_BITS */
    struct origin origin;
    char address[64];
    guint8 address_key[17]; /* family and network: what the limit per address counts */

    /* ---- the request that is under way ---- */
    const struct http_ops *ops;
    gint wait;          /* atomic: enum http_wait */
    gboolean suspended; /* under the lock: the client is watched */
    gint deaf;          /* atomic: but not for its going away: what it sent before is still to be read */
    guint ended_for;    /* the sweep's: seconds for which its end was there and libmicrohttpd did not hear it */
    gboolean is_head;
    char *body; /* kept from request to request while it is small */
    gsize body_len, body_room;
    gsize discarded; /* bytes of a body that is too large and thrown away */
    enum exchange_protocol protocol;
    struct exchange *exchange;
    guint status;                 /* http_plain.c: the answer that is due at the end, */
    const char *text;             /* its text, */
    char *allow;                  /* and what it allows */
    struct http_request *request; /* of a route */
};

struct http_listener {
    struct MHD_Daemon *daemon;
    char *address;
    gboolean tls, is_unix;
    int fd;          /* where connections come from, */
    int ring;        /* an eventfd that ends this, */
    GThread *accept; /* and who takes them; NULL: no one any more */
};

/* ---- http_accept.c ---- */

/* Begins to take connections from l->fd, which it owns from then on, for l->daemon, which has no socket of its own. */
gboolean accept_start(struct http_listener *l, GError **error);
/* No connection is taken after this: those that come wait at the supervisor's copy of the socket. */
void accept_stop(struct http_listener *l);

/* ---- http_connection.c ---- */

void connections_init(void);
/* Counts a new connection, unless that would pass a limit; any thread. Its end takes it off again; one that never began
 * is dismissed. */
gboolean connection_admit(const struct http_listener *l, const struct sockaddr *address);
void connection_dismiss(const struct http_listener *l, const struct sockaddr *address);
/* libmicrohttpd's hooks. */
void connection_notify(void *listener, struct MHD_Connection *mhd, void **context,
                       enum MHD_ConnectionNotificationCode code);
void *connection_request_line(void *listener, const char *uri, struct MHD_Connection *mhd);

void connection_phase(struct http_connection *c, enum http_phase phase);
/* The request becomes one that waits for its answer ... */
void connection_wait(struct http_connection *c);
/* ... and is suspended, unless the answer came meanwhile: MHD_NO says that it did, or that no more waiting is allowed
 * (connections_stop), which c->wait == WAIT_GONE tells. */
gboolean connection_suspend(struct http_connection *c);
/* The answer is there; any thread, once. */
void connection_wake(struct http_connection *c);
/* After a suspended request went on. */
void connection_resumed(struct http_connection *c);

guint connections_count(void);
/* Closes what is idle; answers how many still do something. With now, these are cut too. */
guint connections_stop(gboolean now);
/* Whether the process is about to stop: answers then close their connection. */
gboolean connections_stopping(void);

/* ---- http_body.c ---- */

void body_append(struct http_connection *c, const char *data, gsize len);
void body_drop(struct http_connection *c);
/* The request is over. */
void body_done(struct http_connection *c);

/* ---- http_rpc.c: POST ---- */

enum MHD_Result rpc_begin(struct http_connection *c, const char *url);

/* ---- http_plain.c: everything that is neither a call nor has a route ---- */

/* Answers status and text when the request has arrived; text must stay. allow: value of the Allow header, or NULL. */
enum MHD_Result plain_begin(struct http_connection *c, guint status, const char *text, const char *allow);
enum MHD_Result options_begin(struct http_connection *c);
enum MHD_Result index_begin(struct http_connection *c);
/* The length that the header announces; -1: none, or chunked. */
gint64 request_length(struct http_connection *c);

/* ---- http_reply.c ---- */

/* Sends the reply of c->exchange. */
enum MHD_Result send_exchange(struct http_connection *c);
/* Sends bytes, compressed when they are large and the client can read it; takes over bytes. headers: names and values
 * in turn, ended by NULL; may be NULL. */
enum MHD_Result send_bytes(struct http_connection *c, guint status, const char *content_type, GBytes *bytes,
                           const char *const *headers);
/* A short text; early: before the body was read, which closes the connection. */
enum MHD_Result send_text(struct http_connection *c, guint status, const char *text, const char *allow);
/* 413, written past libmicrohttpd, which takes no answer in the middle of a body. The connection must be cut then. */
void send_too_large_raw(struct http_connection *c);
/* The same for any text, on any thread, while libmicrohttpd sends nothing. Bytes sent, 0 for none now, -1. */
gssize send_raw(struct http_connection *c, const void *data, gsize len);
/* An answer whose bytes come from read. Takes over data, which free_data frees. length -1: until the connection is
 * closed. headers as above. */
enum MHD_Result send_stream(struct http_connection *c, guint status, const char *content_type, gint64 length,
                            const char *const *headers, MHD_ContentReaderCallback read, void *data,
                            MHD_ContentReaderFreeCallback free_data);

/* ---- http_cors.c ---- */

/* Adds what a page of the request's origin needs to read the answer, if it may. */
void cors_add(struct http_connection *c, struct MHD_Response *response, gboolean preflight);

/* ---- http_route.c ---- */

struct route;
/* The route for method and path, or NULL; *other: the path has one for another method. */
const struct route *route_find(const char *method, const char *path, gboolean *other);
enum MHD_Result route_begin(struct http_connection *c, const struct route *route, const char *path);
/* "GET, PUT": the methods of a path; the caller frees. */
char *route_allow(const char *path);

/* ---- http_tls.c ---- */

gboolean tls_load(GError **error);
gboolean tls_is_loaded(void);
int tls_certificate(gnutls_session_t session, const gnutls_datum_t *ca, int n_ca,
                    const gnutls_pk_algorithm_t *algorithms, int n_algorithms, gnutls_pcert_st **chain,
                    unsigned int *chain_length, gnutls_privkey_t *key);

#endif
