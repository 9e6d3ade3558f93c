/* vdi_cbt.c - changed block tracking of the class VDI: enable_cbt, disable_cbt, data_destroy, list_changed_blocks. The
 * logs are the backend's (xenbackend/storage/storage_cbt.h). */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/storage/vdi.h"

#include <string.h>

static gboolean is_cbt_metadata(const struct record *vdi)
{
    return strcmp(record_str(vdi, F_VDI_type), "cbt_metadata") == 0;
}

/* ---- on and off ---- */

static gboolean ask(struct call *c, const char *method, const struct record *sr, const struct record *vdi)
{
    struct value_builder b;
    g_autofree char *writer = vdi_writer(vdi);
    storage_params_begin(&b, record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid));
    if (writer)
        value_builder_put_string(&b, "writer", writer);
    g_autoptr(value) answer = storage_call(c, method, value_builder_end(&b));
    storage_coalesce_soon(record_str(sr, F_SR_uuid), answer);
    return answer != NULL;
}

static struct value *set_enabled(struct call *c, gboolean enabled)
{
    g_autoptr(record) vdi = call_object(c, 0);
    g_autoptr(record) sr = vdi ? storage_attached_sr(record_str(vdi, F_VDI_SR), &c->fault) : NULL;
    if (!sr || !ask(c, enabled ? "vdi.enable_cbt" : "vdi.disable_cbt", sr, vdi))
        return NULL;
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VDI, vdi->ref))
        txn_set_bool(t, CLASS_VDI, vdi->ref, F_VDI_cbt_enabled, enabled);
    call_commit(c, t);
    return value_void();
}

struct value *vdi_enable_cbt(struct call *c)
{
    return set_enabled(c, TRUE);
}

struct value *vdi_disable_cbt(struct call *c)
{
    return set_enabled(c, FALSE);
}

/* ---- data_destroy ---- */

static gboolean set_type(struct call *c, const char *ref, const char *type)
{
    struct txn *t = txn_begin(the_store());
    if (!txn_get(t, CLASS_VDI, ref)) {
        txn_abort(t);
        return fault_set(&c->fault, "HANDLE_INVALID", "VDI", ref, NULL);
    }
    txn_set_str(t, CLASS_VDI, ref, F_VDI_type, type);
    call_commit(c, t);
    return TRUE;
}

/* No VM has a use for a disk without data. */
static void drop_disks(struct txn *t, const struct record *vdi)
{
    g_autoptr(value) vbds = value_ref(record_field(vdi, F_VDI_VBDs));
    for (gsize i = 0; i < value_count(vbds); i++)
        txn_destroy(t, CLASS_VBD, value_str(value_at(vbds, i)));
}

static void record_without_data(struct call *c, const char *ref)
{
    struct txn *t = txn_begin(the_store());
    g_autoptr(record) vdi = record_ref(txn_get(t, CLASS_VDI, ref));
    if (vdi) {
        drop_disks(t, vdi);
        txn_set_int(t, CLASS_VDI, ref, F_VDI_physical_utilisation, 0);
        txn_set_bool(t, CLASS_VDI, ref, F_VDI_missing, FALSE);
    }
    call_commit(c, t);
}

/* The type comes first, and durably: once the data is gone nothing else keeps the record over a scan. */
static gboolean begin_destroy(struct call *c, const struct record *vdi)
{
    return set_type(c, vdi->ref, "cbt_metadata") && store_wait(the_store(), c->wait_seq, &c->fault);
}

static gboolean remove_data(struct call *c, const struct record *sr, const struct record *vdi)
{
    g_autofree char *type = g_strdup(record_str(vdi, F_VDI_type));
    if (!begin_destroy(c, vdi))
        return FALSE;
    if (ask(c, "vdi.data_destroy", sr, vdi))
        return TRUE;
    struct fault why = FAULT_INIT;
    fault_move(&why, &c->fault);
    set_type(c, vdi->ref, type);
    fault_clear(&c->fault);
    fault_move(&c->fault, &why);
    return FALSE;
}

struct value *vdi_data_destroy(struct call *c)
{
    g_autoptr(record) vdi = call_object(c, 0);
    g_autoptr(record) sr = vdi ? storage_attached_sr(record_str(vdi, F_VDI_SR), &c->fault) : NULL;
    if (!sr)
        return NULL;
    image_work_begin(record_str(vdi, F_VDI_uuid));
    gboolean done = remove_data(c, sr, vdi);
    if (done)
        record_without_data(c, vdi->ref);
    image_work_end(record_str(vdi, F_VDI_uuid));
    return done ? value_void() : NULL;
}

/* ---- list_changed_blocks ---- */

static gboolean may_list(struct call *c, const struct record *from, const struct record *to)
{
    struct txn *t = txn_begin(the_store());
    gboolean may = operation_check(t, CLASS_VDI, to->ref, "list_changed_blocks", &c->fault);
    txn_abort(t);
    if (!may)
        return FALSE;
    if (strcmp(record_str(from, F_VDI_SR), record_str(to, F_VDI_SR)) != 0)
        return fault_set(&c->fault, "SR_BACKEND_FAILURE", "460", "",
                         "Failed to calculate changed blocks for given VDIs. [opterr=They are on different SRs]", NULL);
    const struct record *both[] = {from, to};
    for (int i = 0; i < 2; i++)
        if (!record_bool(both[i], F_VDI_cbt_enabled) && !is_cbt_metadata(both[i]))
            return fault_set(&c->fault, "VDI_NO_CBT_METADATA", both[i]->ref, NULL);
    return TRUE;
}

/* The whole bitmap goes into one answer: the most significant bit of its first byte is the first 64 KiB. */
struct value *vdi_list_changed_blocks(struct call *c)
{
    g_autoptr(record) from = call_object(c, 0), to = from ? call_object(c, 1) : NULL;
    g_autoptr(record) sr = to ? storage_attached_sr(record_str(to, F_VDI_SR), &c->fault) : NULL;
    struct value_builder b;
    if (!sr || !may_list(c, from, to))
        return NULL;
    storage_params_begin(&b, record_str(sr, F_SR_uuid), record_str(from, F_VDI_uuid));
    value_builder_put_string(&b, "to", record_str(to, F_VDI_uuid));
    g_autoptr(value) answer = storage_call(c, "vdi.list_changed_blocks", value_builder_end(&b));
    return answer ? value_ref(value_get(answer, "bitmap")) : NULL;
}
