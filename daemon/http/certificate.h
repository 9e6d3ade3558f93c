/* certificate.h - the certificate that our https listeners show, for those who ask through
 * the API, and for other listeners. */
#ifndef XENAPID_CERTIFICATE_H
#define XENAPID_CERTIFICATE_H

#include "daemon/value/value.h"

#include <glib.h>

/* Loads (or makes) it where there is no https listener that did so. FALSE with error. Any thread. */
gboolean certificate_ready(GError **error);
/* Has GnuTLS ask for it in each handshake with these credentials, whenever it is replaced. */
struct gnutls_certificate_credentials_st;
void certificate_use(struct gnutls_certificate_credentials_st *credentials);
/* The name of a host that it is for: none with a wildcard where there is another; "" when it names none. The caller
 * frees it. */
char *certificate_subject(void);

/* As PEM, without its chain and key; the caller frees it. NULL while there is no https listener. Any thread. */
char *certificate_pem(void);

struct certificate_facts {
    gint64 not_before, not_after; /* seconds since 1970 */
    char fingerprint[32 * 3];     /* SHA-256, "AB:CD:..." */
};
/* What certificate_pem shows; FALSE when that is nothing. Any thread. */
gboolean certificate_facts(struct certificate_facts *facts);

/* Shows another certificate from now on, and after a restart: connections made from now on get it, those that are there
 * stay. All three are PEM; chain (may be "") holds the issuers in order. Nothing changes unless they are in order:
 * FALSE with f set, SERVER_CERTIFICATE_INVALID [], SERVER_CERTIFICATE_KEY_MISMATCH [], ..., or OPERATION_NOT_ALLOWED
 * [text] when the configuration file names the certificate. Any thread; writes a file. */
gboolean certificate_install(const char *cert, const char *key, const char *chain, struct fault *f);
/* Shows a new self-signed one instead. FALSE with f set, as above. */
gboolean certificate_reset(struct fault *f);

/* ---- certificate_check.c, for certificate_install ---- */

/* Whether they are a server's certificate that is valid now, its RSA key, and its issuers. FALSE with f set. */
gboolean certificate_check(const char *cert, const char *key, const char *chain, struct fault *f);
/* Facts of one certificate in DER. */
gboolean certificate_facts_of(const guint8 *der, gsize len, struct certificate_facts *facts);

#endif
