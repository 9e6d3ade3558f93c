/* http_route.h - HTTP handlers beside the calls: GET /export, PUT /import and their kin register here.
 *
 * A route is a method and a path; the longest path that is a prefix of the request's, at a '/', wins, with and without
 * a trailing slash. GET answers HEAD too. The client is known before the handler runs: by session_id in the query or in
 * a cookie, by HTTP Basic (a session that is made for the request and ends with it), or as root on a UNIX socket. */
#ifndef XENAPID_HTTP_ROUTE_H
#define XENAPID_HTTP_ROUTE_H

#include "auth/session.h"

/* One request; lives until it is answered. */
struct http_request;

/* On an HTTP thread; must not block. Answers with one http_answer*, at once or later and then on any thread. */
typedef void http_route_fn(struct http_request *r);

enum http_access {
    HTTP_PUBLIC,   /* anyone; http_session() is NULL */
    HTTP_OPTIONAL, /* anyone; http_session() is who brought something to log in with, if that was right */
    HTTP_SESSION,  /* who is logged in; 401 for others */
};

struct http_route {
    const char *method, *path; /* "GET", "/export" */
    enum http_access access;
    enum role role; /* that the session needs; 0: any. 403 for others */
    http_route_fn *handler;
    gboolean streams; /* see below */
};
/* Before the first listener; route must stay. */
void http_route_add(const struct http_route *route);

/* ---- the request; borrowed, until it is answered. These five only before the handler returns ---- */

const char *http_path(const struct http_request *r);                    /* all of it, unescaped */
const char *http_query(const struct http_request *r, const char *name); /* NULL when absent */
const char *http_header(const struct http_request *r, const char *name);
const char *http_body(const struct http_request *r, gsize *len); /* up to conf body_size of it */
const struct origin *http_origin(const struct http_request *r);

struct session *http_session(const struct http_request *r);
/* TRUE once the client has gone away. */
gboolean http_is_gone(struct http_request *r);

/* ---- the answer: once; r is gone afterwards ---- */

/* Before http_answer; copied. */
void http_answer_header(struct http_request *r, const char *name, const char *value);
/* Takes over body. */
void http_answer(struct http_request *r, guint status, const char *content_type, GBytes *body);
void http_answer_text(struct http_request *r, guint status, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* ---- bodies and answers of any length: routes that stream ----
 *
 * The handler runs as soon as the header is there and gives the request to a thread of its own, which may use what
 * follows; http_body is empty. Each function blocks while the client is slow. */

/* What the header announced; -1: nothing (chunked). */
gint64 http_length(const struct http_request *r);
gboolean http_is_head(const struct http_request *r); /* these two before the handler returns, too */

/* What has arrived of the body, at least one byte; 0: that was all of it; -1: the client went away before. */
gssize http_read(struct http_request *r, void *buffer, gsize room);

/* Answers 200 at once, before the body, for clients that send it only then or not at all: the answer that is given
 * later reaches nobody. FALSE when no body came. */
gboolean http_accept_early(struct http_request *r);
/* Makes http_read and http_write fail from now on; any thread. The request must still be answered. */
void http_interrupt(struct http_request *r);

/* Instead of http_answer: an answer of length bytes (-1: until the connection is closed), written piece by piece. */
void http_begin(struct http_request *r, guint status, const char *content_type, gint64 length);
gboolean http_write(struct http_request *r, const void *data, gsize len); /* FALSE: the client went away */
/* r is gone afterwards. is_whole FALSE: the connection is cut, so that the client notices. */
void http_end(struct http_request *r, gboolean is_whole);

/* Instead of all that: the connection itself, as a stream of bytes in both directions. head is sent first. NULL, and r
 * is gone, when the client is. Ended by http_socket_close, which r is gone after. */
struct http_socket;
struct http_socket *http_take_over(struct http_request *r, const char *head);
/* To be polled for POLLIN; but read first until it has nothing: some may be waiting in between. */
int http_socket_fd(const struct http_socket *s);
/* Neither blocks: bytes, 0 when nothing goes now, -1 at the end. */
gssize http_socket_read(struct http_socket *s, void *buffer, gsize room);
gssize http_socket_write(struct http_socket *s, const void *data, gsize len);
void http_socket_close(struct http_socket *s);

/* ---- routes of the daemon's own ---- */

/* GET /api-reference.json */
void http_reference_init(void);

#endif
