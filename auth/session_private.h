/* session_private.h - what the files of auth/ share among themselves. */
#ifndef XENAPID_SESSION_PRIVATE_H
#define XENAPID_SESSION_PRIVATE_H

#include "auth/access.h"
#include "auth/session.h"

/* Monotonic milliseconds. Tests put the clock forward by auth_clock_offset_ms. */
gint64 auth_now_ms(void);
extern gint64 auth_clock_offset_ms;

static inline guint64 session_roles(const struct session *s)
{
    return __atomic_load_n(&s->roles, __ATOMIC_RELAXED);
}

/* A session for somebody who proved to be id and may do a; others give way to it when there are too many. Takes over
 * id's content. A counted reference, or NULL with f set (TOO_BUSY) when none can give way. */
struct session *session_create(struct identity *id, const struct access *a, const char *originator,
                               const struct origin *origin, gboolean local_only, struct fault *f);
/* Gives it the roles it has now; who has none is out. */
void session_recheck(struct session *s, GHashTable *subjects);
/* Ends what has been idle for too long, writes down who was active, looks at the roles again. */
void sessions_sweep(void *data);

#endif
