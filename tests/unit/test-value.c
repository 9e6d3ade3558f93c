/* test-value.c - values, arenas, builders, dates and faults. */
#include "daemon/value/value.h"

#include <math.h>
#include <string.h>

static int blobs_alive;

static GBytes *blob_bytes(void *data, enum wire_format format)
{
    (void) data, (void) format;
    return NULL;
}

static struct value *blob_value(void *data)
{
    return value_string(NULL, data);
}

static void blob_unref(void *data)
{
    (void) data;
    blobs_alive--;
}

static const struct value_blob_ops blob_ops = {blob_bytes, blob_value, blob_unref};

static struct value *new_blob(void)
{
    static char content[] = "content";
    blobs_alive++;
    return value_blob(&blob_ops, content);
}

static void test_arena(void)
{
    g_autoptr(arena) a = arena_new();
    g_assert_cmpuint(arena_used(a), ==, 0);
    for (guint round = 0; round < 3; round++) {
        for (gsize size = 0; size < 3000; size += 7) {
            char *p = arena_alloc(a, size);
            g_assert_cmpuint((gsize) p % 8, ==, 0);
            memset(p, (int) size, size);
        }
        char *large = arena_alloc(a, 10 * 1024 * 1024);
        memset(large, 1, 10 * 1024 * 1024);
        g_assert_cmpuint(arena_used(a), >, 10 * 1024 * 1024);
        g_assert_cmpstr(arena_strndup(a, "hello", 3), ==, "hel");
        g_assert_cmpstr(arena_strndup(a, NULL, 0), ==, "");
        arena_reset(a);
        g_assert_cmpuint(arena_used(a), ==, 0);
    }
    arena_free(NULL);
}

static void test_neutral_elements(void)
{
    g_autoptr(value) s = value_string(NULL, "text");
    g_autoptr(value) i = value_int(NULL, -5);
    g_assert_cmpstr(value_str(NULL), ==, "");
    g_assert_cmpstr(value_str(i), ==, "");
    g_assert_cmpint(value_as_int(s), ==, 0);
    g_assert_cmpint(value_as_int(NULL), ==, 0);
    g_assert_cmpfloat(value_as_float(i), ==, -5);
    g_assert_false(value_as_bool(i));
    g_assert_true(value_as_bool(value_bool(42)));
    g_assert_cmpuint(value_count(s), ==, 0);
    g_assert_null(value_at(s, 0));
    g_assert_null(value_get(s, "x"));
    g_assert_null(value_get(NULL, "x"));
    g_assert_cmpstr(value_get_str(s, "x", "otherwise"), ==, "otherwise");
    g_assert_false(value_contains(s, "text"));
    g_assert_cmpuint(value_count(value_void()), ==, 0);
}

static void test_numbers(void)
{
    static const double odd[] = {NAN, INFINITY, -INFINITY};
    for (guint i = 0; i < G_N_ELEMENTS(odd); i++) {
        g_autoptr(value) v = value_float(NULL, odd[i]);
        g_assert_cmpfloat(value_as_float(v), ==, 0);
    }
    g_autoptr(value) large = value_float(NULL, 1e300);
    g_autoptr(value) small = value_float(NULL, -1e300);
    g_autoptr(value) half = value_float(NULL, -1.5);
    g_assert_cmpint(value_as_int(large), ==, G_MAXINT64);
    g_assert_cmpint(value_as_int(small), ==, G_MININT64);
    g_assert_cmpint(value_as_int(half), ==, -1);
    g_autoptr(value) text = value_printf(NULL, "%d-%s", 7, "x");
    g_assert_cmpstr(value_str(text), ==, "7-x");
}

static struct value *sample(struct arena *a)
{
    struct value_builder map, set;
    value_builder_set(&set, a, 0);
    for (int i = 0; i < 20; i++)
        value_builder_add(&set, value_int(a, i));
    value_builder_add(&set, value_i4(a, 7));
    value_builder_add(&set, value_bool(TRUE));
    value_builder_add(&set, value_void());
    value_builder_add(&set, value_datetime(a, 1700000000));
    value_builder_map(&map, a, 1);
    value_builder_put_string(&map, "name_label", "a");
    value_builder_put(&map, "progress", value_float(a, 0.5));
    value_builder_put(&map, "numbers", value_builder_end(&set));
    value_builder_put(&map, "none", value_empty_map());
    g_assert_true(value_builder_has(&map, "progress"));
    g_assert_false(value_builder_has(&map, "Progress"));
    return value_builder_end(&map);
}

