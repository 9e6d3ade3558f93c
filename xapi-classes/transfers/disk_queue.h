/* disk_queue.h - several requests under way to the server of a disk image, so that it works while its client waits for
 * the network. A thread of its own drives the connection; it uses no more than a few mebibytes. */
#ifndef XENAPID_DISK_QUEUE_H
#define XENAPID_DISK_QUEUE_H

#include <libnbd.h>

#include "daemon/value/value.h"

#define DISK_CHUNK (1024 * 1024) /* the most of one request */

struct disk_queue;

/* nbd is connected, stays the caller's, and is used by the queue alone as long as there is one, but for after
 * disk_queue_rest. Only one thread may use the queue. */
struct disk_queue *disk_queue_new(struct nbd_handle *nbd);
/* Copies data (at most DISK_CHUNK) and lets it be written; waits when too much is under way. What overlaps is written
 * in the order of the calls. FALSE: this or an earlier one failed (disk_queue_why). */
gboolean disk_queue_write(struct disk_queue *q, const void *data, gsize len, gint64 offset);
/* Reads at most DISK_CHUNK. Where it goes on from the last one, what follows is asked for, too, in pieces of the same
 * length up to limit, and kept for the next calls. FALSE: disk_queue_why tells. */
gboolean disk_queue_read(struct disk_queue *q, void *buffer, gsize len, gint64 offset, gint64 limit);
/* Waits until nothing is under way. FALSE when something that was written failed (disk_queue_why). */
gboolean disk_queue_rest(struct disk_queue *q);
/* The errno of what failed first, 0 when nothing did. *text: in words, the queue's; NULL is allowed. */
int disk_queue_why(const struct disk_queue *q, const char **text);
/* Cuts the connection when anything is under way. NULL is allowed. */
void disk_queue_free(struct disk_queue *q);

#endif
