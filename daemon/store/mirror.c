/* mirror.c - sets that mirror a reference: VM.VBDs holds each VBD whose VM field points at the VM. */
#include "daemon/store/store_internal.h"

#include <string.h>

/* What happens to one mirror set of an object: collected first, so that a set is built once however many members come
 * and go. */
struct delta {
    struct delta *next;
    int set;
    GPtrArray *added;    /* of values, borrowed */
    GHashTable *removed; /* of values, borrowed; NULL: none */
};

/* ---- which fields are mirrored ---- */

static GArray *mirrors_of[N_CLASSES]; /* of struct mirror */
static gboolean holds_mirrors[N_CLASSES];

static gpointer build_tables(gpointer unused)
{
    (void) unused;
    for (int i = 0; i < N_CLASSES; i++)
        mirrors_of[i] = g_array_new(FALSE, FALSE, sizeof(struct mirror));
    for (int i = 0; i < N_CLASSES; i++) {
        const struct class *c = class_by_id((enum class_id) i);
        for (int k = 0; k < c->n_fields; k++) {
            const struct field *f = &c->fields[k];
            if (!f->mirrors)
                continue;
            struct mirror m = {.field = f->mirror_field, .holder = c->id, .set = k};
            g_array_append_val(mirrors_of[f->mirror_class], m);
            holds_mirrors[i] = TRUE;
        }
    }
    return NULL;
}

const struct mirror *class_mirrors(enum class_id class, gsize *n)
{
    static GOnce once = G_ONCE_INIT;
    g_once(&once, build_tables, NULL);
    *n = mirrors_of[class]->len;
    return (const struct mirror *) (void *) mirrors_of[class]->data;
}

gboolean class_mirrors_field(enum class_id class, int field)
{
    gsize n;
    const struct mirror *m = class_mirrors(class, &n);
    for (gsize i = 0; i < n; i++)
        if (m[i].field == field)
            return TRUE;
    return FALSE;
}

/* ---- collecting ---- */

static struct delta *delta_get(GPtrArray *holders, struct pending *holder, int set)
{
    for (struct delta *d = holder->deltas; d != NULL; d = d->next)
        if (d->set == set)
            return d;
    if (holder->deltas == NULL)
        g_ptr_array_add(holders, holder);
    struct delta *d = g_new0(struct delta, 1);
    d->set = set;
    d->added = g_ptr_array_new();
    d->next = holder->deltas;
    holder->deltas = d;
    return d;
}

/* The delta of the set that the reference makes its object a member of; NULL when it points nowhere. */
static struct delta *delta_of(struct txn *t, GPtrArray *holders, const struct mirror *m, const char *ref)
{
    if (ref_is_null(ref))
        return NULL;
    struct pending *holder = txn_pending(t, ref);
    if (holder == NULL || holder->now == NULL || holder->class->id != m->holder)
        return NULL;
    return delta_get(holders, holder, m->set);
}

static const char *reference(const struct record *r, int field)
{
    return r != NULL ? record_str(r, field) : "";
}

static void note_member(struct txn *t, GPtrArray *holders, struct pending *p)
{
    gsize n;
    const struct mirror *m = class_mirrors(p->class->id, &n);
    for (gsize i = 0; i < n; i++) {
        const char *before = reference(p->synced, m[i].field);
        const char *after = reference(p->now, m[i].field);
        if (strcmp(before, after) == 0)
            continue;
        struct delta *left = delta_of(t, holders, &m[i], before);
        if (left != NULL) {
            if (left->removed == NULL)
                left->removed = g_hash_table_new(NULL, NULL);
            g_hash_table_add(left->removed, p->key->text);
        }
        struct delta *joined = delta_of(t, holders, &m[i], after);
        if (joined != NULL)
            g_ptr_array_add(joined->added, p->key->text);
    }
    if (n == 0)
        return;
    struct record *synced = p->now != NULL ? record_ref(p->now) : NULL;
    record_unref(p->synced);
    p->synced = synced;
}

/* ---- applying ---- */

static gboolean is_removed(const struct delta *d, struct value *member, gboolean by_text)
{
    if (d->removed == NULL)
        return FALSE;
    if (!by_text)
        return g_hash_table_contains(d->removed, member);
    GHashTableIter iter;
    gpointer removed;
    g_hash_table_iter_init(&iter, d->removed);
    while (g_hash_table_iter_next(&iter, &removed, NULL))
        if (value_equal(removed, member))
            return TRUE;
    return FALSE;
}

