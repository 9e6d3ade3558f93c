/* test-durable.c - the store over a journal that a test stops and breaks: waiting, visibility, undoing, reloading. */
#include <string.h>

#include "daemon/store/store_internal.h"
#include "xapi-classes/vm/operation.h"
#include "tests/unit/mock-journal.h"

static struct store *open_over(struct mock_disk *d)
{
    g_autoptr(GError) error = NULL;
    struct store *s = store_open(mock_journal(d), &error);
    g_assert_no_error(error);
    return s;
}

static guint64 begin_vm(struct store *s, const char *name, char **ref)
{
    struct txn *t = txn_begin(s);
    *ref = g_strdup(txn_create(t, CLASS_VM, NULL, NULL));
    txn_set_str(t, CLASS_VM, *ref, F_VM_name_label, name);
    return txn_commit(t);
}

static char *make_vm(struct store *s, const char *name)
{
    char *ref;
    g_assert_true(store_wait(s, begin_vm(s, name, &ref), NULL));
    return ref;
}

static guint64 set_str(struct store *s, enum class_id class, const char *ref, int field, const char *text)
{
    struct txn *t = txn_begin(s);
    txn_set_str(t, class, ref, field, text);
    return txn_commit(t);
}

static guint64 begin_vbd(struct store *s, const char *vm, char **ref)
{
    struct txn *t = txn_begin(s);
    *ref = g_strdup(txn_create(t, CLASS_VBD, NULL, NULL));
    txn_set_str(t, CLASS_VBD, *ref, F_VBD_VM, vm);
    return txn_commit(t);
}

static guint64 destroy(struct store *s, enum class_id class, const char *ref)
{
    struct txn *t = txn_begin(s);
    txn_destroy(t, class, ref);
    return txn_commit(t);
}

static void assert_str(struct store *s, const char *ref, int field, const char *expected)
{
    g_autoptr(record) r = store_get_any(s, ref);
    g_assert_nonnull(r);
    g_assert_cmpstr(record_str(r, field), ==, expected);
}

static void describe(const struct store_change *c, void *data)
{
    const char *name = c->record == NULL ? "-" : "";
    if (c->record != NULL && c->class->name_field >= 0)
        name = record_str(c->record, c->class->name_field);
    g_string_append_printf(data, "%s%s ", c->class->lower_name, name);
}

static void assert_walk(struct store *s, guint64 since, const char *expected)
{
    GString *text = g_string_new(NULL);
    store_walk(s, since, describe, text);
    g_assert_cmpstr(text->str, ==, expected);
    g_string_free(text, TRUE);
}

/* ---- what is kept ---- */

static void test_kept(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    g_autofree char *vm = make_vm(s, "a");
    g_autofree char *text = NULL;
    g_autoptr(record) r = store_get(s, CLASS_VM, vm);
    /* What is not initial, but for what follows from the rest. */
    text = g_strdup_printf("{\"uuid\":\"%s\",\"name_label\":\"a\"", record_str(r, F_VM_uuid));
    g_assert_true(g_str_has_prefix(mock_row_text(d, vm), text));
    g_assert_null(strstr(mock_row_text(d, vm), "allowed_operations"));

    /* A VM whose mirror set changes is not written again; a session never is; nor is progress. */
    guint writes = d->writes;
    char *vbd;
    g_assert_true(store_wait(s, begin_vbd(s, vm, &vbd), NULL));
    g_assert_cmpuint(d->writes, ==, writes + 1);
    struct txn *t = txn_begin(s);
    txn_create(t, CLASS_session, NULL, NULL);
    g_assert_cmpuint(txn_commit(t), ==, 0);
    t = txn_begin(s);
    txn_touch(t, CLASS_VM, vm);
    g_assert_cmpuint(txn_commit(t), ==, 0);
    g_assert_cmpuint(d->writes, ==, writes + 1);

    g_assert_true(store_wait(s, destroy(s, CLASS_VM, vm), NULL));
    g_assert_null(mock_row_text(d, vm));
    g_assert_true(store_set_meta(s, "epoch", "7", NULL));
    g_autofree char *epoch = store_get_meta(s, "epoch");
    g_assert_cmpstr(epoch, ==, "7");
    store_close(s);
    mock_disk_free(d);
    g_free(vbd);
}

