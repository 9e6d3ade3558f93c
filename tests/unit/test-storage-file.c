/* test-storage-file.c - the storage driver `file` on a real directory with a real qemu-img: what it makes, that chains
 * keep their content, that a full or missing medium is told, that a kill leaves whole images only. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "xenbackend/run.h"
#include "tests/unit/storage-fixture.h"

#define D (&storage_file_driver)

/* ---- a fresh directory for each test ---- */

struct fixture {
    char *dir, *path;
    struct value *config;
    void *sr;
    char a[37], b[37], c[37];
};

static struct value *config_of(const char *path, const char *quota)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "location", path);
    if (quota != NULL)
        value_builder_put_string(&b, "quota", quota);
    return value_builder_end(&b);
}

static void set_up(struct fixture *x, gconstpointer quota)
{
    struct fault f = FAULT_INIT;
    x->dir = g_dir_make_tmp("xenapid-file-XXXXXX", NULL);
    x->path = g_build_filename(x->dir, "sr", NULL);
    x->config = config_of(x->path, quota);
    assert_ok(D->create(SR, x->config, 0, &f));
    x->sr = D->attach(SR, x->config, &f);
    assert_ok(x->sr != NULL);
    storage_uuid_new(x->a);
    storage_uuid_new(x->b);
    storage_uuid_new(x->c);
}

static void tear_down(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    D->detach(x->sr);
    const char *const rm[] = {"rm", "-rf", x->dir, NULL};
    g_assert_true(run_tool(rm, NULL, NULL, NULL));
    value_unref(x->config);
    g_free(x->dir);
    g_free(x->path);
}

static char *file_of(struct fixture *x, const char *vdi, const char *suffix)
{
    return g_strconcat(x->path, "/", vdi, suffix, NULL);
}

/* Writes or checks a byte pattern over a range, as a guest would. */
static gboolean io(struct fixture *x, const char *vdi, const char *command)
{
    struct fault f = FAULT_INIT;
    g_autofree char *path = NULL, *out = NULL;
    const char *format = NULL;
    assert_ok(D->vdi_path(x->sr, vdi, &path, &format, &f));
    const char *const args[] = {"qemu-io", "-f", format, "-c", command, path, NULL};
    gboolean done = run_tool(args, NULL, &out, &f);
    done = done && strstr(out, "verification failed") == NULL;
    fault_clear(&f);
    return done;
}

static void make(struct fixture *x, const char *vdi, gint64 size, const char *type)
{
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    assert_ok(D->vdi_create(x->sr, vdi, size, type, value_empty_map(), &v, &f));
    g_assert_cmpstr(v.uuid, ==, vdi);
    g_assert_cmpint(v.virtual_size, ==, size);
    g_assert_cmpstr(v.type, ==, type);
    storage_vdi_clear(&v);
}

static struct storage_vdi clone_vdi(struct fixture *x, const char *vdi, const char *new)
{
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    assert_ok(D->vdi_clone(x->sr, vdi, new, &no_job, &v, &f));
    storage_vdi_clear(&v); /* uuid and parent stay readable */
    return v;
}

static guint count_vdis(struct fixture *x)
{
    struct fault f = FAULT_INIT;
    g_autoptr(GPtrArray) vdis = g_ptr_array_new_with_free_func((GDestroyNotify) storage_vdi_free);
    assert_ok(D->scan(x->sr, vdis, &f));
    return vdis->len;
}

