/* transfer.c - the life of a transfer: its thread, its task, the objects it holds, its end. */
#include "config.h"
#include "xapi-classes/transfers/transfer.h"

#include <string.h>

#include "daemon/clock.h"
#include "daemon/task_private.h"
#include "xapi-classes/vm/operation.h"

#define MOST_TRANSFERS 256
#define LOOK_US        250000
#define WATCH_MS       1000

struct held {
    enum class_id class;
    char ref[REF_SIZE];
};

static struct {
    GMutex lock;
    GCond changed;
    GPtrArray *running;
    gboolean stopping;
} transfers;

/* ---- cancellation ---- */

static gboolean task_is_open(const char *ref)
{
    g_autoptr(record) r = store_get(the_store(), CLASS_task, ref);
    return r && strcmp(record_str(r, F_task_status), "pending") == 0;
}

/* A task without a worker is ended by task.cancel at once: whoever works for it has to look. */
static void watch(G_GNUC_UNUSED void *data)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&transfers.lock);
    for (guint i = 0; i < transfers.running->len; i++) {
        struct transfer *t = transfers.running->pdata[i];
        if (!*t->task || t->task_ended || task_is_open(t->task) || g_atomic_int_get(&t->cancel))
            continue;
        g_atomic_int_set(&t->cancel, 1);
        if (t->r)
            http_interrupt(t->r);
    }
}

gboolean transfer_may_go_on(struct transfer *t)
{
    if (!g_atomic_int_get(&t->cancel))
        return TRUE;
    return fault_set(&t->fault, "TASK_CANCELLED", t->task, NULL);
}

/* ---- tasks ---- */

static gboolean use_task(struct transfer *t, struct txn *txn, const char *ref)
{
    struct record *r = txn_get(txn, CLASS_task, ref);
    if (!r)
        return fault_set(&t->fault, "HANDLE_INVALID", "task", ref, NULL);
    if (strcmp(record_str(r, F_task_status), "pending") != 0)
        return fault_set(&t->fault, "TASK_CANCELLED", ref, NULL);
    g_strlcpy(t->task, ref, sizeof t->task);
    return TRUE;
}

static void make_task(struct transfer *t, struct txn *txn)
{
    const char *parent = transfer_query(t, "subtask_of");
    g_strlcpy(t->task, task_object_create(txn, t->name, http_session(t->r)->user), sizeof t->task);
    if (parent && txn_get(txn, CLASS_task, parent))
        txn_set_str(txn, CLASS_task, t->task, F_task_subtask_of, parent);
    http_answer_header(t->r, "task-id", t->task);
}

gboolean transfer_begin_task(struct transfer *t)
{
    const char *given = transfer_query(t, "task_id");
    struct txn *txn = txn_begin(the_store());
    if (given && !use_task(t, txn, given)) {
        txn_abort(txn);
        return FALSE;
    }
    if (!given)
        make_task(t, txn);
    txn_commit(txn);
    return TRUE;
}

void transfer_progress(struct transfer *t, double fraction)
{
    gint64 now = g_get_monotonic_time();
    if (now - t->told < LOOK_US || !*t->task)
        return;
    t->told = now;
    struct txn *txn = txn_begin(the_store());
    struct record *r = txn_get(txn, CLASS_task, t->task);
    if (r && strcmp(record_str(r, F_task_status), "pending") == 0)
        txn_set_float(txn, CLASS_task, t->task, F_task_progress, CLAMP(fraction, 0.0, 1.0));
    txn_commit(txn);
}

/* Who announces a length without end gives up the connection after the data, or sends none and wants an answer first.
 */
gboolean transfer_is_probe(struct transfer *t)
{
    if (transfer_query(t, "task_id"))
        return FALSE;
    return t->length == 0 || (t->is_open_ended && !http_accept_early(t->r));
}

/* ---- objects ---- */

struct record *transfer_object(struct transfer *t, enum class_id class, const char *parameter)
{
    const char *name = class_by_id(class)->name, *given = transfer_query(t, parameter);
    if (!given) {
        fault_set(&t->fault, "INVALID_VALUE", parameter, "", NULL);
        return NULL;
    }
    struct record *r = store_get(the_store(), class, given);
    if (!r)
        r = store_get_by_uuid(the_store(), class, given);
    if (!r)
        fault_set(&t->fault, uuid_is_valid(given) ? "UUID_INVALID" : "HANDLE_INVALID", name, given, NULL);
    return r;
}

static int operations_field(enum class_id class)
{
    return class_field(class_by_id(class), "current_operations")->index;
}

