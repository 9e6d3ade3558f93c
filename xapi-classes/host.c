/* host.c - the class host: what can be asked of the machine itself. */
#include <time.h>
#include "daemon/call.h"
#include "daemon/codec/jsonrpc.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/start.h"
#include "xenbackend/backend.h"

#define SIM_PLUGIN "xenapid-sim"

/* ---- time, names ---- */

struct value *host_get_servertime(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    return r ? value_datetime(NULL, g_get_real_time() / G_USEC_PER_SEC) : NULL;
}

/* The host's wall clock, given as if it were UTC: that is what clients of this call expect. */
struct value *host_get_server_localtime(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    time_t now = g_get_real_time() / G_USEC_PER_SEC;
    struct tm local;
    return r && localtime_r(&now, &local) ? value_datetime(NULL, now + local.tm_gmtoff) : NULL;
}

struct value *host_list_methods(G_GNUC_UNUSED struct call *c)
{
    gsize n;
    struct value_builder b;
    const struct message *const *all = message_all(&n);

    value_builder_set(&b, NULL, n);
    for (gsize i = 0; i < n; i++) {
        if (message_is_built(all[i]))
            value_builder_add_string(&b, all[i]->full_name);
    }
    return value_builder_end(&b);
}

/* ---- enabled ---- */

static struct value *set_enabled(struct call *c, gboolean enabled)
{
    struct txn *t = txn_begin(the_store());
    if (!call_txn_object(c, t, 0)) {
        txn_abort(t);
        return NULL;
    }
    txn_set_bool(t, CLASS_host, call_str(c, 0), F_host_enabled, enabled);
    call_commit(c, t);
    return value_void();
}

struct value *host_enable(struct call *c)
{
    return set_enabled(c, TRUE);
}

struct value *host_disable(struct call *c)
{
    return set_enabled(c, FALSE);
}

/* How others in a pool would switch this host on. */
struct value *host_set_power_on_mode(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    if (!call_txn_object(c, t, 0)) {
        txn_abort(t);
        return NULL;
    }
    txn_set(t, CLASS_host, call_str(c, 0), F_host_power_on_mode, value_ref(call_arg(c, 1)));
    txn_set(t, CLASS_host, call_str(c, 0), F_host_power_on_config, value_ref(call_arg(c, 2)));
    call_commit(c, t);
    return value_void();
}

/* ---- memory ---- */

struct value *host_compute_free_memory(struct call *c)
{
    g_autoptr(record) host = call_object(c, 0);
    if (!host)
        return NULL;
    g_autoptr(record) metrics = store_get(the_store(), CLASS_host_metrics, record_str(host, F_host_metrics));
    return value_int(NULL, metrics ? record_int(metrics, F_host_metrics_memory_free) : 0);
}

struct value *host_compute_memory_overhead(struct call *c)
{
    g_autoptr(record) host = call_object(c, 0);
    return host ? value_ref(record_field(host, F_host_memory_overhead)) : NULL;
}

/* ---- the hypervisor's console (tasks) ---- */

static struct value *text_of(struct call *c, const char *method, struct value *params)
{
    struct peer_options options = {.cancel = call_cancel_flag(c)};
    g_autoptr(value) given = params;
    g_autoptr(value) result = backend_call(method, given, &options, &c->fault);
    return result ? value_string(NULL, value_get_str(result, "text", "")) : NULL;
}

static struct value *dmesg(struct call *c, gboolean clear)
{
    g_autoptr(record) r = call_object(c, 0);
    struct value_builder b;
    if (!r)
        return NULL;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "clear", value_bool(clear));
    return text_of(c, "host.dmesg", value_builder_end(&b));
}

struct value *host_dmesg(struct call *c)
{
    return dmesg(c, FALSE);
}

struct value *host_dmesg_clear(struct call *c)
{
    return dmesg(c, TRUE);
}

struct value *host_send_debug_keys(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    struct value_builder b;
    if (!r)
        return NULL;
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "keys", call_str(c, 1));
    g_autoptr(value) text = text_of(c, "host.debug_keys", value_builder_end(&b));
    return text ? value_void() : NULL;
}

/* ---- plugins and extensions ---- */

/* The simulator's own functions are reached as a plugin, and only where it is the backend. */
static struct value *call_simulator(struct call *c)
{
    g_autofree char *method = g_strconcat("sim.", call_str(c, 2), NULL);
    g_autoptr(value) result = backend_call(method, call_arg(c, 3), NULL, &c->fault);
    if (!result)
        return NULL;
    g_autofree char *text = json_text(result);
    return value_string(NULL, text);
}

struct value *host_call_plugin(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    if (!r)
        return NULL;
    if (the_conf()->backend == BACKEND_SIM && strcmp(call_str(c, 1), SIM_PLUGIN) == 0)
        return call_simulator(c);
    return call_fail(c, "XENAPI_MISSING_PLUGIN", call_str(c, 1), NULL);
}

struct value *host_has_extension(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    return r ? value_bool(FALSE) : NULL;
}

struct value *host_call_extension(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    return r ? call_fail(c, "MESSAGE_METHOD_UNKNOWN", call_str(c, 1), NULL) : NULL;
}

/* ---- the network ---- */

struct value *host_get_management_interface(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    g_autoptr(GPtrArray) pifs = store_all(the_store(), CLASS_PIF);

    if (!r)
        return NULL;
    for (guint i = 0; i < pifs->len; i++) {
        struct record *pif = pifs->pdata[i];
        if (record_bool(pif, F_PIF_management) && strcmp(record_str(pif, F_PIF_host), r->ref) == 0)
            return value_string(NULL, pif->ref);
    }
    return call_fail(c, "HOST_HAS_NO_MANAGEMENT_IP", NULL);
}

/* The only value that can be set is the one that holds. */
struct value *host_set_ssl_legacy(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    if (!r)
        return NULL;
    return call_bool(c, 1)
               ? call_fail(c, "VALUE_NOT_SUPPORTED", "value", "true", "old TLS versions are never used", NULL)
               : value_void();
}

/* Looks at the machine again; what is found is recorded as at start. */
struct value *pif_scan(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    struct peer_options options = {.cancel = call_cancel_flag(c)};
    g_autoptr(value) info = r ? backend_call("host.info", NULL, &options, &c->fault) : NULL;
    if (!info)
        return NULL;
    host_update(info);
    return value_void();
}

/* ---- evacuation: a single host has nowhere to send its guests ---- */

struct value *host_get_vms_which_prevent_evacuation(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    struct value_builder b;

    if (!r)
        return NULL;
    struct value *vms = record_field(r, F_host_resident_VMs);
    value_builder_map(&b, NULL, value_count(vms));
    for (gsize i = 0; i < value_count(vms); i++) {
        const char *reason[] = {"NO_HOSTS_AVAILABLE", NULL};
        const char *ref = value_str(value_at(vms, i));
        if (strcmp(ref, record_str(r, F_host_control_domain)) != 0)
            value_builder_put(&b, ref, value_string_set(NULL, reason));
    }
    return value_builder_end(&b);
}

struct value *host_get_uncooperative_resident_VMs(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    return r ? value_empty_set() : NULL;
}

struct value *host_assert_can_evacuate(struct call *c)
{
    g_autoptr(value) stuck = host_get_vms_which_prevent_evacuation(c);
    if (!stuck)
        return NULL;
    return value_count(stuck) ? call_fail(c, "NO_HOSTS_AVAILABLE", NULL) : value_void();
}
