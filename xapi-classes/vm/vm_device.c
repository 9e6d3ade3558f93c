/* vm_device.c - where devices stand in a VM: names and numbers of disks and interfaces, Ethernet addresses. */
#include "xapi-classes/vm/vm.h"

#include <string.h>

enum {
    MAX_DISKS = 16, /* offered to clients; more can be asked for by number */
    MAX_DISK_NUMBER = 255,
    MAX_VIFS = 7,
    PARTITIONS = 64,
    FLOPPIES = (MAX_DISK_NUMBER + 1) * PARTITIONS, /* drives of another kind stand elsewhere */
};

/* ---- disks ---- */

/* "a" is 0, "z" 25, "aa" 26. */
static int letters_number(const char *s, const char **end)
{
    int n = 0;
    const char *p = s;
    for (; g_ascii_islower(*p) && n <= MAX_DISK_NUMBER; p++)
        n = n * 26 + (*p - 'a' + 1);
    *end = p;
    return p == s ? -1 : n - 1;
}

/* A decimal number without sign or leading zeros; -1 for anything else. */
static int plain_number(const char *s, int max)
{
    char *end;
    if (!g_ascii_isdigit(*s) || (s[0] == '0' && s[1] != '\0'))
        return -1;
    gint64 n = g_ascii_strtoll(s, &end, 10);
    return *end == '\0' && n <= max ? (int) n : -1;
}

static int named_position(const char *name, gsize prefix, int base)
{
    const char *end;
    int disk = letters_number(name + prefix, &end);
    int partition = *end == '\0' ? 0 : plain_number(end, PARTITIONS - 1);
    if (disk < 0 || disk > MAX_DISK_NUMBER || partition < 0)
        return -1;
    return base + disk * PARTITIONS + partition;
}

/* What Xen's block devices are numbered by: Linux's major and minor numbers of xvd, hd and sd, and a form of its own
 * for more disks. FALSE: text is none of these. */
static gboolean linux_device(const char *text, const char **kind, int *disk, int *partition)
{
    enum { XVD = 202, SD = 8, IDE0 = 3, IDE1 = 22, EXTENDED = 1 << 28 };
    guint64 n;
    gboolean hex = g_str_has_prefix(text, "0x");
    if (!g_ascii_string_to_unsigned(hex ? text + 2 : text, hex ? 16 : 10, MAX_DISK_NUMBER + 1, 2 * EXTENDED - 1, &n,
                                    NULL))
        return FALSE;
    int major = (int) (n >> 8), minor = (int) (n & 0xff);
    gboolean ide = (major == IDE0 || major == IDE1) && minor < 2 * 64;
    *kind = ide ? "hd" : major == SD ? "sd" : "xvd";
    *disk = ide ? minor / 64 + (major == IDE1 ? 2 : 0) : minor / 16;
    *partition = ide ? minor % 64 : minor % 16;
    if (n >= EXTENDED) {
        *disk = (int) ((n & (EXTENDED - 1)) >> 8);
        *partition = minor;
    }
    return (n >= EXTENDED || ide || major == SD || major == XVD) && *disk <= MAX_DISK_NUMBER && *partition < PARTITIONS;
}

int vbd_position(const char *name)
{
    const char *kind;
    int disk, partition, n = plain_number(name, MAX_DISK_NUMBER);
    if (n >= 0)
        return n * PARTITIONS;
    if (linux_device(name, &kind, &disk, &partition))
        return disk * PARTITIONS + partition;
    if (g_str_has_prefix(name, "xvd"))
        return named_position(name, 3, 0);
    if (g_str_has_prefix(name, "hd") || g_str_has_prefix(name, "sd"))
        return named_position(name, 2, 0);
    if (g_str_has_prefix(name, "fd"))
        return named_position(name, 2, FLOPPIES);
    return -1;
}

static char *device_name(const char *kind, int disk, int partition)
{
    char letters[3] = {(char) ('a' + disk % 26), '\0', '\0'}, number[8] = "";
    if (disk >= 26) {
        letters[1] = letters[0];
        letters[0] = (char) ('a' + disk / 26 - 1);
    }
    if (partition > 0)
        g_snprintf(number, sizeof number, "%d", partition);
    return g_strconcat(kind, letters, number, NULL);
}

