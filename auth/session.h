/* session.h - who is logged in: sessions, their roles, their end.
 *
 * A session is a counted object here and an EPHEMERAL record in the store (for session.get_*). Its reference is 128
 * random bits and a secret: it is never logged and never part of an event. Lookups are cheap and take a read lock.
 *
 * Whoever works for a session holds a reference: as long as anybody does, it neither expires nor gives way. */
#ifndef XENAPID_SESSION_H
#define XENAPID_SESSION_H

#include "daemon/call.h"

struct identity;
struct peer;

struct session {
    gint refs;
    char ref[REF_SIZE], uuid[UUID_SIZE];
    char *user;       /* canonical name, "" for the local superuser without one */
    char *originator; /* as the client gave it, or its user agent */
    char *address;
    char *subject; /* reference of the subject object, or NULL_REF */
    gboolean local_superuser;
    gboolean of_drivers; /* storage drivers of the site */
    gboolean local_only; /* slave_local_login: only local_logout and emergency calls */
    guint64 roles;       /* a bit per enum role, with all that these reach; atomic: use session_has_role */
    gint64 last_active;  /* monotonic milliseconds; atomic */
    gint valid;          /* 0 once logged out or expired */
    GMutex lock;         /* for the members below */
    /* event.register/next: the classes registered, and where the walk stands */
    gboolean registered;
    GHashTable *classes; /* set of lower-case class names; "*" is all */
    guint64 event_generation;
    /* of the sessions' table */
    gint observers;            /* references of those who only look at all sessions */
    struct identity *identity; /* whose roles they are: they may change */
    gint64 stored_active;      /* last_active as the record has it */
    gint64 began;              /* wall clock, seconds */
};

void sessions_init(void);
/* No session expires any more. */
void sessions_stop(void);
/* The helper that knows about users (xenapid-auth), before the first login. */
void auth_set_helper(struct peer *helper);
struct peer *auth_helper(void);
/* A counted reference to the live session, or NULL; counts as activity. */
struct session *session_find(const char *ref);
/* The same without counting as activity. */
struct session *session_peek(const char *ref);
struct session *session_ref(struct session *s);
void session_unref(struct session *s);
/* The session of the storage drivers of the site, made when it is first asked for; it does not expire. Counted; NULL
 * when none can be made. */
struct session *session_for_drivers(void);
/* May s call m? FALSE with f: RBAC_PERMISSION_DENIED [permission, message]. key is not NULL for one key of a map. */
gboolean session_allows(const struct session *s, const struct message *m, const char *key, struct fault *f);
gboolean session_has_role(const struct session *s, enum role r);
/* Ends it: watchers are told, its record goes; running tasks go on. */
void session_end(struct session *s);
/* Subjects, their roles or the configuration changed: every session gets the roles it has now; who has none is out. */
void sessions_recheck(void);
/* All live sessions, in no order, to look at: the array unrefs them. */
GPtrArray *sessions_all(void);
/* Seconds since the epoch of its last call. */
gint64 session_last_active(const struct session *s);
/* "u:NAME" of who logged in; "" for a local superuser. */
const char *session_subject_identifier(const struct session *s);

/* Who is behind an HTTP Basic header or a root UNIX peer: logs in (blocking on PAM is done through a callback: done is
 * called once, maybe at once, on any thread, with a counted session that the callee owns or NULL and a fault). */
typedef void session_login_fn(struct session *s, const struct fault *f, void *data);
void session_login(const char *user, const char *password, const char *originator, const struct origin *origin,
                   session_login_fn *done, void *data);
/* The same for a session that is local_only, which only a pool-admin may have. */
void session_login_local(const char *user, const char *password, const char *originator, const struct origin *origin,
                         session_login_fn *done, void *data);

#endif
