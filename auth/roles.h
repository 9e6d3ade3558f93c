/* roles.h - the roles and the permissions that they are made of, as names, references and sets of bits.
 *
 * The roles are objects in the store. A permission is one message, or one key of a map ("vm.start",
 * "vm.add_to_other_config/key:folder"): there are about two thousand of them, so they are worked out of the model's
 * tables. They are records of class role, too, but not in the store: no event tells of them. The uuid of both is the
 * MD5 sum of the name, so it is the same on every installation. */
#ifndef XENAPID_ROLES_H
#define XENAPID_ROLES_H

#include "daemon/store/store.h"

/* Sets of roles: one bit per enum role. */
#define ROLE_BIT(r) (G_GUINT64_CONSTANT(1) << (r))
/* Beside them: reaches the messages that the client-cert column names. */
#define ROLES_CLIENT_CERT (G_GUINT64_CONSTANT(1) << 32)

/* r and all roles below it. */
guint64 roles_reached(enum role r);

struct permission {
    const char *name;
    guint8 id[16]; /* the bytes of its uuid */
    guint8 role;   /* the lowest that has it */
    gboolean client_cert;
};

/* Sorted by id. */
const struct permission *permissions_all(gsize *n);
/* NULL when there is none. */
const struct permission *permission_by_name(const char *name);
const struct permission *permission_by_uuid(const char *uuid);
const struct permission *permission_by_ref(const char *ref);
/* The record of one of permissions_all(), borrowed: it lasts as long as the process. */
struct record *permission_record(const struct permission *p);
/* Whether a set of roles has it. */
gboolean permission_in(const struct permission *p, guint64 roles);
/* The name of key's own permission of a map field's message; the caller frees it. */
char *permission_of_key(const char *message_permission, const char *key);

/* The reference of whatever role or permission has that name. */
void role_ref_of_name(const char *name, char ref[REF_SIZE]);
/* The role that an object of the store stands for; FALSE for permissions and everything else. */
gboolean role_of_ref(const char *ref, enum role *r);

/* The names of all permissions and roles that a set of roles reaches, for session.rbac_permissions: one value shared by
 * all who ask. The caller unrefs it. */
struct value *roles_permission_names(guint64 roles);

/* Puts the roles' objects into the store, or in order. Once the store is open, before requests. */
void roles_start(void);

#endif
