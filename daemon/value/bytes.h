/* bytes.h - big-endian numbers in formats and protocols (VHD, qcow2, NBD), wherever they lie: nothing needs to be
 * aligned. */
#ifndef XENAPID_BYTES_H
#define XENAPID_BYTES_H

#include <string.h>

#include <glib.h>

/* p has room for the number. Any thread. */
static inline void put32(guint8 *p, guint32 n)
{
    n = GUINT32_TO_BE(n);
    memcpy(p, &n, sizeof n);
}

static inline void put64(guint8 *p, guint64 n)
{
    n = GUINT64_TO_BE(n);
    memcpy(p, &n, sizeof n);
}

static inline guint32 get32(const guint8 *p)
{
    guint32 n;
    memcpy(&n, p, sizeof n);
    return GUINT32_FROM_BE(n);
}

static inline guint64 get64(const guint8 *p)
{
    guint64 n;
    memcpy(&n, p, sizeof n);
    return GUINT64_FROM_BE(n);
}

#endif
