/* pbd.c - the class PBD: a host's way to an SR. Plugged, the SR is attached and scanned. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/storage/storage.h"
#include "xenbackend/backend.h"

/* One PBD for each host and SR. */
static gboolean is_new_pair(struct call *c, struct txn *t, const char *ref)
{
    struct record *pbd = txn_get(t, CLASS_PBD, ref);
    const char *sr_ref = record_str(pbd, F_PBD_SR), *host = record_str(pbd, F_PBD_host);
    struct record *sr = txn_get(t, CLASS_SR, sr_ref);

    if (!sr)
        return fault_set(&c->fault, "HANDLE_INVALID", "SR", sr_ref, NULL);
    if (!txn_get(t, CLASS_host, host))
        return fault_set(&c->fault, "HANDLE_INVALID", "host", host, NULL);
    struct value *others = record_field(sr, F_SR_PBDs);
    for (gsize i = 0; i < value_count(others); i++) {
        struct record *other = txn_get(t, CLASS_PBD, value_str(value_at(others, i)));
        if (other && strcmp(other->ref, ref) != 0 && strcmp(record_str(other, F_PBD_host), host) == 0)
            return fault_set(&c->fault, "PBD_EXISTS", sr_ref, host, other->ref, NULL);
    }
    return TRUE;
}

struct value *pbd_create(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    g_autoptr(value) ref = generic_create_in(c, t, NULL);

    if (!ref || !is_new_pair(c, t, value_str(ref))) {
        txn_abort(t);
        return NULL;
    }
    txn_set_bool(t, CLASS_PBD, value_str(ref), F_PBD_currently_attached, FALSE);
    call_commit(c, t);
    return g_steal_pointer(&ref);
}

static struct value *change_unplugged(struct call *c, struct txn *t)
{
    struct record *r = call_txn_object(c, t, 0);
    if (r && record_bool(r, F_PBD_currently_attached))
        call_fail(c, "OPERATION_NOT_ALLOWED", "the PBD is plugged", NULL);
    if (!c->fault.code)
        return value_void();
    txn_abort(t);
    return NULL;
}

struct value *pbd_destroy(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct value *ok = change_unplugged(c, t);
    if (ok) {
        txn_destroy(t, CLASS_PBD, call_str(c, 0));
        call_commit(c, t);
    }
    return ok;
}

struct value *pbd_set_device_config(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct value *ok = change_unplugged(c, t);
    if (ok) {
        txn_set(t, CLASS_PBD, call_str(c, 0), F_PBD_device_config, value_ref(call_arg(c, 1)));
        call_commit(c, t);
    }
    return ok;
}

/* ---- plug, unplug ---- */

/* FALSE when the PBD is no more. */
static gboolean set_attached(struct call *c, const char *pbd_ref, gboolean attached)
{
    struct txn *t = txn_begin(the_store());
    gboolean there = txn_get(t, CLASS_PBD, pbd_ref) != NULL;
    if (there)
        txn_set_bool(t, CLASS_PBD, pbd_ref, F_PBD_currently_attached, attached);
    call_commit(c, t);
    return there;
}

static struct value *attach_params(const struct record *pbd, const struct record *sr)
{
    struct value_builder b;
    storage_params_begin(&b, record_str(sr, F_SR_uuid), NULL);
    value_builder_put_string(&b, "type", record_str(sr, F_SR_type));
    value_builder_put(&b, "device_config", value_ref(record_field(pbd, F_PBD_device_config)));
    return value_builder_end(&b);
}

/* Not by way of the call, which may have been cancelled. */
static void undo_attach(struct call *c, const struct record *pbd, const struct record *sr)
{
    struct fault f = FAULT_INIT;
    g_autoptr(value) params = attach_params(pbd, sr);
    g_autoptr(value) done = backend_call("sr.detach", params, NULL, &f);
    if (!done) {
        g_autofree char *text = fault_text(&f);
        g_warning("SR %s stays attached: %s", record_str(sr, F_SR_uuid), text);
        fault_clear(&f);
    }
    set_attached(c, pbd->ref, FALSE);
}

gboolean pbd_plug_now(struct call *c, const char *pbd_ref)
{
    g_autoptr(record) pbd = store_get(the_store(), CLASS_PBD, pbd_ref);
    if (!pbd)
        return fault_set(&c->fault, "HANDLE_INVALID", "PBD", pbd_ref, NULL);
    g_autoptr(record) sr = store_get(the_store(), CLASS_SR, record_str(pbd, F_PBD_SR));
    if (!sr)
        return fault_set(&c->fault, "HANDLE_INVALID", "SR", record_str(pbd, F_PBD_SR), NULL);
    if (!sr_type_is_known(record_str(sr, F_SR_type)))
        return fault_set(&c->fault, "SR_UNKNOWN_DRIVER", record_str(sr, F_SR_type), NULL);
    g_autoptr(value) done = storage_call(c, "sr.attach", attach_params(pbd, sr));
    if (!done)
        return FALSE;
    if (set_attached(c, pbd_ref, TRUE) && sr_scan_now(c, sr->ref))
        return TRUE;
    fault_set(&c->fault, "HANDLE_INVALID", "PBD", pbd_ref, NULL); /* unless the scan failed */
    undo_attach(c, pbd, sr);
    return FALSE;
}

struct value *pbd_plug(struct call *c)
{
    g_autoptr(record) pbd = call_object(c, 0);
    if (!pbd)
        return NULL;
    if (record_bool(pbd, F_PBD_currently_attached))
        return value_void(); /* as asked for */
    return pbd_plug_now(c, pbd->ref) ? value_void() : NULL;
}

/* The first image of the SR that a VM has attached, or NULL. */
static struct record *image_in_use(const struct record *sr)
{
    struct value *vdis = record_field(sr, F_SR_VDIs);
    for (gsize i = 0; i < value_count(vdis); i++) {
        g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, value_str(value_at(vdis, i)));
        struct value *vbds = vdi ? record_field(vdi, F_VDI_VBDs) : NULL;
        for (gsize j = 0; j < value_count(vbds); j++) {
            g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, value_str(value_at(vbds, j)));
            if (vbd && record_bool(vbd, F_VBD_currently_attached))
                return g_steal_pointer(&vdi);
        }
    }
    return NULL;
}

struct value *pbd_unplug(struct call *c)
{
    g_autoptr(record) pbd = call_object(c, 0);
    if (!pbd)
        return NULL;
    g_autoptr(record) sr = store_get(the_store(), CLASS_SR, record_str(pbd, F_PBD_SR));
    if (!record_bool(pbd, F_PBD_currently_attached) || !sr)
        return value_void();
    g_autoptr(record) used = image_in_use(sr);
    if (used)
        return call_fail(c, "VDI_IN_USE", used->ref, "unplug", NULL);
    g_autoptr(value) done = storage_call(c, "sr.detach", attach_params(pbd, sr));
    if (!done)
        return NULL;
    set_attached(c, pbd->ref, FALSE);
    return value_void();
}
