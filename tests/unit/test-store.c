/* test-store.c - the store without a journal: records, transactions, indexes, mirror sets, derived fields, changes. */
#include <string.h>

#include "daemon/codec/jsonrpc.h"
#include "daemon/store/store_internal.h"

static char *make_vm(struct store *s, const char *name)
{
    struct txn *t = txn_begin(s);
    char *ref = g_strdup(txn_create(t, CLASS_VM, NULL, NULL));
    txn_set_str(t, CLASS_VM, ref, F_VM_name_label, name);
    txn_commit(t);
    return ref;
}

static char *make_vbd(struct store *s, const char *vm)
{
    struct txn *t = txn_begin(s);
    char *ref = g_strdup(txn_create(t, CLASS_VBD, NULL, NULL));
    txn_set_str(t, CLASS_VBD, ref, F_VBD_VM, vm);
    txn_commit(t);
    return ref;
}

static void destroy(struct store *s, enum class_id class, const char *ref)
{
    struct txn *t = txn_begin(s);
    txn_destroy(t, class, ref);
    txn_commit(t);
}

static void set_str(struct store *s, enum class_id class, const char *ref, int field, const char *text)
{
    struct txn *t = txn_begin(s);
    txn_set_str(t, class, ref, field, text);
    txn_commit(t);
}

/* ---- records ---- */

static void test_record(void)
{
    struct store *s = store_open(NULL, NULL);
    g_autofree char *ref = make_vm(s, "a");
    g_autoptr(record) r = store_get(s, CLASS_VM, ref);
    g_assert_nonnull(r);
    g_assert_cmpstr(r->ref, ==, ref);
    g_assert_true(g_str_has_prefix(ref, "OpaqueRef:"));
    g_assert_true(uuid_is_valid(ref + strlen("OpaqueRef:")));
    g_assert_true(uuid_is_valid(record_str(r, F_VM_uuid)));
    g_assert_cmpstr(record_str(r, F_VM_name_label), ==, "a");
    g_assert_cmpstr(record_str(r, F_VM_power_state), ==, "Halted");
    /* Untouched fields share the class's initial value. */
    g_assert_true(r->fields[F_VM_other_config] == r->class->fields[F_VM_other_config].initial_value);
    g_assert_null(record_key(r, F_VM_other_config, "x"));

    g_assert_null(store_get(s, CLASS_VBD, ref));
    g_assert_null(store_get(s, CLASS_VM, NULL));
    g_assert_null(store_get(s, CLASS_VM, "rubbish"));
    store_close(s);
    /* A record outlives its store. */
    g_assert_cmpstr(record_str(r, F_VM_name_label), ==, "a");
}

static void test_record_bytes(void)
{
    struct store *s = store_open(NULL, NULL);
    g_autofree char *ref = make_vm(s, "<&\"\xc3\xa9");
    g_autoptr(record) r = store_get(s, CLASS_VM, ref);
    GBytes *json = record_bytes(r, WIRE_JSON);
    g_assert_true(json == record_bytes(r, WIRE_JSON));
    g_assert_true(record_bytes(r, WIRE_XML) == record_bytes(r, WIRE_XML));

    gsize len;
    const char *text = g_bytes_get_data(json, &len);
    g_autoptr(value) read = json_parse(NULL, text, len, NULL, NULL);
    g_assert_nonnull(read);
    g_assert_cmpuint(value_count(read), ==, (guint) r->class->n_fields);
    g_assert_cmpstr(value_str(value_get(read, "name_label")), ==, "<&\"\xc3\xa9");
    for (int i = 0; i < r->class->n_fields; i++)
        g_assert_cmpstr(value_str(read->u.map.m[i].key), ==, r->class->fields[i].name);

    g_autoptr(value) map = record_map(r);
    g_assert_cmpstr(value_str(value_get(map, "name_label")), ==, "<&\"\xc3\xa9");
    g_autoptr(value) blob = record_value(r);
    g_assert_cmpint(blob->type, ==, VALUE_BLOB);
    g_assert_true(blob->u.blob.ops->bytes(blob->u.blob.data, WIRE_JSON) == json);
    g_autoptr(value) inside = blob->u.blob.ops->value(blob->u.blob.data);
    g_assert_true(value_equal(map, inside));
    store_close(s);
}

