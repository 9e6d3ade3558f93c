/* model.h - the data model as tables: classes, fields, messages, types, enums, roles.
 *
 * The rows are written once, in xapi-classes/NAME.def, and read several times with different macros (see all.def, and
 * model_rows.h for what a row may hold): for the numbers below, for the descriptors, for the handlers' prototypes.
 * Everything here is constant after model_init() and may be read on any thread without a lock. */
#ifndef XENAPID_MODEL_H
#define XENAPID_MODEL_H

#include "daemon/value/value.h"

struct call;

/* A message's own code: the session, role, number and types of the arguments are checked before (daemon/call.h).
 * Answers a value that the caller will unref, or NULL after call_fail(). */
typedef struct value *handler_fn(struct call *call);

/* ---- numbers: CLASS_VM, F_VM_name_label ---- */

enum class_id {
#define CLASS(...) G_PASTE(CLASS_, THIS),
#include "xapi-classes/model/all.def"
    N_CLASSES,
    CLASS_NONE = N_CLASSES
};

/* Field numbers count from 0 in each class: F_VM_uuid, ... up to N_FIELDS_VM. */
#define FIELD_ID2(class, name) F_##class##_##name
#define FIELD_ID1(class, name) FIELD_ID2(class, name)
#define CLASS_BEGIN            enum {
#define FIELD(name, ...)       FIELD_ID1(THIS, name),
#define CLASS_END                                                                                                      \
    G_PASTE(N_FIELDS_, THIS)                                                                                           \
    }                                                                                                                  \
    ;
#include "xapi-classes/model/all.def"

/* ---- types ---- */

enum type_kind {
    TYPE_VOID,
    TYPE_STRING,
    TYPE_INT,
    TYPE_FLOAT,
    TYPE_BOOL,
    TYPE_DATETIME,
    TYPE_ENUM,
    TYPE_REF,
    TYPE_RECORD,
    TYPE_SET,
    TYPE_MAP,
    TYPE_OPTION,
    TYPE_EVENT_BATCH,
};

struct enum_type {
    const char *name;
    const char *const *values; /* NULL-terminated */
};

struct type {
    enum type_kind kind;
    const struct type *elem; /* SET, OPTION: the element; MAP: the value */
    const struct type *key;  /* MAP */
    enum class_id class;     /* REF, RECORD; CLASS_NONE: of any class */
    const struct enum_type *enumeration;
};

/* ---- roles: each reaches all that those below it reach ---- */

enum role {
    ROLE_none, /* no session at all: login */
    ROLE_read_only,
    ROLE_vm_operator,
    ROLE_vm_admin,
    ROLE_vm_power_admin,
    ROLE_pool_operator,
    ROLE_pool_admin,
    ROLE_local_root, /* not for any role: the local superuser only */
};

/* ---- rows ---- */

enum qualifier { RO, CTOR, RW }; /* RO/runtime, RO/constructor, RW */
enum api_state { STATE_published, STATE_deprecated, STATE_prototyped, STATE_removed };

enum class_flags {
    OBJECT = 1 << 0,     /* its objects are stored and have the implicit messages; without it: only a record's shape */
    GET_ALL = 1 << 1,    /* get_all, get_all_records, get_all_records_where, get_all_where */
    CREATE = 1 << 2,     /* has create ... */
    DESTROY = 1 << 3,    /* ... and destroy */
    EPHEMERAL = 1 << 4,  /* not journaled: gone after a restart */
    NO_EVENTS = 1 << 5,  /* changes are told to no watcher (session) */
    STORED = 1 << 6,     /* its objects are stored, but only its explicit messages exist (message) */
    API_1_0 = 1 << 7,    /* of the 1.0 API only */
    NO_BY_NAME = 1 << 8, /* has a name_label, but no get_by_name_label (pool) */
};

struct field {
    const char *name;
    const struct type *type;
    enum qualifier qualifier;
    const char *initial; /* API literal: "", {}, false, 0, Halted, OpaqueRef:NULL, ...; NULL: no default in the API */
    const char *doc;
    enum api_state state;
    gboolean api_1_0;
    enum role role;              /* of set_, add_to_, remove_from_ ... (RW) ; 0 means pool_operator */
    gboolean client_cert;        /* the setter is also for the client-cert role */
    enum class_id mirror_class;  /* this set holds the objects of that class ... */
    int mirror_field;            /* ... whose reference field points here; kept by the store, never written */
    gboolean mirrors;            /* says that the two above count */
    gboolean ephemeral;          /* changes of this field alone are not journaled (task.progress) */
    handler_fn *setter;          /* replaces the generic set_X (checks, or more to do) */
    handler_fn *adder, *remover; /* replace the generic add_to_X/add_X and remove_from_X/remove_X */
    handler_fn *getter;          /* replaces get_X */
    /* filled by model_init */
    struct value *initial_value; /* neutral value of the type where initial is NULL */
    int index;
};

struct param {
    const struct type *type;
    const char *name;
};

struct key_role {
    const char *field, *key; /* key may end in '*' */
    enum role role;
};