static struct value *set_build(struct value *set, const struct delta *d, gboolean by_text)
{
    struct value_builder b;
    value_builder_set(&b, NULL, value_count(set) + d->added->len);
    for (gsize i = 0; i < value_count(set); i++)
        if (!is_removed(d, value_at(set, i), by_text))
            value_builder_add(&b, value_ref(value_at(set, i)));
    for (guint i = 0; i < d->added->len; i++)
        value_builder_add(&b, value_ref(d->added->pdata[i]));
    return value_builder_end(&b);
}

static struct value *set_apply(struct value *set, const struct delta *d)
{
    /* A set holds its members' own values, so that looking at addresses does; only an object that was made again under
     * an old reference may be there with another copy of the text. */
    gsize left = d->removed != NULL ? g_hash_table_size(d->removed) : 0;
    struct value *v = set_build(set, d, FALSE);
    if (value_count(v) + left == value_count(set) + d->added->len)
        return v;
    value_unref(v);
    return set_build(set, d, TRUE);
}

static void apply(struct txn *t, GPtrArray *holders)
{
    for (guint i = 0; i < holders->len; i++) {
        struct pending *p = holders->pdata[i];
        struct record *r = txn_writable(t, p);
        while (p->deltas != NULL) {
            struct delta *d = p->deltas;
            p->deltas = d->next;
            record_put(r, d->set, set_apply(r->fields[d->set], d));
            g_ptr_array_unref(d->added);
            g_clear_pointer(&d->removed, g_hash_table_unref);
            g_free(d);
        }
    }
}

/* ---- objects made under a reference that others may hold already ---- */

static void adopt_member(GPtrArray *holders, GHashTable *given, const struct mirror *m, const struct record *r,
                         struct value *text)
{
    struct pending *holder = g_hash_table_lookup(given, reference(r, m->field));
    if (holder != NULL && holder->class->id == m->holder)
        g_ptr_array_add(delta_get(holders, holder, m->set)->added, text);
}

static void adopt_class(struct txn *t, GPtrArray *holders, GHashTable *given, enum class_id class)
{
    gsize n;
    const struct mirror *m = class_mirrors(class, &n);
    if (n == 0)
        return;
    for (GList *l = t->store->classes[class].all.head; l != NULL; l = l->next) {
        struct object *o = l->data;
        struct pending *p = g_hash_table_lookup(t->overlay, value_str(o->key->text));
        for (gsize i = 0; i < n; i++)
            adopt_member(holders, given, &m[i], p != NULL ? p->synced : o->record, o->key->text);
    }
    for (guint k = 0; k < t->pendings->len; k++) {
        struct pending *p = t->pendings->pdata[k];
        for (gsize i = 0; i < n && p->old == NULL && p->class->id == class; i++)
            adopt_member(holders, given, &m[i], p->synced, p->key->text);
    }
}

static void adopt_members(struct txn *t)
{
    g_autoptr(GHashTable) given = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < t->pendings->len; i++) {
        struct pending *p = t->pendings->pdata[i];
        if (p->given_ref && p->now != NULL && holds_mirrors[p->class->id])
            g_hash_table_insert(given, (char *) value_str(p->key->text), p);
        p->given_ref = FALSE;
    }
    if (g_hash_table_size(given) == 0)
        return;
    g_autoptr(GPtrArray) holders = g_ptr_array_new();
    for (int i = 0; i < N_CLASSES; i++)
        adopt_class(t, holders, given, (enum class_id) i);
    apply(t, holders);
}

void txn_sync_mirrors(struct txn *t)
{
    gsize n;
    class_mirrors(CLASS_VM, &n); /* builds the tables */
    adopt_members(t);
    g_autoptr(GPtrArray) holders = g_ptr_array_new();
    /* Looking up holders makes the array longer. */
    for (guint i = 0; i < t->pendings->len; i++) {
        struct pending *p = t->pendings->pdata[i];
        if (!p->mirror_due)
            continue;
        p->mirror_due = FALSE;
        note_member(t, holders, p);
    }
    apply(t, holders);
}
