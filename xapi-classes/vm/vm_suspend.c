/* vm_suspend.c - VM.suspend and resume, and the image of the memory between them: a VDI, or a file where no SR is. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((gint64) 1 << 20)

char *vm_suspend_path(const char *uuid)
{
    return g_strdup_printf("%s/suspend/%s", the_conf()->state_dir, uuid);
}

gboolean vm_memory_is_in_file(const struct record *vm)
{
    g_autofree char *path = vm_suspend_path(record_str(vm, F_VM_uuid));
    g_autoptr(record) metrics = store_get(the_store(), CLASS_VM_metrics, record_str(vm, F_VM_metrics));
    struct stat st;
    return stat(path, &st) == 0 && (metrics == NULL || st.st_mtime >= record_int(metrics, F_VM_metrics_start_time));
}

void vm_drop_memory_file(const char *uuid)
{
    g_autofree char *path = vm_suspend_path(uuid);
    if (unlink(path) != 0 && errno != ENOENT)
        g_warning("%s: %s", path, g_strerror(errno));
}

/* ---- the image ---- */

static struct value *make_image(struct call *c, const struct record *vm, const struct record *sr, struct drafts *drafts)
{
    char uuid[UUID_SIZE];
    uuid_generate_text(uuid);
    drafts_add(drafts, record_str(sr, F_SR_uuid), uuid);
    if (!drafts_begin(drafts, &c->fault))
        return NULL;
    return memory_vdi_make(c, vm, sr, uuid, "Suspend image", "suspend");
}

/* Unless another VM or a checkpoint refers to it. */
void vm_drop_suspend_image(struct call *c, const char *ref)
{
    g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, ref);
    g_autoptr(record) sr = vdi != NULL ? store_get(the_store(), CLASS_SR, record_str(vdi, F_VDI_SR)) : NULL;
    struct fault f = FAULT_INIT;
    if (sr == NULL)
        return;
    struct drafts *drafts = drafts_new();
    drafts_add(drafts, record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid));
    drafts_begin(drafts, &f); /* without the list it may be left over after a crash, no more */
    fault_clear(&f);
    drafts_end(c, drafts);
}

/* Names the image in a request. FALSE with f set when there is none. */
static gboolean put_image(struct value_builder *b, const struct record *vm, const char *vdi_ref, struct fault *f)
{
    g_autofree char *path = vm_suspend_path(record_str(vm, F_VM_uuid));
    if (ref_is_null(vdi_ref)) {
        value_builder_put_string(b, "path", path);
        return TRUE;
    }
    g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, vdi_ref);
    g_autoptr(record) sr = vdi != NULL ? storage_attached_sr(record_str(vdi, F_VDI_SR), f) : NULL;
    if (vdi == NULL)
        return fault_set(f, "VM_HAS_NO_SUSPEND_VDI", vm->ref, NULL);
    if (sr == NULL)
        return FALSE;
    value_builder_put_string(b, "sr", record_str(sr, F_SR_uuid));
    value_builder_put_string(b, "vdi", record_str(vdi, F_VDI_uuid));
    const char *saved_as = record_key(vdi, F_VDI_other_config, VM_SAVED_AS);
    if (saved_as != NULL)
        value_builder_put_string(b, "saved_as", saved_as);
    return TRUE;
}

/* ---- suspend ---- */

/* Before anything is saved: should the daemon die then, the next one finds the image by it. */
static void note_image(struct call *c, const char *vm, const char *vdi)
{
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, vm) != NULL)
        txn_set_str(t, CLASS_VM, vm, F_VM_suspend_VDI, vdi);
    call_commit(c, t);
}

static gboolean save(struct call *c, struct vm_work *w, const struct record *vm, const char *vdi)
{
    struct value_builder b;
    vm_params(&b, record_str(vm, F_VM_uuid));
    value_builder_put(&b, "timeout", value_int(NULL, the_conf()->clean_shutdown_timeout));
    if (!put_image(&b, vm, vdi, &c->fault)) {
        value_builder_clear(&b);
        return FALSE;
    }
    vm_work_begin(w, vm);
    g_autoptr(value) answer = vm_ask(c, w, "domain.suspend", value_builder_end(&b), ASK_IMAGE_MS);
    if (answer == NULL)
        return FALSE;
    struct txn *t = txn_begin(the_store());
    const struct record *now = txn_get(t, CLASS_VM, vm->ref);
    if (now != NULL && record_int(now, F_VM_domid) == w->domid)
        vm_set_suspended(t, vm->ref);
    call_commit(c, t);
    return TRUE;
}

