/* vm_start.c - VM.start, start_on and the reboots, and what they have in common with a resume. */
#include "xapi-classes/cpu_pool.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/start.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

/* ---- what must be so before ---- */

static gboolean check_host(struct txn *t, const char *ref, struct fault *f)
{
    const struct record *host = txn_get(t, CLASS_host, ref);
    if (host == NULL)
        return ref_is_null(ref) || fault_set(f, "HANDLE_INVALID", "host", ref, NULL);
    return record_bool(host, F_host_enabled) || fault_set(f, "HOST_DISABLED", ref, NULL);
}

static gboolean check_networks(struct txn *t, const struct record *vm, struct fault *f)
{
    const struct value *vifs = record_field(vm, F_VM_VIFs);
    for (gsize i = 0; i < value_count(vifs); i++) {
        const struct record *vif = txn_get(t, CLASS_VIF, value_str(value_at(vifs, i)));
        const char *network = vif != NULL ? record_str(vif, F_VIF_network) : NULL_REF;
        if (!ref_is_null(network) && txn_get(t, CLASS_network, network) == NULL)
            return fault_set(f, "VM_REQUIRES_NETWORK", vm->ref, network, NULL);
    }
    return TRUE;
}

static gboolean check_cpu_pool(const struct record *vm, struct fault *f)
{
    g_autoptr(record) pool = NULL;
    return cpu_pool_of_start(vm, &pool, f);
}

gboolean vm_check_bootable(struct txn *t, const struct record *vm, const char *host, struct fault *f)
{
    gint64 vcpus = record_int(vm, F_VM_VCPUs_at_startup);
    if (vcpus < 1 || record_int(vm, F_VM_VCPUs_max) < vcpus)
        return fault_set(f, "VM_NO_VCPUS", vm->ref, NULL);
    if (record_int(vm, F_VM_memory_static_max) <= 0)
        return fault_set(f, "VM_MEMORY_SIZE_TOO_LOW", vm->ref, NULL);
    return vm_check_memory(record_int(vm, F_VM_memory_static_min), record_int(vm, F_VM_memory_dynamic_min),
                           record_int(vm, F_VM_memory_dynamic_max), record_int(vm, F_VM_memory_static_max), f) &&
           check_host(t, host, f) && check_networks(t, vm, f) && check_cpu_pool(vm, f);
}

/* ---- one attempt ---- */

struct record *vm_begin_attempt(struct call *c, const char *ref, const char *host, const char *from, const char *op)
{
    struct txn *t = txn_begin(the_store());
    struct record *vm = txn_get(t, CLASS_VM, ref), *taken = NULL;
    const char *where = host != NULL ? host : host_ref();
    if (vm == NULL)
        call_fail(c, "HANDLE_INVALID", "VM", ref, NULL);
    else if (!vm_is(vm, from))
        call_fail(c, "OPERATION_NOT_ALLOWED", "the power state changed while the call was waiting", NULL);
    else if (vm_check_bootable(t, vm, where, &c->fault) && disks_reserve(t, vm, op, &c->fault))
        taken = record_ref(vm);
    txn_abort(t);
    return taken;
}

/* What a guest said of itself before it was suspended is true when it goes on, and it need not say it again. */
static void commit_running(struct call *c, const char *ref, const struct value *answer, const struct value *consoles,
                           gboolean resumed)
{
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, ref) != NULL) {
        if (!resumed)
            vm_drop_guest_metrics(t, ref);
        vm_set_running(t, ref, value_get(answer, "state"), consoles);
    }
    call_commit(c, t);
}

/* The answer is {domid, state}; state says the domid, too. */
gboolean vm_run_domain(struct call *c, struct vm_work *w, const char *method, struct value_builder *params,
                       struct value *consoles)
{
    g_autoptr(value) answer = vm_ask(c, w, method, value_builder_end(params), ASK_LONG_MS);
    if (answer == NULL)
        return FALSE;
    vm_drop_memory_file(w->uuid); /* used up */
    commit_running(c, w->ref, answer, consoles, strcmp(method, "domain.resume") == 0);
    return TRUE;
}

/* ---- start ---- */

gboolean vm_do_start(struct call *c, const char *ref, const char *host, gboolean paused)
{
    g_autoptr(record) vm = vm_begin_attempt(c, ref, host, "Halted", "start");
    if (vm == NULL)
        return FALSE;
    g_auto(vm_work) w = VM_WORK_INIT;
    g_autoptr(value) consoles = consoles_plan(vm);
    struct value_builder b;
    vm_work_begin(&w, vm);
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "config", vm_config(vm, consoles, paused));
    gboolean started = vm_run_domain(c, &w, "domain.start", &b, consoles);
    disks_release(vm);
    return started;
}

struct value *vm_start(struct call *c)
{
    return vm_do_start(c, call_str(c, 0), NULL, call_bool(c, 1)) ? value_void() : NULL;
}

struct value *vm_start_on(struct call *c)
{
    return vm_do_start(c, call_str(c, 0), call_str(c, 1), call_bool(c, 2)) ? value_void() : NULL;
}

/* ---- reboot ---- */

gboolean vm_do_restart(struct call *c, struct vm_work *w, const struct record *vm, gboolean clean)
{
    g_autoptr(value) consoles = consoles_plan(vm);
    int timeout = the_conf()->clean_shutdown_timeout;
    struct value_builder b;
    value_builder_map(&b, NULL, 3);
    value_builder_put(&b, "config", vm_config(vm, consoles, FALSE));
    value_builder_put(&b, "clean", value_bool(clean));
    value_builder_put(&b, "timeout", value_int(NULL, timeout));
    g_autoptr(value) answer =
        vm_ask(c, w, "domain.reboot", value_builder_end(&b), ASK_LONG_MS + (clean ? timeout * 1000 : 0));
    if (answer == NULL)
        return FALSE;
    commit_running(c, w->ref, answer, consoles, FALSE);
    return TRUE;
}

/* The disks are the VM's own already: it has them attached. */
static struct value *reboot(struct call *c, gboolean clean)
{
    g_autoptr(record) vm = call_object(c, 0);
    g_auto(vm_work) w = VM_WORK_INIT;
    if (vm == NULL)
        return NULL;
    vm_work_begin(&w, vm);
    return vm_do_restart(c, &w, vm, clean) ? value_void() : NULL;
}

struct value *vm_clean_reboot(struct call *c)
{
    return reboot(c, TRUE);
}

struct value *vm_hard_reboot(struct call *c)
{
    return reboot(c, FALSE);
}
