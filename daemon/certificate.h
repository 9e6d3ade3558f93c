/* certificate.h - the certificate that our https listeners show, for those who ask through
 * the API, and for other listeners. */
#ifndef XENAPID_CERTIFICATE_H
#define XENAPID_CERTIFICATE_H

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

#endif
