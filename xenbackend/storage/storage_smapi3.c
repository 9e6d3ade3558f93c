/* storage_smapi3.c - plugins that are a directory of executables, one for each operation ("Volume.create"): run with
 * the argument --json, they read a JSON object of their parameters and print their result, or, leaving with another
 * status than 0, {code, params, backtrace}. A volume's URI is opened by a datapath plugin, named by the URI's scheme.
 */
#include "config.h"
#include "xenbackend/storage/storage_plugin.h"

#include <string.h>
#include <unistd.h>

#include "daemon/codec/jsonrpc.h"
#include "xenbackend/run.h"
#include "xenbackend/storage/storage_private.h"

#define DOMAIN "0" /* that volumes are opened for: dom0, whose backends serve all others */

/* ---- calling ---- */

/* The executable of that name in the directory, whatever its case is; NULL when there is none. */
static char *find_script(const char *dir, const char *name)
{
    GDir *names = g_dir_open(dir, 0, NULL);
    char *path = NULL;
    for (const char *one; names != NULL && path == NULL && (one = g_dir_read_name(names)) != NULL;)
        if (g_ascii_strcasecmp(one, name) == 0)
            path = g_build_filename(dir, one, NULL);
    if (names != NULL)
        g_dir_close(names);
    if (path != NULL && !plugin_is_safe(path))
        g_clear_pointer(&path, g_free);
    return path;
}

/* Codes of the interface that the API calls otherwise. sr and vdi may be "". */
static void translate(const char *code, GStrv params, const char *sr, const char *vdi, struct fault *f)
{
    if (strcmp(code, "Volume_does_not_exist") == 0)
        fault_set(f, "VDI_MISSING", sr, vdi, NULL);
    else if (strcmp(code, "Sr_not_attached") == 0)
        fault_set(f, "SR_NOT_ATTACHED", sr, NULL);
    else if (strcmp(code, "Unimplemented") == 0)
        fault_set(f, "SR_OPERATION_NOT_SUPPORTED", sr, NULL);
    else if (strcmp(code, "Cancelled") == 0)
        fault_set(f, "TASK_CANCELLED", "", NULL);
    else if (*code != '\0' && strspn(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(code))
        fault_setv(f, code, (const char *const *) params);
    else {
        g_autofree char *words = g_strjoinv(", ", params);
        fault_set(f, "SR_BACKEND_FAILURE", code, words, "", NULL);
    }
}

static gboolean refused(const char *script, int status, const char *out, const char *sr, const char *vdi,
                        struct fault *f)
{
    g_autoptr(value) v = json_parse(NULL, out, strlen(out), NULL, NULL);
    const char *code = v != NULL ? value_get_str(v, "code", NULL) : NULL;
    if (code == NULL) {
        char text[16];
        g_autofree char *valid = g_utf8_make_valid(out, (gssize) MIN(strlen(out), 1000));
        g_snprintf(text, sizeof text, "%d", status);
        return fault_set(f, "SR_BACKEND_FAILURE", text, valid, script, NULL);
    }
    struct value *given = value_get(v, "params");
    g_auto(GStrv) params = g_new0(char *, value_count(given) + 1);
    for (gsize i = 0; i < value_count(given); i++)
        params[i] = g_strdup(value_str(value_at(given, i)));
    translate(code, params, sr, vdi, f);
    return FALSE;
}

/* Runs dir/name with args, a map that is taken over; the result, VOID when it is null. NULL with f set. */
static struct value *call(const char *dir, const char *name, struct value *args, const char *sr, const char *vdi,
                          int limit_s, const struct storage_job *job, struct fault *f)
{
    int status = 0;
    g_autoptr(value) given = args;
    g_autofree char *path = find_script(dir, name), *text = json_text(given), *out = NULL;
    const char *const argv[] = {path, "--json", NULL};
    const struct run_options o = {
        .timeout_s = limit_s, .input = text, .status = &status, .cancel = job != NULL ? job->cancel : NULL};
    if (path == NULL) {
        g_autofree char *missing = g_build_filename(dir, name, NULL);
        fault_set(f, "SR_BACKEND_FAILURE", "SCRIPT_MISSING", missing, "", NULL);
        return NULL;
    }
    if (!run_tool(argv, &o, &out, f))
        return NULL;
    if (status != 0) {
        refused(path, status, out, sr, vdi, f);
        return NULL;
    }
    g_strstrip(out);
    if (*out == '\0' || strcmp(out, "null") == 0)
        return value_empty_map();
    struct value *v = json_parse(NULL, out, strlen(out), NULL, NULL);
    if (v == NULL)
        fault_set(f, "SR_BACKEND_FAILURE", "SCRIPT_FAILED", path, "bad json on stdout", NULL);
    return v;
}

static void begin(struct value_builder *b)
{
    g_autofree char *task = plugin_context(NULL, "subtask_of");
    value_builder_map(b, NULL, 8);
    value_builder_put_string(b, "dbg", task != NULL ? task : "xenapid");
}

/* ---- what it is ---- */

static const char *const follow[][2] = {
    {"sr.probe", "SR_PROBE"},        {"sr.ls", "SR_SCAN"},
    {"sr.stat", "SR_UPDATE"},        {"volume.create", "VDI_CREATE"},
    {"volume.clone", "VDI_CLONE"},   {"volume.snapshot", "VDI_SNAPSHOT"},
    {"volume.resize", "VDI_RESIZE"}, {"volume.destroy", "VDI_DELETE"},
};

static void add_capability(GPtrArray *all, const char *name)
{
    name = strcmp(name, "VDI_DESTROY") == 0 ? "VDI_DELETE" : name;
    for (guint i = 0; i < all->len; i++)
        if (strcmp(all->pdata[i], name) == 0)
            return;
    g_ptr_array_add(all, (gpointer) name);
}

/* What it says it can do, and what executables are there. */
static void set_capabilities(struct plugin *p, struct value *features)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    g_autoptr(GPtrArray) kept = g_ptr_array_new_with_free_func(g_free);
    for (gsize i = 0; i < value_count(features); i++)
        add_capability(all, value_str(value_at(features, i)));
    for (gsize i = 0; i < G_N_ELEMENTS(follow); i++) {
        char *path = find_script(p->path, follow[i][0]);
        if (path != NULL)
            add_capability(all, follow[i][1]);
        g_free(path);
    }
    add_capability(all, "VDI_ATTACH");
    add_capability(all, "VDI_DETACH");
    g_ptr_array_add(all, NULL);
    plugin_set_capabilities(p, (const char *const *) all->pdata);
}

