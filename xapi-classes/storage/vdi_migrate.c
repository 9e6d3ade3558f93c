/* vdi_migrate.c - VDI.pool_migrate: a VM's disk moves to another SR. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/storage/vdi.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

#define CAPABILITY "VDI_MIRROR" /* the backend can move the disk of a running VM */

/* ---- who has it ---- */

/* The disk's only place in a VM that is none of the snapshots; NULL with the fault set. */
static struct record *disk_of(struct call *c, const struct record *vdi, struct record **vm)
{
    struct record *found = NULL;
    struct value *vbds = record_field(vdi, F_VDI_VBDs);
    *vm = NULL;
    for (gsize i = 0; i < value_count(vbds); i++) {
        g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, value_str(value_at(vbds, i)));
        g_autoptr(record) owner = vbd ? store_get(the_store(), CLASS_VM, record_str(vbd, F_VBD_VM)) : NULL;
        if (!owner || record_bool(owner, F_VM_is_a_snapshot))
            continue;
        if (found && !call_fail(c, "VDI_IN_USE", vdi->ref, "mirror", NULL))
            break;
        found = g_steal_pointer(&vbd);
        *vm = g_steal_pointer(&owner);
    }
    if (found && !c->fault.code)
        return found;
    if (!c->fault.code)
        call_fail(c, "VDI_NEEDS_VM_FOR_MIGRATE", vdi->ref, NULL);
    g_clear_pointer(&found, record_unref);
    g_clear_pointer(vm, record_unref);
    return NULL;
}

static gboolean sr_can(const struct record *sr)
{
    g_autoptr(GPtrArray) drivers = store_all(the_store(), CLASS_SM);
    for (guint i = 0; i < drivers->len; i++)
        if (strcmp(record_str(drivers->pdata[i], F_SM_type), record_str(sr, F_SR_type)) == 0)
            return value_contains(record_field(drivers->pdata[i], F_SM_capabilities), CAPABILITY);
    return FALSE;
}

static gboolean may_move(struct call *c, const struct record *vdi, const struct record *vm, const struct record *from,
                         const struct record *to)
{
    const struct record *both[] = {from, to};
    if (vm_is(vm, "Suspended"))
        return fault_set(&c->fault, "VM_BAD_POWER_STATE", vm->ref, "halted, running", "suspended", NULL);
    if (record_bool(vdi, F_VDI_is_a_snapshot))
        return fault_set(&c->fault, "OPERATION_NOT_ALLOWED", "a snapshot moves with its disk only", NULL);
    if (strcmp(record_str(to, F_SR_content_type), "iso") == 0)
        return fault_set(&c->fault, "SR_OPERATION_NOT_SUPPORTED", to->ref, NULL);
    for (int i = 0; i < 2 && !vm_is(vm, "Halted"); i++)
        if (!sr_can(both[i]))
            return fault_set(&c->fault, "SR_DOES_NOT_SUPPORT_MIGRATION", both[i]->ref, CAPABILITY, NULL);
    return TRUE;
}

/* ---- the move ---- */

struct move {
    struct record *vdi, *vbd, *vm, *from, *to;
    char uuid[UUID_SIZE]; /* of the new image */
    gint64 writes;        /* of the guest, when the copy began */
};

static void copy_params(struct value_builder *b, const struct move *m)
{
    storage_params_begin(b, record_str(m->from, F_SR_uuid), record_str(m->vdi, F_VDI_uuid));
    value_builder_put_string(b, "dest_sr", record_str(m->to, F_SR_uuid));
    value_builder_put_string(b, "new", m->uuid);
}

static gboolean is_live(const struct move *m)
{
    return record_bool(m->vbd, F_VBD_currently_attached);
}

/* Keeps what the backend says of the image that it makes: how often the guest has written to it. */
static struct value *record_live(struct call *c, struct txn *t, const char *uuid, void *data)
{
    struct vdi_twin twin = {.vdi = ((struct move *) data)->vdi};
    return vdi_record_twin(c, t, uuid, &twin);
}

static struct value *make_live(struct call *c, struct move *m)
{
    struct value_builder b;
    struct value *ref = NULL;
    copy_params(&b, m);
    value_builder_put_string(&b, "uuid", record_str(m->vm, F_VM_uuid));
    value_builder_put(&b, "vbd", vbd_config(m->vbd));
    image_work_begin(m->uuid);
    g_autoptr(value) made = storage_call(c, "domain.vbd_mirror", value_builder_end(&b));
    if (made) {
        m->writes = value_as_int(value_get(made, "writes"));
        ref = image_record(c, m->to, m->uuid, made, record_live, m);
    }
    image_work_end(m->uuid);
    return ref;
}

