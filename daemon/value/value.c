/* value.c - the values of the API: how they are made, counted, built and read. */
#include "daemon/value/value.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* The kinds of memory a value can be in (value.in_arena). */
enum { ON_HEAP, IN_ARENA, IS_STATIC };

static struct value void_value = {.type = VALUE_VOID, .in_arena = IS_STATIC};
static struct value bool_values[2] = {
    {.type = VALUE_BOOL, .in_arena = IS_STATIC, .u = {.i = 0}},
    {.type = VALUE_BOOL, .in_arena = IS_STATIC, .u = {.i = 1}},
};
static struct value empty_set = {.type = VALUE_SET, .in_arena = IS_STATIC};
static struct value empty_map = {.type = VALUE_MAP, .in_arena = IS_STATIC};
static struct value empty_string = {.type = VALUE_STRING, .in_arena = IS_STATIC, .u = {.str = {"", 0}}};

/* ---- construction ---- */

static struct value *value_alloc(struct arena *a, enum value_type type, gsize extra)
{
    gsize size = sizeof(struct value) + extra;
    struct value *v = a != NULL ? arena_alloc(a, size) : g_malloc(size);
    v->type = (guint8) type;
    v->in_arena = a != NULL ? IN_ARENA : ON_HEAP;
    v->refs = 1;
    return v;
}

struct value *value_void(void)
{
    return &void_value;
}

struct value *value_bool(gboolean b)
{
    return &bool_values[b != FALSE];
}

struct value *value_string_len(struct arena *a, const char *s, gsize len)
{
    if (len == 0)
        return &empty_string;
    struct value *v = value_alloc(a, VALUE_STRING, len + 1);
    char *text = (char *) (v + 1);
    memcpy(text, s, len);
    text[len] = '\0';
    v->u.str.s = text;
    v->u.str.len = len;
    return v;
}

struct value *value_string(struct arena *a, const char *s)
{
    return value_string_len(a, s, s != NULL ? strlen(s) : 0);
}

struct value *value_printf(struct arena *a, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    return value_string(a, text);
}

static struct value *value_integer(struct arena *a, enum value_type type, gint64 i)
{
    struct value *v = value_alloc(a, type, 0);
    v->u.i = i;
    return v;
}

struct value *value_int(struct arena *a, gint64 i)
{
    return value_integer(a, VALUE_INT, i);
}

struct value *value_i4(struct arena *a, gint32 i)
{
    return value_integer(a, VALUE_I4, i);
}

struct value *value_datetime(struct arena *a, gint64 epoch_seconds)
{
    return value_integer(a, VALUE_DATETIME, epoch_seconds);
}

struct value *value_float(struct arena *a, double d)
{
    struct value *v = value_alloc(a, VALUE_FLOAT, 0);
    v->u.d = isfinite(d) ? d : 0;
    return v;
}

struct value *value_blob(const struct value_blob_ops *ops, void *data)
{
    struct value *v = value_alloc(NULL, VALUE_BLOB, 0);
    v->u.blob.ops = ops;
    v->u.blob.data = data;
    return v;
}

struct value *value_empty_set(void)
{
    return &empty_set;
}

struct value *value_empty_map(void)
{
    return &empty_map;
}

struct value *value_string_set(struct arena *a, const char *const *strv)
{
    struct value_builder b;
    if (strv == NULL)
        return value_empty_set();
    value_builder_set(&b, a, g_strv_length((char **) strv));
    for (; *strv != NULL; strv++)
        value_builder_add_string(&b, *strv);
    return value_builder_end(&b);
}

/* ---- references ---- */

static void value_free(struct value *v)
{
    if (v->type == VALUE_SET) {
        for (gsize i = 0; i < v->u.set.n; i++)
            value_unref(v->u.set.v[i]);
        g_free(v->u.set.v);
    } else if (v->type == VALUE_MAP) {
        for (gsize i = 0; i < v->u.map.n; i++) {
            value_unref(v->u.map.m[i].key);
            value_unref(v->u.map.m[i].value);
        }
        g_free(v->u.map.m);
    } else if (v->type == VALUE_BLOB) {
        v->u.blob.ops->unref(v->u.blob.data);
    }
    g_free(v);
}

