/* test-storage-coalesce.c - the driver `file`, merging images: contents stay, space comes back, what is in use is left
 * alone, and what others do meanwhile is neither lost nor made to wait. With a real qemu-img. */
#include "config.h"

#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "xenbackend/run.h"
#include "tests/unit/storage-fixture.h"

#define D (&storage_file_driver)

struct fixture {
    char *path;
    struct value *config;
    void *sr;
    char a[37], b[37], c[37];
};

static void set_up(struct fixture *x, gconstpointer data G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    struct value_builder b;
    x->path = g_dir_make_tmp("xenapid-coalesce-XXXXXX", NULL);
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "location", x->path);
    x->config = value_builder_end(&b);
    assert_ok(D->create(SR, x->config, 0, &f));
    x->sr = D->attach(SR, x->config, &f);
    assert_ok(x->sr != NULL);
    storage_uuid_new(x->a);
    storage_uuid_new(x->b);
    storage_uuid_new(x->c);
    assert_ok(D->vdi_create(x->sr, x->a, 16 * MIB, "qcow2", value_empty_map(), &v, &f));
    storage_vdi_clear(&v);
}

static void tear_down(struct fixture *x, gconstpointer data G_GNUC_UNUSED)
{
    D->detach(x->sr);
    const char *const rm[] = {"rm", "-rf", x->path, NULL};
    g_assert_true(run_tool(rm, NULL, NULL, NULL));
    value_unref(x->config);
    g_free(x->path);
}

static char *file_of(struct fixture *x, const char *vdi)
{
    return g_strconcat(x->path, "/", vdi, ".qcow2", NULL);
}

/* Writes or checks a pattern, as a guest would. */
static gboolean io(struct fixture *x, const char *vdi, const char *command)
{
    struct fault f = FAULT_INIT;
    g_autofree char *path = file_of(x, vdi), *out = NULL;
    const char *const args[] = {"qemu-io", "-f", "qcow2", "-c", command, path, NULL};
    gboolean done = run_tool(args, NULL, &out, &f) && strstr(out, "verification failed") == NULL;
    fault_clear(&f);
    return done;
}

static gboolean snapshot(struct fixture *x, const char *vdi, const char *new, struct fault *f)
{
    struct storage_vdi v = {0};
    gboolean done = D->vdi_snapshot(x->sr, vdi, new, &no_job, &v, f);
    storage_vdi_clear(&v);
    return done;
}

/* A snapshot that nobody needs any more. */
static void passing_snapshot(struct fixture *x, const char *vdi)
{
    struct fault f = FAULT_INIT;
    char new[37];
    storage_uuid_new(new);
    assert_ok(snapshot(x, vdi, new, &f));
    assert_ok(D->vdi_destroy(x->sr, new, &f));
}

static guint count_files(struct fixture *x, const char *suffix)
{
    guint n = 0;
    g_autoptr(GDir) dir = g_dir_open(x->path, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
        n += g_str_has_suffix(name, suffix) ? 1 : 0;
    return n;
}

/* A VDI that somebody has open just now, or NULL: as the front knows it. */
static const char *open_now;

/* Of those that the driver asks about all are idle but the ones in busy; keep are not merged themselves. */
static guint coalesce(struct fixture *x, const char *busy, const char *keep)
{
    struct fault f = FAULT_INIT;
    g_autoptr(GPtrArray) vdis = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) changed = g_ptr_array_new_with_free_func((GDestroyNotify) storage_vdi_free);
    g_autoptr(GHashTable) idle = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) merge = g_hash_table_new(g_str_hash, g_str_equal);
    const struct storage_coalesce who = {.idle = idle, .merge = merge};
    assert_ok(D->coalesce_look(x->sr, vdis, &f));
    const char *opened = g_atomic_pointer_get(&open_now);
    for (guint i = 0; i < vdis->len; i++) {
        if (strcmp(vdis->pdata[i], busy) == 0 || g_strcmp0(vdis->pdata[i], opened) == 0)
            continue;
        g_hash_table_add(idle, vdis->pdata[i]);
        if (strcmp(vdis->pdata[i], keep) != 0)
            g_hash_table_add(merge, vdis->pdata[i]);
    }
    assert_ok(D->coalesce(x->sr, &who, &no_job, changed, &f));
    return changed->len;
}

