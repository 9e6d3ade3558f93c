/* crashdump.c - the class crashdump: memory of guests that crashed, kept in VDIs of their own. */
#include "xapi-classes/vm/crashdump.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"

/* Of one VM. The first ones say why a guest crashes again and again; more would only fill the repository. */
#define DUMPS_MAX 4

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
    g_autoptr(value) vdi =
        drafts_begin(drafts, &c->fault) ? memory_vdi_make(c, vm, sr, uuid, "Crash dump", "crashdump") : NULL;
    if (vdi != NULL && dump_into(c, vm, sr, uuid))
        record_dump(c, vm, sr, value_str(vdi), uuid);
    drafts_end(c, drafts);
}

void crashdump_take(struct call *c, const struct record *vm)
{
    const char *name = record_str(vm, F_VM_name_label);
    g_autoptr(record) sr = memory_vdi_sr(NULL, F_host_crash_dump_sr, F_pool_crash_dump_SR);
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
