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
    HTTP_PUBLIC,  /* anyone; http_session() is NULL */
    HTTP_SESSION, /* who is logged in; 401 for others */
};

struct http_route {
    const char *method, *path; /* "GET", "/export" */
    enum http_access access;
    enum role role; /* that the session needs; 0: any. 403 for others */
    http_route_fn *handler;
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

/* ---- routes of the daemon's own ---- */

/* GET /api-reference.json */
void http_reference_init(void);

#endif
