/* storage.c - what the storage classes share: calls to the backend and its answers as records. */
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"

void storage_params_begin(struct value_builder *b, const char *sr_uuid, const char *vdi_uuid)
{
    value_builder_map(b, NULL, 6);
    if (sr_uuid)
        value_builder_put_string(b, "sr", sr_uuid);
    if (vdi_uuid)
        value_builder_put_string(b, "vdi", vdi_uuid);
    g_autoptr(record) vdi = vdi_uuid ? store_get_by_uuid(the_store(), CLASS_VDI, vdi_uuid) : NULL;
    if (vdi) {
        value_builder_put_string(b, "vdi_ref", vdi->ref);
        value_builder_put_string(b, "vdi_location", record_str(vdi, F_VDI_location));
    }
}

struct value *storage_params(const char *sr_uuid, const char *vdi_uuid)
{
    struct value_builder b;
    storage_params_begin(&b, sr_uuid, vdi_uuid);
    return value_builder_end(&b);
}

/* Images may be of any size: there is no limit of time. */
struct value *storage_call(struct call *c, const char *method, struct value *params)
{
    return vm_ask(c, NULL, method, storage_with_context(c, params), -1);
}

struct record *storage_attached_sr(const char *sr_ref, struct fault *f)
{
    g_autoptr(record) sr = store_get(the_store(), CLASS_SR, sr_ref);
    if (!sr) {
        fault_set(f, "HANDLE_INVALID", "SR", sr_ref, NULL);
        return NULL;
    }
    struct value *pbds = record_field(sr, F_SR_PBDs);
    for (gsize i = 0; i < value_count(pbds); i++) {
        g_autoptr(record) pbd = store_get(the_store(), CLASS_PBD, value_str(value_at(pbds, i)));
        if (pbd && record_bool(pbd, F_PBD_currently_attached))
            return record_ref(sr);
    }
    fault_set(f, value_count(pbds) ? "SR_NOT_ATTACHED" : "SR_HAS_NO_PBDS", sr_ref, NULL);
    return NULL;
}

struct record *storage_first_attached(const char *const *refs)
{
    for (; *refs != NULL; refs++) {
        struct fault f = FAULT_INIT;
        struct record *sr = ref_is_null(*refs) ? NULL : storage_attached_sr(*refs, &f);
        fault_clear(&f);
        if (sr != NULL)
            return sr;
    }
    return NULL;
}

/* ---- answers as records ---- */

static void keep_image_format(struct txn *t, const char *ref, const char *format)
{
    const struct record *r = txn_get(t, CLASS_VDI, ref);
    if (*format && g_strcmp0(record_key(r, F_VDI_sm_config, "type"), format) != 0)
        txn_put_key(t, CLASS_VDI, ref, F_VDI_sm_config, "type", format);
}

void vdi_apply(struct txn *t, const char *ref, struct value *vdi)
{
    if (value_get(vdi, "virtual_size")) { /* else the driver sets them itself */
        txn_set_int(t, CLASS_VDI, ref, F_VDI_virtual_size, value_as_int(value_get(vdi, "virtual_size")));
        txn_set_int(t, CLASS_VDI, ref, F_VDI_physical_utilisation,
                    value_as_int(value_get(vdi, "physical_utilisation")));
    }
    txn_set_str(t, CLASS_VDI, ref, F_VDI_location, value_get_str(vdi, "location", ""));
    txn_set_bool(t, CLASS_VDI, ref, F_VDI_managed, TRUE);
    txn_set_bool(t, CLASS_VDI, ref, F_VDI_missing, FALSE);
    if (value_as_bool(value_get(vdi, "read_only")))
        txn_set_bool(t, CLASS_VDI, ref, F_VDI_read_only, TRUE);
    if (value_get(vdi, "cbt_enabled"))
        txn_set_bool(t, CLASS_VDI, ref, F_VDI_cbt_enabled, value_as_bool(value_get(vdi, "cbt_enabled")));
    keep_image_format(t, ref, value_get_str(vdi, "type", ""));
}

void sr_apply(struct txn *t, const char *ref, struct value *stat)
{
    if (!txn_get(t, CLASS_SR, ref) || value_as_bool(value_get(stat, "recorded")))
        return;
    txn_set_int(t, CLASS_SR, ref, F_SR_physical_size, value_as_int(value_get(stat, "physical_size")));
    txn_set_int(t, CLASS_SR, ref, F_SR_physical_utilisation, value_as_int(value_get(stat, "physical_utilisation")));
    txn_set_int(t, CLASS_SR, ref, F_SR_virtual_allocation, value_as_int(value_get(stat, "virtual_allocation")));
}

/* They outlive what they were taken of. */
static void forget_snapshots(struct txn *t, const struct record *vdi)
{
    struct value *snapshots = record_field(vdi, F_VDI_snapshots);
    for (gsize i = 0; i < value_count(snapshots); i++)
        txn_set_str(t, CLASS_VDI, value_str(value_at(snapshots, i)), F_VDI_snapshot_of, NULL_REF);
}

static void forget_dumps(struct txn *t, const struct record *vdi)
{
    g_autoptr(value) dumps = value_ref(record_field(vdi, F_VDI_crash_dumps));
    for (gsize i = 0; i < value_count(dumps); i++)
        if (txn_get(t, CLASS_crashdump, value_str(value_at(dumps, i))) != NULL)
            txn_destroy(t, CLASS_crashdump, value_str(value_at(dumps, i)));
}

