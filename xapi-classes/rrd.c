/* rrd.c - archives of figures, in rings. */
#include "config.h"
#include "xapi-classes/rrd.h"

#include <math.h>
#include <string.h>

#include "daemon/call.h"
#include "daemon/clock.h"
#include "xapi-classes/storage/storage.h"

#define PURGE_EVERY 720 /* samples */

const struct rrd_archive rrd_archives[RRD_ARCHIVES] = {{RRD_STEP, 120}, {60, 120}, {3600, 168}, {86400, 366}};

/* One figure in one archive. Rows are numbered by time / step; a row's place is its number modulo the rows. */
struct ring {
    double *rows; /* NULL until the first */
    gint64 last;  /* number of the newest row */
    gint64 open;  /* number of the row that samples are gathered for, */
    double sum;   /* what they come to */
    guint n;
};

struct source {
    char *name;
    gboolean off; /* forgotten */
    struct ring rings[RRD_ARCHIVES];
};

struct owner {
    const char *kind;
    char *uuid;
    GPtrArray *sources;
};

static GMutex lock;
static GHashTable *owners; /* uuid -> struct owner */
static guint samples;

static void clear_rings(struct source *s)
{
    for (int i = 0; i < RRD_ARCHIVES; i++)
        g_free(s->rings[i].rows);
    memset(s->rings, 0, sizeof s->rings);
}

static void source_free(void *data)
{
    struct source *s = data;
    clear_rings(s);
    g_free(s->name);
    g_free(s);
}

static void owner_free(void *data)
{
    struct owner *o = data;
    g_ptr_array_unref(o->sources);
    g_free(o->uuid);
    g_free(o);
}

static struct owner *owner_of(const char *uuid, const char *kind)
{
    struct owner *o = g_hash_table_lookup(owners, uuid);
    if (o || !kind)
        return o;
    o = g_new0(struct owner, 1);
    o->kind = kind;
    o->uuid = g_strdup(uuid);
    o->sources = g_ptr_array_new_with_free_func(source_free);
    g_hash_table_insert(owners, o->uuid, o);
    return o;
}

static struct source *source_of(struct owner *o, const char *name, gboolean make)
{
    for (guint i = 0; o && i < o->sources->len; i++)
        if (strcmp(((struct source *) o->sources->pdata[i])->name, name) == 0)
            return o->sources->pdata[i];
    if (!o || !make)
        return NULL;
    struct source *s = g_new0(struct source, 1);
    s->name = g_strdup(name);
    g_ptr_array_add(o->sources, s);
    return s;
}

/* ---- sampling ---- */

static void put_row(struct ring *r, const struct rrd_archive *a, gint64 number, double value)
{
    if (!r->rows) {
        r->rows = g_new(double, (gsize) a->rows);
        for (int i = 0; i < a->rows; i++)
            r->rows[i] = NAN;
        r->last = number;
    }
    if (number < r->last)
        return; /* the clock was set back */
    for (gint64 n = MAX(r->last + 1, number - a->rows); n < number; n++)
        r->rows[n % a->rows] = NAN;
    r->rows[number % a->rows] = value;
    r->last = number;
}

/* A row is written when its time is over, with the average of what came in it. */
static void gather(struct ring *r, const struct rrd_archive *a, gint64 now, double value)
{
    gint64 number = now / a->step;
    if (r->n > 0 && number != r->open) {
        put_row(r, a, r->open, r->sum / r->n);
        r->n = 0;
        r->sum = 0;
    }
    r->open = number;
    r->sum += value;
    r->n++;
}

static void take(const char *kind, const char *uuid, const struct value *set, gint64 now)
{
    struct owner *o = owner_of(uuid, kind);
    for (gsize i = 0; i < value_count(set); i++) {
        const struct value *d = value_at(set, i);
        struct source *s = source_of(o, value_get_str(d, "name_label", ""), TRUE);
        for (int k = 0; !s->off && k < RRD_ARCHIVES; k++)
            gather(&s->rings[k], &rrd_archives[k], now, value_as_float(value_get(d, "value")));
    }
}

/* ---- whose figures ---- */

static gboolean vm_is_live(const struct record *vm)
{
    return strcmp(record_str(vm, F_VM_power_state), "Running") == 0 && !record_bool(vm, F_VM_is_a_snapshot);
}

static gboolean host_is_live(G_GNUC_UNUSED const struct record *host)
{
    return TRUE;
}

static gboolean sr_is_live(const struct record *sr)
{
    const char *const refs[] = {sr->ref, NULL};
    g_autoptr(record) attached = storage_first_attached(refs);
    return attached != NULL;
}

