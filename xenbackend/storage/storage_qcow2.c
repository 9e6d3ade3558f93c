/* storage_qcow2.c - the header of a qcow2 image (QEMU's docs/interop/qcow2.txt): size, backing file, emptiness. */
#include "config.h"
#include "xenbackend/storage/storage_qcow2.h"

#include "daemon/value/bytes.h"

#include <string.h>
#include <unistd.h>

#define QCOW2_MAGIC      0x514649fbU
#define HEADER_V2        72
#define HEADER_V3        104
#define MAX_L1           (32 * 1024 * 1024) /* bytes, QEMU's own limit */
#define INCOMPATIBLE_OK  3U                 /* dirty and corrupt bits: QEMU deals with those */
#define INCOMPATIBLE_ZIP 8U                 /* another compression */
#define PLAIN_BITS       16                 /* of clusters: smaller ones make large tables */
#define MAX_BITS         21
#define EXTENSION_END    0U
#define EXTENSION_NAMES  0x6803f857U /* of features, for people */

/* The first-level table points to all that is allocated: where it is all zero, so is the image. */
static gboolean l1_is_empty(int fd, guint64 offset, guint64 entries, gboolean *empty)
{
    guint8 buffer[4096];
    guint64 left = entries * 8;
    *empty = TRUE;
    while (left > 0 && *empty) {
        gsize want = MIN(left, sizeof(buffer));
        if (pread(fd, buffer, want, (off_t) offset) != (gssize) want)
            return FALSE;
        for (gsize i = 0; i < want && *empty; i++)
            *empty = buffer[i] == 0;
        offset += want;
        left -= want;
    }
    return TRUE;
}

static gboolean refuse(const char **why, const char *text)
{
    *why = text;
    return FALSE;
}

gboolean qcow2_read(int fd, struct qcow2_info *info, const char **why)
{
    guint8 h[HEADER_V3] = {0};
    gssize n = pread(fd, h, sizeof(h), 0);
    if (n < HEADER_V2 || get32(h) != QCOW2_MAGIC)
        return refuse(why, "not a qcow2 image");
    guint32 version = get32(h + 4);
    if (version != 2 && (version != 3 || n < HEADER_V3))
        return refuse(why, "a qcow2 version that is not known");
    if (version == 3 && (get64(h + 72) & ~(guint64) (INCOMPATIBLE_OK | INCOMPATIBLE_ZIP)) != 0)
        return refuse(why, "a qcow2 image with features that are not supported");
    if (get32(h + 32) != 0)
        return refuse(why, "an encrypted image");
    if (get32(h + 60) != 0)
        return refuse(why, "an image with internal snapshots");
    guint64 backing = get64(h + 8), size = get64(h + 24), l1 = get32(h + 36), l1_offset = get64(h + 40);
    guint32 backing_len = get32(h + 16);
    if (size > G_MAXINT64 / 2 || l1 * 8 > MAX_L1 || l1_offset > G_MAXINT64 / 2 || backing > G_MAXINT64 / 2)
        return refuse(why, "a damaged qcow2 header");
    info->virtual_size = (gint64) size;
    info->backing[0] = '\0';
    if (backing != 0) {
        if (backing_len == 0 || backing_len >= QCOW2_BACKING_MAX ||
            pread(fd, info->backing, backing_len, (off_t) backing) != (gssize) backing_len)
            return refuse(why, "a damaged qcow2 header");
        info->backing[backing_len] = '\0';
        if (strlen(info->backing) != backing_len)
            return refuse(why, "a damaged qcow2 header");
    }
    if (!l1_is_empty(fd, l1_offset, l1, &info->empty))
        return refuse(why, "a damaged qcow2 image");
    return TRUE;
}

/* Only names of features stand between the header and the end of its extensions. */
static gboolean extensions_are_plain(int fd, guint64 at, guint64 end)
{
    guint8 e[8];
    for (; at + sizeof e <= end; at += sizeof e + ((guint64) get32(e + 4) + 7) / 8 * 8) {
        if (pread(fd, e, sizeof e, (off_t) at) != sizeof e)
            return FALSE;
        if (get32(e) == EXTENSION_END)
            return TRUE;
        if (get32(e) != EXTENSION_NAMES)
            return FALSE;
    }
    return FALSE;
}

gboolean qcow2_is_plain(int fd, gint64 length, gint64 virtual_size)
{
    struct qcow2_info info;
    const char *why;
    guint8 h[HEADER_V3];
    if (!qcow2_read(fd, &info, &why) || info.virtual_size != virtual_size || *info.backing != '\0' ||
        pread(fd, h, sizeof h, 0) != sizeof h || get32(h + 4) != 3)
        return FALSE;
    guint32 bits = get32(h + 20), header = get32(h + 100);
    gboolean has_features = get64(h + 72) != 0 || get64(h + 80) != 0 || get64(h + 88) != 0;
    if (get64(h + 8) != 0 || has_features || get32(h + 96) != 4 || bits < PLAIN_BITS || bits > MAX_BITS)
        return FALSE;
    if (length % ((gint64) 1 << bits) != 0 || header < HEADER_V3 || header % 8 != 0)
        return FALSE;
    return extensions_are_plain(fd, header, (guint64) 1 << bits);
}