static guint count_files(struct fixture *x, const char *suffix)
{
    guint n = 0;
    g_autoptr(GDir) dir = g_dir_open(x->path, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
        n += g_str_has_suffix(name, suffix) ? 1 : 0;
    return n;
}

/* ---- tests ---- */

static void test_create(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    make(x, x->a, 8 * MIB, "qcow2");
    make(x, x->b, 1024 * MIB, "raw");
    g_assert_cmpuint(count_vdis(x), ==, 2);
    assert_ok(D->vdi_stat(x->sr, x->b, &v, &f));
    g_assert_cmpint(v.physical_utilisation, <, MIB); /* sparse */
    storage_vdi_clear(&v);
    g_assert_false(D->vdi_create(x->sr, x->a, MIB, "qcow2", value_empty_map(), &v, &f));
    assert_fault(&f, "SR_BACKEND_FAILURE");
    g_assert_false(D->vdi_create(x->sr, x->c, 0, "raw", value_empty_map(), &v, &f));
    assert_fault(&f, "INVALID_VALUE");
    g_assert_false(D->vdi_create(x->sr, x->c, G_MAXINT64, "raw", value_empty_map(), &v, &f));
    assert_fault(&f, "VDI_TOO_LARGE");
    g_assert_false(D->vdi_create(x->sr, x->c, MIB, "vmdk", value_empty_map(), &v, &f));
    assert_fault(&f, "INVALID_VALUE");
    assert_ok(D->vdi_destroy(x->sr, x->a, &f));
    g_assert_false(D->vdi_destroy(x->sr, x->a, &f));
    assert_fault(&f, "VDI_MISSING");
    assert_ok(D->vdi_destroy(x->sr, x->b, &f));
    g_assert_cmpuint(count_files(x, ".json"), ==, 1); /* sr.json */
    g_assert_cmpuint(count_files(x, ".tmp"), ==, 0);
}

static void test_sm_config(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "what", "\"quoted\"");
    g_autoptr(value) sm_config = value_builder_end(&b);
    struct storage_vdi v = {0};
    assert_ok(D->vdi_create(x->sr, x->a, MIB, "qcow2", sm_config, &v, &f));
    storage_vdi_clear(&v);
    clone_vdi(x, x->a, x->b);
    assert_ok(D->vdi_stat(x->sr, x->b, &v, &f));
    g_assert_true(value_equal(v.sm_config, sm_config));
    storage_vdi_clear(&v);
}

/* A line of clones, each written to after it was cloned: every one keeps what it had. */
static void test_chain(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    make(x, x->a, 16 * MIB, "qcow2");
    g_assert_true(io(x, x->a, "write -P 1 0 1M"));
    clone_vdi(x, x->a, x->b);
    g_assert_true(io(x, x->a, "write -P 2 512k 1M"));
    struct storage_vdi c = clone_vdi(x, x->a, x->c);
    g_assert_cmpstr(c.parent, !=, "");
    g_assert_true(io(x, x->c, "write -P 3 0 256k"));
    g_assert_true(io(x, x->b, "read -P 1 0 1M"));
    g_assert_true(io(x, x->b, "read -P 0 1M 15M"));
    g_assert_true(io(x, x->a, "read -P 1 0 512k"));
    g_assert_true(io(x, x->a, "read -P 2 512k 1M"));
    g_assert_true(io(x, x->c, "read -P 3 0 256k"));
    g_assert_true(io(x, x->c, "read -P 2 512k 1M"));
    g_assert_false(io(x, x->c, "read -P 9 0 1k"));
    g_assert_cmpuint(count_vdis(x), ==, 3);
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 2);
    /* The original goes; what it shared stays until the last one that needs it goes. */
    assert_ok(D->vdi_destroy(x->sr, x->a, &f));
    g_assert_true(io(x, x->b, "read -P 1 0 1M"));
    g_assert_true(io(x, x->c, "read -P 2 512k 1M"));
    assert_ok(D->vdi_destroy(x->sr, x->c, &f));
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 1);
    g_assert_true(io(x, x->b, "read -P 1 0 1M"));
    assert_ok(D->vdi_destroy(x->sr, x->b, &f));
    g_assert_cmpuint(count_files(x, ".qcow2"), ==, 0);
}

static void test_clones_of_template(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    make(x, x->a, 4 * MIB, "qcow2");
    g_assert_true(io(x, x->a, "write -P 7 0 64k"));
    char first[37] = "", new[37];
    for (int i = 0; i < 5; i++) {
        storage_uuid_new(new);
        struct storage_vdi v = clone_vdi(x, x->a, new);
        if (i == 0)
            g_strlcpy(first, v.parent, sizeof(first));
        g_assert_cmpstr(v.parent, ==, first);
    }
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 1);
    g_assert_true(io(x, new, "read -P 7 0 64k"));
    /* An empty image without a parent has nothing to share. */
    make(x, x->b, 4 * MIB, "qcow2");
    g_assert_cmpstr(clone_vdi(x, x->b, x->c).parent, ==, "");
}

