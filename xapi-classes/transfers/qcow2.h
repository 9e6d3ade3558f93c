/* qcow2.h - the qcow2 format (QEMU, docs/interop/qcow2.rst): its header and table entries as bytes. No input, no
 * output. */
#ifndef XENAPID_QCOW2_H
#define XENAPID_QCOW2_H

#include <glib.h>

#define QCOW2_HEADER     1024 /* what is read and written of it; longer names of backing files are not known here */
#define QCOW2_MOST_L1    (4 * 1024 * 1024) /* entries of the first table */
#define QCOW2_COPIED     (G_GUINT64_CONSTANT(1) << 63)
#define QCOW2_COMPRESSED (G_GUINT64_CONSTANT(1) << 62)
#define QCOW2_ZERO       G_GUINT64_CONSTANT(1)
#define QCOW2_OFFSET     G_GUINT64_CONSTANT(0x00fffffffffffe00)

struct qcow2_header {
    guint32 version, cluster_bits, l1_entries;
    gint64 size, l1_offset;
    gint64 refcounts_offset; /* only written, */
    guint32 refcounts_clusters;
    gboolean zstd;     /* how clusters are compressed */
    char backing[512]; /* "" when there is none */
};

/* Where the compressed bytes of a cluster are: up to *len from *offset on. */
void qcow2_compressed_place(guint64 entry, guint32 cluster_bits, gint64 *offset, gsize *len);
/* Version 3. */
void qcow2_format_header(guint8 bytes[QCOW2_HEADER], const struct qcow2_header *h);
/* NULL, or what is wrong with it. *unsupported: it may be right, but is of a kind that is not read here. */
const char *qcow2_parse_header(const guint8 bytes[QCOW2_HEADER], struct qcow2_header *h, gboolean *unsupported);
guint64 qcow2_entry(const guint8 *table, gsize i);
void qcow2_put_entry(guint8 *table, gsize i, guint64 entry);

#endif
