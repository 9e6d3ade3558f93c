/* certificate.h - the certificate that our https listeners show, for those who ask through the API. */
#ifndef XENAPID_CERTIFICATE_H
#define XENAPID_CERTIFICATE_H

/* As PEM, without its chain and key; the caller frees it. NULL while there is no https listener. Any thread. */
char *certificate_pem(void);

#endif
