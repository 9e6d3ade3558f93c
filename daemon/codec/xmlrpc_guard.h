/* xmlrpc_guard.h - what is refused in a document before libxml2 sees it. */
#ifndef XENAPID_XMLRPC_GUARD_H
#define XENAPID_XMLRPC_GUARD_H

#include <glib.h>

/* NULL, or why the document is refused. */
const char *xmlrpc_guard(const char *text, gsize len);

#endif
