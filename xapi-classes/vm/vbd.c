/* vbd.c - the class VBD: disks and drives of VMs. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

static gboolean is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* ---- VBD.create ---- */

/* Where the client wants it, by number or name; "autodetect" is the first place that is free. */
static char *wanted_place(struct txn *t, const struct record *vm, const struct record *vbd, struct fault *f)
{
    const char *userdevice = record_str(vbd, F_VBD_userdevice);
    if (*userdevice == '\0')
        userdevice = record_str(vbd, F_VBD_device);
    if (*userdevice != '\0' && !is(userdevice, "autodetect"))
        return g_strdup(userdevice);
    char *place = vbd_free_device(t, vm);
    if (place == NULL)
        fault_set(f, "INVALID_DEVICE", "autodetect", NULL);
    return place;
}

static gboolean set_place(struct txn *t, const struct record *vm, const char *ref, const char *place, struct fault *f)
{
    int position = vbd_position(place);
    if (position < 0)
        return fault_set(f, "INVALID_DEVICE", place, NULL);
    if (vbd_device_taken(t, vm, position, ref))
        return fault_set(f, "DEVICE_ALREADY_EXISTS", place, NULL);
    g_autofree char *device = vbd_device_name(place);
    txn_set_str(t, CLASS_VBD, ref, F_VBD_userdevice, place);
    txn_set_str(t, CLASS_VBD, ref, F_VBD_device, device);
    return TRUE;
}

static void set_defaults(struct txn *t, const char *ref, const struct value *args)
{
    const struct record *vbd = txn_get(t, CLASS_VBD, ref);
    if (value_get(args, "type") == NULL)
        txn_set_str(t, CLASS_VBD, ref, F_VBD_type, "Disk");
    gboolean cd = is(record_str(txn_get(t, CLASS_VBD, ref), F_VBD_type), "CD");
    if (value_get(args, "mode") == NULL)
        txn_set_str(t, CLASS_VBD, ref, F_VBD_mode, cd ? "RO" : "RW");
    if (value_get(args, "empty") == NULL)
        txn_set_bool(t, CLASS_VBD, ref, F_VBD_empty, cd && ref_is_null(record_str(vbd, F_VBD_VDI)));
    txn_set_bool(t, CLASS_VBD, ref, F_VBD_currently_attached, FALSE);
}

static gboolean check_image(struct txn *t, const struct record *vbd, struct fault *f)
{
    const char *ref = record_str(vbd, F_VBD_VDI);
    const struct record *vdi = txn_get(t, CLASS_VDI, ref);
    if (record_bool(vbd, F_VBD_empty)) {
        txn_set_str(t, CLASS_VBD, vbd->ref, F_VBD_VDI, NULL_REF);
        return TRUE;
    }
    if (vdi == NULL)
        return fault_set(f, "HANDLE_INVALID", "VDI", ref, NULL);
    if (is(record_str(vbd, F_VBD_mode), "RW") && record_bool(vdi, F_VDI_read_only))
        return fault_set(f, "VDI_READONLY", ref, NULL);
    return TRUE;
}

static gboolean check_kind(struct txn *t, const struct record *vbd, struct fault *f)
{
    gboolean cd = is(record_str(vbd, F_VBD_type), "CD");
    if (cd && is(record_str(vbd, F_VBD_mode), "RW"))
        return fault_set(f, "VBD_CDS_MUST_BE_READONLY", NULL);
    if (!cd && record_bool(vbd, F_VBD_empty))
        return fault_set(f, "OPERATION_NOT_ALLOWED", "only a CD drive can be empty", NULL);
    return check_image(t, vbd, f);
}

static gboolean complete(struct txn *t, const char *ref, const struct value *args, struct fault *f)
{
    const struct record *vbd = txn_get(t, CLASS_VBD, ref);
    const struct record *vm = txn_get(t, CLASS_VM, record_str(vbd, F_VBD_VM));
    if (vm == NULL)
        return fault_set(f, "HANDLE_INVALID", "VM", record_str(vbd, F_VBD_VM), NULL);
    set_defaults(t, ref, args);
    g_autofree char *place = wanted_place(t, vm, vbd, f);
    return place != NULL && check_kind(t, txn_get(t, CLASS_VBD, ref), f) && set_place(t, vm, ref, place, f);
}

struct value *vbd_create(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    g_autoptr(value) result = generic_create_in(c, t, NULL);
    if (result == NULL || !complete(t, value_str(result), call_arg(c, 0), &c->fault))
        return vm_give_up(c, t);
    call_commit(c, t);
    return g_steal_pointer(&result);
}

/* ---- changes while it is not attached ---- */

