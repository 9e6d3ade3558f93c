/* transfer_raw.c - GET /export_raw_vdi and PUT /import_raw_vdi: the content of one disk. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "xapi-classes/storage/storage.h"
#include "xapi-classes/transfers/transfer_disk.h"

/* The image that vdi= names, its attached SR; FALSE with the fault set. */
static gboolean find_image(struct transfer *t, struct record **vdi, struct record **sr)
{
    *vdi = transfer_object(t, CLASS_VDI, "vdi");
    *sr = *vdi ? storage_attached_sr(record_str(*vdi, F_VDI_SR), &t->fault) : NULL;
    return *sr != NULL;
}

enum format { FORMAT_RAW, FORMAT_VHD, FORMAT_QCOW2 };

/* FALSE with the fault set when it is none that is known here. */
static gboolean find_format(struct transfer *t, enum format *format)
{
    static const char *const names[] = {"raw", "vhd", "qcow2"};
    const char *given = transfer_query(t, "format");
    *format = FORMAT_RAW;
    for (gsize i = 0; given && i < G_N_ELEMENTS(names); i++)
        if (g_ascii_strcasecmp(given, names[i]) == 0) {
            *format = (enum format) i;
            return TRUE;
        }
    return !given || fault_set(&t->fault, "VALUE_NOT_SUPPORTED", "format", given, "raw, vhd or qcow2", NULL);
}

void disk_put_headers(struct transfer *t, const char *uuid, const char *format)
{
    g_autofree char *name = g_strdup_printf("attachment; filename=\"%s.%s\"", uuid, format);
    http_answer_header(t->r, "Content-Disposition", name);
    http_answer_header(t->r, "Cache-Control", "no-cache, no-store");
}

/* ---- export ---- */

struct span {
    gint64 from, to;
    guint status;
};

/* One range of bytes, as clients that go on with a download ask for. What is no such thing is ignored, as HTTP says. */
static gboolean parse_range(const char *text, gint64 size, struct span *span)
{
    char *end;
    *span = (struct span){0, size, 200};
    if (!text || strncmp(text, "bytes=", 6) != 0 || strchr(text, ','))
        return TRUE;
    text += 6;
    gint64 first = g_ascii_isdigit(*text) ? g_ascii_strtoll(text, &end, 10) : -1;
    if (first < 0)
        end = (char *) text;
    if (*end != '-')
        return TRUE;
    const char *rest = end + 1;
    gint64 last = g_ascii_isdigit(*rest) ? g_ascii_strtoll(rest, &end, 10) : -1;
    if ((last < 0 && (first < 0 || *rest)) || (last >= 0 && *end) || (last >= 0 && last < first))
        return TRUE;
    if (first < 0) { /* the last so many */
        first = MAX(size - last, 0);
        last = last > 0 ? size - 1 : -1;
    } else if (last < 0 || last >= size) {
        last = size - 1;
    }
    *span = (struct span){first, last + 1, 206};
    return first < size && last >= first;
}

static gboolean send_zeroes(struct transfer *t, gint64 len)
{
    static const char zeroes[DISK_CHUNK];
    for (gint64 done = 0; done < len; done += DISK_CHUNK)
        if (!transfer_write(t, zeroes, MIN(DISK_CHUNK, len - done)))
            return FALSE;
    return TRUE;
}

static gboolean send_data(struct transfer *t, struct disk *d, gint64 offset, gint64 len, char *buffer)
{
    for (gint64 done = 0; done < len; done += DISK_CHUNK) {
        gsize n = MIN(DISK_CHUNK, len - done);
        if (!disk_read(d, buffer, n, offset + done, &t->fault) || !transfer_write(t, buffer, n))
            return FALSE;
    }
    return TRUE;
}

static gboolean send_span(struct transfer *t, struct disk *d, const struct span *span)
{
    g_autofree char *buffer = g_malloc(DISK_CHUNK);
    for (gint64 at = span->from; at < span->to;) {
        gint64 len;
        gboolean data;
        if (!disk_extent(d, at, &len, &data, &t->fault))
            return FALSE;
        len = MIN(MIN(len, span->to - at), 64 * DISK_CHUNK); /* so that progress is told in between */
        if (data ? !send_data(t, d, at, len, buffer) : !send_zeroes(t, len))
            return FALSE;
        at += len;
        transfer_progress(t, (double) (at - span->from) / (double) (span->to - span->from));
    }
    return TRUE;
}

