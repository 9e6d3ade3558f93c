/* tls_self_signed.c - makes the certificate that a host has until it is given one: RSA, since some clients speak only
 * RSA with TLS 1.2. */
#include "config.h"

#include <arpa/inet.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <time.h>

#include "daemon/http/tls_self_signed.h"

#define KEY_BITS 3072
#define YEARS    10
#define YEAR     (365 * 24 * 3600)

static void add_name(gnutls_x509_crt_t crt, const char *name)
{
    gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, strlen(name), GNUTLS_FSAN_APPEND);
}

static void add_address(gnutls_x509_crt_t crt, const struct sockaddr *a)
{
    if (a && a->sa_family == AF_INET) {
        gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, &((const struct sockaddr_in *) a)->sin_addr, 4,
                                             GNUTLS_FSAN_APPEND);
    } else if (a && a->sa_family == AF_INET6) {
        const struct in6_addr *six = &((const struct sockaddr_in6 *) a)->sin6_addr;
        if (!IN6_IS_ADDR_LINKLOCAL(six))
            gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, six, 16, GNUTLS_FSAN_APPEND);
    }
}

/* Loopback's are among them. */
static void add_addresses(gnutls_x509_crt_t crt)
{
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0)
        return;
    for (struct ifaddrs *i = all; i; i = i->ifa_next)
        if (i->ifa_flags & IFF_UP)
            add_address(crt, i->ifa_addr);
    freeifaddrs(all);
}

static void describe(gnutls_x509_crt_t crt)
{
    const char *host = g_get_host_name();
    guint8 serial[16];
    time_t now = time(NULL);
    gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial);
    serial[0] = (serial[0] & 0x7f) | 0x40; /* positive, and no shorter */
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_serial(crt, serial, sizeof serial);
    gnutls_x509_crt_set_activation_time(crt, now - 24 * 3600); /* clients' clocks differ */
    gnutls_x509_crt_set_expiration_time(crt, now + (time_t) YEARS * YEAR);
    /* A common name has 64 characters at most; the long name is among the alternative ones. */
    gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, host, MIN(strlen(host), 64));
    gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
    gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE | GNUTLS_KEY_KEY_ENCIPHERMENT);
    gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
    add_name(crt, host);
    if (strcmp(host, "localhost") != 0)
        add_name(crt, "localhost");
    add_addresses(crt);
}

/* Written beside it, flushed, and put in place at once. */
static gboolean write_file(const char *file, const gnutls_datum_t *pem, int mode, GError **error)
{
    return g_file_set_contents_full(file, (const char *) pem->data, pem->size,
                                    G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, mode, error);
}

static int make(gnutls_x509_privkey_t key, gnutls_x509_crt_t crt, gnutls_datum_t *key_pem, gnutls_datum_t *crt_pem)
{
    int rc = gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, KEY_BITS, 0);
    if (rc < 0)
        return rc;
    describe(crt);
    if ((rc = gnutls_x509_crt_set_key(crt, key)) < 0 ||
        (rc = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0)) < 0 ||
        (rc = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, crt_pem)) < 0)
        return rc;
    return gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, key_pem);
}

gboolean tls_self_signed(const char *cert_file, const char *key_file, GError **error)
{
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t key_pem = {NULL, 0}, crt_pem = {NULL, 0};
    gnutls_x509_privkey_init(&key);
    gnutls_x509_crt_init(&crt);
    int rc = make(key, crt, &key_pem, &crt_pem);
    if (rc < 0)
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot make a certificate: %s", gnutls_strerror(rc));
    gboolean ok =
        rc >= 0 && write_file(key_file, &key_pem, 0600, error) && write_file(cert_file, &crt_pem, 0644, error);
    if (key_pem.data)
        gnutls_memset(key_pem.data, 0, key_pem.size);
    gnutls_free(key_pem.data);
    gnutls_free(crt_pem.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    if (ok)
        g_message("a certificate was made for %s: %s", g_get_host_name(), cert_file);
    return ok;
}