static void test_ephemeral_field(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    struct txn *t = txn_begin(s);
    g_autofree char *task = g_strdup(txn_create(t, CLASS_task, NULL, NULL));
    txn_set_float(t, CLASS_task, task, F_task_progress, 0.5);
    g_assert_true(store_wait(s, txn_commit(t), NULL));
    g_assert_null(strstr(mock_row_text(d, task), "progress"));
    t = txn_begin(s);
    txn_set_float(t, CLASS_task, task, F_task_progress, 0.7);
    g_assert_cmpuint(txn_commit(t), ==, 0);
    store_close(s);
    mock_disk_free(d);
}

static void add_row(struct mock_disk *d, const char *ref, const char *class, const char *json)
{
    struct mock_row *r = g_new(struct mock_row, 1);
    *r = (struct mock_row){g_strdup(ref), g_strdup(class), g_strdup(json)};
    g_ptr_array_add(d->rows, r);
}

static void test_load(void)
{
    struct mock_disk *d = mock_disk_new();
    add_row(d, "OpaqueRef:v1", "VBD", "{\"VM\":\"OpaqueRef:a\"}");
    add_row(d, "OpaqueRef:a", "VM",
            "{\"name_label\":\"a\",\"memory_target\":\"12\",\"HVM_boot_params\":{\"order\":\"d\"},"
            "\"snapshot_time\":\"20240101T00:00:00Z\"}");
    add_row(d, "OpaqueRef:v2", "VBD", "{\"VM\":\"OpaqueRef:a\"}");
    struct store *s = open_over(d);
    g_autoptr(record) r = store_get(s, CLASS_VM, "OpaqueRef:a");
    g_assert_cmpint(record_int(r, F_VM_memory_target), ==, 12);
    g_assert_cmpint(record_int(r, F_VM_snapshot_time), ==, 1704067200);
    g_assert_cmpstr(record_key(r, F_VM_HVM_boot_params, "order"), ==, "d");
    g_assert_cmpstr(record_str(r, F_VM_power_state), ==, "Halted");
    g_assert_cmpuint(value_count(record_field(r, F_VM_VBDs)), ==, 2);
    g_assert_cmpstr(value_str(value_at(record_field(r, F_VM_VBDs), 0)), ==, "OpaqueRef:v1");
    /* Everything that was loaded is old: generation 1. */
    assert_walk(s, 0, "vbd vma vbd ");
    assert_walk(s, 1, "");
    store_close(s);
    mock_disk_free(d);
}

static void assert_no_load(const char *class, const char *json, const char *why)
{
    struct mock_disk *d = mock_disk_new();
    add_row(d, "OpaqueRef:a", class, json);
    g_autoptr(GError) error = NULL;
    g_assert_null(store_open(mock_journal(d), &error));
    g_assert_nonnull(strstr(error->message, why));
    mock_disk_free(d);
}

static void test_load_bad(void)
{
    assert_no_load("VM", "{", "VM OpaqueRef:a is damaged");
    assert_no_load("VM", "[]", "not a record");
    assert_no_load("Spaceship", "{}", "Spaceship");
    assert_no_load("event", "{}", "event");

    struct mock_disk *d = mock_disk_new();
    add_row(d, "OpaqueRef:a", "VM", "{\"warp\":1,\"name_label\":\"a\",\"power_state\":\"Flying\"}");
    add_row(d, "OpaqueRef:b", "VM", "{\"warp\":1,\"VBDs\":[\"x\"]}");
    g_test_expect_message("xenapid", G_LOG_LEVEL_WARNING, "*VM.warp*");
    g_test_expect_message("xenapid", G_LOG_LEVEL_WARNING, "*VM.power_state*");
    g_test_expect_message("xenapid", G_LOG_LEVEL_WARNING, "*VM.VBDs*");
    struct store *s = open_over(d);
    g_test_assert_expected_messages();
    assert_str(s, "OpaqueRef:a", F_VM_name_label, "a");
    assert_str(s, "OpaqueRef:a", F_VM_power_state, "Halted");
    store_close(s);
    mock_disk_free(d);
}

