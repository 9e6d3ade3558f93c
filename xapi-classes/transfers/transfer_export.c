/* transfer_export.c - GET /export and /export_metadata: a halted or suspended VM, template or snapshot as an XVA. */
#include "config.h"

#include <string.h>

#include "xapi-classes/transfers/disk.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/transfers/xva.h"

struct export
{
    struct transfer *t;
    struct xva_out *out;
    struct xva_ova *ova;
    gint64 total, done; /* bytes of all disks */
    char *buffer;
};

/* ---- the tar ---- */

static gboolean put_file(struct xva_out *out, const char *name, const void *data, gsize len)
{
    static const char zeroes[TAR_BLOCK];
    char header[TAR_BLOCK];
    tar_format(header, name, (gint64) len);
    return xva_out_write(out, header, sizeof header) && xva_out_write(out, data, len) &&
           xva_out_write(out, zeroes, tar_padding((gint64) len));
}

static gboolean put_end(struct xva_out *out)
{
    static const char zeroes[2 * TAR_BLOCK];
    return xva_out_write(out, zeroes, sizeof zeroes) && xva_out_end(out);
}

/* ---- disks ---- */

static gboolean put_piece(struct export *x, const char *id, gint64 number, gsize len)
{
    g_autofree char *name = g_strdup_printf("%s/%08" G_GINT64_FORMAT, id, number);
    g_autofree char *sum_name = g_strconcat(name, ".xxhash", NULL);
    g_autofree char *sum = g_strdup_printf("%016" G_GINT64_MODIFIER "X", xxhash64(x->buffer, len));
    return put_file(x->out, name, x->buffer, len) && put_file(x->out, sum_name, sum, strlen(sum));
}

/* Where the next piece begins that is not known to be zero; the last one always counts. */
static gboolean next_piece(struct export *x, struct disk *d, gint64 from, gint64 last, gint64 *number)
{
    gint64 at = from * XVA_PIECE;
    while (at < last * XVA_PIECE) {
        gint64 len;
        gboolean data;
        if (!disk_extent(d, at, &len, &data, &x->t->fault))
            return FALSE;
        if (data)
            break;
        at += MAX(len, 1);
    }
    *number = MIN(MAX(at / XVA_PIECE, from), last);
    return TRUE;
}

static gboolean put_disk(struct export *x, const char *id, struct disk *d)
{
    gint64 size = disk_size(d), last = (size - 1) / XVA_PIECE, before = x->done;
    for (gint64 n = 0; n <= last; n++) {
        if (n > 0 && !next_piece(x, d, n, last, &n))
            return FALSE;
        gsize len = (gsize) MIN(XVA_PIECE, size - n * XVA_PIECE);
        if (!disk_read(d, x->buffer, len, n * XVA_PIECE, &x->t->fault))
            return FALSE;
        if ((n == 0 || n == last || !is_zero(x->buffer, len)) && !put_piece(x, id, n, len))
            return FALSE;
        transfer_progress(x->t, (double) (before + n * XVA_PIECE) / (double) MAX(x->total, 1));
        if (!transfer_may_go_on(x->t))
            return FALSE;
    }
    x->done = before + size;
    return TRUE;
}

static gboolean export_disk(struct export *x, const struct xva_object *o)
{
    g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, o->ref);
    g_autoptr(record) sr = vdi ? storage_attached_sr(record_str(vdi, F_VDI_SR), &x->t->fault) : NULL;
    g_autoptr(disk) d = sr ? disk_open(record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid), &x->t->fault) : NULL;
    return d && put_disk(x, o->id, d);
}

/* ---- the whole ---- */

static int compare_ids(const void *a, const void *b)
{
    const struct xva_object *const *x = a, *const *y = b;
    return strcmp((*x)->id, (*y)->id);
}

/* The disks in the order in which readers expect them: that of their names as text. */
static GPtrArray *disks_of(struct xva_ova *ova)
{
    struct xva_plan plan = {.ova = ova};
    GPtrArray *disks = g_ptr_array_new();
    for (guint i = 0; i < ova->objects->len; i++)
        if (xva_is_disk(&plan, ova->objects->pdata[i]))
            g_ptr_array_add(disks, ova->objects->pdata[i]);
    g_ptr_array_sort(disks, compare_ids);
    return disks;
}

/* The disks of a suspended VM stay attached, and yet nobody writes to them while it is being exported: what may be done
 * to those of a running one may be done to them. */
