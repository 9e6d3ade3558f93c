/* xva_ova.c - ova.xml: the records of a VM and of what belongs to it, under references of the stream's own. */
#include "config.h"
#include "xapi-classes/transfers/xva.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/codec/xmlrpc.h"

/* ---- the list ---- */

static void object_free(void *data)
{
    struct xva_object *o = data;
    g_free(o->id);
    value_unref(o->snapshot);
    g_free(o);
}

static struct xva_ova *ova_new(void)
{
    struct xva_ova *ova = g_new0(struct xva_ova, 1);
    ova->objects = g_ptr_array_new_with_free_func(object_free);
    ova->by_id = g_hash_table_new(g_str_hash, g_str_equal);
    return ova;
}

void xva_ova_free(struct xva_ova *ova)
{
    if (!ova)
        return;
    g_hash_table_unref(ova->by_id);
    g_ptr_array_unref(ova->objects);
    g_free(ova);
}

struct xva_object *xva_ova_find(const struct xva_ova *ova, const char *id)
{
    return g_hash_table_lookup(ova->by_id, id);
}

/* Takes over snapshot; the first of an id counts. */
static struct xva_object *add(struct xva_ova *ova, const struct class *class, char *id, struct value *snapshot)
{
    struct xva_object *o = g_new0(struct xva_object, 1);
    o->class = class;
    o->id = id;
    o->snapshot = snapshot;
    g_ptr_array_add(ova->objects, o);
    if (!g_hash_table_contains(ova->by_id, id))
        g_hash_table_insert(ova->by_id, o->id, o);
    return o;
}

/* ---- export: which objects ---- */

struct gathering {
    struct xva_ova *ova;
    gboolean memory;
    GHashTable *ids; /* reference -> id, borrowed */
};

static gboolean gather(struct gathering *g, enum class_id class, const char *ref)
{
    if (ref_is_null(ref) || g_hash_table_contains(g->ids, ref))
        return FALSE;
    g_autoptr(record) r = store_get(the_store(), class, ref);
    if (!r)
        return FALSE;
    struct xva_object *o = add(g->ova, r->class, g_strdup_printf("Ref:%u", g->ova->objects->len), record_map(r));
    g_strlcpy(o->ref, ref, sizeof o->ref);
    g_hash_table_insert(g->ids, o->ref, o->id);
    return TRUE;
}

static int compare_records(const void *a, const void *b)
{
    const struct record *const *x = a, *const *y = b;
    int uuid = (*x)->class->uuid_field;
    return strcmp(record_str(*x, uuid), record_str(*y, uuid));
}

/* In the order of their uuids: that of the set is not always the same. */
static GPtrArray *records_in(const struct value *refs, enum class_id class)
{
    GPtrArray *records = g_ptr_array_new_with_free_func((GDestroyNotify) record_unref);
    for (gsize i = 0; i < value_count(refs); i++) {
        struct record *r = store_get(the_store(), class, value_str(value_at(refs, i)));
        if (r)
            g_ptr_array_add(records, r);
    }
    g_ptr_array_sort(records, compare_records);
    return records;
}

static void gather_disk(struct gathering *g, const char *ref)
{
    g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, ref);
    if (vdi && gather(g, CLASS_VDI, ref))
        gather(g, CLASS_SR, record_str(vdi, F_VDI_SR));
}

static void gather_vm(struct gathering *g, const struct record *vm)
{
    if (!gather(g, CLASS_VM, vm->ref))
        return;
    gather(g, CLASS_VM_guest_metrics, record_str(vm, F_VM_guest_metrics));
    if (g->memory && strcmp(record_str(vm, F_VM_power_state), "Suspended") == 0)
        gather_disk(g, record_str(vm, F_VM_suspend_VDI));
    g_autoptr(GPtrArray) vbds = records_in(record_field(vm, F_VM_VBDs), CLASS_VBD);
    for (guint i = 0; i < vbds->len; i++) {
        gather(g, CLASS_VBD, ((struct record *) vbds->pdata[i])->ref);
        gather_disk(g, record_str(vbds->pdata[i], F_VBD_VDI));
    }
    g_autoptr(GPtrArray) vifs = records_in(record_field(vm, F_VM_VIFs), CLASS_VIF);
    for (guint i = 0; i < vifs->len; i++) {
        gather(g, CLASS_VIF, ((struct record *) vifs->pdata[i])->ref);
        gather(g, CLASS_network, record_str(vifs->pdata[i], F_VIF_network));
    }
}

