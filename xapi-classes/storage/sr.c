/* sr.c - the class SR: storage repositories from creation to destruction, scans and probes. */
#include "daemon/codec/jsonrpc.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"

gboolean sr_type_is_known(const char *type)
{
    g_autoptr(GPtrArray) sms = store_all(the_store(), CLASS_SM);
    for (guint i = 0; i < sms->len; i++) {
        if (strcmp(record_str(sms->pdata[i], F_SM_type), type) == 0)
            return TRUE;
    }
    return FALSE;
}

struct value *sr_get_supported_types(G_GNUC_UNUSED struct call *c)
{
    g_autoptr(GPtrArray) sms = store_all(the_store(), CLASS_SM);
    struct value_builder b;

    value_builder_set(&b, NULL, sms->len);
    for (guint i = 0; i < sms->len; i++)
        value_builder_add_string(&b, record_str(sms->pdata[i], F_SM_type));
    return value_builder_end(&b);
}

/* ---- create ---- */

/* What SR.create, make and introduce say of the new SR. */
struct sr_description {
    const char *uuid, *name, *description, *type, *content_type;
    gboolean shared;
    struct value *sm_config;
};

static const char *add_sr(struct txn *t, const struct sr_description *d)
{
    const char *ref = txn_create(t, CLASS_SR, NULL, d->uuid);
    txn_set_str(t, CLASS_SR, ref, F_SR_name_label, d->name);
    txn_set_str(t, CLASS_SR, ref, F_SR_name_description, d->description);
    txn_set_str(t, CLASS_SR, ref, F_SR_type, d->type);
    txn_set_str(t, CLASS_SR, ref, F_SR_content_type, d->content_type);
    txn_set_bool(t, CLASS_SR, ref, F_SR_shared, d->shared);
    txn_set(t, CLASS_SR, ref, F_SR_sm_config, value_ref(d->sm_config));
    return ref;
}

/* *config: what the driver wants the PBD's device_config to be instead; left as it is when it wants nothing. */
static gboolean make_on_medium(struct call *c, const struct sr_description *d, struct value *device_config, gint64 size,
                               struct value **config)
{
    struct value_builder b;
    storage_params_begin(&b, d->uuid, NULL);
    value_builder_put_string(&b, "type", d->type);
    value_builder_put(&b, "device_config", value_ref(device_config));
    value_builder_put(&b, "sm_config", value_ref(d->sm_config));
    value_builder_put(&b, "size", value_int(NULL, size));
    g_autoptr(value) done = storage_call(c, "sr.create", value_builder_end(&b));
    struct value *wanted = done ? value_get(done, "device_config") : NULL;
    if (wanted && config)
        *config = value_ref(wanted);
    return done != NULL;
}

/* The records of a new SR with its PBD on host; answers the SR's reference (heap) and the PBD's through *pbd. */
static struct value *record_sr(struct call *c, const struct sr_description *d, const char *host,
                               struct value *device_config, struct value **pbd)
{
    struct txn *t = txn_begin(the_store());
    struct value *sr = value_string(NULL, add_sr(t, d));
    *pbd = value_string(NULL, txn_create(t, CLASS_PBD, NULL, NULL));
    txn_set_str(t, CLASS_PBD, value_str(*pbd), F_PBD_SR, value_str(sr));
    txn_set_str(t, CLASS_PBD, value_str(*pbd), F_PBD_host, host);
    txn_set(t, CLASS_PBD, value_str(*pbd), F_PBD_device_config, value_ref(device_config));
    call_commit(c, t);
    return sr;
}

static void unrecord(struct call *c, struct value *sr, struct value *pbd)
{
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_PBD, value_str(pbd)))
        txn_destroy(t, CLASS_PBD, value_str(pbd));
    if (txn_get(t, CLASS_SR, value_str(sr)))
        txn_destroy(t, CLASS_SR, value_str(sr));
    call_commit(c, t);
}

/* A driver of the site asks for the SR's record while it makes the SR. */
static gboolean make_recorded(struct call *c, const struct sr_description *d, struct value *device_config, gint64 size,
                              const char *pbd)
{
    g_autoptr(value) config = NULL;
    if (!make_on_medium(c, d, device_config, size, &config))
        return FALSE;
    struct txn *t = txn_begin(the_store());
    if (config && txn_get(t, CLASS_PBD, pbd))
        txn_set(t, CLASS_PBD, pbd, F_PBD_device_config, value_ref(config));
    call_commit(c, t);
    return TRUE;
}

