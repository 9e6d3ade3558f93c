/* xen_stop.c - pausing guests and asking them to stop. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <string.h>
#include <xen/hvm/params.h>

#define DEFAULT_TIMEOUT 1200 /* seconds that a guest has to obey */
#define ACK_TIMEOUT     60   /* and to say that it heard */

/* ---- pause ---- */

typedef int pause_fn(libxl_ctx *ctx, uint32_t domid, const libxl_asyncop_how *how);

static struct value *set_paused(struct helper_request *req, enum xen_power power, pause_fn *fn, const char *name,
                                struct fault *f)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    if (!xen_find(req->params, XEN_ALIVE, &d, f))
        return NULL;
    if (d.power == power) /* Xen counts pauses: two would need two to undo */
        return value_empty_map();
    if (!xen_op_begin(&op, req, f))
        return NULL;
    int rc = xen_op_wait(&op, fn(op.ctx, (guint32) d.domid, xen_op_how(&op)), 0);
    xen_watch_tell(d.domid); /* xenstore says nothing of it */
    return rc == 0 || xen_op_fault(&op, rc, d.uuid, name, f) ? value_empty_map() : NULL;
}

struct value *xen_domain_pause(struct helper_request *req, struct fault *f)
{
    return set_paused(req, XEN_PAUSED, libxl_domain_pause, "domain_pause", f);
}

struct value *xen_domain_unpause(struct helper_request *req, struct fault *f)
{
    return set_paused(req, XEN_RUNNING, libxl_domain_unpause, "domain_unpause", f);
}

/* ---- shutdown ---- */

/* A guest with an own kernel's interrupts has no reason to look at xenstore unless its drivers asked for it. */
static gboolean hears_xenstore(const struct xen_domain *d)
{
    uint64_t callback = 0;
    if (strcmp(xen_type(d), "hvm") != 0)
        return TRUE;
    return xc_hvm_param_get(xen.xc, (guint32) d->domid, HVM_PARAM_CALLBACK_IRQ, &callback) == 0 && callback != 0;
}

static gboolean press_power_button(struct xen_op *op, const struct xen_domain *d, struct fault *f)
{
    int rc = libxl_send_trigger(op->ctx, (guint32) d->domid, LIBXL_TRIGGER_POWER, 0, xen_op_how(op));
    rc = xen_op_wait(op, rc, 0);
    return rc == 0 || xen_op_fault(op, rc, d->uuid, "send_trigger", f);
}

static gboolean has_heard(int domid)
{
    g_autofree char *text = xen_read("/local/domain/%d/control/shutdown", domid);
    return text == NULL || *text == '\0';
}

static void take_back_request(int domid)
{
    if (!has_heard(domid))
        xen_write("", "/local/domain/%d/control/shutdown", domid);
}

struct waiting {
    const struct xen_domain *d;
    gint64 timeout, ack_until, until; /* seconds; monotonic times */
    gboolean heard;
};

/* TRUE: go on waiting. */
static gboolean check_time(struct waiting *w, struct fault *f)
{
    gint64 now = g_get_monotonic_time();
    g_autofree char *seconds = g_strdup_printf("%" G_GINT64_FORMAT, w->timeout);
    w->heard = w->heard || has_heard(w->d->domid);
    if (!w->heard && now >= w->ack_until)
        return fault_set(f, "VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", w->d->uuid, NULL);
    if (now >= w->until)
        return fault_set(f, "VM_SHUTDOWN_TIMEOUT", w->d->uuid, seconds, NULL);
    return TRUE;
}

static gboolean wait_for_stop(struct xen_op *op, struct waiting *w, gboolean *gone, struct fault *f)
{
    for (;;) {
        struct xen_domain now;
        guint64 moment = xen_watch_moment();
        *gone = !xen_domain_by_id(w->d->domid, &now) || now.power == XEN_DYING || strcmp(now.uuid, w->d->uuid) != 0;
        if (*gone || now.power == XEN_SHUTDOWN)
            return TRUE;
        if (now.power == XEN_CRASHED)
            return fault_set(f, "VM_CRASHED", w->d->uuid, NULL);
        if (!check_time(w, f))
            return FALSE;
        if (!xen_watch_wait(op->req, moment, w->heard ? w->until : MIN(w->until, w->ack_until)))
            return fault_set(f, "TASK_CANCELLED", "", NULL);
    }
}

gboolean xen_ask_to_stop(struct xen_op *op, const struct xen_domain *d, const char *reason, gint64 timeout,
                         gboolean *gone, struct fault *f)
{
    *gone = FALSE;
    if (d->power == XEN_SHUTDOWN)
        return TRUE;
    if (d->power != XEN_RUNNING) /* one that is paused cannot do anything */
        return fault_set(f, "VM_BAD_POWER_STATE", d->uuid, "running", xen_power_text(d->power), NULL);
    gboolean hears = hears_xenstore(d);
    gint64 now = g_get_monotonic_time();
    timeout = CLAMP(timeout, 0, G_MAXINT32);
    struct waiting w = {
        .d = d,
        .timeout = timeout,
        .ack_until = now + MIN(timeout, ACK_TIMEOUT) * G_TIME_SPAN_SECOND,
        .until = now + timeout * G_TIME_SPAN_SECOND,
        .heard = !hears,
    };
    if (!hears && !press_power_button(op, d, f))
        return FALSE;
    if (hears && !xen_write(reason, "/local/domain/%d/control/shutdown", d->domid))
        return fault_set(f, "INTERNAL_ERROR", "xenstore cannot be written", NULL);
    gboolean stopped = wait_for_stop(op, &w, gone, f);
    if (!stopped && !w.heard)
        take_back_request(d->domid);
    return stopped;
}

struct value *xen_domain_shutdown(struct helper_request *req, struct fault *f)
{
    const char *reason = value_get_str(req->params, "reason", "poweroff");
    struct value *limit = value_get(req->params, "timeout");
    gint64 timeout = limit != NULL ? value_as_int(limit) : DEFAULT_TIMEOUT;
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    gboolean gone;
    if (strcmp(reason, "suspend") == 0)
        return xen_domain_suspend(req, f);
    if (!xen_find(req->params, 1u << XEN_RUNNING | 1u << XEN_SHUTDOWN, &d, f) || !xen_op_begin(&op, req, f))
        return NULL;
    gboolean reboot = strcmp(reason, "reboot") == 0;
    if (!xen_ask_to_stop(&op, &d, reboot ? "reboot" : "poweroff", timeout, &gone, f))
        return NULL;
    if (gone && reboot) {
        fault_set(f, "VM_BAD_POWER_STATE", d.uuid, "running", "halted", NULL);
        return NULL;
    }
    return value_empty_map();
}
