/* storage.c - the attached SRs of this helper, and the handlers of sr.* and vdi.*. */
#include "config.h"
#include "xenbackend/storage/storage_cbt.h"
#include "xenbackend/storage/storage_plugin.h"

#include <fcntl.h>
#include <string.h>
#include <sys/random.h>

static const struct storage_driver *const drivers[] = {&storage_file_driver, &storage_iso_driver, &storage_nfs_driver,
                                                       &storage_lvm_driver};

char *storage_runtime_dir, *storage_sm_dir, *storage_plugin_dir;
_Thread_local const struct storage_driver *storage_driver_now;

static struct {
    GMutex lock; /* guards the table and each SR's users and leaving */
    GCond idle;  /* an SR lost a user, or one left the table */
    GHashTable *srs;
    GHashTable *attaching; /* uuids: an attach runs without the lock */
} table;

/* ---- small things ---- */

gboolean storage_uuid_is_valid(const char *text)
{
    if (text == NULL || strlen(text) != STORAGE_UUID_LEN)
        return FALSE;
    for (int i = 0; i < STORAGE_UUID_LEN; i++) {
        gboolean dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !g_ascii_isxdigit(text[i]))
            return FALSE;
    }
    return TRUE;
}

void storage_uuid_format(const guint8 bytes[16], int version, char uuid[STORAGE_UUID_LEN + 1])
{
    guint8 b[16];
    memcpy(b, bytes, sizeof(b));
    b[6] = (guint8) ((b[6] & 0x0f) | version << 4);
    b[8] = (guint8) ((b[8] & 0x3f) | 0x80);
    g_snprintf(uuid, STORAGE_UUID_LEN + 1, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
               b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

/* The kernel's randomness: GLib's generator gives a forked process the same sequence. */
void storage_uuid_new(char uuid[STORAGE_UUID_LEN + 1])
{
    guint8 bytes[16];
    while (getrandom(bytes, sizeof(bytes), 0) != (gssize) sizeof(bytes))
        continue;
    storage_uuid_format(bytes, 4, uuid);
}

void storage_vdi_clear(struct storage_vdi *v)
{
    g_clear_pointer(&v->location, g_free);
    g_clear_pointer(&v->sm_config, value_unref);
}

void storage_vdi_free(struct storage_vdi *v)
{
    if (v == NULL)
        return;
    storage_vdi_clear(v);
    g_free(v);
}

static void sr_free(struct storage_sr *s)
{
    if (s == NULL)
        return;
    g_free(s->uuid);
    value_unref(s->device_config);
    g_free(s);
}

/* Our own come first. */
static const struct storage_driver *find_driver(const char *type, struct fault *f)
{
    const struct storage_driver *d = NULL;
    for (gsize i = 0; d == NULL && i < G_N_ELEMENTS(drivers); i++)
        if (strcmp(drivers[i]->type, type) == 0)
            d = drivers[i];
    d = d != NULL ? d : plugin_find(type);
    if (d == NULL)
        fault_set(f, "SR_UNKNOWN_DRIVER", type, NULL);
    storage_driver_now = d;
    return d;
}

static void table_init(void)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        table.srs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) sr_free);
        table.attaching = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_once_init_leave(&once, 1);
    }
}

struct storage_sr *storage_sr_get(const char *uuid, struct fault *f)
{
    table_init();
    g_mutex_lock(&table.lock);
    struct storage_sr *s = g_hash_table_lookup(table.srs, uuid);
    if (s != NULL && s->leaving)
        s = NULL;
    if (s != NULL)
        s->users++;
    g_mutex_unlock(&table.lock);
    if (s == NULL)
        fault_set(f, "SR_NOT_ATTACHED", uuid, NULL);
    return s;
}

void storage_sr_put(struct storage_sr *s)
{
    if (s == NULL)
        return;
    g_mutex_lock(&table.lock);
    if (--s->users == 0)
        g_cond_broadcast(&table.idle);
    g_mutex_unlock(&table.lock);
}

gboolean storage_unsupported(const char *sr, struct fault *f)
{
    return fault_set(f, "SR_OPERATION_NOT_SUPPORTED", sr, NULL);
}

/* ---- parameters ---- */