static void put_headers(struct transfer *t, const struct record *vdi, const struct span *span, gint64 size)
{
    disk_put_headers(t, record_str(vdi, F_VDI_uuid), "raw");
    http_answer_header(t->r, "Accept-Ranges", "bytes");
    if (span->status != 206)
        return;
    g_autofree char *range = g_strdup_printf("bytes %" G_GINT64_FORMAT "-%" G_GINT64_FORMAT "/%" G_GINT64_FORMAT,
                                             span->from, span->to - 1, size);
    http_answer_header(t->r, "Content-Range", range);
}

static void refuse_range(struct transfer *t, gint64 size)
{
    g_autofree char *range = g_strdup_printf("bytes */%" G_GINT64_FORMAT, size);
    struct http_request *r = transfer_take_request(t);
    http_answer_header(r, "Content-Range", range);
    http_answer_text(r, 416, "The image has %" G_GINT64_FORMAT " bytes.\n", size);
}

static void send_image(struct transfer *t, struct disk *d, const struct record *vdi)
{
    struct span span;
    gint64 size = d ? disk_size(d) : record_int(vdi, F_VDI_virtual_size);
    if (!parse_range(transfer_query(t, "Range"), size, &span)) {
        refuse_range(t, size);
        fault_set(&t->fault, "INVALID_VALUE", "Range", transfer_query(t, "Range"), NULL);
        return;
    }
    put_headers(t, vdi, &span, size);
    http_begin(t->r, span.status, HTTP_BINARY, span.to - span.from);
    if (d)
        send_span(t, d, &span);
    transfer_end_answer(t);
}

/* What the disk is compared with, when base= names it: *base stays NULL otherwise. FALSE with the fault set. */
static gboolean open_base(struct transfer *t, enum format format, struct disk **base, struct record **record)
{
    const char *given = transfer_query(t, "base");
    if (!given)
        return TRUE;
    if (format == FORMAT_RAW)
        return fault_set(&t->fault, "VALUE_NOT_SUPPORTED", "base", given, "raw has no differences: vhd or qcow2", NULL);
    *record = transfer_object(t, CLASS_VDI, "base");
    g_autoptr(record) sr = *record ? storage_attached_sr(record_str(*record, F_VDI_SR), &t->fault) : NULL;
    if (!sr || !transfer_hold(t, CLASS_VDI, (*record)->ref, "copy", NULL))
        return FALSE;
    *base = disk_open(record_str(sr, F_SR_uuid), record_str(*record, F_VDI_uuid), &t->fault);
    return *base != NULL;
}

static void send_as(struct transfer *t, enum format format, struct disk *d, const struct record *vdi)
{
    g_autoptr(disk) base = NULL;
    g_autoptr(record) base_record = NULL;
    const char *uuid = record_str(vdi, F_VDI_uuid);
    if (!open_base(t, format, &base, &base_record))
        return;
    const char *base_uuid = base_record ? record_str(base_record, F_VDI_uuid) : NULL;
    if (format == FORMAT_VHD)
        vhd_send(t, d, uuid, base, base_uuid);
    else if (format == FORMAT_QCOW2)
        qcow2_send(t, d, uuid, base, base_uuid);
    else
        send_image(t, d, vdi);
}

static void export_raw(struct transfer *t)
{
    g_autoptr(record) vdi = NULL, sr = NULL;
    enum format format;
    if (!find_image(t, &vdi, &sr) || !find_format(t, &format))
        return;
    if (t->is_head && format == FORMAT_RAW) {
        send_image(t, NULL, vdi);
        return;
    }
    if (!transfer_begin_task(t) || !transfer_hold(t, CLASS_VDI, vdi->ref, "copy", NULL))
        return;
    g_autoptr(disk) d = disk_open(record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid), &t->fault);
    if (d)
        send_as(t, format, d, vdi);
}

/* ---- import ---- */

