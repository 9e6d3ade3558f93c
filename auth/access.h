/* access.h - what somebody may do: from a user's name and groups to roles, from roles to a yes or no for one message.
 */
#ifndef XENAPID_ACCESS_H
#define XENAPID_ACCESS_H

#include "daemon/store/store.h"

/* Who somebody is, as the operating system knows them. */
struct identity {
    char *user;    /* "" for a local superuser who gave no name */
    char *sid;     /* "u:NAME" */
    gint64 uid;    /* -1: unknown */
    GStrv groups;  /* names; NULL: none */
    gboolean peer; /* known by the credentials of a UNIX socket, not by a password */
};
void identity_clear(struct identity *id);

struct access {
    gboolean local_superuser;
    guint64 roles; /* ROLE_BITs with all that these reach; 0: may not log in */
    char subject[REF_SIZE];
};

/* The subjects of the store by their identifier ("u:NAME", "g:NAME"), as of one moment: for many questions in a row. */
GHashTable *access_subjects(void);
void access_resolve(const struct identity *id, GHashTable *subjects, struct access *a);
/* Is that uid a superuser here: root, or whoever the daemon itself runs as, when that is an ordinary user? */
gboolean access_uid_is_superuser(gint64 uid);

/* "u:alice", "g:staff": a kind and a name. */
gboolean access_identifier_is_valid(const char *identifier);

#endif