static void test_heap_and_arena(void)
{
    g_autoptr(value) copy = NULL;
    g_autoptr(value) heap = sample(NULL);
    {
        g_autoptr(arena) a = arena_new();
        struct value *v = sample(a);
        g_assert_true(value_equal(v, heap));
        value_unref(v);
        copy = value_ref(v);
    }
    g_assert_true(value_equal(copy, heap));
    struct value *same = value_ref(heap);
    g_assert_true(same == heap);
    value_unref(same);
    g_assert_cmpint(value_as_int(value_at(value_get(heap, "numbers"), 19)), ==, 19);
    g_assert_null(value_at(value_get(heap, "numbers"), 1000));
}

/* What goes from one kind of memory into the other lives as long as its container. */
static void test_mixed(void)
{
    g_autoptr(value) kept = NULL;
    {
        g_autoptr(arena) a = arena_new();
        struct value_builder b;
        value_builder_map(&b, a, 0);
        value_builder_put(&b, "blob", new_blob());
        value_builder_put(&b, "heap", value_string(NULL, "from the heap"));
        struct value *in_arena = value_builder_end(&b);
        value_builder_set(&b, NULL, 0);
        value_builder_add(&b, in_arena);
        value_builder_add(&b, value_string(a, "from the arena"));
        kept = value_builder_end(&b);
        g_assert_cmpint(blobs_alive, ==, 1);
    }
    g_assert_cmpint(blobs_alive, ==, 1);
    g_assert_cmpstr(value_get_str(value_at(kept, 0), "heap", ""), ==, "from the heap");
    g_assert_cmpstr(value_str(value_at(kept, 1)), ==, "from the arena");
    g_clear_pointer(&kept, value_unref);
    g_assert_cmpint(blobs_alive, ==, 0);
}

static void test_builder_clear(void)
{
    struct value_builder b;
    value_builder_set(&b, NULL, 4);
    value_builder_add(&b, new_blob());
    value_builder_clear(&b);
    value_builder_map(&b, NULL, 0);
    value_builder_put(&b, "a", new_blob());
    value_builder_clear(&b);
    g_assert_cmpint(blobs_alive, ==, 0);
    value_builder_set(&b, NULL, 100);
    g_assert_true(value_builder_end(&b) == value_empty_set());
    value_builder_map(&b, NULL, 0);
    g_assert_true(value_builder_end(&b) == value_empty_map());
}

static void test_set_changes(void)
{
    g_autoptr(value) none = value_set_without(value_empty_set(), "a");
    g_assert_cmpuint(value_count(none), ==, 0);
    g_autoptr(value) a = value_set_with(NULL, "a");
    g_autoptr(value) ab = value_set_with(a, "b");
    g_autoptr(value) again = value_set_with(ab, "a");
    g_autoptr(value) b = value_set_without(ab, "a");
    g_autoptr(value) expected = value_string_set(NULL, (const char *const[]){"a", "b", NULL});
    g_assert_true(value_equal(ab, expected));
    g_assert_true(value_equal(again, expected));
    g_assert_cmpuint(value_count(b), ==, 1);
    g_assert_true(value_contains(b, "b"));
    g_assert_false(value_contains(b, "a"));
    g_assert_cmpuint(value_count(a), ==, 1);
    g_assert_true(value_string_set(NULL, NULL) == value_empty_set());
}

static void test_map_changes(void)
{
    g_autoptr(value) one = value_map_with(value_empty_map(), "k", value_string(NULL, "1"));
    g_autoptr(value) two = value_map_with(one, "k", value_string(NULL, "2"));
    g_autoptr(value) three = value_map_with(two, "l", value_int(NULL, 3));
    g_autoptr(value) without = value_map_without(three, "k");
    g_autoptr(value) same = value_map_without(three, "absent");
    g_assert_cmpstr(value_get_str(one, "k", ""), ==, "1");
    g_assert_cmpstr(value_get_str(two, "k", ""), ==, "2");
    g_assert_cmpuint(value_count(two), ==, 1);
    g_assert_cmpint(value_as_int(value_get(three, "l")), ==, 3);
    g_assert_cmpstr(value_get_str(three, "l", "not a string"), ==, "not a string");
    g_assert_null(value_get(without, "k"));
    g_assert_true(value_equal(same, three));
}