struct message {
    const char *name;
    handler_fn *handler; /* unbuilt(): not built yet */
    const struct type *result;
    const struct param *params; /* without session_id */
    int n_params;
    const char *doc;
    enum role role;        /* 0: pool_admin */
    gboolean client_cert;  /* also for the client-cert role */
    gboolean no_session;   /* takes no session argument: login */
    gboolean long_running; /* runs as a task, see task.h */
    gboolean over;         /* is not queued behind other tasks of its object (hard_shutdown) */
    const char *op;        /* operation recorded in current_operations of the first argument while it runs */
    int optional;          /* that many trailing params may be left out (login) ; missing args are NULL */
    gboolean secret;       /* arguments hold passwords: never logged */
    gboolean for_drivers;  /* only storage drivers of the site may call it, and it is listed nowhere */
    gboolean api_1_0;
    enum api_state state;
    const char *const *errors; /* NULL-terminated; NULL: none listed */
    /* filled by model_init */
    const struct class *class;
    gboolean implicit;         /* derived from the fields */
    const struct field *field; /* implicit: the field it is about, or NULL */
    char *full_name;           /* "VM.start" */
    char *permission;          /* "vm.start" */
};

/* Worked out for every object of a class when a transaction that changed it is committed (allowed_operations);
 * see store.h. */
struct txn;
typedef void derive_fn(struct txn *t, const char *ref);
/* Every object of a class, as an array of struct record that the caller unrefs. Any thread. */
typedef GPtrArray *all_fn(void);

struct class
{
    const char *name;
    const char *doc;
    enum api_state state;
    guint flags;                          /* enum class_flags */
    const struct enum_type *const *enums; /* NULL-terminated, as are those below by a row without a name */
    struct field *fields;
    const struct message *messages; /* explicit ones */
    const struct key_role *key_roles;
    enum role create_role, destroy_role; /* 0: pool_operator */
    enum role read_role;                 /* of all that reads its objects; 0: read_only */
    handler_fn *create, *destroy;        /* replace the generic ones; unbuilt says that they are not built */
    handler_fn *get_field, *get_record, *get_by_uuid, *get_by_name; /* likewise; get_field is every get_X */
    all_fn *all;                                                    /* every object, where the store has not all */
    gboolean create_long, destroy_long;                             /* these run as tasks */
    const char *destroy_op;                                         /* operation recorded while destroy runs */
    derive_fn *derive;                                              /* may be NULL */
    /* filled by model_init */
    enum class_id id;
    int n_enums, n_fields, n_messages, n_key_roles;
    int uuid_field, name_field; /* -1: none */
    char *lower_name;           /* "vm": how events and permissions name it */
    GHashTable *field_by_name;
};

/* Builds the descriptors' derived parts, all implicit messages and the look-up tables. Once, before anything else;
 * aborts with a message when the tables contradict themselves (a test runs it). */
void model_init(void);

/* Never NULL for a valid id. */
const struct class *class_by_id(enum class_id id);
/* Case-insensitive ("vm", "VM"); NULL when there is none. */
const struct class *class_by_name(const char *name);
const struct field *class_field(const struct class *class, const char *name); /* NULL when there is none */

/* A wire name without "Async.": "VM.start", "VM_start", implicit ones too. NULL when unknown. */
const struct message *message_lookup(const char *wire_name);
/* All messages of all classes, explicit and implicit, in a stable order. */
const struct message *const *message_all(gsize *n);
/* FALSE for what would answer NOT_IMPLEMENTED or MESSAGE_REMOVED: left out of system.listMethods. */
gboolean message_is_built(const struct message *m);

/* "VM ref set", "(string -> string) map"; interned. */
const char *type_name(const struct type *t);
const char *role_name(enum role r); /* "pool-admin" */
gboolean role_parse(const char *name, enum role *r);
/* The role that setting key of a map field needs: the row of KEY_ROLE, or the field's own. */
enum role key_role(const struct class *class, const struct field *field, const char *key, gboolean *own_row);

/* Converts an argument to a type: "12" to an int, 1 to a bool, "" to OpaqueRef:NULL, "now"-like dates. Answers a
 * reference (heap, or in a), or NULL with f set: FIELD_TYPE_ERROR [what] for the wrong kind, VALUE_NOT_SUPPORTED
 * [what, value, reason] for an enum's unknown value, MAP_DUPLICATE_KEY never (codecs refuse those).
 * A RECORD of a class is a map whose known members are converted and whose unknown members are dropped. */
struct value *type_convert(struct arena *a, const struct type *t, struct value *v, const char *what, struct fault *f);
/* The type's neutral value: "", 0, false, {}, OpaqueRef:NULL, the first value of an enum. */
struct value *type_neutral(const struct type *t);

/* The whole model as one JSON-able value: what --describe-api prints. Heap value. */
struct value *model_describe(void);

/* An error that calls may answer, and the names of its parameters (errors.def). */
struct error_row {
    const char *code;
    const char *const *params; /* NULL-terminated */
    const char *doc;
};
const struct error_row *model_errors(gsize *n);
/* NULL for an unknown code. */
const struct error_row *model_error(const char *code);

/* The handler of every message that is not built: NOT_IMPLEMENTED [its name]. */
handler_fn unbuilt;
/* The handler of every message that the API has dropped: MESSAGE_REMOVED. */
handler_fn removed;

#define NULL_REF "OpaqueRef:NULL"
gboolean ref_is_null(const char *ref); /* also "" and NULL */

#endif
