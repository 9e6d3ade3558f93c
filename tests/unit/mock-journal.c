/* mock-journal.c - see mock-journal.h. */
#include "tests/unit/mock-journal.h"

#include <string.h>

struct mock_journal {
    struct journal base;
    struct mock_disk *disk;
};

static void row_free(void *data)
{
    struct mock_row *r = data;
    g_free(r->ref);
    g_free(r->class);
    g_free(r->json);
    g_free(r);
}

struct mock_disk *mock_disk_new(void)
{
    struct mock_disk *d = g_new0(struct mock_disk, 1);
    g_mutex_init(&d->lock);
    g_cond_init(&d->changed);
    d->rows = g_ptr_array_new_with_free_func(row_free);
    d->meta = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return d;
}

void mock_disk_free(struct mock_disk *d)
{
    g_ptr_array_unref(d->rows);
    g_hash_table_destroy(d->meta);
    g_mutex_clear(&d->lock);
    g_cond_clear(&d->changed);
    g_free(d);
}

static struct mock_row *find_row(struct mock_disk *d, const char *ref)
{
    for (guint i = 0; i < d->rows->len; i++) {
        struct mock_row *r = d->rows->pdata[i];
        if (g_str_equal(r->ref, ref))
            return r;
    }
    return NULL;
}

const char *mock_row_text(struct mock_disk *d, const char *ref)
{
    struct mock_row *r = find_row(d, ref);
    return r != NULL ? r->json : NULL;
}

static void write_row(struct mock_disk *d, const struct journal_change *c)
{
    struct mock_row *r = find_row(d, c->ref);
    d->writes++;
    if (c->class == NULL) {
        if (r != NULL)
            g_ptr_array_remove(d->rows, r);
        return;
    }
    if (r == NULL) {
        r = g_new0(struct mock_row, 1);
        r->ref = g_strdup(c->ref);
        g_ptr_array_add(d->rows, r);
    }
    g_free(r->class);
    g_free(r->json);
    r->class = g_strdup(c->class);
    r->json = g_strndup(c->json, c->json_len);
}

static gboolean mock_load(struct journal *base, journal_load_fn *fn, void *data, GError **error)
{
    struct mock_disk *d = ((struct mock_journal *) base)->disk;
    for (guint i = 0; i < d->rows->len; i++) {
        const struct mock_row *r = d->rows->pdata[i];
        if (!fn(r->ref, r->class, r->json, strlen(r->json), data, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean mock_commit(struct journal *base, const struct journal_change *changes, gsize n, struct fault *f)
{
    struct mock_disk *d = ((struct mock_journal *) base)->disk;
    g_mutex_lock(&d->lock);
    d->waiting++;
    g_cond_broadcast(&d->changed);
    while (d->held)
        g_cond_wait(&d->changed, &d->lock);
    d->waiting--;
    gboolean ok = !d->failing;
    if (ok) {
        d->commits++;
        for (gsize i = 0; i < n; i++)
            write_row(d, &changes[i]);
    } else {
        d->refused++;
        fault_set(f, "OUT_OF_SPACE", "/mock", NULL);
    }
    g_mutex_unlock(&d->lock);
    return ok;
}

static char *mock_get_meta(struct journal *base, const char *key)
{
    return g_strdup(g_hash_table_lookup(((struct mock_journal *) base)->disk->meta, key));
}

static gboolean mock_set_meta(struct journal *base, const char *key, const char *value, struct fault *f)
{
    (void) f;
    g_hash_table_replace(((struct mock_journal *) base)->disk->meta, g_strdup(key), g_strdup(value));
    return TRUE;
}

static void mock_close(struct journal *base)
{
    g_free(base);
}

struct journal *mock_journal(struct mock_disk *d)
{
    static const struct journal_ops ops = {mock_load, mock_commit, mock_get_meta, mock_set_meta, mock_close};
    struct mock_journal *j = g_new0(struct mock_journal, 1);
    j->base.ops = &ops;
    j->disk = d;
    return &j->base;
}

static void set_flag(struct mock_disk *d, gboolean *flag, gboolean value)
{
    g_mutex_lock(&d->lock);
    *flag = value;
    g_cond_broadcast(&d->changed);
    g_mutex_unlock(&d->lock);
}

void mock_hold(struct mock_disk *d)
{
    set_flag(d, &d->held, TRUE);
}

void mock_release(struct mock_disk *d)
{
    set_flag(d, &d->held, FALSE);
}

void mock_fail(struct mock_disk *d, gboolean failing)
{
    set_flag(d, &d->failing, failing);
}

void mock_await(struct mock_disk *d)
{
    g_mutex_lock(&d->lock);
    while (d->waiting == 0)
        g_cond_wait(&d->changed, &d->lock);
    g_mutex_unlock(&d->lock);
}
