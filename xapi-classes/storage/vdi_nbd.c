/* vdi_nbd.c - VDI.get_nbd_info: where and how an image can be read over NBD. */
#include "auth/session.h"
#include "daemon/http/certificate.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/transfers/nbd_server.h"
#include "xapi-classes/storage/storage.h"

#include <string.h>

static struct value *info(const char *export_name, const char *address, int port, const char *cert, const char *subject)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 5);
    value_builder_put_string(&b, "exportname", export_name);
    value_builder_put_string(&b, "address", address);
    value_builder_put(&b, "port", value_int(NULL, port));
    value_builder_put_string(&b, "cert", cert);
    value_builder_put_string(&b, "subject", subject);
    return value_builder_end(&b);
}

static void add_addresses(struct value_builder *b, const struct record *pif, const char *export_name, int port)
{
    g_autofree char *cert = certificate_pem(), *subject = certificate_subject();
    const char *ip = record_str(pif, F_PIF_IP);
    struct value *v6 = record_field(pif, F_PIF_IPv6);
    if (!cert)
        return;
    if (*ip)
        value_builder_add(b, info(export_name, ip, port, cert, subject));
    for (gsize i = 0; i < value_count(v6); i++) {
        g_auto(GStrv) parts = g_strsplit(value_str(value_at(v6, i)), "/", 2);
        if (*parts[0])
            value_builder_add(b, info(export_name, parts[0], port, cert, subject));
    }
}

static gboolean serves(const struct record *pif)
{
    g_autoptr(record) network = store_get(the_store(), CLASS_network, record_str(pif, F_PIF_network));
    return network && record_bool(pif, F_PIF_currently_attached) && nbd_purpose_of(network) != NBD_OFF;
}

/* An empty set where nobody could read it: no network has the purpose, or the SR is not attached. */
struct value *vdi_get_nbd_info(struct call *c)
{
    g_autoptr(record) vdi = call_object(c, 0);
    struct fault f = FAULT_INIT;
    struct value_builder b;
    if (!vdi)
        return NULL;
    if (strcmp(record_str(vdi, F_VDI_type), "cbt_metadata") == 0)
        return call_fail(c, "VDI_INCOMPATIBLE_TYPE", vdi->ref, record_str(vdi, F_VDI_type), NULL);
    g_autoptr(record) sr = storage_attached_sr(record_str(vdi, F_VDI_SR), &f);
    g_autoptr(GPtrArray) pifs = store_all(the_store(), CLASS_PIF);
    g_autofree char *name = g_strdup_printf("/%s?session_id=%s", record_str(vdi, F_VDI_uuid), c->session->ref);
    int port = nbd_server_port();
    fault_clear(&f);
    value_builder_set(&b, NULL, pifs->len);
    for (guint i = 0; i < pifs->len && sr && port > 0; i++)
        if (serves(pifs->pdata[i]))
            add_addresses(&b, pifs->pdata[i], name, port);
    return value_builder_end(&b);
}
