/* model_describe.c - the model as data: what --describe-api prints, what the manual and the contract test read. */
#include "xapi-classes/model/model_private.h"

static const char *const state_names[] = {"published", "deprecated", "prototyped", "removed"};
static const char *const qualifier_names[] = {"RO/runtime", "RO/constructor", "RW"};

static void put_state(struct value_builder *b, enum api_state state)
{
    if (state != STATE_published)
        value_builder_put_string(b, "state", state_names[state]);
}

static void put_flag(struct value_builder *b, const char *name, gboolean flag)
{
    if (flag)
        value_builder_put(b, name, value_bool(TRUE));
}

static struct value *describe_enums(const struct class *class)
{
    struct value_builder b;
    value_builder_map(&b, NULL, class->n_enums);
    for (int i = 0; i < class->n_enums; i++)
        value_builder_put(&b, class->enums[i]->name, value_string_set(NULL, class->enums[i]->values));
    return value_builder_end(&b);
}

static struct value *describe_field(const struct field *f)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 8);
    value_builder_put_string(&b, "name", f->name);
    value_builder_put_string(&b, "type", type_name(f->type));
    value_builder_put_string(&b, "qualifier", qualifier_names[f->qualifier]);
    if (f->initial)
        value_builder_put_string(&b, "default", f->initial);
    put_state(&b, f->state);
    put_flag(&b, "api_1_0", f->api_1_0);
    value_builder_put_string(&b, "doc", f->doc);
    return value_builder_end(&b);
}

static struct value *describe_fields(const struct class *class)
{
    struct value_builder b;
    value_builder_set(&b, NULL, class->n_fields);
    for (int i = 0; i < class->n_fields; i++)
        value_builder_add(&b, describe_field(&class->fields[i]));
    return value_builder_end(&b);
}

static struct value *describe_params(const struct message *m)
{
    struct value_builder b;
    value_builder_set(&b, NULL, m->n_params);
    for (int i = 0; i < m->n_params; i++) {
        struct value_builder p;
        value_builder_map(&p, NULL, 3);
        value_builder_put_string(&p, "name", m->params[i].name);
        value_builder_put_string(&p, "type", type_name(m->params[i].type));
        put_flag(&p, "optional", i >= m->n_params - m->optional);
        value_builder_add(&b, value_builder_end(&p));
    }
    return value_builder_end(&b);
}

static struct value *describe_message(const struct message *m)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 12);
    value_builder_put_string(&b, "name", m->name);
    value_builder_put_string(&b, "result", type_name(m->result));
    value_builder_put(&b, "params", describe_params(m));
    if (m->errors)
        value_builder_put(&b, "errors", value_string_set(NULL, m->errors));
    value_builder_put_string(&b, "role", role_name(m->role));
    put_flag(&b, "client_cert", m->client_cert);
    put_flag(&b, "no_session", m->no_session);
    put_flag(&b, "task", m->long_running);
    put_flag(&b, "api_1_0", m->api_1_0);
    put_state(&b, m->state);
    put_flag(&b, "built", message_is_built(m));
    value_builder_put_string(&b, "doc", m->doc);
    return value_builder_end(&b);
}

static struct value *describe_messages(const struct class *class, gboolean implicit)
{
    gsize n;
    const struct message *const *all = message_all(&n);
    struct value_builder b;
    value_builder_set(&b, NULL, 16);
    for (gsize i = 0; i < n; i++)
        if (all[i]->class == class && all[i]->implicit == implicit)
            value_builder_add(&b, describe_message(all[i]));
    return value_builder_end(&b);
}

static struct value *describe_key_roles(const struct class *class)
{
    struct value_builder b;
    value_builder_set(&b, NULL, class->n_key_roles);
    for (int i = 0; i < class->n_key_roles; i++) {
        struct value_builder k;
        value_builder_map(&k, NULL, 3);
        value_builder_put_string(&k, "field", class->key_roles[i].field);
        value_builder_put_string(&k, "key", class->key_roles[i].key);
        value_builder_put_string(&k, "role", role_name(class->key_roles[i].role));
        value_builder_add(&b, value_builder_end(&k));
    }
    return value_builder_end(&b);
}

static struct value *describe_class(const struct class *class)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 9);
    value_builder_put_string(&b, "name", class->name);
    value_builder_put_string(&b, "state", state_names[class->state]);
    put_flag(&b, "api_1_0", (class->flags & API_1_0) != 0);
    value_builder_put_string(&b, "doc", class->doc);
    value_builder_put(&b, "enums", describe_enums(class));
    value_builder_put(&b, "fields", describe_fields(class));
    value_builder_put(&b, "messages", describe_messages(class, FALSE));
    value_builder_put(&b, "implicit_messages", describe_messages(class, TRUE));
    if (class->n_key_roles)
        value_builder_put(&b, "key_roles", describe_key_roles(class));
    return value_builder_end(&b);
}

static struct value *describe_errors(void)
{
    gsize n;
    const struct error_row *rows = model_errors(&n);
    struct value_builder b;
    value_builder_map(&b, NULL, n);
    for (gsize i = 0; i < n; i++) {
        struct value_builder e;
        value_builder_map(&e, NULL, 2);
        value_builder_put(&e, "params", value_string_set(NULL, rows[i].params));
        value_builder_put_string(&e, "doc", rows[i].doc);
        value_builder_put(&b, rows[i].code, value_builder_end(&e));
    }
    return value_builder_end(&b);
}

struct value *model_describe(void)
{
    struct value_builder classes, b;
    value_builder_set(&classes, NULL, N_CLASSES);
    for (int i = 0; i < N_CLASSES; i++)
        value_builder_add(&classes, describe_class(class_by_id(i)));
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "api", "XenAPI");
    value_builder_put(&b, "classes", value_builder_end(&classes));
    value_builder_put(&b, "errors", describe_errors());
    return value_builder_end(&b);
}
