/* http_request.h - a request that has a route, as http_route.c (who is it, short bodies and answers) and http_stream.c
 * (long ones) share it. */
#ifndef XENAPID_HTTP_REQUEST_H
#define XENAPID_HTTP_REQUEST_H

#include "daemon/http/http_internal.h"

struct route {
    const struct http_route *row;
    gsize len;
};

enum stage { STAGE_BODY, STAGE_LOGIN, STAGE_HANDLER };

/* Bytes between an HTTP thread and the one that works on the request. */
struct ring {
    char *data;
    gsize room, at, len;
};

struct http_request {
    gint refs; /* the connection's, that of whoever is to answer, that of an answer that is being sent */
    const struct route *route;
    enum stage stage;
    char *path, *address, *user_agent, *host;
    struct origin origin; /* of these copies: a login outlives the connection */
    struct session *session;
    gboolean session_is_ours; /* made for this request: ends with it */

    GMutex lock;               /* for the rest */
    struct http_connection *c; /* NULL: the client is gone */
    guint status;
    char *content_type;
    GBytes *answer;
    GPtrArray *headers;
    struct fault fault; /* of the login */

    /* ---- routes that stream (http_stream.c) ---- */

    GCond changed;
    struct ring ring;         /* the body as it comes, later the answer as it goes */
    gsize wanted;             /* so much of the body is waited for */
    gboolean waits;           /* the connection is suspended, or about to be, until somebody wakes it */
    gboolean body_done;       /* all of the body has arrived */
    gint64 body_left;         /* of what was announced; -1: it is not known */
    gsize thrown_away;        /* of the body, after the answer was known */
    gboolean answered;        /* the answer is known: what is left of the body is thrown away */
    gboolean raw;             /* it was written past libmicrohttpd */
    gboolean streams_answer;  /* it comes by http_write */
    gint64 length;            /* of it; -1: until the connection is closed */
    gboolean ended, is_whole; /* nothing more will be written; and whether that is all */
    gboolean interrupted;     /* nobody is to wait any more */
    gboolean taken_over;      /* the socket belongs to the one that works on the request */
};

void request_unref(struct http_request *r);
/* Begins a login; FALSE when the request brings nothing to log in with. */
gboolean request_login(struct http_request *r);
/* After work was handed to someone: waits for it, or goes on with next at once. */
enum MHD_Result request_suspend_or(struct http_request *r, enum MHD_Result (*next)(struct http_request *r));
/* Whether session and role are what the route asks for; otherwise it was refused, which *refused tells. */
gboolean request_is_allowed(struct http_request *r, enum MHD_Result *refused);
/* 401 */
enum MHD_Result request_deny(struct http_connection *c);
/* Sends what http_answer was given. */
enum MHD_Result request_send(struct http_request *r);

/* ---- http_stream.c ---- */

enum MHD_Result stream_begin(struct http_connection *c);
/* What http_answer does for such a route, with the lock held. */
void stream_answered(struct http_request *r);

#endif