static struct value *numbered_map(int n, gboolean backwards)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 0);
    for (int i = 0; i < n; i++) {
        int number = backwards ? n - 1 - i : i;
        g_autofree char *key = g_strdup_printf("key%d", number);
        value_builder_put(&b, key, value_int(NULL, number));
    }
    return value_builder_end(&b);
}

static void test_equal(void)
{
    g_autoptr(value) forwards = numbered_map(100000, FALSE);
    g_autoptr(value) backwards = numbered_map(100000, TRUE);
    g_autoptr(value) other = value_map_with(backwards, "key7", value_int(NULL, 8));
    g_assert_true(value_equal(forwards, backwards));
    g_assert_false(value_equal(forwards, other));
    g_assert_false(value_map_has_duplicates(forwards));
    g_autoptr(value) s = value_string(NULL, "1");
    g_autoptr(value) i = value_int(NULL, 1);
    g_autoptr(value) i4 = value_i4(NULL, 1);
    g_assert_false(value_equal(s, i));
    g_assert_false(value_equal(i, i4));
    g_assert_false(value_equal(i, NULL));
    g_assert_true(value_equal(NULL, NULL));
    g_autoptr(value) blob = new_blob();
    g_assert_true(value_equal(blob, blob));
}

static void test_duplicates(void)
{
    static const int sizes[] = {2, 16, 17, 5000};
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct value_builder b;
        value_builder_map(&b, NULL, 0);
        for (int k = 0; k < sizes[i] - 1; k++) {
            g_autofree char *key = g_strdup_printf("%d", k);
            value_builder_put(&b, key, value_void());
        }
        value_builder_put(&b, "0", value_void());
        g_autoptr(value) map = value_builder_end(&b);
        g_assert_true(value_map_has_duplicates(map));
    }
    g_assert_false(value_map_has_duplicates(value_empty_map()));
}

static void test_datetime(void)
{
    static const struct {
        const char *text;
        gint64 epoch;
        const char *canonical; /* NULL: as text */
    } good[] = {
        {"19700101T00:00:00Z", 0, NULL},
        {"20240101T00:00:00Z", 1704067200, NULL},
        {"20240229T23:59:59Z", 1709251199, NULL},
        {"19691231T23:59:59Z", -1, NULL},
        {"00000101T00:00:00Z", -62167219200, NULL},
        {"99991231T23:59:59Z", 253402300799, NULL},
        {"2024-01-01T00:00:00Z", 1704067200, "20240101T00:00:00Z"},
        {"20240101T00:00:00", 1704067200, "20240101T00:00:00Z"},
        {"2024-01-01T00:00:00.250Z", 1704067200, "20240101T00:00:00Z"},
        {"2024-01-01T02:30:00+02:30", 1704067200, "20240101T00:00:00Z"},
        {"20231231T190000-0500", 1704067200, "20240101T00:00:00Z"},
        {"2024-01-01 00:00:00", 1704067200, "20240101T00:00:00Z"},
        {"2024-01-01", 1704067200, "20240101T00:00:00Z"},
        {"1704067200", 1704067200, "20240101T00:00:00Z"},
        {"1704067200.75", 1704067200, "20240101T00:00:00Z"},
        {"0.0", 0, "19700101T00:00:00Z"},
        {"0.", 0, "19700101T00:00:00Z"},
        {"-1", -1, "19691231T23:59:59Z"},
        {"99999999999999999999", 253402300799, "99991231T23:59:59Z"},
    };
    static const char *const bad[] = {
        "",
        "T",
        "20240101T",
        "20240101T00",
        "20241301T00:00:00Z",
        "20230229T00:00:00Z",
        "20240101T24:00:00Z",
        "20240101T00:60:00Z",
        "20240101T00:00:00Zx",
        "20240101T00:00:00+",
        "20240101T00:00:00+25:00",
        "2024-0101T00:00:00Z",
        "20240100T00:00:00Z",
        "-",
        "1e5",
        "0x10",
        " 1",
        "now",
        "20240101X00:00:00Z",
        "20240101T00:00:0",
    };
    char text[DATETIME_TEXT_SIZE];
    gint64 epoch;
    for (guint i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(datetime_parse(good[i].text, &epoch));
        g_assert_cmpint(epoch, ==, good[i].epoch);
        datetime_format(epoch, text);
        g_assert_cmpstr(text, ==, good[i].canonical != NULL ? good[i].canonical : good[i].text);
    }
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(datetime_parse(bad[i], &epoch));
    }
    g_assert_false(datetime_parse(NULL, &epoch));
    datetime_format(G_MAXINT64, text);
    g_assert_cmpstr(text, ==, "99991231T23:59:59Z");
    datetime_format(G_MININT64, text);
    g_assert_cmpstr(text, ==, "00000101T00:00:00Z");
}