static const char *str(const struct helper_request *req, const char *key)
{
    return value_get_str(req->params, key, "");
}

const char *storage_uuid_param(const struct helper_request *req, const char *key, struct fault *f)
{
    const char *uuid = str(req, key);
    if (storage_uuid_is_valid(uuid))
        return uuid;
    fault_set(f, "UUID_INVALID", strcmp(key, "sr") == 0 ? "SR" : "VDI", uuid, NULL);
    return NULL;
}

static struct value *device_config(const struct helper_request *req)
{
    struct value *v = value_get(req->params, "device_config");
    return v != NULL ? v : value_empty_map();
}

static void job_progress(double fraction, void *data)
{
    helper_progress(data, fraction);
}

static struct storage_job job_of(struct helper_request *req)
{
    return (struct storage_job){.cancel = &req->cancel, .progress = job_progress, .data = req};
}

void storage_init(const struct conf *c)
{
    storage_runtime_dir = g_canonicalize_filename(c->runtime_dir, NULL);
    storage_sm_dir = g_strdup(c->storage_sm_dir);
    storage_plugin_dir = g_strdup(c->storage_plugin_dir);
    cbt_init(c->state_dir);
}

struct value *storage_sm_config(void)
{
    const struct helper_request *req = helper_current();
    struct value *v = req != NULL ? value_get(req->params, "sm_config") : NULL;
    return v != NULL ? v : value_empty_map();
}

/* ---- results ---- */

struct value *storage_vdi_value(const struct storage_vdi *v, gboolean recorded)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 8);
    value_builder_put_string(&b, "vdi", v->uuid);
    value_builder_put_string(&b, "location", v->location);
    if (!recorded) {
        value_builder_put(&b, "virtual_size", value_int(NULL, v->virtual_size));
        value_builder_put(&b, "physical_utilisation", value_int(NULL, v->physical_utilisation));
    }
    value_builder_put_string(&b, "type", v->type);
    value_builder_put(&b, "read_only", value_bool(v->read_only));
    value_builder_put_string(&b, "parent", v->parent);
    value_builder_put(&b, "sm_config", v->sm_config != NULL ? value_ref(v->sm_config) : value_empty_map());
    return value_builder_end(&b);
}

static void put_space(struct value_builder *b, const struct storage_space *space)
{
    value_builder_put(b, "physical_size", value_int(NULL, space->physical_size));
    value_builder_put(b, "physical_utilisation", value_int(NULL, space->physical_utilisation));
    value_builder_put(b, "virtual_allocation", value_int(NULL, space->virtual_allocation));
}

void storage_tell_space(struct storage_sr *s)
{
    struct storage_space space;
    struct fault f = FAULT_INIT;
    if (!s->driver->keeps_records && s->driver->stat(s->sr, &space, &f)) {
        struct value_builder b;
        value_builder_map(&b, NULL, 4);
        value_builder_put_string(&b, "sr", s->uuid);
        put_space(&b, &space);
        g_autoptr(value) params = value_builder_end(&b);
        helper_notify("sr.changed", params, NULL, 0);
    }
    fault_clear(&f);
}

struct value *storage_vdi_done(struct storage_sr *s, gboolean done, struct storage_vdi *v)
{
    struct value *answer = NULL;
    if (done) {
        answer = storage_vdi_value(v, s->driver->keeps_records);
        storage_tell_space(s);
    }
    storage_vdi_clear(v);
    return answer;
}

/* ---- sr.* ---- */

/* What the driver can do, and what it can do here while guests use its images. */
static struct value *capabilities(const struct storage_driver *d)
{
    struct value_builder b;
    value_builder_set(&b, NULL, 24);
    for (const char *const *p = d->capabilities; *p != NULL; p++)
        value_builder_add_string(&b, *p);
    if (storage_changes_live && d->vdi_resize != NULL)
        value_builder_add_string(&b, "VDI_RESIZE_ONLINE");
    if (storage_changes_live && d->vdi_copy != NULL)
        value_builder_add_string(&b, "VDI_MIRROR");
    return value_builder_end(&b);
}

