/* disk.c - an NBD client for the sockets that the backend hands over. */
#include "config.h"
#include "xapi-classes/transfers/disk.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <libnbd.h>

#include "xapi-classes/transfers/disk_queue.h"
#include "xapi-classes/storage/storage.h"
#include "xenbackend/backend.h"

#define SKIP       (64 * 1024)                   /* zeroes of this length are not written */
#define LOOK_AHEAD (G_GUINT64_CONSTANT(1) << 30) /* how far extents are asked for at once */
#define CONTEXT    "base:allocation"

struct extent {
    gint64 end;
    gboolean data;
};

struct disk {
    struct nbd_handle *nbd;
    struct disk_queue *queue;
    char *stage; /* NULL: it is only read */
    gint64 size;
    gboolean knows_extents;
    GArray *extents; /* from somewhere on, in order */
    gint64 extents_from;
};

gboolean is_zero(const void *data, gsize len)
{
    const char *p = data;
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* What went wrong, in the API's words. */
static gboolean disk_fault(struct disk *d, const char *what, int error, const char *why, struct fault *f)
{
    g_autofree char *text = g_strdup_printf("%s: %s", what, why ? why : "");
    g_autofree char *size = g_strdup_printf("%" G_GINT64_FORMAT, d->size);
    if (error == ENOSPC)
        return fault_set(f, "SR_FULL", size, "0", NULL);
    return fault_set(f, "SR_BACKEND_FAILURE", "5", "", text, NULL);
}

static gboolean nbd_fault(struct disk *d, const char *what, struct fault *f)
{
    return disk_fault(d, what, nbd_get_errno(), nbd_get_error(), f);
}

static gboolean queue_fault(struct disk *d, const char *what, struct fault *f)
{
    const char *why = NULL;
    int error = disk_queue_why(d->queue, &why);
    return disk_fault(d, what, error, why, f);
}

static gboolean connect_nbd(struct disk *d, int fd, struct fault *f)
{
    d->nbd = nbd_create();
    if (!d->nbd) {
        close(fd);
        return nbd_fault(d, "nbd", f);
    }
    /* The socket is the library's from here on. */
    if (nbd_add_meta_context(d->nbd, CONTEXT) < 0 || nbd_connect_socket(d->nbd, fd) < 0)
        return nbd_fault(d, "the disk image cannot be opened", f);
    d->size = nbd_get_size(d->nbd);
    d->knows_extents = nbd_can_meta_context(d->nbd, CONTEXT) == 1;
    if (d->size < 0)
        return nbd_fault(d, "the disk image has no size", f);
    d->queue = disk_queue_new(d->nbd);
    return TRUE;
}

/* Takes over params. */
static struct disk *open_disk(const char *method, struct value *params, struct fault *f)
{
    int fds[WIRE_MAX_FDS], n_fds = 0;
    struct peer_options options = {.timeout_ms = -1, .got_fds = fds, .n_got_fds = &n_fds};
    g_autoptr(value) given = params;
    g_autoptr(value) answer = backend_call(method, given, &options, f);
    if (!answer)
        return NULL;
    for (int i = 1; i < n_fds; i++)
        close(fds[i]);
    if (n_fds < 1) {
        fault_set(f, "INTERNAL_ERROR", "the backend gave no descriptor", NULL);
        return NULL;
    }
    struct disk *d = g_new0(struct disk, 1);
    d->extents = g_array_new(FALSE, FALSE, sizeof(struct extent));
    d->stage = g_strdup(value_get_str(answer, "stage", NULL));
    if (!connect_nbd(d, fds[0], f))
        g_clear_pointer(&d, disk_free);
    return d;
}

struct disk *disk_open(const char *sr_uuid, const char *vdi_uuid, struct fault *f)
{
    return open_disk("vdi.open", storage_params(sr_uuid, vdi_uuid), f);
}

struct disk *disk_stage(const char *sr_uuid, const char *vdi_uuid, gint64 size, const char *type, struct fault *f)
{
    struct value_builder b;
    storage_params_begin(&b, sr_uuid, vdi_uuid);
    value_builder_put(&b, "virtual_size", value_int(NULL, size));
    value_builder_put_string(&b, "type", type);
    return open_disk("vdi.stage", value_builder_end(&b), f);
}

gint64 disk_size(const struct disk *d)
{
    return d->size;
}

gboolean disk_write(struct disk *d, const void *data, gsize len, gint64 offset, struct fault *f)
{
    const char *p = data;
    for (gsize done = 0; done < len;) {
        /* A run of blocks that are not zero. */
        gsize n = 0;
        while (done + n < len && n < DISK_CHUNK && !is_zero(p + done + n, MIN(SKIP, len - done - n)))
            n += MIN(SKIP, len - done - n);
        if (n > 0 && !disk_queue_write(d->queue, p + done, n, offset + (gint64) done))
            return queue_fault(d, "write", f);
        done += n;
        if (n < DISK_CHUNK)
            done += MIN(SKIP, len - done); /* a zero block, or the end */
    }
    return TRUE;
}

gboolean disk_rest(struct disk *d, struct fault *f)
{
    return disk_queue_rest(d->queue) || queue_fault(d, "write", f);
}

/* ---- extents ---- */

static int add_extents(void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n, int *error)
{
    struct disk *d = data;
    (void) error;
    if (strcmp(context, CONTEXT) != 0)
        return 0;
    g_array_set_size(d->extents, 0);
    d->extents_from = (gint64) offset;
    for (size_t i = 0; i + 1 < n; i += 2) {
        offset += entries[i];
        struct extent e = {MIN((gint64) offset, d->size), !(entries[i + 1] & LIBNBD_STATE_ZERO)};
        g_array_append_val(d->extents, e);
    }
    return 0;
}

static const struct extent *find_extent(const struct disk *d, gint64 offset)
{
    if (offset < d->extents_from)
        return NULL;
    for (guint i = 0; i < d->extents->len; i++)
        if (g_array_index(d->extents, struct extent, i).end > offset)
            return &g_array_index(d->extents, struct extent, i);
    return NULL;
}

gboolean disk_extent(struct disk *d, gint64 offset, gint64 *len, gboolean *data, struct fault *f)
{
    *len = d->size - offset;
    *data = TRUE;
    if (!d->knows_extents || offset >= d->size)
        return TRUE;
    const struct extent *e = find_extent(d, offset);
    if (!e) {
        disk_queue_rest(d->queue);
        nbd_extent_callback callback = {.callback = add_extents, .user_data = d};
        guint64 ahead = MIN((guint64) (d->size - offset), LOOK_AHEAD);
        if (nbd_block_status(d->nbd, ahead, (guint64) offset, callback, 0) != 0)
            return nbd_fault(d, "block status", f);
        e = find_extent(d, offset);
    }
    if (e) {
        *len = e->end - offset;
        *data = e->data;
    }
    return TRUE;
}

/* Up to where what begins at offset is known to be data. */
static gint64 data_end(const struct disk *d, gint64 offset)
{
    const struct extent *e = d->knows_extents ? find_extent(d, offset) : NULL;
    return e ? (e->data ? e->end : offset) : d->knows_extents ? offset : d->size;
}

gboolean disk_read(struct disk *d, void *buffer, gsize len, gint64 offset, struct fault *f)
{
    char *p = buffer;
    for (gsize done = 0; done < len;) {
        gsize n = MIN(len - done, DISK_CHUNK);
        gint64 at = offset + (gint64) done;
        if (!disk_queue_read(d->queue, p + done, n, at, data_end(d, at)))
            return queue_fault(d, "read", f);
        done += n;
    }
    return TRUE;
}

/* ---- the end ---- */

static void close_nbd(struct disk *d)
{
    g_clear_pointer(&d->queue, disk_queue_free);
    if (d->nbd)
        nbd_close(d->nbd);
    d->nbd = NULL;
}

gboolean disk_adopt(struct disk *d, struct disk *image, gint64 length, gint *cancel, gboolean *adopted, struct fault *f)
{
    struct peer_options options = {.timeout_ms = -1, .cancel = cancel};
    struct value_builder b;
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "stage", d->stage);
    value_builder_put_string(&b, "image", image->stage);
    value_builder_put(&b, "length", value_int(NULL, length));
    g_autoptr(value) params = value_builder_end(&b);
    g_autoptr(value) answer = backend_call("vdi.adopt", params, &options, f);
    *adopted = answer && value_as_bool(value_get(answer, "adopted"));
    return answer != NULL;
}

struct value *disk_publish(struct disk *d, gint *cancel, struct fault *f)
{
    struct peer_options options = {.timeout_ms = -1, .cancel = cancel};
    struct value_builder b;
    if (!disk_queue_rest(d->queue)) {
        queue_fault(d, "write", f);
        return NULL;
    }
    g_clear_pointer(&d->queue, disk_queue_free);
    if (nbd_shutdown(d->nbd, 0) != 0) {
        nbd_fault(d, "the disk image was not written to its end", f);
        return NULL;
    }
    close_nbd(d);
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "stage", d->stage);
    g_autoptr(value) params = value_builder_end(&b);
    g_clear_pointer(&d->stage, g_free);
    return backend_call("vdi.publish", params, &options, f);
}

static void unstage(const char *stage)
{
    struct fault f = FAULT_INIT;
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "stage", stage);
    g_autoptr(value) params = value_builder_end(&b);
    value_unref(backend_call("vdi.unstage", params, NULL, &f));
    fault_clear(&f); /* a backend that does not know it has dropped it */
}

void disk_free(struct disk *d)
{
    if (!d)
        return;
    close_nbd(d);
    if (d->stage)
        unstage(d->stage);
    g_free(d->stage);
    g_array_unref(d->extents);
    g_free(d);
}
