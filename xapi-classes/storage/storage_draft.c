/* storage_draft.c - images that belong to nobody while work on them is under way: whatever becomes of the work, and of
 * this process, those that nothing refers to in the end are removed. */
#include "xapi-classes/storage/storage.h"
#include "xenbackend/backend.h"

#define META_KEY "drafts" /* "SR/VDI SR/VDI ...", uuids */
/* The backend outlives this process and may still be making an image that the one before asked for. */
#define LATE_US (G_TIME_SPAN_HOUR)

struct drafts {
    GPtrArray *vdis; /* uuids */
    GPtrArray *srs;  /* of each */
};

struct entry {
    char sr[UUID_SIZE];
    gboolean active;   /* the work that knows of it has not ended */
    gint64 late_until; /* monotonic: till then it may still appear */
};

static GMutex lock;
static GHashTable *entries; /* image's uuid -> struct entry */

/* ---- the list on stable storage ---- */

static void entry_add(const char *sr, const char *vdi, gboolean active)
{
    struct entry *e = g_new0(struct entry, 1);
    e->late_until = active ? 0 : g_get_monotonic_time() + LATE_US;
    g_strlcpy(e->sr, sr, sizeof e->sr);
    e->active = active;
    g_hash_table_replace(entries, g_strdup(vdi), e);
}

/* What an earlier process left; of repositories that are known no more, nobody can say anything. */
static void load(void)
{
    if (entries != NULL)
        return;
    entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autofree char *text = store_get_meta(the_store(), META_KEY);
    g_auto(GStrv) words = g_strsplit(text != NULL ? text : "", " ", -1);
    for (guint i = 0; words[i] != NULL; i++) {
        g_auto(GStrv) pair = g_strsplit(words[i], "/", 2);
        if (g_strv_length(pair) != 2 || !uuid_is_valid(pair[0]) || !uuid_is_valid(pair[1]))
            continue;
        g_autoptr(record) sr = store_get_by_uuid(the_store(), CLASS_SR, pair[0]);
        if (sr != NULL)
            entry_add(pair[0], pair[1], FALSE);
    }
}

static gboolean save(struct fault *f)
{
    g_autoptr(GString) text = g_string_new(NULL);
    GHashTableIter iter;
    gpointer vdi, data;
    g_hash_table_iter_init(&iter, entries);
    while (g_hash_table_iter_next(&iter, &vdi, &data))
        g_string_append_printf(text, "%s%s/%s", text->len > 0 ? " " : "", ((struct entry *) data)->sr,
                               (const char *) vdi);
    return store_set_meta(the_store(), META_KEY, text->str, f);
}

/* That an image is listed in vain does no harm: it is looked at once more. */
static void unlist(const char *vdi)
{
    struct fault f = FAULT_INIT;
    g_mutex_lock(&lock);
    g_hash_table_remove(entries, vdi);
    save(&f);
    g_mutex_unlock(&lock);
    fault_clear(&f);
}

/* ---- images that nothing refers to ---- */

static gboolean holds_memory(struct txn *t, const char *ref)
{
    g_autoptr(GPtrArray) vms = txn_all(t, CLASS_VM);
    for (guint i = 0; i < vms->len; i++)
        if (strcmp(record_str(g_ptr_array_index(vms, i), F_VM_suspend_VDI), ref) == 0)
            return TRUE;
    return FALSE;
}

static gboolean is_referred_to(struct txn *t, const struct record *vdi)
{
    return value_count(record_field(vdi, F_VDI_VBDs)) > 0 || value_count(record_field(vdi, F_VDI_crash_dumps)) > 0 ||
           holds_memory(t, vdi->ref);
}

/* Its record goes first, so that nobody can begin to use it. FALSE: somebody does. */
static gboolean take_record(const char *uuid)
{
    g_autoptr(record) found = store_get_by_uuid(the_store(), CLASS_VDI, uuid);
    struct txn *t = txn_begin(the_store());
    const struct record *vdi = found != NULL ? txn_get(t, CLASS_VDI, found->ref) : NULL;
    if (vdi != NULL && is_referred_to(t, vdi)) {
        txn_abort(t);
        return FALSE;
    }
    if (vdi != NULL)
        vdi_forget_record(t, vdi->ref);
    txn_commit(t);
    return TRUE;
}

