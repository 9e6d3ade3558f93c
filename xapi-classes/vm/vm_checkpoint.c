/* vm_checkpoint.c - VM.checkpoint: a snapshot of the disks together with the memory. */
#include "daemon/task.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/run_message.h"
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"
#include "xapi-classes/vm/vm_twin.h"

#include <string.h>

/* Somebody may have stopped the VM meanwhile, with its memory. */
static struct value *record_checkpoint(struct call *c, const char *state, const char *memory, GPtrArray *disks)
{
    struct txn *t = txn_begin(the_store());
    const struct record *vm = txn_get(t, CLASS_VM, call_str(c, 0));
    if (vm == NULL || !vm_is(vm, "Suspended") || txn_get(t, CLASS_VDI, memory) == NULL) {
        txn_abort(t);
        return call_fail(c, "VM_CHECKPOINT_SUSPEND_FAILED", call_str(c, 0), NULL);
    }
    struct value *result = value_string(NULL, twin_create(t, vm, TWIN_SNAPSHOT, call_str(c, 1), disks));
    const char *ref = value_str(result);
    txn_set_str(t, CLASS_VM, ref, F_VM_power_state, "Suspended");
    txn_set_str(t, CLASS_VM, ref, F_VM_suspend_VDI, memory);
    txn_put_key(t, CLASS_VM, ref, F_VM_snapshot_info, "power-state-at-snapshot", state);
    call_commit(c, t);
    return result;
}

/* copy_memory: the VM goes on owning the image. Otherwise it is the checkpoint's once the VM goes on. */
static struct value *snapshot_suspended(struct call *c, const char *state, gboolean copy_memory)
{
    g_autoptr(record) vm = call_object(c, 0);
    if (vm == NULL)
        return NULL;
    if (!vm_is(vm, "Suspended")) /* stopped since */
        return call_fail(c, "VM_CHECKPOINT_SUSPEND_FAILED", vm->ref, NULL);
    const char *image = record_str(vm, F_VM_suspend_VDI);
    if (ref_is_null(image))
        return call_fail(c, "VM_HAS_NO_SUSPEND_VDI", vm->ref, NULL);
    struct drafts *drafts = drafts_new();
    g_autoptr(value) result = NULL;
    g_autoptr(GPtrArray) disks = twin_copy_disks(c, vm, TWIN_SNAPSHOT, NULL_REF, NULL, drafts);
    g_autoptr(value) memory = disks != NULL && copy_memory ? twin_copy_memory(c, image, drafts) : NULL;
    if (disks != NULL && (memory != NULL || !copy_memory))
        result = record_checkpoint(c, state, memory != NULL ? value_str(memory) : image, disks);
    drafts_end(c, drafts);
    return c->fault.code == NULL ? g_steal_pointer(&result) : NULL;
}

static gboolean ask(struct call *c, const struct record *vm, const char *method)
{
    struct value_builder b;
    vm_params(&b, record_str(vm, F_VM_uuid));
    g_autoptr(value) answer = vm_ask(c, NULL, method, value_builder_end(&b), ASK_QUICK_MS);
    return answer != NULL;
}

/* The guest must hear that it is to be suspended, which a paused one cannot. */
static gboolean suspend_paused(struct call *c, const struct record *vm)
{
    struct fault why = FAULT_INIT;
    if (!ask(c, vm, "domain.unpause"))
        return FALSE;
    if (vm_do_suspend(c, vm, TRUE))
        return TRUE;
    fault_move(&why, &c->fault);
    ask(c, vm, "domain.pause");
    fault_clear(&c->fault);
    fault_move(&c->fault, &why);
    return FALSE;
}

static gboolean suspend(struct call *c, const struct record *vm)
{
    if (vm_is(vm, "Paused") ? suspend_paused(c, vm) : vm_do_suspend(c, vm, TRUE))
        return TRUE;
    if (strcmp(c->fault.code, "VM_NO_SUSPEND_SR") == 0 || strcmp(c->fault.code, "TASK_CANCELLED") == 0)
        return FALSE;
    g_autofree char *text = fault_text(&c->fault);
    g_message("the suspend of a checkpoint failed: %s", text);
    fault_clear(&c->fault);
    return fault_set(&c->fault, "VM_CHECKPOINT_SUSPEND_FAILED", vm->ref, NULL);
}

