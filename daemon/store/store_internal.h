/* store_internal.h - what the store's own files share: store.c, record.c, txn.c, mirror.c, commit.c, changes.c.
 *
 * Locks, in the order in which they are taken: writers (one transaction at a time; also held by an undo), lock (what
 * readers see), queue_lock (what waits for the journal), notify_lock. */
#ifndef XENAPID_STORE_INTERNAL_H
#define XENAPID_STORE_INTERNAL_H

#include <pthread.h>

#include "daemon/store/journal.h"
#include "daemon/store/store.h"

#define MAX_TOMBSTONES    65536
#define MAX_DERIVE_ROUNDS 16
#define MAX_FAILURES      1024

/* ---- objects ---- */

/* What all records of an object have in common; counted, so that a record outlives its object. */
struct key {
    gint refs;
    guint64 order;      /* of creation, in the whole store */
    struct value *text; /* the reference; mirror sets hold this very value */
};
struct key *key_new(const char *ref, guint64 order);
struct key *key_ref(struct key *k);
void key_unref(struct key *k);

static inline struct key *record_key_of(const struct record *r)
{
    return r->key;
}

/* A place in the list of changes: of an object as watchers see it, or of one that was destroyed (a tombstone). */
struct entry {
    GList link;  /* in store.changes while listed; data is this */
    GList grave; /* in store.graves: tombstones only */
    gboolean listed;
    const struct class *class;
    struct key *key;
    struct value *uuid;
    guint64 generation, created;
    struct record *record; /* NULL in a tombstone */
};

struct bucket;
struct object {
    const struct class *class;
    struct key *key;
    struct record *record; /* as readers see it; NULL once it is destroyed */
    struct entry shown;    /* as watchers see it: the newest durable state */
    guint pins;            /* undecided commits that speak of it */
    GList in_class, in_name;
    struct bucket *bucket;
    struct value *uuid; /* that it is indexed under */
};

/* The objects of a class that have the same name_label, oldest first. */
struct bucket {
    struct value *name;
    GQueue objects;
};

struct class_index {
    GQueue all; /* oldest first */
    GHashTable *by_uuid;
    GHashTable *by_name; /* of buckets */
    guint64 version;     /* counts changes */
};

/* ---- commits ---- */

/* What one transaction did to one object: old is NULL for a creation, now for a removal. */
struct change {
    struct record *old, *now;
    struct object *object; /* set and pinned from the moment it is in place */
    gboolean journaled;
};
static inline const struct class *change_class(const struct change *c)
{
    return c->now != NULL ? c->now->class : c->old->class;
}

struct commit {
    guint64 seq; /* 0: not journaled */
    guint64 generation;
    gboolean shown; /* to watchers, though it is not durable yet */
    gsize n;
    struct change changes[];
};

/* A run of commits that were undone, and why. */
struct failure {
    guint64 first, last;
    struct fault fault;
};

struct waiter {
    guint64 seq;
    store_durable_fn *fn;
    void *data;
};

/* ---- the store ---- */

struct store {
    struct journal *journal;

    pthread_rwlock_t lock;
    GHashTable *by_ref; /* of objects, also of destroyed ones that are pinned */
    struct class_index classes[N_CLASSES];
    GQueue changes; /* entries, oldest generation first */
    GQueue graves;
    gsize max_tombstones;
    guint64 visible;
    guint64 oldest_tombstone;

    GMutex writers;
    GThread *writer; /* atomic: who holds writers for a transaction */
    guint64 generation;
    guint64 next_order;

    GMutex queue_lock;
    GCond work, settled;
    GQueue undecided; /* commits, waiting or being written, oldest first */
    GQueue waiters;
    guint64 last_seq; /* given out */
    guint64 decided;  /* durable or undone up to here */
    GArray *failures; /* of struct failure */
    gboolean closing;
    GThread *journal_thread;

    GMutex notify_lock;
    GCond notify_cond;
    guint64 dirty[CLASS_WORDS];
    gboolean notify_stop;
    store_notify_fn *notify;
    void *notify_data;
    GThread *notify_thread;
};