static void test_uuid(void)
{
    char a[UUID_SIZE], b[UUID_SIZE];
    uuid_generate_text(a);
    uuid_generate_text(b);
    g_assert_true(uuid_is_valid(a));
    g_assert_cmpint(a[14], ==, '4');
    g_assert_cmpstr(a, !=, b);
    g_assert_false(uuid_is_valid(NULL));
    g_assert_false(uuid_is_valid(""));
    g_assert_false(uuid_is_valid("00000000-0000-0000-0000-00000000000g"));
    g_assert_false(uuid_is_valid("00000000-0000-0000-0000-0000000000000"));
    g_assert_true(uuid_is_valid("00000000-0000-0000-0000-000000000000"));
}

/* ---- transactions ---- */

static void test_txn_isolation(void)
{
    struct store *s = store_open(NULL, NULL);
    g_autofree char *ref = make_vm(s, "before");
    struct txn *t = txn_begin(s);
    struct record *first = txn_get(t, CLASS_VM, ref);
    const char *name = record_str(first, F_VM_name_label);
    txn_set_str(t, CLASS_VM, ref, F_VM_name_label, "between");
    struct record *second = txn_get(t, CLASS_VM, ref);
    txn_set_str(t, CLASS_VM, ref, F_VM_name_label, "after");
    /* What was handed out stays as it was, until the transaction ends. */
    g_assert_cmpstr(name, ==, "before");
    g_assert_cmpstr(record_str(first, F_VM_name_label), ==, "before");
    g_assert_cmpstr(record_str(second, F_VM_name_label), ==, "between");
    g_assert_cmpstr(record_str(txn_get_any(t, ref), F_VM_name_label), ==, "after");
    g_autoptr(record) outside = store_get(s, CLASS_VM, ref);
    g_assert_cmpstr(record_str(outside, F_VM_name_label), ==, "before");
    g_assert_cmpuint(txn_commit(t), ==, 0);

    g_autoptr(record) after = store_get(s, CLASS_VM, ref);
    g_assert_cmpstr(record_str(after, F_VM_name_label), ==, "after");
    g_assert_cmpuint(after->created, ==, outside->created);
    g_assert_cmpuint(after->generation, >, outside->generation);
    g_assert_cmpstr(record_str(outside, F_VM_name_label), ==, "before");
    store_close(s);
}

static void test_txn_abort(void)
{
    struct store *s = store_open(NULL, NULL);
    g_autofree char *ref = make_vm(s, "a");
    struct txn *t = txn_begin(s);
    g_autofree char *made = g_strdup(txn_create(t, CLASS_VM, NULL, NULL));
    txn_set_str(t, CLASS_VM, ref, F_VM_name_label, "b");
    txn_abort(t);
    g_assert_null(store_get_any(s, made));
    g_autoptr(record) r = store_get(s, CLASS_VM, ref);
    g_assert_cmpstr(record_str(r, F_VM_name_label), ==, "a");
    store_close(s);
}

static void test_txn_no_change(void)
{
    struct store *s = store_open(NULL, NULL);
    g_autofree char *ref = make_vm(s, "a");
    guint64 before = store_generation(s);
    set_str(s, CLASS_VM, ref, F_VM_name_label, "a");
    struct txn *t = txn_begin(s);
    txn_set_str(t, CLASS_VM, ref, F_VM_name_label, "b");
    txn_set_str(t, CLASS_VM, ref, F_VM_name_label, "a");
    txn_remove_key(t, CLASS_VM, ref, F_VM_other_config, "absent");
    txn_commit(t);
    t = txn_begin(s);
    txn_destroy(t, CLASS_VM, txn_create(t, CLASS_VM, NULL, NULL));
    txn_commit(t);
    g_assert_cmpuint(store_generation(s), ==, before);

    t = txn_begin(s);
    txn_touch(t, CLASS_VM, ref);
    txn_commit(t);
    g_assert_cmpuint(store_generation(s), ==, before + 1);
    store_close(s);
}

