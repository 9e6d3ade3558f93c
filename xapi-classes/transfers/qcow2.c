/* qcow2.c - headers and table entries of qcow2 images. */
#include "config.h"
#include "xapi-classes/transfers/qcow2.h"
#include "daemon/value/bytes.h"

#include <string.h>

/* Where the fields are. */
enum {
    F_VERSION = 4,
    F_BACKING = 8,
    F_BACKING_LEN = 16,
    F_CLUSTER_BITS = 20,
    F_SIZE = 24,
    F_CRYPT = 32,
    F_L1_ENTRIES = 36,
    F_L1 = 40,
    F_REFCOUNTS = 48,
    F_REFCOUNTS_CLUSTERS = 56,
    F_INCOMPATIBLE = 72,
    F_REFCOUNT_ORDER = 96,
    F_LENGTH = 100,
    F_COMPRESSION = 104,
    HEADER_LENGTH = 112
};

#define BIT_DIRTY       1 /* counts that nobody needs who reads */
#define BIT_CORRUPT     2
#define BIT_DATA_FILE   4
#define BIT_COMPRESSION 8
#define BIT_EXTENDED    16
#define EXT_FORMAT      0xe2792acau /* of the backing file */
#define LEAST_BITS      9
#define MOST_BITS       21
#define MOST_SIZE       ((guint64) 64 << 40)

guint64 qcow2_entry(const guint8 *table, gsize i)
{
    return get64(table + i * 8);
}

void qcow2_put_entry(guint8 *table, gsize i, guint64 entry)
{
    put64(table + i * 8, entry);
}

void qcow2_compressed_place(guint64 entry, guint32 cluster_bits, gint64 *offset, gsize *len)
{
    guint32 bits = 62 - (cluster_bits - 8);
    *offset = (gint64) (entry & ((G_GUINT64_CONSTANT(1) << bits) - 1));
    gsize sectors = (gsize) (entry >> bits) & (((gsize) 1 << (cluster_bits - 8)) - 1);
    *len = (sectors + 1) * 512 - ((gsize) *offset & 511);
}

void qcow2_format_header(guint8 bytes[QCOW2_HEADER], const struct qcow2_header *h)
{
    guint8 *p = bytes + HEADER_LENGTH;
    memset(bytes, 0, QCOW2_HEADER);
    memcpy(bytes, "QFI\xfb", 4);
    put32(bytes + F_VERSION, 3);
    put32(bytes + F_CLUSTER_BITS, h->cluster_bits);
    put64(bytes + F_SIZE, (guint64) h->size);
    put32(bytes + F_L1_ENTRIES, h->l1_entries);
    put64(bytes + F_L1, (guint64) h->l1_offset);
    put64(bytes + F_REFCOUNTS, (guint64) h->refcounts_offset);
    put32(bytes + F_REFCOUNTS_CLUSTERS, h->refcounts_clusters);
    put32(bytes + F_REFCOUNT_ORDER, 4);
    put32(bytes + F_LENGTH, HEADER_LENGTH);
    if (*h->backing == '\0')
        return;
    put32(p, EXT_FORMAT);
    put32(p + 4, 5);
    memcpy(p + 8, "qcow2", 5);
    p += 8 + 8 + 8; /* and the end of the extensions, which is zeroes */
    put64(bytes + F_BACKING, (guint64) (p - bytes));
    put32(bytes + F_BACKING_LEN, (guint32) strlen(h->backing));
    memcpy(p, h->backing, strlen(h->backing));
}

static const char *parse_backing(const guint8 *bytes, struct qcow2_header *h, gboolean *unsupported)
{
    guint64 offset = get64(bytes + F_BACKING);
    guint32 len = get32(bytes + F_BACKING_LEN);
    *h->backing = '\0';
    if (offset == 0)
        return NULL;
    *unsupported = TRUE;
    if (len == 0 || len >= sizeof h->backing || offset < F_INCOMPATIBLE || offset > QCOW2_HEADER - len)
        return "a backing file";
    memcpy(h->backing, bytes + offset, len);
    h->backing[len] = '\0';
    *unsupported = FALSE;
    return strlen(h->backing) == len ? NULL : "the name of the backing file is damaged";
}

static const char *parse_features(const guint8 *bytes, struct qcow2_header *h, gboolean *unsupported)
{
    guint64 features = get64(bytes + F_INCOMPATIBLE);
    if (features & BIT_CORRUPT)
        return "the qcow2 image is marked as corrupt";
    *unsupported = TRUE;
    if (features & BIT_DATA_FILE)
        return "an external data file";
    if (features & ~(guint64) (BIT_DIRTY | BIT_COMPRESSION))
        return features & BIT_EXTENDED ? "extended L2 entries" : "unknown features";
    h->zstd = (features & BIT_COMPRESSION) && get32(bytes + F_LENGTH) > F_COMPRESSION && bytes[F_COMPRESSION] == 1;
    if ((features & BIT_COMPRESSION) && !h->zstd && bytes[F_COMPRESSION] != 0)
        return "an unknown kind of compression";
    *unsupported = FALSE;
    return NULL;
}

static const char *check_sizes(const struct qcow2_header *h, guint64 size, guint64 l1)
{
    if (h->cluster_bits < LEAST_BITS || h->cluster_bits > MOST_BITS)
        return "clusters of a strange size";
    if (size == 0 || size > MOST_SIZE || size % 512 != 0)
        return "a strange size of the disk";
    guint64 of_entry = (guint64) 1 << (2 * h->cluster_bits - 3); /* bytes of the disk */
    if (h->l1_entries > QCOW2_MOST_L1 || h->l1_entries < (size + of_entry - 1) / of_entry)
        return "a table of a strange size";
    return l1 > 0 && l1 <= MOST_SIZE && l1 % 512 == 0 ? NULL : "a table in a strange place";
}

const char *qcow2_parse_header(const guint8 bytes[QCOW2_HEADER], struct qcow2_header *h, gboolean *unsupported)
{
    *unsupported = FALSE;
    memset(h, 0, sizeof *h);
    h->version = get32(bytes + F_VERSION);
    if (memcmp(bytes, "QFI\xfb", 4) != 0 || (h->version != 2 && h->version != 3))
        return "this is no qcow2 image";
    h->cluster_bits = get32(bytes + F_CLUSTER_BITS);
    h->l1_entries = get32(bytes + F_L1_ENTRIES);
    const char *wrong = check_sizes(h, get64(bytes + F_SIZE), get64(bytes + F_L1));
    h->size = (gint64) get64(bytes + F_SIZE);
    h->l1_offset = (gint64) get64(bytes + F_L1);
    if (wrong)
        return wrong;
    if (get32(bytes + F_CRYPT) != 0) {
        *unsupported = TRUE;
        return "encryption";
    }
    wrong = h->version == 3 ? parse_features(bytes, h, unsupported) : NULL;
    return wrong ? wrong : parse_backing(bytes, h, unsupported);
}
