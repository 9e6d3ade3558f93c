/* child.h - one child process of the supervisor: started, watched, started again after a while when it died. */
#ifndef XENAPID_CHILD_H
#define XENAPID_CHILD_H

#include "daemon/process/conf.h"
#include "daemon/process/spawn.h"
#include "daemon/codec/wire.h"

struct child;

struct child_callbacks {
    void (*started)(struct child *c);
    /* how: "died of signal 11", "ended with status 1"; failed: by a fault of its own, not killed from outside */
    void (*died)(struct child *c, const char *how, gboolean failed);
    void (*message)(struct child *c, struct wire_message *m);
};

/* name: "auth"; program: a file in conf.helper_dir; become: the user it is run as, NULL for ours. *conf is read at each
 * start. */
struct child *child_new(const char *name, const char *program, const struct account *become, struct conf *const *conf,
                        const struct child_callbacks *callbacks);
void child_free(struct child *c);
const char *child_name(const struct child *c);

gboolean child_start(struct child *c, GError **error);
/* At once after a long life, later and later (up to 5 s) after short ones. */
void child_restart(struct child *c);
void child_forget_restart(struct child *c);

/* Has a process; can be talked to. */
gboolean child_is_alive(const struct child *c);
gboolean child_is_up(const struct child *c);
/* Over its control wire; nothing when it is not up. fd -1: none; it stays the caller's. */
void child_send(struct child *c, const char *method, struct value *params, int fd);
void child_request(struct child *c, gint64 id, const char *method);
/* Asks it to end. */
void child_stop(struct child *c);
void child_kill(struct child *c, int signal_number);

#endif
