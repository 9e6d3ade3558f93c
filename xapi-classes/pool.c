/* pool.c - the class pool, as far as a pool of one host goes. */
#include "daemon/call.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/start.h"

static struct value *for_pool(struct call *c, struct value *answer)
{
    g_autoptr(record) r = call_object(c, 0);
    if (r)
        return answer;
    value_unref(answer);
    return NULL;
}

/* What was answered is on stable storage already, and there is nobody else to copy it to. */
struct value *pool_sync_database(G_GNUC_UNUSED struct call *c)
{
    return value_void();
}

struct value *pool_has_extension(struct call *c)
{
    return for_pool(c, value_bool(FALSE));
}

struct value *pool_disable_ssl_legacy(struct call *c)
{
    return for_pool(c, value_void()); /* never on */
}

struct value *pool_get_license_state(struct call *c)
{
    g_autoptr(record) host = store_get(the_store(), CLASS_host, host_ref());
    const char *expiry = host ? record_key(host, F_host_license_params, "expiry") : NULL;
    struct value_builder b;

    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "edition", host ? record_str(host, F_host_edition) : "");
    value_builder_put_string(&b, "expiry", expiry ? expiry : "never");
    return for_pool(c, value_builder_end(&b));
}

/* ---- settings for guest agents ---- */

struct value *pool_add_to_guest_agent_config(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *r = call_txn_object(c, t, 0);
    const char *key = call_str(c, 1);

    if (r && value_get(record_field(r, F_pool_guest_agent_config), key))
        call_fail(c, "MAP_DUPLICATE_KEY", "pool", "guest_agent_config", record_str(r, F_pool_uuid), key, NULL);
    if (c->fault.code) {
        txn_abort(t);
        return NULL;
    }
    txn_put_key(t, CLASS_pool, r->ref, F_pool_guest_agent_config, key, call_str(c, 2));
    call_commit(c, t);
    return value_void();
}

struct value *pool_remove_from_guest_agent_config(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    if (!call_txn_object(c, t, 0)) {
        txn_abort(t);
        return NULL;
    }
    txn_remove_key(t, CLASS_pool, call_str(c, 0), F_pool_guest_agent_config, call_str(c, 1));
    call_commit(c, t);
    return value_void();
}
