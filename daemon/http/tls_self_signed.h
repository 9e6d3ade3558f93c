/* tls_self_signed.h - makes the certificate that a host has until it is given one. */
#ifndef XENAPID_TLS_SELF_SIGNED_H
#define XENAPID_TLS_SELF_SIGNED_H

#include <glib.h>

/* A new RSA key and a certificate for this host's names and addresses, into two PEM files. */
gboolean tls_self_signed(const char *cert_file, const char *key_file, GError **error);

#endif
