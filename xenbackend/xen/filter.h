/* filter.h - what a locked network interface may send and receive, as rules for nft(8).
 *
 * Text is made here and nothing is run; any thread. Sources: nft(8), RFC 826, 2131, 4861, 5227. */
#ifndef XENAPID_FILTER_H
#define XENAPID_FILTER_H

#include "daemon/value/value.h"

/* All rules are in this table; each interface N has the chains N-from and N-to, and its places in two maps. */
#define FILTER_TABLE "bridge xenapid"
#define FILTER_FROM  "from"
#define FILTER_TO    "to"
/* More addresses than that are refused: the script is one argument of a program. */
#define FILTER_MAX_ADDRESSES 512

/* The script that lets through, for the interface and for each of the names that it has (one or two, NULL-terminated),
 * what comes from mac and an address of ipv4 or ipv6 (sets of text) or goes to them, and nothing else. Without an
 * address nothing passes. Beside the addresses: broadcasts and multicasts to the guest, its question for one of its own
 * addresses (ARP probe, duplicate address detection), and DHCP requests. All of it takes effect at once. The caller
 * frees; NULL with f set to INVALID_VALUE [what, text] where something is not what it should be. */
char *filter_script(const char *const *names, const char *mac, const struct value *ipv4, const struct value *ipv6,
                    struct fault *f);
/* The script that takes all of that away, whether it is there or not. The caller frees. */
char *filter_script_removal(const char *const *names);
/* The script that takes the table away. Static. */
const char *filter_script_end(void);
/* The names of the interfaces in what "nft list table" says, NULL-terminated; the caller frees with g_strfreev. */
char **filter_parse_names(const char *listing);

#endif
