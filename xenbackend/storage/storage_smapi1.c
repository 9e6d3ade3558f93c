/* storage_smapi1.c - plugins that are one executable, "NAMESR": its one argument is an XML-RPC call, it prints the
 * response. Such a driver knows what an SR holds from the API's records, which it keeps itself by calls of its own: it
 * is given a session for that. */
#include "config.h"
#include "xenbackend/storage/storage_plugin.h"

#include <string.h>

#include "daemon/codec/xmlrpc.h"
#include "xenbackend/run.h"
#include "xenbackend/storage/storage_private.h"

#define EPOCH       "19700101T00:00:00Z"
#define MAX_XML_ARG (120 * 1024) /* the kernel's limit of one argument is 128 KiB */

/* ---- the call ---- */

struct call {
    struct plugin *plugin;
    struct plugin_sr *sr; /* NULL when it is not attached */
    const char *sr_uuid;
    struct value *device_config;
    struct plugin_volume *volume; /* may be NULL */
    const char *command;
    const char *args[9]; /* up to NULL */
    struct value *vdi_sm_config;
    int limit_s;
    const struct storage_job *job;
};

static void put_context(struct value_builder *b, struct plugin_sr *s, const char *key)
{
    g_autofree char *text = plugin_context(s, key);
    if (text != NULL)
        value_builder_put_string(b, key, text);
}

static void put_volume(struct value_builder *b, const struct plugin_volume *v)
{
    value_builder_put_string(b, "vdi_uuid", v->uuid);
    value_builder_put_string(b, "vdi_location", v->location != NULL ? v->location : v->uuid);
    if (v->ref != NULL)
        value_builder_put_string(b, "vdi_ref", v->ref);
    value_builder_put_string(b, "vdi_on_boot", "persist");
    value_builder_put_string(b, "vdi_allow_caching", "false");
}

static struct value *params_of(const struct call *c)
{
    struct value_builder b, args;
    value_builder_set(&args, NULL, 8);
    for (int i = 0; c->args[i] != NULL; i++)
        value_builder_add_string(&args, c->args[i]);
    value_builder_map(&b, NULL, 20);
    put_context(&b, c->sr, "host_ref");
    value_builder_put_string(&b, "command", c->command);
    value_builder_put(&b, "args", value_builder_end(&args));
    value_builder_put(&b, "device_config", value_map_with(c->device_config, "SRmaster", value_string(NULL, "true")));
    put_context(&b, c->sr, "session_ref");
    put_context(&b, c->sr, "sr_ref");
    put_context(&b, c->sr, "subtask_of");
    if (c->sr_uuid != NULL)
        value_builder_put_string(&b, "sr_uuid", c->sr_uuid);
    value_builder_put(&b, "sr_sm_config", value_ref(storage_sm_config()));
    if (c->volume != NULL)
        put_volume(&b, c->volume);
    if (c->vdi_sm_config != NULL)
        value_builder_put(&b, "vdi_sm_config", value_ref(c->vdi_sm_config));
    if (strcmp(c->command, "vdi_create") == 0)
        value_builder_put_string(&b, "vdi_type", "user");
    if (strcmp(c->command, "vdi_clone") == 0 || strcmp(c->command, "vdi_snapshot") == 0)
        value_builder_put(&b, "driver_params", value_empty_map());
    return value_builder_end(&b);
}

/* ---- the response ---- */

static gboolean faulty(const struct call *c, struct value *v, struct fault *f)
{
    const char *words = value_get_str(v, "faultString", ""), *sr = c->sr_uuid != NULL ? c->sr_uuid : "";
    struct value *number = value_get(v, "faultCode");
    gint64 code = number != NULL && number->type == VALUE_STRING ? g_ascii_strtoll(value_str(number), NULL, 10)
                                                                 : value_as_int(number);
    const char *vdi = c->volume != NULL ? c->volume->uuid : "";
    switch (code) {
    case 16:
        return fault_set(f, "SR_DEVICE_IN_USE", sr, NULL);
    case 24:
        return fault_set(f, "VDI_IN_USE", vdi, c->command, NULL);
    case 38:
        return fault_set(f, "SR_OPERATION_NOT_SUPPORTED", sr, NULL);
    case 39:
        return fault_set(f, "SR_NOT_EMPTY", NULL);
    case 144:
        return fault_set(f, "VDI_MISSING", sr, vdi, NULL);
    default:
        break;
    }
    g_autofree char *name = g_strdup_printf("SR_BACKEND_FAILURE_%" G_GINT64_FORMAT, code);
    return fault_set(f, name, "", words, "", NULL);
}

