/* bench-store.c - what the store costs: getters, lists, commits by one and by many writers, loading.
 * Usage: bench-store [directory for the database] */
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/store/journal.h"
#include "daemon/store/store.h"

#define N_VMS   10000
#define SECONDS 2

static struct store *store;
static char *refs[N_VMS];
static gint stop;
static gint done; /* commits or reads */

static double now(void)
{
    return (double) g_get_monotonic_time() / G_USEC_PER_SEC;
}

static struct store *open_store(const char *dir)
{
    g_autoptr(GError) error = NULL;
    struct journal *j = journal_sqlite_open(dir, &error);
    struct store *s = j != NULL ? store_open(j, &error) : NULL;
    if (s == NULL)
        g_error("%s", error->message);
    return s;
}

static void make_vms(void)
{
    struct txn *t = txn_begin(store);
    const char *host = txn_create(t, CLASS_host, NULL, NULL);
    for (int i = 0; i < N_VMS; i++) {
        g_autofree char *name = g_strdup_printf("vm-%d", i);
        refs[i] = g_strdup(txn_create(t, CLASS_VM, NULL, NULL));
        txn_set_str(t, CLASS_VM, refs[i], F_VM_name_label, name);
        txn_set_str(t, CLASS_VM, refs[i], F_VM_resident_on, host);
        txn_set_int(t, CLASS_VM, refs[i], F_VM_memory_static_max, 1 << 30);
    }
    store_wait(store, txn_commit(t), NULL);
}

static gpointer get_main(gpointer data)
{
    guint n = 0;
    for (guint i = GPOINTER_TO_UINT(data); !g_atomic_int_get(&stop); i += 7919, n++)
        record_unref(store_get(store, CLASS_VM, refs[i % N_VMS]));
    g_atomic_int_add(&done, (gint) n);
    return NULL;
}

static gpointer commit_main(gpointer data)
{
    guint n = 0;
    for (guint i = GPOINTER_TO_UINT(data); !g_atomic_int_get(&stop); i += 7919, n++) {
        struct txn *t = txn_begin(store);
        txn_set_int(t, CLASS_VM, refs[i % N_VMS], F_VM_memory_target, n + 1);
        store_wait(store, txn_commit(t), NULL);
    }
    g_atomic_int_add(&done, (gint) n);
    return NULL;
}

static void run(const char *what, GThreadFunc fn, guint n)
{
    GThread *threads[64];
    stop = done = 0;
    double start = now();
    for (guint i = 0; i < n; i++)
        threads[i] = g_thread_new(what, fn, GUINT_TO_POINTER(i * 101));
    g_usleep(SECONDS * G_USEC_PER_SEC);
    g_atomic_int_set(&stop, 1);
    for (guint i = 0; i < n; i++)
        g_thread_join(threads[i]);
    double s = now() - start;
    printf("%-10s %2u threads  %10.0f /s  %8.3f us each\n", what, n, done / s, s * n / done * 1e6);
}

static void count_change(const struct store_change *c, void *data)
{
    (void) c;
    ++*(int *) data;
}

static void run_lists(void)
{
    double start = now();
    for (int i = 0; i < 100; i++)
        g_ptr_array_unref(store_all(store, CLASS_VM));
    printf("store_all of %d: %.3f ms\n", N_VMS, (now() - start) * 10);
    g_autoptr(GPtrArray) all = store_all(store, CLASS_VM);
    for (int format = 0; format < N_WIRE_FORMATS; format++) {
        start = now();
        gsize bytes = 0;
        for (int i = 0; i < N_VMS; i++)
            bytes += g_bytes_get_size(record_bytes(all->pdata[i], (enum wire_format) format));
        printf("writing %d records in format %d: %.3f us each, %" G_GSIZE_FORMAT " bytes each\n", N_VMS, format,
               (now() - start) / N_VMS * 1e6, bytes / N_VMS);
    }
    start = now();
    int n = 0;
    store_walk(store, 0, count_change, &n);
    printf("walk of %d changes: %.3f ms\n", n, (now() - start) * 1000);
}

/* Each commit joins or leaves a mirror set of ten thousand. */
static void run_mirror(void)
{
    double start = now();
    for (int i = 0; i < 1000; i++) {
        g_autoptr(record) r = store_get(store, CLASS_VM, refs[i]);
        g_autofree char *host = g_strdup(record_str(r, F_VM_resident_on));
        struct txn *t = txn_begin(store);
        txn_set_str(t, CLASS_VM, refs[i], F_VM_resident_on, NULL_REF);
        txn_commit(t);
        t = txn_begin(store);
        txn_set_str(t, CLASS_VM, refs[i], F_VM_resident_on, host);
        txn_commit(t);
    }
    printf("leaving or joining a set of %d: %.3f us\n", N_VMS, (now() - start) / 2000 * 1e6);
}

int main(int argc, char **argv)
{
    g_autofree char *dir = argc > 1 ? g_strdup(argv[1]) : g_dir_make_tmp("xenapid-bench-XXXXXX", NULL);
    model_init();
    store = open_store(dir);
    double start = now();
    make_vms();
    printf("making %d VMs: %.3f s\n", N_VMS, now() - start);
    run("get", get_main, 1);
    run("get", get_main, 2);
    run("get", get_main, 8);
    run_lists();
    run_mirror();
    run("commit", commit_main, 1);
    run("commit", commit_main, 16);
    run("commit", commit_main, 64);
    store_close(store);
    start = now();
    store = open_store(dir);
    printf("loading %" G_GSIZE_FORMAT " VMs: %.3f s\n", store_count(store, CLASS_VM), now() - start);
    store_close(store);
    for (int i = 0; i < N_VMS; i++)
        g_free(refs[i]);
    return 0;
}
