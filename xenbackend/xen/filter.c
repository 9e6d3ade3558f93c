/* filter.c - the rules for a locked network interface; see filter.h. */
#include "config.h"
#include "xenbackend/xen/filter.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define MULTICAST_BIT "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00"

/* ---- what goes into a rule ---- */

static gboolean has(const GPtrArray *list, const char *text)
{
    return g_ptr_array_find_with_equal_func((GPtrArray *) list, text, g_str_equal, NULL);
}

/* The addresses in the one way of writing them, each once. */
static GPtrArray *addresses(const struct value *set, int family, struct fault *f)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
    if (value_count(set) > FILTER_MAX_ADDRESSES) {
        fault_set(f, "INVALID_VALUE", family == AF_INET ? "ipv4_allowed" : "ipv6_allowed", "too many addresses", NULL);
        return NULL;
    }
    for (gsize i = 0; i < value_count(set); i++) {
        const char *given = value_str(value_at(set, i));
        guint8 bytes[sizeof(struct in6_addr)];
        char text[INET6_ADDRSTRLEN];
        if (inet_pton(family, given, bytes) != 1) {
            fault_set(f, "INVALID_VALUE", family == AF_INET ? "ipv4_allowed" : "ipv6_allowed", given, NULL);
            return NULL;
        }
        inet_ntop(family, bytes, text, sizeof text);
        if (!has(list, text))
            g_ptr_array_add(list, g_strdup(text));
    }
    return g_steal_pointer(&list);
}

static char *in_braces(const GPtrArray *list)
{
    GString *s = g_string_new("{");
    for (guint i = 0; i < list->len; i++)
        g_string_append_printf(s, "%s %s", i > 0 ? "," : "", (const char *) list->pdata[i]);
    g_string_append(s, " }");
    return g_string_free(s, FALSE);
}

static gboolean is_mac(const char *text)
{
    guint byte;
    for (int i = 0; i < 6; i++, text += 3)
        if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1]) || sscanf(text, "%2x", &byte) != 1 ||
            text[2] != (i < 5 ? ':' : '\0'))
            return FALSE;
    return TRUE;
}

static gboolean is_name(const char *name)
{
    return g_ascii_isalpha(*name) && strlen(name) < 16 &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-")] == '\0';
}

/* ---- rules ---- */

struct chain {
    GString *script;
    const char *interface, *way;
};

static void G_GNUC_PRINTF(2, 3) rule(const struct chain *c, const char *format, ...)
{
    va_list ap;
    g_string_append_printf(c->script, "add rule " FILTER_TABLE " %s-%s ", c->interface, c->way);
    va_start(ap, format);
    g_string_append_vprintf(c->script, format, ap);
    va_end(ap);
    g_string_append(c->script, "; ");
}

/* A solicitation or an advertisement names, after eight bytes, the address that it is about. */
static void rules_for_targets(const struct chain *c, const char *match, const GPtrArray *ipv6)
{
    for (guint i = 0; i < ipv6->len; i++) {
        guint8 b[16];
        char hex[2 * sizeof b + 1];
        inet_pton(AF_INET6, ipv6->pdata[i], b);
        for (gsize k = 0; k < sizeof b; k++)
            g_snprintf(hex + 2 * k, 3, "%02x", b[k]);
        rule(c, "%s @th,64,128 0x%s accept", match, hex);
    }
}

static void rules_from(const struct chain *c, const char *mac, const GPtrArray *ipv4, const GPtrArray *ipv6)
{
    g_autofree char *v4 = in_braces(ipv4), *v6 = in_braces(ipv6);
    rule(c, "ether saddr != %s drop", mac);
    if (ipv4->len > 0) {
        rule(c, "ether type arp arp saddr ether != %s drop", mac);
        rule(c, "ether type arp arp saddr ip %s accept", v4);
        rule(c, "ether type arp arp saddr ip 0.0.0.0 arp daddr ip %s accept", v4);
        rule(c, "ether type ip ip saddr %s accept", v4);
        rule(c, "ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept");
    }
    if (ipv6->len > 0) {
        rules_for_targets(c, "ether type ip6 icmpv6 type nd-neighbor-advert", ipv6);
        rule(c, "ether type ip6 icmpv6 type nd-neighbor-advert drop");
        rules_for_targets(c, "ether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit", ipv6);
        rule(c, "ether type ip6 ip6 saddr %s accept", v6);
    }
    rule(c, "drop");
}