/* The value in a <methodResponse>, VOID for none; NULL with f set. */
static struct value *parse(const struct call *c, const char *out, struct fault *f)
{
    const char *response = strstr(out, "<methodResponse");
    const char *from = response != NULL ? strstr(response, "<value") : NULL;
    const char *to = from != NULL ? g_strrstr(from, "</value>") : NULL;
    const char *fault = response != NULL ? strstr(response, "<fault>") : NULL;
    if (response != NULL && from == NULL && strstr(response, "</methodResponse>") != NULL)
        return value_empty_map();
    g_autoptr(value) v = to != NULL ? xmlrpc_parse_value(from, (gsize) (to - from) + strlen("</value>")) : NULL;
    if (v == NULL) {
        g_autofree char *said = g_utf8_make_valid(out, (gssize) MIN(strlen(out), 1000));
        fault_set(f, "SR_BACKEND_FAILURE", "", "XML parse failure", said, NULL);
        return NULL;
    }
    if (fault != NULL && fault < from) {
        faulty(c, v, f);
        return NULL;
    }
    return g_steal_pointer(&v);
}

static struct value *run(const struct call *c, struct fault *f)
{
    g_autoptr(value) params = params_of(c);
    g_autofree char *text = xmlrpc_value_text(params), *out = NULL;
    g_autofree char *xml =
        g_strdup_printf("<?xml version=\"1.0\"?><methodCall><methodName>%s</methodName><params><param>"
                        "%s</param></params></methodCall>",
                        c->command, text);
    const char *const argv[] = {c->plugin->path, xml, NULL};
    const struct run_options o = {.timeout_s = c->limit_s != 0 ? c->limit_s : PLUGIN_LIMIT_S,
                                  .cancel = c->job != NULL ? c->job->cancel : NULL};
    if (strlen(xml) > MAX_XML_ARG) {
        fault_set(f, "SR_BACKEND_FAILURE", "7", "", "the parameters are too long for the driver", NULL);
        return NULL;
    }
    return run_tool(argv, &o, &out, f) ? parse(c, out, f) : NULL;
}

static gboolean done(const struct call *c, struct fault *f)
{
    g_autoptr(value) v = run(c, f);
    return v != NULL;
}

/* ---- what it is ---- */

static const char *const *descriptions(struct value *set)
{
    GPtrArray *all = g_ptr_array_new();
    for (gsize i = 0; i < value_count(set); i++) {
        struct value *one = value_at(set, i);
        g_ptr_array_add(all, g_strdup(value_get_str(one, "key", "")));
        g_ptr_array_add(all, g_strdup(value_get_str(one, "description", "")));
    }
    g_ptr_array_add(all, NULL);
    return (const char *const *) g_ptr_array_free(all, FALSE);
}

static gboolean query(struct plugin *p, struct fault *f)
{
    const struct call c = {
        .plugin = p, .device_config = value_empty_map(), .command = "sr_get_driver_info", .limit_s = PLUGIN_QUERY_S};
    g_autoptr(value) v = run(&c, f);
    if (v == NULL)
        return FALSE;
    struct storage_driver *d = &p->driver;
    g_autofree char *base = g_path_get_basename(p->path);
    g_autofree char *name = g_strndup(base, strlen(base) - strlen("SR"));
    struct value *can = value_get(v, "capabilities"), *keys = value_get(v, "configuration");
    if (can == NULL || can->type != VALUE_SET)
        return fault_set(f, "SR_BACKEND_FAILURE", "", "the driver tells no capabilities", p->path, NULL);
    d->type = g_ascii_strdown(name, -1);
    d->name = g_strdup(value_get_str(v, "name", ""));
    d->description = g_strdup(value_get_str(v, "description", ""));
    d->vendor = g_strdup(value_get_str(v, "vendor", ""));
    d->copyright = g_strdup(value_get_str(v, "copyright", ""));
    d->version = g_strdup(value_get_str(v, "driver_version", ""));
    d->api_version = g_strdup(value_get_str(v, "required_api_version", ""));
    d->filename = p->path;
    d->configuration = descriptions(keys != NULL && keys->type == VALUE_SET ? keys : value_empty_set());
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    for (gsize i = 0; i < value_count(can); i++)
        g_ptr_array_add(all, (gpointer) value_str(value_at(can, i)));
    g_ptr_array_add(all, NULL);
    plugin_set_capabilities(p, (const char *const *) all->pdata);
    return TRUE;
}