/* A heap copy of an arena value; the heap values inside it are shared. */
static struct value *value_copy_to_heap(const struct value *v)
{
    struct value_builder b;
    switch ((enum value_type) v->type) {
    case VALUE_STRING:
        return value_string_len(NULL, v->u.str.s, v->u.str.len);
    case VALUE_FLOAT:
        return value_float(NULL, v->u.d);
    case VALUE_SET:
        value_builder_set(&b, NULL, v->u.set.n);
        for (gsize i = 0; i < v->u.set.n; i++)
            value_builder_add(&b, value_ref(v->u.set.v[i]));
        return value_builder_end(&b);
    case VALUE_MAP:
        value_builder_map(&b, NULL, v->u.map.n);
        for (gsize i = 0; i < v->u.map.n; i++)
            value_builder_put_key(&b, value_ref(v->u.map.m[i].key), value_ref(v->u.map.m[i].value));
        return value_builder_end(&b);
    case VALUE_INT:
    case VALUE_I4:
    case VALUE_DATETIME:
        return value_integer(NULL, v->type, v->u.i);
    case VALUE_VOID:
    case VALUE_BOOL:
    case VALUE_BLOB:
        break; /* never in an arena */
    }
    g_assert_not_reached();
}

struct value *value_ref(struct value *v)
{
    if (v->in_arena == IN_ARENA)
        return value_copy_to_heap(v);
    if (v->in_arena == ON_HEAP)
        g_atomic_int_inc(&v->refs);
    return v;
}

void value_unref(struct value *v)
{
    if (v != NULL && v->in_arena == ON_HEAP && g_atomic_int_dec_and_test(&v->refs))
        value_free(v);
}

/* ---- builders ---- */

static gsize builder_item_size(const struct value_builder *b)
{
    return b->type == VALUE_SET ? sizeof(b->u.v[0]) : sizeof(b->u.m[0]);
}

static void builder_init(struct value_builder *b, struct arena *a, enum value_type type, gsize expected)
{
    *b = (struct value_builder){.arena = a, .type = type, .room = expected};
    if (expected == 0)
        return;
    gsize size = builder_item_size(b);
    b->u.v = a != NULL ? arena_alloc(a, expected * size) : g_malloc_n(expected, size);
}

void value_builder_set(struct value_builder *b, struct arena *a, gsize expected)
{
    builder_init(b, a, VALUE_SET, expected);
}

void value_builder_map(struct value_builder *b, struct arena *a, gsize expected)
{
    builder_init(b, a, VALUE_MAP, expected);
}

/* Makes room for one item more. */
static void builder_grow(struct value_builder *b)
{
    if (b->n < b->room)
        return;
    gsize size = builder_item_size(b);
    gsize room = b->room > 0 ? 2 * b->room : 4;
    if (b->arena != NULL) {
        void *items = arena_alloc(b->arena, room * size);
        if (b->n > 0)
            memcpy(items, b->u.v, b->n * size);
        b->u.v = items;
    } else {
        b->u.v = g_realloc_n(b->u.v, room, size);
    }
    b->room = room;
}

/* What a builder keeps must live as long as what it builds: the heap copies what comes from an arena, an arena
 * takes care of what comes from the heap. */
static struct value *builder_own(struct value_builder *b, struct value *v)
{
    if (v == NULL)
        return value_void();
    if (b->arena == NULL)
        return v->in_arena == IN_ARENA ? value_copy_to_heap(v) : v;
    if (v->in_arena == ON_HEAP)
        arena_adopt(b->arena, v);
    return v;
}

void value_builder_add(struct value_builder *b, struct value *v)
{
    g_assert(b->type == VALUE_SET);
    builder_grow(b);
    b->u.v[b->n++] = builder_own(b, v);
}

void value_builder_add_string(struct value_builder *b, const char *s)
{
    value_builder_add(b, value_string(b->arena, s));
}

void value_builder_put_key(struct value_builder *b, struct value *key, struct value *v)
{
    g_assert(b->type == VALUE_MAP && key->type == VALUE_STRING);
    builder_grow(b);
    b->u.m[b->n++] = (struct value_member){builder_own(b, key), builder_own(b, v)};
}

void value_builder_put(struct value_builder *b, const char *key, struct value *v)
{
    value_builder_put_key(b, value_string(b->arena, key), v);
}

void value_builder_put_string(struct value_builder *b, const char *key, const char *s)
{
    value_builder_put(b, key, value_string(b->arena, s));
}

static gboolean string_is(const struct value *v, const char *s, gsize len)
{
    return v->type == VALUE_STRING && v->u.str.len == len && memcmp(v->u.str.s, s, len) == 0;
}

gboolean value_builder_has(const struct value_builder *b, const char *key)
{
    gsize len = strlen(key);
    g_assert(b->type == VALUE_MAP);
    for (gsize i = 0; i < b->n; i++) {
        if (string_is(b->u.m[i].key, key, len))
            return TRUE;
    }
    return FALSE;
}

