/* clock.h - things to do later: one thread with timers. Callbacks must be quick. */
#ifndef XENAPID_CLOCK_H
#define XENAPID_CLOCK_H

#include <glib.h>

typedef void clock_fn(void *data);
void clock_init(void);
void clock_stop(void);
/* Calls fn once after ms, on the clock's thread; the id is never 0. */
guint64 clock_after(guint ms, clock_fn *fn, void *data);
/* Calls fn every ms. */
guint64 clock_every(guint ms, clock_fn *fn, void *data);
/* TRUE: it will not run (any more); FALSE: it has run, or is running now on the clock's thread. */
gboolean clock_cancel(guint64 id);

#endif
