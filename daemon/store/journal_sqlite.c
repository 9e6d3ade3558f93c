/* journal_sqlite.c - the journal in an SQLite database: opening, migrating, loading and committing. */
#include "daemon/store/journal_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define APPLICATION_ID  0x78656e61 /* "xena" */
#define BUSY_TIMEOUT_MS 5000

static const struct schema_step schema[] = {
    /* seq is the order in which objects were created. */
    {"CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
     "CREATE TABLE object(seq INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE, class TEXT NOT NULL,"
     " fields TEXT NOT NULL);"},
};
G_STATIC_ASSERT(G_N_ELEMENTS(schema) == SCHEMA_VERSION);

enum statement { BEGIN, COMMIT, ROLLBACK, PUT, REMOVE, GET_META, SET_META, N_STATEMENTS };
static const char *const statement_sql[N_STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [PUT] = ("INSERT INTO object(ref, class, fields) VALUES(?1, ?2, ?3)"
             " ON CONFLICT(ref) DO UPDATE SET class = excluded.class, fields = excluded.fields"),
    [REMOVE] = "DELETE FROM object WHERE ref = ?1",
    [GET_META] = "SELECT value FROM meta WHERE key = ?1",
    [SET_META] = "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
};

struct sqlite_journal {
    struct journal base;
    GMutex lock; /* facts are read and set on other threads than the journal's */
    char *dir, *path;
    int lock_fd;
    sqlite3 *db;
    sqlite3_stmt *statements[N_STATEMENTS];
};

/* ---- errors ---- */

static gboolean set_error(struct sqlite_journal *j, GError **error, const char *doing)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s: %s: %s", j->path, doing,
                j->db != NULL ? sqlite3_errmsg(j->db) : "out of memory");
    return FALSE;
}

static gboolean set_errno_error(GError **error, const char *path, const char *doing)
{
    int e = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(e), "%s: %s: %s", path, doing, g_strerror(e));
    return FALSE;
}

static gboolean is_out_of_space(struct sqlite_journal *j)
{
    int rc = sqlite3_errcode(j->db);
    if (rc == SQLITE_FULL)
        return TRUE;
    int e = sqlite3_system_errno(j->db);
    return rc == SQLITE_IOERR && (e == ENOSPC || e == EDQUOT);
}

static gboolean set_fault(struct sqlite_journal *j, struct fault *f)
{
    if (is_out_of_space(j))
        return fault_set(f, "OUT_OF_SPACE", j->dir, NULL);
    g_autofree char *text = g_strdup_printf("%s: %s", j->path, sqlite3_errmsg(j->db));
    return fault_set(f, "INTERNAL_ERROR", text, NULL);
}

/* ---- small steps ---- */

static gboolean run_sql(struct sqlite_journal *j, const char *sql, const char *doing, GError **error)
{
    return sqlite3_exec(j->db, sql, NULL, NULL, NULL) == SQLITE_OK || set_error(j, error, doing);
}

