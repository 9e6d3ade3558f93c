/* event.h - event.from, event.next and their kin: walks of the store's list of changes.
 *
 * A token is "%020d,%020d": the epoch of this process's store and a generation. A waiting watcher is a deferred call in
 * a list, with the classes and objects it wants and a timer; commits wake it. No thread and no queue belongs to it. */
#ifndef XENAPID_EVENT_H
#define XENAPID_EVENT_H

#include "daemon/call.h"

void events_init(void);
/* Answers every waiting watcher now, with no events (shutdown). */
void events_stop(void);
/* Answers those of a session that ended, with SESSION_INVALID. */
void events_session_gone(struct session *s);

#endif
