/* xen_start.c - building domains and ending them: domain.start, domain.reboot, domain.destroy. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <string.h>

#define DEFAULT_TIMEOUT 1200 /* seconds that a guest has to obey */

/* ---- one builder for a uuid ---- */

static GMutex lock;
static GHashTable *building; /* uuids */

static gboolean claim_uuid(const char *uuid, struct fault *f)
{
    struct xen_domain d;
    char domid[16] = "";
    g_mutex_lock(&lock);
    if (building == NULL)
        building = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    gboolean is_new = !g_hash_table_contains(building, uuid);
    if (is_new)
        g_hash_table_add(building, g_strdup(uuid));
    g_mutex_unlock(&lock);
    if (!is_new)
        return fault_set(f, "DOMAIN_EXISTS", uuid, "", NULL);
    if (!xen_domain_by_uuid(uuid, &d))
        return TRUE;
    g_mutex_lock(&lock);
    g_hash_table_remove(building, uuid);
    g_mutex_unlock(&lock);
    g_snprintf(domid, sizeof domid, "%d", d.domid);
    return fault_set(f, "DOMAIN_EXISTS", uuid, domid, NULL);
}

static void release_uuid(const char *uuid)
{
    g_mutex_lock(&lock);
    g_hash_table_remove(building, uuid);
    g_mutex_unlock(&lock);
}

/* ---- memory ---- */

static gboolean memory_fault(gint64 needed, struct fault *f)
{
    g_autofree char *a = g_strdup_printf("%" G_GINT64_FORMAT, needed);
    g_autofree char *b = g_strdup_printf("%" G_GINT64_FORMAT, xen_memory_free());
    return fault_set(f, "HOST_NOT_ENOUGH_FREE_MEMORY", a, b, NULL);
}

static gboolean check_memory(struct xen_op *op, libxl_domain_config *c, gint64 *needed, struct fault *f)
{
    guint64 kib = 0;
    int rc = libxl_domain_need_memory(op->ctx, c, INVALID_DOMID, &kib);
    if (rc != 0)
        return xen_build_fault(op, rc, "", "domain_need_memory", f);
    *needed = (gint64) kib * KIB;
    return *needed <= xen_memory_free() || memory_fault(*needed, f);
}

/* libxl says no more than that it failed when another domain was faster. */
static gboolean was_memory(const struct xen_op *op, int rc)
{
    return rc == ERROR_NOMEM || strstr(op->words->str, "laim memory") != NULL ||
           strstr(op->words->str, "Cannot allocate memory") != NULL;
}

/* ---- building ---- */

static int create(struct xen_op *op, libxl_domain_config *c, int fd, guint32 *domid)
{
    if (fd < 0)
        return xen_op_wait(op, libxl_domain_create_new(op->ctx, c, domid, xen_op_how(op), NULL), 0);
    libxl_domain_restore_params params;
    libxl_domain_restore_params_init(&params);
    params.stream_version = 2;
    int rc = libxl_domain_create_restore(op->ctx, c, domid, fd, -1, &params, xen_op_how(op), NULL);
    rc = xen_op_wait(op, rc, 0);
    libxl_domain_restore_params_dispose(&params);
    return rc;
}

/* Is this domain, found by the uuid that is being built, the one that we have begun? */
static gboolean is_of_our_making(const struct xen_domain *d)
{
    g_autofree char *state = xen_read("/local/domain/%d/xenapid/state", d->domid), *mark = xen_mark("building");
    g_autofree char *name = xen_read("/local/domain/%d/name", d->domid);
    return state != NULL ? strcmp(state, mark) == 0 : name == NULL;
}

/* What comes after libxl's building is ours to take back. What libxl built it takes back itself when that fails, but
 * not all of it when it is told to stop. Nothing stops this one, so it is none of the request's. */
static void take_back(const char *uuid)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    struct fault f = FAULT_INIT;
    struct xen_domain d;
    if (!xen_domain_by_uuid(uuid, &d) || !is_of_our_making(&d))
        return;
    if (!xen_op_begin(&op, NULL, &f) || !xen_destroy(&op, &d, &f)) {
        g_autofree char *text = fault_text(&f);
        g_warning("domain %d, whose start has failed, is left over: %s", d.domid, text);
    }
    fault_clear(&f);
    xen_filter_forget(d.domid);
}

/* The guest does not run yet: nothing passes before its rules hold. */
static gboolean lock_nics(struct value *config, guint32 domid, struct fault *f)
{
    struct value *vifs = value_get(config, "vifs");
    for (gsize i = 0; i < value_count(vifs); i++) {
        struct value *vif = value_at(vifs, i);
        if (!xen_nic_filter((int) domid, vif, f) || (xen_nic_is_disabled(vif) && !xen_nic_lock((int) domid, vif, f)))
            return FALSE;
    }
    return TRUE;
}

static gboolean bring_to_life(struct xen_op *op, struct value *config, guint32 domid, gboolean paused, struct fault *f)
{
    if (helper_cancelled(op->req))
        return fault_set(f, "TASK_CANCELLED", "", NULL);
    gboolean hvm = strcmp(value_get_str(config, "type", ""), "hvm") == 0;
    if (!lock_nics(config, domid, f) || (hvm && !xen_drives_empty(op, config, domid, f)))
        return FALSE;
    int rc = paused ? 0 : xen_op_wait(op, libxl_domain_unpause(op->ctx, domid, xen_op_how(op)), 0);
    if (rc != 0)
        return xen_build_fault(op, rc, value_get_str(config, "uuid", ""), "domain_unpause", f);
    return xen_write("ready", "/local/domain/%u/xenapid/state", domid) ||
           fault_set(f, "INTERNAL_ERROR", "xenstore cannot be written", NULL);
}

