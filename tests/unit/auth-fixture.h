/* auth-fixture.h - sessions over a store of their own, with a helper that the test plays and a clock that it moves. */
#ifndef XENAPID_TESTS_AUTH_FIXTURE_H
#define XENAPID_TESTS_AUTH_FIXTURE_H

#include "auth/session_private.h"

extern struct conf *config;        /* what holds now; auth_begin() makes a new one */
extern const struct origin remote; /* 192.0.2.1 */
extern gint asked;                 /* how often the helper was asked */
extern gint deaths;                /* so many logins of the user "die" kill the helper */

/* Once, before and after all tests. */
void auth_set_up(void);
void auth_tear_down(void);
/* At the beginning of each: nobody is logged in, no subjects, nothing counted, small limits. */
void auth_begin(void);
void end_everybody(void);
void pass_time(int seconds);

/* A subject with one role; its reference, which the caller frees. */
char *add_subject(const char *identifier, const char *role);
void remove_subjects(void);

/* ---- a login and what became of it ---- */

struct outcome {
    GMutex lock;
    GCond done;
    int n;
    struct session *session;
    struct fault fault;
    gint64 took; /* milliseconds */
    gint64 began;
};

void outcome_init(struct outcome *o);
void outcome_clear(struct outcome *o);
void outcome_done(struct session *s, const struct fault *f, void *data); /* session_login_fn */
void outcome_wait(struct outcome *o);

/* Logs in and waits; NULL with *fault set. fault and took (milliseconds) may be NULL. */
struct session *log_in_from(const struct origin *origin, const char *user, const char *password, const char *originator,
                            char **fault, gint64 *took);
/* From remote, with the right password; it has to succeed. */
struct session *log_in(const char *user, const char *originator);
/* Is there a session with that reference? */
gboolean lives(const char *ref);

#endif