/* Every day of four centuries there and back, against GLib's calendar. */
static void test_calendar(void)
{
    char text[DATETIME_TEXT_SIZE];
    gint64 epoch;
    GDate date;
    g_date_clear(&date, 1);
    g_date_set_dmy(&date, 1, G_DATE_JANUARY, 1800);
    guint32 epoch_day = 719163; /* 1970-01-01 as GDate counts */
    for (int i = 0; i < 146097; i++, g_date_add_days(&date, 1)) {
        gint64 expected = ((gint64) g_date_get_julian(&date) - epoch_day) * 86400 + i % 86400;
        datetime_format(expected, text);
        g_autofree char *day =
            g_strdup_printf("%04d%02d%02dT", g_date_get_year(&date), g_date_get_month(&date), g_date_get_day(&date));
        g_assert_true(g_str_has_prefix(text, day));
        g_assert_true(datetime_parse(text, &epoch));
        g_assert_cmpint(epoch, ==, expected);
    }
}

static void test_fault(void)
{
    struct fault f = FAULT_INIT, other = FAULT_INIT, empty = FAULT_INIT;
    g_assert_false(fault_set(&f, "HANDLE_INVALID", "VM", "OpaqueRef:1", NULL));
    g_assert_false(fault_set(&f, "INTERNAL_ERROR", "later", NULL));
    g_autofree char *text = fault_text(&f);
    g_assert_cmpstr(text, ==, "HANDLE_INVALID [VM, OpaqueRef:1]");
    g_autoptr(value) v = fault_value(NULL, &f);
    g_autoptr(value) expected =
        value_string_set(NULL, (const char *const[]){"HANDLE_INVALID", "VM", "OpaqueRef:1", NULL});
    g_assert_true(value_equal(v, expected));
    fault_move(&other, &f);
    g_assert_null(f.code);
    g_assert_cmpstr(other.code, ==, "HANDLE_INVALID");
    fault_setv(&f, "X", NULL);
    fault_move(&other, &f);
    g_assert_cmpstr(other.code, ==, "HANDLE_INVALID");
    g_assert_null(f.code);
    fault_move(&other, &empty);
    g_assert_cmpstr(other.code, ==, "HANDLE_INVALID");
    fault_clear(&other);
    fault_clear(&other);
    g_assert_false(fault_set(NULL, "X", NULL));
    fault_setv(&f, "Y", NULL);
    g_autofree char *bare = fault_text(&f);
    g_assert_cmpstr(bare, ==, "Y []");
    fault_clear(&f);
}

static gpointer count_up_and_down(gpointer data)
{
    for (int i = 0; i < 100000; i++)
        value_unref(value_ref(data));
    return NULL;
}

static void test_threads(void)
{
    g_autoptr(value) v = sample(NULL);
    GThread *threads[4];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("counter", count_up_and_down, v);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(v->refs, ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/value/arena", test_arena);
    g_test_add_func("/value/neutral", test_neutral_elements);
    g_test_add_func("/value/numbers", test_numbers);
    g_test_add_func("/value/heap-and-arena", test_heap_and_arena);
    g_test_add_func("/value/mixed", test_mixed);
    g_test_add_func("/value/builder-clear", test_builder_clear);
    g_test_add_func("/value/set", test_set_changes);
    g_test_add_func("/value/map", test_map_changes);
    g_test_add_func("/value/equal", test_equal);
    g_test_add_func("/value/duplicates", test_duplicates);
    g_test_add_func("/value/threads", test_threads);
    g_test_add_func("/datetime/forms", test_datetime);
    g_test_add_func("/datetime/calendar", test_calendar);
    g_test_add_func("/fault", test_fault);
    return g_test_run();
}
