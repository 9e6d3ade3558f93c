/* test-expr.c - the query language, over a record that is made by hand. */
#include "xapi-classes/model/expr.h"

#include <string.h>

/* A VM with every field at its default but for those that the tests ask for. */
static struct record *new_vm(void)
{
    const struct class *vm = class_by_id(CLASS_VM);
    struct record *r = g_malloc0(sizeof *r + sizeof(struct value *) * vm->n_fields);
    r->class = vm;
    r->ref = "OpaqueRef:1";
    for (int i = 0; i < vm->n_fields; i++)
        r->fields[i] = value_ref(vm->fields[i].initial_value);
    return r;
}

static void set_field(struct record *r, int f, struct value *v)
{
    value_unref(r->fields[f]);
    r->fields[f] = v;
}

static void free_vm(struct record *r)
{
    for (int i = 0; i < r->class->n_fields; i++)
        value_unref(r->fields[i]);
    g_free(r);
}

static struct record *sample_vm(void)
{
    struct record *r = new_vm();
    set_field(r, F_VM_name_label, value_string(NULL, "web"));
    set_field(r, F_VM_VCPUs_max, value_int(NULL, 4));
    set_field(r, F_VM_is_control_domain, value_bool(FALSE));
    set_field(r, F_VM_tags, value_string_set(NULL, (const char *const[]){"a", "b's", NULL}));
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "k", "v");
    value_builder_put_string(&b, "k2", "");
    set_field(r, F_VM_other_config, value_builder_end(&b));
    return r;
}

enum { NO, YES, BAD };

static const struct {
    const char *text;
    int wanted;
} cases[] = {
    {"true", YES},
    {"false", NO},
    {"field \"name_label\" = \"web\"", YES},
    {"field \"name__label\"=\"web\"", YES},
    {"field 'name__label' = 'web'", YES},
    {"\"web\" = field \"name_label\"", YES},
    {"field \"name_label\" = \"Web\"", NO},
    {"field \"power_state\" = \"Halted\" and field \"is_control_domain\" = \"false\"", YES},
    {"field \"VCPUs__max\" = \"4\"", YES},
    {"field \"VCPUs_max\" = \"04\"", NO},
    {"field \"_ref\" = \"OpaqueRef:1\"", YES},
    {"field \"affinity\" = \"OpaqueRef:NULL\"", YES},
    {"field \"snapshot_time\" = \"19700101T00:00:00Z\"", YES},
    {"field \"tags\" = \"('a' 'b\\'s')\"", YES},
    {"field \"other_config\" = \"(('k' 'v') ('k2' ''))\"", YES},
    {"field \"snapshots\" = \"()\"", YES},
    {"field \"name_label\" = field \"name_label\"", YES},
    {"field \"name_label\" = field \"power_state\"", NO},
    {"\"a\"=\"a\"", YES},
    {"not false", YES},
    {"not not true", YES},
    {"not (true and false)", YES},
    {"(not true) or true", YES},
    {"not true or true", NO},        /* not (true or true) */
    {"true or false and false", NO}, /* (true or false) and false */
    {"true or (false and false)", YES},
    {"false and not false or true", NO}, /* false and (not (false or true)) */
    {"\t\n((true))\r ", YES},
    {"trueandtrue", YES}, /* words need no space between them */
    {"", BAD},
    {"  ", BAD},
    {"()", BAD},
    {"(true", BAD},
    {"true)", BAD},
    {"true true", BAD},
    {"True", BAD},
    {"field", BAD},
    {"field \"name_label\"", BAD},
    {"field \"name_label\" =", BAD},
    {"field \"no_such_field\" = \"a\"", BAD},
    {"field \"\" = \"a\"", BAD},
    {"field name_label = \"a\"", BAD},
    {"\"a\" = \"b", BAD},
    {"\"a\" <> \"b\"", BAD},
    {"true and", BAD},
    {"not", BAD},
    {"and true", BAD},
    {"true = true", BAD},
};

static void test_cases(void)
{
    struct record *r = sample_vm();
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct fault f = FAULT_INIT;
        g_autoptr(expr) e = expr_parse(class_by_id(CLASS_VM), cases[i].text, &f);
        int got = e ? expr_matches(e, r) : BAD;
        if (got != cases[i].wanted)
            g_test_fail_printf("%s: %d, not %d", cases[i].text, got, cases[i].wanted);
        if (!e) {
            g_assert_cmpstr(f.code, ==, "INVALID_VALUE");
            g_assert_cmpstr(f.params[0], ==, "expr");
            g_assert_cmpstr(f.params[1], ==, cases[i].text);
        }
        fault_clear(&f);
    }
    free_vm(r);
}

/* Nesting is limited, a chain is not; neither costs stack. */
static void test_size(void)
{
    struct record *r = new_vm();
    static const struct {
        const char *before, *middle, *after;
        int times;
        gboolean good;
    } sizes[] = {
        {"(", "true", ")", 60, TRUE},
        {"(", "true", ")", 100000, FALSE},
        {"not ", "true", "", 60, TRUE},
        {"not ", "true", "", 100000, FALSE},
        {"true and ", "true", "", 100000, TRUE},
        {"true and (", "true", ")", 64, TRUE},
        {"true and (", "true", ")", 65, FALSE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(GString) s = g_string_new(NULL);
        for (int k = 0; k < sizes[i].times; k++)
            g_string_append(s, sizes[i].before);
        g_string_append(s, sizes[i].middle);
        for (int k = 0; k < sizes[i].times; k++)
            g_string_append(s, sizes[i].after);
        g_autoptr(expr) e = expr_parse(class_by_id(CLASS_VM), s->str, NULL);
        g_assert_cmpint(e != NULL, ==, sizes[i].good);
        if (e)
            g_assert_true(expr_matches(e, r));
    }
    free_vm(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    model_init();
    g_test_add_func("/expr/cases", test_cases);
    g_test_add_func("/expr/size", test_size);
    return g_test_run();
}