static struct value *create(struct call *c, const struct sr_description *d, struct value *device_config, gint64 size)
{
    g_autoptr(record) host = call_object(c, 0);
    g_autoptr(value) pbd = NULL;

    if (!host)
        return NULL;
    if (!sr_type_is_known(d->type))
        return call_fail(c, "SR_UNKNOWN_DRIVER", d->type, NULL);
    gboolean of_site = sr_type_is_of_site(d->type);
    if (!of_site && !make_on_medium(c, d, device_config, size, NULL))
        return NULL;
    struct value *sr = record_sr(c, d, host->ref, device_config, &pbd);
    if ((!of_site || make_recorded(c, d, device_config, size, value_str(pbd))) && pbd_plug_now(c, value_str(pbd)))
        return sr;
    unrecord(c, sr, pbd); /* what was made on the medium stays: it can be introduced once it attaches */
    value_unref(sr);
    return NULL;
}

struct value *sr_create(struct call *c)
{
    char uuid[UUID_SIZE];
    uuid_generate_text(uuid);
    struct sr_description d = {.uuid = uuid,
                               .name = call_str(c, 3),
                               .description = call_str(c, 4),
                               .type = call_str(c, 5),
                               .content_type = call_str(c, 6),
                               .shared = call_bool(c, 7),
                               .sm_config = call_arg(c, 8)};
    return create(c, &d, call_arg(c, 1), call_int(c, 2));
}

/* SR.make(host, device_config, size, name, description, type, content_type, sm_config): on the medium only. */
struct value *sr_make(struct call *c)
{
    char uuid[UUID_SIZE];
    g_autoptr(record) host = call_object(c, 0);
    if (!host)
        return NULL;
    uuid_generate_text(uuid);
    struct sr_description d = {.uuid = uuid, .type = call_str(c, 5), .sm_config = call_arg(c, 7)};
    if (!sr_type_is_known(d.type))
        return call_fail(c, "SR_UNKNOWN_DRIVER", d.type, NULL);
    return make_on_medium(c, &d, call_arg(c, 1), call_int(c, 2), NULL) ? value_string(NULL, uuid) : NULL;
}

struct value *sr_introduce(struct call *c)
{
    struct sr_description d = {.uuid = call_str(c, 0),
                               .name = call_str(c, 1),
                               .description = call_str(c, 2),
                               .type = call_str(c, 3),
                               .content_type = call_str(c, 4),
                               .shared = call_bool(c, 5),
                               .sm_config = call_arg(c, 6)};
    g_autoptr(record) there = store_get_by_uuid(the_store(), CLASS_SR, d.uuid);

    if (there)
        return call_fail(c, "SR_UUID_EXISTS", d.uuid, NULL);
    if (!uuid_is_valid(d.uuid))
        return call_fail(c, "INVALID_VALUE", "uuid", d.uuid, NULL);
    if (!sr_type_is_known(d.type))
        return call_fail(c, "SR_UNKNOWN_DRIVER", d.type, NULL);
    struct txn *t = txn_begin(the_store());
    struct value *ref = value_string(NULL, add_sr(t, &d));
    call_commit(c, t);
    return ref;
}

/* ---- forget, destroy ---- */

/* The SR if no PBD of it is plugged; NULL after failing. */
static struct record *unplugged(struct call *c)
{
    g_autoptr(record) sr = call_object(c, 0);
    struct value *pbds = sr ? record_field(sr, F_SR_PBDs) : NULL;

    for (gsize i = 0; i < value_count(pbds); i++) {
        g_autoptr(record) pbd = store_get(the_store(), CLASS_PBD, value_str(value_at(pbds, i)));
        if (pbd && record_bool(pbd, F_PBD_currently_attached)) {
            call_fail(c, "SR_HAS_PBD", sr->ref, NULL);
            return NULL;
        }
    }
    return g_steal_pointer(&sr);
}

