/* model_implicit.c - the messages that every class has because of its fields: get_X, set_X, get_all, create, ... */
#include <string.h>

#include "xapi-classes/handlers.h"
#include "xapi-classes/model/model_private.h"

static const struct type type_void = {TYPE_VOID}, type_string = {TYPE_STRING};

/* The types that have a class in them. */
static struct class_types {
    struct type ref, record, refs, records;
} class_types[N_CLASSES];

static struct class_types *init_types(enum class_id id)
{
    struct class_types *t = &class_types[id];
    t->ref = (struct type){TYPE_REF, .class = id};
    t->record = (struct type){TYPE_RECORD, .class = id};
    t->refs = (struct type){TYPE_SET, .elem = &t->ref};
    t->records = (struct type){TYPE_MAP, .key = &t->ref, .elem = &t->record};
    return t;
}

/* What the messages of one class are built from. */
struct derivation {
    const struct class *class;
    const struct type *ref, *record, *refs, *records;
    GPtrArray *all;
};

/* A new message; params are pairs of type and name, ended by NULL. An explicit row of the same name goes before it. */
static struct message *derive(struct derivation *d, const char *prefix, const struct field *field, handler_fn *handler,
                              const struct type *result, const char *doc, ...) G_GNUC_NULL_TERMINATED;
static struct message *derive(struct derivation *d, const char *prefix, const struct field *field, handler_fn *handler,
                              const struct type *result, const char *doc, ...)
{
    GArray *params = g_array_new(FALSE, TRUE, sizeof(struct param));
    va_list ap;
    va_start(ap, doc);
    const struct type *t;
    while ((t = va_arg(ap, const struct type *))) {
        struct param p = {t, va_arg(ap, const char *)};
        g_array_append_val(params, p);
    }
    va_end(ap);
    struct message *m = g_new0(struct message, 1);
    m->name = g_strconcat(prefix, field ? field->name : NULL, NULL);
    m->n_params = params->len;
    m->params = (const struct param *) g_array_free(params, FALSE);
    m->result = result;
    m->doc = doc;
    m->class = d->class;
    m->implicit = TRUE;
    m->field = field;
    m->api_1_0 = (d->class->flags & API_1_0) || (field && field->api_1_0);
    m->state = field && field->state != STATE_published ? field->state : d->class->state;
    m->handler = d->class->state == STATE_removed ? removed : handler;
    g_ptr_array_add(d->all, m);
    return m;
}

static void reading(struct message *m)
{
    m->role = m->class->read_role ? m->class->read_role : ROLE_read_only;
    m->client_cert = !m->class->read_role;
}

static void writing(struct message *m)
{
    m->role = m->field->role ? m->field->role : ROLE_pool_operator;
    m->client_cert = m->field->client_cert;
}

static void derive_map_writers(struct derivation *d, const struct field *f)
{
    writing(derive(d, "add_to_", f, f->adder ? f->adder : generic_add_to, &type_void,
                   "Adds a key and its value to the map; fails when it has that key already", d->ref, "self",
                   f->type->key, "key", f->type->elem, "value", NULL));
    writing(derive(d, "remove_from_", f, f->remover ? f->remover : generic_remove_from, &type_void,
                   "Removes a key and its value from the map; does nothing when it has no such key", d->ref, "self",
                   f->type->key, "key", NULL));
}

static void derive_set_writers(struct derivation *d, const struct field *f)
{
    writing(derive(d, "add_", f, f->adder ? f->adder : generic_add, &type_void,
                   "Adds an element to the set; does nothing when it is there already", d->ref, "self", f->type->elem,
                   "value", NULL));
    writing(derive(d, "remove_", f, f->remover ? f->remover : generic_remove, &type_void,
                   "Removes an element from the set; does nothing when it is not there", d->ref, "self", f->type->elem,
                   "value", NULL));
}

static handler_fn *getter_of(const struct class *class, const struct field *f)
{
    if (f->getter)
        return f->getter;
    return class->get_field ? class->get_field : generic_get;
}

static void derive_field(struct derivation *d, const struct field *f)
{
    reading(derive(d, "get_", f, getter_of(d->class, f), f->type, f->doc, d->ref, "self", NULL));
    if (f->qualifier != RW)
        return;
    writing(derive(d, "set_", f, f->setter ? f->setter : generic_set, &type_void, "Sets the field", d->ref, "self",
                   f->type, "value", NULL));
    if (f->type->kind == TYPE_MAP)
        derive_map_writers(d, f);
    else if (f->type->kind == TYPE_SET)
        derive_set_writers(d, f);
}

static void derive_finders(struct derivation *d)
{
    const struct class *class = d->class;
    reading(derive(d, "get_record", NULL, class->get_record ? class->get_record : generic_get_record, d->record,
                   "Returns all fields of one object", d->ref, "self", NULL));
    reading(derive(d, "get_by_uuid", NULL, class->get_by_uuid ? class->get_by_uuid : generic_get_by_uuid, d->ref,
                   "Finds the object that has the given UUID", &type_string, "uuid", NULL));
    if (class->name_field >= 0 && !(class->flags & NO_BY_NAME))
        reading(derive(d, "get_by_name_label", NULL,
                       class->get_by_name ? class->get_by_name : generic_get_by_name_label, d->refs,
                       "Finds all objects that have the given name", &type_string, "label", NULL));
}

static void derive_listers(struct derivation *d)
{
    reading(derive(d, "get_all", NULL, generic_get_all, d->refs, "Lists all objects of the class", NULL));
    reading(derive(d, "get_all_where", NULL, generic_get_all_where, d->refs,
                   "Lists the objects of the class for which a query expression holds", &type_string, "expr", NULL));
    reading(derive(d, "get_all_records", NULL, generic_get_all_records, d->records,
                   "Returns all objects of the class with all their fields", NULL));
    reading(derive(d, "get_all_records_where", NULL, generic_get_all_records_where, d->records,
                   "Returns the objects for which a query expression holds, with all their fields", &type_string,
                   "expr", NULL));
}

static void derive_constructor(struct derivation *d)
{
    const struct class *class = d->class;
    struct message *m =
        derive(d, "create", NULL, class->create ? class->create : generic_create, d->ref,
               "Makes a new object from a record; fields left out take their defaults", d->record, "args", NULL);
    m->role = class->create_role ? class->create_role : ROLE_pool_operator;
    m->long_running = class->create_long;
}

static void derive_destructor(struct derivation *d)
{
    const struct class *class = d->class;
    struct message *m = derive(d, "destroy", NULL, class->destroy ? class->destroy : generic_destroy, &type_void,
                               "Removes the object", d->ref, "self", NULL);
    m->role = class->destroy_role ? class->destroy_role : ROLE_pool_operator;
    m->long_running = class->destroy_long;
    m->op = class->destroy_op;
}

void model_derive_messages(const struct class *class, GPtrArray *all)
{
    if (!(class->flags & OBJECT))
        return;
    const struct class_types *t = init_types(class->id);
    struct derivation d = {class, &t->ref, &t->record, &t->refs, &t->records, all};
    for (int i = 0; i < class->n_fields; i++)
        derive_field(&d, &class->fields[i]);
    derive_finders(&d);
    if (class->flags & GET_ALL)
        derive_listers(&d);
    if (class->flags & CREATE)
        derive_constructor(&d);
    if (class->flags & DESTROY)
        derive_destructor(&d);
}
