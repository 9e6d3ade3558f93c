/* tree.c - builds a value from the events of a parser, under the limits of the request. */
#include "daemon/codec/codec-internal.h"

#include <string.h>

#define DEFAULT_DEPTH         32
#define DEFAULT_ELEMENTS      200000
#define DEFAULT_STRING_LENGTH (16 * 1024 * 1024)

/* What is built is later copied and freed recursively. */
#define MOST_DEPTH 1000

#define FIRST_ITEMS 16

void tree_init(struct tree *t, struct arena *a, const struct codec_limits *limits, guint more_depth)
{
    *t = (struct tree){.arena = a};
    if (limits != NULL)
        t->limits = *limits;
    if (t->limits.depth == 0)
        t->limits.depth = DEFAULT_DEPTH;
    if (t->limits.elements == 0)
        t->limits.elements = DEFAULT_ELEMENTS;
    if (t->limits.string_length == 0)
        t->limits.string_length = DEFAULT_STRING_LENGTH;
    t->limits.depth = MIN(t->limits.depth, MOST_DEPTH) + more_depth;
    t->frames = arena_alloc(a, t->limits.depth * sizeof(t->frames[0]));
    t->room = FIRST_ITEMS;
    t->stack = arena_alloc(a, t->room * sizeof(t->stack[0]));
}

static void tree_push(struct tree *t, struct value *v)
{
    if (t->n == t->room) {
        gsize room = 2 * t->room;
        struct value **stack = arena_alloc(t->arena, room * sizeof(stack[0]));
        memcpy(stack, t->stack, t->n * sizeof(stack[0]));
        t->stack = stack;
        t->room = room;
    }
    t->stack[t->n++] = v;
}

static gboolean tree_fail(struct tree *t, const char *error)
{
    t->error = error;
    return FALSE;
}

static gboolean tree_count(struct tree *t)
{
    if (t->n_values >= t->limits.elements)
        return tree_fail(t, "too many values");
    t->n_values++;
    return TRUE;
}

static void tree_add(struct tree *t, struct value *v)
{
    if (t->depth > 0)
        tree_push(t, v);
    else
        t->root = v;
}

gboolean tree_open(struct tree *t, enum value_type type)
{
    if (t->depth >= t->limits.depth)
        return tree_fail(t, "nested too deeply");
    if (!tree_count(t))
        return FALSE;
    t->frames[t->depth++] = (struct tree_frame){t->n, type};
    return TRUE;
}

gboolean tree_key(struct tree *t, const char *s, gsize len)
{
    if (len > t->limits.string_length)
        return tree_fail(t, "a name is too long");
    tree_push(t, value_string_len(t->arena, s, len));
    return TRUE;
}

gboolean tree_string(struct tree *t, const char *s, gsize len)
{
    if (len > t->limits.string_length)
        return tree_fail(t, "a string is too long");
    return tree_value(t, value_string_len(t->arena, s, len));
}

gboolean tree_value(struct tree *t, struct value *v)
{
    if (!tree_count(t))
        return FALSE;
    tree_add(t, v);
    return TRUE;
}

gboolean tree_close(struct tree *t)
{
    const struct tree_frame *f = &t->frames[--t->depth];
    struct value **items = t->stack + f->start;
    gsize n = t->n - f->start;
    struct value_builder b;
    t->n = f->start;
    if (f->type == VALUE_SET) {
        value_builder_set(&b, t->arena, n);
        for (gsize i = 0; i < n; i++)
            value_builder_add(&b, items[i]);
    } else {
        value_builder_map(&b, t->arena, n / 2);
        for (gsize i = 0; i + 1 < n; i += 2)
            value_builder_put_key(&b, items[i], items[i + 1]);
    }
    struct value *v = value_builder_end(&b);
    if (v->type == VALUE_MAP && value_map_has_duplicates(v))
        return tree_fail(t, "a name comes twice");
    tree_add(t, v);
    return TRUE;
}