/* The request failed, but may have been done all the same. As long as nobody knows, the image stays where it is. */
static gboolean was_suspended(struct call *c, struct vm_work *w, const char *ref, const char *vdi)
{
    vm_work_end(w);
    if (w->unsure)
        return FALSE;
    g_autoptr(record) vm = store_get(the_store(), CLASS_VM, ref);
    if (vm != NULL && vm_is(vm, "Suspended") && !ref_is_null(vdi)) {
        fault_clear(&c->fault);
        return TRUE;
    }
    if (vm != NULL)
        note_image(c, ref, NULL_REF);
    return FALSE;
}

static gboolean suspend_into(struct call *c, const struct record *vm, const char *image)
{
    g_auto(vm_work) w = VM_WORK_INIT;
    note_image(c, vm->ref, image);
    return save(c, &w, vm, image) || was_suspended(c, &w, vm->ref, image);
}

gboolean vm_do_suspend(struct call *c, const struct record *vm, gboolean to_vdi)
{
    g_autoptr(record) sr =
        memory_vdi_sr(record_str(vm, F_VM_suspend_SR), F_host_suspend_image_sr, F_pool_suspend_image_SR);
    if (sr == NULL && to_vdi)
        return fault_set(&c->fault, "VM_NO_SUSPEND_SR", vm->ref, NULL);
    if (sr == NULL)
        return suspend_into(c, vm, NULL_REF);
    struct drafts *drafts = drafts_new();
    g_autoptr(value) vdi = make_image(c, vm, sr, drafts);
    gboolean done = vdi != NULL && suspend_into(c, vm, value_str(vdi));
    drafts_end(c, drafts);
    return done;
}

struct value *vm_suspend(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    return vm != NULL && vm_do_suspend(c, vm, FALSE) ? value_void() : NULL;
}

/* ---- resume ---- */

static gboolean load(struct call *c, const struct record *vm, gboolean paused)
{
    g_auto(vm_work) w = VM_WORK_INIT;
    g_autoptr(value) consoles = consoles_plan(vm);
    struct value_builder b;
    value_builder_map(&b, NULL, 4);
    value_builder_put(&b, "config", vm_config(vm, consoles, paused));
    value_builder_put(&b, "paused", value_bool(paused));
    if (!put_image(&b, vm, record_str(vm, F_VM_suspend_VDI), &c->fault)) {
        value_builder_clear(&b);
        return FALSE;
    }
    vm_work_begin(&w, vm);
    return vm_run_domain(c, &w, "domain.resume", &b, consoles);
}

gboolean vm_do_resume(struct call *c, const char *ref, const char *host, gboolean paused)
{
    g_autoptr(record) vm = vm_begin_attempt(c, ref, host, "Suspended", "resume");
    if (vm == NULL)
        return FALSE;
    gboolean resumed = load(c, vm, paused);
    disks_release(vm);
    if (resumed)
        vm_drop_suspend_image(c, record_str(vm, F_VM_suspend_VDI));
    return resumed;
}

struct value *vm_resume(struct call *c)
{
    return vm_do_resume(c, call_str(c, 0), NULL, call_bool(c, 1)) ? value_void() : NULL;
}

struct value *vm_resume_on(struct call *c)
{
    return vm_do_resume(c, call_str(c, 0), call_str(c, 1), call_bool(c, 2)) ? value_void() : NULL;
}

struct value *vm_set_suspend_VDI(struct call *c)
{
    struct record *vm;
    struct txn *t = vm_begin_change(c, NULL, &vm);
    if (t == NULL)
        return NULL;
    if (!vm_is(vm, "Suspended"))
        fault_power_state(&c->fault, vm->ref, "suspended", record_str(vm, F_VM_power_state));
    else if (call_txn_object(c, t, 1) != NULL)
        txn_set_str(t, CLASS_VM, vm->ref, F_VM_suspend_VDI, call_str(c, 1));
    return c->fault.code != NULL ? vm_give_up(c, t) : vm_end_change(c, t);
}