static struct value *driver_value(const struct storage_driver *d)
{
    struct value_builder b, keys;
    value_builder_map(&keys, NULL, 4);
    for (const char *const *p = d->configuration; p[0] != NULL; p += 2)
        value_builder_put_string(&keys, p[0], p[1]);
    value_builder_map(&b, NULL, 12);
    value_builder_put_string(&b, "type", d->type);
    value_builder_put_string(&b, "name", d->name);
    value_builder_put_string(&b, "description", d->description);
    value_builder_put_string(&b, "vendor", d->vendor != NULL ? d->vendor : "xenapid");
    value_builder_put_string(&b, "copyright", d->copyright != NULL ? d->copyright : "");
    value_builder_put_string(&b, "driver_version", d->version != NULL ? d->version : PACKAGE_VERSION);
    value_builder_put_string(&b, "required_api_version", d->api_version != NULL ? d->api_version : "1.0");
    value_builder_put_string(&b, "driver_filename", d->filename != NULL ? d->filename : "");
    value_builder_put(&b, "capabilities", capabilities(d));
    value_builder_put(&b, "configuration", value_builder_end(&keys));
    struct value_builder features;
    value_builder_map(&features, NULL, 24);
    g_autoptr(value) all = capabilities(d);
    for (gsize i = 0; i < value_count(all); i++) { /* NAME or NAME/VERSION */
        const char *text = value_str(value_at(all, i));
        g_autofree char *name = g_strndup(text, strcspn(text, "/"));
        const char *version = strchr(text, '/');
        if (!value_builder_has(&features, name))
            value_builder_put(&features, name,
                              value_int(NULL, version != NULL ? g_ascii_strtoll(version + 1, NULL, 10) : 1));
    }
    value_builder_put(&b, "features", value_builder_end(&features));
    return value_builder_end(&b);
}

static struct value *sr_drivers(struct helper_request *req G_GNUC_UNUSED, struct fault *f G_GNUC_UNUSED)
{
    struct value_builder set, b;
    plugins_look();
    g_autoptr(GPtrArray) plugins = plugins_all();
    value_builder_set(&set, NULL, G_N_ELEMENTS(drivers) + plugins->len);
    for (gsize i = 0; i < G_N_ELEMENTS(drivers); i++)
        value_builder_add(&set, driver_value(drivers[i]));
    for (guint i = 0; i < plugins->len; i++) {
        const struct storage_driver *d = &((struct plugin *) plugins->pdata[i])->driver;
        if (find_driver(d->type, NULL) == d) /* others of the same type do not count */
            value_builder_add(&set, driver_value(d));
    }
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "drivers", value_builder_end(&set));
    return value_builder_end(&b);
}

/* Takes over v. */
static struct value *one_member(const char *key, struct value *v)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, key, v);
    return value_builder_end(&b);
}

static struct value *sr_create(struct helper_request *req, struct fault *f)
{
    const char *uuid = storage_uuid_param(req, "sr", f);
    const struct storage_driver *d = find_driver(str(req, "type"), f);
    if (uuid == NULL || d == NULL)
        return NULL;
    if (d->create == NULL)
        storage_unsupported(uuid, f);
    else if (d->create(uuid, device_config(req), value_as_int(value_get(req->params, "size")), f)) {
        struct value *config = plugin_take_config();
        return config != NULL ? one_member("device_config", config) : value_empty_map();
    }
    return NULL;
}

static struct value *sr_destroy(struct helper_request *req, struct fault *f)
{
    const char *uuid = storage_uuid_param(req, "sr", f);
    const struct storage_driver *d = find_driver(str(req, "type"), f);
    if (uuid == NULL || d == NULL)
        return NULL;
    if (d->destroy == NULL)
        storage_unsupported(uuid, f);
    else if (d->destroy(uuid, device_config(req), f)) {
        cbt_forget_all(uuid);
        return value_empty_map();
    }
    return NULL;
}

/* Waits for a turn at uuid; TRUE when it is attached already. A detach or another attach under way is awaited. */
static gboolean attach_begin(const char *uuid)
{
    gboolean there = FALSE;
    g_mutex_lock(&table.lock);
    for (;;) {
        struct storage_sr *s = g_hash_table_lookup(table.srs, uuid);
        there = s != NULL && !s->leaving;
        if (there || (s == NULL && !g_hash_table_contains(table.attaching, uuid)))
            break;
        g_cond_wait(&table.idle, &table.lock);
    }
    if (!there)
        g_hash_table_add(table.attaching, g_strdup(uuid));
    g_mutex_unlock(&table.lock);
    return there;
}

