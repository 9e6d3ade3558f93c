/* test-store-threads.c - readers and watchers against writers, over a journal that fails now and then: whatever anyone
 * sees is of one moment. For the thread sanitizer as much as for its own checks. */
#include <stdlib.h>

#include "daemon/store/store_internal.h"
#include "xapi-classes/vm/operation.h"
#include "tests/unit/mock-journal.h"

#define N_PAIRS 8

static struct mock_disk *disk;
static struct store *store;
static gint stop;
static char *pairs[N_PAIRS][2];
static gint rounds = 300; /* of each writer */

static gboolean stopped(void)
{
    return g_atomic_int_get(&stop) != 0;
}

/* ---- writers: both of a pair always hold the same number ---- */

static guint64 write_pair(guint pair, gint64 i)
{
    struct txn *t = txn_begin(store);
    for (int k = 0; k < 2; k++) {
        txn_set_int(t, CLASS_VM, pairs[pair][k], F_VM_user_version, i);
        g_autofree char *name = g_strdup_printf("pair %u", pair);
        txn_set_str(t, CLASS_VM, pairs[pair][k], F_VM_name_description, name);
    }
    return txn_commit(t);
}

static gpointer writer_main(gpointer data)
{
    guint me = GPOINTER_TO_UINT(data);
    for (gint i = 1; i <= rounds; i++) {
        struct fault f = FAULT_INIT;
        guint64 seq = write_pair((me + (guint) i) % N_PAIRS, me * 1000000 + i);
        if (i % 3 == 0 && !store_wait(store, seq, &f))
            g_assert_cmpstr(f.code, ==, "OUT_OF_SPACE");
        fault_clear(&f);
    }
    return NULL;
}

/* VMs that come and go with VBDs, and sessions that need no journal. */
static gpointer maker_main(gpointer data)
{
    (void) data;
    for (gint i = 0; i < rounds; i++) {
        struct txn *t = txn_begin(store);
        g_autofree char *vm = g_strdup(txn_create(t, CLASS_VM, NULL, NULL));
        txn_set_str(t, CLASS_VM, vm, F_VM_name_label, "made");
        const char *vbd = txn_create(t, CLASS_VBD, NULL, NULL);
        txn_set_str(t, CLASS_VBD, vbd, F_VBD_VM, vm);
        txn_create(t, CLASS_session, NULL, NULL);
        txn_commit(t);
        t = txn_begin(store);
        struct record *r = txn_get(t, CLASS_VM, vm);
        if (r != NULL) {
            const char *member = value_str(value_at(record_field(r, F_VM_VBDs), 0));
            g_assert_cmpstr(record_str(txn_get(t, CLASS_VBD, member), F_VBD_VM), ==, vm);
            txn_destroy(t, CLASS_VBD, member);
            txn_destroy(t, CLASS_VM, vm);
        }
        txn_commit(t);
    }
    return NULL;
}

/* ---- readers ---- */

static void check_pairs(GHashTable *numbers)
{
    for (int p = 0; p < N_PAIRS; p++) {
        gpointer a = g_hash_table_lookup(numbers, pairs[p][0]), b = g_hash_table_lookup(numbers, pairs[p][1]);
        g_assert_true(a == b);
    }
}

static gpointer reader_main(gpointer data)
{
    (void) data;
    while (!stopped()) {
        g_autoptr(GHashTable) numbers = g_hash_table_new(g_str_hash, g_str_equal);
        g_autoptr(GPtrArray) all = store_all(store, CLASS_VM);
        for (guint i = 0; i < all->len; i++) {
            struct record *r = all->pdata[i];
            g_hash_table_insert(numbers, (char *) r->ref, GINT_TO_POINTER(record_int(r, F_VM_user_version)));
            if (i % 4 == 0)
                g_assert_cmpuint(g_bytes_get_size(record_bytes(r, WIRE_XML)), >, 100);
        }
        check_pairs(numbers);
        g_autoptr(GPtrArray) made = store_by_name(store, CLASS_VM, "made");
        for (guint i = 0; i < made->len; i++)
            g_assert_cmpuint(value_count(record_field(made->pdata[i], F_VM_VBDs)), ==, 1);
        g_autoptr(record) r = store_get(store, CLASS_VM, pairs[0][0]);
        g_autoptr(record) by_uuid = store_get_by_uuid(store, CLASS_VM, record_str(r, F_VM_uuid));
        g_assert_cmpstr(by_uuid->ref, ==, r->ref);
    }
    return NULL;
}

struct watch {
    guint64 last;
    GHashTable *numbers; /* reference -> number, as the events tell */
};

static void watch_change(const struct store_change *c, void *data)
{
    struct watch *w = data;
    g_assert_cmpuint(c->generation, >=, w->last);
    w->last = c->generation;
    if (c->class->id != CLASS_VM)
        return;
    if (c->record == NULL)
        g_hash_table_remove(w->numbers, c->ref);
    else
        g_hash_table_replace(w->numbers, g_strdup(c->ref), GINT_TO_POINTER(record_int(c->record, F_VM_user_version)));
}

