/* storage_image.c - disk images and their records, changed together: made, destroyed, and kept apart from scans. */
#include "xapi-classes/storage/storage.h"
#include "xenbackend/backend.h"

/* ---- images that move ---- */

/* What a scan says of an image that is made or destroyed while it runs may be out of date before it is recorded. Kept
 * beside the store: a scan does not outlive the process. */
static struct {
    GMutex lock;
    GHashTable *moving; /* uuids whose work is under way */
    GHashTable *moved;  /* uuids whose work ended while a scan was running */
    guint scans;
} images;

static void images_init(void)
{
    if (images.moving)
        return;
    images.moving = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    images.moved = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

void image_work_begin(const char *uuid)
{
    g_mutex_lock(&images.lock);
    images_init();
    g_hash_table_add(images.moving, g_strdup(uuid));
    g_mutex_unlock(&images.lock);
}

void image_work_end(const char *uuid)
{
    g_mutex_lock(&images.lock);
    g_hash_table_remove(images.moving, uuid);
    if (images.scans)
        g_hash_table_add(images.moved, g_strdup(uuid));
    g_mutex_unlock(&images.lock);
}

void image_scan_begin(void)
{
    g_mutex_lock(&images.lock);
    images_init();
    images.scans++;
    g_mutex_unlock(&images.lock);
}

void image_scan_end(void)
{
    g_mutex_lock(&images.lock);
    if (--images.scans == 0)
        g_hash_table_remove_all(images.moved);
    g_mutex_unlock(&images.lock);
}

gboolean image_scan_may_be_stale(const char *uuid)
{
    g_mutex_lock(&images.lock);
    gboolean stale = g_hash_table_contains(images.moving, uuid) || g_hash_table_contains(images.moved, uuid);
    g_mutex_unlock(&images.lock);
    return stale;
}

/* ---- made, destroyed ---- */

void image_remove(const char *sr_uuid, const char *uuid)
{
    struct fault f = FAULT_INIT;
    g_autoptr(value) params = storage_params(sr_uuid, uuid);
    g_autoptr(value) answer = backend_call("vdi.destroy", params, NULL, &f);
    storage_coalesce_soon(sr_uuid, answer);
    if (answer)
        return;
    g_autofree char *text = fault_text(&f);
    g_warning("the disk image %s is left over, the next scan will find it: %s", uuid, text);
    fault_clear(&f);
}

/* A driver that keeps records itself has made one already, or a scan was quicker to find what a driver of the site
 * chose the uuid of: the caller's takes its place. */
static void drop_known(struct txn *t, const struct record *sr, const char *uuid, struct record **known)
{
    struct record *now = txn_get(t, CLASS_SR, sr->ref);
    g_autoptr(value) vdis =
        sr_type_is_of_site(record_str(sr, F_SR_type)) ? value_ref(record_field(now, F_SR_VDIs)) : NULL;
    for (gsize i = 0; vdis && i < value_count(vdis); i++) {
        struct record *r = txn_get(t, CLASS_VDI, value_str(value_at(vdis, i)));
        if (!r || strcmp(record_str(r, F_VDI_uuid), uuid) != 0)
            continue;
        *known = record_ref(r);
        txn_destroy(t, CLASS_VDI, (*known)->ref);
        return;
    }
}

static void take_known(struct txn *t, const char *ref, const struct record *known)
{
    static const int same[] = {F_VDI_virtual_size, F_VDI_physical_utilisation, F_VDI_location, F_VDI_sm_config,
                               F_VDI_managed};
    for (gsize i = 0; i < G_N_ELEMENTS(same); i++)
        txn_set(t, CLASS_VDI, ref, same[i], value_ref(record_field(known, same[i])));
}

struct value *image_record(struct call *c, const struct record *sr, const char *uuid, struct value *made,
                           image_record_fn *record, void *data)
{
    g_autoptr(record) known = NULL;
    struct txn *t = txn_begin(the_store());
    struct value *ref = NULL;

    if (!txn_get(t, CLASS_SR, sr->ref)) /* forgotten meanwhile */
        call_fail(c, "HANDLE_INVALID", "SR", sr->ref, NULL);
    else {
        drop_known(t, sr, uuid, &known);
        ref = record(c, t, uuid, data);
    }
    if (!ref) {
        txn_abort(t);
        return NULL;
    }
    txn_set_str(t, CLASS_VDI, value_str(ref), F_VDI_SR, sr->ref);
    if (known)
        take_known(t, value_str(ref), known);
    vdi_apply(t, value_str(ref), made);
    call_commit(c, t);
    return ref;
}

struct value *image_make(struct call *c, const char *method, struct value *params, const struct record *sr,
                         const char *uuid, image_record_fn *record, void *data)
{
    struct value *ref = NULL;

    image_work_begin(uuid);
    g_autoptr(value) made = storage_call(c, method, params);
    const char *answered = value_get_str(made, "vdi", ""); /* a driver of the site may have chosen another one */
    const char *chosen = uuid_is_valid(answered) && g_ascii_strcasecmp(answered, uuid) != 0 ? answered : uuid;
    if (chosen != uuid)
        image_work_begin(chosen);
    if (made)
        ref = image_record(c, sr, chosen, made, record, data);
    if (made && !ref)
        image_remove(record_str(sr, F_SR_uuid), chosen);
    if (chosen != uuid)
        image_work_end(chosen);
    image_work_end(uuid);
    return ref;
}
