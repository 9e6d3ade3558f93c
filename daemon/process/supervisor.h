/* supervisor.h - starts the front and the helpers, joins them, restarts what dies, passes signals on. */
#ifndef XENAPID_SUPERVISOR_H
#define XENAPID_SUPERVISOR_H

#include "daemon/process/conf.h"
#include "daemon/process/listen.h"

/* Runs until it is told to stop; answers the exit status. Takes over *c (it is replaced at a reload). account is whom
 * the front becomes, NULL when we are not root. */
int supervisor_run(struct conf **c, const struct listeners *listeners, const struct account *account);

#endif
