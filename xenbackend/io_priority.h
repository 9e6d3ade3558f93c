/* io_priority.h - how processes that serve a domain's disks stand among others at the disk: VBD.qos_algorithm_type
 * "ionice", by ioprio_set(2). What it does there is up to the host's I/O scheduler (bfq heeds all of it, mq-deadline
 * the classes, none nothing). */
#ifndef XENAPID_IO_PRIORITY_H
#define XENAPID_IO_PRIORITY_H

#include <sys/types.h>

#include "daemon/value/value.h"

#define IO_PRIORITY_NONE 0 /* as the kernel has it: by the processor's nice value */

/* What the description of a disk asks for, as a number for ioprio_set. sched is "rt", "real-time", "best-effort" (also
 * when it is missing) or "idle"; class 0 (first) to 7, or "highest", "high", "normal" (also when it is missing), "low",
 * "lowest". IO_PRIORITY_NONE when it asks for nothing, or for what is not known here. */
int io_priority_of(struct value *vbd);
/* Of two the one that goes first. */
int io_priority_first(int a, int b);
/* Gives it to all threads of a process, or to a kernel thread; those that have it stay as they are. FALSE, with errno,
 * when one of them did not get it; a process that is gone is no fault. Any thread. */
gboolean io_priority_give(pid_t pid, int priority);

#endif
