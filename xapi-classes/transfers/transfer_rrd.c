/* transfer_rrd.c - GET /rrd_updates, /vm_rrd, /host_rrd: the history of figures, as graphs ask for it. */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/call.h"
#include "xapi-classes/rrd.h"
#include "xapi-classes/start.h"
#include "xapi-classes/transfers/transfer.h"

#define FLUSH (64 * 1024)

/* null and NaN: what readers of each form take for a gap. */
static void put_number(GString *text, double d, gboolean json)
{
    char number[G_ASCII_DTOSTR_BUF_SIZE];
    if (isnan(d))
        g_string_append(text, json ? "null" : "NaN");
    else
        g_string_append(text, g_ascii_formatd(number, sizeof number, "%.15g", d));
}

/* ---- updates: one table ---- */

struct table {
    GPtrArray *columns;
    gint64 first; /* the oldest row's time */
    int step, n;
    gboolean json;
};

static gint64 number_of(struct transfer *t, const char *name)
{
    const char *text = transfer_query(t, name);
    return text ? MAX(g_ascii_strtoll(text, NULL, 10), 0) : 0;
}

/* The finest archive that has the interval that was asked for and reaches back far enough. */
static int choose(gint64 start, gint64 now, gint64 interval)
{
    for (int i = 0; i < RRD_ARCHIVES; i++) {
        const struct rrd_archive *a = &rrd_archives[i];
        if (a->step >= interval && now - (gint64) a->step * a->rows <= start)
            return i;
    }
    return RRD_ARCHIVES - 1;
}

static void put_meta(GString *text, const struct table *x)
{
    static const char *const names[] = {"start", "step", "end", "rows", "columns"};
    const gint64 values[] = {x->first, x->step, x->first + (gint64) MAX(x->n - 1, 0) * x->step, x->n, x->columns->len};
    g_string_append(text, x->json ? "{\"meta\":{" : "<?xml version=\"1.0\"?>\n<xport><meta>");
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (x->json)
            g_string_append_printf(text, "\"%s\":%" G_GINT64_FORMAT ",", names[i], values[i]);
        else
            g_string_append_printf(text, "<%s>%" G_GINT64_FORMAT "</%s>", names[i], values[i], names[i]);
    g_string_append(text, x->json ? "\"legend\":[" : "<legend>");
    for (guint i = 0; i < x->columns->len; i++) {
        const struct rrd_column *c = x->columns->pdata[i];
        g_string_append(text, x->json && i > 0 ? "," : "");
        g_string_append(text, x->json ? "\"" : "<entry>");
        g_string_append_printf(text, "AVERAGE:%s:%s:%s", c->kind, c->uuid, c->source);
        g_string_append(text, x->json ? "\"" : "</entry>");
    }
    g_string_append(text, x->json ? "]},\"data\":[" : "</legend></meta><data>");
}

static void put_row(GString *text, const struct table *x, int row)
{
    gint64 time = x->first + (gint64) row * x->step;
    g_string_append_printf(
        text, x->json ? "{\"t\":%" G_GINT64_FORMAT ",\"values\":[" : "<row><t>%" G_GINT64_FORMAT "</t>", time);
    for (guint i = 0; i < x->columns->len; i++) {
        g_string_append(text, x->json ? (i > 0 ? "," : "") : "<v>");
        put_number(text, ((struct rrd_column *) x->columns->pdata[i])->values[row], x->json);
        g_string_append(text, x->json ? "" : "</v>");
    }
    g_string_append(text, x->json ? "]}" : "</row>");
}

/* The newest row first. */
static void send_table(struct transfer *t, const struct table *x)
{
    g_autoptr(GString) text = g_string_new(NULL);
    gboolean going = TRUE;
    http_answer_header(t->r, "Cache-Control", "no-cache, no-store");
    http_answer_header(t->r, "Access-Control-Allow-Origin", "*");
    http_begin(t->r, 200, x->json ? "application/json" : "text/xml", -1);
    put_meta(text, x);
    for (int row = t->is_head ? -1 : x->n - 1; row >= 0 && going; row--) {
        put_row(text, x, row);
        g_string_append(text, x->json && row > 0 ? "," : "");
        going = transfer_write_text(t, text, FLUSH);
    }
    g_string_append(text, x->json ? "]}" : "</data></xport>");
    if (going && !t->is_head)
        transfer_write_text(t, text, 0);
    transfer_end_answer(t);
}

static gboolean check_cf(struct transfer *t)
{
    const char *cf = transfer_query(t, "cf");
    return !cf || g_ascii_strcasecmp(cf, "AVERAGE") == 0 ||
           fault_set(&t->fault, "VALUE_NOT_SUPPORTED", "cf", cf, "only averages are kept", NULL);
}

static void updates(struct transfer *t)
{
    gint64 now = g_get_real_time() / G_USEC_PER_SEC, start = number_of(t, "start");
    if (!check_cf(t) || (transfer_query(t, "task_id") && !transfer_begin_task(t)))
        return;
    int archive = choose(start, now, number_of(t, "interval"));
    const struct rrd_archive *a = &rrd_archives[archive];
    gint64 last = now / a->step * a->step, oldest = last - (gint64) (a->rows - 1) * a->step;
    struct table x = {.step = a->step, .json = transfer_flag(t, "json")};
    x.first = MAX((start + a->step - 1) / a->step * a->step, oldest);
    x.n = (int) CLAMP((last - x.first) / a->step + 1, 0, a->rows);
    const char *vm = transfer_query(t, "vm_uuid"), *sr = transfer_query(t, "sr_uuid");
    struct rrd_which which = {vm ? vm : sr ? NULL : RRD_ALL, sr, transfer_flag(t, "host") ? RRD_ALL : NULL};
    x.columns = rrd_columns(archive, x.first, x.n, &which);
    send_table(t, &x);
    g_ptr_array_unref(x.columns);
}

