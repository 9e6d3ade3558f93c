/* rfb.h - one look at a screen: a client of RFB (RFC 6143) that takes a single picture, and that picture as PNG. */
#ifndef XENAPID_RFB_H
#define XENAPID_RFB_H

#include "daemon/value/value.h"

#define RFB_MOST_PIXELS (16 * 1024 * 1024)

struct rfb_picture {
    guint width, height;
    guint8 *pixels; /* red, green, blue, unused of each; g_free */
};

/* What the server behind the connected socket shows. Blocks until deadline (monotonic microseconds) at most, or until
 * *cancel is not 0 (NULL is allowed). FALSE with f set: INTERNAL_ERROR [what]. */
gboolean rfb_look(int fd, gint64 deadline, gint *cancel, struct rfb_picture *p, struct fault *f);
GBytes *rfb_png(const struct rfb_picture *p);

#endif
