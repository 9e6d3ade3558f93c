/* rrd.h - the history of figures: of each running VM, of the host and of attached SRs, sampled every five seconds into
 * archives of ever longer steps, in memory. What graphs ask for: GET /rrd_updates, /vm_rrd, /host_rrd, /sr_rrd. */
#ifndef XENAPID_RRD_H
#define XENAPID_RRD_H

#include "daemon/store/store.h"

/* Begins to sample. Once, with the store open. */
void rrd_init(void);
/* Whether the figure of that object is recorded; all are, until somebody asks to forget one. Any thread. */
gboolean rrd_is_recorded(const char *uuid, const char *source);
void rrd_record(const char *uuid, const char *source);
/* Its archives go, and no new ones are made before rrd_record. */
void rrd_forget(const char *uuid, const char *source);

/* ---- for those who show them: archives ---- */

#define RRD_STEP 5 /* seconds of the finest */
enum { RRD_ARCHIVES = 4 };
struct rrd_archive {
    int step, rows; /* seconds; how many are kept */
};
extern const struct rrd_archive rrd_archives[RRD_ARCHIVES];

/* One column: what an archive holds of one figure from time to time. */
struct rrd_column {
    const char *kind; /* "vm", "host", "sr" */
    char *uuid, *source;
    double *values; /* n of them, oldest first; NaN where nothing is known */
};
/* Whose columns: RRD_ALL stands for all of a kind, NULL for none. */
#define RRD_ALL ""
struct rrd_which {
    const char *vm, *sr, *host; /* uuids */
};
/* The averages of these columns at first, first + step, ... (n of them, multiples of the archive's step). The array
 * frees its columns. */
GPtrArray *rrd_columns(int archive, gint64 first, int n, const struct rrd_which *which);

/* ---- who knows the figures (vm_data_source.c, data_source.c): a SET of data_source records. Heap ---- */

struct value *vm_data_sources(const struct record *vm);
struct value *host_data_sources(const struct record *host);
struct value *sr_data_sources(const struct record *sr);
/* Adds one such record to the set: what its unit and its greatest value are, and the value now. */
void rrd_add_source(struct value_builder *set, const char *uuid, const char *name, const char *words, const char *units,
                    double max, double v);

#endif
