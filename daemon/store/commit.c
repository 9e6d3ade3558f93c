/* commit.c - from a finished transaction to a durable one: deriving, putting in place, the journal's thread, waiting,
 * and undoing what the journal refused. */
#include "daemon/store/store_internal.h"

/* ---- deriving ---- */

static GPtrArray *due_for_derive(struct txn *t)
{
    GPtrArray *due = g_ptr_array_new();
    for (guint i = 0; i < t->pendings->len; i++) {
        struct pending *p = t->pendings->pdata[i];
        if (p->derive_due && p->now != NULL && p->class->derive != NULL)
            g_ptr_array_add(due, p);
        p->derive_due = FALSE;
    }
    return due;
}

/* Mirror sets and derived fields follow from the changes and may follow from each other: until all is quiet. */
static void derive(struct txn *t)
{
    for (int round = 0;; round++) {
        txn_sync_mirrors(t);
        g_autoptr(GPtrArray) due = due_for_derive(t);
        if (due->len == 0)
            return;
        if (round == MAX_DERIVE_ROUNDS) {
            const struct pending *p = due->pdata[0];
            g_critical("%s %s: derived fields do not settle", p->class->name, value_str(p->key->text));
            return;
        }
        for (guint i = 0; i < due->len; i++) {
            struct pending *p = due->pdata[i];
            if (p->now != NULL)
                p->class->derive(t, value_str(p->key->text));
        }
    }
}

/* ---- collecting ---- */

/* Whether now differs from old; *journaled says whether in something that the journal keeps. */
static gboolean record_differs(struct record *old, struct record *now, gboolean *journaled)
{
    gboolean differs = FALSE;
    for (int i = 0; i < now->class->n_fields; i++) {
        const struct field *f = &now->class->fields[i];
        if (now->fields[i] == old->fields[i] || value_equal(now->fields[i], old->fields[i]))
            continue;
        differs = TRUE;
        if (!f->ephemeral && !f->mirrors)
            *journaled = TRUE;
    }
    return differs;
}

static gboolean collect_change(const struct pending *p, struct change *c)
{
    if (p->now == p->old)
        return FALSE;
    gboolean journaled = p->now == NULL || p->old == NULL;
    if (!journaled && !record_differs(p->old, p->now, &journaled) && !p->touched)
        return FALSE;
    *c = (struct change){
        .old = p->old != NULL ? record_ref(p->old) : NULL,
        .now = p->now != NULL ? record_ref(p->now) : NULL,
        .journaled = journaled && !(p->class->flags & EPHEMERAL),
    };
    return TRUE;
}

struct commit *commit_collect(struct txn *t)
{
    struct commit *c = g_malloc0(sizeof(*c) + t->pendings->len * sizeof(c->changes[0]));
    for (guint i = 0; i < t->pendings->len; i++)
        if (collect_change(t->pendings->pdata[i], &c->changes[c->n]))
            c->n++;
    if (c->n == 0)
        g_clear_pointer(&c, g_free);
    return c;
}

void commit_stamp(struct commit *c, guint64 generation)
{
    c->generation = generation;
    for (gsize i = 0; i < c->n; i++) {
        struct record *r = c->changes[i].now;
        if (r == NULL)
            continue;
        r->generation = generation;
        if (r->created == 0)
            r->created = generation;
    }
}

void commit_free(struct commit *c)
{
    if (c == NULL)
        return;
    for (gsize i = 0; i < c->n; i++) {
        record_unref(c->changes[i].old);
        record_unref(c->changes[i].now);
    }
    g_free(c);
}

static gboolean commit_is_journaled(const struct store *s, const struct commit *c)
{
    for (gsize i = 0; i < c->n && s->journal != NULL; i++)
        if (c->changes[i].journaled)
            return TRUE;
    return FALSE;
}

/* ---- committing ---- */

/* Under the write lock. What is still to be written keeps its objects until then. */
static void show_at_once(struct store *s, struct commit *c, gboolean journaled)
{
    for (gsize i = 0; i < c->n && journaled; i++)
        c->changes[i].object->pins++;
    c->shown = TRUE;
    changes_show_commit(s, c);
    s->visible = c->generation;
}