static void test_txn_fields(void)
{
    struct store *s = store_open(NULL, NULL);
    g_autofree char *ref = make_vm(s, "a");
    g_autoptr(arena) a = arena_new();
    struct txn *t = txn_begin(s);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_static_max, G_MAXINT64);
    txn_set_bool(t, CLASS_VM, ref, F_VM_is_a_template, TRUE);
    txn_set_time(t, CLASS_VM, ref, F_VM_snapshot_time, 86400);
    txn_put_key(t, CLASS_VM, ref, F_VM_other_config, "k", "v");
    txn_put_key(t, CLASS_VM, ref, F_VM_other_config, "l", "w");
    txn_remove_key(t, CLASS_VM, ref, F_VM_other_config, "k");
    txn_set(t, CLASS_VM, ref, F_VM_tags, value_string_set(a, (const char *const[]){"x", "y", NULL}));
    txn_commit(t);
    arena_reset(a);
    g_autoptr(record) r = store_get(s, CLASS_VM, ref);
    g_assert_cmpint(record_int(r, F_VM_memory_static_max), ==, G_MAXINT64);
    g_assert_true(record_bool(r, F_VM_is_a_template));
    g_assert_cmpint(record_int(r, F_VM_snapshot_time), ==, 86400);
    g_assert_null(record_key(r, F_VM_other_config, "k"));
    g_assert_cmpstr(record_key(r, F_VM_other_config, "l"), ==, "w");
    g_assert_true(value_contains(record_field(r, F_VM_tags), "y"));
    /* Back at the initial value, it is the shared one again. */
    t = txn_begin(s);
    txn_remove_key(t, CLASS_VM, ref, F_VM_other_config, "l");
    txn_commit(t);
    g_autoptr(record) back = store_get(s, CLASS_VM, ref);
    g_assert_true(back->fields[F_VM_other_config] == back->class->fields[F_VM_other_config].initial_value);
    store_close(s);
}

static void test_txn_refuses(void)
{
    struct store *s = store_open(NULL, NULL);
    g_autofree char *ref = make_vm(s, "a");
    struct txn *t = txn_begin(s);
    g_test_expect_message("xenapid", G_LOG_LEVEL_CRITICAL, "*wrong type*");
    txn_set_int(t, CLASS_VM, ref, F_VM_name_label, 1);
    g_test_expect_message("xenapid", G_LOG_LEVEL_CRITICAL, "*cannot be set*");
    txn_set(t, CLASS_VM, ref, F_VM_VBDs, value_empty_set());
    g_test_expect_message("xenapid", G_LOG_LEVEL_CRITICAL, "*no VM x*");
    txn_set_str(t, CLASS_VM, "x", F_VM_name_label, "b");
    g_test_expect_message("xenapid", G_LOG_LEVEL_CRITICAL, "*no VBD*");
    txn_destroy(t, CLASS_VBD, ref);
    g_test_expect_message("xenapid", G_LOG_LEVEL_CRITICAL, "*there already*");
    txn_create(t, CLASS_VM, ref, NULL);
    g_test_assert_expected_messages();
    txn_commit(t);
    store_close(s);
}

static void test_txn_all(void)
{
    struct store *s = store_open(NULL, NULL);
    g_autofree char *a = make_vm(s, "a");
    g_autofree char *b = make_vm(s, "b");
    g_autofree char *c = make_vm(s, "c");
    struct txn *t = txn_begin(s);
    txn_destroy(t, CLASS_VM, a);
    txn_set_str(t, CLASS_VM, b, F_VM_name_label, "B");
    const char *d = txn_create(t, CLASS_VM, NULL, NULL);
    txn_destroy(t, CLASS_VM, txn_create(t, CLASS_VM, NULL, NULL));
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_VM);
    g_assert_cmpuint(all->len, ==, 3);
    g_assert_cmpstr(record_str(all->pdata[0], F_VM_name_label), ==, "B");
    g_assert_cmpstr(((struct record *) all->pdata[1])->ref, ==, c);
    g_assert_cmpstr(((struct record *) all->pdata[2])->ref, ==, d);
    /* A record of the array does not change under the caller. */
    txn_set_str(t, CLASS_VM, b, F_VM_name_label, "BB");
    g_assert_cmpstr(record_str(all->pdata[0], F_VM_name_label), ==, "B");
    txn_commit(t);
    g_autoptr(GPtrArray) outside = store_all(s, CLASS_VM);
    g_assert_cmpuint(outside->len, ==, 3);
    g_assert_cmpstr(record_str(outside->pdata[0], F_VM_name_label), ==, "BB");
    store_close(s);
}

/* ---- indexes ---- */

static guint count_named(struct store *s, const char *name)
{
    g_autoptr(GPtrArray) all = store_by_name(s, CLASS_VM, name);
    return all->len;
}

