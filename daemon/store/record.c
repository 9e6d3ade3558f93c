/* record.c - one state of one object: how it is made, counted, written for clients and for the journal. */
#include "daemon/store/store_internal.h"

#include <string.h>

#include "daemon/codec/codec.h"
#include "daemon/codec/jsonrpc.h"

/* ---- keys ---- */

struct key *key_new(const char *ref, guint64 order)
{
    struct key *k = g_new(struct key, 1);
    *k = (struct key){.refs = 1, .order = order, .text = value_string(NULL, ref)};
    return k;
}

struct key *key_ref(struct key *k)
{
    g_atomic_int_inc(&k->refs);
    return k;
}

void key_unref(struct key *k)
{
    if (k == NULL || !g_atomic_int_dec_and_test(&k->refs))
        return;
    value_unref(k->text);
    g_free(k);
}

/* ---- records ---- */

static struct record *record_alloc(const struct class *class, struct key *key)
{
    struct record *r = g_malloc(sizeof(*r) + (gsize) class->n_fields * sizeof(r->fields[0]));
    *r = (struct record){.refs = 1, .class = class, .ref = value_str(key->text), .key = key_ref(key)};
    return r;
}

struct record *record_new(const struct class *class, struct key *key)
{
    struct record *r = record_alloc(class, key);
    for (int i = 0; i < class->n_fields; i++)
        r->fields[i] = value_ref(class->fields[i].initial_value);
    return r;
}

struct record *record_standing(enum class_id class, const char *ref)
{
    struct key *key = key_new(ref, 0);
    struct record *r = record_new(class_by_id(class), key);
    key_unref(key);
    return r;
}

struct record *record_copy(const struct record *from)
{
    struct record *r = record_alloc(from->class, from->key);
    r->created = from->created;
    for (int i = 0; i < from->class->n_fields; i++)
        r->fields[i] = value_ref(from->fields[i]);
    return r;
}

struct record *record_ref(struct record *r)
{
    g_atomic_int_inc(&r->refs);
    return r;
}

void record_unref(struct record *r)
{
    if (r == NULL || !g_atomic_int_dec_and_test(&r->refs))
        return;
    for (int i = 0; i < r->class->n_fields; i++)
        value_unref(r->fields[i]);
    for (int i = 0; i < N_WIRE_FORMATS; i++)
        g_clear_pointer(&r->bytes[i], g_bytes_unref);
    key_unref(r->key);
    g_free(r);
}

void record_put(struct record *r, int field, struct value *v)
{
    struct value *initial = r->class->fields[field].initial_value;
    if (v != initial && value_equal(v, initial)) {
        value_unref(v);
        v = value_ref(initial);
    }
    value_unref(r->fields[field]);
    r->fields[field] = v;
}

/* ---- as clients see it ---- */

/* The names of a class's fields as values, made once and kept: every record's map shares them. */
static struct value **field_names(const struct class *class)
{
    static struct value **names[N_CLASSES];
    struct value **made = g_atomic_pointer_get(&names[class->id]);
    if (made != NULL)
        return made;
    made = g_new(struct value *, class->n_fields + 1);
    for (int i = 0; i < class->n_fields; i++)
        made[i] = value_string(NULL, class->fields[i].name);
    made[class->n_fields] = NULL;
    if (g_atomic_pointer_compare_and_exchange(&names[class->id], NULL, made))
        return made;
    for (int i = 0; i < class->n_fields; i++)
        value_unref(made[i]);
    g_free(made);
    return g_atomic_pointer_get(&names[class->id]);
}

/* A map that borrows the record's values, for a codec to write while the record is held. m has room for all fields. */
static struct value borrowed_map(struct value_member *m, gsize n)
{
    return (struct value){.type = VALUE_MAP, .in_arena = 1, .u = {.map = {.m = m, .n = n}}};
}

static GBytes *record_write(struct record *r, enum wire_format format)
{
    struct value **names = field_names(r->class);
    g_autofree struct value_member *m = g_new(struct value_member, r->class->n_fields + 1);
    for (int i = 0; i < r->class->n_fields; i++)
        m[i] = (struct value_member){names[i], r->fields[i]};
    struct value map = borrowed_map(m, (gsize) r->class->n_fields);
    return codec_value_bytes(format, &map);
}