static gboolean hold_disks(struct transfer *t, const struct record *vm, GPtrArray *disks, gint64 *total)
{
    const char *check = strcmp(record_str(vm, F_VM_power_state), "Suspended") == 0 ? "snapshot" : NULL;
    for (guint i = 0; i < disks->len; i++) {
        const struct xva_object *o = disks->pdata[i];
        if (!transfer_hold(t, CLASS_VDI, o->ref, "copy", check))
            return FALSE;
        *total += value_as_int(value_get(o->snapshot, "virtual_size"));
    }
    return TRUE;
}

static gboolean write_all(struct export *x, GPtrArray *disks)
{
    g_autofree char *text = xva_ova_text(x->ova);
    if (!put_file(x->out, "ova.xml", text, strlen(text)))
        return FALSE;
    for (guint i = 0; disks && i < disks->len; i++)
        if (!export_disk(x, disks->pdata[i]))
            return FALSE;
    return put_end(x->out);
}

static const char *compression(struct transfer *t)
{
    const char *wanted = transfer_query(t, "use_compression");
    if (!wanted || strcmp(wanted, "false") == 0)
        return NULL;
    return strcmp(wanted, "true") == 0 ? "gzip" : wanted;
}

/* disks is NULL for the metadata alone. */
static void send_vm(struct transfer *t, struct xva_ova *ova, GPtrArray *disks, gint64 total)
{
    g_autofree char *buffer = g_malloc(XVA_PIECE);
    g_autoptr(xva_out) out = xva_out_new(t, compression(t));
    if (!out)
        return;
    struct export x = {.t = t, .out = out, .ova = ova, .total = total, .buffer = buffer};
    http_answer_header(t->r, "Cache-Control", "no-cache, no-store");
    http_answer_header(t->r, "Content-Disposition", "attachment; filename=\"export.xva\"");
    http_begin(t->r, 200, "application/octet-stream", -1);
    if (!t->is_head)
        write_all(&x, disks);
    transfer_end_answer(t);
}

static struct record *find_vm(struct transfer *t)
{
    return transfer_object(t, CLASS_VM, transfer_query(t, "ref") ? "ref" : "uuid");
}

static gboolean with_snapshots(struct transfer *t)
{
    return !transfer_query(t, "export_snapshots") || transfer_flag(t, "export_snapshots");
}

static gboolean with_memory(struct transfer *t)
{
    return !transfer_query(t, "preserve_power_state") || transfer_flag(t, "preserve_power_state");
}

/* Memory that is not in a VDI cannot be exported: the VM would come back as if its power had been cut. */
static gboolean is_at_rest(struct transfer *t, const struct record *vm)
{
    return strcmp(record_str(vm, F_VM_power_state), "Suspended") != 0 || record_bool(vm, F_VM_is_a_snapshot) ||
           !with_memory(t) || !ref_is_null(record_str(vm, F_VM_suspend_VDI)) ||
           fault_set(&t->fault, "VM_BAD_POWER_STATE", vm->ref, "halted", "suspended", NULL);
}

static void export_vm(struct transfer *t)
{
    g_autoptr(record) vm = find_vm(t);
    gint64 total = 0;
    if (!vm || !transfer_begin_task(t) || !is_at_rest(t, vm) || !transfer_hold(t, CLASS_VM, vm->ref, "export", NULL))
        return;
    g_autoptr(xva_ova) ova = xva_ova_of(vm, with_snapshots(t), with_memory(t));
    g_autoptr(GPtrArray) disks = disks_of(ova);
    if (hold_disks(t, vm, disks, &total))
        send_vm(t, ova, disks, total);
}

static void export_metadata(struct transfer *t)
{
    g_autoptr(record) vm = find_vm(t);
    if (!vm || !transfer_begin_task(t) || !transfer_hold(t, CLASS_VM, vm->ref, "metadata_export", NULL))
        return;
    g_autoptr(xva_ova) ova = xva_ova_of(vm, with_snapshots(t), FALSE);
    send_vm(t, ova, NULL, 0);
}

static void on_export(struct http_request *r)
{
    transfer_run(r, "export", export_vm);
}

static void on_metadata(struct http_request *r)
{
    transfer_run(r, "export_metadata", export_metadata);
}

void transfer_export_init(void)
{
    static const struct http_route routes[] = {
        {"GET", "/export", HTTP_SESSION, ROLE_vm_admin, on_export, TRUE},
        {"GET", "/export_metadata", HTTP_SESSION, ROLE_vm_admin, on_metadata, TRUE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(routes); i++)
        http_route_add(&routes[i]);
}