static struct txn *begin_detached(struct call *c, struct record **vbd)
{
    struct txn *t = txn_begin(the_store());
    *vbd = call_txn_object(c, t, 0);
    if (*vbd != NULL && operation_check(t, CLASS_VBD, (*vbd)->ref, "attach", &c->fault))
        return t;
    txn_abort(t);
    return NULL;
}

struct value *vbd_destroy(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *vbd = call_txn_object(c, t, 0);
    const struct record *vm = vbd != NULL ? txn_get(t, CLASS_VM, record_str(vbd, F_VBD_VM)) : NULL;
    if (vbd == NULL)
        return vm_give_up(c, t);
    if (vm != NULL && record_bool(vbd, F_VBD_currently_attached)) {
        g_autofree char *why =
            g_strdup_printf("VBD '%s' still attached to '%s'", record_str(vbd, F_VBD_uuid), record_str(vm, F_VM_uuid));
        call_fail(c, "OPERATION_NOT_ALLOWED", why, NULL);
        return vm_give_up(c, t);
    }
    if (vm != NULL && !operation_check(t, CLASS_VBD, vbd->ref, "attach", &c->fault))
        return vm_give_up(c, t);
    txn_destroy(t, CLASS_VBD, call_str(c, 0));
    return vm_end_change(c, t);
}

struct value *vbd_set_mode(struct call *c)
{
    struct record *vbd;
    struct txn *t = begin_detached(c, &vbd);
    if (t == NULL)
        return NULL;
    txn_set_str(t, CLASS_VBD, call_str(c, 0), F_VBD_mode, call_str(c, 1));
    if (!check_kind(t, txn_get(t, CLASS_VBD, call_str(c, 0)), &c->fault))
        return vm_give_up(c, t);
    return vm_end_change(c, t);
}

/* VBD.set_userdevice, and set_device of the 1.0 API. */
struct value *vbd_set_userdevice(struct call *c)
{
    struct record *vbd;
    struct txn *t = begin_detached(c, &vbd);
    if (t == NULL)
        return NULL;
    const struct record *vm = txn_get(t, CLASS_VM, record_str(vbd, F_VBD_VM));
    if (!set_place(t, vm, vbd->ref, call_str(c, 1), &c->fault))
        return vm_give_up(c, t);
    return vm_end_change(c, t);
}

struct value *vbd_assert_attachable(struct call *c)
{
    struct record *vbd;
    struct txn *t = begin_detached(c, &vbd);
    if (t == NULL)
        return NULL;
    gboolean can = disk_check(t, vbd, "attach", &c->fault);
    txn_abort(t);
    return can ? value_void() : NULL;
}

/* ---- plug and unplug ---- */

static struct record *vm_of(struct call *c, const struct record *vbd)
{
    struct record *vm = store_get(the_store(), CLASS_VM, record_str(vbd, F_VBD_VM));
    if (vm == NULL)
        call_fail(c, "HANDLE_INVALID", "VM", record_str(vbd, F_VBD_VM), NULL);
    return vm;
}

static struct value *ask_device(struct call *c, struct vm_work *w, const char *method, const struct record *vbd,
                                gboolean force)
{
    struct value_builder b;
    vm_params(&b, w->uuid);
    value_builder_put(&b, "vbd", vbd_config(vbd));
    value_builder_put(&b, "force", value_bool(force));
    return vm_ask(c, w, method, value_builder_end(&b), ASK_LONG_MS);
}

/* Unless the domain is another one by now, or none: then its devices have been told already. */
static void commit_attached(struct call *c, const struct vm_work *w, const char *ref, gboolean attached,
                            const char *device)
{
    struct txn *t = txn_begin(the_store());
    const struct record *vm = txn_get(t, CLASS_VM, w->ref);
    if (vm != NULL && record_int(vm, F_VM_domid) == w->domid && txn_get(t, CLASS_VBD, ref) != NULL) {
        txn_set_bool(t, CLASS_VBD, ref, F_VBD_currently_attached, attached);
        if (device != NULL && *device != '\0')
            txn_set_str(t, CLASS_VBD, ref, F_VBD_device, device);
    }
    call_commit(c, t);
}

static gboolean reserve(struct call *c, const char *op)
{
    struct txn *t = txn_begin(the_store());
    struct record *vbd = call_txn_object(c, t, 0);
    gboolean reserved = vbd != NULL && disk_reserve(t, vbd, op, &c->fault);
    txn_abort(t);
    return reserved;
}