static void test_indexes(void)
{
    struct store *s = store_open(NULL, NULL);
    g_autofree char *a = make_vm(s, "same");
    g_autofree char *b = make_vm(s, "other");
    g_autofree char *c = make_vm(s, "same");
    set_str(s, CLASS_VM, b, F_VM_name_label, "same");
    g_autoptr(GPtrArray) same = store_by_name(s, CLASS_VM, "same");
    g_assert_cmpuint(same->len, ==, 3);
    const char *const refs[] = {a, b, c};
    for (guint i = 0; i < 3; i++)
        g_assert_cmpstr(((struct record *) same->pdata[i])->ref, ==, refs[i]);
    g_assert_cmpuint(count_named(s, "other"), ==, 0);
    g_assert_cmpuint(count_named(s, NULL), ==, 0);
    g_assert_cmpuint(store_count(s, CLASS_VM), ==, 3);

    g_autofree char *uuid = g_strdup(record_str(same->pdata[1], F_VM_uuid));
    g_autoptr(record) by_uuid = store_get_by_uuid(s, CLASS_VM, uuid);
    g_assert_cmpstr(by_uuid->ref, ==, b);
    g_assert_null(store_get_by_uuid(s, CLASS_VBD, uuid));
    g_assert_null(store_get_by_uuid(s, CLASS_VM, NULL));
    set_str(s, CLASS_VM, b, F_VM_uuid, "new");
    g_assert_null(store_get_by_uuid(s, CLASS_VM, uuid));
    g_autoptr(record) moved = store_get_by_uuid(s, CLASS_VM, "new");
    g_assert_cmpstr(moved->ref, ==, b);

    destroy(s, CLASS_VM, b);
    g_assert_null(store_get_by_uuid(s, CLASS_VM, "new"));
    g_assert_null(store_get_any(s, b));
    g_assert_cmpuint(count_named(s, "same"), ==, 2);
    g_assert_cmpuint(store_count(s, CLASS_VM), ==, 2);
    store_close(s);
}

static void test_given_ref(void)
{
    struct store *s = store_open(NULL, NULL);
    g_autofree char *vbd = make_vbd(s, "OpaqueRef:given");
    struct txn *t = txn_begin(s);
    g_assert_cmpstr(txn_create(t, CLASS_VM, "OpaqueRef:given", "the-uuid"), ==, "OpaqueRef:given");
    txn_commit(t);
    g_autoptr(record) r = store_get_by_uuid(s, CLASS_VM, "the-uuid");
    g_assert_cmpstr(r->ref, ==, "OpaqueRef:given");
    /* Who pointed there before it existed is in its mirror set. */
    g_assert_true(value_contains(record_field(r, F_VM_VBDs), vbd));
    /* Destroyed and made again in one transaction. */
    t = txn_begin(s);
    txn_destroy(t, CLASS_VM, r->ref);
    txn_create(t, CLASS_VM, r->ref, "another");
    txn_commit(t);
    g_autoptr(record) again = store_get(s, CLASS_VM, "OpaqueRef:given");
    g_assert_cmpstr(record_str(again, F_VM_uuid), ==, "another");
    g_assert_true(value_contains(record_field(again, F_VM_VBDs), vbd));
    g_assert_cmpuint(value_count(record_field(again, F_VM_VBDs)), ==, 1);
    store_close(s);
}

/* ---- mirror sets ---- */

static gsize n_vbds(struct store *s, const char *vm)
{
    g_autoptr(record) r = store_get(s, CLASS_VM, vm);
    return value_count(record_field(r, F_VM_VBDs));
}

static void test_mirror(void)
{
    struct store *s = store_open(NULL, NULL);
    g_autofree char *a = make_vm(s, "a");
    g_autofree char *b = make_vm(s, "b");
    g_autofree char *x = make_vbd(s, a);
    guint64 before = store_generation(s);
    g_autofree char *y = make_vbd(s, a);
    g_autoptr(record) r = store_get(s, CLASS_VM, a);
    g_assert_cmpuint(value_count(record_field(r, F_VM_VBDs)), ==, 2);
    g_assert_cmpstr(value_str(value_at(record_field(r, F_VM_VBDs), 0)), ==, x);
    g_assert_cmpstr(value_str(value_at(record_field(r, F_VM_VBDs), 1)), ==, y);
    /* That is a change of the holder too. */
    g_assert_cmpuint(r->generation, ==, before + 1);

    set_str(s, CLASS_VBD, x, F_VBD_VM, b);
    g_assert_cmpuint(n_vbds(s, a), ==, 1);
    g_assert_cmpuint(n_vbds(s, b), ==, 1);
    set_str(s, CLASS_VBD, x, F_VBD_VM, NULL_REF);
    g_assert_cmpuint(n_vbds(s, b), ==, 0);
    set_str(s, CLASS_VBD, x, F_VBD_VM, "OpaqueRef:nowhere");
    set_str(s, CLASS_VBD, x, F_VBD_VM, x);
    set_str(s, CLASS_VBD, x, F_VBD_VM, b);
    destroy(s, CLASS_VBD, x);
    g_assert_cmpuint(n_vbds(s, b), ==, 0);
    destroy(s, CLASS_VM, a);
    g_autoptr(record) orphan = store_get(s, CLASS_VBD, y);
    g_assert_cmpstr(record_str(orphan, F_VBD_VM), ==, a);
    destroy(s, CLASS_VBD, y);
    store_close(s);
}

