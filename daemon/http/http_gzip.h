/* http_gzip.h - gzip for answers: at once, or in blocks as they are sent. */
#ifndef XENAPID_HTTP_GZIP_H
#define XENAPID_HTTP_GZIP_H

#include "daemon/codec/codec.h"

/* Whether an Accept-Encoding header (or NULL) takes gzip. */
gboolean gzip_accepted(const char *accept_encoding);

/* All of it; the answer is of malloc(), *size bytes. NULL when memory is out. */
void *gzip_ranges(const struct reply_range *ranges, gsize n, gsize length, gsize *size);

struct gzip;
struct gzip *gzip_new(void);
void gzip_free(struct gzip *g);
/* The next bytes of the stream, at most room; *at is the range that comes next. 0 at the end, -1 on failure. */
gssize gzip_stream(struct gzip *g, const struct reply_range *ranges, gsize n, gsize *at, char *buffer, gsize room);

#endif
