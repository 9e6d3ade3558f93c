/* xen_recover.c - what a helper that was killed left half done is finished or taken back. */
#include "config.h"
#include "xenbackend/xen.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* When the process began, in clock ticks since boot: with its number, it is told from a later one of the same number.
 * 0: there is none. */
static guint64 process_start(int pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid), *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    const char *rest = strrchr(text, ')'); /* the name before it may hold anything */
    g_auto(GStrv) fields = g_strsplit(rest != NULL ? rest + 1 : "", " ", -1);
    return g_strv_length(fields) > 20 ? g_ascii_strtoull(fields[20], NULL, 10) : 0;
}

char *xen_building_mark(void)
{
    return g_strdup_printf("building %d %" G_GUINT64_FORMAT, getpid(), process_start(getpid()));
}

static gboolean builder_lives(const char *mark)
{
    int pid;
    unsigned long long start;
    return sscanf(mark, "building %d %llu", &pid, &start) == 2 && process_start(pid) == start;
}

static void end_domain(const struct xen_domain *d)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    struct fault f = FAULT_INIT;
    if (!xen_op_begin(&op, NULL, &f) || !xen_destroy(&op, d, &f)) {
        g_autofree char *text = fault_text(&f);
        g_warning("domain %d is left over: %s", d->domid, text);
    }
    fault_clear(&f);
}

static void wake_up(const struct xen_domain *d)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    guint32 domid = (guint32) d->domid;
    if (!xen_op_begin(&op, NULL, NULL))
        return;
    if (d->power == XEN_SHUTDOWN && strcmp(d->reason, "suspend") == 0)
        xen_op_wait(&op, libxl_domain_resume(op.ctx, domid, 1, xen_op_how(&op)), 0);
    xen_write("ready", "/local/domain/%u/xenapid/state", domid);
}

static void recover_one(const struct xen_domain *d)
{
    g_autofree char *state = xen_read("/local/domain/%d/xenapid/state", d->domid);
    if (state == NULL)
        return;
    if (g_str_has_prefix(state, "building") && !builder_lives(state)) {
        g_message("domain %d was being built when its builder ended: it is removed", d->domid);
        end_domain(d);
    } else if (strcmp(state, "destroying") == 0) {
        g_message("domain %d was being destroyed: this is finished", d->domid);
        end_domain(d);
    } else if (strcmp(state, "suspending") == 0) {
        g_message("domain %d was being suspended: it goes on", d->domid);
        wake_up(d);
    }
}

void xen_recover(void)
{
    g_autoptr(GArray) all = xen_domains();
    for (guint i = 0; all != NULL && i < all->len; i++) {
        const struct xen_domain *d = &g_array_index(all, struct xen_domain, i);
        if (d->domid != 0)
            recover_one(d);
    }
    xen_filter_recover();
    xen_image_clean();
}
