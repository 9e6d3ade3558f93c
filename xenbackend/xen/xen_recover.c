/* xen_recover.c - what a helper that was killed left half done is finished or taken back. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "xenbackend/storage/storage.h"

#define SCRIPTS_TIMEOUT (60 * G_TIME_SPAN_SECOND)
#define STOP_TIMEOUT    (60 * G_TIME_SPAN_SECOND) /* for a guest that heard that it is to be suspended */
#define LOOK_MS         100
#define INTENTS         "/tool/xenapid/building"

/* ---- who did it ---- */

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

char *xen_mark(const char *what)
{
    return g_strdup_printf("%s %d %" G_GUINT64_FORMAT, what, getpid(), process_start(getpid()));
}

/* Is this mark of something that a process does which is not there any more? */
static gboolean was_cut_off(const char *mark, const char *what)
{
    int pid;
    unsigned long long start;
    if (mark == NULL || !g_str_has_prefix(mark, what))
        return FALSE;
    return sscanf(mark + strlen(what), " %d %llu", &pid, &start) != 2 || process_start(pid) != start;
}

/* ---- hotplug scripts ---- */

/* Is this process a script for one of the domain's devices? They are told by XENBUS_PATH=backend/CLASS/DOMID/DEVICE. */
static gboolean is_script_of(const char *process, int domid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/environ", process), *text = NULL;
    g_autofree char *wanted = g_strdup_printf("%d", domid);
    gsize len;
    if (!g_ascii_isdigit(*process) || !g_file_get_contents(path, &text, &len, NULL))
        return FALSE;
    for (const char *s = text; s < text + len; s += strlen(s) + 1) {
        const char *backend = g_str_has_prefix(s, "XENBUS_PATH=") ? strstr(s, "backend/") : NULL;
        if (backend == NULL)
            continue;
        g_auto(GStrv) steps = g_strsplit(backend, "/", -1);
        return g_strv_length(steps) > 2 && strcmp(steps[2], wanted) == 0;
    }
    return FALSE;
}

/* Scripts of the helper that was killed go on without it. What they make would be left over if it was looked for
 * before they have ended. */
static gboolean scripts_run(int domid)
{
    g_autoptr(GDir) dir = g_dir_open("/proc", 0, NULL);
    for (const char *name = NULL; dir != NULL && (name = g_dir_read_name(dir)) != NULL;)
        if (is_script_of(name, domid))
            return TRUE;
    return FALSE;
}

static void wait_for_scripts(int domid)
{
    gint64 until = g_get_monotonic_time() + SCRIPTS_TIMEOUT;
    while (scripts_run(domid) && g_get_monotonic_time() < until)
        g_usleep(LOOK_MS * 1000);
}

/* ---- domains ---- */

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

static gboolean is_suspended(const struct xen_domain *d)
{
    return d->power == XEN_SHUTDOWN && strcmp(d->reason, "suspend") == 0;
}

static void wake_up(const struct xen_domain *d)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    if (is_suspended(d) &&
        (!xen_op_begin(&op, NULL, NULL) ||
         xen_op_wait(&op, libxl_domain_resume(op.ctx, (guint32) d->domid, 1, xen_op_how(&op)), 0) != 0))
        g_warning("domain %d was being suspended and does not go on", d->domid);
    xen_write("ready", "/local/domain/%d/xenapid/state", d->domid);
    xen_watch_tell(d->domid);
}

/* A guest that did not hear the request yet is not to hear it any more; one that did is going to stop. */
static void wake_up_later(const struct xen_domain *d)
{
    gint64 until = g_get_monotonic_time() + STOP_TIMEOUT;
    struct xen_domain now = *d;
    g_autofree char *request = xen_read("/local/domain/%d/control/shutdown", d->domid);
    g_autofree char *mark = xen_mark("suspending");
    xen_write(mark, "/local/domain/%d/xenapid/state", d->domid);
    if (request != NULL && *request != '\0') {
        xen_write("", "/local/domain/%d/control/shutdown", d->domid);
        until = g_get_monotonic_time() + STOP_TIMEOUT / 10; /* it may just have read it */
    }
    while (xen_domain_by_id(d->domid, &now) && strcmp(now.uuid, d->uuid) == 0 && now.power == XEN_RUNNING &&
           g_get_monotonic_time() < until)
        g_usleep(LOOK_MS * 1000);
    if (xen_domain_by_id(d->domid, &now) && strcmp(now.uuid, d->uuid) == 0)
        wake_up(&now);
}

/* ---- devices ---- */

void xen_device_begin(int domid, const char *what, const char *class, const char *uuid, const char *device)
{
    g_autofree char *text = g_strdup_printf("%s %s %s", what, class, device), *mark = xen_mark(text);
    xen_write(mark, "/local/domain/%d/xenapid/doing/%s", domid, uuid);
}

void xen_device_end(int domid, const char *uuid)
{
    xen_remove("/local/domain/%d/xenapid/doing/%s", domid, uuid);
}

/* What was being plugged is taken away: nobody was told that it is there. What was being unplugged, too, for the guest
 * may have been told that it goes; a guest that does not give it back keeps it. */
