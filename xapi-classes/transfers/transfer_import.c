/* transfer_import.c - PUT /import and /import_metadata: VMs from an XVA, as this and other servers write it. Nothing is
 * seen of them before all has come. */
#include "config.h"

#include <string.h>

#include "xapi-classes/transfers/disk.h"
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/transfers/xva.h"

#define MOST_OTHER (1024 * 1024) /* of a file that is skipped */
#define MOST_DISKS 256

/* A disk on its way. */
struct incoming {
    struct xva_object *object;
    struct disk *disk;
    char uuid[UUID_SIZE];
    gint64 size, at, last; /* bytes; up to where it is known; number of the last piece, -1 */
    struct value *image;   /* once it is published */
};

struct import {
    struct transfer *t;
    struct xva_in *in;
    struct xva_plan plan;
    GHashTable *disks; /* id -> struct incoming */
    gint64 total, done;
    char *buffer;
    struct xva_piece piece; /* whose data is in the buffer */
    gsize piece_len;
};

static void incoming_free(void *data)
{
    struct incoming *d = data;
    disk_free(d->disk);
    value_unref(d->image);
    g_free(d);
}

static gboolean failed(struct import *m, const char *what)
{
    return fault_set(&m->t->fault, "IMPORT_ERROR", what, NULL);
}

/* ---- bytes ---- */

static gboolean read_all(struct import *m, void *buffer, gsize len)
{
    gssize n = xva_in_read(m->in, buffer, len);
    if (n == (gssize) len)
        return TRUE;
    return n >= 0 && fault_set(&m->t->fault, "IMPORT_ERROR_PREMATURE_EOF", NULL);
}

static gboolean skip(struct import *m, gint64 len)
{
    char block[4096];
    for (; len > 0; len -= MIN(len, (gint64) sizeof block))
        if (!read_all(m, block, (gsize) MIN(len, (gint64) sizeof block)))
            return FALSE;
    return TRUE;
}

/* ---- ova.xml ---- */

static gboolean read_ova(struct import *m, gint64 size)
{
    if (m->plan.ova)
        return failed(m, "a second ova.xml");
    if (size == 0 || size > XVA_MOST_XML)
        return failed(m, "ova.xml is empty or too large");
    /* The room grows with what comes, not with what was announced. */
    g_autoptr(GByteArray) text = g_byte_array_new();
    for (gint64 left = size; left > 0;) {
        gsize n = (gsize) MIN(left, XVA_PIECE);
        if (!read_all(m, m->buffer, n))
            return FALSE;
        g_byte_array_append(text, (const guint8 *) m->buffer, (guint) n);
        left -= (gint64) n;
    }
    m->plan.ova = xva_ova_parse((const char *) text->data, text->len, &m->t->fault);
    return m->plan.ova && xva_find_existing(&m->plan, &m->t->fault);
}

/* ---- disks ---- */

static void choose_uuid(struct import *m, struct incoming *d)
{
    const char *old = value_get_str(d->object->snapshot, "uuid", "");
    g_autoptr(record) taken = store_get_by_uuid(the_store(), CLASS_VDI, old);
    if (m->plan.restore && uuid_is_valid(old) && !taken)
        g_strlcpy(d->uuid, old, sizeof d->uuid);
    else
        uuid_generate_text(d->uuid);
    image_work_begin(d->uuid);
}

static gboolean begin_disk(struct import *m, struct xva_object *o)
{
    if (g_hash_table_size(m->disks) >= MOST_DISKS)
        return failed(m, "too many disks");
    struct incoming *d = g_new0(struct incoming, 1);
    const char *type = xva_memory_of(&m->plan, o) ? "raw" : record_key(m->plan.sr, F_SR_sm_config, "type");
    d->object = o;
    d->last = -1;
    d->size = value_as_int(value_get(o->snapshot, "virtual_size"));
    choose_uuid(m, d);
    g_hash_table_insert(m->disks, o->id, d);
    d->disk = disk_stage(record_str(m->plan.sr, F_SR_uuid), d->uuid, d->size, type ? type : "", &m->t->fault);
    m->total += d->size;
    return d->disk != NULL;
}

/* Empty images for all disks: what does not fit, or cannot be, is known before any data was read. */
static gboolean begin_disks(struct import *m)
{
    for (guint i = 0; m->plan.sr && i < m->plan.ova->objects->len; i++) {
        struct xva_object *o = m->plan.ova->objects->pdata[i];
        if (xva_is_disk(&m->plan, o) && !g_hash_table_contains(m->disks, o->id) && !begin_disk(m, o))
            return FALSE;
    }
    return TRUE;
}

static gboolean unexpected(struct import *m, const char *expected, const char *name)
{
    return fault_set(&m->t->fault, "IMPORT_ERROR_UNEXPECTED_FILE", expected, name, NULL);
}