/* ---- export: their records, with nothing in them that depends on the time or on others ---- */

static const char *id_of(const struct gathering *g, const struct value *ref)
{
    const char *id = g_hash_table_lookup(g->ids, value_str(ref));
    return id ? id : NULL_REF;
}

static struct value *translate_set(const struct gathering *g, const struct value *refs)
{
    struct value_builder b;
    value_builder_set(&b, NULL, value_count(refs));
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    for (guint i = 0; i < g->ova->objects->len; i++) {
        struct xva_object *o = g->ova->objects->pdata[i];
        if (value_contains(refs, o->ref))
            value_builder_add_string(&b, o->id);
    }
    return value_builder_end(&b);
}

static struct value *translate(const struct gathering *g, const struct field *field, struct value *v)
{
    const struct type *type = field->type;
    if (strcmp(field->name, "allowed_operations") == 0)
        return value_empty_set();
    if (strcmp(field->name, "current_operations") == 0 || (type->kind == TYPE_MAP && type->key->kind == TYPE_REF))
        return value_empty_map();
    if (type->kind == TYPE_REF)
        return value_string(NULL, id_of(g, v));
    if (type->kind == TYPE_SET && type->elem->kind == TYPE_REF)
        return translate_set(g, v);
    if (type->kind == TYPE_MAP && type->elem->kind == TYPE_REF)
        return value_empty_map();
    return value_ref(v);
}

/* How full a repository is depends on what else is in it. */
static gboolean is_passing(const struct class *class, int field)
{
    return class->id == CLASS_SR &&
           (field == F_SR_physical_utilisation || field == F_SR_virtual_allocation || field == F_SR_physical_size);
}

/* Without its memory a suspended VM is a halted one. */
static gboolean has_lost_memory(const struct gathering *g, const struct xva_object *o, int field, const struct value *v)
{
    return o->class->id == CLASS_VM && field == F_VM_power_state && strcmp(value_str(v), "Suspended") == 0 &&
           !g_hash_table_contains(g->ids, value_get_str(o->snapshot, "suspend_VDI", ""));
}

static struct value *field_value(const struct gathering *g, const struct xva_object *o, int i, struct value *v)
{
    if (is_passing(o->class, i))
        return value_int(NULL, 0);
    if (has_lost_memory(g, o, i, v))
        return value_string(NULL, "Halted");
    return translate(g, &o->class->fields[i], v);
}

static struct value *snapshot_of(const struct gathering *g, const struct xva_object *o)
{
    struct value_builder b;
    value_builder_map(&b, NULL, (gsize) o->class->n_fields);
    for (int i = 0; i < o->class->n_fields; i++) {
        const struct field *field = &o->class->fields[i];
        struct value *v = value_get(o->snapshot, field->name);
        if (v)
            value_builder_put(&b, field->name, field_value(g, o, i, v));
    }
    return value_builder_end(&b);
}

struct xva_ova *xva_ova_of(const struct record *vm, gboolean snapshots, gboolean memory)
{
    struct gathering g = {ova_new(), memory, g_hash_table_new(g_str_hash, g_str_equal)};
    gather_vm(&g, vm);
    g_autoptr(GPtrArray) older = records_in(snapshots ? record_field(vm, F_VM_snapshots) : NULL, CLASS_VM);
    for (guint i = 0; i < older->len; i++)
        gather_vm(&g, older->pdata[i]);
    for (guint i = 0; i < g.ova->objects->len; i++) {
        struct xva_object *o = g.ova->objects->pdata[i];
        struct value *snapshot = snapshot_of(&g, o);
        value_unref(o->snapshot);
        o->snapshot = snapshot;
    }
    g_hash_table_unref(g.ids);
    return g.ova;
}

/* ---- as text ---- */

