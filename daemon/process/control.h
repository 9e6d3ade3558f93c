/* control.h - the front's end of the wire to its supervisor: what it listens on, the helpers' sockets, reload and stop.
 *
 * The supervisor names the wire by XENAPID_CONTROL_FD and sends "listener" {kind, address} with one descriptor for
 * each socket, "helper" {name} with one descriptor for each helper (again whenever one was replaced), then "start";
 * later "reload", "stop" and the request "ping". The front sends "ready", "status" {text}, "restart" and "stop". */
#ifndef XENAPID_CONTROL_H
#define XENAPID_CONTROL_H

#include <glib.h>

enum listener_kind { LISTENER_HTTPS, LISTENER_HTTP, LISTENER_UNIX };

struct control_listener {
    enum listener_kind kind;
    char *address; /* "127.0.0.1:8443" with the real port, or a path: for the log */
    int fd;        /* listening, non-blocking, close-on-exec; the front owns it from now on */
};

/* All are called on control's own thread, one at a time; they may not block for long (ping waits behind them). Each may
 * be NULL. */
struct control_callbacks {
    /* Once, at "start": everything to listen on. The array is borrowed, the descriptors are yours. Helpers that were
     * there at start have been handed over before. */
    void (*listeners)(const struct control_listener *l, int n, void *data);
    /* "auth" or "backend": a new socket of it, which the callee takes over (peer_connect). */
    void (*helper)(const char *name, int fd, void *data);
    void (*reload)(void *data); /* the file changed: conf_reload */
    /* Finish what is in flight within conf.stop_timeout seconds and exit 0. Also called when the supervisor is gone. */
    void (*stop)(void *data);
    /* Is the front well? FALSE lets the supervisor's watchdog lapse. NULL counts as well. */
    gboolean (*ping)(void *data);
    void *data;
};

/* Starts the thread. FALSE when the process was not started by a supervisor (no XENAPID_CONTROL_FD), said in the log.
 */
gboolean control_start(const struct control_callbacks *c);
/* The front accepts connections: the supervisor tells systemd. */
void control_ready(void);
/* One line for "systemctl status". */
void control_status(const char *text);
/* The supervisor is to stop us and start another front ("restart"), or to end everything ("stop"). Answers at once; the
 * stop callback comes as for any other stop. Any thread. */
void control_ask(const char *what);
/* Ends the thread; after this no callback runs. Not from a callback. */
void control_end(void);

#endif