/* What comes back after a restart is what was there. */
static void test_reload(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    g_autofree char *a = make_vm(s, "a");
    g_autofree char *b = make_vm(s, "b");
    g_autofree char *c = make_vm(s, "c");
    char *x, *y;
    begin_vbd(s, a, &x);
    begin_vbd(s, a, &y);
    destroy(s, CLASS_VM, b);
    struct txn *t = txn_begin(s);
    txn_put_key(t, CLASS_VM, c, F_VM_other_config, "k", "\x01\"\\\xe2\x82\xac");
    txn_set_time(t, CLASS_VM, c, F_VM_snapshot_time, 1704067200);
    txn_commit(t);
    g_autoptr(GPtrArray) before = store_all(s, CLASS_VM);
    store_close(s);
    s = open_over(d);
    t = txn_begin(s);
    operations_clear(t); /* as every start does: works out again what is derived */
    txn_commit(t);
    g_autoptr(GPtrArray) after = store_all(s, CLASS_VM);
    g_assert_cmpuint(after->len, ==, before->len);
    for (guint i = 0; i < after->len; i++)
        g_assert_true(
            g_bytes_equal(record_bytes(before->pdata[i], WIRE_JSON), record_bytes(after->pdata[i], WIRE_JSON)));
    store_close(s);
    mock_disk_free(d);
    g_free(x);
    g_free(y);
}

/* ---- waiting and seeing ---- */

/* What the store's threads have told, in order. */
struct told {
    GMutex lock;
    GCond changed;
    GQueue texts;
};

static void tell(struct told *told, const char *text)
{
    g_mutex_lock(&told->lock);
    g_queue_push_tail(&told->texts, g_strdup(text));
    g_cond_signal(&told->changed);
    g_mutex_unlock(&told->lock);
}

static void note_decided(const struct fault *f, void *data)
{
    tell(data, f != NULL ? f->code : "durable");
}

static void assert_told(struct told *told, const char *expected)
{
    g_mutex_lock(&told->lock);
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (told->texts.length == 0 && g_cond_wait_until(&told->changed, &told->lock, end))
        ;
    g_autofree char *got = g_queue_pop_head(&told->texts);
    g_mutex_unlock(&told->lock);
    g_assert_cmpstr(got, ==, expected);
}

static void assert_nothing_told(struct told *told)
{
    g_mutex_lock(&told->lock);
    g_assert_cmpuint(told->texts.length, ==, 0);
    g_mutex_unlock(&told->lock);
}

static void test_visible_when_durable(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    struct told told = {.texts = G_QUEUE_INIT};
    g_autofree char *a = make_vm(s, "a");
    guint64 g = store_generation(s);
    mock_hold(d);
    guint64 seq = set_str(s, CLASS_VM, a, F_VM_name_label, "b");
    mock_await(d);
    /* Readers see it, watchers do not, and nobody is told yet. */
    assert_str(s, a, F_VM_name_label, "b");
    g_assert_cmpuint(store_generation(s), ==, g);
    assert_walk(s, 0, "vma ");
    assert_walk(s, g, "");
    g_assert_true(store_when_durable(s, seq, note_decided, &told));
    /* A change that needs no journal is shown in its turn. */
    struct txn *t = txn_begin(s);
    txn_touch(t, CLASS_VM, a);
    g_assert_cmpuint(txn_commit(t), <=, seq); /* no commit of its own to wait for */
    g_assert_cmpuint(store_generation(s), ==, g);
    /* Who sets what is there already must wait for it to be durable. */
    g_assert_cmpuint(set_str(s, CLASS_VM, a, F_VM_name_label, "b"), ==, seq);
    assert_nothing_told(&told);
    mock_release(d);
    g_assert_true(store_wait(s, seq, NULL));
    assert_told(&told, "durable");
    g_assert_false(store_when_durable(s, seq, note_decided, &told));
    g_assert_false(store_when_durable(s, 0, note_decided, &told));
    g_assert_cmpuint(store_generation(s), >, g);
    assert_walk(s, g, "vmb ");
    g_assert_cmpuint(set_str(s, CLASS_VM, a, F_VM_name_label, "b"), ==, 0);
    store_close(s);
    mock_disk_free(d);
}

/* What only says how the world is, is seen before it is written; what came before it keeps its place. */
static guint64 observe_name(struct store *s, const char *ref, const char *name)
{
    struct txn *t = txn_begin(s);
    txn_observes(t);
    txn_set_str(t, CLASS_VM, ref, F_VM_name_label, name);
    return txn_commit(t);
}