/* s is NULL when it failed. */
static void attach_end(const char *uuid, struct storage_sr *s)
{
    g_mutex_lock(&table.lock);
    g_hash_table_remove(table.attaching, uuid);
    if (s != NULL)
        g_hash_table_replace(table.srs, s->uuid, s);
    g_cond_broadcast(&table.idle);
    g_mutex_unlock(&table.lock);
}

static struct value *sr_attach(struct helper_request *req, struct fault *f)
{
    const char *uuid = storage_uuid_param(req, "sr", f);
    const struct storage_driver *d = find_driver(str(req, "type"), f);
    if (uuid == NULL || d == NULL)
        return NULL;
    table_init();
    if (attach_begin(uuid)) {
        g_autoptr(storage_sr) s = storage_sr_get(uuid, NULL);
        if (s != NULL && s->driver->attached_again != NULL)
            s->driver->attached_again(s->sr);
        return value_empty_map();
    }
    void *sr = d->attach(uuid, device_config(req), f);
    struct storage_sr *s = NULL;
    if (sr != NULL) {
        s = g_new0(struct storage_sr, 1);
        s->uuid = g_strdup(uuid);
        s->driver = d;
        s->device_config = value_ref(device_config(req));
        s->sr = sr;
    }
    attach_end(uuid, s);
    return s != NULL ? value_empty_map() : NULL;
}

/* The idle condition's wait, awake often enough to see a cancel. Called with the lock. */
static void wait_idle(void)
{
    g_cond_wait_until(&table.idle, &table.lock, g_get_monotonic_time() + 100 * G_TIME_SPAN_MILLISECOND);
}

static struct value *sr_detach(struct helper_request *req, struct fault *f)
{
    const char *uuid = storage_uuid_param(req, "sr", f);
    if (uuid == NULL)
        return NULL;
    table_init();
    g_mutex_lock(&table.lock);
    struct storage_sr *s = g_hash_table_lookup(table.srs, uuid);
    if (s == NULL || s->leaving) { /* not attached is what was asked for */
        g_mutex_unlock(&table.lock);
        return value_empty_map();
    }
    s->leaving = TRUE;
    storage_stop_coalescing(s);
    while (s->users > 0 && !helper_cancelled(req))
        wait_idle();
    gboolean left = s->users == 0;
    if (!left)
        s->leaving = FALSE;
    g_mutex_unlock(&table.lock);
    if (!left) {
        fault_set(f, "TASK_CANCELLED", "", NULL);
        return NULL;
    }
    s->driver->detach(s->sr);
    g_mutex_lock(&table.lock);
    g_hash_table_remove(table.srs, uuid);
    g_cond_broadcast(&table.idle);
    g_mutex_unlock(&table.lock);
    return value_empty_map();
}

static struct value *sr_scan(struct helper_request *req, struct fault *f)
{
    g_autoptr(storage_sr) s = storage_sr_get(str(req, "sr"), f);
    if (s == NULL)
        return NULL;
    g_autoptr(GPtrArray) vdis = g_ptr_array_new_with_free_func((GDestroyNotify) storage_vdi_free);
    struct storage_space space;
    if (!s->driver->scan(s->sr, vdis, f))
        return NULL;
    if (s->driver->keeps_records)
        return one_member("recorded", value_bool(TRUE));
    if (!s->driver->stat(s->sr, &space, f))
        return NULL;
    struct value_builder set, b;
    value_builder_set(&set, NULL, vdis->len);
    for (guint i = 0; i < vdis->len; i++)
        value_builder_add(&set, storage_vdi_value(vdis->pdata[i], FALSE));
    value_builder_map(&b, NULL, 4);
    value_builder_put(&b, "vdis", value_builder_end(&set));
    put_space(&b, &space);
    if (storage_may_coalesce(s))
        value_builder_put(&b, "coalesce", value_bool(TRUE));
    return value_builder_end(&b);
}

