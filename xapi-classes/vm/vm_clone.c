/* vm_clone.c - VM.clone, copy and snapshot. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"
#include "xapi-classes/vm/vm_twin.h"

static struct value *record_twin(struct call *c, const char *vm, enum twin_kind kind, const char *name,
                                 GPtrArray *disks)
{
    struct txn *t = txn_begin(the_store());
    const struct record *now = txn_get(t, CLASS_VM, vm);
    if (now == NULL) {
        txn_abort(t);
        return call_fail(c, "HANDLE_INVALID", "VM", vm, NULL);
    }
    struct value *result = value_string(NULL, twin_create(t, now, kind, name, disks));
    call_commit(c, t);
    return result;
}

/* The disks first, which takes as long as it takes; then all records at once. */
struct value *twin_make(struct call *c, const char *ref, enum twin_kind kind, const char *name, const char *sr,
                        const struct value *ignore)
{
    g_autoptr(record) vm = store_get(the_store(), CLASS_VM, ref);
    if (vm == NULL)
        return call_fail(c, "HANDLE_INVALID", "VM", ref, NULL);
    struct drafts *drafts = drafts_new();
    g_autoptr(GPtrArray) disks = twin_copy_disks(c, vm, kind, sr, ignore, drafts);
    g_autoptr(value) result = disks != NULL ? record_twin(c, ref, kind, name, disks) : NULL;
    drafts_end(c, drafts);
    return c->fault.code == NULL ? g_steal_pointer(&result) : NULL;
}

struct value *vm_clone(struct call *c)
{
    return twin_make(c, call_str(c, 0), TWIN_CLONE, call_str(c, 1), NULL_REF, NULL);
}

struct value *vm_copy(struct call *c)
{
    return twin_make(c, call_str(c, 0), TWIN_COPY, call_str(c, 1), call_str(c, 2), NULL);
}

struct value *vm_snapshot(struct call *c)
{
    return twin_make(c, call_str(c, 0), TWIN_SNAPSHOT, call_str(c, 1), NULL_REF, call_arg(c, 2));
}

/* Guests would have to be asked to write out what they hold back, and none here listens. */
struct value *vm_snapshot_with_quiesce(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    if (vm == NULL)
        return NULL;
    return call_fail(c, "VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", vm->ref, "guests are not asked to quiesce", NULL);
}
