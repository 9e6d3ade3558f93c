/* storage_start.c - storage at start: the drivers' SM records, a new host's first SR, PBDs plugged again. */
#include "daemon/task.h"
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"
#include "xenbackend/backend.h"

#define DEFAULT_SR_NAME "Local storage"

/* ---- SM records ---- */

static const char *sm_of_type(struct txn *t, const char *type)
{
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_SM);
    for (guint i = 0; i < all->len; i++) {
        struct record *r = all->pdata[i];
        if (strcmp(record_str(r, F_SM_type), type) == 0)
            return r->ref;
    }
    return txn_create(t, CLASS_SM, NULL, NULL);
}

static void set_if_given(struct txn *t, const char *ref, int field, struct value *v)
{
    if (v)
        txn_set(t, CLASS_SM, ref, field, value_ref(v));
}

static void record_driver(struct txn *t, struct value *driver)
{
    const char *ref = sm_of_type(t, value_get_str(driver, "type", ""));
    txn_set_str(t, CLASS_SM, ref, F_SM_type, value_get_str(driver, "type", ""));
    txn_set_str(t, CLASS_SM, ref, F_SM_name_label, value_get_str(driver, "name", ""));
    txn_set_str(t, CLASS_SM, ref, F_SM_name_description, value_get_str(driver, "description", ""));
    txn_set_str(t, CLASS_SM, ref, F_SM_vendor, value_get_str(driver, "vendor", ""));
    txn_set_str(t, CLASS_SM, ref, F_SM_copyright, value_get_str(driver, "copyright", ""));
    txn_set_str(t, CLASS_SM, ref, F_SM_version, value_get_str(driver, "driver_version", ""));
    txn_set_str(t, CLASS_SM, ref, F_SM_required_api_version, value_get_str(driver, "required_api_version", ""));
    txn_set_str(t, CLASS_SM, ref, F_SM_driver_filename, value_get_str(driver, "driver_filename", ""));
    set_if_given(t, ref, F_SM_capabilities, value_get(driver, "capabilities"));
    set_if_given(t, ref, F_SM_configuration, value_get(driver, "configuration"));
    set_if_given(t, ref, F_SM_features, value_get(driver, "features"));
}

static gboolean is_offered(struct value *drivers, const char *type)
{
    for (gsize i = 0; i < value_count(drivers); i++) {
        if (strcmp(value_get_str(value_at(drivers, i), "type", ""), type) == 0)
            return TRUE;
    }
    return FALSE;
}

static void record_drivers(void)
{
    struct fault f = FAULT_INIT;
    g_autoptr(value) answer = backend_call("sr.drivers", NULL, NULL, &f);

    if (!answer) {
        g_autofree char *text = fault_text(&f);
        g_warning("the backend did not list its storage drivers: %s", text);
        fault_clear(&f);
        return;
    }
    struct value *drivers = value_get(answer, "drivers");
    struct txn *t = txn_begin(the_store());
    g_autoptr(GPtrArray) known = txn_all(t, CLASS_SM);
    for (guint i = 0; i < known->len; i++) { /* uninstalled since */
        struct record *r = known->pdata[i];
        if (!is_offered(drivers, record_str(r, F_SM_type)))
            txn_destroy(t, CLASS_SM, r->ref);
    }
    for (gsize i = 0; i < value_count(drivers); i++)
        record_driver(t, value_at(drivers, i));
    txn_commit(t);
}

/* ---- the first SR of a new host ---- */

static struct value *location_config(const char *path)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "location", path);
    return value_builder_end(&b);
}

static struct value *ask(const char *method, const char *sr_uuid, const char *path, struct fault *f)
{
    struct value_builder b;
    storage_params_begin(&b, sr_uuid, NULL);
    value_builder_put_string(&b, "type", "file");
    value_builder_put(&b, "device_config", location_config(path));
    value_builder_put(&b, "size", value_int(NULL, 0));
    g_autoptr(value) params = value_builder_end(&b);
    return backend_call(method, params, NULL, f);
}

/* The SR that was made there before, when its records were lost; else a new identity. */
static void choose_uuid(const char *path, char uuid[UUID_SIZE])
{
    struct fault f = FAULT_INIT;
    g_autoptr(value) found = ask("sr.probe", NULL, path, &f); /* fails when nothing is there */
    const char *known = value_get_str(value_at(value_get(found, "srs"), 0), "sr", "");

    if (uuid_is_valid(known))
        g_strlcpy(uuid, known, UUID_SIZE);
    else
        uuid_generate_text(uuid);
    fault_clear(&f);
}

