/* http_tls.c - the certificate: read from where the configuration says, or made at first start; replaced while we run.
 */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "daemon/call.h"
#include "daemon/http/certificate.h"
#include "daemon/http/http_internal.h"
#include "daemon/http/tls_self_signed.h"

#define CHAIN_MOST 16
/* No handshake that began with a pair lasts longer: the header's deadline ends it. */
#define RETIRE_US ((gint64) 2 * 3600 * G_USEC_PER_SEC)

struct pair {
    gnutls_pcert_st chain[CHAIN_MOST];
    guint n;
    gnutls_privkey_t key;
    gint64 retired; /* monotonic microseconds: when another took its place */
};

static GMutex lock;
static struct pair *current;
static GSList *retired; /* handshakes may still use them */

static void pair_free(struct pair *p)
{
    for (guint i = 0; i < p->n; i++)
        gnutls_pcert_deinit(&p->chain[i]);
    if (p->key)
        gnutls_privkey_deinit(p->key);
    g_free(p);
}
typedef struct pair pair;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(pair, pair_free)

static gboolean fail(GError **error, const char *file, const char *what)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s: %s", file, what);
    return FALSE;
}

/* Whether the key is the first certificate's. */
static gboolean pair_fits(const struct pair *p)
{
    guint8 of_cert[64], of_key[64];
    gsize n_cert = sizeof of_cert, n_key = sizeof of_key;
    gnutls_pubkey_t pub;
    if (gnutls_pubkey_init(&pub) != 0)
        return FALSE;
    gboolean fits = gnutls_pubkey_import_privkey(pub, p->key, 0, 0) == 0 &&
                    gnutls_pubkey_get_key_id(pub, GNUTLS_KEYID_USE_SHA256, of_key, &n_key) == 0 &&
                    gnutls_pubkey_get_key_id(p->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, of_cert, &n_cert) == 0 &&
                    n_cert == n_key && memcmp(of_cert, of_key, n_key) == 0;
    gnutls_pubkey_deinit(pub);
    return fits;
}

static gboolean read_key(struct pair *p, const char *file, GError **error)
{
    g_autofree char *text = NULL;
    gsize len;
    if (!g_file_get_contents(file, &text, &len, error))
        return FALSE;
    gnutls_datum_t datum = {(guint8 *) text, len};
    gnutls_privkey_init(&p->key);
    int rc = gnutls_privkey_import_x509_raw(p->key, &datum, GNUTLS_X509_FMT_PEM, NULL, 0);
    explicit_bzero(text, len);
    return rc == 0 || fail(error, file, gnutls_strerror(rc));
}

static struct pair *pair_read(const char *cert, const char *key, GError **error)
{
    g_autofree char *text = NULL;
    gsize len;
    if (!g_file_get_contents(cert, &text, &len, error))
        return NULL;
    g_autoptr(pair) p = g_new0(struct pair, 1);
    gnutls_datum_t datum = {(guint8 *) text, len};
    guint n = CHAIN_MOST;
    int rc = gnutls_pcert_list_import_x509_raw(p->chain, &n, &datum, GNUTLS_X509_FMT_PEM, 0);
    if (rc != 0) {
        fail(error, cert, gnutls_strerror(rc));
        return NULL;
    }
    p->n = n;
    if (!read_key(p, key, error))
        return NULL;
    if (!pair_fits(p)) {
        fail(error, key, "is not the key of the certificate");
        return NULL;
    }
    return g_steal_pointer(&p);
}

/* Our own pair: made when there is none, and again when a crash left a half of it. */
static struct pair *own_pair(const char *dir, GError **error)
{
    g_autofree char *cert = g_build_filename(dir, "tls-cert.pem", NULL);
    g_autofree char *key = g_build_filename(dir, "tls-key.pem", NULL);
    g_autoptr(GError) why = NULL;
    struct pair *p = pair_read(cert, key, &why);
    if (p)
        return p;
    if (g_file_test(cert, G_FILE_TEST_EXISTS) && g_file_test(key, G_FILE_TEST_EXISTS))
        g_warning("the certificate is made anew: %s", why->message);
    return tls_self_signed(cert, key, error) ? pair_read(cert, key, error) : NULL;
}

/* One that was installed through the API: certificate, chain and key in one file, so that none is there without the
 * others. */
static char *installed_file(void)
{
    return g_build_filename(the_conf()->state_dir, "tls-installed.pem", NULL);
}

static void replace(struct pair *p)
{
    gint64 now = g_get_monotonic_time();
    g_mutex_lock(&lock);
    for (GSList *i = retired, *next; i; i = next) {
        struct pair *old = i->data;
        next = i->next;
        if (now - old->retired > RETIRE_US) {
            retired = g_slist_delete_link(retired, i);
            pair_free(old);
        }
    }
    if (current) {
        current->retired = now;
        retired = g_slist_prepend(retired, current);
    }
    current = p;
    g_mutex_unlock(&lock);
}

char *certificate_pem(void)
{
    gnutls_datum_t pem = {NULL, 0};
    char *text = NULL;

    g_mutex_lock(&lock);
    if (current && gnutls_pem_base64_encode2("CERTIFICATE", &current->chain[0].cert, &pem) == 0)
        text = g_strndup((const char *) pem.data, pem.size);
    g_mutex_unlock(&lock);
    gnutls_free(pem.data);
    return text;
}

