/* handlers.h - prototypes of all that a row may name: the messages' handlers out of the rows themselves, and by hand
 * those that stand in attributes. */
#ifndef XENAPID_HANDLERS_H
#define XENAPID_HANDLERS_H

#include "xapi-classes/model/model.h"

#define MESSAGE(name, handler, ...) handler_fn handler;
#include "xapi-classes/model/all.def"

/* ---- CREATED_BY, DESTROYED_BY ---- */

handler_fn vm_create, vm_destroy;
handler_fn vbd_create, vbd_destroy;
handler_fn vif_create, vif_destroy;
handler_fn console_create;
handler_fn network_create, network_destroy;
handler_fn vdi_create, vdi_destroy;
handler_fn vmss_create, vmss_destroy;
handler_fn vm_appliance_destroy;
handler_fn pbd_create, pbd_destroy;
handler_fn cpu_pool_create, cpu_pool_destroy;

handler_fn subject_create;
handler_fn subject_destroy;

/* ---- FIELDS_BY, RECORD_BY, BY_UUID_BY, BY_NAME_BY ---- */

handler_fn session_get;
handler_fn session_get_record;
handler_fn session_get_by_uuid;
handler_fn role_get;
handler_fn role_get_record;
handler_fn role_get_by_uuid;
handler_fn role_get_by_name_label;
all_fn role_all;

/* ---- GETTER, SETTER, ADDER, REMOVER ---- */

handler_fn vm_set_is_a_template;
handler_fn vbd_set_userdevice, vbd_set_qos, vbd_add_to_qos, vbd_remove_from_qos;
handler_fn network_set_MTU;
handler_fn cpu_pool_set_name_label, cpu_pool_set_ncpu, cpu_pool_add_proposed_CPUs, cpu_pool_remove_proposed_CPUs;

/* DERIVE: see operation.h. */

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

/* What generic_create does, inside a transaction of the caller's, for classes that check or complete the new object.
 * uuid may be NULL: a new one. Answers its reference (heap), or NULL with c's fault set; the caller commits or aborts.
 */
struct value *generic_create_in(struct call *c, struct txn *t, const char *uuid);

#endif