GBytes *record_bytes(struct record *r, enum wire_format format)
{
    GBytes *bytes = g_atomic_pointer_get(&r->bytes[format]);
    if (bytes != NULL)
        return bytes;
    bytes = record_write(r, format);
    /* Two readers may have written it at the same time: the first one's stays. */
    if (g_atomic_pointer_compare_and_exchange(&r->bytes[format], NULL, bytes))
        return bytes;
    g_bytes_unref(bytes);
    return g_atomic_pointer_get(&r->bytes[format]);
}

struct value *record_map(struct record *r)
{
    struct value **names = field_names(r->class);
    struct value_builder b;
    value_builder_map(&b, NULL, (gsize) r->class->n_fields);
    for (int i = 0; i < r->class->n_fields; i++)
        value_builder_put_key(&b, value_ref(names[i]), value_ref(r->fields[i]));
    return value_builder_end(&b);
}

static GBytes *blob_bytes(void *data, enum wire_format format)
{
    return record_bytes(data, format);
}

static struct value *blob_value(void *data)
{
    return record_map(data);
}

static void blob_unref(void *data)
{
    record_unref(data);
}

struct value *record_value(struct record *r)
{
    static const struct value_blob_ops ops = {blob_bytes, blob_value, blob_unref};
    return value_blob(&ops, record_ref(r));
}

/* ---- as the journal keeps it ---- */

static gboolean field_is_kept(const struct field *f)
{
    return !f->mirrors && !f->ephemeral;
}

char *record_journal_text(struct record *r, gsize *len)
{
    struct value **names = field_names(r->class);
    g_autofree struct value_member *m = g_new(struct value_member, r->class->n_fields + 1);
    gsize n = 0;
    for (int i = 0; i < r->class->n_fields; i++) {
        const struct field *f = &r->class->fields[i];
        if (field_is_kept(f) && r->fields[i] != f->initial_value)
            m[n++] = (struct value_member){names[i], r->fields[i]};
    }
    struct value map = borrowed_map(m, n);
    char *text = json_text(&map);
    *len = strlen(text);
    return text;
}

/* A field that an older or newer program wrote: said once per field, not once per object. */
static void warn_once(const struct class *class, const char *field, const char *what)
{
    static GMutex lock;
    static GHashTable *said;
    g_mutex_lock(&lock);
    if (said == NULL)
        said = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (g_hash_table_add(said, g_strdup_printf("%s.%s", class->name, field)))
        g_warning("stored field %s.%s: %s", class->name, field, what);
    g_mutex_unlock(&lock);
}

static void record_load_field(struct record *r, const char *name, struct value *stored)
{
    const struct field *f = class_field(r->class, name);
    if (f == NULL || !field_is_kept(f)) {
        warn_once(r->class, name, "not known to this program, ignored");
        return;
    }
    struct fault fault = FAULT_INIT;
    struct value *v = type_convert(NULL, f->type, stored, f->name, &fault);
    if (v == NULL) {
        g_autofree char *why = fault_text(&fault);
        warn_once(r->class, name, why);
        fault_clear(&fault);
        return;
    }
    record_put(r, f->index, v);
}

struct record *record_from_journal(const struct class *class, struct key *key, const char *json, gsize len,
                                   GError **error)
{
    /* What was stored once is read again, however large it is. */
    static const struct codec_limits limits = {.depth = 100, .elements = G_MAXUINT, .string_length = G_MAXSIZE / 2};
    g_autoptr(arena) a = arena_new();
    const char *why = NULL;
    struct value *map = json_parse(a, json, len, &limits, &why);
    if (map == NULL || map->type != VALUE_MAP) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s %s is damaged in the database: %s", class->name,
                    value_str(key->text), why != NULL ? why : "not a record");
        return NULL;
    }
    struct record *r = record_new(class, key);
    for (gsize i = 0; i < map->u.map.n; i++)
        record_load_field(r, value_str(map->u.map.m[i].key), map->u.map.m[i].value);
    return r;
}