/* ---- the SR ---- */

static gboolean sr_create(struct plugin *p, const char *uuid, struct value *config, gint64 size,
                          struct value **new_config G_GNUC_UNUSED, struct fault *f)
{
    g_autofree char *bytes = g_strdup_printf("%" G_GINT64_FORMAT, size);
    const struct call c = {
        .plugin = p, .sr_uuid = uuid, .device_config = config, .command = "sr_create", .args = {bytes}};
    return done(&c, f);
}

/* Deleting is for attached SRs. */
static gboolean sr_destroy(struct plugin *p, const char *uuid, struct value *config, struct fault *f)
{
    const struct call attach = {.plugin = p, .sr_uuid = uuid, .device_config = config, .command = "sr_attach"};
    const struct call delete = {.plugin = p, .sr_uuid = uuid, .device_config = config, .command = "sr_delete"};
    const struct call detach = {.plugin = p, .sr_uuid = uuid, .device_config = config, .command = "sr_detach"};
    if (!done(&attach, f))
        return FALSE;
    if (done(&delete, f))
        return TRUE;
    done(&detach, NULL);
    return FALSE;
}

/* It prints XML in its answer: <SRlist><SR><UUID>..</UUID></SR>..</SRlist>, with more or less white space and whatever
 * else the driver tells. */
static gboolean sr_probe(struct plugin *p, struct value *config, struct value_builder *srs, struct fault *f)
{
    const struct call c = {.plugin = p, .device_config = config, .command = "sr_probe"};
    g_autoptr(value) v = run(&c, f);
    if (v == NULL)
        return FALSE;
    struct value_builder b;
    const char *xml = v->type == VALUE_STRING ? value_str(v) : "";
    for (const char *at = strstr(xml, "<UUID>"); at != NULL; at = strstr(at, "<UUID>")) {
        at += strlen("<UUID>");
        const char *end = strchr(at, '<');
        g_autofree char *uuid = g_strndup(at, end != NULL ? (gsize) (end - at) : 0);
        g_strstrip(uuid);
        if (!storage_uuid_is_valid(uuid))
            continue;
        value_builder_map(&b, NULL, 3);
        value_builder_put_string(&b, "sr", uuid);
        value_builder_put(&b, "device_config", value_ref(config));
        value_builder_put_string(&b, "xml", xml);
        value_builder_add(srs, value_builder_end(&b));
    }
    return TRUE;
}

static struct call on_sr(struct plugin_sr *s, const char *command)
{
    return (struct call){
        .plugin = s->plugin, .sr = s, .sr_uuid = s->uuid, .device_config = s->device_config, .command = command};
}

static gboolean sr_attach(struct plugin_sr *s, struct fault *f)
{
    struct call c = on_sr(s, "sr_attach");
    return done(&c, f);
}

static gboolean sr_detach(struct plugin_sr *s, struct fault *f)
{
    struct call c = on_sr(s, "sr_detach");
    return done(&c, f);
}

/* The driver tells the API what there is. */
static gboolean scan(struct plugin_sr *s, GPtrArray *vdis G_GNUC_UNUSED, struct fault *f)
{
    struct call c = on_sr(s, "sr_scan");
    return done(&c, f);
}

static gboolean stat_sr(struct plugin_sr *s, struct storage_space *space, struct fault *f)
{
    struct call c = on_sr(s, "sr_update");
    *space = (struct storage_space){0};
    return done(&c, f);
}

/* ---- VDIs ---- */

static gboolean take(struct value *v, struct storage_vdi *out, struct fault *f)
{
    const char *uuid = v != NULL && v->type == VALUE_MAP ? value_get_str(v, "uuid", "") : "";
    if (!storage_uuid_is_valid(uuid))
        return fault_set(f, "SR_BACKEND_FAILURE", "", "<struct> missing field: uuid", "", NULL);
    memset(out, 0, sizeof *out);
    g_strlcpy(out->uuid, uuid, sizeof out->uuid);
    out->location = g_strdup(value_get_str(v, "location", uuid));
    out->type = "raw";
    return TRUE;
}

