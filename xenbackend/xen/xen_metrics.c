/* xen_metrics.c - domain.metrics: what the hypervisor measures of one domain. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <string.h>

static struct value *flags_of(const libxl_vcpuinfo *v)
{
    struct value_builder b;
    value_builder_set(&b, NULL, 3);
    if (v->online)
        value_builder_add_string(&b, "online");
    if (v->blocked)
        value_builder_add_string(&b, "blocked");
    if (v->running)
        value_builder_add_string(&b, "running");
    return value_builder_end(&b);
}

static char *mask_text(const libxl_bitmap *map, int cpus)
{
    GString *text = g_string_new(NULL);
    for (int i = 0; i < cpus; i++)
        if (libxl_bitmap_test(map, i))
            g_string_append_printf(text, "%s%d", text->len > 0 ? "," : "", i);
    return g_string_free(text, FALSE);
}

static struct value *params_of(const libxl_vcpuinfo *v, int cpus, const libxl_domain_sched_params *s)
{
    struct value_builder b;
    g_autofree char *weight = g_strdup_printf("%d", s->weight), *cap = g_strdup_printf("%d", s->cap);
    g_autofree char *mask = mask_text(&v->cpumap, cpus);
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "weight", weight);
    value_builder_put_string(&b, "cap", cap);
    value_builder_put_string(&b, "mask", mask);
    return value_builder_end(&b);
}

static struct value *vcpus_of(struct xen_op *op, const struct xen_domain *d)
{
    struct value_builder set, b;
    libxl_domain_sched_params s;
    int n = 0, cpus = 0;
    libxl_domain_sched_params_init(&s);
    if (libxl_domain_sched_params_get(op->ctx, (guint32) d->domid, &s) != 0)
        s.weight = s.cap = 0;
    libxl_vcpuinfo *list = libxl_list_vcpu(op->ctx, (guint32) d->domid, &n, &cpus);
    value_builder_set(&set, NULL, (gsize) MAX(n, 0));
    for (int i = 0; list != NULL && i < n; i++) {
        value_builder_map(&b, NULL, 5);
        value_builder_put(&b, "number", value_int(NULL, list[i].vcpuid));
        value_builder_put(&b, "cpu", value_int(NULL, list[i].cpu));
        value_builder_put(&b, "utilisation", value_float(NULL, xen_usage_vcpu(d->domid, list[i].vcpuid)));
        value_builder_put(&b, "flags", flags_of(&list[i]));
        value_builder_put(&b, "params", params_of(&list[i], cpus, &s));
        value_builder_add(&set, value_builder_end(&b));
    }
    if (list != NULL)
        libxl_vcpuinfo_list_free(list, n);
    libxl_domain_sched_params_dispose(&s);
    return value_builder_end(&set);
}

struct value *xen_metrics(struct helper_request *req, struct fault *f)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    struct value_builder b, state;
    if (!xen_find(req->params, XEN_ANY | XEN_DOM0, &d, f) || !xen_op_begin(&op, req, f))
        return NULL;
    value_builder_set(&state, NULL, 1);
    value_builder_add_string(&state, xen_power_text(d.power));
    value_builder_map(&b, NULL, 8);
    value_builder_put(&b, "memory_actual", value_int(NULL, (gint64) d.info.tot_pages * PAGE_BYTES));
    value_builder_put(&b, "vcpus", vcpus_of(&op, &d));
    value_builder_put(&b, "state", value_builder_end(&state));
    value_builder_put(&b, "start_time", value_int(NULL, xen_start_time(&d)));
    value_builder_put(&b, "hvm", value_bool(strcmp(xen_type(&d), "hvm") == 0));
    value_builder_put(&b, "nested_virt", value_bool(FALSE));
    value_builder_put(&b, "nomigrate", value_bool(FALSE));
    return value_builder_end(&b);
}