static void test_observed(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    g_autofree char *ref = make_vm(s, "a");
    guint64 start = store_generation(s);
    mock_hold(d);
    guint64 seen = observe_name(s, ref, "b");
    assert_walk(s, start, "vmb ");
    guint64 middle = store_generation(s);
    g_assert_cmpuint(middle, >, start);
    mock_await(d);
    guint64 later = observe_name(s, ref, "c"); /* while another one is being written it waits for its turn */
    guint64 last = set_str(s, CLASS_VM, ref, F_VM_name_label, "d");
    assert_walk(s, start, "vmb ");
    mock_release(d);
    g_assert_true(store_wait(s, seen, NULL));
    g_assert_true(store_wait(s, later, NULL));
    g_assert_true(store_wait(s, last, NULL));
    assert_walk(s, start, "vmd ");
    assert_walk(s, middle, "vmd ");
    g_assert_nonnull(strstr(mock_row_text(d, ref), "\"d\""));
    /* Refused, it is undone, and that is seen, too. */
    middle = store_generation(s);
    mock_fail(d, TRUE);
    g_test_expect_message(G_LOG_DOMAIN, G_LOG_LEVEL_WARNING, "*OUT_OF_SPACE*");
    g_assert_false(store_wait(s, observe_name(s, ref, "e"), NULL));
    g_test_assert_expected_messages();
    assert_str(s, ref, F_VM_name_label, "d");
    assert_walk(s, middle, "vmd ");
    mock_fail(d, FALSE);
    g_assert_true(store_wait(s, destroy(s, CLASS_VM, ref), NULL));
    store_close(s);
    mock_disk_free(d);
}

static void test_batches(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    g_autofree char *a = make_vm(s, "a");
    guint commits = d->commits, writes = d->writes;
    mock_hold(d);
    set_str(s, CLASS_VM, a, F_VM_name_label, "0");
    mock_await(d);
    for (int i = 1; i <= 100; i++) {
        g_autofree char *name = g_strdup_printf("%d", i);
        set_str(s, CLASS_VM, a, F_VM_name_label, name);
    }
    mock_release(d);
    store_close(s);
    /* All that waited went in one commit, and of one object only the last state. */
    g_assert_cmpuint(d->commits, ==, commits + 2);
    g_assert_cmpuint(d->writes, ==, writes + 2);
    g_assert_nonnull(strstr(mock_row_text(d, a), "\"100\""));
    mock_disk_free(d);
}

static void test_short_life(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    g_autofree char *a = make_vm(s, "a");
    char *b;
    guint64 g = store_generation(s);
    mock_hold(d);
    begin_vm(s, "b", &b);
    destroy(s, CLASS_VM, b);
    guint64 seq = destroy(s, CLASS_VM, a);
    g_assert_null(store_get_any(s, a));
    assert_walk(s, 0, "vma ");
    mock_release(d);
    g_assert_true(store_wait(s, seq, NULL));
    assert_walk(s, g, "vm- ");
    g_assert_cmpuint(g_hash_table_size(s->by_ref), ==, 0);
    g_assert_cmpuint(d->rows->len, ==, 0);
    store_close(s);
    mock_disk_free(d);
    g_free(b);
}

static void note_classes(const guint64 changed[CLASS_WORDS], void *data)
{
    gboolean vm = (changed[CLASS_VM / 64] >> (CLASS_VM % 64)) & 1;
    gboolean session = (changed[CLASS_session / 64] >> (CLASS_session % 64)) & 1;
    tell(data, vm ? (session ? "both" : "VM") : (session ? "session" : "other"));
}

static void test_notify(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    struct told told = {.texts = G_QUEUE_INIT};
    store_set_notify(s, note_classes, &told);
    g_autofree char *a = make_vm(s, "a");
    assert_told(&told, "VM");
    struct txn *t = txn_begin(s);
    txn_create(t, CLASS_session, NULL, NULL);
    txn_commit(t);
    t = txn_begin(s);
    txn_touch(t, CLASS_VM, a);
    txn_commit(t);
    assert_told(&told, "VM");
    store_close(s);
    assert_nothing_told(&told);
    mock_disk_free(d);
}

/* ---- undoing ---- */

#define EXPECT_UNDO() g_test_expect_message("xenapid", G_LOG_LEVEL_WARNING, "*are undone: OUT_OF_SPACE*")

static void assert_undone(struct store *s, guint64 seq)
{
    struct fault f = FAULT_INIT;
    g_assert_cmpuint(seq, !=, 0);
    g_assert_false(store_wait(s, seq, &f));
    g_assert_cmpstr(f.code, ==, "OUT_OF_SPACE");
    g_assert_cmpstr(f.params[0], ==, "/mock");
    fault_clear(&f);
}