static struct value *sr_stat(struct helper_request *req, struct fault *f)
{
    g_autoptr(storage_sr) s = storage_sr_get(str(req, "sr"), f);
    struct storage_space space;
    if (s == NULL || !s->driver->stat(s->sr, &space, f))
        return NULL;
    if (s->driver->keeps_records)
        return one_member("recorded", value_bool(TRUE));
    struct value_builder b;
    value_builder_map(&b, NULL, 3);
    put_space(&b, &space);
    return value_builder_end(&b);
}

static struct value *sr_probe(struct helper_request *req, struct fault *f)
{
    const struct storage_driver *d = find_driver(str(req, "type"), f);
    if (d == NULL)
        return NULL;
    struct value_builder set, b;
    value_builder_set(&set, NULL, 1);
    if (d->probe != NULL && !d->probe(device_config(req), &set, f)) {
        value_builder_clear(&set);
        return NULL;
    }
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "srs", value_builder_end(&set));
    return value_builder_end(&b);
}

/* ---- vdi.* ---- */

static struct value *vdi_create(struct helper_request *req, struct fault *f)
{
    const char *vdi = storage_uuid_param(req, "vdi", f);
    g_autoptr(storage_sr) s = vdi != NULL ? storage_sr_get(str(req, "sr"), f) : NULL;
    if (s == NULL)
        return NULL;
    struct value *sm_config = value_get(req->params, "sm_config");
    struct storage_vdi out = {0};
    gboolean done = s->driver->vdi_create != NULL
                        ? s->driver->vdi_create(s->sr, vdi, value_as_int(value_get(req->params, "virtual_size")),
                                                value_get_str(req->params, "type", ""),
                                                sm_config != NULL ? sm_config : value_empty_map(), &out, f)
                        : storage_unsupported(s->uuid, f);
    return storage_vdi_done(s, done, &out);
}

/* keeps_log: of the image only its content is removed. Otherwise the log may be all that there was. */
static struct value *destroy(struct helper_request *req, gboolean keeps_log, struct fault *f)
{
    const char *vdi = storage_uuid_param(req, "vdi", f);
    g_autoptr(storage_sr) s = vdi != NULL ? storage_sr_get(str(req, "sr"), f) : NULL;
    if (s == NULL)
        return NULL;
    gboolean logged = cbt_is_enabled(s, vdi);
    if (keeps_log && !logged)
        fault_set(f, "VDI_NO_CBT_METADATA", vdi, NULL);
    else if (s->driver->vdi_destroy == NULL)
        storage_unsupported(s->uuid, f);
    else if (!s->driver->vdi_destroy(s->sr, vdi, f) && logged && strcmp(f->code, "VDI_MISSING") == 0)
        fault_clear(f);
    if (f->code != NULL)
        return NULL;
    if (!keeps_log)
        cbt_forget(s, vdi);
    storage_tell_space(s);
    return storage_may_coalesce(s) ? one_member("coalesce", value_bool(TRUE)) : value_empty_map();
}

static struct value *vdi_destroy(struct helper_request *req, struct fault *f)
{
    return destroy(req, FALSE, f);
}

static struct value *vdi_data_destroy(struct helper_request *req, struct fault *f)
{
    return destroy(req, TRUE, f);
}

gboolean storage_writers_keep_still, storage_changes_live;

/* A program that has the image open would go on writing to what is about to be its frozen past. */
static gboolean nobody_writes(struct helper_request *req, const struct storage_sr *s, const char *vdi, struct fault *f)
{
    gboolean live = s->driver->snapshots_live != NULL && s->driver->snapshots_live(s->sr);
    if (storage_writers_keep_still || (live && strcmp(req->method, "vdi.snapshot") == 0) ||
        *value_get_str(req->params, "writer", "") == '\0')
        return TRUE;
    return fault_set(f, "VDI_IN_USE", vdi, req->method + strlen("vdi."), NULL);
}