/* Takes over c. */
static guint64 publish(struct store *s, struct commit *c, gboolean observes)
{
    guint64 changed[CLASS_WORDS] = {0};
    gboolean journaled = commit_is_journaled(s, c);
    commit_stamp(c, ++s->generation);
    store_write_lock(s);
    store_place(s, c);
    g_mutex_lock(&s->queue_lock);
    guint64 seq = c->seq = journaled ? ++s->last_seq : 0;
    /* Watchers see commits in order: one that needs no journal still waits for those before it that do. */
    gboolean at_once = (!journaled || observes) && s->undecided.length == 0;
    if (at_once) {
        show_at_once(s, c, journaled);
        classes_add(changed, c);
    }
    if (journaled || !at_once) {
        g_queue_push_tail(&s->undecided, c);
        g_cond_signal(&s->work);
    } else {
        commit_free(c);
    }
    g_mutex_unlock(&s->queue_lock);
    store_unlock(s);
    notify_classes(s, changed);
    return seq;
}

static guint64 newest_undecided(struct store *s)
{
    g_mutex_lock(&s->queue_lock);
    guint64 seq = s->decided < s->last_seq ? s->last_seq : 0;
    g_mutex_unlock(&s->queue_lock);
    return seq;
}

void txn_observes(struct txn *t)
{
    t->observes = TRUE;
}

guint64 txn_commit(struct txn *t)
{
    struct store *s = t->store;
    derive(t);
    struct commit *c = commit_collect(t);
    guint64 seq = c != NULL ? publish(s, c, t->observes) : 0;
    /* Who wanted a value that was there already relies on the commit that put it there. */
    if (seq == 0 && t->leaned)
        seq = newest_undecided(s);
    txn_abort(t);
    return seq;
}

/* ---- the journal's thread: writing ---- */

/* Adds what the journal must keep of a commit; of an object that a batch changes twice, only the last state. */
static void batch_add(GHashTable *places, GPtrArray *records, GPtrArray *refs, const struct commit *c)
{
    for (gsize i = 0; i < c->n; i++) {
        const struct change *change = &c->changes[i];
        if (!change->journaled)
            continue;
        const char *ref = change->now != NULL ? change->now->ref : change->old->ref;
        gpointer place;
        if (!g_hash_table_lookup_extended(places, ref, NULL, &place)) {
            place = GUINT_TO_POINTER(refs->len);
            g_hash_table_insert(places, (char *) ref, place);
            g_ptr_array_add(refs, (char *) ref);
            g_ptr_array_add(records, NULL);
        }
        records->pdata[GPOINTER_TO_UINT(place)] = change->now;
    }
}

static gboolean batch_write(struct store *s, GPtrArray *commits, struct fault *f)
{
    g_autoptr(GHashTable) places = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) records = g_ptr_array_new();
    g_autoptr(GPtrArray) refs = g_ptr_array_new();
    for (guint i = 0; i < commits->len; i++)
        if (((struct commit *) commits->pdata[i])->seq != 0)
            batch_add(places, records, refs, commits->pdata[i]);
    if (refs->len == 0)
        return TRUE;
    g_autofree struct journal_change *changes = g_new0(struct journal_change, refs->len);
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < refs->len; i++) {
        struct record *r = records->pdata[i];
        changes[i].ref = refs->pdata[i];
        if (r == NULL)
            continue;
        char *text = record_journal_text(r, &changes[i].json_len);
        g_ptr_array_add(texts, text);
        changes[i].class = r->class->name;
        changes[i].json = text;
    }
    return s->journal->ops->commit(s->journal, changes, refs->len, f);
}

static void commit_unpin(struct store *s, struct commit *c)
{
    for (gsize i = 0; i < c->n; i++)
        store_unpin(s, c->changes[i].object);
}

/* Lets watchers see a batch that is durable now, and its callers answer. Takes over the commits. */
static void batch_settle(struct store *s, GPtrArray *commits)
{
    guint64 changed[CLASS_WORDS] = {0};
    guint64 seq = 0;
    store_write_lock(s);
    for (guint i = 0; i < commits->len; i++) {
        struct commit *c = commits->pdata[i];
        if (c->shown) {
            commit_unpin(s, c);
        } else {
            changes_show_commit(s, c);
            classes_add(changed, c);
        }
        seq = MAX(seq, c->seq);
    }
    s->visible = ((struct commit *) commits->pdata[commits->len - 1])->generation;
    store_unlock(s);
    g_mutex_lock(&s->queue_lock);
    for (guint i = 0; i < commits->len; i++)
        g_queue_pop_head(&s->undecided);
    s->decided = MAX(s->decided, seq);
    g_cond_broadcast(&s->settled);
    g_mutex_unlock(&s->queue_lock);
    notify_classes(s, changed);
    for (guint i = 0; i < commits->len; i++)
        commit_free(commits->pdata[i]);
}