static void clear_fields(struct txn *t, const struct record *r, const int *fields, gsize n, const char *sr)
{
    for (gsize i = 0; r && i < n; i++) {
        if (strcmp(record_str(r, fields[i]), sr) == 0)
            txn_set_str(t, r->class->id, r->ref, fields[i], NULL_REF);
    }
}

/* Nothing says any more that the SR is to be used. */
static void clear_references(struct txn *t, const char *sr)
{
    static const int of_pool[] = {F_pool_default_SR, F_pool_suspend_image_SR, F_pool_crash_dump_SR};
    static const int of_host[] = {F_host_suspend_image_sr, F_host_crash_dump_sr, F_host_local_cache_sr};
    static const int of_vm[] = {F_VM_suspend_SR};
    g_autoptr(GPtrArray) vms = txn_all(t, CLASS_VM);

    clear_fields(t, txn_get(t, CLASS_pool, pool_ref()), of_pool, G_N_ELEMENTS(of_pool), sr);
    clear_fields(t, txn_get(t, CLASS_host, host_ref()), of_host, G_N_ELEMENTS(of_host), sr);
    for (guint i = 0; i < vms->len; i++)
        clear_fields(t, vms->pdata[i], of_vm, G_N_ELEMENTS(of_vm), sr);
}

static struct value *drop_records(struct call *c, const struct record *sr)
{
    struct txn *t = txn_begin(the_store());
    struct value *vdis = record_field(sr, F_SR_VDIs), *pbds = record_field(sr, F_SR_PBDs);

    for (gsize i = 0; i < value_count(vdis); i++)
        vdi_forget_record(t, value_str(value_at(vdis, i)));
    for (gsize i = 0; i < value_count(pbds); i++) {
        if (txn_get(t, CLASS_PBD, value_str(value_at(pbds, i))))
            txn_destroy(t, CLASS_PBD, value_str(value_at(pbds, i)));
    }
    clear_references(t, sr->ref);
    if (txn_get(t, CLASS_SR, sr->ref))
        txn_destroy(t, CLASS_SR, sr->ref);
    call_commit(c, t);
    return value_void();
}

struct value *sr_forget(struct call *c)
{
    g_autoptr(record) sr = unplugged(c);
    return sr ? drop_records(c, sr) : NULL;
}

struct value *sr_destroy(struct call *c)
{
    g_autoptr(record) sr = unplugged(c);
    struct value_builder b;

    if (!sr)
        return NULL;
    g_autoptr(record) pbd = store_get(the_store(), CLASS_PBD, value_str(value_at(record_field(sr, F_SR_PBDs), 0)));
    if (!pbd)
        return call_fail(c, "SR_HAS_NO_PBDS", sr->ref, NULL);
    if (g_strcmp0(record_key(sr, F_SR_other_config, "indestructible"), "true") == 0)
        return call_fail(c, "SR_INDESTRUCTIBLE", sr->ref, NULL);
    storage_params_begin(&b, record_str(sr, F_SR_uuid), NULL);
    value_builder_put_string(&b, "type", record_str(sr, F_SR_type));
    value_builder_put(&b, "device_config", value_ref(record_field(pbd, F_PBD_device_config)));
    g_autoptr(value) done = storage_call(c, "sr.destroy", value_builder_end(&b));
    return done ? drop_records(c, sr) : NULL;
}

/* ---- scan, update, probe ---- */

struct value *sr_scan(struct call *c)
{
    return sr_scan_now(c, call_str(c, 0)) ? value_void() : NULL;
}

struct value *sr_update(struct call *c)
{
    g_autoptr(record) sr = storage_attached_sr(call_str(c, 0), &c->fault);
    if (!sr)
        return NULL;
    g_autoptr(value) stat = storage_call(c, "sr.stat", storage_params(record_str(sr, F_SR_uuid), NULL));
    if (!stat)
        return NULL;
    struct txn *t = txn_begin(the_store());
    sr_apply(t, sr->ref, stat);
    call_commit(c, t);
    return value_void();
}

/* Both probes have the arguments host, device_config, type, sm_config. */
static struct value *probe(struct call *c)
{
    g_autoptr(record) host = call_object(c, 0);
    struct value_builder b;

