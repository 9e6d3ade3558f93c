/* run.h - runs a tool (qemu-img and the like): an argument vector, no shell, a time limit, a way to stop it.
 *
 * The tool runs in its own process group with the locale C, no standard input (unless one is given) and no descriptors
 * but its own, and dies with the thread that started it. Any thread may call; the caller's thread blocks. */
#ifndef XENAPID_RUN_H
#define XENAPID_RUN_H

#include "daemon/value/value.h"

struct run_options {
    int timeout_s; /* 0: no limit */
    gint *cancel;  /* when it becomes nonzero the tool is killed; NULL: cannot be cancelled */
    /* Called with 0.0-1.0 as the tool prints "(12.34/100%)", as qemu-img -p does; NULL: not wanted. */
    void (*progress)(double fraction, void *data);
    void *data;
    const char *input; /* what the tool reads from its standard input; NULL: nothing */
    int *status;       /* not NULL: leaving with any status is no fault, and here is which it was */
};

/* Runs argv (NULL-terminated; argv[0] is looked up in PATH) to its end. TRUE when it left with status 0; its standard
 * output (at most 1 MiB of it) is then in *out, when out is not NULL, and the caller frees it. FALSE with f set:
 * SR_BACKEND_FAILURE [status, stdout, stderr] with the last words of both, TASK_CANCELLED [""]. o may be NULL. */
gboolean run_tool(const char *const *argv, const struct run_options *o, char **out, struct fault *f);

/* The last "(n/100%)" in text as a fraction; -1 when there is none. */
double run_parse_progress(const char *text);

#endif
