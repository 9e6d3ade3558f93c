/* vm_memory_vdi.c - VDIs that take a VM's memory: suspend images and crash dumps. */
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"

#define MIB ((gint64) 1 << 20)

static char *field_of(enum class_id class, const char *ref, int field)
{
    g_autoptr(record) r = store_get(the_store(), class, ref);
    return g_strdup(r != NULL ? record_str(r, field) : NULL_REF);
}

struct record *memory_vdi_sr(const char *own, int of_host, int of_pool)
{
    g_autofree char *host = field_of(CLASS_host, host_ref(), of_host);
    g_autofree char *pool = field_of(CLASS_pool, pool_ref(), of_pool);
    g_autofree char *usual = field_of(CLASS_pool, pool_ref(), F_pool_default_SR);
    const char *const candidates[] = {own != NULL ? own : NULL_REF, host, pool, usual, NULL};
    return storage_first_attached(candidates);
}

struct what {
    const struct record *vm;
    const char *label, *type;
};

static struct value *record_vdi(G_GNUC_UNUSED struct call *c, struct txn *t, const char *uuid, void *data)
{
    const struct what *w = data;
    struct value *ref = value_string(NULL, txn_create(t, CLASS_VDI, NULL, uuid));
    txn_set_str(t, CLASS_VDI, value_str(ref), F_VDI_name_label, w->label);
    txn_set_str(t, CLASS_VDI, value_str(ref), F_VDI_name_description, record_str(w->vm, F_VM_name_label));
    txn_set_str(t, CLASS_VDI, value_str(ref), F_VDI_type, w->type);
    return ref;
}

struct value *memory_vdi_make(struct call *c, const struct record *vm, const struct record *sr, const char *uuid,
                              const char *label, const char *type)
{
    struct value_builder b;
    struct what w = {vm, label, type};
    gint64 memory = record_int(vm, F_VM_memory_static_max);
    storage_params_begin(&b, record_str(sr, F_SR_uuid), uuid);
    value_builder_put(&b, "virtual_size", value_int(NULL, (memory + memory / 10 + 64 * MIB) / MIB * MIB));
    value_builder_put_string(&b, "type", "raw");
    return image_make(c, "vdi.create", value_builder_end(&b), sr, uuid, record_vdi, &w);
}
