/* test-journal.c - the SQLite journal: what it keeps, full and broken disks, old, new, foreign and damaged files. */
#include "daemon/store/journal_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *make_dir(void)
{
    g_autoptr(GError) error = NULL;
    char *dir = g_dir_make_tmp("xenapid-journal-XXXXXX", &error);
    g_assert_no_error(error);
    return dir;
}

static void remove_dir(char *dir)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(d)) != NULL) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        g_unlink(path);
    }
    g_rmdir(dir);
    g_free(dir);
}

static struct journal *open_journal(const char *dir)
{
    g_autoptr(GError) error = NULL;
    struct journal *j = journal_sqlite_open(dir, &error);
    g_assert_no_error(error);
    return j;
}

static void assert_refused(const char *dir, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(journal_sqlite_open(dir, &error));
    g_assert_nonnull(error);
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, why));
}

static gboolean put(struct journal *j, const char *ref, const char *class, const char *json, struct fault *f)
{
    struct journal_change c = {ref, class, json, json != NULL ? strlen(json) : 0};
    return j->ops->commit(j, &c, 1, f);
}

static gboolean append_row(const char *ref, const char *class, const char *json, gsize len, void *data, GError **error)
{
    (void) error;
    g_string_append_printf(data, "%s/%s/%.*s ", ref, class, (int) len, json);
    return TRUE;
}