/* A gap in the numbers stands for zeroes. An empty piece only keeps the connection alive: its number counts, too, but
 * stands for nothing. */
static gboolean put_piece(struct import *m, struct incoming *d, gint64 number, gsize len)
{
    if (number <= d->last)
        return failed(m, "the pieces of a disk are not in order");
    gint64 at = d->at + (number - d->last - 1) * XVA_PIECE;
    if (at > d->size || (len > 0 && at == d->size))
        return failed(m, "a disk has more data than its size");
    /* Some writers fill up the last piece. */
    gsize n = (gsize) MIN((gint64) len, d->size - at);
    if (!is_zero(m->buffer + n, len - n))
        return failed(m, "a disk has more data than its size");
    if (n > 0 && !disk_write(d->disk, m->buffer, n, at, &m->t->fault))
        return FALSE;
    m->done += at + (gint64) n - d->at;
    d->at = at + (gint64) n;
    d->last = number;
    transfer_progress(m->t, (double) m->done / (double) MAX(m->total, 1));
    return TRUE;
}

static gboolean read_piece(struct import *m, const struct xva_piece *p, const char *name, gint64 size)
{
    struct incoming *d = g_hash_table_lookup(m->disks, p->disk);
    if (!d)
        return unexpected(m, "a disk of ova.xml", name);
    if (size > XVA_PIECE)
        return failed(m, "a piece of a disk is too large");
    m->piece = *p;
    m->piece_len = (gsize) size;
    return read_all(m, m->buffer, m->piece_len) && put_piece(m, d, p->number, m->piece_len);
}

static gboolean check_piece(struct import *m, const struct xva_piece *p, gint64 size)
{
    char text[128];
    gboolean same = p->number == m->piece.number && strcmp(p->disk, m->piece.disk) == 0;
    if (size >= (gint64) sizeof text)
        return failed(m, "a checksum is too long");
    if (!read_all(m, text, (gsize) size))
        return FALSE;
    if (m->plan.force || (same && xva_checksum_is_right(p->suffix, text, (gsize) size, m->buffer, m->piece_len)))
        return TRUE;
    return fault_set(&m->t->fault, "IMPORT_ERROR_SOME_CHECKSUMS_FAILED", NULL);
}

/* ---- the tar ---- */

static gboolean read_file(struct import *m, const struct tar_header *h)
{
    struct xva_piece p;
    if (strcmp(h->name, "ova.xml") == 0)
        return read_ova(m, h->size) && begin_disks(m);
    if (!m->plan.ova)
        return unexpected(m, "ova.xml", h->name);
    if (strcmp(h->name, "checksum.xml") == 0)
        return h->size <= XVA_MOST_XML ? skip(m, h->size) : failed(m, "checksum.xml is too large");
    if (!xva_piece_parse(h->name, &p))
        return unexpected(m, "a piece of a disk", h->name);
    return *p.suffix ? check_piece(m, &p, h->size) : read_piece(m, &p, h->name, h->size);
}

/* TRUE with *end when that was all. */
static gboolean read_next(struct import *m, gboolean *end)
{
    char block[TAR_BLOCK];
    struct tar_header h;
    if (!read_all(m, block, sizeof block))
        return FALSE;
    switch (tar_parse(block, &h)) {
    case TAR_END:
        *end = TRUE;
        return TRUE;
    case TAR_DAMAGED:
        return failed(m, m->plan.ova ? "a damaged tar header" : "this is no export of a VM");
    case TAR_FILE:
        break;
    }
    if (h.type != '0' && h.size > MOST_OTHER)
        return unexpected(m, "a file", h.name);
    return (h.type == '0' ? read_file(m, &h) : skip(m, h.size)) && skip(m, (gint64) tar_padding(h.size));
}

static gboolean disks_are_whole(struct import *m)
{
    GHashTableIter iter;
    void *data;
    g_hash_table_iter_init(&iter, m->disks);
    while (g_hash_table_iter_next(&iter, NULL, &data))
        if (((struct incoming *) data)->at < ((struct incoming *) data)->size)
            return fault_set(&m->t->fault, "IMPORT_ERROR_PREMATURE_EOF", NULL);
    return m->plan.ova || fault_set(&m->t->fault, "IMPORT_ERROR_PREMATURE_EOF", NULL);
}

static gboolean read_tar(struct import *m)
{
    gboolean end = FALSE;
    while (!end)
        if (!read_next(m, &end))
            return FALSE;
    return disks_are_whole(m);
}

/* ---- the end ---- */

static gboolean publish(struct import *m)
{
    GHashTableIter iter;
    void *data;
    g_hash_table_iter_init(&iter, m->disks);
    while (g_hash_table_iter_next(&iter, NULL, &data)) {
        struct incoming *d = data;
        d->image = disk_publish(d->disk, &m->t->cancel, &m->t->fault);
        if (!d->image)
            return FALSE;
    }
    return TRUE;
}