char *vbd_device_name(const char *userdevice)
{
    const char *kind;
    int disk, partition, n = plain_number(userdevice, MAX_DISK_NUMBER);
    if (n >= 0)
        return device_name("xvd", n, 0);
    if (linux_device(userdevice, &kind, &disk, &partition))
        return device_name(kind, disk, partition);
    return g_strdup(userdevice);
}

/* A VBD that says nothing of its place stands where its device name says. */
static int position_of(const struct record *vbd)
{
    int n = vbd_position(record_str(vbd, F_VBD_userdevice));
    return n >= 0 ? n : vbd_position(record_str(vbd, F_VBD_device));
}

gboolean vbd_device_taken(struct txn *t, const struct record *vm, int position, const char *but)
{
    const struct value *refs = record_field(vm, F_VM_VBDs);
    for (gsize i = 0; i < value_count(refs); i++) {
        struct record *vbd = txn_get(t, CLASS_VBD, value_str(value_at(refs, i)));
        if (vbd != NULL && g_strcmp0(vbd->ref, but) != 0 && position_of(vbd) == position)
            return TRUE;
    }
    return FALSE;
}

char *vbd_free_device(struct txn *t, const struct record *vm)
{
    for (int n = 0; n < MAX_DISKS; n++)
        if (!vbd_device_taken(t, vm, n * PARTITIONS, NULL))
            return g_strdup_printf("%d", n);
    return NULL;
}

struct value *vbd_free_devices(struct txn *t, const struct record *vm)
{
    struct value_builder b;
    value_builder_set(&b, NULL, MAX_DISKS);
    for (int n = 0; n < MAX_DISKS; n++)
        if (!vbd_device_taken(t, vm, n * PARTITIONS, NULL))
            value_builder_add(&b, value_printf(NULL, "%d", n));
    return value_builder_end(&b);
}

/* ---- interfaces ---- */

gboolean vif_device_taken(struct txn *t, const struct record *vm, const char *device, const char *but)
{
    const struct value *refs = record_field(vm, F_VM_VIFs);
    for (gsize i = 0; i < value_count(refs); i++) {
        struct record *vif = txn_get(t, CLASS_VIF, value_str(value_at(refs, i)));
        if (vif != NULL && g_strcmp0(vif->ref, but) != 0 && strcmp(record_str(vif, F_VIF_device), device) == 0)
            return TRUE;
    }
    return FALSE;
}

struct value *vif_free_devices(struct txn *t, const struct record *vm)
{
    struct value_builder b;
    value_builder_set(&b, NULL, MAX_VIFS);
    for (int n = 0; n < MAX_VIFS; n++) {
        char device[8];
        g_snprintf(device, sizeof device, "%d", n);
        if (!vif_device_taken(t, vm, device, NULL))
            value_builder_add_string(&b, device);
    }
    return value_builder_end(&b);
}

char *vif_free_device(struct txn *t, const struct record *vm)
{
    g_autoptr(value) free_devices = vif_free_devices(t, vm);
    return value_count(free_devices) > 0 ? g_strdup(value_str(value_at(free_devices, 0))) : NULL;
}

/* ---- Ethernet addresses ---- */

/* Six pairs; neither a group's address nor all zeros. */
gboolean mac_is_valid(const char *mac)
{
    gboolean zero = TRUE;
    if (strlen(mac) != 17)
        return FALSE;
    for (int i = 0; i < 17; i++) {
        if (i % 3 == 2 ? mac[i] != ':' : !g_ascii_isxdigit(mac[i]))
            return FALSE;
        zero = zero && (mac[i] == ':' || mac[i] == '0');
    }
    return !zero && (g_ascii_xdigit_value(mac[1]) & 1) == 0;
}

void mac_from_seed(const char *seed, const char *device, char mac[18])
{
    guint8 digest[32];
    gsize len = sizeof digest;
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(sum, (const guchar *) seed, -1);
    g_checksum_update(sum, (const guchar *) "/", 1);
    g_checksum_update(sum, (const guchar *) device, -1);
    g_checksum_get_digest(sum, digest, &len);
    digest[0] = (digest[0] & 0xfc) | 0x02; /* locally administered, one station */
    g_snprintf(mac, 18, "%02x:%02x:%02x:%02x:%02x:%02x", digest[0], digest[1], digest[2], digest[3], digest[4],
               digest[5]);
}
