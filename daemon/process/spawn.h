/* spawn.h - starts a child process with chosen descriptors and no more privilege than it needs. */
#ifndef XENAPID_SPAWN_H
#define XENAPID_SPAWN_H

#include <glib.h>
#include <sys/types.h>

/* Whom a process becomes. */
struct account {
    char *name;
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    int n_groups;
};
/* NULL with *error when there is no such user. */
struct account *account_find(const char *name, GError **error);
void account_free(struct account *a);

struct spawn {
    const char *path;
    char **argv, **envp;
    const int *fds; /* become descriptors 3, 4, ... of the child; it inherits no others but stdout and stderr */
    int n_fds;
    /* The child becomes this user for good: no capabilities, none to be gained. NULL: it stays what we are. */
    const struct account *become;
    int open_files; /* its limit of descriptors is raised to this; 0: left alone */
};
/* The child is in a process group of its own and gets SIGTERM when we die. -1 with *error when it could not be started:
 * what failed in the child is told. */
pid_t spawn_child(const struct spawn *s, GError **error);

#endif
