/* crash-store.c - kills a program in the middle of its writing, again and again, and looks whether the database holds
 * all that was acknowledged and no half of a transaction. Usage: crash-store [rounds [seconds [directory]]] */
#include <errno.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/store/journal.h"
#include "daemon/store/store.h"

#define N_WRITERS   8
#define MOST_PAIRS  40
#define MOST_LIFE   400 /* ms that a writer may live */
#define COUNTER     F_VM_user_version
#define TWIN        F_VM_name_description
#define FIRST_LABEL "first"

/* What a writer tells about a pair, by the reference of its first VM. Smaller than PIPE_BUF: written as one. */
enum what { ALIVE, DOOMED, GONE };
struct report {
    gint64 counter;
    enum what what;
    char ref[REF_SIZE];
};

static G_NORETURN void die(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

static struct store *open_store(const char *dir)
{
    g_autoptr(GError) error = NULL;
    struct journal *j = journal_sqlite_open(dir, &error);
    struct store *s = j != NULL ? store_open(j, &error) : NULL;
    if (s == NULL)
        die("cannot open the store: %s", error->message);
    return s;
}

/* ---- the writer: pairs of VMs that point at each other and count together, and a VBD of the first ---- */

static struct store *store;
static int report_fd;

static void report(enum what what, const char *ref, gint64 counter)
{
    struct report r = {.counter = counter, .what = what};
    g_strlcpy(r.ref, ref, sizeof(r.ref));
    if (write(report_fd, &r, sizeof(r)) != sizeof(r))
        die("report: %s", g_strerror(errno));
}

static void wait_durable(guint64 seq)
{
    struct fault f = FAULT_INIT;
    if (!store_wait(store, seq, &f))
        die("a commit failed: %s", fault_text(&f));
}

static char *create_pair(void)
{
    struct txn *t = txn_begin(store);
    const char *a = txn_create(t, CLASS_VM, NULL, NULL);
    const char *b = txn_create(t, CLASS_VM, NULL, NULL);
    const char *vbd = txn_create(t, CLASS_VBD, NULL, NULL);
    txn_set_str(t, CLASS_VM, a, F_VM_name_label, FIRST_LABEL);
    txn_set_str(t, CLASS_VM, a, TWIN, b);
    txn_set_str(t, CLASS_VM, b, TWIN, a);
    txn_set_str(t, CLASS_VBD, vbd, F_VBD_VM, a);
    char *ref = g_strdup(a);
    wait_durable(txn_commit(t));
    report(ALIVE, ref, 0);
    return ref;
}

static void count_pair(const char *a)
{
    struct txn *t = txn_begin(store);
    struct record *r = txn_get(t, CLASS_VM, a);
    gint64 counter = record_int(r, COUNTER) + 1;
    txn_set_int(t, CLASS_VM, a, COUNTER, counter);
    txn_set_int(t, CLASS_VM, record_str(r, TWIN), COUNTER, counter);
    wait_durable(txn_commit(t));
    report(ALIVE, a, counter);
}

static void destroy_pair(const char *a)
{
    report(DOOMED, a, 0);
    struct txn *t = txn_begin(store);
    struct record *r = txn_get(t, CLASS_VM, a);
    txn_destroy(t, CLASS_VBD, value_str(value_at(record_field(r, F_VM_VBDs), 0)));
    txn_destroy(t, CLASS_VM, record_str(r, TWIN));
    txn_destroy(t, CLASS_VM, a);
    wait_durable(txn_commit(t));
    report(GONE, a, 0);
}

static gpointer writer_main(gpointer data)
{
    GPtrArray *mine = data;
    for (;;) {
        gint dice = g_random_int_range(0, 20);
        if (mine->len == 0 || (dice == 0 && mine->len < MOST_PAIRS)) {
            g_ptr_array_add(mine, create_pair());
            continue;
        }
        guint i = (guint) g_random_int_range(0, (gint) mine->len);
        if (dice != 1) {
            count_pair(mine->pdata[i]);
            continue;
        }
        destroy_pair(mine->pdata[i]);
        g_ptr_array_remove_index_fast(mine, i);
    }
    return NULL;
}

static G_NORETURN void write_until_killed(const char *dir, int fd)
{
    report_fd = fd;
    store = open_store(dir);
    GPtrArray *mine[N_WRITERS];
    for (int i = 0; i < N_WRITERS; i++)
        mine[i] = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) firsts = store_by_name(store, CLASS_VM, FIRST_LABEL);
    for (guint i = 0; i < firsts->len; i++)
        g_ptr_array_add(mine[i % N_WRITERS], g_strdup(((struct record *) firsts->pdata[i])->ref));
    for (int i = 0; i < N_WRITERS; i++)
        g_thread_new("writer", writer_main, mine[i]);
    for (;;)
        pause();
}

/* ---- the driver ---- */