static const char *const *pairs(struct value *map)
{
    GPtrArray *all = g_ptr_array_new();
    for (gsize i = 0; i < value_count(map); i++) {
        g_ptr_array_add(all, g_strdup(value_str(map->u.map.m[i].key)));
        g_ptr_array_add(all, g_strdup(value_str(map->u.map.m[i].value)));
    }
    g_ptr_array_add(all, NULL);
    return (const char *const *) g_ptr_array_free(all, FALSE);
}

static gboolean query(struct plugin *p, struct fault *f)
{
    struct value_builder b;
    begin(&b);
    g_autoptr(value) v = call(p->path, "Plugin.Query", value_builder_end(&b), "", "", PLUGIN_QUERY_S, NULL, f);
    if (v == NULL)
        return FALSE;
    struct storage_driver *d = &p->driver;
    const char *type = value_get_str(v, "plugin", ""), *api = value_get_str(v, "required_api_version", "");
    if (*type == '\0' || (strcmp(api, "5.0") != 0 && strcmp(api, "3.0") != 0))
        return fault_set(f, "SR_BACKEND_FAILURE", "SCRIPT_FAILED", p->path, "an API version that is not known", NULL);
    d->type = g_strdup(type);
    d->name = g_strdup(value_get_str(v, "name", ""));
    d->description = g_strdup(value_get_str(v, "description", ""));
    d->vendor = g_strdup(value_get_str(v, "vendor", ""));
    d->copyright = g_strdup(value_get_str(v, "copyright", ""));
    d->version = g_strdup(value_get_str(v, "version", ""));
    d->api_version = g_strdup(api);
    d->filename = p->path;
    struct value *keys = value_get(v, "configuration");
    d->configuration = pairs(keys != NULL && keys->type == VALUE_MAP ? keys : value_empty_map());
    p->old_api = strcmp(api, "3.0") == 0;
    struct value *features = value_get(v, "features");
    set_capabilities(p, features != NULL ? features : value_empty_set());
    return TRUE;
}

