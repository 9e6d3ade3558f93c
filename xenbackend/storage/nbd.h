/* nbd.h - a disk image served over NBD by a qemu-nbd of its own, to the one client that holds the other end. */
#ifndef XENAPID_NBD_H
#define XENAPID_NBD_H

#include "daemon/value/value.h"

struct nbd;

/* Serves the image file at path (format "raw" or "qcow2"). *fd is a connected socket on which the server has greeted;
 * when it is closed (all copies of it), the server writes back what it holds and ends; but it waits for ever for a
 * client that has gone before NBD's handshake was over. What it wrote to a file may still be in the system's cache: the
 * caller syncs the file. NULL with f set:
 * SR_BACKEND_FAILURE with the tool's words. Blocks for the start; any thread. */
struct nbd *nbd_start(const char *path, const char *format, gboolean writable, int *fd, struct fault *f);
/* Waits for its end, at most that long (-1: for ever): TRUE when it ended, and well; FALSE with f set. Only one thread
 * at a time. */
gboolean nbd_wait(struct nbd *n, int timeout_ms, struct fault *f);
/* Whether it has ended, after at most that long. Any thread. */
gboolean nbd_has_ended(struct nbd *n, int timeout_ms);
/* Ends it at once, whatever it still had to write; nbd_wait tells when it has gone. Any thread. */
void nbd_kill(struct nbd *n);
/* Gives all of it an I/O priority (io_priority.h); one that has ended is no fault. Any thread. */
void nbd_give_priority(struct nbd *n, int priority);
/* Kills it when it has not ended. NULL is allowed. */
void nbd_free(struct nbd *n);

#endif
