/* http.h - the listeners: libmicrohttpd, routing, limits, TLS; requests become exchanges (dispatch.h). */
#ifndef XENAPID_HTTP_H
#define XENAPID_HTTP_H

#include "daemon/process/conf.h"

/* Starts serving on a listening socket (taken over). kind is "https", "http" or "unix"; address is for the log.
 * FALSE with *error set. */
gboolean http_listen(int fd, const char *kind, const char *address, GError **error);
/* Reads certificate and key again; connections made from now on use them. */
gboolean http_reload_tls(GError **error);
/* Stops accepting and closes idle connections; those that are busy close after their answer. */
void http_quiesce(void);
/* Waits until what is in flight is answered, until the deadline (monotonic milliseconds), then closes the rest. FALSE:
 * some did not let themselves be closed within seconds; the threads that serve them go on, nothing of them may be
 * freed.
 */
gboolean http_stop(gint64 deadline_ms);

/* A handler for GET, PUT, CONNECT, ... of a path (longest prefix wins, with and without a trailing slash); the
 * transfer-carrying handlers register here. See http_route.h. */

#endif
