/* blob_data.c - GET and PUT /blob: what clients keep beside objects. New content takes the place of the old in one
 * step. */
#include "config.h"
#include "xapi-classes/transfers/blob_data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib/gstdio.h>

#include "xapi-classes/transfers/transfer.h"

#define MOST_SIZE  ((gint64) 64 << 20)
#define MOST_TOTAL ((gint64) 1 << 30)
#define CHUNK      (64 * 1024)
#define NEW_SUFFIX ".new" /* of what is being written */

static char *dir_name(void)
{
    return g_build_filename(the_conf()->state_dir, "blobs", NULL);
}

static char *file_name(const char *uuid)
{
    return g_build_filename(the_conf()->state_dir, "blobs", uuid, NULL);
}

void blob_data_remove(const char *uuid)
{
    g_autofree char *name = file_name(uuid);
    if (g_unlink(name) < 0 && errno != ENOENT)
        g_warning("%s: %s", name, g_strerror(errno));
}

/* What crashes left, and of blobs that are no more. */
static void sweep(void)
{
    g_autofree char *dir = dir_name();
    GDir *d = g_dir_open(dir, 0, NULL);
    for (const char *name; d && (name = g_dir_read_name(d));) {
        g_autoptr(record) blob = store_get_by_uuid(the_store(), CLASS_blob, name);
        if (!blob)
            blob_data_remove(name);
    }
    if (d)
        g_dir_close(d);
}

/* ---- who may ---- */

static struct record *find_blob(struct transfer *t)
{
    return transfer_object(t, CLASS_blob, transfer_query(t, "ref") ? "ref" : "uuid");
}

static void ask_who(struct transfer *t)
{
    struct http_request *r = transfer_take_request(t);
    http_answer_header(r, "WWW-Authenticate", "Basic realm=\"" PACKAGE_NAME "\"");
    http_answer_text(r, 401, "Only public blobs are for everybody.\n");
}

/* ---- out ---- */

static void send_file(struct transfer *t, const struct record *blob, int fd)
{
    char buffer[CHUNK];
    struct stat st;
    if (fstat(fd, &st) < 0) {
        fault_set_errno(&t->fault, record_str(blob, F_blob_uuid));
        return;
    }
    http_answer_header(t->r, "X-Content-Type-Options", "nosniff");
    http_answer_header(t->r, "Content-Security-Policy", "sandbox");
    http_begin(t->r, 200, record_str(blob, F_blob_mime_type), st.st_size);
    for (gint64 left = t->is_head ? 0 : st.st_size; left > 0;) {
        ssize_t n = read(fd, buffer, (gsize) MIN(left, CHUNK));
        if (n <= 0 && errno == EINTR && n < 0)
            continue;
        if (n <= 0 && !fault_set_errno(&t->fault, record_str(blob, F_blob_uuid)))
            break;
        if (!transfer_write(t, buffer, (gsize) n))
            break;
        left -= n;
    }
    transfer_end_answer(t);
}

static void get_blob(struct transfer *t)
{
    gboolean known = http_session(t->r) != NULL;
    g_autoptr(record) blob = find_blob(t);
    if (!known && !(blob && record_bool(blob, F_blob_public))) {
        fault_clear(&t->fault);
        ask_who(t);
        return;
    }
    if (!blob || (transfer_query(t, "task_id") && !transfer_begin_task(t)))
        return;
    g_autofree char *name = file_name(record_str(blob, F_blob_uuid));
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
        send_file(t, blob, fd);
        close(fd);
    } else if (errno == ENOENT) { /* nothing was put there yet */
        http_answer_text(transfer_take_request(t), 404, "The blob is empty.\n");
    } else {
        fault_set_errno(&t->fault, name);
    }
}

/* ---- in ---- */

static gint64 total_size(void)
{
    g_autoptr(GPtrArray) all = store_all(the_store(), CLASS_blob);
    gint64 total = 0;
    for (guint i = 0; i < all->len; i++)
        total += record_int(all->pdata[i], F_blob_size);
    return total;
}