static void record_first_sr(const char *uuid, const char *path)
{
    struct txn *t = txn_begin(the_store());
    const char *sr = txn_create(t, CLASS_SR, NULL, uuid), *pbd = txn_create(t, CLASS_PBD, NULL, NULL);
    txn_set_str(t, CLASS_SR, sr, F_SR_name_label, DEFAULT_SR_NAME);
    txn_set_str(t, CLASS_SR, sr, F_SR_name_description, "Disk images of the simulated host's guests");
    txn_set_str(t, CLASS_SR, sr, F_SR_type, "file");
    txn_set_str(t, CLASS_SR, sr, F_SR_content_type, "user");
    txn_set_str(t, CLASS_PBD, pbd, F_PBD_SR, sr);
    txn_set_str(t, CLASS_PBD, pbd, F_PBD_host, host_ref());
    txn_set(t, CLASS_PBD, pbd, F_PBD_device_config, location_config(path));
    txn_set_str(t, CLASS_pool, pool_ref(), F_pool_default_SR, sr);
    txn_set_str(t, CLASS_pool, pool_ref(), F_pool_suspend_image_SR, sr);
    txn_commit(t);
}

/* The simulated host brings one along; on a real one the administrator says where disks go. */
static void make_first_sr(void)
{
    const struct conf *conf = the_conf();
    struct fault f = FAULT_INIT;
    char uuid[UUID_SIZE];
    g_autofree char *path = conf->sim_storage_dir && *conf->sim_storage_dir
                                ? g_strdup(conf->sim_storage_dir)
                                : g_build_filename(conf->state_dir, "sr", NULL);

    if (conf->backend != BACKEND_SIM || store_count(the_store(), CLASS_SR))
        return;
    choose_uuid(path, uuid);
    g_autoptr(value) made = ask("sr.create", uuid, path, &f);
    if (made) {
        record_first_sr(uuid, path);
        return;
    }
    g_autofree char *text = fault_text(&f);
    g_warning("could not make the first SR in %s: %s", path, text);
    fault_clear(&f);
}

/* ---- plugging again ---- */

static void alert(const struct record *pbd, const char *why)
{
    g_autoptr(record) sr = store_get(the_store(), CLASS_SR, record_str(pbd, F_PBD_SR));
    struct txn *t = txn_begin(the_store());
    const char *ref = txn_create(t, CLASS_message, NULL, NULL);

    txn_set_str(t, CLASS_message, ref, F_message_name, "PBD_PLUG_FAILED_ON_SERVER_START");
    txn_set_int(t, CLASS_message, ref, F_message_priority, 3);
    txn_set_str(t, CLASS_message, ref, F_message_cls, "SR");
    txn_set_str(t, CLASS_message, ref, F_message_obj_uuid, sr ? record_str(sr, F_SR_uuid) : "");
    txn_set_str(t, CLASS_message, ref, F_message_body, why);
    txn_set_time(t, CLASS_message, ref, F_message_timestamp, g_get_real_time() / G_USEC_PER_SEC);
    txn_commit(t);
}

static struct value *plug_task(struct call *c, void *data)
{
    const char *pbd_ref = data;
    if (pbd_plug_now(c, pbd_ref))
        return value_void();
    g_autoptr(record) pbd = store_get(the_store(), CLASS_PBD, pbd_ref);
    g_autofree char *text = fault_text(&c->fault);
    g_warning("PBD %s was not plugged: %s; correct it and call PBD.plug", pbd ? record_str(pbd, F_PBD_uuid) : pbd_ref,
              text);
    if (pbd)
        alert(pbd, text);
    return NULL;
}

/* Each as a task of its own: an SR that hangs delays nothing else. */
static void plug_all(void)
{
    g_autoptr(GPtrArray) pbds = store_all(the_store(), CLASS_PBD);
    struct txn *t = txn_begin(the_store());
    for (guint i = 0; i < pbds->len; i++) {
        struct record *pbd = pbds->pdata[i];
        if (txn_get(t, CLASS_PBD, pbd->ref))
            txn_set_bool(t, CLASS_PBD, pbd->ref, F_PBD_currently_attached, FALSE);
    }
    txn_commit(t);
    for (guint i = 0; i < pbds->len; i++) {
        struct record *pbd = pbds->pdata[i];
        if (strcmp(record_str(pbd, F_PBD_host), host_ref()) == 0)
            task_spawn("PBD.plug", pbd->ref, plug_task, g_strdup(pbd->ref), g_free);
    }
}

void storage_start(void)
{
    record_drivers();
    make_first_sr();
    plug_all();
}

void storage_backend_up(void)
{
    record_drivers();
    plug_all();
}

void storage_changed(struct value *params)
{
    g_autoptr(record) sr = store_get_by_uuid(the_store(), CLASS_SR, value_get_str(params, "sr", ""));
    if (!sr)
        return;
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_SR, sr->ref)) {
        txn_set_int(t, CLASS_SR, sr->ref, F_SR_physical_size, value_as_int(value_get(params, "physical_size")));
        txn_set_int(t, CLASS_SR, sr->ref, F_SR_physical_utilisation,
                    value_as_int(value_get(params, "physical_utilisation")));
    }
    txn_commit(t);
}
