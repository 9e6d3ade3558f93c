/* model_lookup.c - model_init: what follows from the rows is worked out and checked here, once; and the look-ups. */
#include <string.h>

#include "daemon/call.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/model/model_private.h"

static GPtrArray *all_messages;         /* struct message */
static GPtrArray *driver_messages;      /* those that are only for storage drivers of the site */
static GHashTable *message_by_name;     /* "VM.start" and "VM_start" -> struct message */
static GHashTable *class_by_lower_name; /* "vm" -> struct class */
static GHashTable *error_by_code;
static gsize n_errors;

/* ---- what the rows must not do ---- */

/* A mistake in a row is found by whoever runs anything at all. */
static void G_GNUC_NORETURN bad_row(const struct class *class, const char *row, const char *why)
{
    g_error("%s.def: %s: %s", class->name, row, why);
}

static void check_mirror(const struct class *class, const struct field *f)
{
    const struct field *other = &model_classes[f->mirror_class].fields[f->mirror_field];
    if (f->type->kind != TYPE_SET || f->type->elem->kind != TYPE_REF || f->type->elem->class != f->mirror_class)
        bad_row(class, f->name, "a mirror has to be a set of references to the class that it mirrors");
    if (other->type->kind != TYPE_REF || other->type->class != class->id)
        bad_row(class, f->name, "what it mirrors is no reference to this class");
    if (f->qualifier != RO)
        bad_row(class, f->name, "a mirror cannot be written");
}

static gboolean is_text(const struct type *t)
{
    return t->kind == TYPE_STRING || t->kind == TYPE_ENUM || t->kind == TYPE_REF;
}

/* The generic add_ and remove_ know elements and keys that are texts. */
static void check_generic_writers(const struct class *class, const struct field *f)
{
    if (f->type->kind != TYPE_SET && f->type->kind != TYPE_MAP)
        return;
    if (!is_text(f->type->kind == TYPE_SET ? f->type->elem : f->type->key) && !(f->adder && f->remover))
        bad_row(class, f->name, "needs an ADDER and a REMOVER: its elements or keys are no texts");
}

static void check_field(const struct class *class, const struct field *f)
{
    if (!f->doc || !*f->doc)
        bad_row(class, f->name, "says not what it is");
    if (f->mirrors)
        check_mirror(class, f);
    if ((f->setter || f->adder || f->remover) && f->qualifier != RW)
        bad_row(class, f->name, "has a setter, but is not RW");
    if (f->qualifier == RW)
        check_generic_writers(class, f);
}

static void check_key_role(const struct class *class, const struct key_role *k)
{
    const struct field *f = class_field(class, k->field);
    if (!f || f->type->kind != TYPE_MAP)
        bad_row(class, k->field, "KEY_ROLE of what is no map field");
}

/* An operation is recorded in the first argument's current_operations, so it has to be one that these can hold. */
static void check_op(const struct message *m)
{
    if (m->n_params == 0 || m->params[0].type->kind != TYPE_REF || m->params[0].type->class == CLASS_NONE)
        bad_row(m->class, m->name, "has an OP, but its first parameter is no object");
    const struct field *f = class_field(&model_classes[m->params[0].type->class], "current_operations");
    if (!f || !g_strv_contains(f->type->elem->enumeration->values, m->op))
        bad_row(m->class, m->name, "its OP is none of the object's operations");
}

static void check_message(const struct message *m)
{
    if (!m->handler)
        bad_row(m->class, m->name, "has no handler");
    if (m->optional > m->n_params)
        bad_row(m->class, m->name, "has more optional parameters than parameters");
    if (m->op)
        check_op(m);
}

/* ---- classes ---- */

static int field_index(const struct class *class, const char *name)
{
    const struct field *f = class_field(class, name);
    return f ? f->index : -1;
}

static void init_field(const struct class *class, struct field *f, int index)
{
    f->index = index;
    f->initial_value = f->initial ? type_parse_initial(f->type, f->initial) : type_neutral(f->type);
    if (!f->initial_value)
        bad_row(class, f->name, "the default is not of the type");
    if (!g_hash_table_insert(class->field_by_name, (char *) f->name, f))
        bad_row(class, f->name, "there are two of it");
}

static void init_class(struct class *class, enum class_id id)
{
    class->id = id;
    class->lower_name = g_ascii_strdown(class->name, -1);
    class->field_by_name = g_hash_table_new(g_str_hash, g_str_equal);
    for (class->n_enums = 0; class->enums[class->n_enums]; class->n_enums++)
        ;
    for (class->n_fields = 0; class->fields[class->n_fields].name; class->n_fields++)
        init_field(class, &class->fields[class->n_fields], class->n_fields);
    for (class->n_messages = 0; class->messages[class->n_messages].name; class->n_messages++)
        ;
    for (class->n_key_roles = 0; class->key_roles[class->n_key_roles].field; class->n_key_roles++)
        check_key_role(class, &class->key_roles[class->n_key_roles]);
    class->uuid_field = field_index(class, "uuid");
    class->name_field = field_index(class, "name_label");
    if (!g_hash_table_insert(class_by_lower_name, class->lower_name, class))
        bad_row(class, class->name, "there are two of it");
}

/* ---- messages ---- */

/* The rows are constant: what is filled in goes into a copy. */
static void copy_explicit(struct class *class)
{
    struct message *copy = g_memdup2(class->messages, sizeof *copy * (class->n_messages + 1));
    for (int i = 0; i < class->n_messages; i++) {
        copy[i].class = class;
        if (copy[i].state == STATE_removed && copy[i].handler == unbuilt)
            copy[i].handler = removed;
        if (!copy[i].role)
            copy[i].role = ROLE_pool_admin;
        g_ptr_array_add(copy[i].for_drivers ? driver_messages : all_messages, &copy[i]);
    }
    class->messages = copy;
}