static gboolean plug_reserved(struct call *c, const struct record *vbd, const struct record *vm)
{
    g_auto(vm_work) w = VM_WORK_INIT;
    vm_work_begin(&w, vm);
    g_autoptr(value) answer = ask_device(c, &w, "domain.vbd_plug", vbd, FALSE);
    if (answer == NULL)
        return FALSE;
    commit_attached(c, &w, vbd->ref, TRUE, value_get_str(answer, "device", NULL));
    return TRUE;
}

struct value *vbd_plug(struct call *c)
{
    g_autoptr(record) vbd = call_object(c, 0);
    g_autoptr(record) vm = vbd != NULL ? vm_of(c, vbd) : NULL;
    if (vm == NULL || !reserve(c, "plug"))
        return NULL;
    gboolean plugged = plug_reserved(c, vbd, vm);
    disk_release(vbd->ref);
    return plugged ? value_void() : NULL;
}

static struct value *unplug(struct call *c, gboolean force)
{
    g_autoptr(record) vbd = call_object(c, 0);
    g_autoptr(record) vm = vbd != NULL ? vm_of(c, vbd) : NULL;
    g_auto(vm_work) w = VM_WORK_INIT;
    if (vm == NULL)
        return NULL;
    vm_work_begin(&w, vm);
    g_autoptr(value) answer = ask_device(c, &w, "domain.vbd_unplug", vbd, force);
    if (answer == NULL)
        return NULL;
    commit_attached(c, &w, vbd->ref, FALSE, NULL);
    return value_void();
}

struct value *vbd_unplug(struct call *c)
{
    return unplug(c, FALSE);
}

struct value *vbd_unplug_force(struct call *c)
{
    return unplug(c, TRUE);
}

/* ---- media ---- */

static void set_medium(struct txn *t, const char *ref, const char *vdi)
{
    txn_set_str(t, CLASS_VBD, ref, F_VBD_VDI, vdi);
    txn_set_bool(t, CLASS_VBD, ref, F_VBD_empty, ref_is_null(vdi));
}

/* The drive as it will be with another medium, which is taken for it; NULL after failing. */
static struct record *with_medium(struct call *c, const char *vdi)
{
    struct txn *t = txn_begin(the_store());
    struct record *vbd = call_txn_object(c, t, 0), *changed = NULL;
    if (vbd != NULL && !ref_is_null(vdi) && txn_get(t, CLASS_VDI, vdi) == NULL) {
        call_fail(c, "HANDLE_INVALID", "VDI", vdi, NULL);
    } else if (vbd != NULL) {
        set_medium(t, vbd->ref, vdi);
        vbd = txn_get(t, CLASS_VBD, vbd->ref);
        if (disk_reserve(t, vbd, "insert", &c->fault))
            changed = record_ref(vbd);
    }
    txn_abort(t);
    return changed;
}

static gboolean tell_medium(struct call *c, const struct record *vbd, const char *method)
{
    g_autoptr(record) vm = vm_of(c, vbd);
    g_auto(vm_work) w = VM_WORK_INIT;
    if (vm == NULL)
        return FALSE;
    if (!record_bool(vbd, F_VBD_currently_attached) || vm_is(vm, "Suspended"))
        return TRUE;
    vm_work_begin(&w, vm);
    g_autoptr(value) answer = ask_device(c, &w, method, vbd, FALSE);
    return answer != NULL;
}

static gboolean change_medium(struct call *c, const char *vdi)
{
    g_autoptr(record) vbd = with_medium(c, vdi);
    if (vbd == NULL)
        return FALSE;
    gboolean done = tell_medium(c, vbd, ref_is_null(vdi) ? "domain.vbd_eject" : "domain.vbd_insert");
    if (done) {
        struct txn *t = txn_begin(the_store());
        if (txn_get(t, CLASS_VBD, vbd->ref) != NULL)
            set_medium(t, vbd->ref, vdi);
        call_commit(c, t);
    }
    disk_release(vbd->ref);
    return done;
}

struct value *vbd_insert(struct call *c)
{
    if (ref_is_null(call_str(c, 1)))
        return call_fail(c, "HANDLE_INVALID", "VDI", call_str(c, 1), NULL);
    return change_medium(c, call_str(c, 1)) ? value_void() : NULL;
}

struct value *vbd_eject(struct call *c)
{
    return change_medium(c, NULL_REF) ? value_void() : NULL;
}

struct value *vbd_media_change(struct call *c)
{
    g_autoptr(record) vbd = call_object(c, 0);
    if (vbd == NULL)
        return NULL;
    if (!is(record_str(vbd, F_VBD_type), "CD"))
        return call_fail(c, "VBD_NOT_REMOVABLE_MEDIA", vbd->ref, NULL);
    if (!record_bool(vbd, F_VBD_empty) && !change_medium(c, NULL_REF))
        return NULL;
    return vbd_insert(c);
}