static gboolean may_be_late(const char *uuid)
{
    g_mutex_lock(&lock);
    const struct entry *e = g_hash_table_lookup(entries, uuid);
    gboolean late = e != NULL && e->late_until > g_get_monotonic_time();
    g_mutex_unlock(&lock);
    return late;
}

/* TRUE: it is gone for good. */
static gboolean remove_image(const char *sr, const char *uuid)
{
    struct fault f = FAULT_INIT;
    g_autoptr(value) params = storage_params(sr, uuid);
    g_autoptr(value) answer = backend_call("vdi.destroy", params, NULL, &f);
    gboolean missing = answer == NULL && strcmp(f.code, "VDI_MISSING") == 0;
    if (answer == NULL && !missing) {
        g_autofree char *text = fault_text(&f);
        g_warning("the disk image %s is not removed until its repository is attached or scanned again: %s", uuid, text);
    }
    fault_clear(&f);
    return answer != NULL || (missing && !may_be_late(uuid));
}

/* Scans leave it alone until it is gone. */
static void settle(const char *sr, const char *uuid)
{
    image_work_begin(uuid);
    gboolean used = !take_record(uuid);
    if (!used && !remove_image(sr, uuid))
        return;
    image_work_end(uuid);
    unlist(uuid);
}

/* ---- the work ---- */

struct drafts *drafts_new(void)
{
    struct drafts *d = g_new0(struct drafts, 1);
    d->vdis = g_ptr_array_new_with_free_func(g_free);
    d->srs = g_ptr_array_new_with_free_func(g_free);
    return d;
}

void drafts_add(struct drafts *d, const char *sr_uuid, const char *uuid)
{
    g_ptr_array_add(d->vdis, g_strdup(uuid));
    g_ptr_array_add(d->srs, g_strdup(sr_uuid));
}

gboolean drafts_begin(struct drafts *d, struct fault *f)
{
    gboolean saved = TRUE;
    g_mutex_lock(&lock);
    load();
    for (guint i = 0; i < d->vdis->len; i++)
        entry_add(g_ptr_array_index(d->srs, i), g_ptr_array_index(d->vdis, i), TRUE);
    if (d->vdis->len > 0)
        saved = save(f);
    g_mutex_unlock(&lock);
    return saved;
}

static void wait_until_durable(struct call *c)
{
    struct fault f = FAULT_INIT;
    if (c->wait_seq != 0 && !store_wait(the_store(), c->wait_seq, &f) && c->fault.code == NULL)
        fault_move(&c->fault, &f);
    fault_clear(&f);
}

/* Nobody's any more; FALSE when it never was listed. */
static gboolean let_go(const char *uuid)
{
    g_mutex_lock(&lock);
    struct entry *e = entries != NULL ? g_hash_table_lookup(entries, uuid) : NULL;
    if (e != NULL)
        e->active = FALSE;
    g_mutex_unlock(&lock);
    return e != NULL;
}

static void drafts_free(struct drafts *d)
{
    g_ptr_array_unref(d->vdis);
    g_ptr_array_unref(d->srs);
    g_free(d);
}

void drafts_drop(struct drafts *d)
{
    for (guint i = 0; i < d->vdis->len; i++)
        if (let_go(g_ptr_array_index(d->vdis, i)))
            settle(g_ptr_array_index(d->srs, i), g_ptr_array_index(d->vdis, i));
    drafts_free(d);
}

void drafts_keep(struct drafts *d)
{
    for (guint i = 0; i < d->vdis->len; i++)
        if (let_go(g_ptr_array_index(d->vdis, i)))
            unlist(g_ptr_array_index(d->vdis, i));
    drafts_free(d);
}

void drafts_end(struct call *c, struct drafts *d)
{
    wait_until_durable(c);
    drafts_drop(d);
}

void drafts_sweep(const char *sr_uuid)
{
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    gpointer vdi, data;
    g_mutex_lock(&lock);
    load();
    g_hash_table_iter_init(&iter, entries);
    while (g_hash_table_iter_next(&iter, &vdi, &data)) {
        const struct entry *e = data;
        if (!e->active && strcmp(e->sr, sr_uuid) == 0)
            g_ptr_array_add(left, g_strdup(vdi));
    }
    g_mutex_unlock(&lock);
    for (guint i = 0; i < left->len; i++)
        settle(sr_uuid, g_ptr_array_index(left, i));
}