static inline void store_read_lock(struct store *s)
{
    pthread_rwlock_rdlock(&s->lock);
}
static inline void store_write_lock(struct store *s)
{
    pthread_rwlock_wrlock(&s->lock);
}
static inline void store_unlock(struct store *s)
{
    pthread_rwlock_unlock(&s->lock);
}

/* Puts a commit's records in place for readers; the write lock is held. */
void store_place(struct store *s, struct commit *c);
/* One commit less speaks of the object, which is freed when nobody can see it any more; the write lock is held. */
void store_unpin(struct store *s, struct object *o);

/* ---- records (record.c) ---- */

/* Every field at its initial value. */
struct record *record_new(const struct class *class, struct key *key);
struct record *record_copy(const struct record *r);
/* JSON text of what a journal keeps of it; the caller frees. */
char *record_journal_text(struct record *r, gsize *len);
/* The record of a journal's row. NULL with *error set. */
struct record *record_from_journal(const struct class *class, struct key *key, const char *json, gsize len,
                                   GError **error);

/* ---- transactions (txn.c) ---- */

/* An object that a transaction has looked at or changed. */
struct pending {
    const struct class *class;
    struct key *key;
    struct record *old;    /* before the transaction; NULL: not there */
    struct record *now;    /* NULL: destroyed, or not there */
    struct record *synced; /* what mirror sets account for */
    gboolean lent;         /* now was handed out and must not change any more */
    gboolean touched;      /* changed by decree */
    gboolean derive_due, mirror_due;
    gboolean given_ref;   /* made under a reference that others may hold already */
    struct delta *deltas; /* pending changes of its own mirror sets */
};

struct txn {
    struct store *store;
    GHashTable *overlay; /* reference -> struct pending */
    GPtrArray *pendings; /* the same in the order in which they came */
    GPtrArray *old;      /* records that were lent and then replaced */
    gboolean leaned;     /* found a journaled field to have the wanted value already */
    gboolean observes;   /* txn_observes */
};

struct txn *txn_new(struct store *s);
void txn_free(struct txn *t);
/* NULL when there never was such an object. */
struct pending *txn_pending(struct txn *t, const char *ref);
/* A new object: the overlay must not hold it as alive. */
struct pending *txn_add(struct txn *t, struct record *now);
/* Its record, to be changed in place. */
struct record *txn_writable(struct txn *t, struct pending *p);
void txn_remove(struct txn *t, struct pending *p);

/* ---- mirror sets (mirror.c) ---- */

/* A reference field that some other class has a mirror set of. */
struct mirror {
    int field;
    enum class_id holder;
    int set; /* field of the holder */
};
/* The mirrored reference fields of a class. */
const struct mirror *class_mirrors(enum class_id class, gsize *n);
gboolean class_mirrors_field(enum class_id class, int field);
/* Brings the mirror sets in line with all that the transaction has changed so far. */
void txn_sync_mirrors(struct txn *t);

/* ---- commits (commit.c) ---- */

void journal_start(struct store *s);
/* After all commits are decided. */
void journal_stop(struct store *s);
/* What a transaction has changed; NULL when nothing. */
struct commit *commit_collect(struct txn *t);
/* Gives the new records their generation. */
void commit_stamp(struct commit *c, guint64 generation);
void commit_free(struct commit *c);

/* ---- changes (changes.c) ---- */

/* Shows an object to watchers in this state (NULL: gone), at a generation; the write lock is held. */
void changes_show(struct store *s, struct object *o, struct record *record, guint64 generation);
/* Shows a whole commit and unpins its objects; the write lock is held. The caller moves store.visible on. */
void changes_show_commit(struct store *s, struct commit *c);
void changes_clear(struct store *s);
/* Lets go of what watchers saw of an object that is being freed. */
void object_hide(struct object *o);

void notify_stop(struct store *s);
/* Has the watchers told, on another thread. */
void notify_classes(struct store *s, const guint64 changed[CLASS_WORDS]);
void classes_add(guint64 changed[CLASS_WORDS], const struct commit *c);

#endif
