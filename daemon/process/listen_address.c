/* listen_address.c - the text form of a TCP listener's address. */
#include "config.h"

#include <arpa/inet.h>
#include <string.h>

#include "daemon/process/conf.h"

static gboolean parse_port(const char *text, int *port)
{
    gsize n = strspn(text, "0123456789");
    if (n == 0 || n > 5 || text[n])
        return FALSE;
    *port = (int) g_ascii_strtoull(text, NULL, 10);
    return *port <= 65535;
}

static gboolean is_ipv6(const char *host)
{
    struct in6_addr a;
    g_autofree char *without_zone = g_strndup(host, strcspn(host, "%"));
    return inet_pton(AF_INET6, without_zone, &a) == 1;
}

static gboolean is_ipv4(const char *host)
{
    struct in_addr a;
    return inet_pton(AF_INET, host, &a) == 1;
}

/* "" and "*" are all addresses; localhost is the one name that needs no resolver. */
static char *plain_host(const char *text, gsize len)
{
    g_autofree char *host = g_strndup(text, len);
    if (!*host || strcmp(host, "*") == 0)
        return g_strdup("::");
    if (strcmp(host, "localhost") == 0)
        return g_strdup("127.0.0.1");
    return is_ipv4(host) ? g_steal_pointer(&host) : NULL;
}

static char *bracketed_host(const char *text, gsize len)
{
    g_autofree char *host = g_strndup(text, len);
    return is_ipv6(host) ? g_steal_pointer(&host) : NULL;
}

gboolean listen_address_parse(const char *text, char **host, int *port, const char **why)
{
    const char *colon = strrchr(text, ':'), *bracket = strchr(text, ']');
    *host = NULL;
    if (!colon || (bracket && colon != bracket + 1)) {
        *why = "the port is missing";
        return FALSE;
    }
    if (!parse_port(colon + 1, port)) {
        *why = "the port is not a number from 0 to 65535";
        return FALSE;
    }
    if (*text == '[') {
        if (bracket)
            *host = bracketed_host(text + 1, bracket - text - 1);
        *why = "no IPv6 address between the brackets";
    } else {
        *host = plain_host(text, colon - text);
        *why = memchr(text, ':', colon - text) ? "an IPv6 address stands in brackets" : "not an IP address";
    }
    if (*host)
        *why = NULL;
    return *host != NULL;
}
