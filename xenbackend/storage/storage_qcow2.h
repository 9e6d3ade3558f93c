/* storage_qcow2.h - what the file driver must know of a qcow2 image, read from its header without starting a tool. */
#ifndef XENAPID_STORAGE_QCOW2_H
#define XENAPID_STORAGE_QCOW2_H

#include <glib.h>

#define QCOW2_BACKING_MAX 1024

struct qcow2_info {
    gint64 virtual_size;
    char backing[QCOW2_BACKING_MAX]; /* as written in the image; "" when it has none */
    gboolean empty;                  /* nothing was ever written to it: all of it is the backing image's, or zero */
};

/* Reads the header of the image behind fd. FALSE when it is no qcow2 image that we could have made (another version,
 * an external data file, encryption, internal snapshots, bounds that make no sense) or cannot be read; *why (static)
 * says which. */
gboolean qcow2_read(int fd, struct qcow2_info *info, const char **why);

/* TRUE when the image behind fd, of length bytes, is of the plain kind that we make ourselves, for a disk of that size:
 * version 3, whole, no other file named in it, no features, bitmaps or snapshots, clusters of 64 KiB or more. Of its
 * tables it says nothing. */
gboolean qcow2_is_plain(int fd, gint64 length, gint64 virtual_size);

#endif
