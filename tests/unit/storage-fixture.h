/* storage-fixture.h - what the tests of storage drivers share: sizes, an SR's name, and faults that say what they are.
 */
#ifndef XENAPID_TESTS_STORAGE_FIXTURE_H
#define XENAPID_TESTS_STORAGE_FIXTURE_H

#include <glib.h>

#include "xenbackend/storage/storage.h"

#define MIB          ((gint64) 1 << 20)
#define SR           "11111111-1111-4111-8111-111111111111"
#define assert_ok(e) assert_no_fault((e), &f, #e, __LINE__) /* f: the fault of what e calls */

static const struct storage_job no_job;

static inline void assert_no_fault(gboolean done, struct fault *f, const char *what, int line)
{
    if (done)
        return;
    g_autofree char *text = fault_text(f);
    g_error("line %d: %s: %s", line, what, text);
}

static inline void assert_fault(struct fault *f, const char *code)
{
    g_assert_cmpstr(f->code, ==, code);
    fault_clear(f);
}

#endif