struct value *value_builder_end(struct value_builder *b)
{
    gsize n = b->n;
    if (n == 0) {
        value_builder_clear(b);
        return b->type == VALUE_SET ? value_empty_set() : value_empty_map();
    }
    /* Values on the heap stay for long: they keep no room that they do not need. */
    if (b->arena == NULL && n < b->room)
        b->u.v = g_realloc_n(b->u.v, n, builder_item_size(b));
    struct value *v = value_alloc(b->arena, b->type, 0);
    if (b->type == VALUE_SET) {
        v->u.set.v = b->u.v;
        v->u.set.n = n;
    } else {
        v->u.map.m = b->u.m;
        v->u.map.n = n;
    }
    b->u.v = NULL;
    b->n = b->room = 0;
    return v;
}

void value_builder_clear(struct value_builder *b)
{
    if (b->arena == NULL) {
        for (gsize i = 0; i < b->n; i++) {
            if (b->type == VALUE_SET) {
                value_unref(b->u.v[i]);
            } else {
                value_unref(b->u.m[i].key);
                value_unref(b->u.m[i].value);
            }
        }
        g_free(b->u.v);
    }
    b->u.v = NULL;
    b->n = b->room = 0;
}

/* ---- reading ---- */

const char *value_str(const struct value *v)
{
    return v != NULL && v->type == VALUE_STRING ? v->u.str.s : "";
}

/* The conversion of a double that does not fit is undefined in C: such ones become the nearest integer. */
static gint64 truncate_double(double d)
{
    if (d >= 0x1p63)
        return G_MAXINT64;
    return d < -0x1p63 ? G_MININT64 : (gint64) d;
}

gint64 value_as_int(const struct value *v)
{
    if (v == NULL)
        return 0;
    switch ((enum value_type) v->type) {
    case VALUE_INT:
    case VALUE_I4:
    case VALUE_BOOL:
    case VALUE_DATETIME:
        return v->u.i;
    case VALUE_FLOAT:
        return truncate_double(v->u.d);
    default:
        return 0;
    }
}

double value_as_float(const struct value *v)
{
    return v != NULL && v->type == VALUE_FLOAT ? v->u.d : (double) value_as_int(v);
}

gboolean value_as_bool(const struct value *v)
{
    return v != NULL && v->type == VALUE_BOOL && v->u.i != 0;
}

gsize value_count(const struct value *v)
{
    if (v != NULL && v->type == VALUE_SET)
        return v->u.set.n;
    return v != NULL && v->type == VALUE_MAP ? v->u.map.n : 0;
}

struct value *value_at(const struct value *v, gsize i)
{
    return v != NULL && v->type == VALUE_SET && i < v->u.set.n ? v->u.set.v[i] : NULL;
}

static gssize map_find(const struct value *v, const char *key, gsize len)
{
    if (v == NULL || v->type != VALUE_MAP)
        return -1;
    for (gsize i = 0; i < v->u.map.n; i++) {
        if (string_is(v->u.map.m[i].key, key, len))
            return (gssize) i;
    }
    return -1;
}

struct value *value_get(const struct value *v, const char *key)
{
    gssize i = map_find(v, key, strlen(key));
    return i >= 0 ? v->u.map.m[i].value : NULL;
}

const char *value_get_str(const struct value *v, const char *key, const char *otherwise)
{
    struct value *member = value_get(v, key);
    return member != NULL && member->type == VALUE_STRING ? member->u.str.s : otherwise;
}

static gssize set_find(const struct value *set, const char *s)
{
    gsize len = strlen(s);
    if (set == NULL || set->type != VALUE_SET)
        return -1;
    for (gsize i = 0; i < set->u.set.n; i++) {
        if (string_is(set->u.set.v[i], s, len))
            return (gssize) i;
    }
    return -1;
}

gboolean value_contains(const struct value *set, const char *s)
{
    return set_find(set, s) >= 0;
}

static int compare_members(const void *a, const void *b)
{
    const struct value *x = (*(const struct value_member *const *) a)->key;
    const struct value *y = (*(const struct value_member *const *) b)->key;
    if (x->u.str.len != y->u.str.len)
        return x->u.str.len < y->u.str.len ? -1 : 1;
    return memcmp(x->u.str.s, y->u.str.s, x->u.str.len);
}

/* The members in the order of compare_members: no client's choice of keys makes this slow, as it could a hash. */
static const struct value_member **map_sorted(const struct value *map)
{
    gsize n = map->u.map.n;
    const struct value_member **sorted = g_new(const struct value_member *, n);
    for (gsize i = 0; i < n; i++)
        sorted[i] = &map->u.map.m[i];
    qsort(sorted, n, sizeof(sorted[0]), compare_members);
    return sorted;
}

