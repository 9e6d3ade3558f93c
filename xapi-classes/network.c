/* network.c - the class network: records that say which bridge carries what. Bridges themselves are the host's. */
#include "daemon/call.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/transfers/nbd_server.h"

#define MAX_BRIDGE_NAME 15 /* IFNAMSIZ - 1 */

static gboolean bridge_is_free(struct txn *t, const char *bridge)
{
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_network);
    for (guint i = 0; i < all->len; i++) {
        if (strcmp(record_str(all->pdata[i], F_network_bridge), bridge) == 0)
            return FALSE;
    }
    return TRUE;
}

static void name_bridge(struct txn *t, char bridge[MAX_BRIDGE_NAME + 1])
{
    for (int i = 0;; i++) {
        g_snprintf(bridge, MAX_BRIDGE_NAME + 1, "xapi%d", i);
        if (bridge_is_free(t, bridge))
            return;
    }
}

static gboolean bridge_name_is_valid(const char *s)
{
    gsize len = strlen(s);
    return len && len <= MAX_BRIDGE_NAME &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == len && *s != '.' &&
           *s != '-';
}

static gboolean check_bridge(struct call *c, struct txn *t, const char *bridge)
{
    if (!bridge_name_is_valid(bridge))
        return fault_set(&c->fault, "INVALID_VALUE", "bridge", bridge, NULL);
    return bridge_is_free(t, bridge) || fault_set(&c->fault, "BRIDGE_NAME_EXISTS", bridge, NULL);
}

/* FALSE also when the call had failed before. */
static gboolean check_mtu(struct call *c, gint64 mtu)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, mtu);
    if (mtu < 68 || mtu > 65535)
        fault_set(&c->fault, "INVALID_VALUE", "MTU", text, NULL);
    return c->fault.code == NULL;
}

struct value *network_create(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct value *ref = generic_create_in(c, t, NULL);
    char own[MAX_BRIDGE_NAME + 1];

    if (!ref) {
        txn_abort(t);
        return NULL;
    }
    struct record *r = txn_get(t, CLASS_network, value_str(ref));
    const char *asked = value_get_str(call_arg(c, 0), "bridge", "");
    if (*asked) {
        txn_set_str(t, CLASS_network, value_str(ref), F_network_bridge, "");
        if (check_bridge(c, t, asked))
            txn_set_str(t, CLASS_network, value_str(ref), F_network_bridge, asked);
    } else {
        name_bridge(t, own);
        txn_set_str(t, CLASS_network, value_str(ref), F_network_bridge, own);
    }
    if (!check_mtu(c, record_int(r, F_network_MTU))) {
        txn_abort(t);
        value_unref(ref);
        return NULL;
    }
    call_commit(c, t);
    return ref;
}

/* The references of a set as one parameter of an error. */
static char *list_of(struct value *refs)
{
    GString *s = g_string_new(NULL);
    for (gsize i = 0; i < value_count(refs); i++)
        g_string_append_printf(s, "%s%s", i ? "; " : "", value_str(value_at(refs, i)));
    return g_string_free(s, FALSE);
}

struct value *network_destroy(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *r = call_txn_object(c, t, 0);

    if (r) {
        struct value *pifs = record_field(r, F_network_PIFs), *vifs = record_field(r, F_network_VIFs);
        g_autofree char *pif_list = list_of(pifs), *vif_list = list_of(vifs);
        if (value_count(pifs))
            call_fail(c, "NETWORK_CONTAINS_PIF", pif_list, NULL);
        else if (value_count(vifs))
            call_fail(c, "NETWORK_CONTAINS_VIF", vif_list, NULL);
    }
    if (c->fault.code) {
        txn_abort(t);
        return NULL;
    }
    txn_destroy(t, CLASS_network, call_str(c, 0));
    call_commit(c, t);
    nbd_server_refresh();
    return value_void();
}

/* ---- purpose, locking mode, MTU ---- */

static struct value *change(struct call *c, struct txn *t, int field, struct value *v)
{
    txn_set(t, CLASS_network, call_str(c, 0), field, v);
    call_commit(c, t);
    return value_void();
}

static struct value *change_purpose(struct call *c, struct txn *t, struct value *v)
{
    struct value *done = change(c, t, F_network_purpose, v);
    nbd_server_refresh();
    return done;
}

/* nbd and insecure_nbd cannot both be true of a network. */
static const char *conflict_of(const char *purpose)
{
    if (strcmp(purpose, "nbd") == 0)
        return "insecure_nbd";
    return strcmp(purpose, "insecure_nbd") == 0 ? "nbd" : NULL;
}

struct value *network_set_MTU(struct call *c)
{
    struct txn *t = txn_begin(the_store());

    if (!call_txn_object(c, t, 0) || !check_mtu(c, call_int(c, 1))) {
        txn_abort(t);
        return NULL;
    }
    return change(c, t, F_network_MTU, value_ref(call_arg(c, 1)));
}

struct value *network_add_purpose(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *r = call_txn_object(c, t, 0);
    const char *conflict = conflict_of(call_str(c, 1));

    if (r && conflict && value_contains(record_field(r, F_network_purpose), conflict))
        call_fail(c, "NETWORK_INCOMPATIBLE_PURPOSES", call_str(c, 1), conflict, NULL);
    if (c->fault.code) {
        txn_abort(t);
        return NULL;
    }
    return change_purpose(c, t, value_set_with(record_field(r, F_network_purpose), call_str(c, 1)));
}

struct value *network_remove_purpose(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *r = call_txn_object(c, t, 0);

    if (!r) {
        txn_abort(t);
        return NULL;
    }
    return change_purpose(c, t, value_set_without(record_field(r, F_network_purpose), call_str(c, 1)));
}

/* A VIF that is attached and follows the network's mode would not learn of the new one. */
static const char *attached_follower(struct txn *t, struct record *network)
{
    struct value *vifs = record_field(network, F_network_VIFs);
    for (gsize i = 0; i < value_count(vifs); i++) {
        struct record *vif = txn_get(t, CLASS_VIF, value_str(value_at(vifs, i)));
        if (vif && record_bool(vif, F_VIF_currently_attached) &&
            strcmp(record_str(vif, F_VIF_locking_mode), "network_default") == 0)
            return vif->ref;
    }
    return NULL;
}

struct value *network_set_default_locking_mode(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    struct record *r = call_txn_object(c, t, 0);
    const char *vif = r ? attached_follower(t, r) : NULL;

    if (vif)
        call_fail(c, "VIF_IN_USE", call_str(c, 0), vif, NULL);
    if (c->fault.code) {
        txn_abort(t);
        return NULL;
    }
    return change(c, t, F_network_default_locking_mode, value_ref(call_arg(c, 1)));
}
