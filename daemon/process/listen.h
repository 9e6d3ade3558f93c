/* listen.h - the listening sockets, made by the supervisor or taken from systemd, used by the front. */
#ifndef XENAPID_LISTEN_H
#define XENAPID_LISTEN_H

#include "daemon/process/conf.h"
#include "daemon/process/control.h"
#include "daemon/process/spawn.h"

struct listeners {
    struct control_listener *l;
    int n;
    GPtrArray *made; /* paths of UNIX sockets that we made and remove at the end */
};

/* What systemd handed over, or else what the configuration says. account is the front's user when we are root, NULL
 * otherwise. FALSE with *error: which address, why, and what to do about it. */
gboolean listeners_open(struct listeners *ls, const struct conf *c, const struct account *account, GError **error);
/* Closes them and removes the sockets' files. */
void listeners_close(struct listeners *ls);
const char *listener_kind_name(enum listener_kind kind);

#endif