static GHashTable *known; /* reference -> struct report, the last one */
static guint64 n_reports;

static void take_report(const struct report *r)
{
    n_reports++;
    g_hash_table_replace(known, g_strdup(r->ref), g_memdup2(r, sizeof(*r)));
}

/* FALSE at the end of the pipe. */
static gboolean take_reports(int fd)
{
    static struct report reports[512];
    static gsize have;
    gssize n = read(fd, (char *) reports + have, sizeof(reports) - have);
    if (n < 0 && errno == EINTR)
        return TRUE;
    have += n > 0 ? (gsize) n : 0;
    gsize whole = have / sizeof(reports[0]);
    for (gsize i = 0; i < whole; i++)
        take_report(&reports[i]);
    have %= sizeof(reports[0]);
    memmove(reports, reports + whole, have);
    if (n > 0)
        return TRUE;
    have = 0;
    return FALSE;
}

static void listen_for(int fd, gint64 ms)
{
    gint64 end = g_get_monotonic_time() + ms * 1000;
    for (;;) {
        gint64 left = end - g_get_monotonic_time();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left <= 0)
            return;
        if (poll(&p, 1, (int) (left / 1000) + 1) > 0 && !take_reports(fd))
            die("the writer ended by itself");
    }
}

static void run_writer(const char *dir)
{
    int fds[2];
    if (pipe(fds) != 0)
        die("pipe: %s", g_strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        close(fds[0]);
        write_until_killed(dir, fds[1]);
    }
    close(fds[1]);
    listen_for(fds[0], g_random_int_range(0, MOST_LIFE));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    while (take_reports(fds[0]))
        ;
    close(fds[0]);
}

/* No half transaction: both of a pair are there and agree, and so does the VBD. */
static void check_whole(struct store *s, struct record *r)
{
    g_autoptr(record) twin = store_get(s, CLASS_VM, record_str(r, TWIN));
    if (twin == NULL)
        die("%s has lost its twin", r->ref);
    if (record_int(r, COUNTER) != record_int(twin, COUNTER))
        die("%s counts %" G_GINT64_FORMAT ", its twin %" G_GINT64_FORMAT, r->ref, record_int(r, COUNTER),
            record_int(twin, COUNTER));
    gsize vbds = g_str_equal(record_str(r, F_VM_name_label), FIRST_LABEL) ? 1 : 0;
    if (value_count(record_field(r, F_VM_VBDs)) != vbds)
        die("%s has %" G_GSIZE_FORMAT " VBDs", r->ref, value_count(record_field(r, F_VM_VBDs)));
}

static void check_report(struct store *s, const struct report *p)
{
    g_autoptr(record) r = store_get(s, CLASS_VM, p->ref);
    if (p->what == ALIVE && r == NULL)
        die("%s was acknowledged and is lost", p->ref);
    if (p->what == ALIVE && record_int(r, COUNTER) < p->counter)
        die("%s was acknowledged at %" G_GINT64_FORMAT " and is at %" G_GINT64_FORMAT, p->ref, p->counter,
            record_int(r, COUNTER));
    if (p->what == GONE && r != NULL)
        die("%s was destroyed and is back", p->ref);
}

/* Answers how many VMs there are. */
static gsize check(const char *dir)
{
    struct store *s = open_store(dir);
    GHashTableIter iter;
    gpointer p;
    g_hash_table_iter_init(&iter, known);
    while (g_hash_table_iter_next(&iter, NULL, &p))
        check_report(s, p);
    g_autoptr(GPtrArray) all = store_all(s, CLASS_VM);
    for (guint i = 0; i < all->len; i++)
        check_whole(s, all->pdata[i]);
    gsize n = all->len;
    if (store_count(s, CLASS_VBD) * 2 != n)
        die("%" G_GSIZE_FORMAT " VBDs of %" G_GSIZE_FORMAT " VMs", store_count(s, CLASS_VBD), n);
    store_close(s);
    return n;
}

static void remove_dir(const char *dir)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(d)) != NULL) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        g_unlink(path);
    }
    g_rmdir(dir);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 40;
    gint64 end = g_get_monotonic_time() + (argc > 2 ? atoi(argv[2]) : 30) * G_USEC_PER_SEC;
    g_autofree char *dir = argc > 3 ? g_strdup(argv[3]) : g_dir_make_tmp("xenapid-crash-XXXXXX", NULL);
    if (dir == NULL)
        die("no directory to work in");
    model_init();
    known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    gsize n = 0;
    int round = 0;
    for (; round < rounds && g_get_monotonic_time() < end; round++) {
        run_writer(dir);
        n = check(dir);
    }
    printf("%d kills, %" G_GUINT64_FORMAT " reports, %" G_GSIZE_FORMAT " VMs in the end\n", round, n_reports, n);
    g_hash_table_destroy(known);
    if (argc <= 3)
        remove_dir(dir);
    return 0;
}
