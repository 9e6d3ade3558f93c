/* certificate_check.c - whether a certificate that somebody wants to install is one that clients can live with. */
#include "config.h"

#include <gnutls/x509.h>
#include <string.h>

#include "daemon/http/certificate.h"

#define CHAIN_MOST 16
#define TEXT_MOST  (256 * 1024)
#define RSA_LEAST  2048
#define RSA_MOST   8192

G_DEFINE_AUTO_CLEANUP_FREE_FUNC(gnutls_x509_crt_t, gnutls_x509_crt_deinit, NULL)
G_DEFINE_AUTO_CLEANUP_FREE_FUNC(gnutls_x509_privkey_t, gnutls_x509_privkey_deinit, NULL)

static gnutls_datum_t datum(const char *text)
{
    return (gnutls_datum_t){(unsigned char *) text, (unsigned int) strlen(text)};
}

static char *date(gint64 seconds)
{
    g_autoptr(GDateTime) t = g_date_time_new_from_unix_utc(seconds);
    return t ? g_date_time_format(t, "%Y%m%dT%H:%M:%SZ") : g_strdup("");
}

static gboolean check_time(gnutls_x509_crt_t crt, struct fault *f)
{
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    gint64 from = gnutls_x509_crt_get_activation_time(crt), to = gnutls_x509_crt_get_expiration_time(crt);
    g_autofree char *now_text = date(now), *from_text = date(from), *to_text = date(to);
    if (now < from)
        return fault_set(f, "SERVER_CERTIFICATE_NOT_VALID_YET", now_text, from_text, NULL);
    return now <= to || fault_set(f, "SERVER_CERTIFICATE_EXPIRED", now_text, to_text, NULL);
}

static gboolean check_signature(gnutls_x509_crt_t crt, struct fault *f)
{
    int algorithm = gnutls_x509_crt_get_signature_algorithm(crt);
    return (algorithm > 0 && gnutls_sign_is_secure2(algorithm, GNUTLS_SIGN_FLAG_SECURE_FOR_CERTS)) ||
           fault_set(f, "SERVER_CERTIFICATE_SIGNATURE_NOT_SUPPORTED", NULL);
}

/* Clients that speak TLS 1.2 with RSA only are still about. */
static gboolean check_key(gnutls_x509_privkey_t key, struct fault *f)
{
    unsigned int bits = 0;
    int algorithm = gnutls_x509_privkey_get_pk_algorithm2(key, &bits);
    if (algorithm != GNUTLS_PK_RSA) {
        const char *oid = algorithm > 0 ? gnutls_pk_get_oid(algorithm) : NULL;
        return fault_set(f, "SERVER_CERTIFICATE_KEY_ALGORITHM_NOT_SUPPORTED", oid ? oid : "", NULL);
    }
    g_autofree char *length = g_strdup_printf("%u", bits);
    return (bits >= RSA_LEAST && bits <= RSA_MOST) ||
           fault_set(f, "SERVER_CERTIFICATE_KEY_RSA_LENGTH_NOT_SUPPORTED", length, NULL);
}

static gboolean same_key(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
    guint8 of_crt[64], of_key[64];
    gsize n_crt = sizeof of_crt, n_key = sizeof of_key;
    return gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, of_crt, &n_crt) == 0 &&
           gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, of_key, &n_key) == 0 && n_crt == n_key &&
           memcmp(of_crt, of_key, n_crt) == 0;
}

/* Each is signed by the next one. */
static gboolean is_chain(gnutls_x509_crt_t first, gnutls_x509_crt_t *issuers, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        gnutls_x509_crt_t below = i == 0 ? first : issuers[i - 1];
        unsigned int status = 0;
        if (gnutls_x509_crt_verify(below, &issuers[i], 1, GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status) < 0 ||
            (status & (GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_SIGNATURE_FAILURE | GNUTLS_CERT_SIGNER_NOT_CA)))
            return FALSE;
    }
    return TRUE;
}

static gboolean check_chain(gnutls_x509_crt_t crt, const char *chain, struct fault *f)
{
    gnutls_x509_crt_t issuers[CHAIN_MOST];
    unsigned int n = CHAIN_MOST;
    gnutls_datum_t text = datum(chain);
    if (*chain == '\0')
        return TRUE;
    if (gnutls_x509_crt_list_import(issuers, &n, &text, GNUTLS_X509_FMT_PEM,
                                    GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED) < 0)
        return fault_set(f, "SERVER_CERTIFICATE_CHAIN_INVALID", NULL);
    gboolean good = is_chain(crt, issuers, n);
    for (unsigned int i = 0; i < n; i++)
        gnutls_x509_crt_deinit(issuers[i]);
    return good || fault_set(f, "SERVER_CERTIFICATE_CHAIN_INVALID", NULL);
}

gboolean certificate_check(const char *cert, const char *key, const char *chain, struct fault *f)
{
    gnutls_datum_t cert_text = datum(cert), key_text = datum(key);
    g_auto(gnutls_x509_crt_t) crt = NULL;
    g_auto(gnutls_x509_privkey_t) private = NULL;
    if (strlen(cert) > TEXT_MOST || strlen(key) > TEXT_MOST || strlen(chain) > TEXT_MOST)
        return fault_set(f, "SERVER_CERTIFICATE_INVALID", NULL);
    if (gnutls_x509_privkey_init(&private) != 0 ||
        gnutls_x509_privkey_import2(private, &key_text, GNUTLS_X509_FMT_PEM, NULL, 0) != 0)
        return fault_set(f, "SERVER_CERTIFICATE_KEY_INVALID", NULL);
    if (!check_key(private, f))
        return FALSE;
    if (gnutls_x509_crt_init(&crt) != 0 || gnutls_x509_crt_import(crt, &cert_text, GNUTLS_X509_FMT_PEM) != 0)
        return fault_set(f, "SERVER_CERTIFICATE_INVALID", NULL);
    if (!same_key(crt, private))
        return fault_set(f, "SERVER_CERTIFICATE_KEY_MISMATCH", NULL);
    return check_time(crt, f) && check_signature(crt, f) && check_chain(crt, chain, f);
}

gboolean certificate_facts_of(const guint8 *der, gsize len, struct certificate_facts *facts)
{
    gnutls_datum_t data = {(unsigned char *) der, (unsigned int) len};
    g_auto(gnutls_x509_crt_t) crt = NULL;
    guint8 sum[32];
    gsize n = sizeof sum;
    if (gnutls_x509_crt_init(&crt) != 0 || gnutls_x509_crt_import(crt, &data, GNUTLS_X509_FMT_DER) != 0 ||
        gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, sum, &n) != 0)
        return FALSE;
    facts->not_before = gnutls_x509_crt_get_activation_time(crt);
    facts->not_after = gnutls_x509_crt_get_expiration_time(crt);
    for (gsize i = 0; i < n; i++)
        g_snprintf(facts->fingerprint + 3 * i, 4, i + 1 < n ? "%02X:" : "%02X", sum[i]);
    return TRUE;
}
