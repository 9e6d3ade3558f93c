/* store.h - the objects of the API: all in memory, changed in transactions, made durable by a journal.
 *
 * An object's state is a record: immutable, counted, shared. A reader takes a reference to the record as it stands and
 * needs no lock after that; a transaction builds new records and commit puts them in place together. Transactions run
 * one at a time (txn_begin waits for the one before), so what a transaction reads through txn_get is still true when
 * it commits. Keep them short: no I/O, no backend call between txn_begin and txn_commit.
 *
 * A commit is visible to readers at once and durable a little later: the journal thread writes all that is waiting in
 * one batch (group commit). Who must not answer before it is durable waits for the commit's sequence number
 * (store_wait on a worker, store_when_durable elsewhere). When the journal refuses a batch (disk full), it and all
 * later ones that were waiting are undone in memory and their waiters get a fault. Commits that need no journal are
 * not undone.
 *
 * Events show only what is durable. Every commit has a generation number; each object carries the generation of its
 * last change and stands in a list in that order, deletions as tombstones (event.h walks it).
 *
 * All functions may be called on any thread, except where they say otherwise. */
#ifndef XENAPID_STORE_H
#define XENAPID_STORE_H

#include "daemon/value/value.h"
#include "xapi-classes/model/model.h"

struct store;
struct journal;
struct txn;

#define REF_SIZE  48 /* "OpaqueRef:" + 36 + NUL, rounded up */
#define UUID_SIZE 37

/* ---- records ---- */

struct record {
    gint refs;
    const struct class *class;
    guint64 generation;            /* of the commit that made it */
    guint64 created;               /* generation of the commit that created the object */
    const char *ref;               /* owned by the object's key, lives as long as the record */
    GBytes *bytes[N_WIRE_FORMATS]; /* made when first asked for; use record_bytes() */
    void *key;                     /* counted holder of ref */
    struct value *fields[];        /* class->n_fields of them, in order; never NULL */
};

struct record *record_ref(struct record *r);
void record_unref(struct record *r); /* NULL is allowed */
typedef struct record record;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(record, record_unref)

/* A record of an object that is not in the store, with initial values but for what the caller puts there before anybody
 * else sees it (record_put). The caller unrefs it. */
struct record *record_standing(enum class_id class, const char *ref);
/* Takes v over. Only before others see the record. */
void record_put(struct record *r, int field, struct value *v);

/* The record as a struct of all its fields, serialised once per format. Borrowed: lives as long as r. */
GBytes *record_bytes(struct record *r, enum wire_format format);
/* A VALUE_BLOB that holds a reference to r: what get_record answers. Heap. */
struct value *record_value(struct record *r);
/* An ordinary map of its fields. Heap. */
struct value *record_map(struct record *r);

/* Reading a field: f is an F_CLASS_name number of the record's class; a wrong type answers the neutral element. */
static inline struct value *record_field(const struct record *r, int f)
{
    return r->fields[f];
}
static inline const char *record_str(const struct record *r, int f)
{
    return value_str(r->fields[f]);
}
static inline gint64 record_int(const struct record *r, int f)
{
    return value_as_int(r->fields[f]);
}
static inline gboolean record_bool(const struct record *r, int f)
{
    return value_as_bool(r->fields[f]);
}
static inline double record_float(const struct record *r, int f)
{
    return value_as_float(r->fields[f]);
}
/* NULL when the key is absent. */
static inline const char *record_key(const struct record *r, int f, const char *key)
{
    return value_get_str(r->fields[f], key, NULL);
}

/* ---- the store ---- */

/* Opens a store over a journal (taken over, also on failure; NULL: nothing is durable, for tests) and loads it: mirror
 * sets are built, fields that a stored object lacks take their initial value, stored fields that the class does not
 * have are left out with a warning. NULL with *error set when the journal cannot be read, a row is damaged or of an
 * unknown class. All that was loaded has generation 1. */
struct store *store_open(struct journal *journal, GError **error);
/* How many deletions watchers can still be told of; before the first one. Default 65536. */
void store_set_max_tombstones(struct store *s, gsize n);
/* Waits until all commits are durable and closes the journal. No other thread may be using the store. */
void store_close(struct store *s);

/* Small facts beside the objects, kept by the journal: who we are, the epoch. NULL when absent (or nothing is durable);
 * the caller frees. Setting returns when the fact is on stable storage. */
char *store_get_meta(struct store *s, const char *key);
gboolean store_set_meta(struct store *s, const char *key, const char *value, struct fault *f);

/* A reference to the object's present record, or NULL. ref may be NULL or anything. */
struct record *store_get(struct store *s, enum class_id class, const char *ref);
/* The same, whatever the class is. */
struct record *store_get_any(struct store *s, const char *ref);
struct record *store_get_by_uuid(struct store *s, enum class_id class, const char *uuid);
/* All of a class / all with that name, as of one moment, oldest first. The array unrefs its records. */
GPtrArray *store_all(struct store *s, enum class_id class);
GPtrArray *store_by_name(struct store *s, enum class_id class, const char *name_label);
gsize store_count(struct store *s, enum class_id class);
/* Another one after each change to an object of the class: what was made of store_all is true while it stays. */
guint64 store_class_version(struct store *s, enum class_id class);

