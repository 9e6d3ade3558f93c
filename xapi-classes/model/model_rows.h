/* model_rows.h - what may stand in a row of a class's .def file: types, and the attributes that end a row.
 *
 *     FIELD(power_state, ENUM_OF(vm_power_state), RO, INITIAL("Halted"), "What it is for", ATTRIBUTE, ...)
 *     MESSAGE(start, vm_start, VOID, ARGS(ARG(REF(VM), vm), ...), "What it does", ATTRIBUTE, ...)
 *     CLASS(OBJECT | GET_ALL, "What it stands for", ATTRIBUTE, ...)
 *     ENUM(vm_power_state, "Halted", ...)
 *     KEY_ROLE(other_config, "folder", vm_operator)
 *
 * For the one file that builds the tables from them: the names are too short to be let loose on any other. */
#ifndef XENAPID_MODEL_ROWS_H
#define XENAPID_MODEL_ROWS_H

#include "xapi-classes/model/model.h"

/* ---- types ---- */

#define TYPE(...)      (&(const struct type){__VA_ARGS__})
#define VOID           TYPE(TYPE_VOID)
#define STRING         TYPE(TYPE_STRING)
#define INT            TYPE(TYPE_INT)
#define FLOAT          TYPE(TYPE_FLOAT)
#define BOOL           TYPE(TYPE_BOOL)
#define DATETIME       TYPE(TYPE_DATETIME)
#define EVENT_BATCH    TYPE(TYPE_EVENT_BATCH)
#define REF(x)         TYPE(TYPE_REF, .class = CLASS_##x)
#define RECORD(x)      TYPE(TYPE_RECORD, .class = CLASS_##x)
#define ANY_RECORD     TYPE(TYPE_RECORD, .class = CLASS_NONE)
#define SET(t)         TYPE(TYPE_SET, .elem = t)
#define MAP(k, t)      TYPE(TYPE_MAP, .key = k, .elem = t)
#define OPTION(t)      TYPE(TYPE_OPTION, .elem = t)
#define ENUM_OF(name)  TYPE(TYPE_ENUM, .enumeration = &ENUM_ID1(THIS, name)) /* one of the same class */
#define ENUM_ID2(c, n) enum_##c##_##n
#define ENUM_ID1(c, n) ENUM_ID2(c, n)

/* ---- attributes of any row ---- */

#define STATE(x) .state = STATE_##x
#define ROLE(x)  .role = ROLE_##x
#define CERT     .client_cert = TRUE
#define API10    .api_1_0 = TRUE

/* ---- of a field ---- */

#define INITIAL(text)    text
#define NO_DEFAULT       NULL
#define MIRROR(c, field) .mirrors = TRUE, .mirror_class = CLASS_##c, .mirror_field = F_##c##_##field
#define EPHEMERAL_FIELD  .ephemeral = TRUE
#define GETTER(h)        .getter = h
#define SETTER(h)        .setter = h
#define ADDER(h)         .adder = h
#define REMOVER(h)       .remover = h

/* ---- of a message ---- */

#define ARG(t, name)                                                                                                   \
    {                                                                                                                  \
        t, #name                                                                                                       \
    }
#define ARGS(...)   (const struct param[]){__VA_ARGS__}, N_ARGS((const struct param[]){__VA_ARGS__})
#define N_ARGS(...) (sizeof(__VA_ARGS__) / sizeof(struct param))
#define NO_ARGS     NULL, 0
#define ERRORS(...)                                                                                                    \
    .errors = (const char *const[])                                                                                    \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }
#define LONG        .long_running = TRUE
#define OVER        .over = TRUE
#define OP(x)       .op = #x
#define NO_SESSION  .no_session = TRUE
#define OPTIONAL(n) .optional = n
#define SECRET      .secret = TRUE
#define FOR_DRIVERS .for_drivers = TRUE

/* ---- of a class ---- */

#define CREATED_BY(h)   .create = h
#define DESTROYED_BY(h) .destroy = h
#define FIELDS_BY(h)    .get_field = h
#define RECORD_BY(h)    .get_record = h
#define BY_UUID_BY(h)   .get_by_uuid = h
#define BY_NAME_BY(h)   .get_by_name = h
#define ALL_BY(f)       .all = f
#define READ_ROLE(x)    .read_role = ROLE_##x
#define CREATE_LONG     .create_long = TRUE
#define DESTROY_LONG    .destroy_long = TRUE
#define DESTROY_OP(x)   .destroy_op = #x
#define CREATE_ROLE(x)  .create_role = ROLE_##x
#define DESTROY_ROLE(x) .destroy_role = ROLE_##x
#define DERIVE(f)       .derive = f

#endif