/* A snapshot of what a freeze made, as it is taken of an image that a domain writes to. */
static void snapshot_of(struct fixture *x, const char *vdi, const char *new, const char *base)
{
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    struct storage_job job = {.base = base};
    assert_ok(D->vdi_snapshot(x->sr, vdi, new, &job, &v, &f));
    g_assert_cmpstr(v.parent, ==, base);
    storage_vdi_clear(&v);
}

static void test_freeze(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    char first[37], second[37];
    struct stat open, now;
    make(x, x->a, 16 * MIB, "qcow2");
    g_assert_true(io(x, x->a, "write -P 1 0 1M"));
    g_autofree char *path = file_of(x, x->a, ".qcow2");
    g_assert_cmpint(stat(path, &open), ==, 0);
    assert_ok(D->vdi_freeze(x->sr, x->a, first, &f));
    /* Who has it open has the base, and may write to it a little longer: it is seen in all that comes of it. */
    g_autofree char *base = file_of(x, first, ".base.qcow2");
    g_assert_true(stat(base, &now) == 0 && now.st_ino == open.st_ino);
    g_assert_true(stat(path, &now) == 0 && now.st_ino != open.st_ino);
    const char *const late[] = {"qemu-io", "-f", "qcow2", "-c", "write -P 2 1M 1M", base, NULL};
    g_chmod(base, 0600);
    assert_ok(run_tool(late, NULL, NULL, &f));
    g_assert_true(io(x, x->a, "read -P 2 1M 1M"));
    snapshot_of(x, x->a, x->b, first);
    g_assert_true(io(x, x->a, "write -P 3 0 1M"));
    /* An image that says it is empty is frozen all the same: its writer may hold back what it has. */
    assert_ok(D->vdi_freeze(x->sr, x->a, second, &f));
    assert_ok(D->vdi_freeze(x->sr, x->a, second, &f));
    snapshot_of(x, x->a, x->c, second);
    g_assert_true(io(x, x->b, "read -P 1 0 1M") && io(x, x->b, "read -P 2 1M 1M"));
    g_assert_true(io(x, x->c, "read -P 3 0 1M") && io(x, x->c, "read -P 2 1M 1M"));
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 3);
    g_assert_cmpuint(count_vdis(x), ==, 3);
    assert_ok(D->vdi_destroy(x->sr, x->b, &f));
    assert_ok(D->vdi_destroy(x->sr, x->c, &f));
    g_assert_true(io(x, x->a, "read -P 3 0 1M"));
    assert_ok(D->vdi_destroy(x->sr, x->a, &f));
    g_assert_cmpuint(count_files(x, ".qcow2"), ==, 0);
}

static void test_freeze_refused(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    char base[37];
    make(x, x->a, MIB, "raw");
    g_assert_false(D->vdi_freeze(x->sr, x->a, base, &f));
    assert_fault(&f, "VDI_IN_USE");
    make(x, x->b, MIB, "qcow2");
    struct storage_job job = {.base = x->c};
    g_assert_false(D->vdi_snapshot(x->sr, x->b, x->c, &job, &v, &f));
    assert_fault(&f, "VDI_MISSING");
    g_assert_cmpuint(count_vdis(x), ==, 2);
}

static void test_raw_clone(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    make(x, x->a, 64 * MIB, "raw");
    g_assert_true(io(x, x->a, "write -P 5 8M 1M"));
    clone_vdi(x, x->a, x->b);
    g_assert_true(io(x, x->a, "write -P 6 8M 1M"));
    g_assert_true(io(x, x->b, "read -P 5 8M 1M"));
    g_assert_true(io(x, x->b, "read -P 0 9M 1M"));
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    assert_ok(D->vdi_stat(x->sr, x->b, &v, &f));
    g_assert_cmpint(v.physical_utilisation, <, 4 * MIB);
    g_assert_cmpint(v.virtual_size, ==, 64 * MIB);
    storage_vdi_clear(&v);
}

