/* test-model.c - the model: look-ups, names, defaults, roles, and the conversion of arguments. */
#include <string.h>

#include "daemon/codec/jsonrpc.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/model/model.h"

/* ---- look-ups ---- */

static void test_classes(void)
{
    const struct class *vm = class_by_id(CLASS_VM);
    g_assert_cmpstr(vm->name, ==, "VM");
    g_assert_cmpstr(vm->lower_name, ==, "vm");
    g_assert_true(class_by_name("vm") == vm);
    g_assert_true(class_by_name("VM") == vm);
    g_assert_true(class_by_name("vM") == vm);
    g_assert_null(class_by_name("VMs"));
    g_assert_null(class_by_name(""));
    g_assert_null(class_by_name("a_name_that_is_much_longer_than_that_of_any_class_in_the_whole_of_the_api"));
    for (int i = 0; i < N_CLASSES; i++)
        g_assert_cmpint(class_by_id(i)->id, ==, i);
}

static void test_fields(void)
{
    const struct class *vm = class_by_id(CLASS_VM);
    g_assert_cmpint(vm->n_fields, ==, N_FIELDS_VM);
    g_assert_cmpint(class_by_id(CLASS_debug)->n_fields, ==, N_FIELDS_debug);
    const struct field *f = class_field(vm, "name_label");
    g_assert_cmpint(f->index, ==, F_VM_name_label);
    g_assert_cmpint(vm->name_field, ==, F_VM_name_label);
    g_assert_cmpint(vm->uuid_field, ==, F_VM_uuid);
    g_assert_cmpint(class_by_id(CLASS_event)->uuid_field, ==, -1);
    g_assert_null(class_field(vm, "name__label"));
    const struct field *vbds = class_field(vm, "VBDs");
    g_assert_true(vbds->mirrors);
    g_assert_cmpint(vbds->mirror_class, ==, CLASS_VBD);
    g_assert_cmpint(vbds->mirror_field, ==, F_VBD_VM);
}

static void assert_message(const char *wire_name, const char *full_name)
{
    const struct message *m = message_lookup(wire_name);
    if (full_name)
        g_assert_cmpstr(m ? m->full_name : NULL, ==, full_name);
    else
        g_assert_null(m);
}

static void test_message_names(void)
{
    assert_message("VM.start", "VM.start");
    assert_message("VM_start", "VM.start");
    assert_message("event_from", "event.from");
    assert_message("VM.get_all_records", "VM.get_all_records");
    assert_message("VM_metrics.get_record", "VM_metrics.get_record");
    assert_message("VM_metrics_get_record", "VM_metrics.get_record");
    assert_message("host.add_tags", "host.add_tags");
    assert_message("cpu_pool.get_all", "cpu_pool.get_all");
    assert_message("vm.start", NULL);
    assert_message("Async.VM.start", NULL);
    assert_message("VM.", NULL);
    assert_message("", NULL);
    assert_message("event.get_all", NULL);
    assert_message("pool.get_by_name_label", NULL);
    assert_message("VM.add_to_tags", NULL);
    assert_message("VM.add_other_config", NULL);
    assert_message("VM.set_uuid", NULL);
}

static void test_message_list(void)
{
    gsize n;
    const struct message *const *all = message_all(&n);
    g_assert_cmpuint(n, >, 2000);
    for (gsize i = 0; i < n; i++) {
        g_assert_true(message_lookup(all[i]->full_name) == all[i]);
        g_assert_nonnull(all[i]->handler);
        g_assert_nonnull(all[i]->doc);
        g_assert_cmpint(all[i]->role, !=, ROLE_none);
    }
}