static void test_undo(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    struct told told = {.texts = G_QUEUE_INIT};
    g_autofree char *a = make_vm(s, "a");
    g_autofree char *b = make_vm(s, "b");
    g_autofree char *z = make_vm(s, "z");
    char *x, *y, *c;
    g_assert_true(store_wait(s, begin_vbd(s, b, &x), NULL));
    guint64 g = store_generation(s);
    EXPECT_UNDO();
    mock_hold(d);
    guint64 first = set_str(s, CLASS_VM, a, F_VM_name_label, "a2");
    mock_await(d);
    begin_vm(s, "c", &c);
    begin_vbd(s, a, &y);
    set_str(s, CLASS_VBD, x, F_VBD_VM, a);
    destroy(s, CLASS_VBD, x);
    destroy(s, CLASS_VM, b);
    guint64 last = set_str(s, CLASS_VM, a, F_VM_name_label, "a3");
    store_when_durable(s, last, note_decided, &told);
    mock_fail(d, TRUE);
    mock_release(d);
    assert_undone(s, first);
    assert_undone(s, last);
    assert_told(&told, "OUT_OF_SPACE");
    g_test_assert_expected_messages();
    /* Told again to whoever comes late. */
    g_assert_true(store_when_durable(s, first, note_decided, &told));
    assert_told(&told, "OUT_OF_SPACE");

    assert_str(s, a, F_VM_name_label, "a");
    g_assert_null(store_get_any(s, c));
    g_assert_null(store_get_any(s, y));
    assert_str(s, x, F_VBD_VM, b);
    g_autoptr(GPtrArray) all = store_all(s, CLASS_VM);
    g_assert_cmpuint(all->len, ==, 3);
    g_assert_cmpstr(((struct record *) all->pdata[2])->ref, ==, z);
    /* b is back where it was, with its VBD. */
    g_assert_cmpstr(((struct record *) all->pdata[1])->ref, ==, b);
    g_assert_true(value_contains(record_field(all->pdata[1], F_VM_VBDs), x));
    g_assert_cmpuint(value_count(record_field(all->pdata[0], F_VM_VBDs)), ==, 0);
    g_autoptr(GPtrArray) named = store_by_name(s, CLASS_VM, "a3");
    g_assert_cmpuint(named->len, ==, 0);
    g_autoptr(record) by_uuid = store_get_by_uuid(s, CLASS_VM, record_str(all->pdata[1], F_VM_uuid));
    g_assert_nonnull(by_uuid);
    /* Watchers, who may have read the undone state elsewhere, are shown the old one. */
    g_assert_cmpuint(store_generation(s), >, g);
    GString *text = g_string_new(NULL);
    store_walk(s, g, describe, text);
    g_assert_nonnull(strstr(text->str, "vma "));
    g_assert_nonnull(strstr(text->str, "vmb "));
    g_assert_null(strstr(text->str, "-"));
    g_assert_null(strstr(text->str, "vmc"));
    g_string_free(text, TRUE);

    /* There is space again: nothing else is needed. */
    mock_fail(d, FALSE);
    g_assert_true(store_wait(s, set_str(s, CLASS_VM, a, F_VM_name_label, "a4"), NULL));
    assert_undone(s, first);
    store_close(s);
    g_assert_cmpuint(d->rows->len, ==, 4);
    g_assert_nonnull(strstr(mock_row_text(d, a), "a4"));
    mock_disk_free(d);
    g_free(x);
    g_free(y);
    g_free(c);
}

/* A session that was made while a write was failing stays: its owner was told that it is there. */
static void test_undo_spares_ephemeral(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    g_autofree char *a = make_vm(s, "a");
    struct txn *t = txn_begin(s);
    g_autofree char *task = g_strdup(txn_create(t, CLASS_task, NULL, NULL));
    g_assert_true(store_wait(s, txn_commit(t), NULL));
    EXPECT_UNDO();
    mock_hold(d);
    t = txn_begin(s);
    txn_set_str(t, CLASS_VM, a, F_VM_name_label, "b");
    txn_set_str(t, CLASS_task, task, F_task_name_label, "label");
    guint64 seq = txn_commit(t);
    mock_await(d);
    t = txn_begin(s);
    g_autofree char *session = g_strdup(txn_create(t, CLASS_session, NULL, NULL));
    txn_set_float(t, CLASS_task, task, F_task_progress, 0.5);
    g_assert_cmpuint(txn_commit(t), ==, 0);
    mock_fail(d, TRUE);
    mock_release(d);
    assert_undone(s, seq);
    g_test_assert_expected_messages();
    assert_str(s, a, F_VM_name_label, "a");
    g_autoptr(record) r = store_get(s, CLASS_task, task);
    g_assert_cmpstr(record_str(r, F_task_name_label), ==, "");
    g_assert_cmpfloat(record_float(r, F_task_progress), ==, 0.5);
    g_autoptr(record) kept = store_get(s, CLASS_session, session);
    g_assert_nonnull(kept);
    store_close(s);
    mock_disk_free(d);
}