gboolean transfer_hold(struct transfer *t, enum class_id class, const char *ref, const char *op, const char *check)
{
    struct txn *txn = txn_begin(the_store());
    if (!operation_check(txn, class, ref, check ? check : op, &t->fault)) {
        txn_abort(txn);
        return FALSE;
    }
    txn_put_key(txn, class, ref, operations_field(class), t->task, op);
    txn_commit(txn);
    struct held *h = g_new0(struct held, 1);
    h->class = class;
    g_strlcpy(h->ref, ref, sizeof h->ref);
    g_ptr_array_add(t->held, h);
    return TRUE;
}

static void let_go(struct transfer *t, struct txn *txn)
{
    for (guint i = 0; i < t->held->len; i++) {
        const struct held *h = t->held->pdata[i];
        if (txn_get(txn, h->class, h->ref))
            txn_remove_key(txn, h->class, h->ref, operations_field(h->class), t->task);
    }
}

/* ---- data ---- */

const char *transfer_query(const struct transfer *t, const char *name)
{
    const char *value = g_hash_table_lookup(t->query, name);
    return value && *value ? value : NULL;
}

gboolean transfer_flag(const struct transfer *t, const char *name)
{
    const char *value = transfer_query(t, name);
    return value && (strcmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

static gboolean client_is_gone(struct transfer *t)
{
    if (transfer_may_go_on(t))
        fault_set(&t->fault, "IMPORT_ERROR_PREMATURE_EOF", NULL);
    return FALSE;
}

gssize transfer_read_some(struct transfer *t, void *buffer, gsize room)
{
    gssize n = transfer_may_go_on(t) ? http_read(t->r, buffer, room) : -1;
    if (n < 0)
        client_is_gone(t);
    return n;
}

gssize transfer_read(struct transfer *t, void *buffer, gsize len)
{
    gsize done = 0;
    while (done < len) {
        gssize n = transfer_read_some(t, (char *) buffer + done, len - done);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (gsize) n;
    }
    return (gssize) done;
}

gboolean transfer_write(struct transfer *t, const void *data, gsize len)
{
    if (!transfer_may_go_on(t) || len == 0)
        return len == 0;
    if ((!t->has_last || http_write(t->r, &t->last, 1)) && http_write(t->r, data, len - 1)) {
        t->last = ((const guint8 *) data)[len - 1];
        t->has_last = TRUE;
        return TRUE;
    }
    return transfer_may_go_on(t) && fault_set(&t->fault, "INTERNAL_ERROR", "the client cut the connection", NULL);
}

gboolean transfer_write_text(struct transfer *t, GString *text, gsize least)
{
    if (text->len < least)
        return TRUE;
    gboolean sent = transfer_write(t, text->str, text->len);
    g_string_truncate(text, 0);
    return sent;
}

struct http_request *transfer_take_request(struct transfer *t)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&transfers.lock);
    return g_steal_pointer(&t->r);
}

/* ---- the end ---- */

guint transfer_status(const struct fault *f)
{
    static const struct {
        const char *code;
        guint status;
    } known[] = {
        {"HANDLE_INVALID", 404},     {"UUID_INVALID", 404},
        {"VDI_IN_USE", 409},         {"OTHER_OPERATION_IN_PROGRESS", 409},
        {"VM_BAD_POWER_STATE", 409}, {"SR_FULL", 507},
        {"OUT_OF_SPACE", 507},       {"OPERATION_NOT_ALLOWED", 409},
        {"INVALID_VALUE", 400},      {"VDI_TOO_SMALL", 400},
        {"TASK_CANCELLED", 409},     {"RBAC_PERMISSION_DENIED", 403},
        {"SR_NOT_ATTACHED", 409},    {"SR_HAS_NO_PBDS", 409},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(known); i++)
        if (strcmp(f->code, known[i].code) == 0)
            return known[i].status;
    return g_str_has_prefix(f->code, "IMPORT_") ? 400 : 500;
}

/* What is held is let go in the same commit. The second time nothing happens. */
static void end_task(struct transfer *t)
{
    if (t->task_ended)
        return;
    g_mutex_lock(&transfers.lock); /* before the task ends: watch() takes no end of ours for a cancellation */
    t->task_ended = TRUE;
    g_mutex_unlock(&transfers.lock);
    struct txn *txn = txn_begin(the_store());
    struct record *task = *t->task ? txn_get(txn, CLASS_task, t->task) : NULL;
    let_go(t, txn);
    /* Cancelled, it is ended already. */
    if (task && strcmp(record_str(task, F_task_status), "pending") == 0)
        task_object_finish(txn, t->task, t->result, &t->fault);
    guint64 seq = txn_commit(txn);
    struct fault lost = FAULT_INIT;
    if (seq && !store_wait(the_store(), seq, &lost))
        fault_move(&t->fault, &lost);
    fault_clear(&lost);
}

/* The client may use what was held as soon as it has all: the last byte comes when the task has ended. */
void transfer_end_answer(struct transfer *t)
{
    end_task(t);
    if (t->has_last && !t->fault.code)
        http_write(t->r, &t->last, 1);
    http_end(transfer_take_request(t), t->fault.code == NULL);
}

