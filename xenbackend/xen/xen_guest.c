/* xen_guest.c - what a guest says of itself in xenstore, as VM_guest_metrics wants it. Guests write what they like: all
 * of it is bounded. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <string.h>

#define TEXT_MAX 512
#define KEYS_MAX 64

struct row {
    const char *path, *key;
};

static const struct row os_rows[] = {
    {"data/os_name", "name"},      {"data/os_uname", "uname"},    {"data/os_distro", "distro"},
    {"data/os_majorver", "major"}, {"data/os_minorver", "minor"}, {NULL, NULL},
};
static const struct row driver_rows[] = {
    {"attr/PVAddons/MajorVersion", "major"},
    {"attr/PVAddons/MinorVersion", "minor"},
    {"attr/PVAddons/MicroVersion", "micro"},
    {"attr/PVAddons/BuildVersion", "build"},
    {NULL, NULL},
};
static const struct row memory_rows[] = {
    {"data/meminfo_total", "total"},
    {"data/meminfo_free", "free"},
    {NULL, NULL},
};

static void put_text(struct value_builder *b, const char *key, const char *text)
{
    g_autofree char *name = xen_guest_text(key, TEXT_MAX);
    g_autofree char *shown = xen_guest_text(text, TEXT_MAX);
    if (b->n < KEYS_MAX && !value_builder_has(b, name))
        value_builder_put_string(b, name, shown);
}

/* Adds the rows that the guest has written to b; a member only where there are any. */
static void put_rows(struct value_builder *b, const char *member, int domid, const struct row *rows)
{
    struct value_builder map;
    value_builder_map(&map, NULL, 5);
    for (; rows->path != NULL; rows++) {
        g_autofree char *text = xen_read("/local/domain/%d/%s", domid, rows->path);
        if (text != NULL)
            put_text(&map, rows->key, text);
    }
    if (map.n > 0)
        value_builder_put(b, member, value_builder_end(&map));
    else
        value_builder_clear(&map);
}

/* ---- networks: attr/vif/0/ipv4/0 and attr/eth0/ip ---- */

static void put_addresses(struct value_builder *map, int domid, const char *device, const char *family)
{
    g_auto(GStrv) numbers = xen_list("/local/domain/%d/attr/vif/%s/%s", domid, device, family);
    for (guint i = 0; numbers[i] != NULL && map->n < KEYS_MAX; i++) {
        g_autofree char *key = g_strdup_printf("%s/%s/%s", device, family, numbers[i]);
        g_autofree char *text = xen_read("/local/domain/%d/attr/vif/%s", domid, key);
        g_autofree char *plain = g_strconcat(device, "/ip", NULL);
        if (text == NULL || *text == '\0')
            continue;
        put_text(map, key, text);
        if (strcmp(family, "ipv4") == 0)
            put_text(map, plain, text); /* what older clients look at */
    }
}

static void put_networks(struct value_builder *b, int domid)
{
    struct value_builder map;
    g_auto(GStrv) devices = xen_list("/local/domain/%d/attr/vif", domid);
    g_auto(GStrv) attrs = xen_list("/local/domain/%d/attr", domid);
    value_builder_map(&map, NULL, 4);
    for (guint i = 0; devices[i] != NULL && map.n < KEYS_MAX; i++) {
        put_addresses(&map, domid, devices[i], "ipv4");
        put_addresses(&map, domid, devices[i], "ipv6");
    }
    for (guint i = 0; attrs[i] != NULL && map.n < KEYS_MAX; i++) {
        g_autofree char *text =
            g_str_has_prefix(attrs[i], "eth") ? xen_read("/local/domain/%d/attr/%s/ip", domid, attrs[i]) : NULL;
        g_autofree char *key = g_strconcat(attrs[i] + 3 * (text != NULL), "/ip", NULL);
        if (text != NULL)
            put_text(&map, key, text);
    }
    if (map.n > 0)
        value_builder_put(b, "networks", value_builder_end(&map));
    else
        value_builder_clear(&map);
}

/* ---- the rest: what it can do, and its other words in data ---- */

static gboolean is_known(const char *name)
{
    static const char *const prefixes[] = {"os_", "meminfo_", "updated", NULL};
    for (gsize i = 0; prefixes[i] != NULL; i++)
        if (g_str_has_prefix(name, prefixes[i]))
            return TRUE;
    return FALSE;
}

static void put_other(struct value_builder *b, int domid)
{
    struct value_builder map;
    g_auto(GStrv) control = xen_list("/local/domain/%d/control", domid);
    g_auto(GStrv) data = xen_list("/local/domain/%d/data", domid);
    value_builder_map(&map, NULL, 8);
    for (guint i = 0; control[i] != NULL; i++) {
        g_autofree char *text =
            strncmp(control[i], "feature-", 8) == 0 ? xen_read("/local/domain/%d/control/%s", domid, control[i]) : NULL;
        if (text != NULL && *text != '\0')
            put_text(&map, control[i], text);
    }
    for (guint i = 0; data[i] != NULL && map.n < KEYS_MAX; i++) {
        g_autofree char *text = is_known(data[i]) ? NULL : xen_read("/local/domain/%d/data/%s", domid, data[i]);
        if (text != NULL && *text != '\0')
            put_text(&map, data[i], text);
    }
    if (map.n > 0)
        value_builder_put(b, "other", value_builder_end(&map));
    else
        value_builder_clear(&map);
}

struct value *xen_guest_metrics(int domid, const char *uuid)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 8);
    put_rows(&b, "os_version", domid, os_rows);
    put_rows(&b, "PV_drivers_version", domid, driver_rows);
    put_rows(&b, "memory", domid, memory_rows);
    put_networks(&b, domid);
    put_other(&b, domid);
    if (b.n == 0) {
        value_builder_clear(&b);
        return NULL;
    }
    value_builder_put_string(&b, "uuid", uuid);
    return value_builder_end(&b);
}