/* Until the image is full, or the body ends: when its length was not announced, only the first counts. */
static gboolean receive(struct transfer *t, struct disk *d)
{
    g_autofree char *buffer = g_malloc(DISK_CHUNK);
    gint64 size = disk_size(d), at = 0;
    while (at < size) {
        gssize n = transfer_read(t, buffer, MIN(DISK_CHUNK, size - at));
        if (n < 0)
            return FALSE;
        if (n == 0)
            break;
        if (!disk_write(d, buffer, n, at, &t->fault))
            return FALSE;
        at += n;
        transfer_progress(t, (double) at / (double) size);
    }
    return at > 0 || fault_set(&t->fault, "IMPORT_ERROR_PREMATURE_EOF", NULL);
}

static gboolean fits(struct transfer *t, enum format format, const struct record *vdi)
{
    g_autofree char *least = g_strdup_printf("%" G_GINT64_FORMAT, t->length);
    return format != FORMAT_RAW || t->length <= record_int(vdi, F_VDI_virtual_size) ||
           fault_set(&t->fault, "VDI_TOO_SMALL", vdi->ref, least, NULL);
}

static gboolean is_writable(struct transfer *t, const struct record *vdi)
{
    return !record_bool(vdi, F_VDI_read_only) || fault_set(&t->fault, "VDI_READONLY", vdi->ref, NULL);
}

static void record_content(struct transfer *t, const char *ref, struct value *content)
{
    struct txn *txn = txn_begin(the_store());
    if (txn_get(txn, CLASS_VDI, ref))
        vdi_apply(txn, ref, content);
    guint64 seq = txn_commit(txn);
    if (seq)
        store_wait(the_store(), seq, &t->fault);
}

static gboolean receive_as(struct transfer *t, enum format format, const struct record *vdi, const struct record *sr,
                           struct disk *d)
{
    struct image_target target = {.sr_uuid = record_str(sr, F_SR_uuid), .vdi_uuid = record_str(vdi, F_VDI_uuid)};
    target.vdi_ref = vdi->ref;
    target.disk = d;
    target.difference = transfer_query(t, "base") != NULL;
    switch (format) {
    case FORMAT_VHD:
        return vhd_receive(t, &target);
    case FORMAT_QCOW2:
        return qcow2_receive(t, &target);
    default:
        return receive(t, d);
    }
}

static void store_image(struct transfer *t, enum format format, const struct record *vdi, const struct record *sr)
{
    const char *type = record_key(vdi, F_VDI_sm_config, "type");
    g_autoptr(disk) d = disk_stage(record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid),
                                   record_int(vdi, F_VDI_virtual_size), type ? type : "qcow2", &t->fault);
    if (!d || !receive_as(t, format, vdi, sr, d))
        return;
    g_autoptr(value) content = disk_publish(d, &t->cancel, &t->fault);
    if (content)
        record_content(t, vdi->ref, content);
}

static void import_raw(struct transfer *t)
{
    g_autoptr(record) vdi = NULL, sr = NULL;
    enum format format;
    if (!find_image(t, &vdi, &sr) || !find_format(t, &format))
        return;
    if (transfer_query(t, "base") && format == FORMAT_RAW) {
        fault_set(&t->fault, "VALUE_NOT_SUPPORTED", "base", transfer_query(t, "base"), "raw has no differences", NULL);
        return;
    }
    if (!transfer_is_probe(t) && transfer_begin_task(t) && is_writable(t, vdi) && fits(t, format, vdi) &&
        transfer_hold(t, CLASS_VDI, vdi->ref, "blocked", NULL))
        store_image(t, format, vdi, sr);
}

/* ---- routes ---- */

static void on_export(struct http_request *r)
{
    transfer_run(r, "export_raw_vdi", export_raw);
}

static void on_import(struct http_request *r)
{
    transfer_run(r, "import_raw_vdi", import_raw);
}

void transfer_raw_init(void)
{
    static const struct http_route routes[] = {
        {"GET", "/export_raw_vdi", HTTP_SESSION, ROLE_vm_admin, on_export, TRUE},
        {"PUT", "/import_raw_vdi", HTTP_SESSION, ROLE_vm_admin, on_import, TRUE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(routes); i++)
        http_route_add(&routes[i]);
}