/* progress follows from the name and the operations. */
static void derive_task(struct txn *t, const char *ref)
{
    struct record *r = txn_get(t, CLASS_task, ref);
    gsize n = strlen(record_str(r, F_task_name_label)) + value_count(record_field(r, F_task_current_operations));
    txn_set_float(t, CLASS_task, ref, F_task_progress, (double) n);
}

static void test_undo_derives(void)
{
    struct class *class = (struct class *) class_by_id(CLASS_task);
    derive_fn *usual = class->derive;
    class->derive = derive_task;
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    struct txn *t = txn_begin(s);
    g_autofree char *task = g_strdup(txn_create(t, CLASS_task, NULL, NULL));
    g_assert_true(store_wait(s, txn_commit(t), NULL));
    EXPECT_UNDO();
    mock_hold(d);
    guint64 seq = set_str(s, CLASS_task, task, F_task_name_label, "xx");
    mock_await(d);
    t = txn_begin(s);
    txn_put_key(t, CLASS_task, task, F_task_current_operations, "k", "cancel");
    g_assert_cmpuint(txn_commit(t), ==, 0);
    mock_fail(d, TRUE);
    mock_release(d);
    assert_undone(s, seq);
    g_test_assert_expected_messages();
    g_autoptr(record) r = store_get(s, CLASS_task, task);
    g_assert_cmpfloat(record_float(r, F_task_progress), ==, 1);
    store_close(s);
    mock_disk_free(d);
    class->derive = usual;
}

static void test_long_outage(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    g_autofree char *a = make_vm(s, "a");
    guint64 seqs[50];
    mock_fail(d, TRUE);
    for (guint i = 0; i < G_N_ELEMENTS(seqs); i++) {
        EXPECT_UNDO();
        seqs[i] = set_str(s, CLASS_VM, a, F_VM_name_label, "b");
        assert_undone(s, seqs[i]);
        assert_str(s, a, F_VM_name_label, "a");
    }
    g_test_assert_expected_messages();
    g_assert_cmpuint(s->failures->len, ==, 1);
    mock_fail(d, FALSE);
    guint64 good = set_str(s, CLASS_VM, a, F_VM_name_label, "b");
    g_assert_true(store_wait(s, good, NULL));
    assert_undone(s, seqs[0]);
    assert_undone(s, seqs[49]);
    store_close(s);
    mock_disk_free(d);
}

static void test_close_undone(void)
{
    struct mock_disk *d = mock_disk_new();
    struct store *s = open_over(d);
    struct told told = {.texts = G_QUEUE_INIT};
    mock_fail(d, TRUE);
    EXPECT_UNDO();
    char *a;
    store_when_durable(s, begin_vm(s, "a", &a), note_decided, &told);
    store_close(s);
    g_test_assert_expected_messages();
    assert_told(&told, "OUT_OF_SPACE");
    g_free(a);
    mock_disk_free(d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    model_init();
    g_test_add_func("/durable/kept", test_kept);
    g_test_add_func("/durable/ephemeral-field", test_ephemeral_field);
    g_test_add_func("/durable/load", test_load);
    g_test_add_func("/durable/load-bad", test_load_bad);
    g_test_add_func("/durable/reload", test_reload);
    g_test_add_func("/durable/visible-when-durable", test_visible_when_durable);
    g_test_add_func("/durable/observed", test_observed);
    g_test_add_func("/durable/batches", test_batches);
    g_test_add_func("/durable/short-life", test_short_life);
    g_test_add_func("/durable/notify", test_notify);
    g_test_add_func("/durable/undo", test_undo);
    g_test_add_func("/durable/undo-spares-ephemeral", test_undo_spares_ephemeral);
    g_test_add_func("/durable/undo-derives", test_undo_derives);
    g_test_add_func("/durable/long-outage", test_long_outage);
    g_test_add_func("/durable/close-undone", test_close_undone);
    return g_test_run();
}
