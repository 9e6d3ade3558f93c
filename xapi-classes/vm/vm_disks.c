/* vm_disks.c - who may use a disk image: reservations while VMs start and disks are plugged. */
#include "xapi-classes/vm/vm.h"

#include <string.h>

/* ---- reservations ---- */

/* Kept beside the store: they are of no interest to anybody once the process is gone. Made only inside transactions,
 * which run one at a time; the lock is for releases, which are not. */
struct reservation {
    char vdi[REF_SIZE];
    gboolean writes;
};

static GMutex lock;
static GHashTable *reservations; /* VBD reference -> struct reservation */

/* Somebody else's use of the image that goes not together with this one. */
static gboolean is_reserved_against(const char *vdi, const char *vbd, gboolean writes)
{
    GHashTableIter iter;
    gpointer key, data;
    if (reservations == NULL)
        return FALSE;
    g_hash_table_iter_init(&iter, reservations);
    while (g_hash_table_iter_next(&iter, &key, &data)) {
        const struct reservation *r = data;
        if (strcmp(r->vdi, vdi) == 0 && strcmp(key, vbd) != 0 && (writes || r->writes))
            return TRUE;
    }
    return FALSE;
}

static gboolean is_attached_against(struct txn *t, const struct record *vdi, const char *vbd, gboolean writes)
{
    const struct value *vbds = record_field(vdi, F_VDI_VBDs);
    for (gsize i = 0; i < value_count(vbds); i++) {
        const struct record *other = txn_get(t, CLASS_VBD, value_str(value_at(vbds, i)));
        if (other == NULL || strcmp(other->ref, vbd) == 0 || !record_bool(other, F_VBD_currently_attached))
            continue;
        if (writes || strcmp(record_str(other, F_VBD_mode), "RW") == 0)
            return TRUE;
    }
    return FALSE;
}

static void reserve(const char *vbd, const char *vdi, gboolean writes)
{
    struct reservation *r = g_new0(struct reservation, 1);
    g_strlcpy(r->vdi, vdi, sizeof r->vdi);
    r->writes = writes;
    g_mutex_lock(&lock);
    if (reservations == NULL)
        reservations = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_hash_table_replace(reservations, g_strdup(vbd), r);
    g_mutex_unlock(&lock);
}

gboolean vdi_is_reserved(const char *vdi)
{
    g_mutex_lock(&lock);
    gboolean reserved = is_reserved_against(vdi, "", TRUE);
    g_mutex_unlock(&lock);
    return reserved;
}

void disk_release(const char *vbd)
{
    g_mutex_lock(&lock);
    if (reservations != NULL)
        g_hash_table_remove(reservations, vbd);
    g_mutex_unlock(&lock);
}

/* ---- checks ---- */

/* An SR that is known nowhere (none of the drivers manages it) is the backend's business. */
static gboolean sr_is_here(struct txn *t, const struct record *vm, const char *ref, struct fault *f)
{
    const struct record *sr = txn_get(t, CLASS_SR, ref);
    if (sr == NULL)
        return fault_set(f, "VM_REQUIRES_SR", vm->ref, ref, NULL);
    const struct value *pbds = record_field(sr, F_SR_PBDs);
    for (gsize i = 0; i < value_count(pbds); i++) {
        const struct record *pbd = txn_get(t, CLASS_PBD, value_str(value_at(pbds, i)));
        if (pbd != NULL && record_bool(pbd, F_PBD_currently_attached))
            return TRUE;
    }
    return fault_set(f, "VM_REQUIRES_SR", vm->ref, ref, NULL);
}

static const struct record *disk_image(struct txn *t, const struct record *vm, const struct record *vbd,
                                       struct fault *f)
{
    const char *ref = record_str(vbd, F_VBD_VDI);
    const struct record *vdi = txn_get(t, CLASS_VDI, ref);
    if (vdi == NULL)
        fault_set(f, "VM_REQUIRES_VDI", vm->ref, ref, NULL);
    else if (record_bool(vdi, F_VDI_missing))
        fault_set(f, "VDI_MISSING", record_str(vdi, F_VDI_SR), ref, NULL);
    else if (value_count(record_field(vdi, F_VDI_current_operations)) > 0)
        fault_set(f, "OTHER_OPERATION_IN_PROGRESS", "VDI", ref,
                  value_str(record_field(vdi, F_VDI_current_operations)->u.map.m[0].value),
                  value_str(record_field(vdi, F_VDI_current_operations)->u.map.m[0].key), NULL);
    else if (sr_is_here(t, vm, record_str(vdi, F_VDI_SR), f))
        return vdi;
    return NULL;
}

static gboolean disk_writes(const struct record *vbd)
{
    return strcmp(record_str(vbd, F_VBD_mode), "RW") == 0;
}

/* Could vbd be attached now? An empty drive always can. */
gboolean disk_check(struct txn *t, const struct record *vbd, const char *op, struct fault *f)
{
    const struct record *vm = txn_get(t, CLASS_VM, record_str(vbd, F_VBD_VM));
    gboolean writes = disk_writes(vbd);
    if (record_bool(vbd, F_VBD_empty))
        return TRUE;
    const struct record *vdi = disk_image(t, vm, vbd, f);
    if (vdi == NULL)
        return FALSE;
    if (writes && record_bool(vdi, F_VDI_read_only))
        return fault_set(f, "VDI_READONLY", vdi->ref, NULL);
    if (record_bool(vdi, F_VDI_sharable))
        return TRUE;
    g_mutex_lock(&lock);
    gboolean reserved = is_reserved_against(vdi->ref, vbd->ref, writes);
    g_mutex_unlock(&lock);
    if (reserved || is_attached_against(t, vdi, vbd->ref, writes))
        return fault_set(f, "VDI_IN_USE", vdi->ref, op, NULL);
    return TRUE;
}

gboolean disk_reserve(struct txn *t, const struct record *vbd, const char *op, struct fault *f)
{
    if (!disk_check(t, vbd, op, f))
        return FALSE;
    if (!record_bool(vbd, F_VBD_empty))
        reserve(vbd->ref, record_str(vbd, F_VBD_VDI), disk_writes(vbd));
    return TRUE;
}

/* ---- all disks of a VM ---- */

gboolean disks_check(struct txn *t, const struct record *vm, const char *op, struct fault *f)
{
    const struct value *vbds = record_field(vm, F_VM_VBDs);
    for (gsize i = 0; i < value_count(vbds); i++) {
        const struct record *vbd = txn_get(t, CLASS_VBD, value_str(value_at(vbds, i)));
        if (vbd != NULL && !disk_check(t, vbd, op, f))
            return FALSE;
    }
    return TRUE;
}

gboolean disks_reserve(struct txn *t, const struct record *vm, const char *op, struct fault *f)
{
    const struct value *vbds = record_field(vm, F_VM_VBDs);
    for (gsize i = 0; i < value_count(vbds); i++) {
        const struct record *vbd = txn_get(t, CLASS_VBD, value_str(value_at(vbds, i)));
        if (vbd == NULL || disk_reserve(t, vbd, op, f))
            continue;
        while (i-- > 0)
            disk_release(value_str(value_at(vbds, i)));
        return FALSE;
    }
    return TRUE;
}

void disks_release(const struct record *vm)
{
    const struct value *vbds = record_field(vm, F_VM_VBDs);
    for (gsize i = 0; i < value_count(vbds); i++)
        disk_release(value_str(value_at(vbds, i)));
}