/* Follows from generation to generation; what it has put together at the end is what is there. */
static gpointer watcher_main(gpointer data)
{
    struct watch *w = data;
    guint64 since = 0;
    for (gboolean last = FALSE; !last;) {
        last = stopped();
        w->last = since;
        guint64 upto = store_walk(store, since, watch_change, w);
        g_assert_cmpuint(upto, >=, since);
        g_assert_cmpuint(w->last, <=, upto);
        since = upto;
        check_pairs(w->numbers);
    }
    return NULL;
}

/* ---- the disk ---- */

static gpointer disk_main(gpointer data)
{
    (void) data;
    while (!stopped()) {
        mock_fail(disk, TRUE);
        g_usleep(200);
        mock_fail(disk, FALSE);
        g_usleep(2000);
    }
    return NULL;
}

static void make_pairs(void)
{
    struct txn *t = txn_begin(store);
    for (int p = 0; p < N_PAIRS; p++)
        for (int k = 0; k < 2; k++)
            pairs[p][k] = g_strdup(txn_create(t, CLASS_VM, NULL, NULL));
    g_assert_true(store_wait(store, txn_commit(t), NULL));
}

static void check_end(struct watch *w)
{
    g_autoptr(GPtrArray) all = store_all(store, CLASS_VM);
    g_assert_cmpuint(g_hash_table_size(w->numbers), ==, all->len);
    for (guint i = 0; i < all->len; i++) {
        struct record *r = all->pdata[i];
        g_assert_true(g_hash_table_contains(w->numbers, r->ref));
        g_assert_true(g_hash_table_lookup(w->numbers, r->ref) == GINT_TO_POINTER(record_int(r, F_VM_user_version)));
    }
}

/* What the disk holds is what the memory held. */
static void check_disk(void)
{
    g_autoptr(GPtrArray) before = store_all(store, CLASS_VM);
    store_close(store);
    store = store_open(mock_journal(disk), NULL);
    struct txn *t = txn_begin(store);
    operations_clear(t); /* as every start does: works out again what is derived */
    txn_commit(t);
    g_autoptr(GPtrArray) after = store_all(store, CLASS_VM);
    g_assert_cmpuint(before->len, ==, after->len);
    for (guint i = 0; i < after->len; i++)
        g_assert_true(
            g_bytes_equal(record_bytes(before->pdata[i], WIRE_JSON), record_bytes(after->pdata[i], WIRE_JSON)));
}

static void note_nothing(const guint64 changed[CLASS_WORDS], void *data)
{
    (void) changed, (void) data;
}

static void test_threads(void)
{
    disk = mock_disk_new();
    store = store_open(mock_journal(disk), NULL);
    store_set_notify(store, note_nothing, NULL);
    make_pairs();
    struct watch w = {.numbers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL)};
    GThread *watcher = g_thread_new("watcher", watcher_main, &w);
    GThread *others[3] = {g_thread_new("reader", reader_main, NULL), g_thread_new("reader", reader_main, NULL),
                          g_thread_new("disk", disk_main, NULL)};
    GThread *writers[6];
    for (guint i = 0; i < G_N_ELEMENTS(writers); i++)
        writers[i] = g_thread_new("writer", i < 4 ? writer_main : maker_main, GUINT_TO_POINTER(i));
    for (guint i = 0; i < G_N_ELEMENTS(writers); i++)
        g_thread_join(writers[i]);
    /* The disk works again in the end, and one more change tells when all is written. */
    g_atomic_int_set(&stop, 1);
    for (guint i = 0; i < G_N_ELEMENTS(others); i++)
        g_thread_join(others[i]);
    store_wait(store, write_pair(0, 7), NULL);
    g_thread_join(watcher);
    watcher_main(&w);
    check_end(&w);
    check_disk();
    g_test_message("%u batches, %u refused, %u rows written", disk->commits, disk->refused, disk->writes);
    store_close(store);
    mock_disk_free(disk);
    g_hash_table_destroy(w.numbers);
    for (int p = 0; p < N_PAIRS; p++)
        for (int k = 0; k < 2; k++)
            g_free(pairs[p][k]);
}

static void ignore_message(const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
    (void) domain, (void) level, (void) message, (void) data;
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* Refused batches are warnings, and wanted here. */
    g_log_set_always_fatal(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL);
    g_log_set_handler("xenapid", G_LOG_LEVEL_WARNING, ignore_message, NULL);
    if (g_getenv("ROUNDS") != NULL)
        rounds = atoi(g_getenv("ROUNDS"));
    model_init();
    g_test_add_func("/store/threads", test_threads);
    return g_test_run();
}