/* ---- the SR ---- */

static void put_configuration(struct plugin *p, struct value_builder *b, struct value *config)
{
    value_builder_put(b, "configuration", value_ref(config));
    if (p->old_api)
        value_builder_put_string(b, "uri", value_get_str(config, "uri", ""));
}

static gboolean sr_create(struct plugin *p, const char *uuid, struct value *config, gint64 size G_GNUC_UNUSED,
                          struct value **new_config, struct fault *f)
{
    struct value_builder b;
    g_autofree char *name = plugin_context(NULL, "name_label"), *words = plugin_context(NULL, "name_description");
    begin(&b);
    value_builder_put_string(&b, "uuid", uuid);
    put_configuration(p, &b, config);
    value_builder_put_string(&b, "name", name != NULL ? name : uuid);
    value_builder_put_string(&b, "description", words != NULL ? words : "");
    g_autoptr(value) v = call(p->path, "SR.create", value_builder_end(&b), uuid, "", PLUGIN_LIMIT_S, NULL, f);
    if (v == NULL)
        return FALSE;
    if (v->type == VALUE_MAP && value_count(v) > 0)
        *new_config = value_ref(v);
    return TRUE;
}

/* The plugin's word for the SR that is there; NULL with f set. */
static char *attach(struct plugin *p, const char *uuid, struct value *config, struct fault *f)
{
    struct value_builder b;
    g_autoptr(value) with = value_map_with(config, "sr_uuid", value_string(NULL, uuid));
    begin(&b);
    put_configuration(p, &b, p->old_api ? config : with);
    g_autoptr(value) v = call(p->path, "SR.attach", value_builder_end(&b), uuid, "", PLUGIN_LIMIT_S, NULL, f);
    if (v == NULL)
        return NULL;
    if (v->type == VALUE_STRING)
        return g_strdup(value_str(v));
    fault_set(f, "SR_BACKEND_FAILURE", "SCRIPT_FAILED", "SR.attach answered no string", "", NULL);
    return NULL;
}

static gboolean on_sr(struct plugin *p, const char *name, const char *handle, const char *uuid, struct fault *f)
{
    struct value_builder b;
    begin(&b);
    value_builder_put_string(&b, "sr", handle);
    g_autoptr(value) v = call(p->path, name, value_builder_end(&b), uuid, "", PLUGIN_LIMIT_S, NULL, f);
    return v != NULL;
}

/* Destroying is for attached SRs, and detaches them. */
static gboolean sr_destroy(struct plugin *p, const char *uuid, struct value *config, struct fault *f)
{
    g_autofree char *handle = attach(p, uuid, config, f);
    if (handle == NULL)
        return FALSE;
    if (on_sr(p, "SR.destroy", handle, uuid, f))
        return TRUE;
    on_sr(p, "SR.detach", handle, uuid, NULL);
    return FALSE;
}

