/* vm_autostart.c - VMs that are to be started together with their host. */
#include "daemon/task.h"
#include "xapi-classes/cpu_pool.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/start.h"
#include "xapi-classes/vm/vm.h"
#include "xapi-classes/world.h"
#include "xenbackend/backend.h"

#include <string.h>

#define BOOT_KEY "boot"

/* What is another number or name after each boot. A clock that is set moves the time of the boot, too: a backend that
 * can says more. */
static char *boot_name(void)
{
    struct fault f = FAULT_INIT;
    g_autoptr(value) info = backend_call("host.info", NULL, NULL, &f);
    fault_clear(&f);
    if (info == NULL)
        return NULL;
    const char *id = value_get_str(info, "boot_id", "");
    gint64 time = (gint64) value_as_float(value_get(info, "boot_time"));
    return *id != '\0' ? g_strdup(id) : g_strdup_printf("%" G_GINT64_FORMAT, time);
}

/* TRUE once after each boot of the host. */
static gboolean host_has_booted(void)
{
    g_autofree char *name = boot_name(), *last = store_get_meta(the_store(), BOOT_KEY);
    if (name == NULL || g_strcmp0(name, last) == 0)
        return FALSE;
    return store_set_meta(the_store(), BOOT_KEY, name, NULL);
}

static gboolean wants_start(const struct record *vm)
{
    const char *asked = record_key(vm, F_VM_other_config, "auto_poweron");
    if (!vm_is(vm, "Halted") || record_bool(vm, F_VM_is_a_template) || record_bool(vm, F_VM_is_control_domain))
        return FALSE;
    return record_bool(vm, F_VM_auto_power_on) || (asked != NULL && strcmp(asked, "true") == 0);
}

static int by_order(gconstpointer a, gconstpointer b)
{
    const struct record *x = *(struct record *const *) a, *y = *(struct record *const *) b;
    gint64 m = record_int(x, F_VM_order), n = record_int(y, F_VM_order);
    return m < n ? -1 : m > n;
}

/* Recorded as an operation, as a client's start would be. */
static struct value *start(struct call *c, void *data)
{
    const char *ref = data;
    const struct message *m = message_lookup("VM.start");
    g_autoptr(value) arg = value_string(NULL, ref);
    struct value *args[] = {arg};
    struct txn *t = txn_begin(the_store());
    if (!operation_begin(t, m, args, call_task_ref(c), &c->fault)) {
        txn_abort(t);
        return NULL;
    }
    txn_commit(t);
    gboolean started = vm_do_start(c, ref, NULL, FALSE);
    t = txn_begin(the_store());
    operation_end(t, m, args, call_task_ref(c));
    txn_commit(t);
    return started ? value_void() : NULL;
}

/* It is disabled to be emptied and to go down; that has happened. */
static void enable_host(void)
{
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_host, host_ref()) != NULL)
        txn_set_bool(t, CLASS_host, host_ref(), F_host_enabled, TRUE);
    txn_commit(t);
}

void world_autostart(void)
{
    if (!host_has_booted())
        return;
    enable_host();
    cpu_pools_autostart();
    g_autoptr(GPtrArray) vms = store_all(the_store(), CLASS_VM);
    g_ptr_array_sort(vms, by_order);
    for (guint i = 0; i < vms->len; i++) {
        const struct record *vm = g_ptr_array_index(vms, i);
        if (wants_start(vm) && !task_spawn("VM.start", vm->ref, start, g_strdup(vm->ref), g_free))
            g_warning("%s is not started with the host: the queue of tasks is full", record_str(vm, F_VM_name_label));
    }
}
