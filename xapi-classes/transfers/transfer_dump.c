/* transfer_dump.c - GET and PUT /pool/xmldbdump: the store as XML, and back. */
#include "config.h"

#include <string.h>

#include "daemon/call.h"
#include "xapi-classes/transfers/dump.h"
#include "xapi-classes/transfers/transfer.h"

#define CHUNK (256 * 1024)

/* ---- out ---- */

/* All tables as of one moment; NULL where a class is not in dumps. */
static GPtrArray **all_tables(void)
{
    GPtrArray **tables = g_new0(GPtrArray *, N_CLASSES);
    struct txn *txn = txn_begin(the_store());
    for (int id = 0; id < N_CLASSES; id++)
        if (dump_has_class(class_by_id(id)))
            tables[id] = txn_all(txn, id);
    txn_abort(txn);
    return tables;
}

static void send_tables(struct transfer *t, GPtrArray **tables)
{
    g_autoptr(GString) text = g_string_new(NULL);
    gboolean going = TRUE;
    dump_begin(text);
    for (int id = 0; id < N_CLASSES && going; id++) {
        if (!tables[id])
            continue;
        dump_table_begin(text, class_by_id(id));
        for (guint i = 0; i < tables[id]->len && going; i++) {
            dump_row(text, tables[id]->pdata[i]);
            going = transfer_write_text(t, text, CHUNK);
        }
        dump_table_end(text);
    }
    dump_end(text);
    if (going)
        transfer_write_text(t, text, 0);
}

static void free_tables(GPtrArray **tables)
{
    for (int id = 0; id < N_CLASSES; id++)
        if (tables[id])
            g_ptr_array_unref(tables[id]);
    g_free(tables);
}

static void get_dump(struct transfer *t)
{
    if (!transfer_begin_task(t))
        return;
    http_answer_header(t->r, "Cache-Control", "no-cache, no-store");
    http_begin(t->r, 200, "text/xml", -1);
    if (!t->is_head) {
        GPtrArray **tables = all_tables();
        send_tables(t, tables);
        free_tables(tables);
    }
    transfer_end_answer(t);
}

/* ---- in ---- */

static gboolean ignore_row(G_GNUC_UNUSED const struct class *class, G_GNUC_UNUSED const char *ref,
                           G_GNUC_UNUSED struct value *fields, G_GNUC_UNUSED void *data, G_GNUC_UNUSED struct fault *f)
{
    return TRUE;
}

static gboolean read_all(struct transfer *t, struct dump_reader *reader)
{
    g_autofree char *buffer = g_malloc(CHUNK);
    for (;;) {
        gssize n = transfer_read_some(t, buffer, CHUNK);
        if (n < 0)
            return FALSE;
        if (n == 0)
            return dump_reader_end(reader, &t->fault);
        if (!dump_reader_feed(reader, buffer, (gsize) n, &t->fault))
            return FALSE;
    }
}

/* A restore is known to fit before it is kept; the front then begins anew with it. */
static void restore(struct transfer *t, gboolean dry)
{
    g_autoptr(dump_restore) d = dry ? NULL : dump_restore_new(the_conf()->state_dir, &t->fault);
    if (!dry && !d)
        return;
    g_autoptr(dump_reader) reader = dump_reader_new(dry ? ignore_row : dump_restore_add, d);
    if (!read_all(t, reader) || dry || !transfer_may_go_on(t) || !dump_restore_commit(d, &t->fault))
        return;
    g_message("a dump is to be restored: beginning anew");
    t->after = front_restart;
}

static void put_dump(struct transfer *t)
{
    static gint busy;
    gboolean dry = transfer_flag(t, "dry_run");
    if (transfer_is_probe(t) || !transfer_begin_task(t))
        return;
    if (dry) {
        restore(t, TRUE);
    } else if (g_atomic_int_compare_and_exchange(&busy, 0, 1)) {
        restore(t, FALSE);
        if (!t->after)
            g_atomic_int_set(&busy, 0);
    } else {
        g_autoptr(GPtrArray) pools = store_all(the_store(), CLASS_pool);
        const char *ref = pools->len > 0 ? ((struct record *) pools->pdata[0])->ref : NULL_REF;
        fault_set(&t->fault, "OTHER_OPERATION_IN_PROGRESS", "pool", ref, NULL);
    }
}

static void on_get(struct http_request *r)
{
    transfer_run(r, "get_pool_xmldbdump", get_dump);
}

static void on_put(struct http_request *r)
{
    transfer_run(r, "put_pool_xmldbdump", put_dump);
}

void transfer_dump_init(void)
{
    static const struct http_route routes[] = {
        {"GET", "/pool/xmldbdump", HTTP_SESSION, ROLE_pool_admin, on_get, TRUE},
        {"PUT", "/pool/xmldbdump", HTTP_SESSION, ROLE_pool_admin, on_put, TRUE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(routes); i++)
        http_route_add(&routes[i]);
}