static void enter_name(const struct message *m, char *wire_name)
{
    const struct message *other = g_hash_table_lookup(message_by_name, wire_name);
    if (other)
        bad_row(m->class, m->name, "there are two messages of that name");
    g_hash_table_insert(message_by_name, wire_name, (gpointer) m);
}

/* Some clients cannot write Class.message and write Class_message (Python, where "from" is a keyword). */
static void finish_message(struct message *m)
{
    check_message(m);
    m->full_name = g_strdup_printf("%s.%s", m->class->name, m->name);
    m->permission = g_ascii_strdown(m->full_name, -1);
    enter_name(m, m->full_name);
    enter_name(m, g_strdup_printf("%s_%s", m->class->name, m->name));
}

static gboolean has_explicit(const struct class *class, const char *name)
{
    for (int i = 0; i < class->n_messages; i++)
        if (strcmp(class->messages[i].name, name) == 0)
            return TRUE;
    return FALSE;
}

static void message_free(struct message *m)
{
    g_free((char *) m->name);
    g_free((struct param *) m->params);
    g_free(m);
}

/* A row in the class's own file goes before the message of the same name that the fields would give. */
static void add_implicit(struct class *class)
{
    g_autoptr(GPtrArray) derived = g_ptr_array_new();
    model_derive_messages(class, derived);
    for (guint i = 0; i < derived->len; i++) {
        struct message *m = g_ptr_array_index(derived, i);
        if (has_explicit(class, m->name))
            message_free(m);
        else
            g_ptr_array_add(all_messages, m);
    }
}

static void init_errors(void)
{
    error_by_code = g_hash_table_new(g_str_hash, g_str_equal);
    for (n_errors = 0; model_error_rows[n_errors].code; n_errors++)
        g_hash_table_insert(error_by_code, (char *) model_error_rows[n_errors].code,
                            (gpointer) &model_error_rows[n_errors]);
}

void model_init(void)
{
    if (all_messages)
        return;
    all_messages = g_ptr_array_new();
    driver_messages = g_ptr_array_new();
    message_by_name = g_hash_table_new(g_str_hash, g_str_equal);
    class_by_lower_name = g_hash_table_new(g_str_hash, g_str_equal);
    for (int i = 0; i < N_CLASSES; i++)
        init_class(&model_classes[i], i);
    for (int i = 0; i < N_CLASSES; i++)
        for (int k = 0; k < model_classes[i].n_fields; k++)
            check_field(&model_classes[i], &model_classes[i].fields[k]);
    for (int i = 0; i < N_CLASSES; i++) {
        copy_explicit(&model_classes[i]);
        add_implicit(&model_classes[i]);
    }
    for (guint i = 0; i < all_messages->len; i++)
        finish_message(g_ptr_array_index(all_messages, i));
    for (guint i = 0; i < driver_messages->len; i++)
        finish_message(g_ptr_array_index(driver_messages, i));
    init_errors();
}

/* ---- look-ups ---- */

const struct class *class_by_id(enum class_id id)
{
    g_assert((guint) id < N_CLASSES);
    return &model_classes[id];
}

const struct class *class_by_name(const char *name)
{
    char lower[64];
    gsize n = strlen(name);
    if (n >= sizeof lower)
        return NULL;
    for (gsize i = 0; i <= n; i++)
        lower[i] = g_ascii_tolower(name[i]);
    return g_hash_table_lookup(class_by_lower_name, lower);
}

const struct field *class_field(const struct class *class, const char *name)
{
    return g_hash_table_lookup(class->field_by_name, name);
}

const struct message *message_lookup(const char *wire_name)
{
    return g_hash_table_lookup(message_by_name, wire_name);
}

const struct message *const *message_all(gsize *n)
{
    *n = all_messages->len;
    return (const struct message *const *) all_messages->pdata;
}

gboolean message_is_built(const struct message *m)
{
    return m->handler != unbuilt && m->handler != removed;
}

const struct error_row *model_errors(gsize *n)
{
    *n = n_errors;
    return model_error_rows;
}

const struct error_row *model_error(const char *code)
{
    return g_hash_table_lookup(error_by_code, code);
}

/* ---- roles ---- */

static const char *const role_names[] = {
    [ROLE_none] = "none",
    [ROLE_read_only] = "read-only",
    [ROLE_vm_operator] = "vm-operator",
    [ROLE_vm_admin] = "vm-admin",
    [ROLE_vm_power_admin] = "vm-power-admin",
    [ROLE_pool_operator] = "pool-operator",
    [ROLE_pool_admin] = "pool-admin",
    [ROLE_local_root] = "local-root",
};

const char *role_name(enum role r)
{
    return (guint) r < G_N_ELEMENTS(role_names) ? role_names[r] : "";
}

/* The roles that a user can be given. */
gboolean role_parse(const char *name, enum role *r)
{
    for (enum role i = ROLE_read_only; i <= ROLE_pool_admin; i++) {
        if (strcmp(role_names[i], name) == 0) {
            *r = i;
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean key_matches(const char *pattern, const char *key)
{
    gsize n = strlen(pattern);
    if (n > 0 && pattern[n - 1] == '*')
        return strncmp(pattern, key, n - 1) == 0;
    return strcmp(pattern, key) == 0;
}

enum role key_role(const struct class *class, const struct field *field, const char *key, gboolean *own_row)
{
    for (int i = 0; i < class->n_key_roles; i++) {
        const struct key_role *k = &class->key_roles[i];
        if (strcmp(k->field, field->name) == 0 && key_matches(k->key, key)) {
            *own_row = TRUE;
            return k->role;
        }
    }
    *own_row = FALSE;
    return field->role ? field->role : ROLE_pool_operator;
}