static gboolean sr_probe(struct plugin *p, struct value *config, struct value_builder *srs, struct fault *f)
{
    struct value_builder b;
    begin(&b);
    put_configuration(p, &b, config);
    g_autoptr(value) v = call(p->path, "SR.probe", value_builder_end(&b), "", "", PLUGIN_LIMIT_S, NULL, f);
    for (gsize i = 0; v != NULL && v->type == VALUE_SET && i < value_count(v); i++) {
        struct value *one = value_at(v, i), *sr = value_get(one, "sr"), *found = value_get(one, "configuration");
        struct value *complete = value_get(one, "complete"), *extra = value_get(one, "extra_info");
        const char *uuid = value_get_str(sr, "uuid", value_get_str(found, "sr_uuid", ""));
        struct value_builder r;
        value_builder_map(&r, NULL, 8);
        value_builder_put_string(&r, "sr", uuid);
        value_builder_put(&r, "device_config", value_ref(found != NULL ? found : config));
        value_builder_put(&r, "complete", value_bool(complete == NULL || value_as_bool(complete)));
        value_builder_put(&r, "extra_info", value_ref(extra != NULL ? extra : value_empty_map()));
        value_builder_put_string(&r, "name_label", value_get_str(sr, "name", ""));
        value_builder_put_string(&r, "name_description", value_get_str(sr, "description", ""));
        value_builder_put(&r, "free_space", value_int(NULL, value_as_int(value_get(sr, "free_space"))));
        value_builder_put(&r, "total_space", value_int(NULL, value_as_int(value_get(sr, "total_space"))));
        value_builder_add(srs, value_builder_end(&r));
    }
    return v != NULL;
}

static gboolean sr_attach(struct plugin_sr *s, struct fault *f)
{
    s->handle = attach(s->plugin, s->uuid, s->device_config, f);
    return s->handle != NULL;
}

static gboolean sr_detach(struct plugin_sr *s, struct fault *f)
{
    return on_sr(s->plugin, "SR.detach", s->handle, s->uuid, f);
}

/* ---- volumes ---- */

/* A uuid that follows from the plugin's key, for a volume that has none of its own. */
static void uuid_of(struct plugin_sr *s, struct value *v, char uuid[STORAGE_UUID_LEN + 1])
{
    const char *own = value_get_str(v, "uuid", NULL);
    if (storage_uuid_is_valid(own)) {
        g_strlcpy(uuid, own, STORAGE_UUID_LEN + 1);
        return;
    }
    g_autofree char *text = g_strdup_printf("%s/%s", s->uuid, value_get_str(v, "key", ""));
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    guint8 h[20];
    gsize len = sizeof h;
    g_checksum_update(sum, (const guchar *) text, -1);
    g_checksum_get_digest(sum, h, &len);
    storage_uuid_format(h, 5, uuid);
}

static void fill(struct plugin_sr *s, struct value *v, struct storage_vdi *out)
{
    struct value *rw = value_get(v, "read_write");
    memset(out, 0, sizeof *out);
    uuid_of(s, v, out->uuid);
    out->location = g_strdup(value_get_str(v, "key", ""));
    out->type = "raw";
    out->virtual_size = value_as_int(value_get(v, "virtual_size"));
    out->physical_utilisation = value_as_int(value_get(v, "physical_utilisation"));
    out->read_only = rw != NULL && !value_as_bool(rw);
}

/* Calls name for a volume with one more argument, or none; the result. NULL with f set. */
static struct value *on_volume(struct plugin_sr *s, const char *name, struct plugin_volume *v, const char *key,
                               struct value *more, const struct storage_job *job, struct fault *f)
{
    struct value_builder b;
    begin(&b);
    value_builder_put_string(&b, "sr", s->handle);
    value_builder_put_string(&b, "key", v->location);
    if (key != NULL)
        value_builder_put(&b, key, more);
    return call(s->plugin->path, name, value_builder_end(&b), s->uuid, v->uuid, PLUGIN_LONG_S, job, f);
}

static struct value *ls(struct plugin_sr *s, struct fault *f)
{
    struct value_builder b;
    begin(&b);
    value_builder_put_string(&b, "sr", s->handle);
    return call(s->plugin->path, "SR.ls", value_builder_end(&b), s->uuid, "", PLUGIN_LIMIT_S, NULL, f);
}

static gboolean scan(struct plugin_sr *s, GPtrArray *vdis, struct fault *f)
{
    g_autoptr(value) v = ls(s, f);
    for (gsize i = 0; v != NULL && v->type == VALUE_SET && i < value_count(v); i++) {
        struct storage_vdi *vdi = g_new0(struct storage_vdi, 1);
        fill(s, value_at(v, i), vdi);
        g_ptr_array_add(vdis, vdi);
    }
    return v != NULL;
}