/* The disk as the guest is to have it. */
static struct value *moved_config(const struct move *m)
{
    g_autoptr(value) config = vbd_config(m->vbd);
    g_autoptr(value) elsewhere = value_map_with(config, "sr", value_string(NULL, record_str(m->to, F_SR_uuid)));
    return value_map_with(elsewhere, "vdi", value_string(NULL, m->uuid));
}

/* What was written meanwhile is copied, too, and from then on the guest has the new image. */
static gboolean pivot(struct call *c, const struct move *m)
{
    struct value_builder b;
    copy_params(&b, m);
    value_builder_put_string(&b, "uuid", record_str(m->vm, F_VM_uuid));
    value_builder_put(&b, "vbd", moved_config(m));
    value_builder_put(&b, "into", value_bool(TRUE));
    value_builder_put(&b, "writes", value_int(NULL, m->writes));
    g_autoptr(value) answer = storage_call(c, "domain.vbd_pivot", value_builder_end(&b));
    return answer != NULL;
}

static struct value *make(struct call *c, struct move *m)
{
    struct vdi_twin twin = {.vdi = m->vdi};
    struct value_builder b;
    if (is_live(m))
        return make_live(c, m);
    copy_params(&b, m);
    return image_make(c, "vdi.copy", value_builder_end(&b), m->to, m->uuid, vdi_record_twin, &twin);
}

/* Everything that knew the old image knows the new one. */
static gboolean put_in_place(struct call *c, const struct move *m, const char *new)
{
    struct txn *t = txn_begin(the_store());
    const struct record *old = txn_get(t, CLASS_VDI, m->vdi->ref);
    if (!old || !txn_get(t, CLASS_VBD, m->vbd->ref)) {
        txn_abort(t);
        return fault_set(&c->fault, "HANDLE_INVALID", old ? "VBD" : "VDI", old ? m->vbd->ref : m->vdi->ref, NULL);
    }
    g_autoptr(value) vbds = value_ref(record_field(old, F_VDI_VBDs));
    g_autoptr(value) snapshots = value_ref(record_field(old, F_VDI_snapshots));
    for (gsize i = 0; i < value_count(vbds); i++)
        txn_set_str(t, CLASS_VBD, value_str(value_at(vbds, i)), F_VBD_VDI, new);
    for (gsize i = 0; i < value_count(snapshots); i++)
        txn_set_str(t, CLASS_VDI, value_str(value_at(snapshots, i)), F_VDI_snapshot_of, new);
    call_commit(c, t);
    return TRUE;
}

/* What the domain says of itself meanwhile is looked at once the records agree with it. */
static gboolean hand_over(struct call *c, const struct move *m, const char *new)
{
    g_auto(vm_work) w = VM_WORK_INIT;
    if (!is_live(m))
        return put_in_place(c, m, new);
    vm_work_begin(&w, m->vm);
    return pivot(c, m) && put_in_place(c, m, new);
}

/* Whatever happens, of the two images the one that the VM has is left. */
static struct value *move_disk(struct call *c, struct move *m)
{
    struct drafts *drafts = drafts_new();
    struct value *new = NULL;
    drafts_add(drafts, record_str(m->to, F_SR_uuid), m->uuid);
    drafts_add(drafts, record_str(m->from, F_SR_uuid), record_str(m->vdi, F_VDI_uuid));
    if (drafts_begin(drafts, &c->fault))
        new = make(c, m);
    if (new && !hand_over(c, m, value_str(new)))
        g_clear_pointer(&new, value_unref);
    drafts_end(c, drafts);
    return c->fault.code ? NULL : new;
}

/* VDI.pool_migrate(vdi, sr, options): within the one host that there is. */
struct value *vdi_pool_migrate(struct call *c)
{
    g_autoptr(record) vdi = call_object(c, 0), vm = NULL;
    g_autoptr(record) to = vdi ? storage_attached_sr(call_str(c, 1), &c->fault) : NULL;
    g_autoptr(record) from = to ? storage_attached_sr(record_str(vdi, F_VDI_SR), &c->fault) : NULL;
    g_autoptr(record) vbd = from ? disk_of(c, vdi, &vm) : NULL;
    if (!vbd || !may_move(c, vdi, vm, from, to))
        return NULL;
    if (strcmp(from->ref, to->ref) == 0)
        return value_string(NULL, vdi->ref);
    struct move m = {.vdi = vdi, .vbd = vbd, .vm = vm, .from = from, .to = to};
    uuid_generate_text(m.uuid);
    return move_disk(c, &m);
}
