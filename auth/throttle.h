/* throttle.h - failed logins are counted per source and per user, and who fails often is made to wait. */
#ifndef XENAPID_THROTTLE_H
#define XENAPID_THROTTLE_H

#include "daemon/call.h"

/* Where a login comes from: an address (IPv6: its /64, which one machine can have all of), or "unix:UID". */
#define SOURCE_SIZE 64
void throttle_source(const struct origin *origin, char source[SOURCE_SIZE]);

/* How many milliseconds a login has to have waited, from its arrival, before its password is looked at. */
guint throttle_wait(const char *source, const char *user);
void throttle_failed(const char *source, const char *user);
void throttle_succeeded(const char *source, const char *user);
/* Entries now in the table; never more than THROTTLE_ENTRIES. */
#define THROTTLE_ENTRIES 4096
guint throttle_size(void);
void throttle_forget_all(void);

#endif
