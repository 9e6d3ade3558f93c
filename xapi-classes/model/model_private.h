/* model_private.h - what the files of the model share among themselves. */
#ifndef XENAPID_MODEL_PRIVATE_H
#define XENAPID_MODEL_PRIVATE_H

#include "xapi-classes/model/model.h"

/* The rows as written; model_init() fills in the rest. */
extern struct class model_classes[N_CLASSES];
extern const struct error_row model_error_rows[]; /* ended by a row without a code */

/* The value that the API's notation of a default stands for ({}, "0.", {"a" -> "b"}), heap; NULL when it is none of the
 * type. */
struct value *type_parse_initial(const struct type *t, const char *text);

/* The messages that class has because of its fields and flags, appended to all. */
void model_derive_messages(const struct class *class, GPtrArray *all);

#endif
