/* xen_tune.c - what is set on a domain that runs: memory, virtual processors, their scheduling, keys. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <string.h>

#define TARGET_TIMEOUT   256             /* seconds that a guest has to reach its memory target */
#define TARGET_TOLERANCE (4 * KIB * KIB) /* pages that are not the balloon's */
#define TARGET_LOOK_MS   200             /* Xen does not say when memory changes */

static gboolean invalid_number(const char *key, gint64 n, struct fault *f)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, n);
    return fault_set(f, "INVALID_VALUE", key, text, NULL);
}

/* ---- memory ---- */

static gboolean check_target(const struct xen_domain *d, gint64 target, struct fault *f)
{
    gint64 maximum = xen_read_int(0, "/local/domain/%d/memory/static-max", d->domid) * KIB;
    gint64 more = target - (gint64) d->info.tot_pages * PAGE_BYTES, available = xen_memory_free();
    if (target <= 0 || (maximum > 0 && target > maximum))
        return invalid_number("target", target, f);
    if (more <= available)
        return TRUE;
    g_autofree char *a = g_strdup_printf("%" G_GINT64_FORMAT, more);
    g_autofree char *b = g_strdup_printf("%" G_GINT64_FORMAT, available);
    return fault_set(f, "HOST_NOT_ENOUGH_FREE_MEMORY", a, b, NULL);
}

static gboolean wait_for_target(struct helper_request *req, const struct xen_domain *d, gint64 target, struct fault *f)
{
    gint64 until = g_get_monotonic_time() + TARGET_TIMEOUT * G_TIME_SPAN_SECOND;
    for (;;) {
        struct xen_domain now;
        if (!xen_domain_by_id(d->domid, &now) || (1u << now.power & XEN_ALIVE) == 0)
            return fault_set(f, "VM_BAD_POWER_STATE", d->uuid, "running", "halted", NULL);
        if (ABS((gint64) now.info.tot_pages * PAGE_BYTES - target) <= TARGET_TOLERANCE)
            return TRUE;
        if (g_get_monotonic_time() >= until)
            return fault_set(f, "VM_MEMORY_TARGET_WAIT_TIMEOUT", d->uuid, NULL);
        if (!helper_sleep(req, TARGET_LOOK_MS))
            return fault_set(f, "TASK_CANCELLED", "", NULL);
    }
}

struct value *xen_set_memory_target(struct helper_request *req, struct fault *f)
{
    gint64 target = value_as_int(value_get(req->params, "target"));
    struct xen_domain d;
    {
        g_auto(xen_op) op = XEN_OP_INIT;
        if (!xen_find(req->params, XEN_ALIVE, &d, f) || !check_target(&d, target, f) || !xen_op_begin(&op, req, f))
            return NULL;
        int rc = libxl_set_memory_target(op.ctx, (guint32) d.domid, target / KIB, 0, 1);
        if (rc != 0) {
            xen_op_fault(&op, rc, d.uuid, "set_memory_target", f);
            return NULL;
        }
    }
    xen_watch_tell(d.domid);
    if (value_as_bool(value_get(req->params, "wait")) && !wait_for_target(req, &d, target, f))
        return NULL;
    return value_empty_map();
}

/* ---- virtual processors ---- */

struct value *xen_set_vcpus(struct helper_request *req, struct fault *f)
{
    gint64 vcpus = value_as_int(value_get(req->params, "vcpus"));
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    if (!xen_find(req->params, XEN_ALIVE, &d, f))
        return NULL;
    if (vcpus < 1 || vcpus > (gint64) d.info.max_vcpu_id + 1) {
        invalid_number("vcpus", vcpus, f);
        return NULL;
    }
    if (!xen_op_begin(&op, req, f))
        return NULL;
    libxl_bitmap map;
    libxl_bitmap_init(&map);
    int rc = libxl_cpu_bitmap_alloc(op.ctx, &map, (int) d.info.max_vcpu_id + 1);
    for (int i = 0; rc == 0 && i < vcpus; i++)
        libxl_bitmap_set(&map, i);
    if (rc == 0)
        rc = xen_op_wait(&op, libxl_set_vcpuonline(op.ctx, (guint32) d.domid, &map, xen_op_how(&op)), 0);
    libxl_bitmap_dispose(&map);
    xen_watch_tell(d.domid);
    return rc == 0 || xen_op_fault(&op, rc, d.uuid, "set_vcpuonline", f) ? value_empty_map() : NULL;
}

