/* storage_plugin.c - storage drivers that a site adds: found in their directories, and each a driver as others are. */
#include "config.h"
#include "xenbackend/storage/storage_plugin.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "xenbackend/run.h"
#include "xenbackend/storage/storage_private.h"

#define MAX_PLUGINS 256

static struct {
    GMutex lock;
    GPtrArray *now;  /* struct plugin: those that were there when we last looked */
    GPtrArray *gone; /* and those before: SRs may still be attached by them */
} found;

static _Thread_local struct value *made_config;

/* ---- what a request says ---- */

static struct value *find_image(struct value *v, const char *uuid, int depth)
{
    if (v == NULL || depth == 0)
        return NULL;
    if (v->type == VALUE_MAP) {
        if (value_get(v, "vdi_ref") != NULL && g_ascii_strcasecmp(value_get_str(v, "vdi", ""), uuid) == 0)
            return v;
        for (gsize i = 0; i < value_count(v); i++) {
            struct value *in = find_image(v->u.map.m[i].value, uuid, depth - 1);
            if (in != NULL)
                return in;
        }
    } else if (v->type == VALUE_SET) {
        for (gsize i = 0; i < value_count(v); i++) {
            struct value *in = find_image(value_at(v, i), uuid, depth - 1);
            if (in != NULL)
                return in;
        }
    }
    return NULL;
}

char *plugin_context(struct plugin_sr *s, const char *key)
{
    const struct helper_request *req = helper_current();
    struct value *context = req != NULL ? value_get(req->params, "context") : NULL;
    char *text = context != NULL ? g_strdup(value_get_str(context, key, NULL)) : NULL;
    if (text != NULL || s == NULL)
        return text;
    g_mutex_lock(&s->lock);
    text = s->context != NULL ? g_strdup(value_get_str(s->context, key, NULL)) : NULL;
    g_mutex_unlock(&s->lock);
    return text;
}

/* ---- volumes ---- */

static void volume_free(struct plugin_volume *v)
{
    g_free(v->location);
    g_free(v->ref);
    g_free(v->uri);
    g_free(v->path);
    g_free(v);
}

/* With the lock. */
static struct plugin_volume *know(struct plugin_sr *s, const char *uuid, const char *location)
{
    struct plugin_volume *v = g_hash_table_lookup(s->volumes, uuid);
    if (v == NULL) {
        v = g_new0(struct plugin_volume, 1);
        g_strlcpy(v->uuid, uuid, sizeof v->uuid);
        v->maybe_open = TRUE;
        g_hash_table_insert(s->volumes, v->uuid, v);
    }
    if (location != NULL && g_strcmp0(v->location, location) != 0) {
        g_free(v->location);
        v->location = g_strdup(location);
    }
    return v;
}

static void know_all(struct plugin_sr *s, const GPtrArray *vdis)
{
    g_mutex_lock(&s->lock);
    for (guint i = 0; i < vdis->len; i++) {
        const struct storage_vdi *v = vdis->pdata[i];
        know(s, v->uuid, v->location);
    }
    g_mutex_unlock(&s->lock);
}

static void know_made(struct plugin_sr *s, const struct storage_vdi *v)
{
    g_mutex_lock(&s->lock);
    know(s, v->uuid, v->location)->maybe_open = FALSE;
    g_mutex_unlock(&s->lock);
}

/* The volume, with what the request says of it; looks once at what is there when it is not known. NULL with f set. A
 * volume stays until the SR is detached, so that no lock is needed to hold it. */
static struct plugin_volume *volume(struct plugin_sr *s, const char *uuid, struct fault *f)
{
    const struct helper_request *req = helper_current();
    struct value *says = req != NULL ? find_image(req->params, uuid, 6) : NULL;
    const char *location = says != NULL ? value_get_str(says, "vdi_location", NULL) : NULL;
    g_mutex_lock(&s->lock);
    struct plugin_volume *v = g_hash_table_lookup(s->volumes, uuid);
    if (v == NULL && location != NULL && s->plugin->ops->keeps_records)
        v = know(s, uuid, location);
    if (v != NULL && says != NULL && v->ref == NULL)
        v->ref = g_strdup(value_get_str(says, "vdi_ref", NULL));
    g_mutex_unlock(&s->lock);
    if (v != NULL || s->plugin->ops->keeps_records)
        return v != NULL ? v : (fault_set(f, "VDI_MISSING", s->uuid, uuid, NULL), NULL);
    g_autoptr(GPtrArray) vdis = g_ptr_array_new_with_free_func((GDestroyNotify) storage_vdi_free);
    if (!s->plugin->ops->scan(s, vdis, f))
        return NULL;
    know_all(s, vdis);
    g_mutex_lock(&s->lock);
    v = g_hash_table_lookup(s->volumes, uuid);
    g_mutex_unlock(&s->lock);
    if (v == NULL)
        fault_set(f, "VDI_MISSING", s->uuid, uuid, NULL);
    return v;
}

