/* helper_private.h - the parts of xenapid-auth: auth_main.c takes requests and hands each to a worker process of its
 * own; auth_worker.c is that process; pam_check.c and users.c do the work in it. */
#ifndef XENAPID_AUTH_HELPER_PRIVATE_H
#define XENAPID_AUTH_HELPER_PRIVATE_H

#include "daemon/value/value.h"

/* The one argument that makes the program a worker. */
#define WORKER_ARGUMENT "--worker"

/* One request from descriptor 3, one answer to it; the exit status. The request's params are {"request": what the front
 * sent, "service", "confdir", "log_level", "id"}. */
int worker_main(void);

/* How PAM is to be asked. */
struct pam_place {
    const char *service, *confdir; /* confdir "": the system's */
};
/* Is that the user's password and may the user come in? *name is then the canonical name, which the caller frees;
 * otherwise *why is the true reason, for the log alone. address may be "". */
gboolean pam_check(const struct pam_place *p, const char *user, const char *password, const char *address, char **name,
                   char **why);
/* FALSE with *why for the user, who has proved who he is or has just failed to. */
gboolean pam_change(const struct pam_place *p, const char *user, const char *old, const char *new, char **why);

/* What a name, "u:NAME" or "g:NAME" stands for: a user first, then a group; fault SUBJECT_CANNOT_BE_RESOLVED. */
struct value *users_resolve(const char *name, struct fault *f);
/* The same for an identifier only. */
struct value *users_information(const char *identifier, struct fault *f);
/* {"groups": identifiers, "names": names}; a group is in none. */
struct value *users_groups(const char *identifier, struct fault *f);
/* {"user", "subject_identifier", "uid", "gid", "groups": names, "group_identifiers"} of one who was let in; a user whom
 * only PAM knows has neither uid nor groups. */
struct value *users_identity(const char *user);

#endif