static void assert_params(const char *name, const char *const *wanted)
{
    const struct message *m = message_lookup(name);
    g_assert_cmpint(m->n_params, ==, g_strv_length((char **) wanted));
    for (int i = 0; i < m->n_params; i++)
        g_assert_cmpstr(m->params[i].name, ==, wanted[i]);
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void test_implicit_params(void)
{
    assert_params("VM.get_name_label", NAMES("self"));
    assert_params("VM.set_name_label", NAMES("self", "value"));
    assert_params("VM.add_to_other_config", NAMES("self", "key", "value"));
    assert_params("VM.remove_from_other_config", NAMES("self", "key"));
    assert_params("VM.add_tags", NAMES("self", "value"));
    assert_params("VM.get_by_uuid", NAMES("uuid"));
    assert_params("VM.get_by_name_label", NAMES("label"));
    assert_params("VM.get_all_records_where", NAMES("expr"));
    assert_params("VM.get_all", NAMES());
    assert_params("VM.create", NAMES("args"));
    assert_params("VM.destroy", NAMES("self"));
    g_assert_cmpstr(type_name(message_lookup("VM.add_to_blocked_operations")->params[1].type), ==,
                    "enum vm_operations");
}

static void test_states(void)
{
    const struct message *gone = message_lookup("VBD_metrics.get_all_records");
    g_assert_true(gone->handler == removed);
    g_assert_false(message_is_built(gone));
    /* A field that is no more has a value all the same: it stands in the record, too. */
    g_assert_true(message_is_built(message_lookup("VM.get_is_snapshot_from_vmpp")));
    g_assert_true(message_lookup("VM.set_protection_policy")->handler == removed);
    g_assert_true(message_is_built(message_lookup("VM.get_all")));
}

/* ---- names and defaults ---- */

static const struct type t_string = {TYPE_STRING}, t_int = {TYPE_INT}, t_float = {TYPE_FLOAT}, t_bool = {TYPE_BOOL},
                         t_date = {TYPE_DATETIME}, t_void = {TYPE_VOID};
static const struct type t_vm = {TYPE_REF, .class = CLASS_VM}, t_any = {TYPE_REF, .class = CLASS_NONE};
static const struct type t_vm_record = {TYPE_RECORD, .class = CLASS_VM},
                         t_any_record = {TYPE_RECORD, .class = CLASS_NONE};
static const struct type t_strings = {TYPE_SET, .elem = &t_string}, t_ints = {TYPE_SET, .elem = &t_int};
static const struct type t_map = {TYPE_MAP, .key = &t_string, .elem = &t_string};
static const struct type t_int_map = {TYPE_MAP, .key = &t_int, .elem = &t_float};
static const struct type t_vm_map = {TYPE_MAP, .key = &t_vm, .elem = &t_strings};
static const struct type t_option = {TYPE_OPTION, .elem = &t_int}, t_batch = {TYPE_EVENT_BATCH};
static const struct enum_type colours = {"colours", (const char *const[]){"red", "None", NULL}};
static const struct type t_enum = {TYPE_ENUM, .enumeration = &colours};

static void test_type_names(void)
{
    g_assert_cmpstr(type_name(&t_void), ==, "void");
    g_assert_cmpstr(type_name(&t_vm), ==, "VM ref");
    g_assert_cmpstr(type_name(&t_any), ==, "<class> ref");
    g_assert_cmpstr(type_name(&t_vm_map), ==, "(VM ref -> string set) map");
    g_assert_cmpstr(type_name(&t_option), ==, "int option");
    g_assert_cmpstr(type_name(&t_enum), ==, "enum colours");
    g_assert_cmpstr(type_name(&t_any_record), ==, "<class> record");
    g_assert_true(type_name(&t_vm) == type_name(message_lookup("VM.start")->params[0].type));
}

static void assert_initial(enum class_id class, const char *name, const char *json)
{
    const struct field *f = class_field(class_by_id(class), name);
    g_autofree char *text = json_text(f->initial_value);
    g_assert_cmpstr(text, ==, json);
}

static void test_initial(void)
{
    assert_initial(CLASS_VM, "power_state", "\"Halted\"");
    assert_initial(CLASS_VM, "affinity", "\"OpaqueRef:NULL\"");
    assert_initial(CLASS_VM, "parent", "\"OpaqueRef:NULL\"");
    assert_initial(CLASS_VM, "HVM_shadow_multiplier", "1.0");
    assert_initial(CLASS_VM, "snapshot_time", "\"19700101T00:00:00Z\"");
    assert_initial(CLASS_VM, "generation_id", "\"0:0\"");
    assert_initial(CLASS_VM, "actions_after_shutdown", "\"destroy\"");
    assert_initial(CLASS_PIF, "ip_configuration_mode", "\"None\"");
    assert_initial(CLASS_task, "backtrace", "\"()\"");
    assert_initial(CLASS_host, "virtual_hardware_platform_versions", "[0]");
    assert_initial(CLASS_host, "license_server", "{\"address\":\"localhost\",\"port\":\"27000\"}");
    assert_initial(CLASS_tunnel, "status", "{\"active\":\"false\"}");
    assert_initial(CLASS_subject, "roles", "[\"OpaqueRef:0165f154-ba3e-034e-6b27-5d271af109ba\"]");
}

/* ---- conversion ---- */

/* wanted is JSON, or a code and its parameters. */
static void assert_converted(struct arena *a, const struct type *t, const char *json, const char *wanted)
{
    g_autoptr(value) v = json_parse(a, json, strlen(json), NULL, NULL);
    g_assert_nonnull(v);
    struct fault f = FAULT_INIT;
    g_autoptr(value) got = type_convert(a, t, v, "x", &f);
    g_autofree char *text = got ? json_text(got) : fault_text(&f);
    g_assert_cmpstr(text, ==, wanted);
    fault_clear(&f);
}

static const struct {
    const struct type *type;
    const char *json, *wanted;
} conversions[] = {
    {&t_string, "\"a\"", "\"a\""},
    {&t_string, "\"\"", "\"\""},
    {&t_string, "1", "FIELD_TYPE_ERROR [x]"},
    {&t_string, "[]", "FIELD_TYPE_ERROR [x]"},
    {&t_int, "5", "5"},
    {&t_int, "\"5\"", "5"},
    {&t_int, "\"-9223372036854775808\"", "-9223372036854775808"},
    {&t_int, "\"9223372036854775808\"", "FIELD_TYPE_ERROR [x]"},
    {&t_int, "5.0", "5"},
    {&t_int, "5.5", "FIELD_TYPE_ERROR [x]"},
    {&t_int, "1e300", "FIELD_TYPE_ERROR [x]"},
    {&t_int, "\"\"", "FIELD_TYPE_ERROR [x]"},
    {&t_int, "\" 5\"", "FIELD_TYPE_ERROR [x]"},
    {&t_int, "\"5 \"", "FIELD_TYPE_ERROR [x]"},
    {&t_int, "true", "FIELD_TYPE_ERROR [x]"},
    {&t_float, "0.5", "0.5"},
    {&t_float, "2", "2.0"},
    {&t_float, "\"60.1\"", "60.1"},
    {&t_float, "\"inf\"", "FIELD_TYPE_ERROR [x]"},
    {&t_float, "\"nan\"", "FIELD_TYPE_ERROR [x]"},
    {&t_float, "\"\"", "FIELD_TYPE_ERROR [x]"},
    {&t_bool, "true", "true"},
    {&t_bool, "0", "false"},
    {&t_bool, "\"1\"", "true"},
    {&t_bool, "\"false\"", "false"},
    {&t_bool, "2", "FIELD_TYPE_ERROR [x]"},
    {&t_bool, "\"yes\"", "FIELD_TYPE_ERROR [x]"},
    {&t_date, "\"20240101T00:00:00Z\"", "\"20240101T00:00:00Z\""},
    {&t_date, "0", "\"19700101T00:00:00Z\""},
    {&t_date, "1e308", "\"99991231T23:59:59Z\""},
    {&t_date, "\"never\"", "FIELD_TYPE_ERROR [x]"},
    {&t_enum, "\"red\"", "\"red\""},
    {&t_enum, "\"Red\"", "\"red\""},
    {&t_enum, "\"mauve\"", "VALUE_NOT_SUPPORTED [x, mauve, not one of colours]"},
    {&t_enum, "0", "FIELD_TYPE_ERROR [x]"},
    {&t_vm, "\"OpaqueRef:1\"", "\"OpaqueRef:1\""},
    {&t_vm, "\"\"", "\"OpaqueRef:NULL\""},
    {&t_vm, "null", "FIELD_TYPE_ERROR [x]"},
    {&t_strings, "[]", "[]"},
    {&t_strings, "[\"a\",\"b\"]", "[\"a\",\"b\"]"},
    {&t_strings, "[\"a\",1]", "FIELD_TYPE_ERROR [x]"},
    {&t_strings, "\"a\"", "FIELD_TYPE_ERROR [x]"},
    {&t_ints, "[\"1\",2,3.0]", "[1,2,3]"},
    {&t_map, "{\"a\":\"b\"}", "{\"a\":\"b\"}"},
    {&t_map, "{}", "{}"},
    {&t_map, "{\"a\":1}", "FIELD_TYPE_ERROR [x]"},
    {&t_map, "[]", "FIELD_TYPE_ERROR [x]"},
    {&t_int_map, "{\"0\":\"0.5\"}", "{\"0\":0.5}"},
    {&t_int_map, "{\"zero\":0.5}", "FIELD_TYPE_ERROR [x]"},
    {&t_vm_map, "{\"OpaqueRef:1\":[\"a\"]}", "{\"OpaqueRef:1\":[\"a\"]}"},
    {&t_option, "[]", "\"\""},
    {&t_option, "null", "\"\""},
    {&t_option, "[\"7\"]", "7"},
    {&t_option, "7", "7"},
    {&t_any_record, "{\"a\":[1]}", "{\"a\":[1]}"},
    {&t_vm_record, "{\"VCPUs_max\":\"2\",\"no_such\":{},\"is_a_template\":true,\"affinity\":\"\"}",
     "{\"VCPUs_max\":2,\"is_a_template\":true,\"affinity\":\"OpaqueRef:NULL\"}"},
    {&t_vm_record, "{\"VCPUs_max\":\"two\"}", "FIELD_TYPE_ERROR [VCPUs_max]"},
    {&t_vm_record, "[]", "FIELD_TYPE_ERROR [x]"},
    {&t_batch, "{}", "FIELD_TYPE_ERROR [x]"},
    {&t_void, "1", "\"\""},
};

static void test_convert(void)
{
    g_autoptr(arena) a = arena_new();
    for (gsize i = 0; i < G_N_ELEMENTS(conversions); i++) {
        assert_converted(NULL, conversions[i].type, conversions[i].json, conversions[i].wanted);
        assert_converted(a, conversions[i].type, conversions[i].json, conversions[i].wanted);
    }
}

/* What is right already is not copied: neither in an arena nor on the heap. */
static void test_convert_keeps(void)
{
    g_autoptr(arena) a = arena_new();
    struct value *s = value_string(a, "text");
    g_assert_true(type_convert(a, &t_string, s, "x", NULL) == s);
    g_autoptr(value) h = value_string(NULL, "text");
    g_autoptr(value) got = type_convert(a, &t_string, h, "x", NULL);
    g_assert_true(got == h);
    g_autoptr(value) copy = type_convert(NULL, &t_string, s, "x", NULL);
    g_assert_true(copy != s);
    g_assert_false(copy->in_arena);
}

static void test_neutral(void)
{
    static const struct type *const types[] = {&t_string, &t_int,  &t_float, &t_bool, &t_date,
                                               &t_vm,     &t_enum, &t_ints,  &t_map};
    for (gsize i = 0; i < G_N_ELEMENTS(types); i++) {
        g_autoptr(value) v = type_neutral(types[i]);
        g_autoptr(value) again = type_convert(NULL, types[i], v, "x", NULL);
        g_assert_nonnull(again);
        g_assert_true(value_equal(v, again));
    }
    g_assert_true(ref_is_null(NULL));
    g_assert_true(ref_is_null(""));
    g_assert_true(ref_is_null(NULL_REF));
    g_assert_false(ref_is_null("OpaqueRef:0"));
}

/* ---- roles ---- */

static void test_roles(void)
{
    enum role r;
    for (enum role i = ROLE_read_only; i <= ROLE_pool_admin; i++) {
        g_assert_true(role_parse(role_name(i), &r));
        g_assert_cmpint(r, ==, i);
    }
    g_assert_false(role_parse("local-root", &r));
    g_assert_false(role_parse("none", &r));
    g_assert_false(role_parse("", &r));
    g_assert_cmpint(message_lookup("VM.set_name_label")->role, ==, ROLE_vm_admin);
    g_assert_cmpint(message_lookup("VM.get_name_label")->role, ==, ROLE_read_only);
    g_assert_cmpint(message_lookup("SR.set_other_config")->role, ==, ROLE_pool_operator);
    g_assert_cmpint(message_lookup("VM.create")->role, ==, ROLE_vm_admin);
    g_assert_cmpstr(message_lookup("VM.start")->permission, ==, "vm.start");
}

static void assert_key_role(const char *key, enum role wanted, gboolean wanted_own)
{
    const struct class *vm = class_by_id(CLASS_VM);
    gboolean own = !wanted_own;
    g_assert_cmpint(key_role(vm, class_field(vm, "other_config"), key, &own), ==, wanted);
    g_assert_cmpint(own, ==, wanted_own);
}

static void test_key_roles(void)
{
    assert_key_role("folder", ROLE_vm_operator, TRUE);
    assert_key_role("folders", ROLE_vm_admin, FALSE);
    assert_key_role("XenCenter.CustomFields.owner", ROLE_vm_operator, TRUE);
    assert_key_role("XenCenter.CustomFields.", ROLE_vm_operator, TRUE);
    assert_key_role("XenCenter.CustomFields", ROLE_vm_admin, FALSE);
    assert_key_role("pci", ROLE_pool_admin, TRUE);
    const struct class *vm = class_by_id(CLASS_VM);
    gboolean own = TRUE;
    g_assert_cmpint(key_role(vm, class_field(vm, "platform"), "folder", &own), ==, ROLE_vm_admin);
    g_assert_false(own);
}

/* ---- errors and the description ---- */

static void test_errors(void)
{
    gsize n;
    const struct error_row *rows = model_errors(&n);
    g_assert_cmpuint(n, >, 500);
    g_assert_true(model_error(rows[0].code) == &rows[0]);
    g_assert_null(model_error("NO_SUCH_ERROR"));
    g_assert_cmpstr(model_error("HANDLE_INVALID")->params[1], ==, "handle");
    gsize n_messages;
    const struct message *const *all = message_all(&n_messages);
    for (gsize i = 0; i < n_messages; i++)
        for (const char *const *e = all[i]->errors; e && *e; e++)
            g_assert_nonnull(model_error(*e));
}

static void test_describe(void)
{
    g_autoptr(value) d = model_describe();
    g_assert_cmpuint(value_count(value_get(d, "classes")), ==, N_CLASSES);
    g_assert_nonnull(value_get(value_get(d, "errors"), "VM_BAD_POWER_STATE"));
    g_autofree char *text = json_text(d);
    g_assert_cmpuint(strlen(text), >, 100000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    model_init();
    g_test_add_func("/model/classes", test_classes);
    g_test_add_func("/model/fields", test_fields);
    g_test_add_func("/model/message-names", test_message_names);
    g_test_add_func("/model/message-list", test_message_list);
    g_test_add_func("/model/implicit-params", test_implicit_params);
    g_test_add_func("/model/states", test_states);
    g_test_add_func("/model/type-names", test_type_names);
    g_test_add_func("/model/initial", test_initial);
    g_test_add_func("/model/convert", test_convert);
    g_test_add_func("/model/convert-keeps", test_convert_keeps);
    g_test_add_func("/model/neutral", test_neutral);
    g_test_add_func("/model/roles", test_roles);
    g_test_add_func("/model/key-roles", test_key_roles);
    g_test_add_func("/model/errors", test_errors);
    g_test_add_func("/model/describe", test_describe);
    return g_test_run();
}