static gboolean read_int(struct sqlite_journal *j, const char *sql, gint64 *i, GError **error)
{
    sqlite3_stmt *st = NULL;
    gboolean ok = sqlite3_prepare_v2(j->db, sql, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW;
    if (ok)
        *i = sqlite3_column_int64(st, 0);
    else
        set_error(j, error, "cannot be read as a database");
    sqlite3_finalize(st);
    return ok;
}

static void bind_text(sqlite3_stmt *st, int i, const char *text, gsize len)
{
    sqlite3_bind_text64(st, i, text, len, SQLITE_STATIC, SQLITE_UTF8);
}

/* Runs a statement that answers no rows and has been bound. */
static gboolean run(struct sqlite_journal *j, enum statement which)
{
    sqlite3_stmt *st = j->statements[which];
    gboolean ok = sqlite3_step(st) == SQLITE_DONE;
    /* The connection keeps the error for whoever reports it. */
    sqlite3_reset(st);
    return ok;
}

/* ---- loading ---- */

static gboolean load_row(sqlite3_stmt *st, journal_load_fn *fn, void *data, GError **error)
{
    const char *ref = (const char *) sqlite3_column_text(st, 0);
    const char *class = (const char *) sqlite3_column_text(st, 1);
    const char *json = (const char *) sqlite3_column_text(st, 2);
    return fn(ref, class, json, (gsize) sqlite3_column_bytes(st, 2), data, error);
}

static gboolean journal_load(struct journal *base, journal_load_fn *fn, void *data, GError **error)
{
    struct sqlite_journal *j = (struct sqlite_journal *) base;
    sqlite3_stmt *st = NULL;
    g_mutex_lock(&j->lock);
    gboolean ok =
        sqlite3_prepare_v2(j->db, "SELECT ref, class, fields FROM object ORDER BY seq", -1, &st, NULL) == SQLITE_OK;
    int rc = SQLITE_ERROR;
    while (ok && (rc = sqlite3_step(st)) == SQLITE_ROW)
        if (!load_row(st, fn, data, error))
            break;
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        set_error(j, error, "cannot read the objects");
    sqlite3_finalize(st);
    g_mutex_unlock(&j->lock);
    return rc == SQLITE_DONE;
}

/* ---- committing ---- */

static gboolean write_change(struct sqlite_journal *j, const struct journal_change *c)
{
    sqlite3_stmt *st = j->statements[c->class != NULL ? PUT : REMOVE];
    bind_text(st, 1, c->ref, strlen(c->ref));
    if (c->class != NULL) {
        bind_text(st, 2, c->class, strlen(c->class));
        bind_text(st, 3, c->json, c->json_len);
    }
    return run(j, c->class != NULL ? PUT : REMOVE);
}

static gboolean journal_commit(struct journal *base, const struct journal_change *changes, gsize n, struct fault *f)
{
    struct sqlite_journal *j = (struct sqlite_journal *) base;
    g_mutex_lock(&j->lock);
    gboolean ok = run(j, BEGIN);
    for (gsize i = 0; ok && i < n; i++)
        ok = write_change(j, &changes[i]);
    ok = ok && run(j, COMMIT);
    if (!ok)
        set_fault(j, f);
    /* SQLite has rolled back some errors by itself, others wait to be. */
    if (!sqlite3_get_autocommit(j->db))
        run(j, ROLLBACK);
    g_mutex_unlock(&j->lock);
    return ok;
}

static char *journal_get_meta(struct journal *base, const char *key)
{
    struct sqlite_journal *j = (struct sqlite_journal *) base;
    g_mutex_lock(&j->lock);
    sqlite3_stmt *st = j->statements[GET_META];
    bind_text(st, 1, key, strlen(key));
    char *value = NULL;
    if (sqlite3_step(st) == SQLITE_ROW)
        value = g_strdup((const char *) sqlite3_column_text(st, 0));
    sqlite3_reset(st);
    g_mutex_unlock(&j->lock);
    return value;
}

static gboolean journal_set_meta(struct journal *base, const char *key, const char *value, struct fault *f)
{
    struct sqlite_journal *j = (struct sqlite_journal *) base;
    g_mutex_lock(&j->lock);
    bind_text(j->statements[SET_META], 1, key, strlen(key));
    bind_text(j->statements[SET_META], 2, value, strlen(value));
    gboolean ok = run(j, SET_META);
    if (!ok)
        set_fault(j, f);
    g_mutex_unlock(&j->lock);
    return ok;
}

static void journal_close(struct journal *base)
{
    struct sqlite_journal *j = (struct sqlite_journal *) base;
    for (int i = 0; i < N_STATEMENTS; i++)
        sqlite3_finalize(j->statements[i]);
    if (sqlite3_close(j->db) != SQLITE_OK)
        g_critical("%s: %s", j->path, sqlite3_errmsg(j->db));
    if (j->lock_fd >= 0)
        close(j->lock_fd);
    g_mutex_clear(&j->lock);
    g_free(j->dir);
    g_free(j->path);
    g_free(j);
}

void *journal_sqlite_handle(struct journal *j)
{
    return ((struct sqlite_journal *) j)->db;
}

/* ---- schema ---- */

static gboolean sync_dir(const char *dir, GError **error)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    gboolean ok = fd >= 0 && fsync(fd) == 0;
    if (!ok)
        set_errno_error(error, dir, "cannot be synced");
    if (fd >= 0)
        close(fd);
    return ok;
}

static gboolean sync_file(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    gboolean ok = fd >= 0 && fsync(fd) == 0;
    if (!ok)
        set_errno_error(error, path, "cannot be synced");
    if (fd >= 0)
        close(fd);
    return ok;
}

/* An empty file that only we may read; one that is there is left as it is. */
static gboolean make_file(const char *path, GError **error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return set_errno_error(error, path, "cannot be opened");
    gboolean ok = fchmod(fd, 0600) == 0 || set_errno_error(error, path, "its mode cannot be set");
    close(fd);
    return ok;
}

/* Keeps the database as it is now beside it, as xenapid.db.vN. */
static gboolean keep_copy(struct sqlite_journal *j, int version, GError **error)
{
    g_autofree char *kept = g_strdup_printf("%s.v%d", j->path, version);
    g_autofree char *part = g_strconcat(kept, ".part", NULL);
    unlink(part);
    if (!make_file(part, error))
        return FALSE;
    char *sql = sqlite3_mprintf("VACUUM INTO %Q", part);
    gboolean ok = run_sql(j, sql, "cannot keep a copy", error);
    sqlite3_free(sql);
    ok = ok && sync_file(part, error);
    if (ok && rename(part, kept) != 0)
        ok = set_errno_error(error, kept, "cannot be made");
    if (!ok)
        unlink(part);
    return ok && sync_dir(j->dir, error);
}

