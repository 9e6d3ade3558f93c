/* storage_open.c - vdi.open, vdi.stage, vdi.adopt, vdi.publish, vdi.unstage: the bytes of an image, over NBD, for the
 * front, which may open no file. */
#include "config.h"
#include "xenbackend/storage/nbd.h"
#include "xenbackend/io_priority.h"
#include "xenbackend/run.h"
#include "xenbackend/storage/storage_private.h"
#include "xenbackend/storage/storage_qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define END_MS   (10 * 60 * 1000)          /* for the server to write back what it holds */
#define GRACE_US (60 * G_TIME_SPAN_SECOND) /* after which new content that nobody publishes is dropped */
#define LOOK_MS  200                       /* how often it is looked whether its front is still there */
#define CHECK_S  600                       /* for the tables of a large image */

/* An image that is open. Its own thread sees to its end, because the front may vanish at any time. */
struct opened {
    gint refs; /* under the lock */
    guint front;
    char *path; /* of what is written */
    gboolean writable, is_qcow2;
    char id[STORAGE_UUID_LEN + 1];
    char vdi[STORAGE_UUID_LEN + 1];
    struct storage_sr *sr;
    struct nbd *nbd;
    void *stage; /* the driver's; NULL when it is only read, or when it was published or dropped */
    gboolean failed;
    struct fault fault; /* why it ended badly */
    gboolean ended;     /* the server is gone */
};

static struct {
    GMutex lock;
    GCond changed;
    GHashTable *staged; /* id -> struct opened: those with new content */
    GSList *all;        /* of struct opened, not counted */
} open_images;

static void opened_unref(struct opened *o)
{
    g_mutex_lock(&open_images.lock);
    gboolean last = --o->refs == 0;
    if (last)
        open_images.all = g_slist_remove(open_images.all, o);
    g_mutex_unlock(&open_images.lock);
    if (!last)
        return;
    nbd_free(o->nbd);
    if (o->stage != NULL)
        o->sr->driver->vdi_unstage(o->sr->sr, o->stage);
    storage_sr_put(o->sr);
    fault_clear(&o->fault);
    g_free(o->path);
    g_free(o);
}

/* Its front has gone and nobody is publishing it. */
static gboolean is_orphan(struct opened *o)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&open_images.lock);
    return !helper_front_is_there(o->front) && (!o->writable || g_hash_table_contains(open_images.staged, o->id));
}

static void *attend(void *data)
{
    struct opened *o = data;
    struct fault f = FAULT_INIT;
    while (!nbd_has_ended(o->nbd, LOOK_MS)) /* transfers take as long as their clients want */
        if (is_orphan(o))
            nbd_kill(o->nbd);
    gboolean well = nbd_wait(o->nbd, 0, &f);
    g_mutex_lock(&open_images.lock);
    o->ended = TRUE;
    o->failed = !well;
    fault_move(&o->fault, &f);
    g_cond_broadcast(&open_images.changed);
    gint64 until = g_get_monotonic_time() + GRACE_US;
    while (o->stage != NULL && g_hash_table_contains(open_images.staged, o->id) && helper_front_is_there(o->front) &&
           g_get_monotonic_time() < until)
        g_cond_wait_until(&open_images.changed, &open_images.lock,
                          g_get_monotonic_time() + LOOK_MS * G_TIME_SPAN_MILLISECOND);
    if (g_hash_table_remove(open_images.staged, o->id))
        o->refs--;
    g_mutex_unlock(&open_images.lock);
    opened_unref(o);
    return NULL;
}

/* ---- I/O priorities ---- */

int (*storage_io_priority)(const char *vdi);

void storage_io_priority_changed(const char *vdi)
{
    int priority = storage_io_priority != NULL ? storage_io_priority(vdi) : IO_PRIORITY_NONE;
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&open_images.lock);
    for (GSList *i = open_images.all; i != NULL; i = i->next) {
        struct opened *o = i->data;
        if (strcmp(o->vdi, vdi) == 0)
            nbd_give_priority(o->nbd, priority);
    }
}

/* ---- opening ---- */