/* Not open for anybody: what changes an image wants that. Whether a process before us opened it is not known, so it is
 * closed then, too, and it is no fault when it was not open. */
static gboolean be_closed(struct plugin_sr *s, struct plugin_volume *v, struct fault *f)
{
    struct fault why = FAULT_INIT;
    g_mutex_lock(&s->opening);
    gboolean open = v->path != NULL;
    gboolean closed = (!open && !v->maybe_open) || s->plugin->ops->close(s, v, &why) || !open;
    if (closed) {
        g_clear_pointer(&v->path, g_free);
        g_clear_pointer(&v->uri, g_free);
        v->maybe_open = FALSE;
        fault_clear(&why);
    }
    g_mutex_unlock(&s->opening);
    fault_move(f, &why);
    return closed;
}

/* ---- the SR ---- */

struct value *plugin_take_config(void)
{
    return g_steal_pointer(&made_config);
}

static struct plugin *self(void)
{
    return (struct plugin *) (void *) storage_driver_now; /* driver is its first member */
}

static gboolean plugin_create(const char *uuid, struct value *config, gint64 size, struct fault *f)
{
    return self()->ops->sr_create(self(), uuid, config, size, &made_config, f);
}

static gboolean plugin_destroy(const char *uuid, struct value *config, struct fault *f)
{
    return self()->ops->sr_destroy(self(), uuid, config, f);
}

static gboolean plugin_probe(struct value *config, struct value_builder *srs, struct fault *f)
{
    return self()->ops->sr_probe(self(), config, srs, f);
}

static void sr_free(struct plugin_sr *s)
{
    g_hash_table_unref(s->volumes);
    g_mutex_clear(&s->lock);
    g_mutex_clear(&s->opening);
    value_unref(s->device_config);
    value_unref(s->context);
    g_free(s->handle);
    g_free(s);
}

static void set_context(struct plugin_sr *s)
{
    const struct helper_request *req = helper_current();
    struct value *context = req != NULL ? value_get(req->params, "context") : NULL;
    if (context == NULL)
        return;
    g_mutex_lock(&s->lock);
    value_unref(s->context);
    s->context = value_ref(context);
    g_mutex_unlock(&s->lock);
}

static void plugin_attached_again(void *sr)
{
    set_context(sr);
}

static void *plugin_attach(const char *uuid, struct value *config, struct fault *f)
{
    struct plugin_sr *s = g_new0(struct plugin_sr, 1);
    s->plugin = self();
    g_strlcpy(s->uuid, uuid, sizeof s->uuid);
    s->device_config = value_ref(config);
    g_mutex_init(&s->lock);
    g_mutex_init(&s->opening);
    s->volumes = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) volume_free);
    set_context(s);
    if (s->plugin->ops->sr_attach(s, f))
        return s;
    sr_free(s);
    return NULL;
}

static void plugin_detach(void *sr)
{
    struct plugin_sr *s = sr;
    struct fault f = FAULT_INIT;
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, s->volumes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct plugin_volume *v = value;
        if (v->path != NULL)
            be_closed(s, v, NULL);
    }
    if (!s->plugin->ops->sr_detach(s, &f)) {
        g_autofree char *text = fault_text(&f);
        g_warning("SR %s: %s", s->uuid, text);
        fault_clear(&f);
    }
    sr_free(s);
}

static gboolean plugin_scan(void *sr, GPtrArray *vdis, struct fault *f)
{
    struct plugin_sr *s = sr;
    if (!s->plugin->ops->scan(s, vdis, f))
        return FALSE;
    know_all(s, vdis);
    return TRUE;
}

static gboolean plugin_stat(void *sr, struct storage_space *space, struct fault *f)
{
    struct plugin_sr *s = sr;
    return s->plugin->ops->stat(s, space, f);
}

/* ---- VDIs ---- */