static void note_progress(double fraction, void *data)
{
    double *last = data;
    g_assert_cmpfloat(fraction, >=, 0);
    g_assert_cmpfloat(fraction, <=, 1);
    *last = fraction;
}

static gboolean copy(struct fixture *x, const char *vdi, const char *new, gboolean into, const struct storage_job *job,
                     struct fault *f)
{
    g_autofree char *path = NULL;
    const char *format = NULL;
    struct storage_vdi v = {0};
    gboolean done =
        D->vdi_path(x->sr, vdi, &path, &format, f) && D->vdi_copy(x->sr, new, into, path, format, job, &v, f);
    storage_vdi_clear(&v);
    return done;
}

static void test_copy(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    double last = 0;
    struct storage_job job = {.progress = note_progress, .data = &last};
    make(x, x->a, 32 * MIB, "qcow2");
    g_assert_true(io(x, x->a, "write -P 1 0 4M"));
    clone_vdi(x, x->a, x->b);
    g_assert_true(io(x, x->b, "write -P 2 2M 1M"));
    assert_ok(copy(x, x->b, x->c, FALSE, &job, &f));
    g_assert_cmpfloat(last, ==, 1.0);
    g_assert_true(io(x, x->c, "read -P 1 0 2M"));
    g_assert_true(io(x, x->c, "read -P 2 2M 1M"));
    struct storage_vdi v = {0};
    assert_ok(D->vdi_stat(x->sr, x->c, &v, &f));
    g_assert_cmpstr(v.parent, ==, ""); /* whole in itself */
    storage_vdi_clear(&v);
    g_assert_false(copy(x, x->b, x->c, FALSE, &job, &f));
    assert_fault(&f, "SR_BACKEND_FAILURE");
    /* Into a larger raw one, which keeps type and size; not into a smaller one. */
    char d[37], e[37];
    storage_uuid_new(d);
    storage_uuid_new(e);
    make(x, d, 64 * MIB, "raw");
    make(x, e, 1 * MIB, "qcow2");
    assert_ok(copy(x, x->b, d, TRUE, &no_job, &f));
    g_assert_true(io(x, d, "read -P 2 2M 1M"));
    assert_ok(D->vdi_stat(x->sr, d, &v, &f));
    g_assert_cmpstr(v.type, ==, "raw");
    g_assert_cmpint(v.virtual_size, ==, 64 * MIB);
    storage_vdi_clear(&v);
    g_assert_false(copy(x, x->b, e, TRUE, &no_job, &f));
    assert_fault(&f, "VDI_TOO_SMALL");
    gint cancel = 1;
    struct storage_job cancelled = {.cancel = &cancel};
    g_assert_false(copy(x, x->b, x->a, TRUE, &cancelled, &f));
    assert_fault(&f, "TASK_CANCELLED");
    g_assert_true(io(x, x->a, "read -P 1 0 4M"));
    g_assert_cmpuint(count_files(x, ".tmp"), ==, 0);
}

static void test_resize(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    const char *const types[] = {"raw", "qcow2"};
    const char *const vdis[] = {x->a, x->b};
    for (int i = 0; i < 2; i++) {
        struct storage_vdi v = {0};
        make(x, vdis[i], 2 * MIB, types[i]);
        g_assert_true(io(x, vdis[i], "write -P 4 0 1M"));
        assert_ok(D->vdi_resize(x->sr, vdis[i], 8 * MIB + 1, &v, &f));
        g_assert_cmpint(v.virtual_size, ==, 8 * MIB + 512);
        storage_vdi_clear(&v);
        g_assert_true(io(x, vdis[i], "read -P 4 0 1M"));
        g_assert_false(D->vdi_resize(x->sr, vdis[i], MIB, &v, &f));
        assert_fault(&f, "VDI_TOO_SMALL");
    }
    struct storage_space space;
    assert_ok(D->stat(x->sr, &space, &f));
    g_assert_cmpint(space.virtual_allocation, ==, 2 * (8 * MIB + 512));
}