static gboolean write_all(const char *name, int fd, const char *data, gsize len, struct fault *f)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno != EINTR)
            return fault_set_errno(f, name);
        data += MAX(n, 0);
        len -= (gsize) MAX(n, 0);
    }
    return TRUE;
}

static gboolean receive(struct transfer *t, const char *name, int fd, gint64 *size)
{
    gint64 most = MIN(MOST_SIZE, MOST_TOTAL - total_size());
    char buffer[CHUNK];
    for (*size = 0;;) {
        gssize n = transfer_read_some(t, buffer, sizeof buffer);
        if (n <= 0)
            return n == 0 && (fsync(fd) == 0 || fault_set_errno(&t->fault, name));
        *size += n;
        if (*size > most)
            return fault_set(&t->fault, "OUT_OF_SPACE", "blobs", NULL);
        if (!write_all(name, fd, buffer, (gsize) n, &t->fault))
            return FALSE;
    }
}

static gboolean sync_dir(const char *dir, struct fault *f)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    gboolean done = fd >= 0 && fsync(fd) == 0;
    if (!done)
        fault_set_errno(f, dir);
    if (fd >= 0)
        close(fd);
    return done;
}

/* The file and the record change while nobody can remove the blob. */
static gboolean publish(struct transfer *t, const struct record *blob, const char *new, gint64 size)
{
    g_autofree char *name = file_name(record_str(blob, F_blob_uuid)), *dir = dir_name();
    struct txn *txn = txn_begin(the_store());
    if (!txn_get(txn, CLASS_blob, blob->ref)) {
        txn_abort(txn);
        return fault_set(&t->fault, "HANDLE_INVALID", "blob", blob->ref, NULL);
    }
    if (size > MOST_TOTAL - total_size()) { /* several may have been received at once */
        txn_abort(txn);
        return fault_set(&t->fault, "OUT_OF_SPACE", "blobs", NULL);
    }
    if (g_rename(new, name) < 0) {
        fault_set_errno(&t->fault, name);
        txn_abort(txn);
        return FALSE;
    }
    txn_set_int(txn, CLASS_blob, blob->ref, F_blob_size, size);
    txn_set_time(txn, CLASS_blob, blob->ref, F_blob_last_updated, g_get_real_time() / G_USEC_PER_SEC);
    guint64 seq = txn_commit(txn);
    return sync_dir(dir, &t->fault) && (seq == 0 || store_wait(the_store(), seq, &t->fault));
}

static void put_blob(struct transfer *t)
{
    g_autoptr(record) blob = find_blob(t);
    if (!blob || transfer_is_probe(t) || (transfer_query(t, "task_id") && !transfer_begin_task(t)))
        return;
    g_autofree char *dir = dir_name(), *new = g_build_filename(dir, "XXXXXX" NEW_SUFFIX, NULL);
    gint64 size;
    if (t->length > MOST_SIZE) {
        fault_set(&t->fault, "OUT_OF_SPACE", "blobs", NULL);
        return;
    }
    int fd = g_mkdir(dir, 0700) == 0 || errno == EEXIST ? mkostemps(new, strlen(NEW_SUFFIX), O_CLOEXEC) : -1;
    if (fd < 0) {
        fault_set_errno(&t->fault, dir);
        return;
    }
    if (!receive(t, new, fd, &size) || !publish(t, blob, new, size))
        g_unlink(new);
    close(fd);
}

/* ---- routes ---- */

static void on_get(struct http_request *r)
{
    transfer_run(r, "get_blob", get_blob);
}

static void on_put(struct http_request *r)
{
    transfer_run(r, "put_blob", put_blob);
}

void transfer_blob_init(void)
{
    static const struct http_route routes[] = {
        {"GET", "/blob", HTTP_OPTIONAL, ROLE_none, on_get, TRUE},
        {"PUT", "/blob", HTTP_SESSION, ROLE_vm_power_admin, on_put, TRUE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(routes); i++)
        http_route_add(&routes[i]);
    sweep();
}