/* ---- the journal's thread: waiters ---- */

static const struct fault *failure_of(const struct store *s, guint64 seq)
{
    for (guint i = s->failures->len; i > 0; i--) {
        const struct failure *f = &g_array_index(s->failures, struct failure, i - 1);
        if (seq >= f->first && seq <= f->last)
            return &f->fault;
    }
    return NULL;
}

static void fault_copy(struct fault *dst, const struct fault *src)
{
    fault_setv(dst, src->code, (const char *const *) src->params);
}

static gboolean a_waiter_is_due(const struct store *s)
{
    for (GList *l = s->waiters.head; l != NULL; l = l->next)
        if (((struct waiter *) l->data)->seq <= s->decided)
            return TRUE;
    return FALSE;
}

static void run_waiters(struct store *s)
{
    GQueue due = G_QUEUE_INIT;
    g_mutex_lock(&s->queue_lock);
    for (GList *l = s->waiters.head, *next; l != NULL; l = next) {
        next = l->next;
        if (((struct waiter *) l->data)->seq > s->decided)
            continue;
        g_queue_unlink(&s->waiters, l);
        g_queue_push_tail_link(&due, l);
    }
    g_mutex_unlock(&s->queue_lock);
    struct waiter *w;
    while ((w = g_queue_pop_head(&due)) != NULL) {
        struct fault f = FAULT_INIT;
        w->fn(store_wait(s, w->seq, &f) ? NULL : &f, w->data);
        fault_clear(&f);
        g_free(w);
    }
}

gboolean store_wait(struct store *s, guint64 seq, struct fault *f)
{
    g_mutex_lock(&s->queue_lock);
    while (s->decided < seq)
        g_cond_wait(&s->settled, &s->queue_lock);
    const struct fault *why = failure_of(s, seq);
    if (why != NULL)
        fault_copy(f, why);
    g_mutex_unlock(&s->queue_lock);
    return why == NULL;
}

gboolean store_when_durable(struct store *s, guint64 seq, store_durable_fn *fn, void *data)
{
    g_mutex_lock(&s->queue_lock);
    gboolean later = s->decided < seq || failure_of(s, seq) != NULL;
    if (later) {
        struct waiter *w = g_new(struct waiter, 1);
        *w = (struct waiter){seq, fn, data};
        g_queue_push_tail(&s->waiters, w);
        g_cond_signal(&s->work);
    }
    g_mutex_unlock(&s->queue_lock);
    return later;
}

/* ---- the journal's thread: undoing ---- */

static void revive(struct txn *t, const struct record *old)
{
    struct record *r = record_copy(old);
    for (int i = 0; i < r->class->n_fields; i++)
        if (r->class->fields[i].mirrors)
            record_put(r, i, value_ref(r->class->fields[i].initial_value));
    txn_add(t, r)->given_ref = TRUE;
}

static void revert_fields(struct txn *t, struct pending *p, const struct change *c)
{
    for (int i = 0; i < p->class->n_fields; i++)
        if (c->old->fields[i] != c->now->fields[i] && !p->class->fields[i].mirrors)
            record_put(txn_writable(t, p), i, value_ref(c->old->fields[i]));
    p->mirror_due = TRUE;
}

/* Takes back what one change did and nothing else: a commit that needed no journal may have changed the same object
 * since, and its caller was told that it is done. */
static void revert(struct txn *t, const struct change *c)
{
    struct pending *p = txn_pending(t, c->now != NULL ? c->now->ref : c->old->ref);
    gboolean there = p != NULL && p->now != NULL;
    if (c->old == NULL) {
        if (there)
            txn_remove(t, p);
    } else if (c->now == NULL) {
        if (!there)
            revive(t, c->old);
    } else if (there && p->class == c->now->class) {
        revert_fields(t, p, c);
    }
}

static struct commit *undo_collect(struct store *s, GPtrArray *commits)
{
    struct txn *t = txn_new(s);
    for (guint i = commits->len; i > 0; i--) {
        const struct commit *c = commits->pdata[i - 1];
        for (gsize k = c->n; k > 0 && c->seq != 0; k--)
            revert(t, &c->changes[k - 1]);
    }
    derive(t);
    struct commit *undo = commit_collect(t);
    txn_free(t);
    return undo;
}

