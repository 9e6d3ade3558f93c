/* vdi_delta.c - VDI.copy with a base: an image of what differs. */
#include "xapi-classes/transfers/disk.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/storage/vdi.h"

#include <string.h>

#define BLOCK (64 * 1024) /* what is copied at once when a byte of it differs */

struct delta {
    struct call *call;
    struct disk *from, *base, *to;
    char *here, *there; /* DISK_CHUNK bytes each */
};

/* Behind its end the base is zero. */
static gboolean read_base(struct delta *d, gsize len, gint64 at, struct fault *f)
{
    gsize n = (gsize) CLAMP(disk_size(d->base) - at, 0, (gint64) len);
    memset(d->there + n, 0, len - n);
    return n == 0 || disk_read(d->base, d->there, n, at, f);
}

static gboolean copy_chunk(struct delta *d, gsize len, gint64 at, struct fault *f)
{
    if (!disk_read(d->from, d->here, len, at, f) || !read_base(d, len, at, f))
        return FALSE;
    for (gsize done = 0; done < len; done += BLOCK) {
        gsize n = MIN(BLOCK, len - done);
        if (memcmp(d->here + done, d->there + done, n) != 0 &&
            !disk_write(d->to, d->here + done, n, at + (gint64) done, f))
            return FALSE;
    }
    return TRUE;
}

/* Where both are known to be zero nothing is read. */
static gboolean skip(struct delta *d, gint64 at, gint64 *len, struct fault *f)
{
    gint64 other = G_MAXINT64;
    gboolean data, base_data = FALSE;
    if (!disk_extent(d->from, at, len, &data, f) ||
        (at < disk_size(d->base) && !disk_extent(d->base, at, &other, &base_data, f)))
        return FALSE;
    *len = data || base_data ? 0 : MIN(*len, other);
    return TRUE;
}

static gboolean copy_all(struct delta *d, struct fault *f)
{
    gint64 size = disk_size(d->from);
    for (gint64 at = 0, len; at < size; at += len) {
        if (call_is_cancelled(d->call))
            return call_cancelled_fault(d->call) != NULL;
        if (!skip(d, at, &len, f))
            return FALSE;
        if (len == 0) {
            len = MIN(DISK_CHUNK, size - at);
            if (!copy_chunk(d, (gsize) len, at, f))
                return FALSE;
        }
        call_progress(d->call, (double) at / (double) size);
    }
    return TRUE;
}

static struct value *make(struct call *c, struct disk *from, struct disk *base, struct disk *to)
{
    g_autofree char *here = g_malloc(DISK_CHUNK), *there = g_malloc(DISK_CHUNK);
    struct delta d = {c, from, base, to, here, there};
    return copy_all(&d, &c->fault) ? disk_publish(to, call_cancel_flag(c), &c->fault) : NULL;
}

/* What the backend says of the new image; NULL with c's fault set. */
static struct value *make_image(struct call *c, const struct record *vdi, const struct record *base,
                                const struct record *to, const char *uuid)
{
    const char *type = record_key(vdi, F_VDI_sm_config, "type");
    g_autoptr(record) sr = storage_attached_sr(record_str(vdi, F_VDI_SR), &c->fault);
    g_autoptr(record) base_sr = sr ? storage_attached_sr(record_str(base, F_VDI_SR), &c->fault) : NULL;
    if (!base_sr)
        return NULL;
    g_autoptr(disk) in = disk_open(record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid), &c->fault);
    g_autoptr(disk) compared =
        in ? disk_open(record_str(base_sr, F_SR_uuid), record_str(base, F_VDI_uuid), &c->fault) : NULL;
    g_autoptr(disk) out = compared ? disk_stage(record_str(to, F_SR_uuid), uuid, record_int(vdi, F_VDI_virtual_size),
                                                type ? type : "qcow2", &c->fault)
                                   : NULL;
    return out ? make(c, in, compared, out) : NULL;
}

struct value *vdi_copy_delta(struct call *c, const struct record *vdi, const struct record *base, const char *sr_ref)
{
    char uuid[UUID_SIZE];
    struct vdi_twin twin = {.vdi = vdi};
    struct value *ref = NULL;
    g_autoptr(record) to = storage_attached_sr(sr_ref, &c->fault);
    if (!to)
        return NULL;
    uuid_generate_text(uuid);
    image_work_begin(uuid);
    g_autoptr(value) made = make_image(c, vdi, base, to, uuid);
    if (made) {
        ref = image_record(c, to, uuid, made, vdi_record_twin, &twin);
        if (!ref)
            image_remove(record_str(to, F_SR_uuid), uuid);
    }
    image_work_end(uuid);
    return ref;
}