static void test_mirror_in_one(void)
{
    struct store *s = store_open(NULL, NULL);
    struct txn *t = txn_begin(s);
    const char *vm = txn_create(t, CLASS_VM, NULL, NULL);
    const char *vbds[20];
    for (guint i = 0; i < G_N_ELEMENTS(vbds); i++) {
        vbds[i] = txn_create(t, CLASS_VBD, NULL, NULL);
        txn_set_str(t, CLASS_VBD, vbds[i], F_VBD_VM, vm);
    }
    txn_destroy(t, CLASS_VBD, vbds[3]);
    txn_set_str(t, CLASS_VBD, vbds[4], F_VBD_VM, NULL_REF);
    /* A VM that is its own snapshot and parent: holder and member at once. */
    txn_set_str(t, CLASS_VM, vm, F_VM_snapshot_of, vm);
    g_autofree char *ref = g_strdup(vm);
    txn_commit(t);
    g_autoptr(record) r = store_get(s, CLASS_VM, ref);
    g_assert_cmpuint(value_count(record_field(r, F_VM_VBDs)), ==, 18);
    g_assert_true(value_contains(record_field(r, F_VM_snapshots), ref));
    store_close(s);
}

/* ---- derived fields ---- */

static int derive_calls;

/* One class's derived field follows from another's: VM.name_description says how many VBDs it has, VBD.device says
 * the VM's. */
static void derive_vm(struct txn *t, const char *ref)
{
    struct record *r = txn_get(t, CLASS_VM, ref);
    g_autofree char *text =
        g_strdup_printf("%s has %" G_GSIZE_FORMAT, record_str(r, F_VM_name_label), value_count(r->fields[F_VM_VBDs]));
    txn_set_str(t, CLASS_VM, ref, F_VM_name_description, text);
    for (gsize i = 0; i < value_count(r->fields[F_VM_VBDs]); i++)
        txn_set_str(t, CLASS_VBD, value_str(value_at(r->fields[F_VM_VBDs], i)), F_VBD_device, text);
    derive_calls++;
}

static void derive_endless(struct txn *t, const char *ref)
{
    struct record *r = txn_get(t, CLASS_VM, ref);
    txn_set_int(t, CLASS_VM, ref, F_VM_user_version, record_int(r, F_VM_user_version) + 1);
}

static void set_derive(enum class_id class, derive_fn *fn)
{
    ((struct class *) class_by_id(class))->derive = fn;
}

static void test_derive(void)
{
    struct store *s = store_open(NULL, NULL);
    derive_fn *usual = class_by_id(CLASS_VM)->derive;
    set_derive(CLASS_VM, derive_vm);
    g_autofree char *vm = make_vm(s, "v");
    g_autofree char *x = make_vbd(s, vm);
    g_autofree char *y = make_vbd(s, vm);
    g_autoptr(record) r = store_get(s, CLASS_VM, vm);
    g_assert_true(value_contains(record_field(r, F_VM_VBDs), y));
    g_assert_cmpstr(record_str(r, F_VM_name_description), ==, "v has 2");
    g_autoptr(record) d = store_get(s, CLASS_VBD, x);
    g_assert_cmpstr(record_str(d, F_VBD_device), ==, "v has 2");
    /* Once for the change, and once more because it changed the VM itself. */
    derive_calls = 0;
    set_str(s, CLASS_VM, vm, F_VM_name_label, "w");
    g_assert_cmpint(derive_calls, ==, 2);
    store_close(s);
    set_derive(CLASS_VM, usual);
}

static void test_derive_endless(void)
{
    struct store *s = store_open(NULL, NULL);
    derive_fn *usual = class_by_id(CLASS_VM)->derive;
    set_derive(CLASS_VM, derive_endless);
    g_test_expect_message("xenapid", G_LOG_LEVEL_CRITICAL, "*do not settle*");
    g_autofree char *vm = make_vm(s, "v");
    g_test_assert_expected_messages();
    g_autoptr(record) r = store_get(s, CLASS_VM, vm);
    g_assert_cmpint(record_int(r, F_VM_user_version), ==, MAX_DERIVE_ROUNDS);
    store_close(s);
    set_derive(CLASS_VM, usual);
}