/* What a snapshot is of: what vdi.freeze answered, or what it does now for an image that is written to. */
static gboolean choose_base(struct helper_request *req, struct storage_sr *s, const char *vdi,
                            char base[STORAGE_UUID_LEN + 1], struct fault *f)
{
    const char *writer = value_get_str(req->params, "writer", "");
    if (value_get(req->params, "base") != NULL) {
        const char *given = storage_uuid_param(req, "base", f);
        g_strlcpy(base, given != NULL ? given : "", STORAGE_UUID_LEN + 1);
        return given != NULL;
    }
    if (storage_switch_over == NULL || *writer == '\0')
        return nobody_writes(req, s, vdi, f);
    return storage_freeze(s, vdi, writer, base, f);
}

/* vdi.clone and vdi.snapshot differ in what the driver does, and in whether anybody may write meanwhile. */
static struct value *derive(struct helper_request *req, gboolean snapshot, struct fault *f)
{
    const char *vdi = storage_uuid_param(req, "vdi", f);
    const char *new = storage_uuid_param(req, "new", f);
    g_autoptr(storage_sr) s = vdi != NULL && new != NULL ? storage_sr_get(str(req, "sr"), f) : NULL;
    char base[STORAGE_UUID_LEN + 1] = "";
    if (s == NULL || !(snapshot ? choose_base(req, s, vdi, base, f) : nobody_writes(req, s, vdi, f)))
        return NULL;
    const struct storage_driver *d = s->driver;
    gboolean (*fn)(void *, const char *, const char *, const struct storage_job *, struct storage_vdi *,
                   struct fault *) = snapshot ? d->vdi_snapshot : d->vdi_clone;
    struct storage_job job = job_of(req);
    struct storage_vdi out = {0};
    job.base = *base != '\0' ? base : NULL;
    gboolean done = fn != NULL ? fn(s->sr, vdi, new, &job, &out, f) : storage_unsupported(s->uuid, f);
    gboolean logged = done && snapshot && cbt_snapshot(s, vdi, new, &job);
    g_autoptr(value) answer = storage_vdi_done(s, done, &out);
    return answer != NULL ? value_map_with(answer, "cbt_enabled", value_bool(logged)) : NULL;
}

static struct value *vdi_clone(struct helper_request *req, struct fault *f)
{
    return derive(req, FALSE, f);
}

static struct value *vdi_snapshot(struct helper_request *req, struct fault *f)
{
    return derive(req, TRUE, f);
}

static struct value *vdi_copy(struct helper_request *req, struct fault *f)
{
    const char *vdi = storage_uuid_param(req, "vdi", f);
    const char *new = storage_uuid_param(req, "new", f);
    if (vdi == NULL || new == NULL)
        return NULL;
    g_autoptr(storage_sr) s = storage_sr_get(str(req, "sr"), f);
    g_autoptr(storage_sr) dest =
        s != NULL ? storage_sr_get(value_get_str(req->params, "dest_sr", str(req, "sr")), f) : NULL;
    g_autofree char *path = NULL;
    const char *format = NULL;
    if (dest == NULL || !s->driver->vdi_path(s->sr, vdi, &path, &format, f))
        return NULL;
    gboolean into = value_as_bool(value_get(req->params, "into"));
    struct storage_job job = job_of(req);
    struct storage_vdi out = {0};
    gboolean done = dest->driver->vdi_copy != NULL
                        ? dest->driver->vdi_copy(dest->sr, new, into, path, format, &job, &out, f)
                        : storage_unsupported(dest->uuid, f);
    return storage_vdi_done(dest, done, &out);
}

static struct value *vdi_resize(struct helper_request *req, struct fault *f)
{
    const char *vdi = storage_uuid_param(req, "vdi", f);
    g_autoptr(storage_sr) s = vdi != NULL ? storage_sr_get(str(req, "sr"), f) : NULL;
    if (s == NULL)
        return NULL;
    if (!storage_changes_live && *value_get_str(req->params, "writer", "") != '\0') {
        fault_set(f, "VDI_IN_USE", vdi, "resize", NULL);
        return NULL;
    }
    gint64 size = value_as_int(value_get(req->params, "virtual_size"));
    struct storage_vdi out = {0};
    gboolean done = s->driver->vdi_resize != NULL ? s->driver->vdi_resize(s->sr, vdi, size, &out, f)
                                                  : storage_unsupported(s->uuid, f);
    return storage_vdi_done(s, done, &out);
}

