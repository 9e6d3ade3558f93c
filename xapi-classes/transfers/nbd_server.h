/* nbd_server.h - disk images over NBD for backup programs: a listener in the front, off unless a network has the
 * purpose nbd (TLS only) or insecure_nbd.
 *
 * A client names "/VDI?session_id=SESSION" (VDI.get_nbd_info tells it). Nothing of an image is opened before the
 * session is known, live and has the role vm-admin. Then the backend opens it, read-only, and its NBD server answers
 * through us; the disk has the operation `copy` and there is a task for as long as the connection lasts. It ends with
 * the session, the task, or the purpose. */
#ifndef XENAPID_NBD_SERVER_H
#define XENAPID_NBD_SERVER_H

#include "daemon/store/store.h"
#include "xapi-classes/transfers/nbd_stream.h"

/* Looks at the networks and opens or closes the listeners: at the start, and when a purpose has changed. Any thread. */
void nbd_server_refresh(void);
/* The same when the configuration was read again; nothing before the start. */
void nbd_server_reload(void);
/* The port that it listens on; 0 when it does not. Waits for a refresh that is under way. */
int nbd_server_port(void);
/* Ends listeners and connections, and waits for these until the deadline (monotonic milliseconds). */
void nbd_server_stop(gint64 deadline_ms);

/* Whether a network may serve: NBD_OFF, with TLS only, or without, too. */
enum nbd_purpose { NBD_OFF, NBD_TLS, NBD_PLAIN };
enum nbd_purpose nbd_purpose_of(const struct record *network);

/* ---- nbd_handshake.c ---- */

struct session;

struct nbd_connection {
    struct nbd_stream client, image; /* image.fd is -1 until one is open */
    gboolean must_be_tls;
    struct session *session; /* whose the open image is; NULL: none */
    char vdi[REF_SIZE], task[REF_SIZE];
    char address[64]; /* of the client, for the log */
    gint stop;        /* atomic */
};

/* Up to where data begins to flow. FALSE: it ended before. Blocks. */
gboolean nbd_negotiate(struct nbd_connection *c);
/* Opens the image that a client named; FALSE with *why, for the client. nbd_release undoes it. */
gboolean nbd_open(struct nbd_connection *c, const char *export_name, char **why);
void nbd_release(struct nbd_connection *c);

#endif