/* ---- transactions ---- */

/* Never NULL. Must end in txn_commit or txn_abort, on the same thread. Not re-entrant. */
struct txn *txn_begin(struct store *s);
/* Records as this transaction sees them, borrowed until it ends; NULL when there is none. A record that was handed out
 * does not change: get it again to see what was set since. */
struct record *txn_get(struct txn *t, enum class_id class, const char *ref);
struct record *txn_get_any(struct txn *t, const char *ref);
/* As store_all, with this transaction's own changes. */
GPtrArray *txn_all(struct txn *t, enum class_id class);
/* Adds an object with every field at its initial value, uuid and ref made here; answers its ref, which stays valid
 * until the transaction ends. With ref or uuid not NULL these are used (the caller knows that they are free); a given
 * ref costs a look at all objects that may refer to it already. */
const char *txn_create(struct txn *t, enum class_id class, const char *ref, const char *uuid);
/* Sets a field; takes over v (heap or arena: it is kept by value_ref). The object must exist. A field set to an equal
 * value is no change. Mirror sets cannot be set. */
void txn_set(struct txn *t, enum class_id class, const char *ref, int field, struct value *v);
void txn_set_str(struct txn *t, enum class_id class, const char *ref, int field, const char *s);
void txn_set_int(struct txn *t, enum class_id class, const char *ref, int field, gint64 i);
void txn_set_bool(struct txn *t, enum class_id class, const char *ref, int field, gboolean b);
void txn_set_float(struct txn *t, enum class_id class, const char *ref, int field, double d);
void txn_set_time(struct txn *t, enum class_id class, const char *ref, int field, gint64 epoch_seconds);
/* Map fields: one key; remove of a missing key is no change. */
void txn_put_key(struct txn *t, enum class_id class, const char *ref, int field, const char *key, const char *value);
void txn_remove_key(struct txn *t, enum class_id class, const char *ref, int field, const char *key);
/* Removes the object; references to it in other objects' plain fields stay as they are, mirror sets lose it. */
void txn_destroy(struct txn *t, enum class_id class, const char *ref);
/* Counts the object as changed though nothing is (event.inject). */
void txn_touch(struct txn *t, enum class_id class, const char *ref);
/* Runs the classes' derive functions for all that changed (they may change more), updates indexes and mirror sets, puts
 * the new records in place. Answers the sequence number to wait for, 0 when there is nothing to wait for. Who set what
 * was set already by a commit that is not durable yet waits for that one. */
guint64 txn_commit(struct txn *t);
/* The transaction notes what is true in the world whether it is written or not, and was promised to nobody: watchers
 * may see it before it is durable, and its undoing, too. Before txn_commit, on its thread. */
void txn_observes(struct txn *t);
void txn_abort(struct txn *t);

/* ---- durability ---- */

/* Blocks until commit seq is durable. FALSE with f set (OUT_OF_SPACE [where], INTERNAL_ERROR [why]) when it was
 * undone. */
gboolean store_wait(struct store *s, guint64 seq, struct fault *f);
/* Calls fn once, on the journal's thread, with NULL or the fault, when seq is decided. Answers FALSE, and never calls
 * fn, when it is durable already. */
typedef void store_durable_fn(const struct fault *f, void *data);
gboolean store_when_durable(struct store *s, guint64 seq, store_durable_fn *fn, void *data);

/* ---- changes ---- */

/* Newest generation that watchers may see (all commits up to it are durable). */
guint64 store_generation(struct store *s);
/* Tombstones up to and with this generation have been dropped. */
guint64 store_oldest_tombstone(struct store *s);

/* One entry of a walk: record is NULL for a deletion. */
struct store_change {
    const struct class *class;
    const char *ref;
    const char *uuid;
    guint64 generation, created;
    struct record *record;
};
/* Calls fn for every object that changed after generation since and is visible, oldest change first; the cost is the
 * number of changes. Borrowed data. Objects that came and went since then are left out, and so are those of NO_EVENTS
 * classes. Answers the generation up to which the walk is complete. No lock is held while fn runs. */
typedef void store_change_fn(const struct store_change *c, void *data);
guint64 store_walk(struct store *s, guint64 since, store_change_fn *fn, void *data);

/* fn is called, on a thread of the store's, after commits became visible to watchers: changed is a bit per class_id
 * (N_CLASSES bits in guint64 words). It must be quick. Set once, before the first commit. */
#define CLASS_WORDS ((N_CLASSES + 63) / 64)
typedef void store_notify_fn(const guint64 changed[CLASS_WORDS], void *data);
void store_set_notify(struct store *s, store_notify_fn *fn, void *data);

void uuid_generate_text(char uuid[UUID_SIZE]); /* random, version 4 */
gboolean uuid_is_valid(const char *text);

#endif
