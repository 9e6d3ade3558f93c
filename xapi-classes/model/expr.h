/* expr.h - the query language of get_all_where and get_all_records_where.
 *
 *     expr  = operand { ("and" | "or") operand }     of equal rank, from left to right
 *     operand = "not" expr | "(" expr ")" | "true" | "false" | value "=" value
 *     value = "field" text | text
 *
 * A text stands in double or single quotes and knows no escapes. "not" reaches as far to the right as it can: both this
 * and the equal rank of "and" and "or" are how xapi reads it. A field is named as in the API or as in xapi's database
 * (name__label, _ref), and compared by its text: true, 42, ('a' 'b'), (('k' 'v')). */
#ifndef XENAPID_EXPR_H
#define XENAPID_EXPR_H

#include "daemon/store/store.h"

struct expr;

/* NULL with f set, INVALID_VALUE [expr, text], when it does not parse, nests too deeply or names an unknown field. */
struct expr *expr_parse(const struct class *class, const char *text, struct fault *f);
void expr_free(struct expr *e);
/* r is of the class that e was parsed for. */
gboolean expr_matches(const struct expr *e, const struct record *r);

typedef struct expr expr;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(expr, expr_free)

#endif
