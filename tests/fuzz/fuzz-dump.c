/* fuzz-dump.c - any bytes as a dump of the store, in one piece and in small ones: both come to the same. */
#include "xapi-classes/transfers/dump.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size);

static void check(gboolean ok, const char *what)
{
    if (ok)
        return;
    g_printerr("%s\n", what);
    abort(); /* libFuzzer keeps the input then */
}

static gboolean count(const struct class *class, const char *ref, struct value *fields, void *data,
                      G_GNUC_UNUSED struct fault *f)
{
    check(dump_has_class(class), "a row of a class that has none");
    check(strlen(ref) < REF_SIZE, "a reference that is too long");
    check(fields->type == VALUE_MAP, "a row that is no map");
    (*(guint *) data)++;
    return TRUE;
}

/* The rows; *whole: it was a dump from its beginning to its end. */
static guint read_in(const char *data, gsize size, gsize piece, gboolean *whole)
{
    guint rows = 0;
    struct fault f = FAULT_INIT;
    g_autoptr(dump_reader) r = dump_reader_new(count, &rows);
    *whole = TRUE;
    for (gsize at = 0; at < size && *whole; at += piece)
        *whole = dump_reader_feed(r, data + at, MIN(piece, size - at), &f);
    *whole = *whole && dump_reader_end(r, &f);
    check(*whole == (f.code == NULL), "neither a result nor a fault");
    fault_clear(&f);
    return rows;
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    static gsize once;
    gboolean whole, again;
    if (g_once_init_enter(&once)) {
        model_init();
        g_once_init_leave(&once, 1);
    }
    guint rows = read_in((const char *) data, size, MAX(size, 1), &whole);
    guint rows_again = read_in((const char *) data, size, 7, &again);
    check(whole == again, "whole in one piece, but not in small ones");
    check(!whole || rows == rows_again, "other rows in small pieces");
    return 0;
}