static struct value *vdi_stat(struct helper_request *req, struct fault *f)
{
    const char *vdi = storage_uuid_param(req, "vdi", f);
    g_autoptr(storage_sr) s = vdi != NULL ? storage_sr_get(str(req, "sr"), f) : NULL;
    struct storage_vdi out = {0};
    struct value *answer = NULL;
    if (s != NULL && s->driver->vdi_stat(s->sr, vdi, &out, f))
        answer = storage_vdi_value(&out, s->driver->keeps_records);
    storage_vdi_clear(&out);
    return answer;
}

/* ---- changed blocks ---- */

static struct value *track(struct helper_request *req, gboolean enable, struct fault *f)
{
    const char *vdi = storage_uuid_param(req, "vdi", f);
    g_autoptr(storage_sr) s = vdi != NULL ? storage_sr_get(str(req, "sr"), f) : NULL;
    if (s == NULL || (enable && !nobody_writes(req, s, vdi, f)))
        return NULL;
    return (enable ? cbt_enable(s, vdi, f) : cbt_disable(s, vdi, f)) ? value_empty_map() : NULL;
}

static struct value *vdi_enable_cbt(struct helper_request *req, struct fault *f)
{
    return track(req, TRUE, f);
}

static struct value *vdi_disable_cbt(struct helper_request *req, struct fault *f)
{
    return track(req, FALSE, f);
}

static struct value *vdi_list_changed_blocks(struct helper_request *req, struct fault *f)
{
    const char *from = storage_uuid_param(req, "vdi", f), *to = storage_uuid_param(req, "to", f);
    g_autoptr(storage_sr) s = from != NULL && to != NULL ? storage_sr_get(str(req, "sr"), f) : NULL;
    if (s == NULL)
        return NULL;
    struct storage_job job = job_of(req);
    g_autofree char *bitmap = cbt_changed(s, from, to, &job, f);
    if (bitmap == NULL)
        return NULL;
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "bitmap", bitmap);
    return value_builder_end(&b);
}

gboolean storage_vdi_path(const char *sr, const char *vdi, char **path, const char **format, struct fault *f)
{
    g_autoptr(storage_sr) s = storage_sr_get(sr, f);
    if (s == NULL)
        return FALSE;
    if (!storage_uuid_is_valid(vdi))
        return fault_set(f, "VDI_MISSING", sr, vdi, NULL);
    return s->driver->vdi_path(s->sr, vdi, path, format, f);
}

int storage_open_path(const char *path, int flags)
{
    return open(path, flags | O_CLOEXEC | (g_str_has_prefix(path, "/dev/") ? 0 : O_NOFOLLOW), 0600);
}

const struct helper_method storage_methods[] = {
    {"sr.drivers", sr_drivers},
    {"sr.create", sr_create},
    {"sr.attach", sr_attach},
    {"sr.detach", sr_detach},
    {"sr.destroy", sr_destroy},
    {"sr.scan", sr_scan},
    {"sr.stat", sr_stat},
    {"sr.probe", sr_probe},
    {"sr.coalesce_look", storage_sr_coalesce_look},
    {"sr.coalesce", storage_sr_coalesce},
    {"vdi.create", vdi_create},
    {"vdi.destroy", vdi_destroy},
    {"vdi.clone", vdi_clone},
    {"vdi.freeze", storage_vdi_freeze},
    {"vdi.snapshot", vdi_snapshot},
    {"vdi.copy", vdi_copy},
    {"vdi.resize", vdi_resize},
    {"vdi.stat", vdi_stat},
    {"vdi.data_destroy", vdi_data_destroy},
    {"vdi.enable_cbt", vdi_enable_cbt},
    {"vdi.disable_cbt", vdi_disable_cbt},
    {"vdi.list_changed_blocks", vdi_list_changed_blocks},
    {"vdi.open", storage_vdi_open},
    {"vdi.stage", storage_vdi_stage},
    {"vdi.publish", storage_vdi_publish},
    {"vdi.unstage", storage_vdi_unstage},
    {"vdi.adopt", storage_vdi_adopt},
    {NULL, NULL},
};
