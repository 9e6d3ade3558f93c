/* handlers.h - prototypes of all that a row may name: the messages' handlers out of the rows themselves, and by hand
 * those that stand in attributes. */
#ifndef XENAPID_HANDLERS_H
#define XENAPID_HANDLERS_H

#include "xapi-classes/model.h"

#define MESSAGE(name, handler, ...) handler_fn handler;
#include "xapi-classes/all.def"

/* ---- CREATED_BY, DESTROYED_BY ---- */

/* ---- GETTER, SETTER, ADDER, REMOVER ---- */

/* ---- DERIVE ---- */

/* ---- the implicit messages (generic.c) ---- */

handler_fn generic_get;
handler_fn generic_set;
handler_fn generic_add_to;
handler_fn generic_remove_from;
handler_fn generic_add;
handler_fn generic_remove;
handler_fn generic_get_all;
handler_fn generic_get_all_where;
handler_fn generic_get_all_records;
handler_fn generic_get_all_records_where;
handler_fn generic_get_by_uuid;
handler_fn generic_get_by_name_label;
handler_fn generic_get_record;
handler_fn generic_create;
handler_fn generic_destroy;

#endif