static gboolean run_steps(struct sqlite_journal *j, const struct schema_step *steps, int from, int to, GError **error)
{
    g_autofree char *end =
        g_strdup_printf("PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", APPLICATION_ID, to);
    gboolean ok = run_sql(j, "BEGIN EXCLUSIVE", "cannot be changed", error);
    for (int i = from; ok && i < to; i++) {
        g_autofree char *doing = g_strdup_printf("migration from version %d to %d", i, i + 1);
        ok = run_sql(j, steps[i].sql, doing, error);
    }
    ok = ok && run_sql(j, end, "cannot finish the migration", error);
    if (!sqlite3_get_autocommit(j->db))
        sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
    return ok;
}

static gboolean is_ours(struct sqlite_journal *j, int *version, GError **error)
{
    gint64 id, v, tables;
    if (!read_int(j, "SELECT count(*) FROM sqlite_master", &tables, error) ||
        !read_int(j, "PRAGMA application_id", &id, error) || !read_int(j, "PRAGMA user_version", &v, error))
        return FALSE;
    if (tables > 0 && id != APPLICATION_ID) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: is a database of some other program", j->path);
        return FALSE;
    }
    *version = (int) v;
    return TRUE;
}

static gboolean bring_up_to_date(struct sqlite_journal *j, const struct schema_step *steps, int n_steps, GError **error)
{
    int version;
    if (!is_ours(j, &version, error))
        return FALSE;
    if (version > n_steps) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s: has schema version %d, this program knows versions up to %d: a newer xenapid wrote it",
                    j->path, version, n_steps);
        return FALSE;
    }
    if (version == n_steps)
        return TRUE;
    if (version > 0) {
        g_message("%s: migrating from schema version %d to %d", j->path, version, n_steps);
        if (!keep_copy(j, version, error))
            return FALSE;
    }
    return run_steps(j, steps, version, n_steps, error);
}

/* ---- opening ---- */

/* Two daemons over one database would each believe in their own memory. The lock goes with the process. */
static gboolean lock_dir(struct sqlite_journal *j, GError **error)
{
    g_autofree char *path = g_strconcat(j->path, ".lock", NULL);
    j->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (j->lock_fd < 0)
        return set_errno_error(error, path, "cannot be opened");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(j->lock_fd, F_SETLK, &lock) == 0)
        return TRUE;
    if (errno != EACCES && errno != EAGAIN)
        return set_errno_error(error, path, "cannot be locked");
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_AGAIN, "%s: is in use by another process", j->path);
    return FALSE;
}

static gboolean connect_db(struct sqlite_journal *j, GError **error)
{
    if (sqlite3_open_v2(j->path, &j->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL) != SQLITE_OK)
        return set_error(j, error, "cannot be opened");
    sqlite3_busy_timeout(j->db, BUSY_TIMEOUT_MS);
    return run_sql(j, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", "cannot be used", error);
}

static gboolean prepare_all(struct sqlite_journal *j, GError **error)
{
    for (int i = 0; i < N_STATEMENTS; i++)
        if (sqlite3_prepare_v3(j->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &j->statements[i], NULL) !=
            SQLITE_OK)
            return set_error(j, error, "does not have the expected tables");
    return TRUE;
}

struct journal *journal_sqlite_open_steps(const char *dir, const struct schema_step *steps, int n_steps, GError **error)
{
    static const struct journal_ops ops = {
        .load = journal_load,
        .commit = journal_commit,
        .get_meta = journal_get_meta,
        .set_meta = journal_set_meta,
        .close = journal_close,
    };
    struct sqlite_journal *j = g_new0(struct sqlite_journal, 1);
    j->base.ops = &ops;
    g_mutex_init(&j->lock);
    j->lock_fd = -1;
    j->dir = g_strdup(dir);
    j->path = g_build_filename(dir, "xenapid.db", NULL);
    if (lock_dir(j, error) && make_file(j->path, error) && sync_dir(dir, error) && connect_db(j, error) &&
        bring_up_to_date(j, steps, n_steps, error) && prepare_all(j, error))
        return &j->base;
    journal_close(&j->base);
    return NULL;
}

struct journal *journal_sqlite_open(const char *dir, GError **error)
{
    return journal_sqlite_open_steps(dir, schema, G_N_ELEMENTS(schema), error);
}