static void test_quota(struct fixture *x, gconstpointer quota)
{
    struct fault f = FAULT_INIT;
    struct storage_space space;
    make(x, x->a, 64 * MIB, "qcow2");
    g_assert_true(io(x, x->a, "write -P 1 0 12M"));
    assert_ok(D->stat(x->sr, &space, &f));
    g_assert_cmpint(space.physical_size, ==, g_ascii_strtoll(quota, NULL, 10));
    g_assert_cmpint(space.physical_utilisation, >=, 12 * MIB);
    g_assert_false(copy(x, x->a, x->b, FALSE, &no_job, &f));
    g_assert_cmpint(g_ascii_strtoll(f.params[0], NULL, 10), >, g_ascii_strtoll(f.params[1], NULL, 10));
    assert_fault(&f, "SR_FULL");
    clone_vdi(x, x->a, x->b); /* shares */
}

static void test_attach(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    char other[37];
    storage_uuid_new(other);
    g_assert_null(D->attach(other, x->config, &f)); /* locked */
    assert_fault(&f, "SR_BACKEND_FAILURE");
    D->detach(x->sr);
    g_assert_null(D->attach(other, x->config, &f)); /* another SR's label */
    assert_fault(&f, "SR_BACKEND_FAILURE");
    const char *const bad[] = {"relative", "", "/tmp/../etc", "/nonexistent/xenapid"};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(value) config = config_of(bad[i], NULL);
        g_assert_null(D->attach(SR, config, &f));
        assert_fault(&f, "SR_BACKEND_FAILURE");
    }
    struct value_builder srs;
    value_builder_set(&srs, NULL, 1);
    assert_ok(D->probe(x->config, &srs, &f));
    g_autoptr(value) found = value_builder_end(&srs);
    g_assert_cmpstr(value_get_str(value_at(found, 0), "sr", ""), ==, SR);
    x->sr = D->attach(SR, x->config, &f);
    assert_ok(x->sr != NULL);
    make(x, x->a, MIB, "raw");
    D->detach(x->sr);
    g_assert_false(D->destroy(SR, x->config, &f));
    assert_fault(&f, "SR_NOT_EMPTY");
    x->sr = D->attach(SR, x->config, &f);
    assert_ok(D->vdi_destroy(x->sr, x->a, &f));
    D->detach(x->sr);
    assert_ok(D->destroy(SR, x->config, &f));
    g_assert_false(g_file_test(x->path, G_FILE_TEST_EXISTS));
    assert_ok(D->create(SR, x->config, 0, &f));
    x->sr = D->attach(SR, x->config, &f);
    assert_ok(x->sr != NULL);
}

/* An image must not lead a tool to a file that is none of the SR's. */
static void test_foreign_images(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    g_autofree char *evil = file_of(x, x->a, ".qcow2");
    const char *const create[] = {"qemu-img", "create", "-q",          "-u", "-f", "qcow2", "-F",
                                  "raw",      "-b",     "/etc/passwd", evil, "1M", NULL};
    g_assert_true(run_tool(create, NULL, NULL, &f));
    struct storage_vdi v = {0};
    g_assert_false(D->vdi_stat(x->sr, x->a, &v, &f));
    assert_fault(&f, "SR_BACKEND_FAILURE");
    g_assert_false(D->vdi_copy(x->sr, x->b, FALSE, evil, "qcow2", &no_job, &v, &f));
    assert_fault(&f, "SR_BACKEND_FAILURE");
    g_test_expect_message("xenapid", G_LOG_LEVEL_WARNING, "*backing file*");
    g_assert_cmpuint(count_vdis(x), ==, 0);
    g_test_assert_expected_messages();
    assert_ok(D->vdi_destroy(x->sr, x->a, &f));
    g_assert_true(g_file_set_contents(evil, "no image at all", -1, NULL));
    assert_ok(D->vdi_destroy(x->sr, x->a, &f));
    g_assert_false(D->vdi_destroy(x->sr, x->a, &f));
    assert_fault(&f, "VDI_MISSING");
    g_assert_true(run_tool(create, NULL, NULL, &f));
    /* A guest may write what it likes to a raw disk: it stays raw. */
    make(x, x->b, 4 * MIB, "raw");
    g_autofree char *raw = file_of(x, x->b, ".raw");
    const char *const dd[] = {"cp", evil, raw, NULL};
    g_assert_true(run_tool(dd, NULL, NULL, &f));
    assert_ok(copy(x, x->b, x->c, FALSE, &no_job, &f));
    assert_ok(D->vdi_stat(x->sr, x->c, &v, &f));
    g_assert_cmpstr(v.type, ==, "raw");
    storage_vdi_clear(&v);
}