/* Also after a snapshot that failed or was cancelled: the VM is to go on as if nothing had been. */
static void go_on(struct call *c, const struct record *vm)
{
    struct fault before = FAULT_INIT;
    fault_move(&before, &c->fault);
    g_atomic_int_set(call_cancel_flag(c), 0);
    if (!vm_do_resume(c, vm->ref, NULL, vm_is(vm, "Paused"))) {
        g_autofree char *text = fault_text(&c->fault);
        g_message("the resume of a checkpoint failed: %s", text);
        fault_clear(&c->fault);
        fault_set(&c->fault, "VM_CHECKPOINT_RESUME_FAILED", vm->ref, NULL);
    }
    if (before.code == NULL)
        return;
    fault_clear(&c->fault);
    fault_move(&c->fault, &before);
}

/* ---- VMs that are to go on ---- */

#define META_KEY       "checkpoints" /* "REF STATE REF STATE ..." */
#define SR_PATIENCE_US (5 * G_TIME_SPAN_MINUTE)
#define POLL_US        (200 * G_TIME_SPAN_MILLISECOND)

static GMutex lock;
static GHashTable *under_way; /* reference -> power state before */

/* Should the daemon die while the VM is suspended for the checkpoint, the next one lets it go on. */
static gboolean note(const char *vm, const char *state, struct fault *f)
{
    g_autoptr(GString) text = g_string_new(NULL);
    GHashTableIter iter;
    gpointer ref, before;
    g_mutex_lock(&lock);
    if (under_way == NULL)
        under_way = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (state != NULL)
        g_hash_table_replace(under_way, g_strdup(vm), g_strdup(state));
    else
        g_hash_table_remove(under_way, vm);
    g_hash_table_iter_init(&iter, under_way);
    while (g_hash_table_iter_next(&iter, &ref, &before))
        g_string_append_printf(text, "%s%s %s", text->len > 0 ? " " : "", (char *) ref, (char *) before);
    gboolean saved = store_set_meta(the_store(), META_KEY, text->str, f);
    g_mutex_unlock(&lock);
    return saved;
}

static void forget(const char *vm)
{
    struct fault f = FAULT_INIT;
    note(vm, NULL, &f);
    fault_clear(&f);
}

struct value *vm_checkpoint(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    if (vm == NULL)
        return NULL;
    if (vm_is(vm, "Suspended"))
        return snapshot_suspended(c, "Suspended", TRUE);
    g_autoptr(value) result = NULL;
    if (note(vm->ref, record_str(vm, F_VM_power_state), &c->fault) && suspend(c, vm)) {
        result = snapshot_suspended(c, record_str(vm, F_VM_power_state), FALSE);
        go_on(c, vm);
    }
    forget(vm->ref);
    return c->fault.code == NULL ? g_steal_pointer(&result) : NULL;
}

struct left_over {
    char *vm, *state;
};

static void left_over_free(void *data)
{
    struct left_over *l = data;
    g_free(l->vm);
    g_free(l->state);
    g_free(l);
}

/* At start the repositories are still being attached. */
static void wait_for_image(const struct record *vm)
{
    gint64 until = g_get_monotonic_time() + SR_PATIENCE_US;
    g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, record_str(vm, F_VM_suspend_VDI));
    while (vdi != NULL && g_get_monotonic_time() < until) {
        struct fault f = FAULT_INIT;
        g_autoptr(record) sr = storage_attached_sr(record_str(vdi, F_VDI_SR), &f);
        fault_clear(&f);
        if (sr != NULL)
            return;
        g_usleep(POLL_US);
    }
}

static struct value *let_go_on(struct call *c, void *data)
{
    const struct left_over *l = data;
    g_autoptr(record) vm = store_get(the_store(), CLASS_VM, l->vm);
    if (vm == NULL || !vm_is(vm, "Suspended")) {
        forget(l->vm);
        return value_void();
    }
    wait_for_image(vm);
    g_autoptr(value) ref = value_string(NULL, l->vm), force = value_bool(FALSE);
    g_autoptr(value) paused = value_bool(strcmp(l->state, "Paused") == 0);
    struct value *args[] = {ref, paused, force};
    struct value *result = run_message("VM.resume", args, call_task_ref(c), &c->fault);
    forget(l->vm);
    return result;
}

void checkpoints_start(void)
{
    g_autofree char *text = store_get_meta(the_store(), META_KEY);
    g_auto(GStrv) words = g_strsplit(text != NULL ? text : "", " ", -1);
    for (guint i = 0; words[i] != NULL && words[i + 1] != NULL; i += 2) {
        struct left_over *l = g_new0(struct left_over, 1);
        struct fault f = FAULT_INIT;
        l->vm = g_strdup(words[i]);
        l->state = g_strdup(words[i + 1]);
        note(l->vm, l->state, &f); /* another crash may come before it has gone on */
        fault_clear(&f);
        task_spawn("VM.resume", l->vm, let_go_on, l, left_over_free);
    }
}
