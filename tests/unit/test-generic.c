/* test-generic.c - the messages that every class has, called as the dispatcher calls them, over a store of their own.
 */
#include <string.h>

#include "daemon/call_private.h"
#include "daemon/codec/jsonrpc.h"

static struct store *store;

/* Calls a message with arguments given as a JSON array; answers its value as JSON, or "CODE [params]". */
static char *run(const char *name, const char *json)
{
    g_autoptr(arena) a = arena_new();
    struct value *given = json_parse(a, json, strlen(json), NULL, NULL);
    struct value *args[8];
    struct pending_call pc = {.call = {.msg = message_lookup(name), .args = args, .arena = a}};
    struct call *c = &pc.call;
    g_assert_nonnull(c->msg);
    g_assert_cmpuint(value_count(given), ==, c->msg->n_params);
    for (int i = 0; i < c->msg->n_params; i++) {
        args[i] = type_convert(a, c->msg->params[i].type, value_at(given, i), c->msg->params[i].name, &c->fault);
        g_assert_nonnull(args[i]);
    }
    g_autoptr(value) result = c->msg->handler(c);
    g_assert_cmpint(result == NULL, ==, c->fault.code != NULL);
    char *text = result ? json_text(result) : fault_text(&c->fault);
    fault_clear(&c->fault);
    return text;
}

static void assert_run(const char *name, const char *args, const char *wanted)
{
    g_autofree char *got = run(name, args);
    g_assert_cmpstr(got, ==, wanted);
}

