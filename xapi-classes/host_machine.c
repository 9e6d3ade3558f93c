/* host_machine.c - the class host: the machine switched off and booted again, its daemon restarted, its name, and what
 * else an administrator sets of it. */
#include <string.h>

#include "daemon/call.h"
#include "daemon/process/control.h"
#include "daemon/process/log.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/start.h"
#include "xapi-classes/vm/vm.h"
#include "xapi-classes/world.h"
#include "xenbackend/backend.h"

/* Asks the backend with one text (key may be NULL); the record is the call's first argument. */
static gboolean ask(struct call *c, const char *method, const char *key, const char *text)
{
    struct peer_options options = {.cancel = call_cancel_flag(c), .timeout_ms = ASK_QUICK_MS};
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    if (key)
        value_builder_put_string(&b, key, text);
    g_autoptr(value) params = value_builder_end(&b);
    g_autoptr(value) done = backend_call(method, params, &options, &c->fault);
    return done != NULL;
}

/* ---- off and on ---- */

/* HOST_IN_USE when anything but the control domain runs: nobody's guest is cut off. */
static gboolean is_empty(struct call *c, const struct record *host)
{
    struct value *vms = record_field(host, F_host_resident_VMs);
    for (gsize i = 0; i < value_count(vms); i++) {
        const char *vm = value_str(value_at(vms, i));
        if (strcmp(vm, record_str(host, F_host_control_domain)) != 0)
            return fault_set(&c->fault, "HOST_IN_USE", host->ref, "VM", vm, NULL);
    }
    return TRUE;
}

/* A real machine takes us with it. A simulated one has booted by now. */
static void look_again(void)
{
    struct fault f = FAULT_INIT;
    struct peer_options options = {.timeout_ms = ASK_QUICK_MS};
    g_autoptr(value) info = backend_call("host.info", NULL, &options, &f);
    fault_clear(&f);
    if (!info) {
        host_set_live(FALSE);
        return;
    }
    host_update(info);
    world_reconcile();
    world_autostart();
}

static struct value *go_down(struct call *c, const char *method)
{
    g_autoptr(record) host = call_object(c, 0);
    if (!host || !is_empty(c, host) || !ask(c, method, NULL, NULL))
        return NULL;
    g_message("%s: as a client asks", method);
    look_again();
    return value_void();
}

struct value *host_reboot(struct call *c)
{
    return go_down(c, "host.reboot");
}

struct value *host_shutdown(struct call *c)
{
    return go_down(c, "host.shutdown");
}

/* There is no other host that could take them. */
struct value *host_evacuate(struct call *c)
{
    return host_assert_can_evacuate(c);
}

/* ---- the daemon itself: what is under way ends first, then its sockets are served by another process ---- */

struct value *host_restart_agent(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    if (!r)
        return NULL;
    g_message("another front, as a client asks");
    control_ask("restart");
    return value_void();
}

struct value *host_shutdown_agent(G_GNUC_UNUSED struct call *c)
{
    control_ask("stop");
    return value_void();
}

struct value *host_get_log(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    if (!r)
        return NULL;
    g_autofree char *text = log_recent();
    return value_string(NULL, text);
}

/* ---- names and settings ---- */

/* As RFC 1123 has it, and Linux: labels of letters, digits and inner dashes. */
static gboolean is_hostname(const char *name)
{
    g_auto(GStrv) labels = g_strsplit(name, ".", -1);
    if (strlen(name) > 64 || !labels[0])
        return FALSE;
    for (guint i = 0; labels[i]; i++) {
        gsize len = strlen(labels[i]);
        if (len == 0 || len > 63 || labels[i][0] == '-' || labels[i][len - 1] == '-' ||
            strspn(labels[i], G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "-") != len)
            return FALSE;
    }
    return TRUE;
}

struct value *host_set_hostname_live(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    const char *name = call_str(c, 1);
    if (!r)
        return NULL;
    if (!is_hostname(name))
        return call_fail(c, "HOST_NAME_INVALID", "labels of letters, digits and dashes, 64 characters at most", NULL);
    if (!ask(c, "host.set_hostname", "hostname", name))
        return NULL;
    struct txn *t = txn_begin(the_store());
    txn_set_str(t, CLASS_host, r->ref, F_host_hostname, name);
    call_commit(c, t);
    return value_void();
}

static gboolean is_iqn(const char *iqn)
{
    gsize len = strlen(iqn);
    return (g_str_has_prefix(iqn, "iqn.") || g_str_has_prefix(iqn, "eui.")) && len > 4 && len <= 223 &&
           strspn(iqn, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "-.:") == len;
}

struct value *host_set_iscsi_iqn(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    const char *iqn = call_str(c, 1);
    if (!r)
        return NULL;
    if (!is_iqn(iqn))
        return call_fail(c, "INVALID_VALUE", "value", iqn, NULL);
    if (!ask(c, "host.set_iscsi_iqn", "iqn", iqn))
        return NULL;
    struct txn *t = txn_begin(the_store());
    txn_set_str(t, CLASS_host, r->ref, F_host_iscsi_iqn, iqn);
    txn_put_key(t, CLASS_host, r->ref, F_host_other_config, "iscsi_iqn", iqn); /* where older clients look */
    call_commit(c, t);
    return value_void();
}

/* host.logging says where to. */
struct value *host_syslog_reconfigure(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    const char *to = r ? record_key(r, F_host_logging, "syslog_destination") : NULL;
    return r && ask(c, "host.set_syslog", "destination", to ? to : "") ? value_void() : NULL;
}

/* No storage driver here reaches a disk over several paths. */
struct value *host_set_multipathing(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    if (!r)
        return NULL;
    return call_bool(c, 1) ? call_fail(c, "VALUE_NOT_SUPPORTED", "value", "true", "no storage driver has it", NULL)
                           : value_void();
}