static const struct kind {
    const char *name;
    enum class_id class;
    gboolean (*is_live)(const struct record *r); /* there is something to measure */
    struct value *(*sources)(const struct record *r);
} kinds[] = {
    {"vm", CLASS_VM, vm_is_live, vm_data_sources},
    {"host", CLASS_host, host_is_live, host_data_sources},
    {"sr", CLASS_SR, sr_is_live, sr_data_sources},
};

static const struct kind *kind_of(const char *uuid)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(record) r = store_get_by_uuid(the_store(), kinds[i].class, uuid);
        if (r)
            return &kinds[i];
    }
    return NULL;
}

static gboolean is_gone(gpointer uuid, G_GNUC_UNUSED gpointer data, G_GNUC_UNUSED gpointer user)
{
    return kind_of(uuid) == NULL;
}

static void sample_kind(const struct kind *k, gint64 now)
{
    g_autoptr(GPtrArray) records = store_all(the_store(), k->class);
    for (guint i = 0; i < records->len; i++) {
        const struct record *r = records->pdata[i];
        if (!k->is_live(r))
            continue;
        g_autoptr(value) set = k->sources(r);
        g_mutex_lock(&lock);
        take(k->name, record_str(r, r->class->uuid_field), set, now);
        g_mutex_unlock(&lock);
    }
}

static void sample(G_GNUC_UNUSED void *data)
{
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        sample_kind(&kinds[i], now);
    g_mutex_lock(&lock);
    if (++samples % PURGE_EVERY == 0)
        g_hash_table_foreach_remove(owners, is_gone, NULL);
    g_mutex_unlock(&lock);
}

void rrd_init(void)
{
    owners = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, owner_free);
    clock_every(RRD_STEP * 1000, sample, NULL);
}

/* ---- what is recorded ---- */

gboolean rrd_is_recorded(const char *uuid, const char *name)
{
    g_mutex_lock(&lock);
    const struct source *s = owners ? source_of(owner_of(uuid, NULL), name, FALSE) : NULL;
    gboolean off = s && s->off;
    g_mutex_unlock(&lock);
    return !off;
}

static void set_off(const char *uuid, const char *name, gboolean off)
{
    const struct kind *k = kind_of(uuid);
    if (!k)
        return;
    g_mutex_lock(&lock);
    struct source *s = source_of(owner_of(uuid, k->name), name, TRUE);
    s->off = off;
    if (off)
        clear_rings(s);
    g_mutex_unlock(&lock);
}

void rrd_record(const char *uuid, const char *source)
{
    set_off(uuid, source, FALSE);
}

void rrd_forget(const char *uuid, const char *source)
{
    set_off(uuid, source, TRUE);
}

/* ---- columns ---- */

static void column_free(void *data)
{
    struct rrd_column *c = data;
    g_free(c->uuid);
    g_free(c->source);
    g_free(c->values);
    g_free(c);
}

static double row_of(const struct ring *r, const struct rrd_archive *a, gint64 number)
{
    if (!r->rows || number > r->last || number <= r->last - a->rows)
        return NAN;
    return r->rows[number % a->rows];
}

static struct rrd_column *column(const struct owner *o, const struct source *s, int archive, gint64 first, int n)
{
    const struct rrd_archive *a = &rrd_archives[archive];
    struct rrd_column *c = g_new0(struct rrd_column, 1);
    c->kind = o->kind;
    c->uuid = g_strdup(o->uuid);
    c->source = g_strdup(s->name);
    c->values = g_new(double, (gsize) MAX(n, 1));
    for (int i = 0; i < n; i++) /* a row is named by its end */
        c->values[i] = row_of(&s->rings[archive], a, first / a->step + i - 1);
    return c;
}

static gboolean is_wanted(const struct owner *o, const struct rrd_which *w)
{
    const char *uuid = strcmp(o->kind, "vm") == 0 ? w->vm : strcmp(o->kind, "sr") == 0 ? w->sr : w->host;
    return uuid && (*uuid == '\0' || strcmp(uuid, o->uuid) == 0);
}

GPtrArray *rrd_columns(int archive, gint64 first, int n, const struct rrd_which *which)
{
    GPtrArray *columns = g_ptr_array_new_with_free_func(column_free);
    GHashTableIter iter;
    void *data;
    g_mutex_lock(&lock);
    g_hash_table_iter_init(&iter, owners);
    while (g_hash_table_iter_next(&iter, NULL, &data)) {
        const struct owner *o = data;
        for (guint i = 0; i < o->sources->len && is_wanted(o, which); i++) {
            const struct source *s = o->sources->pdata[i];
            if (!s->off)
                g_ptr_array_add(columns, column(o, s, archive, first, n));
        }
    }
    g_mutex_unlock(&lock);
    return columns;
}