static gboolean write_records(struct import *m)
{
    GHashTableIter iter;
    void *data;
    struct txn *txn = txn_begin(the_store());
    if (m->plan.sr && !txn_get(txn, CLASS_SR, m->plan.sr->ref)) { /* forgotten meanwhile */
        txn_abort(txn);
        return fault_set(&m->t->fault, "HANDLE_INVALID", "SR", m->plan.sr->ref, NULL);
    }
    g_hash_table_iter_init(&iter, m->disks);
    while (g_hash_table_iter_next(&iter, NULL, &data)) {
        struct incoming *d = data;
        const char *ref = xva_make_vdi(&m->plan, txn, d->object, d->uuid, d->image);
        g_strlcpy(d->object->ref, ref, sizeof d->object->ref);
    }
    m->t->result = xva_make_vms(&m->plan, txn);
    guint64 seq = txn_commit(txn);
    return seq == 0 || store_wait(the_store(), seq, &m->t->fault);
}

/* Images that were published belong to nobody before the records are there: listed, so that they go when this process
 * dies in between. */
static struct drafts *list_images(struct import *m)
{
    GHashTableIter iter;
    void *data;
    struct drafts *drafts = drafts_new();
    g_hash_table_iter_init(&iter, m->disks);
    while (g_hash_table_iter_next(&iter, NULL, &data))
        drafts_add(drafts, record_str(m->plan.sr, F_SR_uuid), ((struct incoming *) data)->uuid);
    return drafts;
}

static void end_work(struct import *m)
{
    GHashTableIter iter;
    void *data;
    g_hash_table_iter_init(&iter, m->disks);
    while (g_hash_table_iter_next(&iter, NULL, &data))
        image_work_end(((struct incoming *) data)->uuid);
}

static void finish(struct import *m)
{
    struct drafts *drafts = list_images(m);
    if (drafts_begin(drafts, &m->t->fault) && publish(m) && write_records(m)) {
        drafts_keep(drafts);
        end_work(m);
    } else {
        drafts_drop(drafts); /* and ends the work */
    }
}

/* ---- requests ---- */

/* The repository for the disks: as asked, or the pool's. */
static struct record *find_sr(struct transfer *t)
{
    g_autoptr(record) given = NULL;
    if (transfer_query(t, "sr_id") || transfer_query(t, "sr_uuid")) {
        given = transfer_object(t, CLASS_SR, transfer_query(t, "sr_id") ? "sr_id" : "sr_uuid");
        return given ? storage_attached_sr(given->ref, &t->fault) : NULL;
    }
    g_autoptr(record) pool = store_get(the_store(), CLASS_pool, pool_ref());
    const char *ref = pool ? record_str(pool, F_pool_default_SR) : NULL_REF;
    g_autoptr(record) usual = store_get(the_store(), CLASS_SR, ref);
    if (usual)
        return storage_attached_sr(ref, &t->fault);
    fault_set(&t->fault, "DEFAULT_SR_NOT_FOUND", ref, NULL);
    return NULL;
}

static void import(struct transfer *t, const struct record *sr)
{
    g_autofree char *buffer = g_malloc0(XVA_PIECE);
    g_autoptr(xva_in) in = xva_in_new(t);
    g_autoptr(GHashTable) disks = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, incoming_free);
    struct import m = {.t = t, .in = in, .disks = disks, .buffer = buffer};
    m.plan = (struct xva_plan){.sr = sr, .restore = transfer_flag(t, "restore"), .force = transfer_flag(t, "force")};
    gboolean done = read_tar(&m);
    if (done && !transfer_flag(t, "dry_run")) {
        finish(&m);
    } else {
        t->result = done ? value_empty_set() : NULL;
        end_work(&m);
    }
    g_hash_table_remove_all(disks);
    xva_ova_free(m.plan.ova);
}

static void import_vms(struct transfer *t)
{
    g_autoptr(record) sr = find_sr(t);
    if (sr && !transfer_is_probe(t) && transfer_begin_task(t))
        import(t, sr);
}

static void import_metadata(struct transfer *t)
{
    if (!transfer_is_probe(t) && transfer_begin_task(t))
        import(t, NULL);
}

static void on_import(struct http_request *r)
{
    transfer_run(r, "import", import_vms);
}

static void on_metadata(struct http_request *r)
{
    transfer_run(r, "import_metadata", import_metadata);
}

void transfer_import_init(void)
{
    static const struct http_route routes[] = {
        {"PUT", "/import", HTTP_SESSION, ROLE_vm_admin, on_import, TRUE},
        {"PUT", "/import_metadata", HTTP_SESSION, ROLE_vm_admin, on_metadata, TRUE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(routes); i++)
        http_route_add(&routes[i]);
}