static void answer(struct transfer *t, struct http_request *r)
{
    if (!t->fault.code) {
        http_answer_text(r, 200, "%s", "");
        return;
    }
    g_autofree char *text = fault_text(&t->fault);
    http_answer_text(r, transfer_status(&t->fault), "%s\n", text);
}

static void transfer_free(struct transfer *t)
{
    g_hash_table_unref(t->query);
    g_ptr_array_unref(t->held);
    fault_clear(&t->fault);
    value_unref(t->result);
    g_free(t);
}

static void *work(void *data)
{
    struct transfer *t = data;
    t->fn(t);
    if (t->fault.code) {
        g_autofree char *text = fault_text(&t->fault);
        g_info("%s failed: %s", t->name, text);
    }
    end_task(t);
    struct http_request *r = transfer_take_request(t);
    if (r)
        answer(t, r);
    void (*after)(void) = t->after;
    g_mutex_lock(&transfers.lock);
    g_ptr_array_remove_fast(transfers.running, t);
    g_cond_broadcast(&transfers.changed);
    g_mutex_unlock(&transfers.lock);
    transfer_free(t);
    if (after)
        after();
    return NULL;
}

/* ---- the beginning ---- */

static void copy_query(struct transfer *t)
{
    static const char *const parameters[] = {"vdi",
                                             "format",
                                             "base",
                                             "task_id",
                                             "subtask_of",
                                             "ref",
                                             "uuid",
                                             "sr_id",
                                             "force",
                                             "restore",
                                             "use_compression",
                                             "dry_run",
                                             "sr_uuid",
                                             "preserve_power_state",
                                             "export_snapshots",
                                             "include_vhd_parents",
                                             "include_dom0",
                                             "all",
                                             "start",
                                             "cf",
                                             "interval",
                                             "host",
                                             "json",
                                             "vm_uuid"};
    static const char *const headers[] = {
        "Range", "Upgrade", "Origin", "Host", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol"};
    for (gsize i = 0; i < G_N_ELEMENTS(parameters); i++) {
        const char *value = http_query(t->r, parameters[i]);
        if (value)
            g_hash_table_insert(t->query, g_strdup(parameters[i]), g_strdup(value));
    }
    for (gsize i = 0; i < G_N_ELEMENTS(headers); i++) {
        const char *value = http_header(t->r, headers[i]);
        if (value)
            g_hash_table_insert(t->query, g_strdup(headers[i]), g_strdup(value));
    }
    if (http_query(t->r, "session_id"))
        g_hash_table_insert(t->query, g_strdup("session in query"), g_strdup("true"));
}

static gboolean enter(struct transfer *t)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&transfers.lock);
    if (transfers.stopping || transfers.running->len >= MOST_TRANSFERS)
        return FALSE;
    g_ptr_array_add(transfers.running, t);
    return TRUE;
}

void transfer_run(struct http_request *r, const char *name, transfer_fn *fn)
{
    struct transfer *t = g_new0(struct transfer, 1);
    t->r = r;
    t->name = name;
    t->fn = fn;
    t->query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    t->held = g_ptr_array_new_with_free_func(g_free);
    t->is_head = http_is_head(r);
    t->length = http_length(r);
    t->is_open_ended = t->length >= UNKNOWN_LENGTH;
    if (t->is_open_ended)
        t->length = -1;
    copy_query(t);
    if (enter(t)) {
        g_thread_unref(g_thread_new("transfer", work, t));
        return;
    }
    http_answer_text(r, 503, "Too many transfers are under way.\n");
    transfer_free(t);
}

void transfers_init(void)
{
    transfers.running = g_ptr_array_new();
    clock_every(WATCH_MS, watch, NULL);
    transfer_raw_init();
    transfer_export_init();
    transfer_import_init();
    transfer_console_init();
    transfer_blob_init();
    transfer_dump_init();
    transfer_rrd_init();
}

void transfers_quiesce(void)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&transfers.lock);
    transfers.stopping = TRUE;
    for (guint i = 0; i < transfers.running->len; i++) {
        struct transfer *t = transfers.running->pdata[i];
        if (!*t->task)
            g_atomic_int_set(&t->cancel, 1);
    }
}

void transfers_stop(gint64 deadline_ms)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&transfers.lock);
    transfers.stopping = TRUE;
    for (guint i = 0; i < transfers.running->len; i++)
        g_atomic_int_set(&((struct transfer *) transfers.running->pdata[i])->cancel, 1);
    while (transfers.running->len > 0)
        if (!g_cond_wait_until(&transfers.changed, &transfers.lock, deadline_ms * 1000))
            break;
    if (transfers.running->len > 0)
        g_warning("%u transfers were still running when the time to stop was up", transfers.running->len);
}