static gboolean build(struct xen_op *op, struct value *config, int fd, gboolean paused, guint32 *domid, struct fault *f)
{
    libxl_domain_config c;
    const char *uuid = value_get_str(config, "uuid", "");
    gint64 needed = 0;
    gboolean ready = xen_config_fill(op, config, fd < 0, &c, f) && check_memory(op, &c, &needed, f);
    int rc = ready ? create(op, &c, fd, domid) : 0;
    libxl_domain_config_dispose(&c);
    if (!ready)
        return FALSE;
    if (rc == 0 && bring_to_life(op, config, *domid, paused, f))
        return TRUE;
    take_back(uuid);
    if (rc == 0)
        return FALSE;
    return rc != ERROR_ABORTED && was_memory(op, rc)
               ? memory_fault(needed, f)
               : xen_build_fault(op, rc, uuid, fd < 0 ? "domain_create_new" : "domain_create_restore", f);
}

static struct value *started(guint32 domid)
{
    struct xen_domain d;
    struct value_builder b;
    gboolean there = xen_domain_by_id((int) domid, &d);
    value_builder_map(&b, NULL, 2);
    value_builder_put(&b, "domid", value_int(NULL, domid));
    value_builder_put(&b, "state", there ? xen_state(&d, TRUE) : value_empty_map());
    return value_builder_end(&b);
}

struct value *xen_build(struct helper_request *req, struct value *config, int fd, gboolean paused, struct fault *f)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    const char *uuid = value_get_str(config, "uuid", "");
    guint32 domid = (guint32) INVALID_DOMID;
    if (!claim_uuid(uuid, f))
        return NULL;
    xen_building(uuid, TRUE);
    gboolean built = xen_op_begin(&op, req, f) && build(&op, config, fd, paused, &domid, f);
    xen_building(uuid, FALSE);
    release_uuid(uuid);
    if (!built)
        return NULL;
    xen_watch_tell((int) domid);
    return started(domid);
}

struct value *xen_domain_start(struct helper_request *req, struct fault *f)
{
    struct value *config = value_get(req->params, "config");
    return xen_build(req, config, -1, value_as_bool(value_get(config, "paused")), f);
}

/* ---- ending ---- */

gboolean xen_destroy(struct xen_op *op, const struct xen_domain *d, struct fault *f)
{
    g_autofree char *mark = xen_mark("destroying");
    if (xen_is_ours(d->domid)) /* so that it is finished if we are not there to do it */
        xen_write(mark, "/local/domain/%d/xenapid/state", d->domid);
    int rc = xen_op_wait(op, libxl_domain_destroy(op->ctx, (guint32) d->domid, xen_op_how(op)), 0);
    if (rc == 0)
        xen_filter_forget(d->domid);
    xen_watch_tell(d->domid);
    return rc == 0 || rc == ERROR_DOMAIN_NOTFOUND || xen_op_fault(op, rc, d->uuid, "domain_destroy", f);
}

/* It cannot be cancelled: half of it would be no use. */
static gboolean destroy_domain(const struct xen_domain *d, struct fault *f)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    if (d->domid == 0)
        return fault_set(f, "OPERATION_NOT_ALLOWED", "This is the control domain", NULL);
    if (!xen_op_begin(&op, NULL, f))
        return FALSE;
    xen_watch_expect(d->uuid, "destroyed");
    return xen_destroy(&op, d, f);
}

struct value *xen_domain_destroy(struct helper_request *req, struct fault *f)
{
    const char *uuid = value_get_str(req->params, "uuid", ""), *image = value_get_str(req->params, "path", "");
    struct xen_domain d;
    if (xen_domain_by_uuid(uuid, &d) && !destroy_domain(&d, f))
        return NULL;
    if (*image != '\0' && !xen_image_remove(image, uuid, f))
        return NULL;
    return value_empty_map();
}

/* ---- again ---- */

struct value *xen_domain_reboot(struct helper_request *req, struct fault *f)
{
    struct value *config = value_get(req->params, "config"), *limit = value_get(req->params, "timeout");
    gboolean clean = value_as_bool(value_get(req->params, "clean")), gone = FALSE;
    struct xen_domain d;
    if (!xen_find(config, XEN_ANY, &d, f))
        return NULL;
    {
        g_auto(xen_op) op = XEN_OP_INIT;
        if (!xen_op_begin(&op, req, f))
            return NULL;
        if (clean &&
            !xen_ask_to_stop(&op, &d, "reboot", limit != NULL ? value_as_int(limit) : DEFAULT_TIMEOUT, &gone, f))
            return NULL;
        if (gone) {
            fault_set(f, "VM_BAD_POWER_STATE", d.uuid, "running", "halted", NULL);
            return NULL;
        }
    }
    {
        g_auto(xen_op) op = XEN_OP_INIT; /* not the request's: half of it would be no use */
        if (!xen_op_begin(&op, NULL, f))
            return NULL;
        xen_watch_expect(d.uuid, "reboot");
        if (!xen_destroy(&op, &d, f))
            return NULL;
    }
    return xen_build(req, config, -1, value_as_bool(value_get(config, "paused")), f);
}