static gboolean create(struct plugin_sr *s, gint64 size, const char *type, struct value *sm_config,
                       struct storage_vdi *out, struct fault *f)
{
    const struct helper_request *req = helper_current();
    struct value *params = req != NULL ? req->params : value_empty_map();
    g_autofree char *bytes = g_strdup_printf("%" G_GINT64_FORMAT, size);
    g_autoptr(value) config =
        *type != '\0' ? value_map_with(sm_config, "type", value_string(NULL, type)) : value_ref(sm_config);
    struct call c = on_sr(s, "vdi_create");
    const char *const args[] = {bytes,
                                value_get_str(params, "name_label", ""),
                                value_get_str(params, "name_description", ""),
                                "",
                                "false",
                                EPOCH,
                                "",
                                "false"};
    memcpy(c.args, args, sizeof args);
    c.vdi_sm_config = config;
    g_autoptr(value) v = run(&c, f);
    return v != NULL && take(v, out, f);
}

static struct call on_volume(struct plugin_sr *s, struct plugin_volume *v, const char *command, const char *arg)
{
    struct call c = on_sr(s, command);
    c.volume = v;
    c.args[0] = arg;
    return c;
}

static gboolean destroy(struct plugin_sr *s, struct plugin_volume *v, struct fault *f)
{
    struct call c = on_volume(s, v, "vdi_delete", NULL);
    return done(&c, f);
}

static gboolean derive(struct plugin_sr *s, struct plugin_volume *v, gboolean snapshot, const struct storage_job *job,
                       struct storage_vdi *out, struct fault *f)
{
    struct call c = on_volume(s, v, snapshot ? "vdi_snapshot" : "vdi_clone", NULL);
    c.job = job;
    c.limit_s = PLUGIN_LONG_S;
    g_autoptr(value) made = run(&c, f);
    return made != NULL && take(made, out, f);
}

static gboolean resize(struct plugin_sr *s, struct plugin_volume *v, gint64 size, struct fault *f)
{
    g_autofree char *bytes = g_strdup_printf("%" G_GINT64_FORMAT, size);
    struct call c = on_volume(s, v, "vdi_resize", bytes);
    return done(&c, f);
}

/* Its sizes are in the records. */
static gboolean describe(struct plugin_sr *s G_GNUC_UNUSED, struct plugin_volume *v, struct storage_vdi *out,
                         struct fault *f G_GNUC_UNUSED)
{
    memset(out, 0, sizeof *out);
    g_strlcpy(out->uuid, v->uuid, sizeof out->uuid);
    out->location = g_strdup(v->location != NULL ? v->location : v->uuid);
    out->type = "raw";
    return TRUE;
}

static gboolean can(struct plugin_sr *s, const char *capability)
{
    return g_strv_contains(s->plugin->driver.capabilities, capability);
}

static gboolean open_volume(struct plugin_sr *s, struct plugin_volume *v, gboolean writable, struct fault *f)
{
    const char *arg = writable ? "true" : "false";
    struct call attach = on_volume(s, v, "vdi_attach", arg), activate = on_volume(s, v, "vdi_activate", arg);
    struct call detach = on_volume(s, v, "vdi_detach", NULL);
    g_autoptr(value) there = run(&attach, f);
    if (there == NULL)
        return FALSE;
    const char *path = there->type == VALUE_STRING ? value_str(there) : value_get_str(there, "params", "");
    gboolean usable = *path == '/' || fault_set(f, "SR_BACKEND_FAILURE_46", "", "The VDI is not available",
                                                "vdi_attach answered no path", NULL);
    if (usable && (!can(s, "VDI_ACTIVATE") || done(&activate, f))) {
        v->path = g_strdup(path);
        v->format = "raw";
        return TRUE;
    }
    done(&detach, NULL);
    return FALSE;
}

static gboolean close_volume(struct plugin_sr *s, struct plugin_volume *v, struct fault *f)
{
    struct call deactivate = on_volume(s, v, "vdi_deactivate", NULL), detach = on_volume(s, v, "vdi_detach", NULL);
    return (!can(s, "VDI_DEACTIVATE") || done(&deactivate, f)) && done(&detach, f);
}

const struct plugin_ops plugin_smapi1 = {
    .keeps_records = TRUE,
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
