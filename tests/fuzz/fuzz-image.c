/* fuzz-image.c - any bytes as a disk image that a client sends: the first byte says as what. Whatever is in it, nothing
 * outside of the disk is written or kept, and there is either a result or a fault. */
#include "xapi-classes/transfers/image_io.h"
#include "xapi-classes/transfers/vhd.h"

#include <stdlib.h>
#include <string.h>

#define SIZE   (1024 * 1024)
#define STREAM (512 * 1024) /* most that is read of one */

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size);

struct input {
    const guint8 *data;
    gsize size;
    gsize at;
    gboolean may_keep;
    struct image_io *io;
};

static void check(gboolean ok, const char *what)
{
    if (ok)
        return;
    g_printerr("%s\n", what);
    abort(); /* libFuzzer keeps the input then */
}

/* Zeroes past the end. */
static void copy(const struct input *in, guint8 *to, gsize len, gsize from)
{
    gsize n = from < in->size ? MIN(len, in->size - from) : 0;
    if (n > 0)
        memcpy(to, in->data + from, n);
    memset(to + n, 0, len - n);
}

/* After the end its first sector comes again and again: the footer, where a VHD wants one. */
static gssize next(void *data, void *buffer, gsize len, G_GNUC_UNUSED struct fault *f)
{
    struct input *in = data;
    guint8 *to = buffer;
    if (in->at + len > STREAM)
        return 0;
    for (gsize done = 0, n; done < len; done += n, in->at += n) {
        gsize in_sector = in->at % VHD_SECTOR;
        n = MIN(len - done, VHD_SECTOR - in_sector);
        copy(in, to + done, n, in->at < in->size ? in->at : in_sector);
    }
    return (gssize) len;
}

static gboolean at(void *data, void *buffer, gsize len, gint64 offset, G_GNUC_UNUSED struct fault *f)
{
    check(offset >= 0, "read before the image");
    copy(data, buffer, len, (gsize) offset);
    return TRUE;
}

static gboolean put(G_GNUC_UNUSED void *data, const void *bytes, gsize len, gint64 offset,
                    G_GNUC_UNUSED struct fault *f)
{
    static guint8 disk[SIZE];
    check(offset >= 0 && offset <= SIZE && len <= (gsize) (SIZE - offset), "written outside of the disk");
    check(len <= IMAGE_CHUNK, "too much at once");
    memcpy(disk + offset, bytes, len);
    return TRUE;
}

static gboolean old(G_GNUC_UNUSED void *data, void *buffer, gsize len, gint64 offset, G_GNUC_UNUSED struct fault *f)
{
    check(offset >= 0, "read before the disk");
    memset(buffer, 7, len);
    return TRUE;
}

static gboolean keep(void *data, gint64 offset, gint64 len, G_GNUC_UNUSED struct fault *f)
{
    struct input *in = data;
    check(in->io->difference, "kept what is not in a whole image");
    check(offset >= 0 && len >= 0 && offset <= SIZE, "kept outside of the disk");
    return TRUE;
}

static void progress(G_GNUC_UNUSED void *data, double fraction)
{
    check(fraction >= 0 && fraction <= 1, "a strange progress");
}

/* So that more than one in four billion gets past the sums. */
static void mend(guint8 *bytes, gsize size)
{
    struct vhd_footer f;
    static const struct {
        gsize len, sum;
    } parts[] = {{VHD_SECTOR, 64}, {VHD_HEADER, 36}};
    gsize where = 0;
    for (int part = 0; part < 2 && where + parts[part].len <= size; part++) {
        guint32 sum = 0;
        for (gsize i = 0; i < parts[part].len; i++)
            if (i < parts[part].sum || i >= parts[part].sum + 4)
                sum += bytes[where + i];
        sum = GUINT32_TO_BE(~sum);
        memcpy(bytes + where + parts[part].sum, &sum, sizeof sum);
        if (part == 0 && !vhd_parse_footer(bytes, &f))
            return;
        where = part == 0 ? (gsize) f.data_offset : where;
    }
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    if (size < 1)
        return 0;
    gboolean is_vhd = *data & 1;
    g_autofree guint8 *bytes = g_memdup2(data + 1, size - 1);
    struct fault f = FAULT_INIT;
    struct input in = {.data = bytes, .size = size - 1};
    struct image_io io = {.data = &in, .size = SIZE, .vdi_ref = "OpaqueRef:disk", .length = (gint64) size - 1};
    in.io = &io;
    io.difference = (*data & 2) != 0;
    io.next = next;
    io.at = at;
    io.write = put;
    io.old = old;
    io.keep = keep;
    io.progress = progress;
    if (is_vhd && bytes)
        mend(bytes, in.size);
    gboolean done = is_vhd ? vhd_read(&io, &f) : qcow2_read(&io, &f);
    check(done == (f.code == NULL), "neither a result nor a fault");
    fault_clear(&f);
    return 0;
}