/* The same with refs put in for %s. */
static void check(const char *name, const char *wanted, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void check(const char *name, const char *wanted, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *args = g_strdup_vprintf(format, ap);
    va_end(ap);
    assert_run(name, args, wanted);
}

/* PVS_cache_storage and secret have generic constructors, VMSS has one with checks around it. */
static char *new_object(const char *name, const char *record)
{
    g_autofree char *args = g_strdup_printf("[%s]", record);
    g_autofree char *json = run(name, args);
    g_assert_true(g_str_has_prefix(json, "\"OpaqueRef:"));
    return g_strndup(json + 1, strlen(json) - 2);
}

static char *uuid_of(enum class_id class, const char *ref)
{
    g_autoptr(record) r = store_get(store, class, ref);
    return g_strdup(record_str(r, class_by_id(class)->uuid_field));
}

static void test_create(void)
{
    g_autofree char *ref = new_object("VMSS.create", "{\"name_label\":\"n\",\"uuid\":\"mine\",\"unknown\":1,"
                                                     "\"schedule\":{\"min\":\"15\"},\"VMs\":[\"x\"]}");
    check("VMSS.get_schedule", "{\"min\":\"15\"}", "[\"%s\"]", ref);
    check("VMSS.get_retained_snapshots", "7", "[\"%s\"]", ref);
    /* RO/runtime: not the caller's to say. */
    check("VMSS.get_VMs", "[]", "[\"%s\"]", ref);
    g_autofree char *uuid = uuid_of(CLASS_VMSS, ref);
    g_assert_true(uuid_is_valid(uuid));
    check("VMSS.destroy", "\"\"", "[\"%s\"]", ref);
    g_autofree char *gone = g_strdup_printf("HANDLE_INVALID [VMSS, %s]", ref);
    check("VMSS.destroy", gone, "[\"%s\"]", ref);
    check("VMSS.get_schedule", gone, "[\"%s\"]", ref);
    check("VMSS.get_record", gone, "[\"%s\"]", ref);
}

static void test_dangling(void)
{
    assert_run("PVS_cache_storage.create", "[{\"host\":\"OpaqueRef:none\"}]", "HANDLE_INVALID [host, OpaqueRef:none]");
    assert_run("PVS_cache_storage.get_all", "[]", "[]"); /* nothing is left of it */
    g_autofree char *ref = new_object("PVS_cache_storage.create", "{\"host\":\"\",\"SR\":\"OpaqueRef:NULL\"}");
    check("PVS_cache_storage.get_host", "\"OpaqueRef:NULL\"", "[\"%s\"]", ref);
    check("PVS_cache_storage.destroy", "\"\"", "[\"%s\"]", ref);
}

/* The answer for a large class is kept; what changes is in the next one all the same. */
static void test_large_class(void)
{
    char *refs[70];
    for (guint i = 0; i < G_N_ELEMENTS(refs); i++)
        refs[i] = new_object("secret.create", "{\"value\":\"v\"}");
    for (int round = 0; round < 4; round++) {
        g_autofree char *key = g_strdup_printf("\"%d\":\"x\"", round);
        g_autofree char *first = run("secret.get_all_records", "[]");
        for (int again = 0; again < 4; again++)
            assert_run("secret.get_all_records", "[]", first);
        g_assert_null(strstr(first, key));
        check("secret.add_to_other_config", "\"\"", "[\"%s\",\"%d\",\"x\"]", refs[round], round);
        g_autofree char *next = run("secret.get_all_records", "[]");
        g_assert_nonnull(strstr(next, key));
        assert_run("secret.get_all_records", "[]", next);
    }
    for (guint i = 0; i < G_N_ELEMENTS(refs); i++) {
        check("secret.destroy", "\"\"", "[\"%s\"]", refs[i]);
        g_autofree char *rest = run("secret.get_all_records", "[]");
        g_assert_null(strstr(rest, refs[i]));
        g_free(refs[i]);
    }
}

static void test_map(void)
{
    g_autofree char *ref = new_object("secret.create", "{\"value\":\"v\"}");
    g_autofree char *uuid = uuid_of(CLASS_secret, ref);
    check("secret.add_to_other_config", "\"\"", "[\"%s\",\"k\",\"v\"]", ref);
    g_autofree char *twice = g_strdup_printf("MAP_DUPLICATE_KEY [secret, other_config, %s, k]", uuid);
    check("secret.add_to_other_config", twice, "[\"%s\",\"k\",\"v\"]", ref);
    check("secret.get_other_config", "{\"k\":\"v\"}", "[\"%s\"]", ref);
    check("secret.remove_from_other_config", "\"\"", "[\"%s\",\"k\"]", ref);
    check("secret.remove_from_other_config", "\"\"", "[\"%s\",\"k\"]", ref);
    check("secret.set_other_config", "\"\"", "[\"%s\",{\"x\":\"y\",\"z\":\"\"}]", ref);
    check("secret.get_other_config", "{\"x\":\"y\",\"z\":\"\"}", "[\"%s\"]", ref);
    assert_run("secret.add_to_other_config", "[\"\",\"k\",\"v\"]", "HANDLE_INVALID [secret, OpaqueRef:NULL]");
    assert_run("secret.remove_from_other_config", "[\"x\",\"k\"]", "HANDLE_INVALID [secret, x]");
    assert_run("secret.set_other_config", "[\"x\",{}]", "HANDLE_INVALID [secret, x]");
    check("secret.destroy", "\"\"", "[\"%s\"]", ref);
}

static char *new_sr(const char *name)
{
    struct txn *t = txn_begin(store);
    char *ref = g_strdup(txn_create(t, CLASS_SR, NULL, NULL));
    txn_set_str(t, CLASS_SR, ref, F_SR_name_label, name);
    txn_commit(t);
    return ref;
}

static void destroy(enum class_id class, const char *ref)
{
    struct txn *t = txn_begin(store);
    txn_destroy(t, class, ref);
    txn_commit(t);
}

static void test_set(void)
{
    g_autofree char *ref = new_sr("s");
    check("SR.add_tags", "\"\"", "[\"%s\",\"b\"]", ref);
    check("SR.add_tags", "\"\"", "[\"%s\",\"a\"]", ref);
    check("SR.add_tags", "\"\"", "[\"%s\",\"b\"]", ref);
    check("SR.get_tags", "[\"b\",\"a\"]", "[\"%s\"]", ref);
    check("SR.remove_tags", "\"\"", "[\"%s\",\"b\"]", ref);
    check("SR.remove_tags", "\"\"", "[\"%s\",\"b\"]", ref);
    check("SR.get_tags", "[\"a\"]", "[\"%s\"]", ref);
    check("SR.set_tags", "\"\"", "[\"%s\",[]]", ref);
    check("SR.get_tags", "[]", "[\"%s\"]", ref);
    assert_run("SR.add_tags", "[\"x\",\"b\"]", "HANDLE_INVALID [SR, x]");
    assert_run("SR.remove_tags", "[\"x\",\"b\"]", "HANDLE_INVALID [SR, x]");
    destroy(CLASS_SR, ref);
}

static void test_find(void)
{
    g_autofree char *one = new_sr("one"), *two = new_sr("two"), *other = new_sr("two");
    g_autofree char *uuid = uuid_of(CLASS_SR, one), *quoted = g_strdup_printf("\"%s\"", one);
    g_autofree char *all = g_strdup_printf("[\"%s\",\"%s\",\"%s\"]", one, two, other);
    g_autofree char *twos = g_strdup_printf("[\"%s\",\"%s\"]", two, other);
    g_autofree char *ones = g_strdup_printf("[\"%s\"]", one);
    check("SR.get_by_uuid", quoted, "[\"%s\"]", uuid);
    assert_run("SR.get_by_uuid", "[\"no\"]", "UUID_INVALID [SR, no]");
    check("PBD.get_by_uuid", "UUID_INVALID [PBD, no]", "[\"no\"]");
    assert_run("SR.get_by_name_label", "[\"two\"]", twos);
    assert_run("SR.get_by_name_label", "[\"three\"]", "[]");
    assert_run("SR.get_all", "[]", all);
    assert_run("SR.get_all_where", "[\"true\"]", all);
    assert_run("SR.get_all_where", "[\"field 'name__label' = 'one'\"]", ones);
    assert_run("SR.get_all_where", "[\"one\"]", "INVALID_VALUE [expr, one]");
    assert_run("SR.get_all_records_where", "[\"false\"]", "{}");
    assert_run("SR.get_all_records_where", "[\"not\"]", "INVALID_VALUE [expr, not]");
    g_autofree char *record = run("SR.get_record", ones), *records = run("SR.get_all_records", "[]");
    g_autofree char *chosen = run("SR.get_all_records_where", "[\"field \\\"name_label\\\" = \\\"one\\\"\"]");
    g_autofree char *wanted = g_strdup_printf("{\"%s\":%s}", one, record);
    g_assert_cmpstr(chosen, ==, wanted);
    g_assert_nonnull(strstr(records, record));
    g_assert_nonnull(strstr(record, "\"name_label\":\"one\""));
    destroy(CLASS_SR, one);
    destroy(CLASS_SR, two);
    destroy(CLASS_SR, other);
}

static void test_refusals(void)
{
    assert_run("VBD_metrics.get_all_records", "[]", "MESSAGE_REMOVED []");
    struct message m = {.full_name = (char *) "VM.fly"};
    struct call c = {.msg = &m};
    g_assert_null(unbuilt(&c));
    g_autofree char *text = fault_text(&c.fault);
    g_assert_cmpstr(text, ==, "NOT_IMPLEMENTED [VM.fly]");
    fault_clear(&c.fault);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    model_init();
    store = store_open(NULL, NULL);
    front_set_store(store);
    g_test_add_func("/generic/create", test_create);
    g_test_add_func("/generic/dangling", test_dangling);
    g_test_add_func("/generic/large-class", test_large_class);
    g_test_add_func("/generic/map", test_map);
    g_test_add_func("/generic/set", test_set);
    g_test_add_func("/generic/find", test_find);
    g_test_add_func("/generic/refusals", test_refusals);
    int rc = g_test_run();
    store_close(store);
    return rc;
}
