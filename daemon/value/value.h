/* value.h - the values of the API: what a codec reads and writes, and what the store keeps.
 *
 * A value is immutable once it is built and is one of two kinds. A heap value is counted: value_ref() and
 * value_unref() are atomic and may be called on any thread. An arena value belongs to a call's arena and goes
 * with it: value_unref() does nothing to it, and value_ref() answers a heap copy of it. So "take a reference to
 * keep it, drop it when done" is right for both, and nothing else needs to know which kind it holds.
 *
 * The type of a value decides how a codec writes it (see xmlrpc.h, jsonrpc.h): VALUE_INT is 64 bits wide and is
 * text in XML-RPC, VALUE_I4 is the one place where clients need <i4>. References and enums are strings. */
#ifndef XENAPID_VALUE_H
#define XENAPID_VALUE_H

#include <glib.h>

struct arena;
struct value;

enum value_type {
    VALUE_VOID,   /* <value></value>, "" */
    VALUE_STRING, /* also references and enums; UTF-8, no NUL inside */
    VALUE_INT,    /* int64, untyped text in XML-RPC */
    VALUE_I4,     /* int32, <i4> in XML-RPC */
    VALUE_FLOAT,  /* finite double */
    VALUE_BOOL,
    VALUE_DATETIME, /* seconds since 1970-01-01 UTC */
    VALUE_SET,      /* ordered values */
    VALUE_MAP,      /* ordered members, string keys, no key twice; also records */
    VALUE_BLOB,     /* knows its own bytes in each codec (a stored record) */
};

/* The two wire formats that a VALUE_BLOB can give its bytes in. */
enum wire_format { WIRE_XML, WIRE_JSON, N_WIRE_FORMATS };

struct value_member {
    struct value *key; /* VALUE_STRING */
    struct value *value;
};

/* What stands behind a VALUE_BLOB. bytes() answers a borrowed buffer that lives as long as data does; it may be
 * called on any thread. value() answers a new heap value with the same content, for those that must look inside. */
struct value_blob_ops {
    GBytes *(*bytes)(void *data, enum wire_format format);
    struct value *(*value)(void *data);
    void (*unref)(void *data);
};

struct value {
    guint8 type;     /* enum value_type */
    guint8 in_arena; /* 1: lives in an arena, 2: static; neither uses refs */
    gint refs;
    union {
        struct {
            const char *s; /* NUL-terminated */
            gsize len;
        } str;
        gint64 i; /* INT, I4, BOOL, DATETIME */
        double d;
        struct {
            struct value **v;
            gsize n;
        } set;
        struct {
            struct value_member *m;
            gsize n;
        } map;
        struct {
            const struct value_blob_ops *ops;
            void *data;
        } blob;
    } u;
};

/* ---- arenas: one per call; not thread-safe ---- */

struct arena *arena_new(void);
/* Frees all that was allocated from it; NULL is allowed. */
void arena_free(struct arena *a);
/* Forgets all allocations but keeps the first block for reuse. */
void arena_reset(struct arena *a);
/* 8-byte aligned, not zeroed; never NULL (aborts when memory is out, as g_malloc does). */
void *arena_alloc(struct arena *a, gsize size);
char *arena_strndup(struct arena *a, const char *s, gsize len);
/* Bytes handed out since the last reset. */
gsize arena_used(const struct arena *a);
/* Takes over a reference: v is unreferenced when the arena is reset or freed. Builders in an arena do this with
 * the heap values that are put into them. */
void arena_adopt(struct arena *a, struct value *v);

/* ---- construction: with an arena, in it; with NULL, on the heap with one reference that the caller owns ---- */

struct value *value_void(void);                             /* a static value: counting is harmless */
struct value *value_bool(gboolean b);                       /* static too */
struct value *value_string(struct arena *a, const char *s); /* NULL counts as "" */
struct value *value_string_len(struct arena *a, const char *s, gsize len);
struct value *value_printf(struct arena *a, const char *format, ...) G_GNUC_PRINTF(2, 3);
struct value *value_int(struct arena *a, gint64 i);
struct value *value_i4(struct arena *a, gint32 i);
struct value *value_float(struct arena *a, double d); /* NaN and infinities become 0: no codec may see them */
struct value *value_datetime(struct arena *a, gint64 epoch_seconds);
/* Takes over data; value_unref() of the last reference calls ops->unref(data). Heap only. */
struct value *value_blob(const struct value_blob_ops *ops, void *data);