gboolean xen_affinity_fill(struct xen_op *op, struct value *cpus, libxl_bitmap *map, struct fault *f)
{
    int n = libxl_get_max_cpus(op->ctx);
    if (libxl_cpu_bitmap_alloc(op->ctx, map, 0) != 0)
        return fault_set(f, "INTERNAL_ERROR", "libxl_cpu_bitmap_alloc", NULL);
    if (value_count(cpus) == 0)
        libxl_bitmap_set_any(map);
    for (gsize i = 0; i < value_count(cpus); i++) {
        gint64 cpu = value_as_int(value_at(cpus, i));
        if (cpu < 0 || cpu >= n)
            return invalid_number("affinity", cpu, f);
        libxl_bitmap_set(map, (int) cpu);
    }
    return TRUE;
}

static gboolean set_affinity(struct xen_op *op, const struct xen_domain *d, struct value *affinity, struct fault *f)
{
    gboolean done = TRUE;
    for (guint i = 0; done && i <= d->info.max_vcpu_id; i++) {
        libxl_bitmap map;
        libxl_bitmap_init(&map);
        done = xen_affinity_fill(op, value_at(affinity, i), &map, f);
        int rc = done ? libxl_set_vcpuaffinity(op->ctx, (guint32) d->domid, i, &map, NULL) : 0;
        libxl_bitmap_dispose(&map);
        if (rc != 0)
            done = xen_op_fault(op, rc, d->uuid, "set_vcpuaffinity", f);
    }
    return done;
}

static gboolean set_share(struct xen_op *op, const struct xen_domain *d, struct value *params, struct fault *f)
{
    struct value *weight = value_get(params, "weight"), *cap = value_get(params, "cap");
    if (weight == NULL && cap == NULL)
        return TRUE;
    gint64 cap_max = ((gint64) d->info.max_vcpu_id + 1) * 100;
    if (weight != NULL && (value_as_int(weight) < 1 || value_as_int(weight) > 65535))
        return invalid_number("weight", value_as_int(weight), f);
    if (cap != NULL && (value_as_int(cap) < 0 || value_as_int(cap) > cap_max))
        return invalid_number("cap", value_as_int(cap), f);
    libxl_domain_sched_params s;
    libxl_domain_sched_params_init(&s);
    if (weight != NULL)
        s.weight = (int) value_as_int(weight);
    if (cap != NULL)
        s.cap = (int) value_as_int(cap);
    int rc = libxl_domain_sched_params_set(op->ctx, (guint32) d->domid, &s);
    libxl_domain_sched_params_dispose(&s);
    return rc == 0 || xen_op_fault(op, rc, d->uuid, "domain_sched_params_set", f);
}

struct value *xen_set_scheduler(struct helper_request *req, struct fault *f)
{
    struct value *affinity = value_get(req->params, "affinity");
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    if (!xen_find(req->params, XEN_ALIVE, &d, f) || !xen_op_begin(&op, req, f))
        return NULL;
    if (!set_share(&op, &d, req->params, f) || (affinity != NULL && !set_affinity(&op, &d, affinity, f)))
        return NULL;
    return value_empty_map();
}

/* ---- keys ---- */

struct value *xen_sysrq(struct helper_request *req, struct fault *f)
{
    const char *key = value_get_str(req->params, "key", "");
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    if (!xen_find(req->params, 1u << XEN_RUNNING, &d, f))
        return NULL;
    if (strlen(key) != 1) {
        fault_set(f, "INVALID_VALUE", "key", key, NULL);
        return NULL;
    }
    if (!xen_op_begin(&op, req, f))
        return NULL;
    int rc = libxl_send_sysrq(op.ctx, (guint32) d.domid, *key);
    return rc == 0 || xen_op_fault(&op, rc, d.uuid, "send_sysrq", f) ? value_empty_map() : NULL;
}

struct value *xen_trigger(struct helper_request *req, struct fault *f)
{
    const char *name = value_get_str(req->params, "trigger", "");
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    libxl_trigger trigger;
    if (!xen_find(req->params, 1u << XEN_RUNNING, &d, f))
        return NULL;
    if (libxl_trigger_from_string(name, &trigger) != 0 || trigger == LIBXL_TRIGGER_UNKNOWN) {
        fault_set(f, "INVALID_VALUE", "trigger", name, NULL);
        return NULL;
    }
    if ((d.info.flags & XEN_DOMINF_hvm_guest) == 0 && trigger != LIBXL_TRIGGER_NMI) {
        fault_set(f, "VM_HVM_REQUIRED", d.uuid, NULL);
        return NULL;
    }
    if (!xen_op_begin(&op, req, f))
        return NULL;
    int rc = libxl_send_trigger(op.ctx, (guint32) d.domid, trigger, 0, xen_op_how(&op));
    rc = xen_op_wait(&op, rc, 0);
    return rc == 0 || xen_op_fault(&op, rc, d.uuid, "send_trigger", f) ? value_empty_map() : NULL;
}