static void remove_device(const struct xen_domain *d, const char *uuid, char *const *words)
{
    gboolean plug = strcmp(words[0], "plug") == 0;
    struct fault f = FAULT_INIT;
    g_message("domain %d: the %s of %s was cut off: it is removed", d->domid, words[0], words[2]);
    if (xen_device_remove(d, words[1], words[2], plug, uuid, &f)) {
        if (strcmp(words[1], "vif") == 0)
            xen_filter_remove(d->domid, (int) g_ascii_strtoll(words[2], NULL, 10));
        xen_remove("/local/domain/%d/xenapid/%s/%s", d->domid, words[1], uuid);
    } else {
        g_autofree char *text = fault_text(&f);
        g_warning("domain %d keeps %s: %s", d->domid, words[2], text);
    }
    fault_clear(&f);
    xen_device_end(d->domid, uuid);
    xen_watch_tell(d->domid);
}

/* The words of a mark that was left behind, or NULL: WHAT CLASS DEVICE PID START. */
static GStrv device_cut_off(int domid, const char *uuid)
{
    g_autofree char *text = xen_read("/local/domain/%d/xenapid/doing/%s", domid, uuid);
    g_auto(GStrv) words = g_strsplit(text != NULL ? text : "", " ", -1);
    if (g_strv_length(words) != 5)
        return NULL;
    g_autofree char *what = g_strjoin(" ", words[0], words[1], words[2], NULL);
    return was_cut_off(text, what) ? g_steal_pointer(&words) : NULL;
}

gboolean xen_device_wait(int domid, const char *uuid)
{
    gint64 until = g_get_monotonic_time() + SCRIPTS_TIMEOUT + STOP_TIMEOUT;
    gboolean waited = FALSE;
    while (storage_uuid_is_valid(uuid) && g_get_monotonic_time() < until) {
        g_auto(GStrv) words = device_cut_off(domid, uuid);
        if (words == NULL)
            break;
        waited = TRUE;
        g_usleep(LOOK_MS * 1000);
    }
    return waited;
}

static gboolean any_device_cut_off(int domid)
{
    g_auto(GStrv) uuids = xen_list("/local/domain/%d/xenapid/doing", domid);
    for (guint i = 0; uuids[i] != NULL; i++) {
        g_auto(GStrv) words = device_cut_off(domid, uuids[i]);
        if (words != NULL)
            return TRUE;
    }
    return FALSE;
}

static void recover_devices(const struct xen_domain *d)
{
    g_auto(GStrv) uuids = xen_list("/local/domain/%d/xenapid/doing", d->domid);
    for (guint i = 0; uuids[i] != NULL; i++) {
        g_auto(GStrv) words = device_cut_off(d->domid, uuids[i]);
        if (words != NULL)
            remove_device(d, uuids[i], words);
    }
}

/* ---- domains that nobody knows yet ---- */

void xen_building(const char *uuid, gboolean begins)
{
    g_autofree char *mark = xen_mark("building");
    if (begins)
        xen_write(mark, INTENTS "/%s", uuid);
    else
        xen_remove(INTENTS "/%s", uuid);
}

/* Between its creation and its first keys in xenstore a domain has nothing but its uuid. */
static gboolean was_just_born(const struct xen_domain *d)
{
    g_autofree char *mark = xen_read(INTENTS "/%s", d->uuid), *name = xen_read("/local/domain/%d/name", d->domid);
    return name == NULL && was_cut_off(mark, "building");
}

static void forget_intents(void)
{
    g_auto(GStrv) uuids = xen_list(INTENTS);
    for (guint i = 0; uuids[i] != NULL; i++) {
        g_autofree char *mark = xen_read(INTENTS "/%s", uuids[i]);
        if (was_cut_off(mark, "building"))
            xen_remove(INTENTS "/%s", uuids[i]);
    }
}

/* ---- all ---- */

static GArray *later; /* struct xen_domain: what may take a while */

static void recover_one(const struct xen_domain *d)
{
    g_autofree char *state = xen_read("/local/domain/%d/xenapid/state", d->domid);
    gboolean building = was_cut_off(state, "building") || (state == NULL && was_just_born(d));
    if (building || was_cut_off(state, "destroying")) {
        g_message("domain %d was being %s when its helper ended: it is removed", d->domid,
                  building ? "built" : "destroyed");
        if (!scripts_run(d->domid)) {
            end_domain(d);
            return;
        }
    } else if (was_cut_off(state, "suspending")) {
        g_message("domain %d was being suspended when its helper ended: it goes on", d->domid);
        if (is_suspended(d)) {
            wake_up(d);
            return;
        }
    } else if (!any_device_cut_off(d->domid)) {
        return;
    }
    g_array_append_val(later, *d);
}

static void *recover_later(void *data)
{
    g_autofree struct xen_domain *d = data;
    g_autofree char *state = xen_read("/local/domain/%d/xenapid/state", d->domid);
    wait_for_scripts(d->domid);
    if (was_cut_off(state, "building") || was_cut_off(state, "destroying"))
        end_domain(d);
    else if (was_cut_off(state, "suspending"))
        wake_up_later(d);
    recover_devices(d);
    return NULL;
}

void xen_recover(void)
{
    g_autoptr(GArray) all = xen_domains();
    later = g_array_new(FALSE, FALSE, sizeof(struct xen_domain));
    for (guint i = 0; all != NULL && i < all->len; i++) {
        const struct xen_domain *d = &g_array_index(all, struct xen_domain, i);
        if (d->domid != 0 && d->power != XEN_DYING)
            recover_one(d);
    }
    xen_filter_recover();
    forget_intents();
    xen_image_clean();
}

void xen_recover_rest(void)
{
    g_autoptr(GArray) all = g_steal_pointer(&later);
    for (guint i = 0; i < all->len; i++) {
        struct xen_domain *d = g_new(struct xen_domain, 1);
        *d = g_array_index(all, struct xen_domain, i);
        g_thread_unref(g_thread_new("recover", recover_later, d));
    }
}