/* Starts the server and the thread; takes over sr and stage. */
static struct value *serve(struct helper_request *req, struct storage_sr *sr, void *stage, const char *vdi,
                           const char *path, const char *format, gint64 size, struct fault *f)
{
    struct opened *o = g_new0(struct opened, 1);
    int fd = -1;
    o->refs = 1;
    o->front = req->front;
    o->writable = stage != NULL;
    o->is_qcow2 = strcmp(format, "qcow2") == 0;
    o->path = g_strdup(path);
    o->sr = sr;
    o->stage = stage;
    g_strlcpy(o->vdi, vdi, sizeof o->vdi);
    storage_uuid_new(o->id);
    o->nbd = nbd_start(path, format, stage != NULL, &fd, f);
    if (o->nbd == NULL) {
        opened_unref(o);
        return NULL;
    }
    g_mutex_lock(&open_images.lock);
    open_images.all = g_slist_prepend(open_images.all, o);
    if (open_images.staged == NULL)
        open_images.staged = g_hash_table_new(g_str_hash, g_str_equal);
    if (stage != NULL) {
        g_hash_table_insert(open_images.staged, o->id, o);
        o->refs++;
    }
    g_mutex_unlock(&open_images.lock);
    struct value_builder b;
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "format", format);
    if (stage != NULL) {
        value_builder_put_string(&b, "stage", o->id);
        value_builder_put(&b, "virtual_size", value_int(NULL, size));
    }
    if (storage_io_priority != NULL && storage_io_priority(vdi) != IO_PRIORITY_NONE)
        storage_io_priority_changed(vdi);
    g_thread_unref(g_thread_new("image", attend, o));
    req->answer_fds[req->n_answer_fds++] = fd;
    return value_builder_end(&b);
}

struct value *storage_vdi_open(struct helper_request *req, struct fault *f)
{
    const char *vdi = storage_uuid_param(req, "vdi", f);
    g_autoptr(storage_sr) s = vdi != NULL ? storage_sr_get(value_get_str(req->params, "sr", ""), f) : NULL;
    g_autofree char *path = NULL;
    const char *format = NULL;
    if (s == NULL || !s->driver->vdi_path(s->sr, vdi, &path, &format, f))
        return NULL;
    return serve(req, g_steal_pointer(&s), NULL, vdi, path, format, 0, f);
}

struct value *storage_vdi_stage(struct helper_request *req, struct fault *f)
{
    const char *vdi = storage_uuid_param(req, "vdi", f);
    g_autoptr(storage_sr) s = vdi != NULL ? storage_sr_get(value_get_str(req->params, "sr", ""), f) : NULL;
    g_autofree char *path = NULL;
    const char *format = NULL;
    gint64 size = value_as_int(value_get(req->params, "virtual_size"));
    if (s == NULL)
        return NULL;
    if (s->driver->vdi_stage == NULL) {
        storage_unsupported(s->uuid, f);
        return NULL;
    }
    const char *type = value_get_str(req->params, "type", "");
    void *stage = s->driver->vdi_stage(s->sr, vdi, size, type, &path, &format, &size, f);
    if (stage == NULL)
        return NULL;
    return serve(req, g_steal_pointer(&s), stage, vdi, path, format, size, f);
}

/* Takes the image out of the table, with the table's reference; NULL with f set when there is none of that id. */
static struct opened *take(struct helper_request *req, struct fault *f)
{
    const char *id = value_get_str(req->params, "stage", "");
    g_mutex_lock(&open_images.lock);
    struct opened *o = open_images.staged != NULL ? g_hash_table_lookup(open_images.staged, id) : NULL;
    if (o != NULL)
        g_hash_table_remove(open_images.staged, id);
    g_mutex_unlock(&open_images.lock);
    if (o == NULL)
        fault_set(f, "INVALID_VALUE", "stage", id, NULL);
    return o;
}

/* The front has closed its end: until the server has ended. */
static gboolean wait_end(struct opened *o, struct helper_request *req, struct fault *f)
{
    gint64 until = g_get_monotonic_time() + END_MS * G_TIME_SPAN_MILLISECOND;
    g_mutex_lock(&open_images.lock);
    while (!o->ended && !helper_cancelled(req) && g_get_monotonic_time() < until)
        g_cond_wait_until(&open_images.changed, &open_images.lock,
                          g_get_monotonic_time() + 200 * G_TIME_SPAN_MILLISECOND);
    gboolean ended = o->ended;
    if (ended && o->failed)
        fault_move(f, &o->fault);
    g_mutex_unlock(&open_images.lock);
    if (!ended)
        return fault_set(f, helper_cancelled(req) ? "TASK_CANCELLED" : "INTERNAL_ERROR", "", NULL);
    return f->code == NULL;
}

/* Here, because the drivers hold their locks while they publish. */
static gboolean sync_content(const struct opened *o, struct fault *f)
{
    struct stat st;
    if (stat(o->path, &st) == 0 && !S_ISREG(st.st_mode))
        return TRUE; /* its server has flushed it */
    int fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), error = 0;
    if (fd < 0 || fsync(fd) < 0)
        error = errno;
    if (fd >= 0)
        close(fd);
    if (error == 0)
        return TRUE;
    g_autofree char *text = g_strdup_printf("%s: %s", o->path, g_strerror(error));
    if (error == ENOSPC || error == EDQUOT)
        return fault_set(f, "SR_FULL", "0", "0", NULL);
    return fault_set(f, "SR_BACKEND_FAILURE", "5", "", text, NULL);
}

/* ---- a client's own image file as new content ---- */

