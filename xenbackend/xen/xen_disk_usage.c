/* xen_disk_usage.c - what passed between guests and the kernel's disk backend between two measurements. Disks that the
 * device model serves have no such counters. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <stdio.h>
#include <string.h>

#define DEVICES "/sys/bus/xen-backend/devices"
#define SECTOR  512
#define KIB_F   1024.0

struct disk_io {
    int domid;
    char uuid[UUID_TEXT_SIZE]; /* of the VBD; "" for another toolstack's */
    gint64 read, written;      /* sectors */
    gint64 when;
    double in, out; /* KiB a second */
    guint round;
};

static GMutex lock;
static GHashTable *disks; /* name of the device -> struct disk_io */
static guint rounds;

static gint64 counter(const char *name, const char *which)
{
    g_autofree char *path = g_strdup_printf(DEVICES "/%s/statistics/%s", name, which), *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? g_ascii_strtoll(text, NULL, 10) : -1;
}

/* Asked of xenstore once, when the disk is seen first: the note that we made of its device. */
static void find_uuid(struct disk_io *d, int devid)
{
    g_autofree char *backend = xen_read("/libxl/%d/device/vbd/%d/backend", d->domid, devid);
    g_autofree char *device = backend != NULL ? xen_read("%s/dev", backend) : NULL;
    g_auto(GStrv) uuids = xen_list("/local/domain/%d/xenapid/vbd", d->domid);
    for (guint i = 0; device != NULL && uuids[i] != NULL; i++) {
        g_autofree char *note = xen_read("/local/domain/%d/xenapid/vbd/%s", d->domid, uuids[i]);
        if (g_strcmp0(note, device) == 0)
            g_strlcpy(d->uuid, uuids[i], sizeof d->uuid);
    }
}

static double rate(gint64 before, gint64 now, gint64 us)
{
    return before >= 0 && now > before && us > 0
               ? (double) (now - before) * SECTOR / KIB_F * G_USEC_PER_SEC / (double) us
               : 0.0;
}

static void measure_one(const char *name, int domid, int devid)
{
    gint64 now = g_get_monotonic_time();
    gint64 read = counter(name, "rd_sect"), written = counter(name, "wr_sect");
    struct disk_io *d = g_hash_table_lookup(disks, name);
    if (read < 0 || written < 0)
        return;
    if (d == NULL) {
        d = g_new0(struct disk_io, 1);
        *d = (struct disk_io){.domid = domid, .read = -1, .written = -1};
        find_uuid(d, devid);
        g_hash_table_insert(disks, g_strdup(name), d);
    }
    d->in = rate(d->read, read, now - d->when);
    d->out = rate(d->written, written, now - d->when);
    d->read = read;
    d->written = written;
    d->when = now;
    d->round = rounds;
}

static gboolean is_gone(gpointer key G_GNUC_UNUSED, gpointer value, gpointer data G_GNUC_UNUSED)
{
    return ((struct disk_io *) value)->round != rounds;
}

void xen_disk_usage_measure(void)
{
    g_autoptr(GDir) dir = g_dir_open(DEVICES, 0, NULL);
    const char *name;
    g_mutex_lock(&lock);
    if (disks == NULL)
        disks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    rounds++;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        int domid, devid;
        if (sscanf(name, "vbd-%d-%d", &domid, &devid) == 2)
            measure_one(name, domid, devid);
    }
    g_hash_table_foreach_remove(disks, is_gone, NULL);
    g_mutex_unlock(&lock);
}

struct value *xen_disk_usage(int domid)
{
    struct value_builder set, b;
    GHashTableIter iter;
    void *data;
    value_builder_set(&set, NULL, 4);
    g_mutex_lock(&lock);
    if (disks != NULL)
        g_hash_table_iter_init(&iter, disks);
    while (disks != NULL && g_hash_table_iter_next(&iter, NULL, &data)) {
        const struct disk_io *d = data;
        if (d->domid != domid || *d->uuid == '\0')
            continue;
        value_builder_map(&b, NULL, 3);
        value_builder_put_string(&b, "uuid", d->uuid);
        value_builder_put(&b, "io_read_kbs", value_float(NULL, d->in));
        value_builder_put(&b, "io_write_kbs", value_float(NULL, d->out));
        value_builder_add(&set, value_builder_end(&b));
    }
    g_mutex_unlock(&lock);
    return value_builder_end(&set);
}
