/* vmss_run.c - snapshot schedules as they run: by the clock or at once, and the snapshots that they drop. */
#include "daemon/clock.h"
#include "daemon/task.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/message.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/vm/run_message.h"
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"
#include "xapi-classes/vm/vmss.h"

#include <string.h>
#include <time.h>

#define TICK_MS        1000
#define PRIORITY_ERROR 3

/* ---- snapshots that are too many ---- */

static int by_age(gconstpointer a, gconstpointer b)
{
    const struct record *x = *(struct record *const *) a, *y = *(struct record *const *) b;
    gint64 m = record_int(x, F_VM_snapshot_time), n = record_int(y, F_VM_snapshot_time);
    return m != n ? (m < n ? -1 : 1) : (x->created < y->created ? -1 : x->created > y->created);
}

/* Those that schedules made of the VM, oldest first. */
static GPtrArray *scheduled_snapshots(const struct record *vm)
{
    const struct value *refs = record_field(vm, F_VM_snapshots);
    GPtrArray *snapshots = g_ptr_array_new_with_free_func((GDestroyNotify) record_unref);
    for (gsize i = 0; i < value_count(refs); i++) {
        struct record *s = store_get(the_store(), CLASS_VM, value_str(value_at(refs, i)));
        if (s != NULL && record_bool(s, F_VM_is_vmss_snapshot))
            g_ptr_array_add(snapshots, s);
        else
            record_unref(s);
    }
    g_ptr_array_sort(snapshots, by_age);
    return snapshots;
}

static void list_image(struct drafts *drafts, const char *ref)
{
    g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, ref);
    g_autoptr(record) sr = vdi != NULL ? store_get(the_store(), CLASS_SR, record_str(vdi, F_VDI_SR)) : NULL;
    if (sr != NULL)
        drafts_add(drafts, record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid));
}

/* Its disks and its memory, as far as nothing else refers to them. */
static void list_images(struct drafts *drafts, const struct record *snapshot)
{
    const struct value *vbds = record_field(snapshot, F_VM_VBDs);
    for (gsize i = 0; i < value_count(vbds); i++) {
        g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, value_str(value_at(vbds, i)));
        if (vbd != NULL && strcmp(record_str(vbd, F_VBD_type), "Disk") == 0)
            list_image(drafts, record_str(vbd, F_VBD_VDI));
    }
    list_image(drafts, record_str(snapshot, F_VM_suspend_VDI));
}

/* One that somebody works with, or protects, stays until the next run. */
static void drop_snapshot(struct call *c, const char *ref)
{
    g_autoptr(record) snapshot = store_get(the_store(), CLASS_VM, ref);
    struct fault f = FAULT_INIT;
    if (snapshot == NULL)
        return;
    struct drafts *drafts = drafts_new();
    list_images(drafts, snapshot);
    if (drafts_begin(drafts, &f)) {
        struct txn *t = txn_begin(the_store());
        if (operation_check(t, CLASS_VM, ref, "destroy", &f))
            vm_destroy_record(t, txn_get(t, CLASS_VM, ref));
        call_commit(c, t);
    }
    drafts_end(c, drafts);
    fault_clear(&f);
}

static void drop_oldest(struct call *c, const char *vm_ref, gint64 retained)
{
    g_autoptr(record) vm = store_get(the_store(), CLASS_VM, vm_ref);
    if (vm == NULL)
        return;
    g_autoptr(GPtrArray) snapshots = scheduled_snapshots(vm);
    for (guint i = 0; (gint64) i + retained < (gint64) snapshots->len; i++)
        drop_snapshot(c, ((struct record *) g_ptr_array_index(snapshots, i))->ref);
}

/* ---- one run ---- */

static void mark(struct call *c, const char *snapshot)
{
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, snapshot) != NULL)
        txn_set_bool(t, CLASS_VM, snapshot, F_VM_is_vmss_snapshot, TRUE);
    call_commit(c, t);
}

static gboolean snapshot_vm(struct call *c, const struct record *vmss, const struct record *vm, const char *stamp,
                            struct fault *f)
{
    gboolean checkpoint = strcmp(record_str(vmss, F_VMSS_type), "checkpoint") == 0 && !vm_is(vm, "Halted");
    g_autofree char *text =
        g_strdup_printf("%s %s %s", record_str(vm, F_VM_name_label), record_str(vmss, F_VMSS_name_label), stamp);
    g_autoptr(value) ref = value_string(NULL, vm->ref), name = value_string(NULL, text), none = value_empty_set();
    struct value *args[] = {ref, name, none};
    g_autoptr(value) result = run_message(checkpoint ? "VM.checkpoint" : "VM.snapshot", args, call_task_ref(c), f);
    if (result == NULL)
        return FALSE;
    mark(c, value_str(result));
    drop_oldest(c, vm->ref, record_int(vmss, F_VMSS_retained_snapshots));
    return TRUE;
}