/* ---- changes ---- */

static void describe(const struct store_change *c, void *data)
{
    const char *name = c->record != NULL ? record_str(c->record, F_VM_name_label) : "-";
    g_string_append_printf(data, "%s%s ", c->class->lower_name, name);
    g_assert_true(uuid_is_valid(c->uuid));
    g_assert_cmpuint(c->created, <=, c->generation);
}

static char *walk(struct store *s, guint64 since)
{
    GString *text = g_string_new(NULL);
    guint64 upto = store_walk(s, since, describe, text);
    g_assert_cmpuint(upto, ==, store_generation(s));
    return g_string_free(text, FALSE);
}

static void assert_walk(struct store *s, guint64 since, const char *expected)
{
    g_autofree char *text = walk(s, since);
    g_assert_cmpstr(text, ==, expected);
}

static void test_walk(void)
{
    struct store *s = store_open(NULL, NULL);
    assert_walk(s, 0, "");
    g_autofree char *a = make_vm(s, "A");
    g_autofree char *b = make_vm(s, "B");
    guint64 g = store_generation(s);
    assert_walk(s, 0, "vmA vmB ");
    assert_walk(s, g, "");
    assert_walk(s, G_MAXUINT64, "");
    set_str(s, CLASS_VM, a, F_VM_name_label, "AA");
    set_str(s, CLASS_VM, a, F_VM_name_label, "AAA");
    assert_walk(s, 0, "vmB vmAAA ");
    assert_walk(s, g, "vmAAA ");
    destroy(s, CLASS_VM, b);
    g_autofree char *c = make_vm(s, "C");
    destroy(s, CLASS_VM, c);
    assert_walk(s, g, "vmAAA vm- ");
    assert_walk(s, 0, "vmAAA ");
    store_close(s);
}

static void test_walk_no_events(void)
{
    struct store *s = store_open(NULL, NULL);
    struct txn *t = txn_begin(s);
    g_autofree char *session = g_strdup(txn_create(t, CLASS_session, NULL, NULL));
    txn_commit(t);
    assert_walk(s, 0, "");
    destroy(s, CLASS_session, session);
    g_assert_null(store_get_any(s, session));
    g_assert_cmpuint(g_hash_table_size(s->by_ref), ==, 0);
    store_close(s);
}

static void test_tombstones(void)
{
    struct store *s = store_open(NULL, NULL);
    s->max_tombstones = 3;
    char *vms[5];
    for (int i = 0; i < 5; i++)
        vms[i] = make_vm(s, "v");
    guint64 g = store_generation(s);
    for (int i = 0; i < 5; i++) {
        destroy(s, CLASS_VM, vms[i]);
        g_free(vms[i]);
    }
    assert_walk(s, g, "vm- vm- vm- ");
    g_assert_cmpuint(store_oldest_tombstone(s), ==, g + 2);
    g_assert_cmpuint(s->changes.length, ==, 3);
    g_assert_cmpuint(g_hash_table_size(s->by_ref), ==, 0);
    store_close(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    model_init();
    g_test_add_func("/store/record", test_record);
    g_test_add_func("/store/record-bytes", test_record_bytes);
    g_test_add_func("/store/uuid", test_uuid);
    g_test_add_func("/store/txn/isolation", test_txn_isolation);
    g_test_add_func("/store/txn/abort", test_txn_abort);
    g_test_add_func("/store/txn/no-change", test_txn_no_change);
    g_test_add_func("/store/txn/fields", test_txn_fields);
    g_test_add_func("/store/txn/refuses", test_txn_refuses);
    g_test_add_func("/store/txn/all", test_txn_all);
    g_test_add_func("/store/indexes", test_indexes);
    g_test_add_func("/store/given-ref", test_given_ref);
    g_test_add_func("/store/mirror", test_mirror);
    g_test_add_func("/store/mirror-in-one", test_mirror_in_one);
    g_test_add_func("/store/derive", test_derive);
    g_test_add_func("/store/derive-endless", test_derive_endless);
    g_test_add_func("/store/walk", test_walk);
    g_test_add_func("/store/walk-no-events", test_walk_no_events);
    g_test_add_func("/store/tombstones", test_tombstones);
    return g_test_run();
}