void vdi_forget_record(struct txn *t, const char *ref)
{
    struct record *vdi = txn_get(t, CLASS_VDI, ref);
    g_autoptr(value) vbds = vdi ? value_ref(record_field(vdi, F_VDI_VBDs)) : NULL;

    if (!vdi)
        return;
    forget_snapshots(t, vdi);
    forget_dumps(t, vdi);
    for (gsize i = 0; i < value_count(vbds); i++) {
        const char *vbd = value_str(value_at(vbds, i));
        struct record *r = txn_get(t, CLASS_VBD, vbd);
        if (r && strcmp(record_str(r, F_VBD_type), "CD") == 0) {
            txn_set_str(t, CLASS_VBD, vbd, F_VBD_VDI, NULL_REF);
            txn_set_bool(t, CLASS_VBD, vbd, F_VBD_empty, TRUE);
        } else if (r) {
            txn_destroy(t, CLASS_VBD, vbd);
        }
    }
    txn_destroy(t, CLASS_VDI, ref);
}

/* ---- scan ---- */

/* A record for an image that nobody introduced: found on the medium. */
static void adopt(struct txn *t, const struct record *sr, struct value *vdi)
{
    const char *uuid = value_get_str(vdi, "vdi", "");
    const char *ref = txn_create(t, CLASS_VDI, NULL, uuid);
    gboolean iso = strcmp(record_str(sr, F_SR_content_type), "iso") == 0;

    txn_set_str(t, CLASS_VDI, ref, F_VDI_SR, sr->ref);
    txn_set_str(t, CLASS_VDI, ref, F_VDI_type, "user");
    txn_set_str(t, CLASS_VDI, ref, F_VDI_name_label, iso ? value_get_str(vdi, "location", uuid) : "");
    txn_set_bool(t, CLASS_VDI, ref, F_VDI_read_only, iso);
    vdi_apply(t, ref, vdi);
}

/* Records whose image is gone: kept as missing while a VBD points at them, else removed. */
static void drop_missing(struct txn *t, const struct record *sr, GHashTable *found)
{
    g_autoptr(value) vdis = value_ref(record_field(sr, F_SR_VDIs));

    for (gsize i = 0; i < value_count(vdis); i++) {
        const char *ref = value_str(value_at(vdis, i));
        struct record *r = txn_get(t, CLASS_VDI, ref);
        if (!r || g_hash_table_contains(found, record_str(r, F_VDI_uuid)) ||
            value_count(record_field(r, F_VDI_current_operations)) ||
            strcmp(record_str(r, F_VDI_type), "cbt_metadata") == 0 || /* it has no image, and is not missed */
            image_scan_may_be_stale(record_str(r, F_VDI_uuid)))
            continue;
        if (value_count(record_field(r, F_VDI_VBDs)))
            txn_set_bool(t, CLASS_VDI, ref, F_VDI_missing, TRUE);
        else
            vdi_forget_record(t, ref);
    }
}

/* The records of the SR by uuid, as this transaction sees them. */
static GHashTable *vdis_by_uuid(struct txn *t, const struct record *sr)
{
    GHashTable *known = g_hash_table_new(g_str_hash, g_str_equal);
    struct value *vdis = record_field(sr, F_SR_VDIs);

    for (gsize i = 0; i < value_count(vdis); i++) {
        struct record *r = txn_get(t, CLASS_VDI, value_str(value_at(vdis, i)));
        if (r)
            g_hash_table_insert(known, (char *) record_str(r, F_VDI_uuid), (char *) r->ref);
    }
    return known;
}

static void merge(struct txn *t, const char *sr_ref, struct value *scan)
{
    g_autoptr(GHashTable) found = g_hash_table_new(g_str_hash, g_str_equal);
    struct value *vdis = value_get(scan, "vdis");
    g_autoptr(record) sr = record_ref(txn_get(t, CLASS_SR, sr_ref));
    g_autoptr(GHashTable) known = vdis_by_uuid(t, sr);

    for (gsize i = 0; i < value_count(vdis); i++) {
        struct value *vdi = value_at(vdis, i);
        const char *uuid = value_get_str(vdi, "vdi", "");
        const char *ref = g_hash_table_lookup(known, uuid);
        g_hash_table_add(found, (char *) uuid);
        if (image_scan_may_be_stale(uuid))
            continue;
        if (ref)
            vdi_apply(t, ref, vdi);
        else if (uuid_is_valid(uuid))
            adopt(t, sr, vdi);
    }
    drop_missing(t, sr, found);
    sr_apply(t, sr_ref, scan);
}

static gboolean scan(struct call *c, const char *sr_ref)
{
    g_autoptr(record) sr = storage_attached_sr(sr_ref, &c->fault);
    if (!sr)
        return FALSE;
    drafts_sweep(record_str(sr, F_SR_uuid));
    g_autoptr(value) answer = storage_call(c, "sr.scan", storage_params(record_str(sr, F_SR_uuid), NULL));
    if (!answer)
        return FALSE;
    if (value_as_bool(value_get(answer, "recorded")))
        return TRUE;
    struct txn *t = txn_begin(the_store());
    if (!txn_get(t, CLASS_SR, sr_ref)) {
        txn_abort(t);
        return fault_set(&c->fault, "HANDLE_INVALID", "SR", sr_ref, NULL);
    }
    merge(t, sr_ref, answer);
    call_commit(c, t);
    storage_coalesce_soon(record_str(sr, F_SR_uuid), answer);
    return TRUE;
}

gboolean sr_scan_now(struct call *c, const char *sr_ref)
{
    image_scan_begin();
    gboolean done = scan(c, sr_ref);
    image_scan_end();
    return done;
}
