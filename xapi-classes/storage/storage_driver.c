/* storage_driver.c - storage drivers that keep the records of their SRs themselves: the session that they do it with,
 * what they are told of the objects they work for, and the messages that are for them alone. */
#include "auth/session.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"

static gboolean is_of_site(const char *type)
{
    g_autoptr(GPtrArray) sms = store_all(the_store(), CLASS_SM);
    for (guint i = 0; i < sms->len; i++)
        if (strcmp(record_str(sms->pdata[i], F_SM_type), type) == 0)
            return *record_str(sms->pdata[i], F_SM_driver_filename) != '\0';
    return FALSE;
}

gboolean sr_type_is_of_site(const char *type)
{
    return is_of_site(type);
}

/* {host_ref, session_ref, sr_ref, subtask_of}: sr may be NULL. */
static struct value *context(struct call *c, const struct record *sr)
{
    struct value_builder b;
    struct session *s = session_for_drivers();
    const char *task = call_task_ref(c);
    value_builder_map(&b, NULL, 6);
    value_builder_put_string(&b, "host_ref", host_ref());
    if (s)
        value_builder_put_string(&b, "session_ref", s->ref);
    if (sr) {
        value_builder_put_string(&b, "sr_ref", sr->ref);
        value_builder_put_string(&b, "name_label", record_str(sr, F_SR_name_label));
        value_builder_put_string(&b, "name_description", record_str(sr, F_SR_name_description));
    }
    if (task && *task)
        value_builder_put_string(&b, "subtask_of", task);
    session_unref(s);
    return value_builder_end(&b);
}

/* Only drivers of the site want it: a session is not told to anybody else. */
struct value *storage_with_context(struct call *c, struct value *params)
{
    g_autoptr(record) sr = store_get_by_uuid(the_store(), CLASS_SR, value_get_str(params, "sr", ""));
    const char *type = sr ? record_str(sr, F_SR_type) : value_get_str(params, "type", "");
    if (!is_of_site(type))
        return params;
    struct value *with = value_map_with(params, "context", context(c, sr));
    value_unref(params);
    return with;
}

/* ---- messages for drivers ---- */

/* VDI.db_introduce(uuid, name_label, name_description, SR, type, sharable, read_only, other_config, location,
 * xenstore_data, sm_config, managed, virtual_size, physical_utilisation, metadata_of_pool, is_a_snapshot,
 * snapshot_time, snapshot_of, cbt_enabled). */
struct value *vdi_db_introduce(struct call *c)
{
    static const int fields[] = {0,
                                 F_VDI_name_label,
                                 F_VDI_name_description,
                                 F_VDI_SR,
                                 F_VDI_type,
                                 F_VDI_sharable,
                                 F_VDI_read_only,
                                 F_VDI_other_config,
                                 F_VDI_location,
                                 F_VDI_xenstore_data,
                                 F_VDI_sm_config,
                                 F_VDI_managed,
                                 F_VDI_virtual_size,
                                 F_VDI_physical_utilisation,
                                 F_VDI_metadata_of_pool,
                                 F_VDI_is_a_snapshot,
                                 F_VDI_snapshot_time,
                                 F_VDI_snapshot_of,
                                 F_VDI_cbt_enabled};
    const char *uuid = call_str(c, 0);
    g_autoptr(record) there = store_get_by_uuid(the_store(), CLASS_VDI, uuid);
    g_autoptr(record) sr = call_object(c, 3);
    if (!sr)
        return NULL;
    if (!uuid_is_valid(uuid))
        return call_fail(c, "INVALID_VALUE", "uuid", uuid, NULL);
    if (there)
        return call_fail(c, "DB_UNIQUENESS_CONSTRAINT_VIOLATION", "VDI", "uuid", uuid, NULL);
    struct txn *t = txn_begin(the_store());
    struct value *ref = value_string(NULL, txn_create(t, CLASS_VDI, NULL, uuid));
    for (gsize i = 1; i < G_N_ELEMENTS(fields); i++) {
        struct value *given = call_arg(c, (int) i);
        gboolean no_ref = (fields[i] == F_VDI_metadata_of_pool || fields[i] == F_VDI_snapshot_of) && given &&
                          *value_str(given) == '\0';
        if (given && !no_ref)
            txn_set(t, CLASS_VDI, value_str(ref), fields[i], value_ref(given));
    }
    call_commit(c, t);
    return ref;
}

struct value *vdi_db_forget(struct call *c)
{
    return vdi_forget(c);
}

static struct value *set(struct call *c, enum class_id class, int field)
{
    struct txn *t = txn_begin(the_store());
    if (!call_txn_object(c, t, 0)) {
        txn_abort(t);
        return NULL;
    }
    txn_set(t, class, call_str(c, 0), field, value_ref(call_arg(c, 1)));
    call_commit(c, t);
    return value_void();
}

gboolean call_is_of_driver(const struct call *c)
{
    return c->session && c->session->of_drivers;
}

#define SETTER_OF(name, class, field)                                                                                  \
    struct value *name(struct call *c)                                                                                 \
    {                                                                                                                  \
        return set(c, class, field);                                                                                   \
    }
SETTER_OF(vdi_db_set_virtual_size, CLASS_VDI, F_VDI_virtual_size)
SETTER_OF(vdi_set_physical_utilisation, CLASS_VDI, F_VDI_physical_utilisation)
SETTER_OF(vdi_set_managed, CLASS_VDI, F_VDI_managed)
SETTER_OF(vdi_set_missing, CLASS_VDI, F_VDI_missing)
SETTER_OF(vdi_set_is_a_snapshot, CLASS_VDI, F_VDI_is_a_snapshot)
SETTER_OF(vdi_set_snapshot_of, CLASS_VDI, F_VDI_snapshot_of)
SETTER_OF(vdi_set_snapshot_time, CLASS_VDI, F_VDI_snapshot_time)
SETTER_OF(vdi_set_metadata_of_pool, CLASS_VDI, F_VDI_metadata_of_pool)
SETTER_OF(vdi_set_cbt_enabled, CLASS_VDI, F_VDI_cbt_enabled)
SETTER_OF(vdi_set_location, CLASS_VDI, F_VDI_location)
SETTER_OF(sr_set_virtual_allocation, CLASS_SR, F_SR_virtual_allocation)
SETTER_OF(sr_set_physical_utilisation, CLASS_SR, F_SR_physical_utilisation)
