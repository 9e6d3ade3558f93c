/* session.h - who is logged in: sessions, their roles, their end.
 *
 * A session is a counted object here and an EPHEMERAL record in the store (for session.get_*). Its reference is 128
 * random bits and a secret: it is never logged and never part of an event. Lookups are cheap and take a read lock. */
#ifndef XENAPID_SESSION_H
#define XENAPID_SESSION_H

#include "daemon/call.h"

struct session {
    gint refs;
    char ref[REF_SIZE], uuid[UUID_SIZE];
    char *user;       /* canonical name, "" for the local superuser without one */
    char *originator; /* as the client gave it, or its user agent */
    char *address;
    char *subject;    /* reference of the subject object, or NULL_REF */
    gboolean local_superuser;
    gboolean local_only;    /* slave_local_login: only local_logout and emergency calls */
    guint64 roles;          /* a bit per enum role, with all that these reach */
    gint64 last_active;     /* monotonic seconds */
    gint valid;             /* 0 once logged out or expired */
    GMutex lock;            /* for the members below */
    /* event.register/next: the classes registered, and where the walk stands */
    gboolean registered;
    GHashTable *classes;    /* set of lower-case class names; "*" is all */
    guint64 event_generation;
};

void sessions_init(void);
/* A counted reference to the live session, or NULL; counts as activity. */
struct session *session_find(const char *ref);
/* The same without counting as activity. */
struct session *session_peek(const char *ref);
struct session *session_ref(struct session *s);
void session_unref(struct session *s);
/* May s call m? FALSE with f: RBAC_PERMISSION_DENIED [permission, message]. key is not NULL for one key of a map. */
gboolean session_allows(const struct session *s, const struct message *m, const char *key, struct fault *f);
gboolean session_has_role(const struct session *s, enum role r);
/* Ends it: watchers are told, its record goes; running tasks go on. */
void session_end(struct session *s);

/* Who is behind an HTTP Basic header or a root UNIX peer: logs in (blocking on PAM is done through a callback: done is
 * called once, maybe at once, on any thread, with a counted session that the callee owns or NULL and a fault). */
typedef void session_login_fn(struct session *s, const struct fault *f, void *data);
void session_login(const char *user, const char *password, const char *originator, const struct origin *origin,
                   session_login_fn *done, void *data);

#endif
