/* arena.c - memory of one call: bump allocation, given back all at once. */
#include "daemon/value/value.h"

#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISONS 1
#endif
#endif
#ifdef ARENA_POISONS
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define POISON(p, n)   ((void) (p), (void) (n))
#define UNPOISON(p, n) ((void) (p), (void) (n))
#endif

#define FIRST_BLOCK   (4096 - 128)
#define LARGEST_BLOCK (256 * 1024)

struct block {
    struct block *next;
    gsize size;
    guint64 data[];
};

/* A heap value that an arena value points to: its reference goes with the arena. */
struct adopted {
    struct adopted *next;
    struct value *value;
};

struct arena {
    char *at, *end;
    struct block *blocks;
    struct adopted *adopted;
    gsize used;
    gsize next_size;
    guint64 first[FIRST_BLOCK / sizeof(guint64)];
};

/* Points the arena at its first block, which is all that is left of it. */
static void arena_rewind(struct arena *a)
{
    a->at = (char *) a->first;
    a->end = a->at + sizeof(a->first);
    a->blocks = NULL;
    a->adopted = NULL;
    a->used = 0;
    a->next_size = 2 * FIRST_BLOCK;
    POISON(a->first, sizeof(a->first));
}

struct arena *arena_new(void)
{
    struct arena *a = g_malloc(sizeof(struct arena));
    arena_rewind(a);
    return a;
}

static void arena_release(struct arena *a)
{
    for (struct adopted *o = a->adopted; o != NULL; o = o->next)
        value_unref(o->value);
    for (struct block *b = a->blocks; b != NULL;) {
        struct block *next = b->next;
        g_free(b);
        b = next;
    }
}

void arena_free(struct arena *a)
{
    if (a == NULL)
        return;
    arena_release(a);
    UNPOISON(a->first, sizeof(a->first));
    g_free(a);
}

void arena_reset(struct arena *a)
{
    arena_release(a);
    arena_rewind(a);
}

static struct block *arena_add_block(struct arena *a, gsize size)
{
    struct block *b = g_malloc(sizeof(struct block) + size);
    b->next = a->blocks;
    b->size = size;
    a->blocks = b;
    return b;
}

/* The current block is too small for size. A large piece gets a block of its own, so that the rest of the current
 * one is not lost. */
static void *arena_alloc_slowly(struct arena *a, gsize size)
{
    if (size > a->next_size / 4)
        return arena_add_block(a, size)->data;
    struct block *b = arena_add_block(a, a->next_size);
    POISON(b->data, b->size);
    a->next_size = MIN(2 * a->next_size, LARGEST_BLOCK);
    a->at = (char *) b->data + size;
    a->end = (char *) b->data + b->size;
    return b->data;
}

void *arena_alloc(struct arena *a, gsize size)
{
    gsize rounded = (size + 7) & ~(gsize) 7;
    void *p;
    if (G_UNLIKELY(rounded < size || rounded > G_MAXSSIZE - sizeof(struct block)))
        g_error("arena: %" G_GSIZE_FORMAT " bytes asked for", size);
    if (G_LIKELY(rounded <= (gsize) (a->end - a->at))) {
        p = a->at;
        a->at += rounded;
    } else {
        p = arena_alloc_slowly(a, rounded);
    }
    a->used += rounded;
    UNPOISON(p, size);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, gsize len)
{
    char *copy = arena_alloc(a, len + 1);
    if (len > 0)
        memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

gsize arena_used(const struct arena *a)
{
    return a->used;
}

void arena_adopt(struct arena *a, struct value *v)
{
    struct adopted *o = arena_alloc(a, sizeof(*o));
    o->value = v;
    o->next = a->adopted;
    a->adopted = o;
}