static gboolean plugin_vdi_create(void *sr, const char *vdi G_GNUC_UNUSED, gint64 virtual_size, const char *type,
                                  struct value *sm_config, struct storage_vdi *out, struct fault *f)
{
    struct plugin_sr *s = sr;
    if (!s->plugin->ops->create(s, virtual_size, type, sm_config, out, f))
        return FALSE;
    know_made(s, out);
    return TRUE;
}

static gboolean plugin_vdi_destroy(void *sr, const char *vdi, struct fault *f)
{
    struct plugin_sr *s = sr;
    struct plugin_volume *v = volume(s, vdi, f);
    return v != NULL && be_closed(s, v, f) && s->plugin->ops->destroy(s, v, f);
}

static gboolean derive(void *sr, const char *vdi, gboolean snapshot, const struct storage_job *job,
                       struct storage_vdi *out, struct fault *f)
{
    struct plugin_sr *s = sr;
    struct plugin_volume *v = volume(s, vdi, f);
    if (v == NULL || !s->plugin->ops->derive(s, v, snapshot, job, out, f))
        return FALSE;
    know_made(s, out);
    return TRUE;
}

static gboolean plugin_vdi_clone(void *sr, const char *vdi, const char *new G_GNUC_UNUSED,
                                 const struct storage_job *job, struct storage_vdi *out, struct fault *f)
{
    return derive(sr, vdi, FALSE, job, out, f);
}

static gboolean plugin_vdi_snapshot(void *sr, const char *vdi, const char *new G_GNUC_UNUSED,
                                    const struct storage_job *job, struct storage_vdi *out, struct fault *f)
{
    return derive(sr, vdi, TRUE, job, out, f);
}

static gboolean plugin_vdi_resize(void *sr, const char *vdi, gint64 virtual_size, struct storage_vdi *out,
                                  struct fault *f)
{
    struct plugin_sr *s = sr;
    struct plugin_volume *v = volume(s, vdi, f);
    return v != NULL && be_closed(s, v, f) && s->plugin->ops->resize(s, v, virtual_size, f) &&
           s->plugin->ops->describe(s, v, out, f);
}

static gboolean plugin_vdi_stat(void *sr, const char *vdi, struct storage_vdi *out, struct fault *f)
{
    struct plugin_sr *s = sr;
    struct plugin_volume *v = volume(s, vdi, f);
    return v != NULL && s->plugin->ops->describe(s, v, out, f);
}

/* It stays open until the image is changed or removed, or the SR detached: who opens it does not say when it is done.
 */
static gboolean plugin_vdi_path(void *sr, const char *vdi, char **path, const char **format, struct fault *f)
{
    struct plugin_sr *s = sr;
    struct plugin_volume *v = volume(s, vdi, f);
    if (v == NULL)
        return FALSE;
    g_mutex_lock(&s->opening);
    gboolean open = v->path != NULL || s->plugin->ops->open(s, v, TRUE, f);
    if (open) {
        *path = g_strdup(v->path);
        *format = v->format;
    }
    g_mutex_unlock(&s->opening);
    return open;
}

/* ---- copies and new content, made of the above ---- */

static gboolean convert(const char *from, const char *from_format, const char *to, const char *to_format,
                        const struct storage_job *job, struct fault *f)
{
    const struct run_options o = {.cancel = job->cancel, .progress = job->progress, .data = job->data};
    const char *const args[] = {"qemu-img", "convert", "-p", "-n", "-f", from_format, "-O", to_format, from, to, NULL};
    return run_tool(args, &o, NULL, f);
}

/* What qemu-img info says of an image's size; -1 with f set. */
static gint64 size_of(const char *path, const char *format, struct fault *f)
{
    g_autofree char *out = NULL;
    const struct run_options o = {.timeout_s = 60};
    const char *const args[] = {"qemu-img", "info", "-U", "--output=json", "-f", format, path, NULL};
    const char *found = run_tool(args, &o, &out, f) ? strstr(out, "\"virtual-size\": ") : NULL;
    if (found == NULL) {
        fault_set(f, "SR_BACKEND_FAILURE", "22", "", "qemu-img told no size", NULL);
        return -1;
    }
    return g_ascii_strtoll(found + strlen("\"virtual-size\": "), NULL, 10);
}