static gboolean stat_sr(struct plugin_sr *s, struct storage_space *space, struct fault *f)
{
    struct value_builder b;
    begin(&b);
    value_builder_put_string(&b, "sr", s->handle);
    g_autoptr(value) v = call(s->plugin->path, "SR.stat", value_builder_end(&b), s->uuid, "", PLUGIN_LIMIT_S, NULL, f);
    g_autoptr(value) all = v != NULL ? ls(s, f) : NULL;
    if (all == NULL)
        return FALSE;
    *space = (struct storage_space){.physical_size = value_as_int(value_get(v, "total_space"))};
    space->physical_utilisation = space->physical_size - value_as_int(value_get(v, "free_space"));
    for (gsize i = 0; all->type == VALUE_SET && i < value_count(all); i++)
        space->virtual_allocation += value_as_int(value_get(value_at(all, i), "virtual_size"));
    return TRUE;
}

static gboolean create(struct plugin_sr *s, gint64 size, const char *type, struct value *sm_config G_GNUC_UNUSED,
                       struct storage_vdi *out, struct fault *f)
{
    const struct helper_request *req = helper_current();
    struct value *params = req != NULL ? req->params : value_empty_map();
    struct value_builder b;
    if (*type != '\0' && strcmp(type, "raw") != 0)
        return fault_set(f, "VALUE_NOT_SUPPORTED", "sm_config:type", type, "raw", NULL);
    begin(&b);
    value_builder_put_string(&b, "sr", s->handle);
    value_builder_put_string(&b, "name", value_get_str(params, "name_label", ""));
    value_builder_put_string(&b, "description", value_get_str(params, "name_description", ""));
    value_builder_put(&b, "size", value_int(NULL, size));
    value_builder_put(&b, "sharable", value_bool(value_as_bool(value_get(params, "sharable"))));
    g_autoptr(value) v =
        call(s->plugin->path, "Volume.create", value_builder_end(&b), s->uuid, "", PLUGIN_LIMIT_S, NULL, f);
    if (v != NULL)
        fill(s, v, out);
    return v != NULL;
}

static gboolean destroy(struct plugin_sr *s, struct plugin_volume *v, struct fault *f)
{
    g_autoptr(value) done = on_volume(s, "Volume.destroy", v, NULL, NULL, NULL, f);
    return done != NULL;
}

static gboolean derive(struct plugin_sr *s, struct plugin_volume *v, gboolean snapshot, const struct storage_job *job,
                       struct storage_vdi *out, struct fault *f)
{
    g_autoptr(value) made = on_volume(s, snapshot ? "Volume.snapshot" : "Volume.clone", v, NULL, NULL, job, f);
    if (made != NULL)
        fill(s, made, out);
    return made != NULL;
}

static gboolean resize(struct plugin_sr *s, struct plugin_volume *v, gint64 size, struct fault *f)
{
    g_autoptr(value) done = on_volume(s, "Volume.resize", v, "new_size", value_int(NULL, size), NULL, f);
    return done != NULL;
}

static gboolean describe(struct plugin_sr *s, struct plugin_volume *v, struct storage_vdi *out, struct fault *f)
{
    g_autoptr(value) there = on_volume(s, "Volume.stat", v, NULL, NULL, NULL, f);
    if (there != NULL)
        fill(s, there, out);
    return there != NULL;
}

/* ---- datapaths ---- */

/* The directory of the plugin for the URI's scheme; NULL when there is none. */
static char *datapath_of(const char *uri)
{
    g_autofree char *scheme = g_uri_parse_scheme(uri);
    if (scheme == NULL || strchr(scheme, '/') != NULL)
        return NULL;
    char *dir = g_build_filename(storage_plugin_dir, "datapath", scheme, NULL);
    if (g_file_test(dir, G_FILE_TEST_IS_DIR))
        return dir;
    g_free(dir);
    return NULL;
}

static struct value *on_uri(const char *dir, const char *name, struct plugin_sr *s, struct plugin_volume *v,
                            const char *uri, struct fault *f)
{
    struct value_builder b;
    begin(&b);
    value_builder_put_string(&b, "uri", uri);
    value_builder_put_string(&b, "domain", DOMAIN);
    return call(dir, name, value_builder_end(&b), s->uuid, v->uuid, PLUGIN_LIMIT_S, NULL, f);
}