/* One more reference, or NULL with f set. */
static struct opened *find(struct helper_request *req, const char *key, struct fault *f)
{
    const char *id = value_get_str(req->params, key, "");
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&open_images.lock);
    struct opened *o = open_images.staged != NULL ? g_hash_table_lookup(open_images.staged, id) : NULL;
    if (o != NULL)
        o->refs++;
    else
        fault_set(f, "INVALID_VALUE", key, id, NULL);
    return o;
}

/* Both in one directory of images, where a file is all that there is of one. */
static gboolean are_files(const struct opened *o, const struct opened *image)
{
    const struct storage_driver *driver = o->sr->driver;
    return o != image && o->sr == image->sr && o->is_qcow2 && !image->is_qcow2 &&
           (driver == &storage_file_driver || driver == &storage_nfs_driver);
}

/* The header, which alone can name other files. */
static gboolean is_plain(const struct opened *o, const struct opened *image, gint64 length)
{
    struct qcow2_info wanted;
    struct stat st;
    const char *why;
    int to = open(o->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW),
        fd = open(image->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    gboolean plain = to >= 0 && fd >= 0 && fstat(fd, &st) == 0 && length > 0 && length <= st.st_size &&
                     qcow2_read(to, &wanted, &why) && qcow2_is_plain(fd, length, wanted.virtual_size);
    if (to >= 0)
        close(to);
    if (fd >= 0)
        close(fd);
    return plain;
}

/* The tables: no cluster in two places, every count right. What is compressed would stay slow. -U: the server that
 * wrote it has it open. */
static gboolean is_sound(struct helper_request *req, const struct opened *image)
{
    const char *const args[] = {"qemu-img", "check", "-U", "-f", "qcow2", "--output=json", image->path, NULL};
    struct run_options options = {.timeout_s = CHECK_S, .cancel = &req->cancel};
    struct fault ignored = FAULT_INIT;
    g_autofree char *said = NULL;
    gboolean sound = run_tool(args, &options, &said, &ignored);
    fault_clear(&ignored);
    return sound && strstr(said, "\"compressed-clusters\"") == NULL;
}

/* From here on nobody can write to the image, so its header is looked at again. */
static gboolean take_place(struct helper_request *req, struct opened *o, struct opened *image, gint64 length,
                           struct fault *f)
{
    struct fault ignored = FAULT_INIT;
    nbd_kill(image->nbd); /* it holds nothing back: what was written to it is the file's */
    wait_end(image, req, &ignored);
    fault_clear(&ignored);
    if (helper_cancelled(req))
        return fault_set(f, "TASK_CANCELLED", "", NULL);
    if (!image->ended || !is_plain(o, image, length))
        return fault_set(f, "SR_BACKEND_FAILURE", "22", "", "the image was changed while it was looked at", NULL);
    if (truncate(image->path, length) == 0 && rename(image->path, o->path) == 0)
        return TRUE;
    return fault_set(f, "SR_BACKEND_FAILURE", "5", "", g_strerror(errno), NULL);
}

static gboolean remove_staged(struct opened *image)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&open_images.lock);
    gboolean there = g_hash_table_remove(open_images.staged, image->id);
    image->refs -= there;
    return there;
}

struct value *storage_vdi_adopt(struct helper_request *req, struct fault *f)
{
    gint64 length = value_as_int(value_get(req->params, "length"));
    struct opened *o = find(req, "stage", f), *image = o != NULL ? find(req, "image", f) : NULL;
    gboolean fits = image != NULL && are_files(o, image) && is_plain(o, image, length) && is_sound(req, image) &&
                    remove_staged(image); /* nobody else ends it now */
    if (fits)
        take_place(req, o, image, length, f);
    if (image != NULL)
        opened_unref(image);
    if (o != NULL)
        opened_unref(o);
    if (f->code != NULL)
        return NULL;
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "adopted", value_bool(fits));
    return value_builder_end(&b);
}

struct value *storage_vdi_publish(struct helper_request *req, struct fault *f)
{
    struct opened *o = take(req, f);
    if (o == NULL)
        return NULL;
    struct storage_vdi out = {0};
    gboolean done = wait_end(o, req, f) && sync_content(o, f);
    if (done)
        done = o->sr->driver->vdi_publish(o->sr->sr, g_steal_pointer(&o->stage), &out, f);
    struct value *answer = storage_vdi_done(o->sr, done, &out);
    opened_unref(o);
    return answer;
}

struct value *storage_vdi_unstage(struct helper_request *req, struct fault *f)
{
    struct opened *o = take(req, f);
    struct fault ignored = FAULT_INIT;
    if (o == NULL)
        return NULL;
    nbd_kill(o->nbd); /* what it still has to write is thrown away */
    wait_end(o, req, &ignored);
    fault_clear(&ignored);
    g_mutex_lock(&open_images.lock);
    void *stage = g_steal_pointer(&o->stage);
    g_cond_broadcast(&open_images.changed);
    g_mutex_unlock(&open_images.lock);
    o->sr->driver->vdi_unstage(o->sr->sr, stage);
    opened_unref(o);
    return value_empty_map();
}
