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

#endif
