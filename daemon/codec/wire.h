/* wire.h - the local channel between xenapid's processes: JSON-RPC 2.0, one message a line, over a UNIX stream socket.
 *
 * The same JSON that clients use, so a helper can be driven by hand. A message is one line of compact JSON ended by
 * '\n'; descriptors travel by SCM_RIGHTS with the message that has "fds": N beside "method" or "result". Both ends may
 * send requests ({"id":n,"method":"m","params":{...}}), answers ({"id":n,"result":v} or {"id":n,"error":{"code":1,
 * "message":CODE,"data":[params]}}) and notifications (a method without an id). params is always one object. */
#ifndef XENAPID_WIRE_H
#define XENAPID_WIRE_H

#include "daemon/value/value.h"

#define WIRE_MAX_LINE (16 * 1024 * 1024)
#define WIRE_MAX_FDS  16

struct wire;

/* One message as read. All of it is freed by wire_message_clear, descriptors that were not taken are closed. */
struct wire_message {
    gint64 id;             /* -1: a notification */
    char *method;          /* NULL: an answer */
    struct value *params;  /* requests and notifications: a MAP, never NULL there */
    struct value *result;  /* answers: NULL when it failed */
    struct fault fault;    /* answers that failed */
    int fds[WIRE_MAX_FDS]; /* -1 when taken or absent */
    int n_fds;
};
void wire_message_clear(struct wire_message *m);

/* Takes over fd (a connected UNIX stream socket). Never NULL. */
struct wire *wire_new(int fd);
void wire_free(struct wire *w);
int wire_fd(const struct wire *w);

/* Reads the next message, blocking; timeout_ms -1 waits for ever. 1: a message; 0: time is up; -1: the peer is gone or
 * sent what is no message (errno says; EPROTO). One reader at a time. */
int wire_read(struct wire *w, struct wire_message *m, int timeout_ms);

/* Each sends one whole message, under a lock: any thread. params and result may be NULL ({} and ""). FALSE when the
 * peer is gone. Descriptors are duplicated into the message: the caller keeps its own. */
gboolean wire_request(struct wire *w, gint64 id, const char *method, struct value *params, const int *fds, int n_fds);
gboolean wire_notify(struct wire *w, const char *method, struct value *params, const int *fds, int n_fds);
gboolean wire_answer(struct wire *w, gint64 id, struct value *result, const int *fds, int n_fds);
gboolean wire_answer_fault(struct wire *w, gint64 id, const struct fault *f);

/* A connected pair of close-on-exec sockets; FALSE with errno. */
gboolean wire_pair(int fds[2]);

#endif
