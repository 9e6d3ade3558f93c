/* dump.h - the whole store as one XML document, as backup clients keep it:
 *
 *   <database><manifest><pair key="schema_major_vsn" value="1"/>...</manifest>
 *   <table name="VM"><row ref="OpaqueRef:..." name__label="..."/>...</table>...</database>
 *
 * A field that has its initial value is left out. Texts are as in other servers' dumps: ('a' 'b') for sets, (('k' 'v'))
 * for maps, blanks as "%.", "%t", "%n", "%r", "%%". */
#ifndef XENAPID_DUMP_H
#define XENAPID_DUMP_H

#include "daemon/store/journal.h"
#include "daemon/store/store.h"

#define DUMP_MOST ((gint64) 512 << 20) /* bytes that are read */

/* TRUE for classes whose objects are in dumps: all that are durable but tasks. */
gboolean dump_has_class(const struct class *class);

/* ---- writing ---- */

/* Appends. */
void dump_begin(GString *out);
void dump_table_begin(GString *out, const struct class *class);
void dump_row(GString *out, const struct record *r);
void dump_table_end(GString *out);
void dump_end(GString *out);

/* ---- reading, as it comes ---- */

/* fields: a MAP, each of its field's type; borrowed. FALSE with f set ends the reading. */
typedef gboolean dump_row_fn(const struct class *class, const char *ref, struct value *fields, void *data,
                             struct fault *f);
struct dump_reader;
struct dump_reader *dump_reader_new(dump_row_fn *fn, void *data);
/* FALSE with f set: RESTORE_INCOMPATIBLE_VERSION, INVALID_VALUE [xmldbdump, what], DB_UNIQUENESS_CONSTRAINT_VIOLATION
 * [table, field, value]. */
gboolean dump_reader_feed(struct dump_reader *r, const char *data, gsize len, struct fault *f);
/* That was all: whether the dump was whole. */
gboolean dump_reader_end(struct dump_reader *r, struct fault *f);
void dump_reader_free(struct dump_reader *r); /* NULL is allowed */
typedef struct dump_reader dump_reader;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(dump_reader, dump_reader_free)

/* ---- restoring, in two steps: what was read is put into a file in the state directory, which the next start makes the
 * store's content, in one step, before it is opened ---- */

struct dump_restore;
/* NULL with f set. */
struct dump_restore *dump_restore_new(const char *state_dir, struct fault *f);
dump_row_fn dump_restore_add; /* data: the struct dump_restore */
/* TRUE: the file is there, on stable storage. */
gboolean dump_restore_commit(struct dump_restore *d, struct fault *f);
void dump_restore_free(struct dump_restore *d); /* without a commit nothing stays. NULL is allowed */
typedef struct dump_restore dump_restore;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(dump_restore, dump_restore_free)

/* At start: applies what a restore has left, if anything. FALSE with *error set: the journal is what it was. */
gboolean dump_apply(struct journal *j, const char *state_dir, GError **error);

#endif
