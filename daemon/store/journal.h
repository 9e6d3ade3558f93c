/* journal.h - where commits go to last: an interface with one implementation here (SQLite), made so that a pool can put
 * etcd behind it (batch = one etcd transaction, follow = a watch).
 *
 * An object is kept as one row: reference, class name, and the JSON text of the fields that are not at their initial
 * value (mirror sets and ephemeral fields are never written). load and commit are called on one thread at a time; the
 * facts may be read and set meanwhile on others. */
#ifndef XENAPID_JOURNAL_H
#define XENAPID_JOURNAL_H

#include "daemon/value/value.h"

struct journal;

struct journal_change {
    const char *ref;
    const char *class; /* NULL: the object was removed */
    const char *json;
    gsize json_len;
};

/* Called for each object found at load. */
typedef gboolean journal_load_fn(const char *ref, const char *class, const char *json, gsize len, void *data,
                                 GError **error);

struct journal_ops {
    /* All objects, in the order in which they were created. */
    gboolean (*load)(struct journal *j, journal_load_fn *fn, void *data, GError **error);
    /* All changes or none; returns when they are on stable storage. On failure f says why, in the API's words:
     * OUT_OF_SPACE [directory] or INTERNAL_ERROR [text]; the journal stays usable and the next batch tries again. */
    gboolean (*commit)(struct journal *j, const struct journal_change *changes, gsize n, struct fault *f);
    /* Small facts beside the objects (the epoch, who we are): NULL when absent; the caller frees. */
    char *(*get_meta)(struct journal *j, const char *key);
    gboolean (*set_meta)(struct journal *j, const char *key, const char *value, struct fault *f);
    void (*close)(struct journal *j);
};

struct journal {
    const struct journal_ops *ops;
};

#define SCHEMA_VERSION 1
/* Opens or makes DIR/xenapid.db (WAL, synchronous=FULL, mode 0600). An older schema is migrated, in one transaction,
 * after a copy of the file is kept beside it; a newer one is refused with a message that says so. */
struct journal *journal_sqlite_open(const char *dir, GError **error);

#endif