/* Shows all objects of a commit as they are after the undo. */
static void show_present(struct store *s, struct commit *c, guint64 generation)
{
    for (gsize i = 0; i < c->n; i++) {
        struct object *o = c->changes[i].object;
        changes_show(s, o, o->record, generation);
        store_unpin(s, o);
    }
}

static void remember_failure(struct store *s, guint64 first, const struct fault *f)
{
    struct failure *before = NULL;
    if (s->failures->len > 0)
        before = &g_array_index(s->failures, struct failure, s->failures->len - 1);
    /* A disk that stays full makes one long run. */
    if (before != NULL && before->last + 1 == first && g_strcmp0(before->fault.code, f->code) == 0) {
        before->last = s->last_seq;
        return;
    }
    if (s->failures->len == MAX_FAILURES)
        g_array_remove_index(s->failures, 0);
    struct failure failure = {.first = first, .last = s->last_seq, .fault = FAULT_INIT};
    fault_copy(&failure.fault, f);
    g_array_append_val(s->failures, failure);
}

static void undo(struct store *s, const struct fault *f)
{
    guint64 changed[CLASS_WORDS] = {0};
    g_autoptr(GPtrArray) commits = g_ptr_array_new();
    g_mutex_lock(&s->writers);
    /* No commit can join while writers is held. */
    g_mutex_lock(&s->queue_lock);
    for (GList *l = s->undecided.head; l != NULL; l = l->next)
        g_ptr_array_add(commits, l->data);
    g_mutex_unlock(&s->queue_lock);

    struct commit *undone = undo_collect(s, commits);
    guint64 generation = ++s->generation;
    if (undone != NULL)
        commit_stamp(undone, generation);
    store_write_lock(s);
    if (undone != NULL) {
        store_place(s, undone);
        g_ptr_array_add(commits, undone);
    }
    for (guint i = 0; i < commits->len; i++) {
        classes_add(changed, commits->pdata[i]);
        show_present(s, commits->pdata[i], generation);
    }
    s->visible = generation;
    store_unlock(s);

    g_mutex_lock(&s->queue_lock);
    g_queue_clear(&s->undecided);
    remember_failure(s, s->decided + 1, f);
    s->decided = s->last_seq;
    g_cond_broadcast(&s->settled);
    g_mutex_unlock(&s->queue_lock);
    g_mutex_unlock(&s->writers);

    notify_classes(s, changed);
    for (guint i = 0; i < commits->len; i++)
        commit_free(commits->pdata[i]);
}

/* ---- the journal's thread ---- */

/* All that is waiting; empty when the store is being closed. */
static GPtrArray *next_batch(struct store *s, gboolean *done)
{
    GPtrArray *commits = g_ptr_array_new();
    g_mutex_lock(&s->queue_lock);
    while (s->undecided.length == 0 && !a_waiter_is_due(s) && !s->closing)
        g_cond_wait(&s->work, &s->queue_lock);
    for (GList *l = s->undecided.head; l != NULL; l = l->next)
        g_ptr_array_add(commits, l->data);
    *done = commits->len == 0 && !a_waiter_is_due(s);
    g_mutex_unlock(&s->queue_lock);
    return commits;
}

static gpointer journal_main(gpointer data)
{
    struct store *s = data;
    for (;;) {
        gboolean done;
        g_autoptr(GPtrArray) commits = next_batch(s, &done);
        if (done)
            return NULL;
        struct fault f = FAULT_INIT;
        if (commits->len > 0 && batch_write(s, commits, &f)) {
            batch_settle(s, commits);
        } else if (commits->len > 0) {
            g_autofree char *why = fault_text(&f);
            g_warning("changes could not be written and are undone: %s", why);
            undo(s, &f);
        }
        fault_clear(&f);
        run_waiters(s);
    }
}

static void failure_clear(void *data)
{
    fault_clear(&((struct failure *) data)->fault);
}

void journal_start(struct store *s)
{
    s->failures = g_array_new(FALSE, FALSE, sizeof(struct failure));
    g_array_set_clear_func(s->failures, failure_clear);
    if (s->journal != NULL)
        s->journal_thread = g_thread_new("store-journal", journal_main, s);
}

void journal_stop(struct store *s)
{
    if (s->journal_thread != NULL) {
        g_mutex_lock(&s->queue_lock);
        s->closing = TRUE;
        g_cond_signal(&s->work);
        g_mutex_unlock(&s->queue_lock);
        g_thread_join(s->journal_thread);
    }
    g_array_unref(s->failures);
}