/* Five snapshots come and go, the third one stays. */
static void make_chain(struct fixture *x)
{
    struct fault f = FAULT_INIT;
    static const char *const writes[] = {"write -P 1 0 8M", "write -P 2 1M 4M", "write -P 3 2M 4M", "write -P 4 3M 4M",
                                         "write -P 5 4M 4M"};
    for (gsize i = 0; i < G_N_ELEMENTS(writes); i++) {
        g_assert_true(io(x, x->a, writes[i]));
        if (i == 2)
            assert_ok(snapshot(x, x->a, x->b, &f));
        else
            passing_snapshot(x, x->a);
    }
    g_assert_true(io(x, x->a, "write -P 6 5M 4M"));
}

static void check_chain(struct fixture *x)
{
    static const char *const of_a[] = {"read -P 1 0 1M",  "read -P 2 1M 1M", "read -P 3 2M 1M", "read -P 4 3M 1M",
                                       "read -P 5 4M 1M", "read -P 6 5M 4M", "read -P 0 9M 7M"};
    static const char *const of_b[] = {"read -P 1 0 1M", "read -P 2 1M 1M", "read -P 3 2M 4M", "read -P 1 6M 2M",
                                       "read -P 0 8M 8M"};
    for (gsize i = 0; i < G_N_ELEMENTS(of_a); i++)
        g_assert_true(io(x, x->a, of_a[i]));
    for (gsize i = 0; i < G_N_ELEMENTS(of_b); i++)
        g_assert_true(io(x, x->b, of_b[i]));
}

static void test_chain(struct fixture *x, gconstpointer data G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    make_chain(x);
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 5);
    g_assert_true(D->may_coalesce(x->sr));
    g_assert_cmpuint(coalesce(x, "", ""), ==, 1);
    check_chain(x);
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 1); /* what a and b share */
    g_assert_cmpuint(count_files(x, ".tmp"), ==, 0);
    g_assert_false(D->may_coalesce(x->sr));
    /* The books agree with a fresh look. */
    assert_ok(D->scan(x->sr, NULL, &f));
    g_assert_false(D->may_coalesce(x->sr));
    assert_ok(D->vdi_destroy(x->sr, x->b, &f));
    g_assert_true(D->may_coalesce(x->sr));
    g_assert_cmpuint(coalesce(x, "", ""), ==, 1);
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 0);
    g_assert_true(io(x, x->a, "read -P 6 5M 4M"));
    g_assert_true(io(x, x->a, "read -P 1 0 1M"));
}

/* Below a VDI in use, its own base stays what it is; what lies deeper becomes one. */
static void test_in_use(struct fixture *x, gconstpointer data G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    make_chain(x);
    assert_ok(D->vdi_destroy(x->sr, x->b, &f));
    g_autofree char *path = file_of(x, x->a);
    struct stat before, after;
    g_assert_cmpint(stat(path, &before), ==, 0);
    g_assert_cmpuint(coalesce(x, x->a, ""), ==, 0);
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 2);
    g_assert_cmpint(stat(path, &after), ==, 0);
    g_assert_cmpuint(after.st_ino, ==, before.st_ino);
    g_assert_true(io(x, x->a, "read -P 5 4M 1M"));
    g_assert_true(io(x, x->a, "read -P 2 1M 1M"));
    /* One that is not to be merged itself: all below it. */
    g_assert_cmpuint(coalesce(x, "", x->a), ==, 0);
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 1);
    g_assert_true(io(x, x->a, "read -P 2 1M 1M"));
}

/* A program that QEMU's locks tell of keeps its images, whatever the front believes. */
static void test_foreign_writer(struct fixture *x, gconstpointer data G_GNUC_UNUSED)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1};
    g_assert_true(io(x, x->a, "write -P 1 0 8M"));
    passing_snapshot(x, x->a);
    g_assert_true(io(x, x->a, "write -P 2 0 1M"));
    g_autofree char *path = file_of(x, x->a);
    int fd = g_open(path, O_RDWR | O_CLOEXEC, 0);
    g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, 0);
    g_assert_cmpuint(coalesce(x, "", ""), ==, 0);
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 1);
    close(fd);
    g_assert_cmpuint(coalesce(x, "", ""), ==, 1);
    g_assert_true(io(x, x->a, "read -P 2 0 1M"));
    g_assert_true(io(x, x->a, "read -P 1 1M 7M"));
}