/* ---- all archives of one object, as rrdtool's files are in XML ---- */

static void put_archive(GString *text, int archive, gint64 now, const struct rrd_which *which)
{
    const struct rrd_archive *a = &rrd_archives[archive];
    gint64 first = now / a->step * a->step - (gint64) (a->rows - 1) * a->step;
    g_autoptr(GPtrArray) columns = rrd_columns(archive, first, a->rows, which);
    g_string_append_printf(text, "<rra><cf>AVERAGE</cf><pdp_per_row>%d</pdp_per_row><params><xff>0.5</xff></params>",
                           a->step / RRD_STEP);
    g_string_append(text, "<cdp_prep>");
    for (guint i = 0; i < columns->len; i++)
        g_string_append(text, "<ds><primary_value>0.0</primary_value><secondary_value>0.0</secondary_value>"
                              "<value>0.0</value><unknown_datapoints>0</unknown_datapoints></ds>");
    g_string_append(text, "</cdp_prep><database>");
    for (int row = 0; row < a->rows; row++) {
        g_string_append(text, "<row>");
        for (guint i = 0; i < columns->len; i++) {
            g_string_append(text, "<v>");
            put_number(text, ((struct rrd_column *) columns->pdata[i])->values[row], FALSE);
            g_string_append(text, "</v>");
        }
        g_string_append(text, "</row>");
    }
    g_string_append(text, "</database></rra>");
}

static void put_sources(GString *text, const struct rrd_which *which)
{
    g_autoptr(GPtrArray) columns = rrd_columns(0, 0, 0, which);
    for (guint i = 0; i < columns->len; i++)
        g_string_append_printf(text,
                               "<ds><name>%s</name><type>GAUGE</type><minimal_heartbeat>300</minimal_heartbeat>"
                               "<min>0.0</min><max>Infinity</max><last_ds>0</last_ds><value>0.0</value>"
                               "<unknown_sec>0</unknown_sec></ds>",
                               ((struct rrd_column *) columns->pdata[i])->source);
}

static void send_all(struct transfer *t, const struct rrd_which *which)
{
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    GString *text = g_string_new("<?xml version=\"1.0\"?>\n<rrd><version>0003</version>");
    if (transfer_query(t, "task_id") && !transfer_begin_task(t)) {
        g_string_free(text, TRUE);
        return;
    }
    g_string_append_printf(text, "<step>%d</step><lastupdate>%" G_GINT64_FORMAT "</lastupdate>", RRD_STEP, now);
    put_sources(text, which);
    for (int i = 0; i < RRD_ARCHIVES; i++)
        put_archive(text, i, now, which);
    g_string_append(text, "</rrd>");
    http_answer(transfer_take_request(t), 200, "text/xml", g_string_free_to_bytes(text));
}

static void vm_rrd(struct transfer *t)
{
    g_autoptr(record) vm = transfer_object(t, CLASS_VM, transfer_query(t, "ref") ? "ref" : "uuid");
    if (vm)
        send_all(t, &(struct rrd_which){.vm = record_str(vm, F_VM_uuid)});
}

static void sr_rrd(struct transfer *t)
{
    g_autoptr(record) sr = transfer_object(t, CLASS_SR, transfer_query(t, "ref") ? "ref" : "uuid");
    if (sr)
        send_all(t, &(struct rrd_which){.sr = record_str(sr, F_SR_uuid)});
}

static void host_rrd(struct transfer *t)
{
    send_all(t, &(struct rrd_which){.host = RRD_ALL});
}

/* ---- routes ---- */

static void on_updates(struct http_request *r)
{
    transfer_run(r, "rrd_updates", updates);
}

static void on_vm(struct http_request *r)
{
    transfer_run(r, "vm_rrd", vm_rrd);
}

static void on_host(struct http_request *r)
{
    transfer_run(r, "host_rrd", host_rrd);
}

static void on_sr(struct http_request *r)
{
    transfer_run(r, "sr_rrd", sr_rrd);
}

/* What other servers have there, and this one has not. */
static void on_missing(struct http_request *r)
{
    http_answer_text(r, 501, "There is no such thing here.\n");
}

void transfer_rrd_init(void)
{
    static const struct http_route routes[] = {
        {"GET", "/rrd_updates", HTTP_SESSION, ROLE_none, on_updates, TRUE},
        {"GET", "/vm_rrd", HTTP_SESSION, ROLE_none, on_vm, TRUE},
        {"GET", "/host_rrd", HTTP_SESSION, ROLE_none, on_host, TRUE},
        {"GET", "/sr_rrd", HTTP_SESSION, ROLE_none, on_sr, TRUE},
        {"GET", "/host_backup", HTTP_SESSION, ROLE_none, on_missing, FALSE},
        {"PUT", "/host_restore", HTTP_SESSION, ROLE_none, on_missing, TRUE},
        {"GET", "/system-status", HTTP_SESSION, ROLE_none, on_missing, FALSE},
        {"GET", "/host_logs_download", HTTP_SESSION, ROLE_none, on_missing, FALSE},
        {"GET", "/audit_log", HTTP_SESSION, ROLE_none, on_missing, FALSE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(routes); i++)
        http_route_add(&routes[i]);
    rrd_init();
}
