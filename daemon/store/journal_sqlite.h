/* journal_sqlite.h - the parts of the SQLite journal that its tests look at: the schema's steps. */
#ifndef XENAPID_JOURNAL_SQLITE_H
#define XENAPID_JOURNAL_SQLITE_H

#include "daemon/store/journal.h"

/* SQL that brings a database from version i to i + 1; step 0 makes a new one. */
struct schema_step {
    const char *sql;
};
/* As journal_sqlite_open, with n_steps instead of SCHEMA_VERSION. */
struct journal *journal_sqlite_open_steps(const char *dir, const struct schema_step *steps, int n_steps,
                                          GError **error);
/* The connection (struct sqlite3). */
void *journal_sqlite_handle(struct journal *j);

#endif