/* What is written to grows on its way down. */
static void test_sizes(struct fixture *x, gconstpointer data G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    g_assert_true(io(x, x->a, "write -P 1 0 8M"));
    passing_snapshot(x, x->a);
    assert_ok(D->vdi_resize(x->sr, x->a, 3072 * MIB, &v, &f));
    storage_vdi_clear(&v);
    g_assert_true(io(x, x->a, "write -P 2 3070M 2M"));
    passing_snapshot(x, x->a);
    g_assert_true(io(x, x->a, "write -P 3 1M 1M"));
    g_assert_cmpuint(coalesce(x, x->a, ""), ==, 0); /* somebody may be about to open it */
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 2);
    g_assert_cmpuint(coalesce(x, "", ""), ==, 1);
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 0);
    assert_ok(D->vdi_stat(x->sr, x->a, &v, &f));
    g_assert_cmpint(v.virtual_size, ==, 3072 * MIB);
    storage_vdi_clear(&v);
    g_assert_true(io(x, x->a, "read -P 2 3070M 2M"));
    g_assert_true(io(x, x->a, "read -P 3 1M 1M"));
    g_assert_true(io(x, x->a, "read -P 1 2M 6M"));
}

/* A base that may be written to was left so by a crash: what a killed tool lost is found before it is used on. */
static void test_leaks(struct fixture *x, gconstpointer data G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    g_assert_true(io(x, x->a, "write -P 1 0 8M"));
    assert_ok(snapshot(x, x->a, x->b, &f));
    g_autofree char *base = NULL;
    g_autoptr(GDir) dir = g_dir_open(x->path, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
        if (g_str_has_suffix(name, ".base.qcow2"))
            base = g_build_filename(x->path, name, NULL);
    const char *const check[] = {"qemu-img", "check", "-q", base, NULL};
    g_assert_true(run_tool(check, NULL, NULL, NULL));
    /* A cluster at the end that is counted and belongs to nothing: 64 KiB, 16 bits for each in a block. */
    struct stat st;
    g_assert_cmpint(chmod(base, 0600), ==, 0);
    int fd = g_open(base, O_RDWR | O_CLOEXEC, 0);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    guint8 offset[8], one[2] = {0, 1};
    guint64 table = 0, block = 0, cluster = (guint64) (st.st_size + 65535) / 65536;
    g_assert_cmpint(pread(fd, offset, 8, 48), ==, 8);
    for (int i = 0; i < 8; i++)
        table = table << 8 | offset[i];
    g_assert_cmpint(pread(fd, offset, 8, (off_t) table), ==, 8);
    for (int i = 0; i < 8; i++)
        block = block << 8 | offset[i];
    g_assert_cmpint(pwrite(fd, one, 2, (off_t) (block + cluster * 2)), ==, 2);
    g_assert_cmpint(ftruncate(fd, (off_t) ((cluster + 1) * 65536)), ==, 0);
    close(fd);
    g_assert_false(run_tool(check, NULL, NULL, NULL));
    coalesce(x, x->a, "");
    g_assert_false(run_tool(check, NULL, NULL, NULL)); /* below a VDI in use it is left alone */
    coalesce(x, "", "");
    g_assert_true(run_tool(check, NULL, NULL, NULL));
    g_assert_cmpint(stat(base, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0400);
}

static void test_limit(struct fixture *x, gconstpointer data G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    for (int i = 1; i < 30; i++) {
        g_assert_true(io(x, x->a, "write -P 1 0 64k"));
        passing_snapshot(x, x->a);
    }
    g_assert_true(io(x, x->a, "write -P 2 0 64k"));
    g_assert_false(snapshot(x, x->a, x->b, &f));
    g_assert_cmpstr(f.code, ==, "SR_BACKEND_FAILURE_109");
    fault_clear(&f);
    g_assert_cmpuint(coalesce(x, "", ""), ==, 1);
    assert_ok(snapshot(x, x->a, x->b, &f));
    g_assert_true(io(x, x->b, "read -P 2 0 64k"));
}

/* ---- while others work ---- */

struct pool {
    struct fixture *x;
    gint end, rounds, merged;
};

static void *merge_on(void *data)
{
    struct pool *p = data;
    while (!g_atomic_int_get(&p->end)) {
        g_atomic_int_add(&p->merged, (gint) coalesce(p->x, "", ""));
        g_atomic_int_inc(&p->rounds);
    }
    return NULL;
}

/* Guests come and go, are snapshotted, cloned, grown: nothing of what they wrote is lost. */
static void test_threads(struct fixture *x, gconstpointer data G_GNUC_UNUSED)
{
    struct pool p = {.x = x};
    GThread *thread = g_thread_new("merge", merge_on, &p);
    for (int i = 1; i <= 40; i++) {
        struct fault f = FAULT_INIT;
        struct storage_vdi v = {0};
        g_autofree char *path = NULL;
        const char *format;
        g_autofree char *write = g_strdup_printf("write -P %d %dk 192k", i, i * 64);
        g_autofree char *read = g_strdup_printf("read -P %d %dk 64k", i - 1, (i - 1) * 64);
        g_atomic_pointer_set(&open_now, x->a); /* a domain is started */
        assert_ok(D->vdi_path(x->sr, x->a, &path, &format, &f));
        g_assert_true(io(x, x->a, write));
        g_assert_true(i == 1 || io(x, x->a, read));
        char new[37];
        storage_uuid_new(new);
        assert_ok(snapshot(x, x->a, new, &f));
        g_assert_true(i == 1 || io(x, new, read));
        g_atomic_pointer_set(&open_now, NULL);
        assert_ok(D->vdi_resize(x->sr, x->a, (16 + i) * MIB, &v, &f));
        storage_vdi_clear(&v);
        assert_ok(D->vdi_destroy(x->sr, new, &f));
        for (gint was = g_atomic_int_get(&p.rounds); i % 10 == 0 && g_atomic_int_get(&p.rounds) < was + 2;)
            g_usleep(1000);
    }
    g_atomic_int_set(&p.end, 1);
    g_thread_join(thread);
    g_assert_cmpint(p.merged, >=, 4);
    for (int i = 1; i < 40; i++) {
        g_autofree char *read = g_strdup_printf("read -P %d %dk 64k", i, i * 64);
        g_assert_true(io(x, x->a, read));
    }
    coalesce(x, "", "");
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 0);
}

static void *merge_once(void *x)
{
    coalesce(x, "", "");
    return NULL;
}

/* Who has been given the path has the image, also while it is being merged and before anything is written. */
static void test_wanted(struct fixture *x, gconstpointer data G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    struct stat opened, now;
    g_autofree char *path = NULL, *base = NULL;
    const char *format;
    assert_ok(D->vdi_resize(x->sr, x->a, 400 * MIB, &v, &f));
    storage_vdi_clear(&v);
    g_assert_true(io(x, x->a, "write -P 1 0 64k"));
    passing_snapshot(x, x->a);
    g_assert_true(io(x, x->a, "write -P 2 0 300M"));
    g_autoptr(GDir) dir = g_dir_open(x->path, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
        if (g_str_has_suffix(name, ".base.qcow2"))
            base = g_build_filename(x->path, name, NULL);
    GThread *thread = g_thread_new("merge", merge_once, x);
    while (stat(base, &now) == 0 && (now.st_mode & S_IWUSR) == 0)
        g_usleep(1000);
    assert_ok(D->vdi_path(x->sr, x->a, &path, &format, &f));
    int fd = g_open(path, O_RDWR | O_CLOEXEC, 0);
    g_thread_join(thread);
    g_assert_cmpint(fstat(fd, &opened), ==, 0);
    g_assert_cmpint(stat(path, &now), ==, 0);
    g_assert_cmpuint(opened.st_ino, ==, now.st_ino);
    close(fd);
    g_assert_true(io(x, x->a, "read -P 2 0 300M"));
}

#define ADD(name, fn) g_test_add("/storage/coalesce/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_autofree char *qemu_img = g_find_program_in_path("qemu-img"), *qemu_io = g_find_program_in_path("qemu-io");
    if (qemu_img == NULL || qemu_io == NULL)
        return 77;
    ADD("chain", test_chain);
    ADD("in-use", test_in_use);
    ADD("foreign-writer", test_foreign_writer);
    ADD("sizes", test_sizes);
    ADD("leaks", test_leaks);
    ADD("limit", test_limit);
    ADD("wanted", test_wanted);
    ADD("threads", test_threads);
    return g_test_run();
}
