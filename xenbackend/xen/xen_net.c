/* xen_net.c - the host's network cards and bridges, as the kernel shows them. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char *sys_text(const char *device, const char *name)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s/%s", device, name);
    char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return g_strdup("");
    return g_strstrip(text);
}

static gint64 sys_number(const char *device, const char *name)
{
    g_autofree char *text = sys_text(device, name);
    return g_ascii_strtoll(text, NULL, 10);
}

static gboolean sys_exists(const char *device, const char *name)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s/%s", device, name);
    return access(path, F_OK) == 0;
}

/* The bridge that the card is a port of, or "". */
static char *bridge_of(const char *device)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s/master", device);
    g_autofree char *target = g_file_read_link(path, NULL);
    return target != NULL ? g_path_get_basename(target) : g_strdup("");
}

static void put_address(struct value_builder *b, const char *device, struct ifaddrs *all)
{
    char ip[INET_ADDRSTRLEN] = "", mask[INET_ADDRSTRLEN] = "";
    for (const struct ifaddrs *a = all; a != NULL && *ip == '\0'; a = a->ifa_next) {
        if (a->ifa_addr == NULL || a->ifa_addr->sa_family != AF_INET || strcmp(a->ifa_name, device) != 0)
            continue;
        const struct sockaddr_in *in = (const void *) a->ifa_addr, *net = (const void *) a->ifa_netmask;
        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
        if (net != NULL)
            inet_ntop(AF_INET, &net->sin_addr, mask, sizeof mask);
    }
    value_builder_put_string(b, "ip", ip);
    value_builder_put_string(b, "netmask", mask);
}

/* The router of the default route through the device, or "". */
static char *gateway_of(const char *device)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents("/proc/net/route", &text, NULL, NULL))
        return g_strdup("");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        char name[IFNAMSIZ], ip[INET_ADDRSTRLEN];
        unsigned int target, gateway;
        if (sscanf(lines[i], "%15s %x %x", name, &target, &gateway) != 3 || target != 0 || strcmp(name, device) != 0)
            continue;
        struct in_addr in = {.s_addr = gateway};
        return g_strdup(inet_ntop(AF_INET, &in, ip, sizeof ip));
    }
    return g_strdup("");
}

/* The address is the bridge's where there is one. */
static struct value *interface(const char *device, const char *bridge, gboolean physical, struct ifaddrs *all)
{
    struct value_builder b;
    const char *addressed = *bridge != '\0' ? bridge : device;
    g_autofree char *mac = sys_text(device, "address"), *gateway = gateway_of(addressed);
    value_builder_map(&b, NULL, 12);
    value_builder_put_string(&b, "device", device);
    value_builder_put_string(&b, "mac", mac);
    value_builder_put(&b, "mtu", value_int(NULL, sys_number(device, "mtu")));
    value_builder_put(&b, "carrier", value_bool(sys_number(device, "carrier") == 1));
    value_builder_put(&b, "speed", value_int(NULL, MAX(sys_number(device, "speed"), 0)));
    value_builder_put_string(&b, "bridge", bridge);
    put_address(&b, addressed, all);
    value_builder_put_string(&b, "gateway", gateway);
    value_builder_put(&b, "physical", value_bool(physical));
    return value_builder_end(&b);
}

/* Guests' ends of their interfaces have no hardware behind them, as loops and tunnels have none. */
static gboolean is_card(const char *device)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s/device", device);
    g_autofree char *target = g_file_read_link(path, NULL);
    g_autofree char *name = target != NULL ? g_path_get_basename(target) : NULL;
    return name != NULL && !g_str_has_prefix(name, "vif-") && !g_str_has_prefix(device, "vif");
}

struct value *xen_interfaces(void)
{
    struct value_builder set;
    struct if_nameindex *list = if_nameindex();
    struct ifaddrs *addresses = NULL;
    g_autoptr(GHashTable) bridges = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (getifaddrs(&addresses) != 0)
        addresses = NULL;
    value_builder_set(&set, NULL, 4);
    for (struct if_nameindex *i = list; i != NULL && i->if_name != NULL; i++) {
        if (!is_card(i->if_name))
            continue;
        char *bridge = bridge_of(i->if_name);
        value_builder_add(&set, interface(i->if_name, bridge, TRUE, addresses));
        g_hash_table_add(bridges, bridge);
    }
    for (struct if_nameindex *i = list; i != NULL && i->if_name != NULL; i++)
        if (sys_exists(i->if_name, "bridge") && !g_hash_table_contains(bridges, i->if_name))
            value_builder_add(&set, interface(i->if_name, i->if_name, FALSE, addresses));
    if (addresses != NULL)
        freeifaddrs(addresses);
    if (list != NULL)
        if_freenameindex(list);
    return value_builder_end(&set);
}

/* The one that the default route goes through, or the first. */
char *xen_address(void)
{
    g_autoptr(value) all = xen_interfaces();
    const char *best = "";
    for (gsize i = 0; i < value_count(all); i++) {
        struct value *one = value_at(all, i);
        const char *ip = value_get_str(one, "ip", "");
        if (*ip != '\0' && *value_get_str(one, "gateway", "") != '\0')
            return g_strdup(ip);
        if (*best == '\0')
            best = ip;
    }
    return g_strdup(best);
}
