/* vbd_qos.c - VBD.qos_algorithm_*: fields like others, but a running VM's disk feels at once what is written there. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/vm.h"
#include "xenbackend/backend.h"

static struct value *update_params(const struct record *vbd, const struct record *vm)
{
    struct value_builder b;
    vm_params(&b, record_str(vm, F_VM_uuid));
    value_builder_put(&b, "vbd", vbd_config(vbd));
    return value_builder_end(&b);
}

/* What the record says now: of two changes the later one tells all. One that is not plugged is told when it is. */
static void tell(void *data, G_GNUC_UNUSED void *pool)
{
    g_autofree char *ref = data;
    g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, ref);
    g_autoptr(record) vm = vbd ? store_get(the_store(), CLASS_VM, record_str(vbd, F_VBD_VM)) : NULL;
    struct peer_options options = {.timeout_ms = ASK_QUICK_MS};
    struct fault f = FAULT_INIT;
    if (!vm || !record_bool(vbd, F_VBD_currently_attached) || record_int(vm, F_VM_domid) < 0)
        return;
    g_autoptr(value) params = update_params(vbd, vm);
    g_autoptr(value) answer = backend_call("domain.vbd_update", params, &options, &f);
    if (!answer) {
        g_autofree char *text = fault_text(&f);
        g_info("the disk %s is not served as its qos_algorithm says: %s", record_str(vbd, F_VBD_uuid), text);
    }
    fault_clear(&f);
}

/* Setting a field waits for no backend: a thread tells, one change after the other. */
static struct value *and_tell(struct call *c, struct value *done)
{
    static gsize once;
    static GThreadPool *thread;
    if (!done)
        return NULL;
    if (g_once_init_enter(&once)) {
        thread = g_thread_pool_new(tell, NULL, 1, FALSE, NULL);
        g_once_init_leave(&once, 1);
    }
    g_thread_pool_push(thread, g_strdup(call_str(c, 0)), NULL);
    return done;
}

struct value *vbd_set_qos(struct call *c)
{
    return and_tell(c, generic_set(c));
}

struct value *vbd_add_to_qos(struct call *c)
{
    return and_tell(c, generic_add_to(c));
}

struct value *vbd_remove_from_qos(struct call *c)
{
    return and_tell(c, generic_remove_from(c));
}