/* The first way to the content that we can hand on: [["BlockDevice", {"path": ..}], ["XenDisk", {"params": ..}], ..].
 */
static gboolean choose(struct value *answer, struct plugin_volume *v)
{
    struct value *ways = value_get(answer, "implementations");
    for (gsize i = 0; i < value_count(ways); i++) {
        struct value *way = value_at(ways, i), *what = value_at(way, 1);
        const char *kind = value_str(value_at(way, 0)), *path = "";
        if (strcmp(kind, "BlockDevice") == 0 || strcmp(kind, "File") == 0)
            path = value_get_str(what, "path", "");
        else if (strcmp(kind, "XenDisk") == 0)
            path = value_get_str(what, "params", "");
        path += g_str_has_prefix(path, "vhd:") ? strlen("vhd:") : 0;
        if (*path != '/')
            continue;
        v->path = g_strdup(path);
        v->format = "raw";
        return TRUE;
    }
    return FALSE;
}

/* The volume's URIs as it is now, and the plugin for one of them; the first that works. */
static char *find_uri(struct plugin_sr *s, struct plugin_volume *v, char **dir, struct fault *f)
{
    g_autoptr(value) there = on_volume(s, "Volume.stat", v, NULL, NULL, NULL, f);
    struct value *uris = there != NULL ? value_get(there, "uri") : NULL;
    for (gsize i = 0; i < value_count(uris); i++) {
        const char *uri = value_str(value_at(uris, i));
        *dir = datapath_of(uri);
        if (*dir != NULL)
            return g_strdup(uri);
    }
    if (there != NULL)
        fault_set(f, "SR_BACKEND_FAILURE", "MISSING_URI", "no datapath plugin for any URI of the volume", "", NULL);
    return NULL;
}

static gboolean open_volume(struct plugin_sr *s, struct plugin_volume *v, gboolean writable G_GNUC_UNUSED,
                            struct fault *f)
{
    g_autofree char *dir = NULL, *uri = find_uri(s, v, &dir, f);
    if (uri == NULL)
        return FALSE;
    g_autoptr(value) there = on_uri(dir, "Datapath.attach", s, v, uri, f);
    if (there == NULL)
        return FALSE;
    g_autoptr(value) active = on_uri(dir, "Datapath.activate", s, v, uri, f);
    if (active != NULL && choose(there, v)) {
        v->uri = g_steal_pointer(&uri);
        return TRUE;
    }
    fault_set(f, "SR_BACKEND_FAILURE", "SCRIPT_FAILED", dir, "no path to the volume's content", NULL);
    g_autoptr(value) off = on_uri(dir, "Datapath.deactivate", s, v, uri, NULL);
    g_autoptr(value) gone = on_uri(dir, "Datapath.detach", s, v, uri, NULL);
    return FALSE;
}

static gboolean close_volume(struct plugin_sr *s, struct plugin_volume *v, struct fault *f)
{
    g_autofree char *dir = NULL, *uri = g_strdup(v->uri);
    if (uri == NULL)
        uri = find_uri(s, v, &dir, f);
    else
        dir = datapath_of(uri);
    if (uri == NULL || dir == NULL)
        return FALSE;
    g_autoptr(value) off = on_uri(dir, "Datapath.deactivate", s, v, uri, f);
    g_autoptr(value) gone = off != NULL ? on_uri(dir, "Datapath.detach", s, v, uri, f) : NULL;
    return gone != NULL;
}

const struct plugin_ops plugin_smapi3 = {
    .query = query,
    .sr_create = sr_create,
    .sr_destroy = sr_destroy,
    .sr_probe = sr_probe,
    .sr_attach = sr_attach,
    .sr_detach = sr_detach,
    .scan = scan,
    .stat = stat_sr,
    .create = create,
    .destroy = destroy,
    .derive = derive,
    .resize = resize,
    .describe = describe,
    .open = open_volume,
    .close = close_volume,
};
