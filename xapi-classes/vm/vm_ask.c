/* vm_ask.c - requests to the backend on behalf of a call: its progress, its cancellation, its faults in references. */
#include "xapi-classes/vm/vm.h"
#include "xenbackend/backend.h"

#include <string.h>

struct progress {
    struct call *call;
    double from, to;
};

static void tell_progress(double fraction, void *data)
{
    struct progress *p = data;
    call_progress(p->call, p->from + fraction * (p->to - p->from));
}

/* The backend names objects by uuid, clients by reference. */
static char *as_reference(const char *param)
{
    static const enum class_id classes[] = {CLASS_VM, CLASS_VBD, CLASS_VIF, CLASS_VDI, CLASS_SR, CLASS_cpu_pool};
    if (!uuid_is_valid(param))
        return g_strdup(param);
    for (gsize i = 0; i < G_N_ELEMENTS(classes); i++) {
        g_autoptr(record) r = store_get_by_uuid(the_store(), classes[i], param);
        if (r != NULL)
            return g_strdup(r->ref);
    }
    return g_strdup(param);
}

static void take_fault(struct call *c, struct fault *f)
{
    if (g_strcmp0(f->code, "TASK_CANCELLED") == 0) {
        call_cancelled_fault(c);
        fault_clear(f);
        return;
    }
    for (guint i = 0; f->params != NULL && f->params[i] != NULL; i++) {
        char *param = as_reference(f->params[i]);
        g_free(f->params[i]);
        f->params[i] = param;
    }
    fault_move(&c->fault, f);
}

struct value *vm_ask_part(struct call *c, struct vm_work *w, const char *method, struct value *params, int timeout_ms,
                          double from, double to)
{
    struct progress p = {c, from, to};
    struct peer_options o = {
        .timeout_ms = timeout_ms, .cancel = call_cancel_flag(c), .progress = tell_progress, .data = &p};
    struct fault f = FAULT_INIT;
    struct value *result = backend_call(method, params, &o, &f);
    value_unref(params);
    if (result == NULL) {
        take_fault(c, &f);
        if (w != NULL)
            w->unsure = TRUE;
    }
    return result;
}

struct value *vm_ask(struct call *c, struct vm_work *w, const char *method, struct value *params, int timeout_ms)
{
    return vm_ask_part(c, w, method, params, timeout_ms, 0.0, 1.0);
}

void vm_params(struct value_builder *b, const char *uuid)
{
    value_builder_map(b, NULL, 8);
    value_builder_put_string(b, "uuid", uuid);
}
