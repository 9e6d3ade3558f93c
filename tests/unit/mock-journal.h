/* mock-journal.h - a journal in memory that a test can stop, make fail, and look into. */
#ifndef XENAPID_TESTS_MOCK_JOURNAL_H
#define XENAPID_TESTS_MOCK_JOURNAL_H

#include "daemon/store/journal.h"

/* What survives the store: several journals may be opened over it one after the other. */
struct mock_disk {
    GMutex lock;
    GCond changed;
    GPtrArray *rows; /* of struct mock_row, in the order of creation */
    GHashTable *meta;
    gboolean held;    /* commits wait */
    gboolean failing; /* commits are refused */
    guint waiting;    /* commits that are waiting now */
    guint commits, refused, writes;
};
struct mock_row {
    char *ref, *class, *json;
};

struct mock_disk *mock_disk_new(void);
void mock_disk_free(struct mock_disk *d);
struct journal *mock_journal(struct mock_disk *d);
/* Stops commits; mock_await returns once one waits. */
void mock_hold(struct mock_disk *d);
void mock_await(struct mock_disk *d);
void mock_release(struct mock_disk *d);
void mock_fail(struct mock_disk *d, gboolean failing);
/* The row's JSON text, NULL when there is none. Call it when no commit is under way. */
const char *mock_row_text(struct mock_disk *d, const char *ref);

#endif
