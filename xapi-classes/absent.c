/* absent.c - messages about services that this host does not have: load balancing, high availability, directories,
 * licenses, security policies, a network of its own to configure. Their answer follows from that alone; each is the one
 * that the API has for it, and nothing is pretended. */
#include <string.h>

#include "daemon/call.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/start.h"
#include "xapi-classes/vm/vm.h"

/* The answer, once the object of the first argument was found to be there. */
static struct value *about_object(struct call *c, struct value *answer)
{
    g_autoptr(record) r = call_object(c, 0);
    if (r)
        return answer;
    value_unref(answer);
    return NULL;
}

/* A fault, once the object was found; param may be NULL. */
static struct value *refuse(struct call *c, const char *code, const char *param)
{
    g_autoptr(record) r = call_object(c, 0);
    return r ? call_fail(c, code, param, NULL) : NULL;
}

/* ---- workload balancing ---- */

struct value *vm_retrieve_wlb_recommendations(struct call *c)
{
    return refuse(c, "WLB_NOT_INITIALIZED", NULL);
}

struct value *host_retrieve_wlb_evacuate_recommendations(struct call *c)
{
    return refuse(c, "WLB_NOT_INITIALIZED", NULL);
}

struct value *pool_retrieve_wlb_recommendations(struct call *c)
{
    return call_fail(c, "WLB_NOT_INITIALIZED", NULL);
}

struct value *pool_retrieve_wlb_configuration(struct call *c)
{
    return call_fail(c, "WLB_NOT_INITIALIZED", NULL);
}

struct value *pool_send_wlb_configuration(struct call *c)
{
    return call_fail(c, "WLB_NOT_INITIALIZED", NULL);
}

struct value *pool_deconfigure_wlb(struct call *c)
{
    return call_fail(c, "WLB_NOT_INITIALIZED", NULL);
}

/* ---- high availability: of a single host nothing can take the place ---- */

struct value *pool_enable_ha(struct call *c)
{
    return call_fail(c, "HA_NOT_INSTALLED", host_ref(), NULL);
}

struct value *pool_disable_ha(struct call *c)
{
    return call_fail(c, "HA_NOT_ENABLED", NULL);
}

struct value *pool_ha_prevent_restarts_for(struct call *c)
{
    return call_fail(c, "HA_NOT_ENABLED", NULL);
}

struct value *host_emergency_ha_disable(struct call *c)
{
    return call_fail(c, "HA_NOT_ENABLED", NULL);
}

struct value *pool_ha_failover_plan_exists(struct call *c)
{
    return value_bool(call_int(c, 0) <= 0);
}

struct value *pool_ha_compute_max_host_failures_to_tolerate(G_GNUC_UNUSED struct call *c)
{
    return value_int(NULL, 0);
}

struct value *pool_ha_compute_hypothetical_max_host_failures_to_tolerate(G_GNUC_UNUSED struct call *c)
{
    return value_int(NULL, 0);
}

struct value *pool_set_ha_host_failures_to_tolerate(struct call *c)
{
    if (call_int(c, 1) > 0)
        return refuse(c, "HA_TOO_FEW_HOSTS", NULL);
    if (call_int(c, 1) == 0)
        return about_object(c, value_void());
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, call_int(c, 1));
    g_autoptr(record) r = call_object(c, 0);
    return r ? call_fail(c, "INVALID_VALUE", "value", text, NULL) : NULL;
}

/* ---- directories of users: logins go through PAM, which has modules for them ---- */

struct value *host_enable_external_auth(struct call *c)
{
    return refuse(c, "AUTH_UNKNOWN_TYPE", call_str(c, 3));
}

struct value *pool_enable_external_auth(struct call *c)
{
    return refuse(c, "AUTH_UNKNOWN_TYPE", call_str(c, 3));
}

/* It is not enabled, as is asked for. */
struct value *host_disable_external_auth(struct call *c)
{
    return about_object(c, value_void());
}

struct value *pool_disable_external_auth(struct call *c)
{
    return about_object(c, value_void());
}

struct value *pool_detect_nonhomogeneous_external_auth(struct call *c)
{
    return about_object(c, value_void());
}

/* ---- licenses ---- */