/* A set or map is built through a builder and then immutable. The builder takes over the reference it is given.
 * On the stack; must end in value_builder_end() or value_builder_clear(). */
struct value_builder {
    struct arena *arena;
    enum value_type type;
    gsize n, room;
    union {
        struct value **v;
        struct value_member *m;
    } u;
};
void value_builder_set(struct value_builder *b, struct arena *a, gsize expected);
void value_builder_map(struct value_builder *b, struct arena *a, gsize expected);
void value_builder_add(struct value_builder *b, struct value *v);      /* sets */
void value_builder_add_string(struct value_builder *b, const char *s); /* sets */
/* Maps: the caller sees to it that no key comes twice (value_builder_has answers that, linearly). */
void value_builder_put(struct value_builder *b, const char *key, struct value *v);
void value_builder_put_key(struct value_builder *b, struct value *key, struct value *v);
void value_builder_put_string(struct value_builder *b, const char *key, const char *s);
gboolean value_builder_has(const struct value_builder *b, const char *key);
struct value *value_builder_end(struct value_builder *b);
void value_builder_clear(struct value_builder *b);

struct value *value_empty_set(void); /* static */
struct value *value_empty_map(void); /* static */
/* A set of strings from a NULL-terminated vector; NULL is the empty set. */
struct value *value_string_set(struct arena *a, const char *const *strv);

/* ---- references ---- */

struct value *value_ref(struct value *v);
void value_unref(struct value *v); /* NULL is allowed */

/* ---- reading: each is total; a value of another type answers the neutral element ("" / 0 / FALSE / NULL) ---- */

const char *value_str(const struct value *v);
gint64 value_as_int(const struct value *v); /* INT, I4, BOOL, DATETIME; FLOAT truncated */
double value_as_float(const struct value *v);
gboolean value_as_bool(const struct value *v);
gsize value_count(const struct value *v);                        /* members of a SET or MAP */
struct value *value_at(const struct value *v, gsize i);          /* SET, borrowed */
struct value *value_get(const struct value *v, const char *key); /* MAP, borrowed; NULL when absent */
const char *value_get_str(const struct value *v, const char *key, const char *otherwise);
gboolean value_contains(const struct value *set, const char *s);    /* SET of strings */
gboolean value_equal(const struct value *a, const struct value *b); /* deep; BLOBs by identity */
gboolean value_map_has_duplicates(const struct value *map);         /* a key that comes twice in a MAP */

/* New heap values that differ in one member; the originals stay as they were. */
struct value *value_set_with(const struct value *set, const char *s); /* added at the end if not there */
struct value *value_set_without(const struct value *set, const char *s);
struct value *value_map_with(const struct value *map, const char *key, struct value *v); /* takes over v */
struct value *value_map_without(const struct value *map, const char *key);

/* ---- dates: "20240101T00:00:00Z" and back; also reads 2024-01-01T00:00:00Z, fractions, +hh:mm and epoch text ---- */

#define DATETIME_TEXT_SIZE 32
void datetime_format(gint64 epoch_seconds, char text[DATETIME_TEXT_SIZE]);
gboolean datetime_parse(const char *text, gint64 *epoch_seconds);

typedef struct value value;
typedef struct arena arena;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(arena, arena_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(value, value_unref)

/* ---- fault: why a call failed, in the API's own words: a code and its parameters ---- */

struct fault {
    char *code;   /* NULL: no fault */
    GStrv params; /* NULL-terminated; NULL counts as none */
};
/* Sets code and parameters (strings, ended by NULL); a fault that is set already keeps its first cause.
 * Answers FALSE always, so that a function can end in "return fault_set(f, ...)". f may be NULL. */
gboolean fault_set(struct fault *f, const char *code, ...) G_GNUC_NULL_TERMINATED;
gboolean fault_setv(struct fault *f, const char *code, const char *const *params);
/* The fault that fits errno, after something was not done with the file or folder of that name. */
gboolean fault_set_errno(struct fault *f, const char *name);
/* Moves src into dst (which keeps its first cause) and clears src. */
void fault_move(struct fault *dst, struct fault *src);
void fault_clear(struct fault *f);
/* "CODE [a, b]" for the log; the caller frees it. */
char *fault_text(const struct fault *f);
/* The code and the parameters as one SET of strings, as JSON-RPC 1.0, XML-RPC and task.error_info want it. */
struct value *fault_value(struct arena *a, const struct fault *f);
#define FAULT_INIT                                                                                                     \
    {                                                                                                                  \
        NULL, NULL                                                                                                     \
    }

#endif
