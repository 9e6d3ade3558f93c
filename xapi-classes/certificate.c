/* certificate.c - the class Certificate: the record of the certificate that this host shows, and what replaces it. */
#include <string.h>

#include "daemon/call.h"
#include "daemon/http/certificate.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/start.h"

/* Takes the records of other certificates of this host away; TRUE when facts has one. */
static gboolean drop_others(struct txn *t, const char *host, const struct certificate_facts *facts)
{
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_Certificate);
    gboolean found = FALSE;
    for (guint i = 0; i < all->len; i++) {
        struct record *r = all->pdata[i];
        if (strcmp(record_str(r, F_Certificate_host), host) != 0)
            continue;
        if (facts && !found && strcmp(record_str(r, F_Certificate_fingerprint), facts->fingerprint) == 0)
            found = TRUE;
        else
            txn_destroy(t, CLASS_Certificate, r->ref);
    }
    return found;
}

void certificate_update(struct txn *t)
{
    struct certificate_facts facts;
    gboolean known = certificate_facts(&facts);
    if (!txn_get(t, CLASS_host, host_ref()) || drop_others(t, host_ref(), known ? &facts : NULL) || !known)
        return;
    const char *ref = txn_create(t, CLASS_Certificate, NULL, NULL);
    txn_set_str(t, CLASS_Certificate, ref, F_Certificate_type, "host");
    txn_set_str(t, CLASS_Certificate, ref, F_Certificate_host, host_ref());
    txn_set(t, CLASS_Certificate, ref, F_Certificate_not_before, value_datetime(NULL, facts.not_before));
    txn_set(t, CLASS_Certificate, ref, F_Certificate_not_after, value_datetime(NULL, facts.not_after));
    txn_set_str(t, CLASS_Certificate, ref, F_Certificate_fingerprint, facts.fingerprint);
}

void certificate_changed(void)
{
    struct txn *t = txn_begin(the_store());
    certificate_update(t);
    txn_commit(t);
}

static struct value *recorded(struct call *c, gboolean done)
{
    if (!done)
        return NULL;
    struct txn *t = txn_begin(the_store());
    certificate_update(t);
    call_commit(c, t);
    return value_void();
}

struct value *host_install_server_certificate(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    return r ? recorded(c, certificate_install(call_str(c, 1), call_str(c, 2), call_str(c, 3), &c->fault)) : NULL;
}

struct value *host_reset_server_certificate(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    return r ? recorded(c, certificate_reset(&c->fault)) : NULL;
}

struct value *host_emergency_reset_server_certificate(struct call *c)
{
    return recorded(c, certificate_reset(&c->fault));
}

struct value *host_get_server_certificate(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    g_autofree char *pem = r ? certificate_pem() : NULL;

    if (!r)
        return NULL;
    return pem ? value_string(NULL, pem) : call_fail(c, "CERTIFICATE_DOES_NOT_EXIST", "server", NULL);
}