static struct value *version_value(void)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 8);
    value_builder_put_string(&b, "hostname", "localhost");
    value_builder_put_string(&b, "date", "1970-01-01");
    value_builder_put_string(&b, "product_version", "8.2.0");
    value_builder_put_string(&b, "product_brand", PACKAGE_NAME);
    value_builder_put_string(&b, "build_number", "0");
    value_builder_put(&b, "xapi_major", value_i4(NULL, 1));
    value_builder_put(&b, "xapi_minor", value_i4(NULL, 20));
    value_builder_put(&b, "export_vsn", value_i4(NULL, XVA_EXPORT_VSN));
    return value_builder_end(&b);
}

static struct value *object_value(const struct xva_object *o)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "class", o->class->name);
    value_builder_put_string(&b, "id", o->id);
    value_builder_put(&b, "snapshot", value_ref(o->snapshot));
    return value_builder_end(&b);
}

char *xva_ova_text(const struct xva_ova *ova)
{
    struct value_builder list, b;
    value_builder_set(&list, NULL, ova->objects->len);
    for (guint i = 0; i < ova->objects->len; i++)
        value_builder_add(&list, object_value(ova->objects->pdata[i]));
    value_builder_map(&b, NULL, 2);
    value_builder_put(&b, "version", version_value());
    value_builder_put(&b, "objects", value_builder_end(&list));
    g_autoptr(value) v = value_builder_end(&b);
    return xmlrpc_value_text(v);
}

/* ---- from text ---- */

/* References in a stream are its own: any text. */
static struct value *convert(const struct field *field, struct value *v)
{
    const struct type *type = field->type;
    struct fault ignored = FAULT_INIT;
    struct value *converted = NULL;
    if (type->kind == TYPE_REF)
        converted = v->type == VALUE_STRING ? value_ref(v) : NULL;
    else if (!(type->kind == TYPE_MAP && (type->elem->kind == TYPE_REF || type->key->kind == TYPE_REF)))
        converted = type_convert(NULL, type, v, field->name, &ignored);
    fault_clear(&ignored);
    return converted;
}

static struct value *read_snapshot(const struct class *class, struct value *given)
{
    struct value_builder b;
    value_builder_map(&b, NULL, (gsize) class->n_fields);
    for (int i = 0; i < class->n_fields; i++) {
        const struct field *field = &class->fields[i];
        struct value *v = value_get(given, field->name), *converted = v ? convert(field, v) : NULL;
        value_builder_put(&b, field->name, converted ? converted : value_ref(field->initial_value));
    }
    return value_builder_end(&b);
}

static gboolean read_object(struct xva_ova *ova, struct value *v, struct fault *f)
{
    const char *name = value_get_str(v, "class", ""), *id = value_get_str(v, "id", "");
    struct value *snapshot = value_get(v, "snapshot");
    if (!*id || !snapshot || snapshot->type != VALUE_MAP)
        return fault_set(f, "IMPORT_ERROR", "an object of ova.xml has no id or no record", NULL);
    const struct class *class = class_by_name(name);
    if (class && class->uuid_field >= 0)
        add(ova, class, g_strdup(id), read_snapshot(class, snapshot));
    return TRUE;
}

struct xva_ova *xva_ova_parse(const char *text, gsize len, struct fault *f)
{
    /* Some writers begin with an XML declaration. */
    const char *start = g_strstr_len(text, (gssize) MIN(len, 256), "<value");
    g_autoptr(value) root = start ? xmlrpc_parse_value(start, len - (gsize) (start - text)) : NULL;
    struct value *version = value_get(root, "version"), *objects = value_get(root, "objects");
    if (!version || !objects || objects->type != VALUE_SET) {
        fault_set(f, "IMPORT_ERROR", "ova.xml cannot be read", NULL);
        return NULL;
    }
    struct value *vsn = value_get(version, "export_vsn");
    gint64 n = vsn && vsn->type == VALUE_STRING ? atoll(value_str(vsn)) : value_as_int(vsn);
    if (n > XVA_EXPORT_VSN || value_count(objects) > XVA_MOST_OBJECT) {
        fault_set(f, "IMPORT_INCOMPATIBLE_VERSION", NULL);
        return NULL;
    }
    g_autoptr(xva_ova) ova = ova_new();
    for (gsize i = 0; i < value_count(objects); i++)
        if (!read_object(ova, value_at(objects, i), f))
            return NULL;
    return g_steal_pointer(&ova);
}