static void tell_failure(const struct record *vmss, const struct record *vm, const struct fault *f)
{
    g_autofree char *why = fault_text(f);
    g_autofree char *body = g_strdup_printf("%s: %s", record_str(vm, F_VM_name_label), why);
    g_warning("the schedule %s could not snapshot %s", record_str(vmss, F_VMSS_name_label), body);
    message_post("VMSS_SNAPSHOT_FAILED", PRIORITY_ERROR, "VMSS", record_str(vmss, F_VMSS_uuid), body);
}

static void note_run(struct call *c, const char *ref, gint64 when)
{
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VMSS, ref) != NULL)
        txn_set_time(t, CLASS_VMSS, ref, F_VMSS_last_run_time, when);
    call_commit(c, t);
}

static char *stamp_of(gint64 when)
{
    g_autoptr(GDateTime) date = g_date_time_new_from_unix_local(when);
    return g_date_time_format(date, "%Y-%m-%dT%H:%M:%S");
}

/* The VMs one after another; one that fails does not keep the others from their turn. */
static struct value *run(struct call *c, const char *ref)
{
    g_autoptr(record) vmss = store_get(the_store(), CLASS_VMSS, ref);
    gint64 when = g_get_real_time() / G_USEC_PER_SEC;
    guint done = 0, failed = 0;
    if (vmss == NULL)
        return call_fail(c, "HANDLE_INVALID", "VMSS", ref, NULL);
    const struct value *vms = record_field(vmss, F_VMSS_VMs);
    g_autofree char *stamp = stamp_of(when);
    note_run(c, ref, when);
    for (gsize i = 0; i < value_count(vms); i++) {
        g_autoptr(record) vm = store_get(the_store(), CLASS_VM, value_str(value_at(vms, i)));
        struct fault f = FAULT_INIT;
        if (call_is_cancelled(c))
            return call_cancelled_fault(c);
        if (vm != NULL && snapshot_vm(c, vmss, vm, stamp, &f))
            done++;
        else if (vm != NULL && ++failed > 0)
            tell_failure(vmss, vm, &f);
        fault_clear(&f);
        call_progress(c, (double) (i + 1) / (double) value_count(vms));
    }
    g_autofree char *text = g_strdup_printf("%u snapshots were taken, %u failed", done, failed);
    return value_string(NULL, text);
}

struct value *vmss_snapshot_now(struct call *c)
{
    return run(c, call_str(c, 0));
}

/* ---- the clock ---- */

static struct value *run_task(struct call *c, void *data)
{
    return run(c, data);
}

/* When clocks are put back the same time of the day comes twice. */
static gboolean has_run(const struct record *vmss, GDateTime *now)
{
    gint64 last = record_int(vmss, F_VMSS_last_run_time);
    g_autoptr(GDateTime) then = g_date_time_new_from_unix_local(last);
    return then != NULL && g_date_time_get_year(then) == g_date_time_get_year(now) &&
           g_date_time_get_day_of_year(then) == g_date_time_get_day_of_year(now) &&
           g_date_time_get_hour(then) == g_date_time_get_hour(now) &&
           g_date_time_get_minute(then) == g_date_time_get_minute(now);
}

static void run_if_due(const struct record *vmss, GDateTime *now)
{
    struct vmss_times times = vmss_times(record_str(vmss, F_VMSS_frequency), record_field(vmss, F_VMSS_schedule));
    int day = g_date_time_get_day_of_week(now) % 7; /* GLib's Sunday is 7 */
    if (!record_bool(vmss, F_VMSS_enabled) ||
        !vmss_is_due(&times, day, g_date_time_get_hour(now), g_date_time_get_minute(now)) || has_run(vmss, now))
        return;
    if (!task_spawn("VMSS.snapshot_now", vmss->ref, run_task, g_strdup(vmss->ref), g_free))
        g_warning("the schedule %s misses its turn: the queue of tasks is full", record_str(vmss, F_VMSS_name_label));
}

/* Looks once in each minute; minutes in which nobody looked are not made up for. */
static void tick(G_GNUC_UNUSED void *data)
{
    static gint64 minute;
    gint64 now = g_get_real_time() / G_TIME_SPAN_MINUTE;
    if (now == minute)
        return;
    minute = now;
    g_autoptr(GDateTime) local = g_date_time_new_now_local();
    g_autoptr(GPtrArray) all = store_all(the_store(), CLASS_VMSS);
    for (guint i = 0; i < all->len; i++)
        run_if_due(g_ptr_array_index(all, i), local);
}

void schedules_start(void)
{
    clock_every(TICK_MS, tick, NULL);
}