struct value *host_license_add(struct call *c)
{
    return refuse(c, "LICENSE_PROCESSING_ERROR", NULL);
}

/* There is one edition, and it needs no license. */
static struct value *apply_edition(struct call *c)
{
    g_autoptr(record) host = store_get(the_store(), CLASS_host, host_ref());
    if (host && strcmp(record_str(host, F_host_edition), call_str(c, 1)) == 0)
        return about_object(c, value_void());
    return refuse(c, "INVALID_EDITION", call_str(c, 1));
}

struct value *host_apply_edition(struct call *c)
{
    return apply_edition(c);
}

struct value *pool_apply_edition(struct call *c)
{
    return apply_edition(c);
}

/* ---- other hosts ---- */

struct value *host_destroy(struct call *c)
{
    return refuse(c, "HOST_CANNOT_DESTROY_SELF", call_str(c, 0));
}

struct value *host_declare_dead(struct call *c)
{
    return refuse(c, "HOST_IS_LIVE", call_str(c, 0));
}

struct value *host_power_on(struct call *c)
{
    return refuse(c, "HOST_IS_LIVE", call_str(c, 0));
}

struct value *host_sync_data(struct call *c)
{
    return about_object(c, value_void());
}

struct value *pool_designate_new_master(struct call *c)
{
    return about_object(c, value_void()); /* the only host is it already */
}

struct value *pool_certificate_sync(G_GNUC_UNUSED struct call *c)
{
    return value_void();
}

/* ---- interfaces: made and configured by what manages the host ---- */

#define NOT_OURS "the interfaces of this host are configured by its own tools; PIF.scan finds what they made"

struct value *pif_plug(struct call *c)
{
    g_autoptr(record) pif = call_object(c, 0);
    if (!pif)
        return NULL;
    return record_bool(pif, F_PIF_currently_attached) ? value_void()
                                                      : call_fail(c, "OPERATION_NOT_ALLOWED", NOT_OURS, NULL);
}

struct value *pif_unplug(struct call *c)
{
    g_autoptr(record) pif = call_object(c, 0);
    if (!pif)
        return NULL;
    if (!record_bool(pif, F_PIF_currently_attached))
        return value_void();
    if (record_bool(pif, F_PIF_management))
        return call_fail(c, "PIF_IS_MANAGEMENT_INTERFACE", pif->ref, NULL);
    if (record_bool(pif, F_PIF_disallow_unplug))
        return call_fail(c, "PIF_DOES_NOT_ALLOW_UNPLUG", pif->ref, NULL);
    return call_fail(c, "OPERATION_NOT_ALLOWED", NOT_OURS, NULL);
}

struct value *pif_set_disallow_unplug(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    if (!call_txn_object(c, t, 0)) {
        txn_abort(t);
        return NULL;
    }
    txn_set_bool(t, CLASS_PIF, call_str(c, 0), F_PIF_disallow_unplug, call_bool(c, 1));
    call_commit(c, t);
    return value_void();
}

struct value *pif_forget(struct call *c)
{
    return refuse(c, "OPERATION_NOT_ALLOWED", NOT_OURS);
}

struct value *pif_reconfigure_ip(struct call *c)
{
    return refuse(c, "OPERATION_NOT_ALLOWED", NOT_OURS);
}

struct value *pif_reconfigure_ipv6(struct call *c)
{
    return refuse(c, "OPERATION_NOT_ALLOWED", NOT_OURS);
}

struct value *pif_set_primary_address_type(struct call *c)
{
    g_autoptr(record) pif = call_object(c, 0);
    if (!pif)
        return NULL;
    return strcmp(record_str(pif, F_PIF_primary_address_type), call_str(c, 1)) == 0
               ? value_void()
               : call_fail(c, "OPERATION_NOT_ALLOWED", NOT_OURS, NULL);
}

/* The daemon listens where its configuration says: to name the interface that is the management's is all there is. */
struct value *host_management_reconfigure(struct call *c)
{
    g_autoptr(record) pif = call_object(c, 0);
    if (!pif)
        return NULL;
    return record_bool(pif, F_PIF_management) ? value_void() : call_fail(c, "OPERATION_NOT_ALLOWED", NOT_OURS, NULL);
}

