/* test-storage-drivers.c - the storage drivers `lvm` and `nfs` with stand-ins for the tools that they run: what they
 * ask for, what they make of the answers, what they leave behind. On real devices they are tested by tests/xen. */
#include "config.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/codec/jsonrpc.h"
#include "xenbackend/run.h"
#include "xenbackend/storage/storage_lvm.h"
#include "xenbackend/storage/storage_mount.h"
#include "tests/unit/storage-fixture.h"
#include "xenbackend/storage/storage_private.h"

#define A "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
#define B "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
#define L (&storage_lvm_driver)
#define N (&storage_nfs_driver)

static char *dir; /* of this test: tools, state */

static char *in_dir(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static void put(const char *name, const char *text, int mode)
{
    g_autofree char *path = in_dir(name);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_chmod(path, (guint) mode);
}

static char *get(const char *name)
{
    char *text = NULL;
    g_autofree char *path = in_dir(name);
    g_file_get_contents(path, &text, NULL, NULL);
    return text != NULL ? text : g_strdup("");
}

static void tools_begin(void)
{
    dir = g_dir_make_tmp("xenapid-drivers-XXXXXX", NULL);
    g_autofree char *path = g_strconcat(dir, ":/usr/bin:/bin:/usr/sbin:/sbin", NULL);
    g_setenv("PATH", path, TRUE);
    g_free(storage_runtime_dir);
    storage_runtime_dir = in_dir("run");
}

static void tools_end(void)
{
    const char *const rm[] = {"rm", "-rf", dir, NULL};
    g_assert_true(run_tool(rm, NULL, NULL, NULL));
    g_clear_pointer(&dir, g_free);
}

/* ---- lvm ---- */

static struct lvm_sr *group(gboolean thin, const char *state)
{
    static const char *const names[] = {"lvs", "vgs", "lvcreate", "lvrename", "lvremove", "lvextend"};
    g_autofree char *program = NULL;
    tools_begin();
    g_assert_true(g_file_get_contents(SOURCES "/tests/unit/fake-lvm.py", &program, NULL, NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        put(names[i], program, 0755);
    put("state", state, 0644);
    struct lvm_sr *s = g_new0(struct lvm_sr, 1);
    g_strlcpy(s->uuid, SR, sizeof s->uuid);
    g_strlcpy(s->vg, LVM_VG_PREFIX SR, sizeof s->vg);
    s->devices = g_strdup("/dev/a,/dev/b");
    s->thin = thin;
    s->extent = 4 * MIB;
    s->making = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_mutex_init(&s->lock);
    return s;
}

static void group_end(struct lvm_sr *s)
{
    g_hash_table_unref(s->making);
    g_mutex_clear(&s->lock);
    g_free(s->devices);
    g_free(s);
    tools_end();
}

#define VOLUME(name, size, tags, percent)                                                                              \
    "\"" name "\":{\"size\":" #size ",\"tags\":[" tags "],\"percent\":\"" percent "\"}"
#define STATE(free, volumes) "{\"size\":104857600,\"free\":" #free ",\"volumes\":{" volumes "}}"
#define POOL                 VOLUME("pool", 83886080, "", "12.50")

static void test_lvm_answers(void)
{
    gint64 size, free, extent;
    g_assert_null(lvm_parse_volumes("no JSON"));
    g_assert_null(lvm_parse_volumes("{\"report\":[]}"));
    g_assert_false(lvm_parse_group("{\"report\":[{\"vg\":[]}]}", &size, &free, &extent));
    g_assert_true(lvm_parse_group("{\"report\":[{\"vg\":[{\"vg_size\":\"8388608\",\"vg_free\":\"0\","
                                  "\"vg_extent_size\":\"4194304\"}]}]}",
                                  &size, &free, &extent));
    g_assert_cmpint(size, ==, 8 * MIB);
    g_assert_cmpint(extent, ==, 4 * MIB);
    g_autoptr(GPtrArray) all =
        lvm_parse_volumes("{\"report\":[{\"lv\":[{\"lv_name\":\"LV-" A
                          "\",\"lv_size\":\"8388608\",\"lv_tags\":\"x,xenapid.wipe=4194304\","
                          "\"data_percent\":\"25.00\"},{\"lv_name\":\"other\",\"lv_size\":\"1\"}]}]}");
    g_assert_cmpuint(all->len, ==, 2);
    g_assert_cmpint(lvm_wipe_offset(all->pdata[0]), ==, 4 * MIB);
    g_assert_cmpint(lvm_wipe_offset(all->pdata[1]), ==, -1);
    struct storage_vdi v;
    lvm_describe(all->pdata[0], &v);
    g_assert_cmpstr(v.uuid, ==, A);
    g_assert_cmpint(v.virtual_size, ==, 8 * MIB);
    g_assert_cmpint(v.physical_utilisation, ==, 2 * MIB);
    storage_vdi_clear(&v);
}

static void test_lvm_thin(void)
{
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    struct storage_space space;
    struct lvm_sr *s = group(TRUE, STATE(0, POOL));
    assert_ok(L->vdi_create(s, A, 9 * MIB, "", value_empty_map(), &v, &f));
    g_assert_cmpint(v.virtual_size, ==, 12 * MIB);
    g_assert_cmpstr(v.type, ==, "raw");
    storage_vdi_clear(&v);
    g_assert_false(L->vdi_create(s, A, 9 * MIB, "", value_empty_map(), &v, &f));
    assert_fault(&f, "SR_BACKEND_FAILURE");
    g_assert_false(L->vdi_create(s, B, MIB, "qcow2", value_empty_map(), &v, &f));
    assert_fault(&f, "VALUE_NOT_SUPPORTED");
    assert_ok(L->vdi_snapshot(s, A, B, &no_job, &v, &f));
    g_assert_cmpint(v.virtual_size, ==, 12 * MIB);
    storage_vdi_clear(&v);
    assert_ok(L->vdi_resize(s, A, 13 * MIB, &v, &f));
    g_assert_cmpint(v.virtual_size, ==, 16 * MIB);
    storage_vdi_clear(&v);
    g_assert_false(L->vdi_resize(s, A, MIB, &v, &f));
    assert_fault(&f, "VDI_TOO_SMALL");
    assert_ok(L->stat(s, &space, &f));
    g_assert_cmpint(space.physical_size, ==, 80 * MIB);
    g_assert_cmpint(space.physical_utilisation, ==, 10 * MIB);
    g_assert_cmpint(space.virtual_allocation, ==, 28 * MIB);
    assert_ok(L->vdi_destroy(s, B, &f));
    g_assert_false(L->vdi_destroy(s, B, &f));
    assert_fault(&f, "VDI_MISSING");
    g_assert_true(L->snapshots_live(s));
    group_end(s);
}

static void test_lvm_full(void)
{
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    struct lvm_sr *s = group(FALSE, STATE(8388608, ""));
    g_assert_false(L->vdi_create(s, A, 9 * MIB, "raw", value_empty_map(), &v, &f));
    g_assert_cmpstr(f.params[0], ==, "12582912");
    g_assert_cmpstr(f.params[1], ==, "8388608");
    assert_fault(&f, "SR_FULL");
    const char *const args[] = {"lvcreate", "-L", "99999999b", "--name", "x", NULL};
    g_assert_false(lvm_run(s->devices, args, NULL, &f)); /* somebody else was quicker */
    assert_fault(&f, "SR_FULL");
    g_assert_false(L->snapshots_live(s));
    group_end(s);
    s = group(TRUE, STATE(0, VOLUME("pool", 83886080, "", "100.00")));
    g_assert_false(L->vdi_create(s, A, MIB, "raw", value_empty_map(), &v, &f));
    assert_fault(&f, "SR_FULL");
    group_end(s);
}

/* What a crash can leave: work under a temporary name, and content in the middle of being replaced. */
static void test_lvm_leftovers(void)
{
    struct fault f = FAULT_INIT;
    struct lvm_sr *s = group(
        TRUE, STATE(0, POOL
                    "," VOLUME("tmp-" A "-0", 4194304, "", "0.00") "," VOLUME("old-" A, 4194304, "", "0.00") "," VOLUME(
                        "old-" B, 4194304, "", "0.00") "," VOLUME("LV-" B, 8388608, "",
                                                                  "0.00") "," VOLUME("VHD-" A, 4194304, "", "0.00")));
    g_autoptr(GPtrArray) vdis = g_ptr_array_new_with_free_func((GDestroyNotify) storage_vdi_free);
    assert_ok(L->scan(s, vdis, &f));
    g_assert_cmpuint(vdis->len, ==, 2);
    for (guint i = 0; i < vdis->len; i++) {
        const struct storage_vdi *v = vdis->pdata[i];
        g_assert_cmpint(v->virtual_size, ==, strcmp(v->uuid, A) == 0 ? 4 * MIB : 8 * MIB);
    }
    g_autofree char *state = get("state");
    g_assert_null(strstr(state, "tmp-"));
    g_assert_null(strstr(state, "old-"));
    g_assert_nonnull(strstr(state, "VHD-"));
    group_end(s);
}

/* What is under way is no leftover. */
static void test_lvm_under_way(void)
{
    struct fault f = FAULT_INIT;
    struct lvm_sr *s = group(TRUE, STATE(0, POOL "," VOLUME("tmp-" A "-0", 4194304, "", "0.00")));
    g_hash_table_add(s->making, g_strdup("tmp-" A "-0"));
    assert_ok(L->scan(s, NULL, &f));
    g_autofree char *state = get("state");
    g_assert_nonnull(strstr(state, "tmp-"));
    group_end(s);
}

static void test_lvm_devices(void)
{
    struct fault f = FAULT_INIT;
    static const char *const bad[] = {"", "/etc/passwd", "/dev/../etc/passwd", "/dev/null", "sda"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct value_builder b;
        value_builder_map(&b, NULL, 1);
        value_builder_put_string(&b, "device", bad[i]);
        g_autoptr(value) config = value_builder_end(&b);
        g_assert_null(L->attach(SR, config, &f));
        assert_fault(&f, i == 0 ? "SR_BACKEND_FAILURE_90" : "SR_BACKEND_FAILURE_63");
    }
}

/* ---- nfs ---- */

static struct value *nfs_config(const char *server, const char *path, const char *options)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "server", server);
    value_builder_put_string(&b, "serverpath", path);
    value_builder_put_string(&b, "options", options);
    return value_builder_end(&b);
}

/* The export is a directory here, and a bind mount stands for the mount of it. */
static gboolean nfs_begin(void)
{
    tools_begin();
    g_autofree char *script =
        g_strdup_printf("#!/bin/sh\necho \"$@\" >>%s/calls\n[ ! -e %s/down ] || { echo 'mount.nfs: "
                        "Connection refused' >&2; exit 32; }\nexec mount --bind %s/export \"$2\"\n",
                        dir, dir, dir);
    put("mount.nfs", script, 0755);
    g_autofree char *export = in_dir("export"), *probe = in_dir("probe");
    g_mkdir(export, 0755);
    g_mkdir(probe, 0755);
    const char *const try[] = {"mount", "--bind", export, probe, NULL}, *const undo[] = {"umount", probe, NULL};
    gboolean can = run_tool(try, NULL, NULL, NULL) && run_tool(undo, NULL, NULL, NULL);
    if (!can) {
        tools_end();
        g_test_skip("nothing can be mounted here");
    }
    return can;
}

static void test_nfs(void)
{
    struct fault f = FAULT_INIT;
    struct storage_vdi v = {0};
    if (!nfs_begin())
        return;
    g_autoptr(value) config = nfs_config("nfs.example.org", "/export", "proto=tcp");
    g_autofree char *place = mount_place(SR), *folder = in_dir("export/" SR);
    assert_ok(N->create(SR, config, 0, &f));
    g_assert_true(g_file_test(folder, G_FILE_TEST_IS_DIR));
    void *sr = N->attach(SR, config, &f);
    assert_ok(sr != NULL);
    g_assert_true(mount_find(place, NULL));
    assert_ok(N->vdi_create(sr, A, MIB, "", value_empty_map(), &v, &f));
    g_assert_cmpstr(v.type, ==, "qcow2");
    storage_vdi_clear(&v);
    g_autofree char *calls = get("calls");
    g_assert_nonnull(strstr(calls, "nfs.example.org:/export "));
    g_assert_nonnull(strstr(calls, "soft,"));
    g_assert_nonnull(strstr(calls, ",proto=tcp,nosuid,nodev,noexec\n"));
    struct value_builder b;
    value_builder_set(&b, NULL, 1);
    assert_ok(N->probe(config, &b, &f));
    g_autoptr(value) found = value_builder_end(&b);
    g_assert_cmpuint(value_count(found), ==, 1);
    g_assert_cmpstr(value_get_str(value_at(found, 0), "sr", ""), ==, SR);
    assert_ok(N->vdi_destroy(sr, A, &f));
    N->detach(sr);
    g_assert_false(mount_find(place, NULL));
    assert_ok(N->destroy(SR, config, &f));
    g_assert_false(g_file_test(folder, G_FILE_TEST_EXISTS));
    tools_end();
}

/* As after a restart of the process: the mount is there and is used, not made again. */
static void test_nfs_mounted_already(void)
{
    struct fault f = FAULT_INIT;
    if (!nfs_begin())
        return;
    g_autoptr(value) config = nfs_config("nfs.example.org", "/export", "");
    assert_ok(N->create(SR, config, 0, &f));
    g_autofree char *place = mount_place(SR), *export = in_dir("export"), *calls = in_dir("calls");
    g_mkdir_with_parents(place, 0700);
    const char *const mount[] = {"mount", "--bind", export, place, NULL};
    assert_ok(run_tool(mount, NULL, NULL, &f));
    g_unlink(calls);
    void *sr = N->attach(SR, config, &f);
    assert_ok(sr != NULL);
    g_assert_false(g_file_test(calls, G_FILE_TEST_EXISTS));
    N->detach(sr);
    g_assert_false(mount_find(place, NULL));
    tools_end();
}

static void test_nfs_refused(void)
{
    struct fault f = FAULT_INIT;
    if (!nfs_begin())
        return;
    put("down", "", 0644);
    g_autoptr(value) config = nfs_config("nfs.example.org", "/export", "");
    g_assert_null(N->attach(SR, config, &f));
    g_assert_nonnull(strstr(f.params[2], "Connection refused"));
    assert_fault(&f, "SR_BACKEND_FAILURE_73");
    g_autofree char *place = mount_place(SR);
    g_assert_false(g_file_test(place, G_FILE_TEST_EXISTS));
    tools_end();
}

static void test_nfs_config(void)
{
    static const struct {
        const char *server, *path, *options, *code;
    } bad[] = {
        {"", "/x", "", "SR_BACKEND_FAILURE_100"},        {"-o", "/x", "", "SR_BACKEND_FAILURE_100"},
        {"a b", "/x", "", "SR_BACKEND_FAILURE_100"},     {"a", "", "", "SR_BACKEND_FAILURE_101"},
        {"a", "relative", "", "SR_BACKEND_FAILURE_101"}, {"a", "/x/../y", "", "SR_BACKEND_FAILURE_101"},
        {"a", "/x", "a\nb", "SR_BACKEND_FAILURE_72"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct fault f = FAULT_INIT;
        g_autoptr(value) config = nfs_config(bad[i].server, bad[i].path, bad[i].options);
        g_assert_null(N->attach(SR, config, &f));
        assert_fault(&f, bad[i].code);
    }
}

/* ---- tools ---- */

static void test_run_input(void)
{
    struct fault f = FAULT_INIT;
    int status = 0;
    g_autofree char *out = NULL, *big = g_strnfill(300000, 'x');
    const char *const cat[] = {"cat", NULL}, *const leave[] = {"sh", "-c", "echo no; exit 3", NULL};
    const struct run_options with = {.input = big, .timeout_s = 60}, tells = {.status = &status};
    assert_ok(run_tool(cat, &with, &out, &f));
    g_assert_cmpstr(out, ==, big);
    g_clear_pointer(&out, g_free);
    assert_ok(run_tool(leave, &tells, &out, &f));
    g_assert_cmpint(status, ==, 3);
    g_assert_cmpstr(out, ==, "no\n");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/storage/run/input", test_run_input);
    g_test_add_func("/storage/lvm/answers", test_lvm_answers);
    g_test_add_func("/storage/lvm/thin", test_lvm_thin);
    g_test_add_func("/storage/lvm/full", test_lvm_full);
    g_test_add_func("/storage/lvm/leftovers", test_lvm_leftovers);
    g_test_add_func("/storage/lvm/under-way", test_lvm_under_way);
    g_test_add_func("/storage/lvm/devices", test_lvm_devices);
    g_test_add_func("/storage/nfs/life", test_nfs);
    g_test_add_func("/storage/nfs/mounted-already", test_nfs_mounted_already);
    g_test_add_func("/storage/nfs/refused", test_nfs_refused);
    g_test_add_func("/storage/nfs/config", test_nfs_config);
    return g_test_run();
}