gboolean certificate_facts(struct certificate_facts *facts)
{
    g_mutex_lock(&lock);
    gboolean known = current && certificate_facts_of(current->chain[0].cert.data, current->chain[0].cert.size, facts);
    g_mutex_unlock(&lock);
    return known;
}

static gboolean is_configured(void)
{
    const char *cert = the_conf()->tls_cert;
    return cert && *cert;
}

/* A damaged one is not replaced by another that clients do not expect. */
static struct pair *installed_or_own(GError **error)
{
    g_autofree char *installed = installed_file();
    if (g_file_test(installed, G_FILE_TEST_EXISTS))
        return pair_read(installed, installed, error);
    return own_pair(the_conf()->state_dir, error);
}

gboolean tls_load(GError **error)
{
    const struct conf *conf = the_conf();
    struct pair *p;
    if (is_configured())
        p = pair_read(conf->tls_cert, conf->tls_key && conf->tls_key[0] ? conf->tls_key : conf->tls_cert, error);
    else
        p = installed_or_own(error);
    if (!p)
        return FALSE;

    replace(p);
    return TRUE;
}

/* ---- through the API ---- */

static GMutex changing; /* two who change the files */

static gboolean cannot(GError *error, struct fault *f)
{
    g_warning("the certificate stays as it was: %s", error->message);
    return fault_set(f, "INTERNAL_ERROR", error->message, NULL);
}

static gboolean may_change(struct fault *f)
{
    return !is_configured() ||
           fault_set(f, "OPERATION_NOT_ALLOWED", "the configuration file names the certificate (tls-cert)", NULL);
}

/* In one step, on stable storage, for nobody else to read. */
static gboolean write_secret(const char *path, const char *text, GError **error)
{
    return g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600,
                                    error);
}

gboolean certificate_install(const char *cert, const char *key, const char *chain, struct fault *f)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = installed_file();
    if (!may_change(f) || !certificate_check(cert, key, chain, f))
        return FALSE;
    char *text = g_strconcat(cert, "\n", chain, "\n", key, "\n", NULL);
    g_mutex_lock(&changing);
    gboolean done = write_secret(path, text, &error) && tls_load(&error);
    g_mutex_unlock(&changing);
    explicit_bzero(text, strlen(text));
    g_free(text);
    return done || cannot(error, f);
}

gboolean certificate_reset(struct fault *f)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = installed_file();
    g_autofree char *cert = g_build_filename(the_conf()->state_dir, "tls-cert.pem", NULL);
    g_autofree char *key = g_build_filename(the_conf()->state_dir, "tls-key.pem", NULL);
    if (!may_change(f))
        return FALSE;
    g_mutex_lock(&changing);
    gboolean done = tls_self_signed(cert, key, &error);
    if (done)
        unlink(path);
    done = done && tls_load(&error);
    g_mutex_unlock(&changing);
    return done || cannot(error, f);
}

int tls_certificate(gnutls_session_t session, const gnutls_datum_t *ca, int n_ca,
                    const gnutls_pk_algorithm_t *algorithms, int n_algorithms, gnutls_pcert_st **chain,
                    unsigned int *chain_length, gnutls_privkey_t *key)
{
    (void) session;
    (void) ca;
    (void) n_ca;
    (void) algorithms;
    (void) n_algorithms;
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    *chain = current->chain;
    *chain_length = current->n;
    *key = current->key;
    return 0;
}

gboolean tls_is_loaded(void)
{
    g_mutex_lock(&lock);
    gboolean loaded = current != NULL;
    g_mutex_unlock(&lock);
    return loaded;
}

gboolean certificate_ready(GError **error)
{
    return tls_is_loaded() || tls_load(error);
}

void certificate_use(struct gnutls_certificate_credentials_st *credentials)
{
    gnutls_certificate_set_retrieve_function2(credentials, tls_certificate);
}

/* DNS names of a certificate in DER; *found is replaced by a better one. */
static void take_names(gnutls_x509_crt_t crt, char **found)
{
    char name[256];
    for (guint i = 0;; i++) {
        gsize len = sizeof name - 1;
        int type = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &len, NULL);
        if (type < 0)
            return;
        name[MIN(len, sizeof name - 1)] = '\0';
        if (type != GNUTLS_SAN_DNSNAME || (*found && !strchr(*found, '*')))
            continue;
        g_free(*found);
        *found = g_strdup(name);
    }
}

static void take_common_name(gnutls_x509_crt_t crt, char **found)
{
    char name[256];
    gsize len = sizeof name;
    if (!*found && gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &len) == 0)
        *found = g_strdup(name);
}

char *certificate_subject(void)
{
    char *found = NULL;
    gnutls_x509_crt_t crt;
    if (gnutls_x509_crt_init(&crt) != 0)
        return g_strdup("");
    g_mutex_lock(&lock);
    gboolean read = current && gnutls_x509_crt_import(crt, &current->chain[0].cert, GNUTLS_X509_FMT_DER) == 0;
    g_mutex_unlock(&lock);
    if (read) {
        take_names(crt, &found);
        take_common_name(crt, &found);
    }
    gnutls_x509_crt_deinit(crt);
    return found ? found : g_strdup("");
}