/* ---- security policies of the hypervisor (API 1.0): there is none, and nothing bears a label ---- */

#define NO_POLICY "the hypervisor has no security policy"

struct value *xspolicy_get_xstype(G_GNUC_UNUSED struct call *c)
{
    return value_int(NULL, 0);
}

struct value *xspolicy_get_xspolicy(G_GNUC_UNUSED struct call *c)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 7);
    value_builder_put_string(&b, "xs_ref", NULL_REF);
    value_builder_put_string(&b, "repr", "");
    value_builder_put_string(&b, "type", "0");
    value_builder_put_string(&b, "flags", "0");
    value_builder_put_string(&b, "version", "");
    value_builder_put_string(&b, "errors", "");
    value_builder_put_string(&b, "xserr", "0");
    return value_builder_end(&b);
}

struct value *xspolicy_get_labeled_resources(G_GNUC_UNUSED struct call *c)
{
    return value_empty_map();
}

struct value *xspolicy_get_resource_label(G_GNUC_UNUSED struct call *c)
{
    return value_string(NULL, "");
}

struct value *xspolicy_set_resource_label(struct call *c)
{
    return call_fail(c, "SECURITY_ERROR", NO_POLICY, NULL);
}

struct value *vm_set_security_label(struct call *c)
{
    return refuse(c, "SECURITY_ERROR", NO_POLICY);
}

struct value *vdi_set_security_label(struct call *c)
{
    return refuse(c, "SECURITY_ERROR", NO_POLICY);
}

struct value *vif_set_security_label(struct call *c)
{
    return refuse(c, "SECURITY_ERROR", NO_POLICY);
}

struct value *vif_get_security_label(struct call *c)
{
    return about_object(c, value_string(NULL, ""));
}

/* ---- VMs ---- */

/* Whoever may ask for it could make this machine, which sees networks that the client does not, fetch anything. */
struct value *vm_import(struct call *c)
{
    return call_fail(c, "OPERATION_NOT_ALLOWED", "this host fetches nothing from elsewhere: send the export to /import",
                     NULL);
}

/* The checks come before the answer that no other host is there, as with those who have one. */
struct value *vm_assert_can_migrate(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    struct fault f = FAULT_INIT;
    struct txn *t = vm ? txn_begin(the_store()) : NULL;
    if (!vm)
        return NULL;
    gboolean could = operation_check(t, CLASS_VM, vm->ref, "migrate_send", &f);
    txn_abort(t);
    if (!could) {
        fault_move(&c->fault, &f);
        return NULL;
    }
    return call_fail(c, "NO_HOSTS_AVAILABLE", NULL);
}

/* The only host of this pool is the one that the VM runs on. */
struct value *vm_pool_migrate(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    g_autoptr(record) host = vm ? call_object(c, 1) : NULL;
    if (!host)
        return NULL;
    return call_fail(c, "VM_MIGRATE_FAILED", vm->ref, record_str(vm, F_VM_resident_on), host->ref,
                     "the VM runs there already, and this host moves no running VM", NULL);
}

/* Nor has any other pool's host been made ready for it through this one. */
struct value *vm_migrate_send(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    return vm ? call_fail(c, "NO_HOSTS_AVAILABLE", NULL) : NULL;
}

/* A device model holds the guest's devices in its memory: another one cannot go on from there without a migration. */
struct value *vm_restart_device_models(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    if (!vm)
        return NULL;
    if (record_bool(vm, F_VM_is_a_template))
        return call_fail(c, "VM_IS_TEMPLATE", vm->ref, NULL);
    if (!vm_is(vm, "Running")) {
        fault_power_state(&c->fault, vm->ref, "running", record_str(vm, F_VM_power_state));
        return NULL;
    }
    return call_fail(c, "CANNOT_RESTART_DEVICE_MODEL", vm->ref, NULL);
}

/* No agent in a guest is asked to run anything, and this host has no plugins for VMs. */
struct value *vm_call_plugin(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    if (!vm)
        return NULL;
    if (strcmp(call_str(c, 1), "guest-agent-operation") == 0)
        return call_fail(c, "VM_LACKS_FEATURE", vm->ref, NULL);
    return call_fail(c, "XENAPI_MISSING_PLUGIN", call_str(c, 1), NULL);
}