#define FEW_MEMBERS 16

gboolean value_map_has_duplicates(const struct value *map)
{
    gsize n = map->u.map.n;
    const struct value_member *m = map->u.map.m;
    if (n <= FEW_MEMBERS) {
        for (gsize i = 1; i < n; i++) {
            for (gsize j = 0; j < i; j++) {
                if (string_is(m[j].key, m[i].key->u.str.s, m[i].key->u.str.len))
                    return TRUE;
            }
        }
        return FALSE;
    }
    g_autofree const struct value_member **sorted = map_sorted(map);
    for (gsize i = 1; i < n; i++) {
        if (compare_members(&sorted[i - 1], &sorted[i]) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean members_equal(const struct value_member *a, const struct value_member *b)
{
    return value_equal(a->key, b->key) && value_equal(a->value, b->value);
}

/* Maps are equal when they have equal members in any order; most often it is the same one. */
static gboolean maps_equal(const struct value *a, const struct value *b)
{
    gsize n = a->u.map.n, i;
    if (n != b->u.map.n)
        return FALSE;
    for (i = 0; i < n && value_equal(a->u.map.m[i].key, b->u.map.m[i].key); i++) {
        if (!value_equal(a->u.map.m[i].value, b->u.map.m[i].value))
            return FALSE;
    }
    if (i == n)
        return TRUE;
    g_autofree const struct value_member **x = map_sorted(a);
    g_autofree const struct value_member **y = map_sorted(b);
    for (i = 0; i < n; i++) {
        if (!members_equal(x[i], y[i]))
            return FALSE;
    }
    return TRUE;
}

gboolean value_equal(const struct value *a, const struct value *b)
{
    if (a == b)
        return TRUE;
    if (a == NULL || b == NULL || a->type != b->type)
        return FALSE;
    switch ((enum value_type) a->type) {
    case VALUE_VOID:
        return TRUE;
    case VALUE_STRING:
        return string_is(a, b->u.str.s, b->u.str.len);
    case VALUE_FLOAT:
        return a->u.d == b->u.d;
    case VALUE_INT:
    case VALUE_I4:
    case VALUE_BOOL:
    case VALUE_DATETIME:
        return a->u.i == b->u.i;
    case VALUE_SET:
        if (a->u.set.n != b->u.set.n)
            return FALSE;
        for (gsize i = 0; i < a->u.set.n; i++) {
            if (!value_equal(a->u.set.v[i], b->u.set.v[i]))
                return FALSE;
        }
        return TRUE;
    case VALUE_MAP:
        return maps_equal(a, b);
    case VALUE_BLOB:
        return a->u.blob.data == b->u.blob.data;
    }
    return FALSE;
}

/* ---- one member more or less ---- */

/* A heap set of the members of set but the one at position skip. */
static struct value *set_copy(const struct value *set, gssize skip, const char *added)
{
    struct value_builder b;
    gsize n = set != NULL && set->type == VALUE_SET ? set->u.set.n : 0;
    value_builder_set(&b, NULL, n + 1);
    for (gsize i = 0; i < n; i++) {
        if ((gssize) i != skip)
            value_builder_add(&b, value_ref(set->u.set.v[i]));
    }
    if (added != NULL)
        value_builder_add_string(&b, added);
    return value_builder_end(&b);
}

struct value *value_set_with(const struct value *set, const char *s)
{
    return set_copy(set, -1, value_contains(set, s) ? NULL : s);
}

struct value *value_set_without(const struct value *set, const char *s)
{
    return set_copy(set, set_find(set, s), NULL);
}

/* A heap map like map in which the member key has the value v, or is absent when v is NULL. */
static struct value *map_copy(const struct value *map, const char *key, struct value *v)
{
    struct value_builder b;
    gsize n = map != NULL && map->type == VALUE_MAP ? map->u.map.n : 0;
    gssize at = map_find(map, key, strlen(key));
    value_builder_map(&b, NULL, n + 1);
    for (gsize i = 0; i < n; i++) {
        const struct value_member *m = &map->u.map.m[i];
        if ((gssize) i != at)
            value_builder_put_key(&b, value_ref(m->key), value_ref(m->value));
        else if (v != NULL)
            value_builder_put_key(&b, value_ref(m->key), v);
    }
    if (at < 0 && v != NULL)
        value_builder_put(&b, key, v);
    return value_builder_end(&b);
}

struct value *value_map_with(const struct value *map, const char *key, struct value *v)
{
    return map_copy(map, key, v != NULL ? v : value_void());
}

struct value *value_map_without(const struct value *map, const char *key)
{
    return map_copy(map, key, NULL);
}