static void rules_to(const struct chain *c, const char *mac, const GPtrArray *ipv4, const GPtrArray *ipv6)
{
    g_autofree char *v4 = in_braces(ipv4), *v6 = in_braces(ipv6);
    rule(c, "ether daddr != %s ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 drop", mac);
    if (ipv4->len > 0) {
        rule(c, "ether type arp arp daddr ip %s accept", v4);
        rule(c, "ether type arp arp operation reply ether daddr %s accept", mac);
        rule(c, "ether type ip ip daddr %s accept", v4);
        rule(c, "ether type ip " MULTICAST_BIT " accept");
    }
    if (ipv6->len > 0) {
        rule(c, "ether type ip6 ip6 daddr %s accept", v6);
        rule(c, "ether type ip6 " MULTICAST_BIT " accept");
    }
    rule(c, "drop");
}

/* ---- where the rules are ---- */

/* Which interface's chain a frame passes is looked up by name: its cost is the same for any number of them. */
static GString *script_new(void)
{
    static const struct {
        const char *chain, *hook, *of;
    } ways[] = {
        {FILTER_FROM, "prerouting priority -300", "iifname"},
        {FILTER_TO, "postrouting priority 300", "oifname"},
    };
    GString *s = g_string_new("add table " FILTER_TABLE "; ");
    for (gsize i = 0; i < G_N_ELEMENTS(ways); i++) {
        const char *w = ways[i].chain;
        g_string_append_printf(s, "add chain " FILTER_TABLE " %s { type filter hook %s; policy accept; }; ", w,
                               ways[i].hook);
        g_string_append_printf(s, "add map " FILTER_TABLE " %s-interfaces { type ifname : verdict; }; ", w);
        g_string_append_printf(s, "flush chain " FILTER_TABLE " %s; ", w);
        g_string_append_printf(s, "add rule " FILTER_TABLE " %s %s vmap @%s-interfaces; ", w, ways[i].of, w);
    }
    return s;
}

static void place(GString *s, const char *verb, const char *way, const char *const *names)
{
    for (int i = 0; names[i] != NULL; i++)
        g_string_append_printf(s, "%s element " FILTER_TABLE " %s-interfaces { \"%s\" : jump %s-%s }; ", verb, way,
                               names[i], names[0], way);
}

static void empty_chain(GString *s, const char *name, const char *way)
{
    g_string_append_printf(s, "add chain " FILTER_TABLE " %s-%s; flush chain " FILTER_TABLE " %s-%s; ", name, way, name,
                           way);
}

char *filter_script(const char *const *names, const char *mac, const struct value *ipv4, const struct value *ipv6,
                    struct fault *f)
{
    g_autoptr(GPtrArray) v4 = addresses(ipv4, AF_INET, f);
    g_autoptr(GPtrArray) v6 = v4 != NULL ? addresses(ipv6, AF_INET6, f) : NULL;
    if (v6 == NULL)
        return NULL;
    if (!is_mac(mac)) {
        fault_set(f, "INVALID_VALUE", "MAC", mac, NULL);
        return NULL;
    }
    for (int i = 0; names[i] != NULL; i++)
        if (!is_name(names[i])) {
            fault_set(f, "INVALID_VALUE", "interface", names[i], NULL);
            return NULL;
        }
    GString *s = script_new();
    empty_chain(s, names[0], FILTER_FROM);
    rules_from(&(struct chain){s, names[0], FILTER_FROM}, mac, v4, v6);
    empty_chain(s, names[0], FILTER_TO);
    rules_to(&(struct chain){s, names[0], FILTER_TO}, mac, v4, v6);
    place(s, "add", FILTER_FROM, names);
    place(s, "add", FILTER_TO, names);
    return g_string_free(s, FALSE);
}

/* First it is all made: what is not there cannot be deleted. */
char *filter_script_removal(const char *const *names)
{
    static const char *const ways[] = {FILTER_FROM, FILTER_TO};
    GString *s = script_new();
    for (gsize i = 0; i < G_N_ELEMENTS(ways); i++) {
        empty_chain(s, names[0], ways[i]);
        place(s, "add", ways[i], names);
        place(s, "delete", ways[i], names);
        g_string_append_printf(s, "delete chain " FILTER_TABLE " %s-%s; ", names[0], ways[i]);
    }
    return g_string_free(s, FALSE);
}

const char *filter_script_end(void)
{
    return "add table " FILTER_TABLE "; delete table " FILTER_TABLE;
}

/* ---- what is there ---- */

/* Lines "chain NAME-from {". */
char **filter_parse_names(const char *listing)
{
    GPtrArray *names = g_ptr_array_new();
    g_auto(GStrv) lines = g_strsplit(listing, "\n", -1);
    for (int i = 0; lines[i] != NULL; i++) {
        char name[64];
        const char suffix[] = "-" FILTER_FROM;
        if (sscanf(lines[i], " chain %63[^ ] {", name) == 1 && g_str_has_suffix(name, suffix)) {
            name[strlen(name) - strlen(suffix)] = '\0';
            if (is_name(name))
                g_ptr_array_add(names, g_strdup(name));
        }
    }
    g_ptr_array_add(names, NULL);
    return (char **) g_ptr_array_free(names, FALSE);
}
