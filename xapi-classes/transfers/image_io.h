/* image_io.h - disk images in other formats, read from the bytes that a client sends: what a reader (vhd_in.c,
 * qcow2_in.c) is given, so that it knows neither HTTP nor storage. All functions but progress answer FALSE with f set
 * when they fail. */
#ifndef XENAPID_IMAGE_IO_H
#define XENAPID_IMAGE_IO_H

#include "daemon/value/value.h"

#define IMAGE_CHUNK (1024 * 1024) /* most that is read or written at once */

struct image_io {
    void *data;          /* for the functions */
    gint64 size;         /* of the disk that the content is for */
    const char *vdi_ref; /* for faults */
    gint64 length;       /* of the image; -1: it is not known before its end */
    gboolean difference; /* what the image does not say stays as it is. A reader whose format tells sets it */

    /* Of a stream: the next bytes; fewer than asked for at its end; -1: f is set. */
    gssize (*next)(void *data, void *buffer, gsize len, struct fault *f);
    /* Of an image that is there as a whole: what is at offset. Zeroes past its end. */
    gboolean (*at)(void *data, void *buffer, gsize len, gint64 offset, struct fault *f);

    /* The disk's new content, which is all zeroes at first. */
    gboolean (*write)(void *data, const void *bytes, gsize len, gint64 offset, struct fault *f);
    /* Its old content, for differences: as it was, into the buffer, or into the new content. */
    gboolean (*old)(void *data, void *buffer, gsize len, gint64 offset, struct fault *f);
    gboolean (*keep)(void *data, gint64 offset, gint64 len, struct fault *f);

    void (*progress)(void *data, double fraction);
};

/* VDI_TOO_SMALL, unless an image of that size fits. */
gboolean image_fits(const struct image_io *io, gint64 size, struct fault *f);

/* Each reads one image; IMPORT_ERROR [what], IMPORT_ERROR_PREMATURE_EOF, VALUE_NOT_SUPPORTED, VDI_TOO_SMALL.
 *
 * vhd: from a stream; fixed, dynamic and differencing ones (whose parent is what the disk holds). */
gboolean vhd_read(struct image_io *io, struct fault *f);
/* qcow2: from the whole. Versions 2 and 3, compressed or not; no encryption, no external data, no extended L2 entries.
 * A backing file is never opened: one that is named "UUID.qcow2" makes it a difference, any other is refused. */
gboolean qcow2_read(struct image_io *io, struct fault *f);

#endif
