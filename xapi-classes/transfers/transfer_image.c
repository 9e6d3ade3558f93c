/* transfer_image.c - images in other formats that come as the body of a request: between the readers, which know the
 * formats, and the disk. */
#include "config.h"

#include <string.h>

#include "xapi-classes/transfers/disk_map.h"
#include "xapi-classes/transfers/transfer_disk.h"

#define SPARE ((gint64) 64 << 20) /* that an image may be larger than its disk, beside a part of it */

struct receiving {
    struct transfer *t;
    const struct image_target *target;
    struct disk *old;   /* what the disk holds, once somebody asks */
    struct disk *spool; /* qcow2: the image as it came */
    char *buffer;
    double from; /* where in the transfer's progress the reader is */
};

/* ---- the disk ---- */

static gboolean write_new(void *data, const void *bytes, gsize len, gint64 offset, struct fault *f)
{
    struct receiving *r = data;
    return transfer_may_go_on(r->t) && disk_write(r->target->disk, bytes, len, offset, f);
}

static struct disk *old_content(struct receiving *r, struct fault *f)
{
    if (!r->old)
        r->old = disk_open(r->target->sr_uuid, r->target->vdi_uuid, f);
    return r->old;
}

static gboolean read_old(void *data, void *buffer, gsize len, gint64 offset, struct fault *f)
{
    struct disk *old = old_content(data, f);
    return old && disk_read_padded(old, buffer, len, offset, f);
}

static gboolean keep_old(void *data, gint64 offset, gint64 len, struct fault *f)
{
    struct receiving *r = data;
    struct disk *old = old_content(r, f);
    gint64 end = old ? MIN(offset + len, disk_size(old)) : 0;
    if (!old)
        return FALSE;
    if (!r->buffer)
        r->buffer = g_malloc(DISK_CHUNK);
    for (gint64 at = offset, n; at < end; at += n) {
        gboolean data_there;
        if (!transfer_may_go_on(r->t) || !disk_extent(old, at, &n, &data_there, f))
            return FALSE;
        n = CLAMP(n, 1, end - at);
        if (!data_there)
            continue;
        n = MIN(n, DISK_CHUNK);
        if (!disk_read(old, r->buffer, (gsize) n, at, f) || !disk_write(r->target->disk, r->buffer, (gsize) n, at, f))
            return FALSE;
    }
    return TRUE;
}

static void tell_progress(void *data, double fraction)
{
    struct receiving *r = data;
    transfer_progress(r->t, r->from + (1 - r->from) * fraction);
}

static gboolean receive(struct receiving *r, struct image_io *io, gboolean (*read)(struct image_io *, struct fault *))
{
    io->data = r;
    io->size = disk_size(r->target->disk);
    io->vdi_ref = r->target->vdi_ref;
    io->difference = r->target->difference;
    io->write = write_new;
    io->old = read_old;
    io->keep = keep_old;
    io->progress = tell_progress;
    gboolean done = read(io, &r->t->fault);
    disk_free(r->old);
    g_free(r->buffer);
    return done;
}

/* ---- vhd: as it comes ---- */

static gssize next_bytes(void *data, void *buffer, gsize len, G_GNUC_UNUSED struct fault *f)
{
    struct receiving *r = data;
    return transfer_read(r->t, buffer, len); /* sets the same fault */
}

gboolean vhd_receive(struct transfer *t, const struct image_target *target)
{
    struct receiving r = {.t = t, .target = target};
    struct image_io io = {.length = t->length, .next = next_bytes};
    return receive(&r, &io, vhd_read);
}

/* ---- qcow2: written aside first, because its tables may come after what they describe ---- */

static gboolean read_spool(void *data, void *buffer, gsize len, gint64 offset, struct fault *f)
{
    struct receiving *r = data;
    return transfer_may_go_on(r->t) && disk_read_padded(r->spool, buffer, len, offset, f);
}

/* TRUE at the end of the body. Who announced a length without end cuts the connection there: the tables then tell
 * whether all has come. */
static gboolean is_end(struct transfer *t, gssize n)
{
    if (n >= 0 || !t->is_open_ended || g_atomic_int_get(&t->cancel))
        return n == 0;
    fault_clear(&t->fault);
    return TRUE;
}

/* *length becomes what came. */
static gboolean fill_spool(struct receiving *r, gint64 *length)
{
    g_autofree char *buffer = g_malloc(DISK_CHUNK);
    gint64 room = disk_size(r->spool);
    for (gint64 at = 0;; *length = at) {
        gssize n = transfer_read_some(r->t, buffer, DISK_CHUNK);
        if (n <= 0)
            return is_end(r->t, n);
        if (n > room - at)
            return fault_set(&r->t->fault, "IMPORT_ERROR", "the image is larger than such a disk's can be", NULL);
        if (!disk_write(r->spool, buffer, (gsize) n, at, &r->t->fault))
            return FALSE;
        at += n;
        transfer_progress(r->t, r->from * (double) at / (double) room);
    }
}

/* A plain qcow2 that has come to its announced end need not be read: as a file it may become the disk's. */
static gboolean adopt_or_read(struct receiving *r, struct image_io *io)
{
    gboolean adopted = FALSE, may = !r->t->is_open_ended && !r->target->difference;
    if (may && !disk_adopt(r->target->disk, r->spool, io->length, &r->t->cancel, &adopted, &r->t->fault))
        return FALSE;
    return adopted || receive(r, io, qcow2_read);
}

gboolean qcow2_receive(struct transfer *t, const struct image_target *target)
{
    struct receiving r = {.t = t, .target = target, .from = 0.5};
    struct image_io io = {.length = 0, .at = read_spool};
    gint64 size = disk_size(target->disk), most = size + size / 16 + SPARE;
    char uuid[UUID_SIZE];
    if (t->length > most)
        return fault_set(&t->fault, "IMPORT_ERROR", "the image is larger than such a disk's can be", NULL);
    /* Nothing in it says where it ends: such a client cuts the connection there, once it has an answer. */
    if (t->is_open_ended && transfer_query(t, "task_id"))
        http_accept_early(t->r);
    uuid_generate_text(uuid);
    r.spool = disk_stage(target->sr_uuid, uuid, t->length > 0 ? t->length : most, "raw", &t->fault);
    gboolean done = r.spool && fill_spool(&r, &io.length) && disk_rest(r.spool, &t->fault) && adopt_or_read(&r, &io);
    disk_free(r.spool);
    return done;
}