static gboolean plugin_vdi_copy(void *sr, const char *new, gboolean into, const char *path, const char *format,
                                const struct storage_job *job, struct storage_vdi *out, struct fault *f)
{
    struct plugin_sr *s = sr;
    gint64 size = size_of(path, format, f);
    g_autofree char *to = NULL;
    const char *to_format = NULL;
    if (size < 0)
        return FALSE;
    if (into)
        return plugin_vdi_path(s, new, &to, &to_format, f) && convert(path, format, to, to_format, job, f) &&
               plugin_vdi_stat(s, new, out, f);
    if (!plugin_vdi_create(s, new, size, "", value_empty_map(), out, f))
        return FALSE;
    if (plugin_vdi_path(s, out->uuid, &to, &to_format, f) && convert(path, format, to, to_format, job, f))
        return TRUE;
    plugin_vdi_destroy(s, out->uuid, NULL);
    return FALSE;
}

struct stage {
    char vdi[STORAGE_UUID_LEN + 1]; /* whose content it is to be; "" when it is a new one */
    struct storage_vdi volume;
};

static void stage_free(struct stage *g)
{
    storage_vdi_clear(&g->volume);
    g_free(g);
}

static void plugin_vdi_unstage(void *sr, void *stage)
{
    struct stage *g = stage;
    struct fault f = FAULT_INIT;
    if (!plugin_vdi_destroy(sr, g->volume.uuid, &f)) {
        g_autofree char *text = fault_text(&f);
        g_warning("%s is left over: %s", g->volume.uuid, text);
        fault_clear(&f);
    }
    stage_free(g);
}

static void *plugin_vdi_stage(void *sr, const char *vdi, gint64 virtual_size, const char *type, char **path,
                              const char **format, gint64 *size, struct fault *f)
{
    struct plugin_sr *s = sr;
    struct stage *g = g_new0(struct stage, 1);
    struct storage_vdi old = {0};
    struct fault why = FAULT_INIT;
    *size = virtual_size;
    if (plugin_vdi_stat(s, vdi, &old, &why)) {
        g_strlcpy(g->vdi, vdi, sizeof g->vdi);
        *size = old.virtual_size > 0 ? old.virtual_size : virtual_size;
    }
    storage_vdi_clear(&old);
    fault_clear(&why);
    if (!plugin_vdi_create(s, vdi, *size, type, value_empty_map(), &g->volume, f)) {
        stage_free(g);
        return NULL;
    }
    if (plugin_vdi_path(s, g->volume.uuid, path, format, f))
        return g;
    plugin_vdi_unstage(s, g);
    return NULL;
}

/* A plugin has no way to exchange two images: the content is copied over, and a crash in the middle leaves half of it.
 */
static gboolean plugin_vdi_publish(void *sr, void *stage, struct storage_vdi *out, struct fault *f)
{
    static const struct storage_job no_job;
    struct plugin_sr *s = sr;
    struct stage *g = stage;
    g_autofree char *from = NULL;
    const char *format = NULL;
    gboolean done;
    if (*g->vdi == '\0') {
        done = plugin_vdi_stat(s, g->volume.uuid, out, f);
        if (done)
            stage_free(g);
        else
            plugin_vdi_unstage(s, g);
        return done;
    }
    done = plugin_vdi_path(s, g->volume.uuid, &from, &format, f) &&
           plugin_vdi_copy(s, g->vdi, TRUE, from, format, &no_job, out, f);
    plugin_vdi_unstage(s, g);
    return done;
}

/* ---- what there is ---- */