    if (!host)
        return NULL;
    if (!sr_type_is_known(call_str(c, 2)))
        return call_fail(c, "SR_UNKNOWN_DRIVER", call_str(c, 2), NULL);
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "type", call_str(c, 2));
    value_builder_put(&b, "device_config", value_ref(call_arg(c, 1)));
    value_builder_put(&b, "sm_config", value_ref(call_arg(c, 3)));
    return storage_call(c, "sr.probe", value_builder_end(&b));
}

/* The form that older drivers print: <SRlist><SR><UUID>..</UUID></SR></SRlist>. */
struct value *sr_probe(struct call *c)
{
    g_autoptr(value) found = probe(c);
    if (!found)
        return NULL;
    struct value *srs = value_get(found, "srs");
    g_autoptr(GString) s = g_string_new("<?xml version=\"1.0\" ?>\n<SRlist>\n");
    for (gsize i = 0; i < value_count(srs); i++) {
        g_autofree char *uuid = g_markup_escape_text(value_get_str(value_at(srs, i), "sr", ""), -1);
        g_string_append_printf(s, "\t<SR>\n\t\t<UUID>%s</UUID>\n\t</SR>\n", uuid);
    }
    g_string_append(s, "</SRlist>\n");
    return value_string(NULL, s->str);
}

static struct value *sr_stat_of(struct value *found)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 7);
    value_builder_put_string(&b, "uuid", value_get_str(found, "sr", ""));
    value_builder_put_string(&b, "name_label", value_get_str(found, "name_label", ""));
    value_builder_put_string(&b, "name_description", value_get_str(found, "name_description", ""));
    value_builder_put(&b, "free_space", value_int(NULL, value_as_int(value_get(found, "free_space"))));
    value_builder_put(&b, "total_space", value_int(NULL, value_as_int(value_get(found, "total_space"))));
    value_builder_put(&b, "clustered", value_bool(FALSE));
    value_builder_put_string(&b, "health", "healthy");
    return value_builder_end(&b);
}

struct value *sr_probe_ext(struct call *c)
{
    g_autoptr(value) found = probe(c);
    struct value_builder b;
    if (!found)
        return NULL;
    struct value *srs = value_get(found, "srs");
    value_builder_set(&b, NULL, value_count(srs));
    for (gsize i = 0; i < value_count(srs); i++) {
        struct value *one = value_at(srs, i), *config = value_get(one, "device_config");
        struct value_builder r;
        value_builder_map(&r, NULL, 4);
        value_builder_put(&r, "configuration", config ? value_ref(config) : value_ref(call_arg(c, 1)));
        struct value *complete = value_get(one, "complete"), *extra = value_get(one, "extra_info");
        value_builder_put(&r, "complete", value_bool(!complete || value_as_bool(complete)));
        value_builder_put(&r, "sr", sr_stat_of(one));
        value_builder_put(&r, "extra_info", extra ? value_ref(extra) : value_empty_map());
        value_builder_add(&b, value_builder_end(&r));
    }
    return value_builder_end(&b);
}

/* ---- setters, and what no driver here can do ---- */

static struct value *set_field(struct call *c, int field)
{
    struct txn *t = txn_begin(the_store());
    if (!call_txn_object(c, t, 0)) {
        txn_abort(t);
        return NULL;
    }
    txn_set(t, CLASS_SR, call_str(c, 0), field, value_ref(call_arg(c, 1)));
    call_commit(c, t);
    return value_void();
}

struct value *sr_set_name_label(struct call *c)
{
    return set_field(c, F_SR_name_label);
}

struct value *sr_set_name_description(struct call *c)
{
    return set_field(c, F_SR_name_description);
}

struct value *sr_set_physical_size(struct call *c)
{
    return set_field(c, F_SR_physical_size);
}

struct value *sr_set_shared(struct call *c)
{
    g_autoptr(record) sr = call_object(c, 0);
    if (!sr)
        return NULL;
    if (!call_bool(c, 1) && value_count(record_field(sr, F_SR_PBDs)) > 1)
        return call_fail(c, "SR_HAS_MULTIPLE_PBDS", value_str(value_at(record_field(sr, F_SR_PBDs), 0)), NULL);
    return set_field(c, F_SR_shared);
}

struct value *sr_not_supported(struct call *c)
{
    g_autoptr(record) sr = call_object(c, 0);
    return sr ? call_fail(c, "SR_OPERATION_NOT_SUPPORTED", sr->ref, NULL) : NULL;
}
