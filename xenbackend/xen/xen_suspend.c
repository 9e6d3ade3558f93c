/* xen_suspend.c - domains to files and back: domain.suspend, domain.resume. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <string.h>

#define DEFAULT_TIMEOUT 1200

/* ---- suspend ---- */

static gboolean suspend_fault(struct xen_op *op, int rc, const struct xen_domain *d, gint64 timeout, struct fault *f)
{
    g_autofree char *seconds = g_strdup_printf("%" G_GINT64_FORMAT, timeout);
    if (strstr(op->words->str, "acknowledge") != NULL)
        return fault_set(f, "VM_FAILED_SUSPEND_ACKNOWLEDGMENT", d->uuid, NULL);
    if (rc == ERROR_TIMEDOUT || rc == ERROR_GUEST_TIMEDOUT)
        return fault_set(f, "VM_SUSPEND_TIMEOUT", d->uuid, seconds, NULL);
    return xen_op_fault(op, rc, d->uuid, "domain_suspend", f);
}

/* The guest goes on as if nothing had been asked. */
static void go_on(const struct xen_domain *d)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain now;
    if (!xen_domain_by_id(d->domid, &now) || strcmp(now.uuid, d->uuid) != 0)
        return;
    if (now.power == XEN_SHUTDOWN && strcmp(now.reason, "suspend") == 0 && xen_op_begin(&op, NULL, NULL) &&
        xen_op_wait(&op, libxl_domain_resume(op.ctx, (guint32) d->domid, 1, xen_op_how(&op)), 0) != 0)
        g_warning("domain %d was suspended and does not go on", d->domid);
    if (xen_is_ours(d->domid))
        xen_write("ready", "/local/domain/%d/xenapid/state", d->domid);
    xen_watch_tell(d->domid);
}

static gboolean save(struct xen_op *op, const struct xen_domain *d, struct xen_image *image, gint64 timeout,
                     gint64 *size, struct fault *f)
{
    gint64 until = g_get_monotonic_time() + CLAMP(timeout, 0, G_MAXINT32) * G_TIME_SPAN_SECOND;
    int rc = libxl_domain_suspend(op->ctx, (guint32) d->domid, image->fd, 0, xen_op_how(op));
    rc = xen_op_wait(op, rc, until);
    if (rc != 0)
        return suspend_fault(op, rc, d, timeout, f);
    return xen_image_commit(image, size, f);
}

struct value *xen_domain_suspend(struct helper_request *req, struct fault *f)
{
    struct value *limit = value_get(req->params, "timeout");
    gint64 timeout = limit != NULL ? value_as_int(limit) : DEFAULT_TIMEOUT, size = 0;
    g_auto(xen_image) image = XEN_IMAGE_INIT;
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    if (!xen_find(req->params, 1u << XEN_RUNNING, &d, f) || !xen_image_create(&image, req->params, d.uuid, f) ||
        !xen_op_begin(&op, req, f))
        return NULL;
    g_autofree char *mark = xen_mark("suspending");
    if (xen_is_ours(d.domid))
        xen_write(mark, "/local/domain/%d/xenapid/state", d.domid);
    op.to = 0.95;
    if (!save(&op, &d, &image, timeout, &size, f)) {
        go_on(&d);
        return NULL;
    }
    /* From here on the file is the VM: nothing can fail that would matter. */
    struct fault ignored = FAULT_INIT;
    g_auto(xen_op) last = XEN_OP_INIT;
    xen_watch_expect(d.uuid, "suspend");
    if (!xen_op_begin(&last, NULL, &ignored) || !xen_destroy(&last, &d, &ignored))
        g_warning("domain %d is saved but cannot be destroyed", d.domid);
    fault_clear(&ignored);
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "size", value_int(NULL, size));
    return value_builder_end(&b);
}

/* ---- resume ---- */

struct value *xen_domain_resume(struct helper_request *req, struct fault *f)
{
    struct value *config = value_get(req->params, "config");
    g_auto(xen_image) image = XEN_IMAGE_INIT;
    const char *uuid = value_get_str(config, "uuid", "");
    /* One in a VDI may have been saved under another name. */
    const char *saved_as =
        *value_get_str(req->params, "path", "") == '\0' ? value_get_str(req->params, "saved_as", uuid) : uuid;
    if (!xen_image_open(&image, req->params, saved_as, f))
        return NULL;
    return xen_build(req, config, image.fd, value_as_bool(value_get(req->params, "paused")), f);
}
