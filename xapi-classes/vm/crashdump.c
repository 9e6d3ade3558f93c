/* crashdump.c - the class crashdump: memory of guests that crashed, kept in VDIs of their own. */
#include "xapi-classes/vm/crashdump.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"

#define MIB ((gint64) 1 << 20)
/* Of one VM. The first ones say why a guest crashes again and again; more would only fill the repository. */
#define DUMPS_MAX 4

/* ---- where to ---- */

static char *field_of(enum class_id class, const char *ref, int field)
{
    g_autoptr(record) r = store_get(the_store(), class, ref);
    return g_strdup(r != NULL ? record_str(r, field) : NULL_REF);
}

/* The host's choice, or its pool's; counted. */
static struct record *dump_sr(void)
{
    g_autofree char *of_host = field_of(CLASS_host, host_ref(), F_host_crash_dump_sr);
    g_autofree char *of_pool = field_of(CLASS_pool, pool_ref(), F_pool_crash_dump_SR);
    g_autofree char *usual = field_of(CLASS_pool, pool_ref(), F_pool_default_SR);
    const char *const refs[] = {of_host, of_pool, usual, NULL};
    return storage_first_attached(refs);
}

static struct value *record_vdi(G_GNUC_UNUSED struct call *c, struct txn *t, const char *uuid, void *data)
{
    const struct record *vm = data;
    struct value *ref = value_string(NULL, txn_create(t, CLASS_VDI, NULL, uuid));
    txn_set_str(t, CLASS_VDI, value_str(ref), F_VDI_name_label, "Crash dump");
    txn_set_str(t, CLASS_VDI, value_str(ref), F_VDI_name_description, record_str(vm, F_VM_name_label));
    txn_set_str(t, CLASS_VDI, value_str(ref), F_VDI_type, "crashdump");
    return ref;
}

/* Room for all of the memory and what is said about it; what is not written takes no space. */
static struct value *make_vdi(struct call *c, const struct record *vm, const struct record *sr, const char *uuid)
{
    struct value_builder b;
    gint64 memory = record_int(vm, F_VM_memory_static_max);
    storage_params_begin(&b, record_str(sr, F_SR_uuid), uuid);
    value_builder_put(&b, "virtual_size", value_int(NULL, (memory + memory / 10 + 64 * MIB) / MIB * MIB));
    value_builder_put_string(&b, "type", "raw");
    return image_make(c, "vdi.create", value_builder_end(&b), sr, uuid, record_vdi, (void *) vm);
}

/* ---- taking one ---- */

static gboolean dump_into(struct call *c, const struct record *vm, const struct record *sr, const char *uuid)
{
    struct value_builder b;
    vm_params(&b, record_str(vm, F_VM_uuid));
    value_builder_put_string(&b, "sr", record_str(sr, F_SR_uuid));
    value_builder_put_string(&b, "vdi", uuid);
    g_autoptr(value) answer = vm_ask(c, NULL, "domain.core_dump", value_builder_end(&b), ASK_IMAGE_MS);
    return answer != NULL;
}

static void record_dump(struct call *c, const struct record *vm, const struct record *sr, const char *vdi,
                        const char *uuid)
{
    g_autoptr(value) stat = storage_call(c, "vdi.stat", storage_params(record_str(sr, F_SR_uuid), uuid));
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, vm->ref) != NULL && txn_get(t, CLASS_VDI, vdi) != NULL) {
        const char *ref = txn_create(t, CLASS_crashdump, NULL, NULL);
        txn_set_str(t, CLASS_crashdump, ref, F_crashdump_VM, vm->ref);
        txn_set_str(t, CLASS_crashdump, ref, F_crashdump_VDI, vdi);
        if (stat != NULL)
            vdi_apply(t, vdi, stat);
    }
    call_commit(c, t);
}

static void take(struct call *c, const struct record *vm, const struct record *sr)
{
    struct drafts *drafts = drafts_new();
    char uuid[UUID_SIZE];
    uuid_generate_text(uuid);
    drafts_add(drafts, record_str(sr, F_SR_uuid), uuid);
    g_autoptr(value) vdi = drafts_begin(drafts, &c->fault) ? make_vdi(c, vm, sr, uuid) : NULL;
    if (vdi != NULL && dump_into(c, vm, sr, uuid))
        record_dump(c, vm, sr, value_str(vdi), uuid);
    drafts_end(c, drafts);
}

void crashdump_take(struct call *c, const struct record *vm)
{
    const char *name = record_str(vm, F_VM_name_label);
    g_autoptr(record) sr = dump_sr();
    if (value_count(record_field(vm, F_VM_crash_dumps)) >= DUMPS_MAX) {
        g_message("%s has crashed and has %d crash dumps already: no other is taken", name, DUMPS_MAX);
        return;
    }
    if (sr == NULL) {
        g_warning("%s has crashed and there is no storage repository for its crash dump", name);
        return;
    }
    take(c, vm, sr);
    if (c->fault.code != NULL) {
        g_autofree char *text = fault_text(&c->fault);
        g_warning("%s has crashed and its crash dump cannot be kept: %s", name, text);
        fault_clear(&c->fault);
    }
}

/* ---- ending one ---- */

/* The record first; the image that nothing refers to goes with the work. */
static struct value *destroy(struct call *c, const struct record *vdi, const struct record *sr)
{
    struct drafts *drafts = drafts_new();
    struct txn *t = NULL;
    drafts_add(drafts, record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid));
    if (drafts_begin(drafts, &c->fault)) {
        t = txn_begin(the_store());
        if (call_txn_object(c, t, 0) != NULL && operation_check(t, CLASS_VDI, vdi->ref, "destroy", &c->fault)) {
            txn_destroy(t, CLASS_crashdump, call_str(c, 0));
            call_commit(c, t);
        } else {
            txn_abort(t);
        }
    }
    drafts_end(c, drafts);
    return c->fault.code == NULL ? value_void() : NULL;
}

struct value *crashdump_destroy(struct call *c)
{
    g_autoptr(record) dump = call_object(c, 0);
    g_autoptr(record) vdi = dump != NULL ? store_get(the_store(), CLASS_VDI, record_str(dump, F_crashdump_VDI)) : NULL;
    g_autoptr(record) sr = vdi != NULL ? storage_attached_sr(record_str(vdi, F_VDI_SR), &c->fault) : NULL;
    if (sr != NULL)
        return destroy(c, vdi, sr);
    if (dump == NULL || vdi != NULL)
        return NULL;
    struct txn *t = txn_begin(the_store());
    txn_destroy(t, CLASS_crashdump, dump->ref);
    return vm_end_change(c, t);
}
