/* generic_list.h - what generic.c and generic_list.c share. */
#ifndef XENAPID_GENERIC_LIST_H
#define XENAPID_GENERIC_LIST_H

#include "daemon/store/store.h"

struct expr;

/* A map of the records (those for which e holds, unless it is NULL) by their references. */
struct value *generic_records_of(GPtrArray *records, const struct expr *e);
/* All records of a class as one piece of bytes that others share; NULL when it is not worth having. */
struct value *generic_list(enum class_id class);

#endif
