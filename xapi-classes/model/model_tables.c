/* model_tables.c - the .def files read once for each kind of row, and the table of classes made of the results. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/model/model_private.h"
#include "xapi-classes/model/model_rows.h"
#include "xapi-classes/vm/operation.h"

/* Halves of initialisers are no C to the formatter. */
/* clang-format off */

#define ENUM(name, ...) \
    static const struct enum_type ENUM_ID1(THIS, name) = {#name, (const char *const[]){__VA_ARGS__, NULL}};
#include "xapi-classes/model/all.def"

#define CLASS_BEGIN     static const struct enum_type *const G_PASTE(enums_, THIS)[] = {
#define ENUM(name, ...)     &ENUM_ID1(THIS, name),
#define CLASS_END           NULL};
#include "xapi-classes/model/all.def"

#define CLASS_BEGIN     static struct field G_PASTE(fields_, THIS)[] = {
#define FIELD(name, type, qualifier, initial, doc, ...) {#name, type, qualifier, initial, doc, ##__VA_ARGS__},
#define CLASS_END           {NULL}};
#include "xapi-classes/model/all.def"

#define CLASS_BEGIN     static const struct message G_PASTE(messages_, THIS)[] = {
#define MESSAGE(name, handler, result, args, doc, ...) {#name, handler, result, args, doc, ##__VA_ARGS__},
#define CLASS_END           {NULL}};
#include "xapi-classes/model/all.def"

#define CLASS_BEGIN     static const struct key_role G_PASTE(key_roles_, THIS)[] = {
#define KEY_ROLE(field, key, role) {#field, key, ROLE_##role},
#define CLASS_END           {NULL}};
#include "xapi-classes/model/all.def"

#define CLASS(flags, doc, ...) {G_STRINGIFY(THIS), doc, STATE_published, flags, G_PASTE(enums_, THIS), \
    G_PASTE(fields_, THIS), G_PASTE(messages_, THIS), G_PASTE(key_roles_, THIS), ##__VA_ARGS__},
struct class model_classes[N_CLASSES] = {
#include "xapi-classes/model/all.def"
};

#define ERROR(code, doc, ...) {#code, (const char *const[]){__VA_ARGS__ __VA_OPT__(,) NULL}, doc},
const struct error_row model_error_rows[] = {
#include "xapi-classes/model/errors.def"
    {NULL},
};