static void test_leftovers(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    g_autofree char *tmp = file_of(x, x->a, ".1.1.tmp");
    g_autofree char *sidecar = file_of(x, x->a, ".json");
    g_autofree char *base = file_of(x, x->c, ".base.qcow2");
    g_assert_true(g_file_set_contents(tmp, "x", -1, NULL));
    g_assert_true(g_file_set_contents(sidecar, "{}", -1, NULL));
    make(x, x->b, MIB, "qcow2");
    g_assert_true(io(x, x->b, "write -P 1 0 64k"));
    g_autofree char *image = file_of(x, x->b, ".qcow2");
    g_assert_cmpint(link(image, base), ==, 0); /* as a crash before the clone's rename leaves it */
    D->detach(x->sr);
    x->sr = D->attach(SR, x->config, &f);
    assert_ok(x->sr != NULL);
    g_assert_false(g_file_test(tmp, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(sidecar, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(base, G_FILE_TEST_EXISTS));
    g_assert_true(io(x, x->b, "read -P 1 0 64k"));
}

/* The dead process's tool dies a moment later than it and holds the image's lock until then. */
static gboolean reads_as_written(struct fixture *x, const char *vdi)
{
    gboolean ok = FALSE;
    for (int tries = 0; tries < 100 && !ok; tries++) {
        ok = io(x, vdi, "read -P 1 0 48M");
        if (!ok)
            g_usleep(20000);
    }
    return ok;
}

/* Kills a process in the middle of copies and clones; afterwards every VDI is whole. */
static void test_kill(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct fault f = FAULT_INIT;
    make(x, x->a, 64 * MIB, "qcow2");
    g_assert_true(io(x, x->a, "write -P 1 0 48M"));
    for (int round = 0; round < 6; round++) {
        D->detach(x->sr);
        pid_t pid = fork();
        if (pid == 0) {
            x->sr = D->attach(SR, x->config, &f);
            for (;;) {
                char new[37];
                struct storage_vdi v = {0};
                storage_uuid_new(new);
                assert_ok(D->vdi_clone(x->sr, x->a, new, &no_job, &v, &f));
                g_assert_true(io(x, x->a, "write -P 1 0 64k"));
                storage_uuid_new(new);
                assert_ok(copy(x, x->a, new, FALSE, &no_job, &f));
            }
        }
        g_usleep((gulong) (100 + 37 * round) * 1000);
        int status;
        kill(pid, SIGKILL);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFSIGNALED(status));
        x->sr = D->attach(SR, x->config, &f);
        assert_ok(x->sr != NULL);
        g_assert_cmpuint(count_files(x, ".tmp"), ==, 0);
        g_autoptr(GPtrArray) vdis = g_ptr_array_new_with_free_func((GDestroyNotify) storage_vdi_free);
        assert_ok(D->scan(x->sr, vdis, &f));
        gboolean original = FALSE;
        for (guint i = 0; i < vdis->len; i++) {
            const struct storage_vdi *v = vdis->pdata[i];
            original = original || strcmp(v->uuid, x->a) == 0;
            g_assert_true(reads_as_written(x, v->uuid));
            if (strcmp(v->uuid, x->a) != 0)
                assert_ok(D->vdi_destroy(x->sr, v->uuid, &f));
        }
        g_assert_true(original);
    }
}

struct many {
    struct fixture *x;
    const char *vdi;
    gint failed;
};

static void *clone_and_destroy(void *data)
{
    struct many *m = data;
    for (int i = 0; i < 4; i++) {
        struct storage_vdi v = {0};
        char new[37];
        storage_uuid_new(new);
        if (!D->vdi_clone(m->x->sr, m->vdi, new, &no_job, &v, NULL) ||
            (i % 2 == 0 && !D->vdi_destroy(m->x->sr, new, NULL)))
            g_atomic_int_inc(&m->failed);
        storage_vdi_clear(&v);
    }
    return NULL;
}

static void test_threads(struct fixture *x, gconstpointer quota G_GNUC_UNUSED)
{
    struct many m = {.x = x, .vdi = x->a};
    GThread *threads[8];
    make(x, x->a, 8 * MIB, "qcow2");
    g_assert_true(io(x, x->a, "write -P 1 0 64k"));
    for (int i = 0; i < 8; i++)
        threads[i] = g_thread_new("clone", clone_and_destroy, &m);
    for (int i = 0; i < 4; i++)
        count_vdis(x);
    for (int i = 0; i < 8; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(m.failed, ==, 0);
    g_assert_cmpuint(count_vdis(x), ==, 1 + 8 * 2);
    g_assert_cmpuint(count_files(x, ".base.qcow2"), ==, 1);
}

static void test_run(void)
{
    struct fault f = FAULT_INIT;
    g_autofree char *out = NULL;
    const char *const echo[] = {"echo", "$HOME; `id`", NULL};
    g_assert_true(run_tool(echo, NULL, &out, &f));
    g_assert_cmpstr(out, ==, "$HOME; `id`\n");
    const char *const missing[] = {"no-such-tool", NULL};
    g_assert_false(run_tool(missing, NULL, NULL, &f));
    assert_fault(&f, "SR_BACKEND_FAILURE");
    const char *const fails[] = {"sh", "-c", "echo said; echo wrong >&2; exit 3", NULL};
    g_assert_false(run_tool(fails, NULL, NULL, &f));
    g_assert_cmpstr(f.params[0], ==, "3");
    g_assert_cmpstr(f.params[1], ==, "said");
    g_assert_cmpstr(f.params[2], ==, "wrong");
    assert_fault(&f, "SR_BACKEND_FAILURE");
    struct run_options late = {.timeout_s = 1};
    const char *const sleeps[] = {"sh", "-c", "sleep 60 & sleep 60", NULL};
    gint64 begin = g_get_monotonic_time();
    g_assert_false(run_tool(sleeps, &late, NULL, &f));
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 10 * G_USEC_PER_SEC);
    assert_fault(&f, "SR_BACKEND_FAILURE");
    gint cancel = 1;
    struct run_options stopped = {.cancel = &cancel};
    g_assert_false(run_tool(sleeps, &stopped, NULL, &f));
    assert_fault(&f, "TASK_CANCELLED");
    const char *const much[] = {"head", "-c", "5000000", "/dev/zero", NULL};
    g_assert_true(run_tool(much, NULL, NULL, &f));
    g_assert_cmpfloat(run_parse_progress("    (1.00/100%)\r    (12.50/100%)\r"), ==, 0.125);
    g_assert_cmpfloat(run_parse_progress("nothing"), ==, -1);
    g_assert_cmpfloat(run_parse_progress("/100%)"), ==, -1);
}

#define ADD(name, quota, fn) g_test_add("/storage/file/" name, struct fixture, quota, set_up, fn, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/storage/run", test_run);
    g_autofree char *qemu_img = g_find_program_in_path("qemu-img"), *qemu_io = g_find_program_in_path("qemu-io");
    if (qemu_img == NULL || qemu_io == NULL) {
        g_test_message("qemu-img and qemu-io are needed for the rest");
        return g_test_run();
    }
    ADD("create", NULL, test_create);
    ADD("sm-config", NULL, test_sm_config);
    ADD("chain", NULL, test_chain);
    ADD("clones-of-template", NULL, test_clones_of_template);
    ADD("raw-clone", NULL, test_raw_clone);
    ADD("freeze", NULL, test_freeze);
    ADD("freeze-refused", NULL, test_freeze_refused);
    ADD("copy", NULL, test_copy);
    ADD("resize", NULL, test_resize);
    ADD("quota", "20971520", test_quota);
    ADD("attach", NULL, test_attach);
    ADD("foreign-images", NULL, test_foreign_images);
    ADD("leftovers", NULL, test_leftovers);
    ADD("kill", NULL, test_kill);
    ADD("threads", NULL, test_threads);
    return g_test_run();
}