gboolean plugin_is_safe(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || access(path, X_OK) < 0)
        return FALSE;
    gboolean ours = st.st_uid == 0 || st.st_uid == geteuid();
    if (!ours || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        g_warning("%s: not used, others than root can change it", path);
    return ours && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static gboolean can(const char *const *capabilities, const char *what)
{
    for (; *capabilities != NULL; capabilities++) {
        gsize len = strcspn(*capabilities, "/");
        if (strlen(what) == len && strncmp(*capabilities, what, len) == 0)
            return TRUE;
    }
    return FALSE;
}

void plugin_set_capabilities(struct plugin *p, const char *const *capabilities)
{
    struct storage_driver *d = &p->driver;
    d->capabilities = (const char *const *) g_strdupv((char **) capabilities);
    d->keeps_records = p->ops->keeps_records;
    d->create = plugin_create;
    d->destroy = plugin_destroy;
    d->probe = can(capabilities, "SR_PROBE") ? plugin_probe : NULL;
    d->attach = plugin_attach;
    d->attached_again = plugin_attached_again;
    d->detach = plugin_detach;
    d->scan = plugin_scan;
    d->stat = plugin_stat;
    d->vdi_destroy = can(capabilities, "VDI_DELETE") ? plugin_vdi_destroy : NULL;
    d->vdi_clone = can(capabilities, "VDI_CLONE") ? plugin_vdi_clone : NULL;
    d->vdi_snapshot = can(capabilities, "VDI_SNAPSHOT") ? plugin_vdi_snapshot : NULL;
    d->vdi_resize = can(capabilities, "VDI_RESIZE") ? plugin_vdi_resize : NULL;
    d->vdi_stat = plugin_vdi_stat;
    d->vdi_path = plugin_vdi_path;
    if (!can(capabilities, "VDI_CREATE"))
        return;
    d->vdi_create = plugin_vdi_create;
    d->vdi_copy = plugin_vdi_copy;
    d->vdi_stage = plugin_vdi_stage;
    d->vdi_publish = plugin_vdi_publish;
    d->vdi_unstage = plugin_vdi_unstage;
}

/* Takes over the candidate; NULL when it is no driver, which a query must see before it sets anything in it. */
static void *ask(void *data)
{
    struct plugin *p = data;
    struct fault f = FAULT_INIT;
    gboolean known = p->ops->query(p, &f) && p->driver.type != NULL;
    if (!known) {
        g_autofree char *text = fault_text(&f);
        g_warning("%s: not used: %s", p->path, text);
    }
    fault_clear(&f);
    if (known)
        return p;
    g_free(p->path);
    g_free(p);
    return NULL;
}

static void look_into(const char *dir, const struct plugin_ops *ops, GPtrArray *candidates)
{
    GDir *names = dir != NULL && *dir != '\0' ? g_dir_open(dir, 0, NULL) : NULL;
    for (const char *name; names != NULL && (name = g_dir_read_name(names)) != NULL;) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        gboolean fits = ops == &plugin_smapi1 ? g_str_has_suffix(name, "SR") && strlen(name) > 2 && plugin_is_safe(path)
                                              : *name != '.' && g_file_test(path, G_FILE_TEST_IS_DIR);
        if (!fits || candidates->len >= MAX_PLUGINS)
            continue;
        struct plugin *p = g_new0(struct plugin, 1);
        p->ops = ops;
        p->path = g_steal_pointer(&path);
        g_ptr_array_add(candidates, p);
    }
    if (names != NULL)
        g_dir_close(names);
}

/* All at once: one that hangs costs the limit of a query, not that for each. */
void plugins_look(void)
{
    g_autoptr(GPtrArray) candidates = g_ptr_array_new(), threads = g_ptr_array_new();
    g_autofree char *volumes =
        *storage_plugin_dir != '\0' ? g_build_filename(storage_plugin_dir, "volume", NULL) : NULL;
    look_into(storage_sm_dir, &plugin_smapi1, candidates);
    look_into(volumes, &plugin_smapi3, candidates);
    for (guint i = 0; i < candidates->len; i++)
        g_ptr_array_add(threads, g_thread_new("plugin", ask, candidates->pdata[i]));
    GPtrArray *now = g_ptr_array_new();
    for (guint i = 0; i < threads->len; i++) {
        struct plugin *p = g_thread_join(threads->pdata[i]);
        if (p != NULL)
            g_ptr_array_add(now, p);
    }
    g_mutex_lock(&found.lock);
    if (found.gone == NULL)
        found.gone = g_ptr_array_new();
    if (found.now != NULL) {
        g_ptr_array_extend(found.gone, found.now, NULL, NULL);
        g_ptr_array_unref(found.now);
    }
    found.now = now;
    g_mutex_unlock(&found.lock);
}

GPtrArray *plugins_all(void)
{
    g_mutex_lock(&found.lock);
    GPtrArray *all = g_ptr_array_new();
    if (found.now != NULL)
        g_ptr_array_extend(all, found.now, NULL, NULL);
    g_mutex_unlock(&found.lock);
    return all;
}

const struct storage_driver *plugin_find(const char *type)
{
    g_autoptr(GPtrArray) all = plugins_all();
    for (guint i = 0; i < all->len; i++) {
        struct plugin *p = all->pdata[i];
        if (strcmp(p->driver.type, type) == 0)
            return &p->driver;
    }
    return NULL;
}