static void assert_rows(struct journal *j, const char *expected)
{
    g_autoptr(GError) error = NULL;
    GString *text = g_string_new(NULL);
    g_assert_true(j->ops->load(j, append_row, text, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(text->str, ==, expected);
    g_string_free(text, TRUE);
}

static gint64 pragma(struct journal *j, const char *name)
{
    g_autofree char *sql = g_strconcat("PRAGMA ", name, NULL);
    sqlite3_stmt *st;
    g_assert_cmpint(sqlite3_prepare_v2(journal_sqlite_handle(j), sql, -1, &st, NULL), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_step(st), ==, SQLITE_ROW);
    gint64 i = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return i;
}

static void run_sql(struct journal *j, const char *sql)
{
    g_assert_cmpint(sqlite3_exec(journal_sqlite_handle(j), sql, NULL, NULL, NULL), ==, SQLITE_OK);
}

/* ---- keeping ---- */

static void test_new(void)
{
    char *dir = make_dir();
    struct journal *j = open_journal(dir);
    g_autofree char *path = g_build_filename(dir, "xenapid.db", NULL);
    struct stat st;
    g_assert_cmpint(g_stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    g_assert_cmpint(pragma(j, "user_version"), ==, SCHEMA_VERSION);
    g_assert_cmpint(pragma(j, "synchronous"), ==, 2);
    assert_rows(j, "");
    j->ops->close(j);
    remove_dir(dir);
}

static void test_keeps(void)
{
    char *dir = make_dir();
    struct journal *j = open_journal(dir);
    const struct journal_change changes[] = {
        {"c", "VM", "{\"x\":1}", 7},
        {"a", "VM", "{}", 2},
        {"b", "VBD", "{}", 2},
    };
    g_assert_true(j->ops->commit(j, changes, G_N_ELEMENTS(changes), NULL));
    g_assert_true(put(j, "c", "VM", "{\"x\":2}", NULL));
    g_assert_true(put(j, "a", NULL, NULL, NULL));
    g_assert_true(put(j, "none", NULL, NULL, NULL));
    g_assert_true(put(j, "aa", "VM", "{}", NULL));
    /* In the order in which they were made, however often they were changed since. */
    assert_rows(j, "c/VM/{\"x\":2} b/VBD/{} aa/VM/{} ");
    g_assert_null(j->ops->get_meta(j, "k"));
    g_assert_true(j->ops->set_meta(j, "k", "v", NULL));
    g_assert_true(j->ops->set_meta(j, "k", "w", NULL));
    j->ops->close(j);
    j = open_journal(dir);
    assert_rows(j, "c/VM/{\"x\":2} b/VBD/{} aa/VM/{} ");
    g_autofree char *value = j->ops->get_meta(j, "k");
    g_assert_cmpstr(value, ==, "w");
    j->ops->close(j);
    remove_dir(dir);
}

static gboolean stop_at_b(const char *ref, const char *class, const char *json, gsize len, void *data, GError **error)
{
    (void) class, (void) json, (void) len;
    ++*(int *) data;
    if (*ref != 'b')
        return TRUE;
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "b is bad");
    return FALSE;
}

static void test_load_stops(void)
{
    char *dir = make_dir();
    struct journal *j = open_journal(dir);
    g_assert_true(put(j, "a", "VM", "{}", NULL) && put(j, "b", "VM", "{}", NULL) && put(j, "c", "VM", "{}", NULL));
    int n = 0;
    g_autoptr(GError) error = NULL;
    g_assert_false(j->ops->load(j, stop_at_b, &n, &error));
    g_assert_cmpint(n, ==, 2);
    g_assert_cmpstr(error->message, ==, "b is bad");
    j->ops->close(j);
    remove_dir(dir);
}

/* ---- disks that are full or broken ---- */

static void assert_out_of_space(struct journal *j, const char *dir)
{
    g_autofree char *large = g_strnfill(1 << 20, 'x');
    struct journal_change changes[] = {{"b", "VM", "{}", 2}, {"c", "VM", large, strlen(large)}};
    struct fault f = FAULT_INIT;
    g_assert_false(j->ops->commit(j, changes, 2, &f));
    g_assert_cmpstr(f.code, ==, "OUT_OF_SPACE");
    g_assert_cmpstr(f.params[0], ==, dir);
    fault_clear(&f);
    /* All or nothing. */
    assert_rows(j, "a/VM/{} ");
    g_assert_false(j->ops->commit(j, changes, 2, NULL));
}

static void test_full(void)
{
    char *dir = make_dir();
    struct journal *j = open_journal(dir);
    g_assert_true(put(j, "a", "VM", "{}", NULL));
    g_assert_cmpint(pragma(j, "max_page_count = 20"), ==, 20);
    assert_out_of_space(j, dir);
    pragma(j, "max_page_count = 1000000");
    g_assert_true(put(j, "b", "VM", "{}", NULL));
    assert_rows(j, "a/VM/{} b/VM/{} ");
    j->ops->close(j);
    remove_dir(dir);
}

/* A file system that is really full, where we may mount one. */
static void test_full_disk(void)
{
    char *dir = make_dir();
    if (mount("none", dir, "tmpfs", 0, "size=512k") != 0) {
        g_test_skip("no tmpfs may be mounted here");
        remove_dir(dir);
        return;
    }
    struct journal *j = open_journal(dir);
    g_assert_true(put(j, "a", "VM", "{}", NULL));
    assert_out_of_space(j, dir);
    /* Another program takes all that is left, and then gives it back. */
    g_autofree char *hog = g_build_filename(dir, "hog", NULL);
    g_autofree char *block = g_malloc0(4096);
    int fd = open(hog, O_WRONLY | O_CREAT, 0600);
    while (write(fd, block, 4096) > 0)
        ;
    close(fd);
    assert_out_of_space(j, dir);
    g_unlink(hog);
    g_assert_true(put(j, "b", "VM", "{}", NULL));
    assert_rows(j, "a/VM/{} b/VM/{} ");
    j->ops->close(j);
    g_assert_cmpint(umount(dir), ==, 0);
    remove_dir(dir);
}

static void test_read_only(void)
{
    char *dir = make_dir();
    struct journal *j = open_journal(dir);
    run_sql(j, "PRAGMA query_only = 1");
    struct fault f = FAULT_INIT;
    g_assert_false(put(j, "a", "VM", "{}", &f));
    g_assert_cmpstr(f.code, ==, "INTERNAL_ERROR");
    g_assert_nonnull(strstr(f.params[0], dir));
    fault_clear(&f);
    g_assert_false(j->ops->set_meta(j, "k", "v", &f));
    g_assert_cmpstr(f.code, ==, "INTERNAL_ERROR");
    fault_clear(&f);
    run_sql(j, "PRAGMA query_only = 0");
    g_assert_true(put(j, "a", "VM", "{}", NULL));
    j->ops->close(j);
    remove_dir(dir);
}

/* ---- schema versions ---- */

static void test_newer(void)
{
    char *dir = make_dir();
    struct journal *j = open_journal(dir);
    run_sql(j, "PRAGMA user_version = 77");
    j->ops->close(j);
    assert_refused(dir, "has schema version 77, this program knows versions up to 1");
    remove_dir(dir);
}

static const struct schema_step two_steps[] = {
    {"this is never run"},
    {"UPDATE object SET class = 'host' WHERE class = 'VM'; ALTER TABLE object ADD COLUMN more TEXT"},
    {"UPDATE object SET absent = 1"},
};

static void test_migrates(void)
{
    char *dir = make_dir();
    struct journal *j = open_journal(dir);
    g_assert_true(put(j, "a", "VM", "{}", NULL));
    j->ops->close(j);
    g_autoptr(GError) error = NULL;
    g_test_expect_message("xenapid", G_LOG_LEVEL_MESSAGE, "*migrating from schema version 1 to 2*");
    j = journal_sqlite_open_steps(dir, two_steps, 2, &error);
    g_test_assert_expected_messages();
    g_assert_no_error(error);
    g_assert_cmpint(pragma(j, "user_version"), ==, 2);
    assert_rows(j, "a/host/{} ");
    j->ops->close(j);
    /* It is of the newer program now; the copy is still ours. */
    assert_refused(dir, "schema version 2");
    g_autofree char *path = g_build_filename(dir, "xenapid.db", NULL);
    g_autofree char *kept = g_strconcat(path, ".v1", NULL);
    struct stat st;
    g_assert_cmpint(g_stat(kept, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    g_assert_cmpint(g_rename(kept, path), ==, 0);
    j = open_journal(dir);
    assert_rows(j, "a/VM/{} ");
    j->ops->close(j);
    remove_dir(dir);
}

static void test_migration_fails(void)
{
    char *dir = make_dir();
    struct journal *j = open_journal(dir);
    g_assert_true(put(j, "a", "VM", "{}", NULL));
    j->ops->close(j);
    g_autoptr(GError) error = NULL;
    g_test_expect_message("xenapid", G_LOG_LEVEL_MESSAGE, "*migrating*");
    g_assert_null(journal_sqlite_open_steps(dir, two_steps, 3, &error));
    g_test_assert_expected_messages();
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, "migration from version 2 to 3: no such column"));
    /* Nothing of the steps before it stays. */
    j = open_journal(dir);
    assert_rows(j, "a/VM/{} ");
    j->ops->close(j);
    remove_dir(dir);
}

/* ---- files that are not what they should be ---- */

static void test_damaged(void)
{
    char *dir = make_dir();
    g_autofree char *path = g_build_filename(dir, "xenapid.db", NULL);
    g_autofree char *rubbish = g_strnfill(10000, 'x');
    g_assert_true(g_file_set_contents(path, rubbish, 10000, NULL));
    assert_refused(dir, "not a database");

    g_unlink(path);
    struct journal *j = open_journal(dir);
    for (int i = 0; i < 200; i++) {
        g_autofree char *ref = g_strdup_printf("%0100d", i);
        g_assert_true(put(j, ref, "VM", "{}", NULL));
    }
    j->ops->close(j);
    int fd = open(path, O_RDWR);
    for (int page = 1; page < 10; page++)
        g_assert_cmpint(pwrite(fd, rubbish, 4096, page * 4096), ==, 4096);
    close(fd);
    g_autoptr(GError) error = NULL;
    j = journal_sqlite_open(dir, &error);
    if (j != NULL) {
        GString *text = g_string_new(NULL);
        g_assert_false(j->ops->load(j, append_row, text, &error));
        g_string_free(text, TRUE);
        j->ops->close(j);
    }
    g_assert_nonnull(strstr(error->message, "malformed"));
    remove_dir(dir);
}

static void test_foreign(void)
{
    char *dir = make_dir();
    g_autofree char *path = g_build_filename(dir, "xenapid.db", NULL);
    sqlite3 *db;
    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, "CREATE TABLE bookmarks(url)", NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
    assert_refused(dir, "some other program");
    remove_dir(dir);
}

static void test_no_dir(void)
{
    assert_refused("/nonexistent/dir", "No such file");
}

static void hold_database(const char *dir, int ready)
{
    struct journal *j = journal_sqlite_open(dir, NULL);
    if (write(ready, j != NULL ? "y" : "n", 1) == 1)
        pause();
    _exit(0);
}

static void test_in_use(void)
{
    char *dir = make_dir();
    int ready[2];
    char answer;
    g_assert_cmpint(pipe(ready), ==, 0);
    pid_t child = fork();
    if (child == 0)
        hold_database(dir, ready[1]);
    g_assert_cmpint(read(ready[0], &answer, 1), ==, 1);
    g_assert_cmpint(answer, ==, 'y');
    assert_refused(dir, "in use by another process");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    struct journal *j = open_journal(dir);
    j->ops->close(j);
    close(ready[0]);
    close(ready[1]);
    remove_dir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/journal/new", test_new);
    g_test_add_func("/journal/keeps", test_keeps);
    g_test_add_func("/journal/load-stops", test_load_stops);
    g_test_add_func("/journal/full", test_full);
    g_test_add_func("/journal/full-disk", test_full_disk);
    g_test_add_func("/journal/read-only", test_read_only);
    g_test_add_func("/journal/newer", test_newer);
    g_test_add_func("/journal/migrates", test_migrates);
    g_test_add_func("/journal/migration-fails", test_migration_fails);
    g_test_add_func("/journal/damaged", test_damaged);
    g_test_add_func("/journal/foreign", test_foreign);
    g_test_add_func("/journal/no-dir", test_no_dir);
    g_test_add_func("/journal/in-use", test_in_use);
    return g_test_run();
}
