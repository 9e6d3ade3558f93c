/* xen_device.c - disks and network interfaces of domains: as libxl wants them described, plugged and unplugged. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <string.h>
#include <unistd.h>

#include "xenbackend/storage/storage.h"

#define UNPLUG_TIMEOUT_S  40
#define RATE_INTERVAL_US  50000
#define RATE_PER_KBPS(us) ((guint64) (us) *1024 / 1000000)
#define FRONTEND_TEXT_MAX 400

static const char *uuid_of(struct value *device)
{
    return value_get_str(device, "uuid", "");
}

static gboolean is_cd(struct value *vbd)
{
    return strcmp(value_get_str(vbd, "type", "Disk"), "CD") == 0;
}

static gboolean is_empty(struct value *vbd)
{
    return value_as_bool(value_get(vbd, "empty"));
}

static gboolean is_hvm(const struct xen_domain *d)
{
    return strcmp(xen_type(d), "hvm") == 0;
}

/* ---- disks described ---- */

gboolean xen_disk_is_device(struct value *vbd, gboolean hvm)
{
    return hvm || !is_empty(vbd);
}

char *xen_disk_device(struct value *vbd)
{
    const char *device = value_get_str(vbd, "device", "");
    gint64 number = g_ascii_strtoll(value_get_str(vbd, "userdevice", "0"), NULL, 10);
    if (*device != '\0')
        return g_strdup(device);
    return g_strdup_printf("xvd%c", 'a' + (char) CLAMP(number, 0, 25));
}

char *xen_disk_note(struct value *vbd)
{
    g_autofree char *device = xen_disk_device(vbd);
    return is_empty(vbd) ? g_strconcat(device, " empty", NULL) : g_steal_pointer(&device);
}

/* Raw files and block devices go to the kernel's backend, which is the fastest; what it cannot read, and the drives
 * that a device model emulates, to the device model. */
static gboolean fill_image(struct value *vbd, libxl_device_disk *disk, struct fault *f)
{
    g_autofree char *path = NULL;
    const char *format = NULL, *vdi = value_get_str(vbd, "vdi", "");
    if (*vdi == '\0')
        return fault_set(f, "VM_REQUIRES_VDI", uuid_of(vbd), "", NULL);
    if (!storage_vdi_path(value_get_str(vbd, "sr", ""), vdi, &path, &format, f))
        return FALSE;
    gboolean qcow2 = strcmp(format, "qcow2") == 0;
    /* QEMU 7.2 would open the file read-only and the image in it for writing, fail, and nobody would be told. */
    if (qcow2 && !disk->readwrite && !disk->is_cdrom)
        return fault_set(f, "VDI_INCOMPATIBLE_TYPE", vdi, format, NULL);
    disk->pdev_path = strdup(path);
    disk->format = qcow2 ? LIBXL_DISK_FORMAT_QCOW2 : LIBXL_DISK_FORMAT_RAW;
    if (qcow2)
        disk->backend = LIBXL_DISK_BACKEND_QDISK;
    else if (!disk->is_cdrom)
        disk->backend = LIBXL_DISK_BACKEND_PHY;
    return TRUE;
}

gboolean xen_disk_fill(struct value *vbd, gboolean hvm, libxl_device_disk *disk, struct fault *f)
{
    g_autofree char *device = xen_disk_device(vbd);
    libxl_device_disk_init(disk);
    disk->vdev = strdup(device);
    disk->is_cdrom = hvm && is_cd(vbd);
    disk->removable = disk->is_cdrom;
    disk->readwrite = !is_cd(vbd) && strcmp(value_get_str(vbd, "mode", "RW"), "RW") == 0;
    if (!is_empty(vbd))
        return fill_image(vbd, disk, f);
    disk->format = LIBXL_DISK_FORMAT_EMPTY;
    return TRUE;
}

/* ---- interfaces described ---- */

static gboolean parse_mac(const char *text, libxl_mac mac)
{
    guint byte[6];
    char more;
    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &byte[0], &byte[1], &byte[2], &byte[3], &byte[4], &byte[5], &more) !=
        6)
        return FALSE;
    for (int i = 0; i < 6; i++)
        mac[i] = (guint8) byte[i];
    return TRUE;
}

/* The hotplug script would find out too late that it is not there. */
static gboolean check_bridge(const char *bridge, struct fault *f)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s/bridge", bridge);
    g_autofree char *ovs = g_strdup_printf("/sys/class/net/%s", bridge);
    gboolean named = *bridge != '\0' && strpbrk(bridge, "/ ") == NULL && *bridge != '.';
    if (named && (access(path, F_OK) == 0 || access(ovs, F_OK) == 0))
        return TRUE;
    g_autofree char *text = g_strdup_printf("there is no bridge \"%s\"", bridge);
    return fault_set(f, "DOMAIN_BUILDER_ERROR", "vif", "19", text, NULL);
}

static void fill_rate(struct value *vif, libxl_device_nic *nic)
{
    gint64 kbps = g_ascii_strtoll(value_get_str(value_get(vif, "qos_params"), "kbps", "0"), NULL, 10);
    if (strcmp(value_get_str(vif, "qos_type", ""), "ratelimit") != 0 || kbps <= 0)
        return;
    nic->rate_interval_usecs = RATE_INTERVAL_US;
    nic->rate_bytes_per_interval = (guint64) kbps * RATE_PER_KBPS(RATE_INTERVAL_US);
}

gboolean xen_nic_fill(struct value *vif, gboolean hvm, libxl_device_nic *nic, struct fault *f)
{
    const char *mac = value_get_str(vif, "mac", ""), *bridge = value_get_str(vif, "bridge", "");
    gint64 mtu = value_as_int(value_get(vif, "mtu"));
    libxl_device_nic_init(nic);
    nic->devid = (int) g_ascii_strtoll(value_get_str(vif, "device", "0"), NULL, 10);
    if (*mac != '\0' && !parse_mac(mac, nic->mac))
        return fault_set(f, "MAC_INVALID", mac, NULL);
    if (!check_bridge(bridge, f))
        return FALSE;
    nic->bridge = strdup(bridge);
    if (mtu > 0)
        nic->mtu = (int) mtu;
    nic->nictype = hvm ? LIBXL_NIC_TYPE_VIF_IOEMU : LIBXL_NIC_TYPE_VIF;
    fill_rate(vif, nic);
    return TRUE;
}

/* ---- what is plugged ---- */

static char *note_of(int domid, const char *class, const char *uuid)
{
    return xen_read("/local/domain/%d/xenapid/%s/%s", domid, class, uuid);
}

static gboolean device_is_free(int domid, const char *class, const char *uuid, const char *name, struct fault *f)
{
    g_auto(GStrv) uuids = xen_list("/local/domain/%d/xenapid/%s", domid, class);
    if (!storage_uuid_is_valid(uuid))
        return fault_set(f, "INVALID_VALUE", "uuid", uuid, NULL);
    for (guint i = 0; uuids[i] != NULL; i++) {
        g_autofree char *note = note_of(domid, class, uuids[i]);
        if (strcmp(uuids[i], uuid) == 0)
            return fault_set(f, "DEVICE_ALREADY_ATTACHED", uuid, NULL);
        if (note != NULL && strncmp(note, name, strlen(name)) == 0 && strchr(" ", note[strlen(name)]) != NULL)
            return fault_set(f, "DEVICE_ALREADY_EXISTS", name, NULL);
    }
    return TRUE;
}

static void set_note(int domid, const char *class, const char *uuid, const char *note)
{
    if (note != NULL)
        xen_write(note, "/local/domain/%d/xenapid/%s/%s", domid, class, uuid);
    else
        xen_remove("/local/domain/%d/xenapid/%s/%s", domid, class, uuid);
    xen_watch_tell(domid);
}

static gint64 unplug_deadline(void)
{
    return g_get_monotonic_time() + UNPLUG_TIMEOUT_S * G_TIME_SPAN_SECOND;
}

/* The guest's own words, if it had any, about a device that it kept. */
static gboolean detach_fault(struct xen_op *op, int rc, int domid, const char *class, int devid, const char *uuid,
                             struct fault *f)
{
    gboolean disk = strcmp(class, "VBD") == 0;
    g_autofree char *text = xen_read("/local/domain/%d/error/device/%s/%d/error", domid, disk ? "vbd" : "vif", devid);
    if (rc == ERROR_ABORTED)
        return fault_set(f, "TASK_CANCELLED", "", NULL);
    if (text != NULL) {
        g_autofree char *shown = xen_guest_text(text, FRONTEND_TEXT_MAX);
        return fault_set(f, "DEVICE_DETACH_REJECTED", class, uuid, shown, NULL);
    }
    if (rc == ERROR_TIMEDOUT || rc == ERROR_GUEST_TIMEDOUT)
        return fault_set(f, "DEVICE_DETACH_TIMEOUT", class, uuid, NULL);
    return fault_set(f, "DEVICE_DETACH_REJECTED", class, uuid,
                     op->words->len > 0 ? op->words->str : libxl_error_to_string(rc), NULL);
}

/* ---- taken away ---- */

static gboolean remove_disk(struct xen_op *op, const struct xen_domain *d, const char *device, gboolean force,
                            const char *uuid, struct fault *f)
{
    libxl_device_disk disk;
    libxl_device_disk_init(&disk);
    guint32 domid = (guint32) d->domid;
    int rc = libxl_vdev_to_device_disk(op->ctx, domid, device, &disk);
    gboolean there = rc == 0;
    if (there) {
        rc = force ? libxl_device_disk_destroy(op->ctx, domid, &disk, xen_op_how(op))
                   : libxl_device_disk_safe_remove(op->ctx, domid, &disk, xen_op_how(op));
        rc = xen_op_wait(op, rc, unplug_deadline());
    }
    libxl_device_disk_dispose(&disk);
    /* One that is not there any more, by the guest's or another toolstack's doing, has been removed. */
    return !there || rc == 0 || detach_fault(op, rc, d->domid, "VBD", -1, uuid, f);
}

static gboolean remove_nic(struct xen_op *op, const struct xen_domain *d, int devid, gboolean force, const char *uuid,
                           struct fault *f)
{
    libxl_device_nic nic;
    libxl_device_nic_init(&nic);
    guint32 domid = (guint32) d->domid;
    gboolean there = libxl_devid_to_device_nic(op->ctx, domid, devid, &nic) == 0;
    int rc = 0;
    if (there) {
        rc = force ? libxl_device_nic_destroy(op->ctx, domid, &nic, xen_op_how(op))
                   : libxl_device_nic_remove(op->ctx, domid, &nic, xen_op_how(op));
        rc = xen_op_wait(op, rc, unplug_deadline());
    }
    libxl_device_nic_dispose(&nic);
    return rc == 0 || detach_fault(op, rc, d->domid, "VIF", devid, uuid, f);
}

gboolean xen_device_remove(const struct xen_domain *d, const char *class, const char *device, gboolean force,
                           const char *uuid, struct fault *f)
{
    g_auto(xen_op) op = XEN_OP_INIT;
    if (!xen_op_begin(&op, NULL, f))
        return FALSE;
    if (strcmp(class, "vbd") == 0)
        return remove_disk(&op, d, device, force, uuid, f);
    return remove_nic(&op, d, (int) g_ascii_strtoll(device, NULL, 10), force, uuid, f);
}

/* One whose plugging has failed: libxl leaves what it had made of it. */
static void take_back(const struct xen_domain *d, const char *class, const char *device, const char *uuid)
{
    struct fault f = FAULT_INIT;
    if (!xen_device_remove(d, class, device, TRUE, uuid, &f)) {
        g_autofree char *text = fault_text(&f);
        g_warning("domain %d: what was begun of %s is left over: %s", d->domid, device, text);
    }
    fault_clear(&f);
    set_note(d->domid, class, uuid, NULL);
}

/* ---- disks plugged ---- */

static struct value *device_answer(const char *device)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "device", device);
    return value_builder_end(&b);
}

/* The disk that is described comes to the domain; in a drive that the device model emulates it is inserted. */
static gboolean add_disk(struct xen_op *op, const struct xen_domain *d, struct value *vbd, gboolean insert,
                         struct fault *f)
{
    libxl_device_disk disk;
    gboolean hvm = is_hvm(d), filled = xen_disk_fill(vbd, hvm, &disk, f);
    if (filled && disk.backend == LIBXL_DISK_BACKEND_QDISK)
        filled = xen_model_ensure(op->req, d, f);
    if (filled) {
        int rc = insert ? libxl_cdrom_insert(op->ctx, (guint32) d->domid, &disk, xen_op_how(op))
                        : libxl_device_disk_add(op->ctx, (guint32) d->domid, &disk, xen_op_how(op));
        rc = xen_op_wait(op, rc, 0);
        filled = rc == 0 || xen_build_fault(op, rc, d->uuid, insert ? "cdrom_insert" : "disk_add", f);
    }
    libxl_device_disk_dispose(&disk);
    return filled;
}

struct value *xen_vbd_plug(struct helper_request *req, struct fault *f)
{
    struct value *vbd = value_get(req->params, "vbd");
    g_autofree char *device = xen_disk_device(vbd), *note = xen_disk_note(vbd);
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    if (!xen_find(req->params, XEN_ALIVE, &d, f))
        return NULL;
    xen_device_wait(d.domid, uuid_of(vbd));
    if (!device_is_free(d.domid, "vbd", uuid_of(vbd), device, f) || !xen_op_begin(&op, req, f))
        return NULL;
    /* First the note: a device that nobody knows of would be worse than a note of a device that is not there. */
    xen_device_begin(d.domid, "plug", "vbd", uuid_of(vbd), device);
    set_note(d.domid, "vbd", uuid_of(vbd), note);
    gboolean added = !xen_disk_is_device(vbd, is_hvm(&d)) || add_disk(&op, &d, vbd, FALSE, f);
    if (!added)
        take_back(&d, "vbd", device, uuid_of(vbd));
    else
        xen_ionice_set(d.domid, vbd);
    xen_device_end(d.domid, uuid_of(vbd));
    xen_watch_tell(d.domid);
    return added ? device_answer(device) : NULL;
}

/* The device of the attached disk, without what our note says beside; NULL with f set. */
static char *attached_disk(int domid, struct value *vbd, gboolean *empty, struct fault *f)
{
    char *note = storage_uuid_is_valid(uuid_of(vbd)) ? note_of(domid, "vbd", uuid_of(vbd)) : NULL;
    if (note == NULL) {
        fault_set(f, "DEVICE_NOT_ATTACHED", uuid_of(vbd), NULL);
        return NULL;
    }
    char *space = strchr(note, ' ');
    *empty = space != NULL;
    if (space != NULL)
        *space = '\0';
    return note;
}

struct value *xen_vbd_unplug(struct helper_request *req, struct fault *f)
{
    struct value *vbd = value_get(req->params, "vbd");
    gboolean force = value_as_bool(value_get(req->params, "force")), empty;
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    if (!xen_find(req->params, XEN_ALIVE, &d, f))
        return NULL;
    gboolean waited = xen_device_wait(d.domid, uuid_of(vbd));
    g_autofree char *device = attached_disk(d.domid, vbd, &empty, f);
    if (device == NULL) {
        fault_clear(f);
        if (waited) /* that was what it was waited for */
            return value_empty_map();
        fault_set(f, "DEVICE_ALREADY_DETACHED", uuid_of(vbd), NULL);
        return NULL;
    }
    if (!xen_op_begin(&op, req, f))
        return NULL;
    xen_device_begin(d.domid, "unplug", "vbd", uuid_of(vbd), device);
    gboolean removed = (empty && !is_hvm(&d)) || remove_disk(&op, &d, device, force, uuid_of(vbd), f);
    if (removed) {
        set_note(d.domid, "vbd", uuid_of(vbd), NULL);
        xen_ionice_forget(d.domid, uuid_of(vbd));
    }
    xen_device_end(d.domid, uuid_of(vbd));
    return removed ? device_answer(device) : NULL;
}

/* ---- media ---- */

/* PV and PVH guests have no drives: a medium is a disk that comes and goes. */
static struct value *change_medium(struct helper_request *req, gboolean insert, struct fault *f)
{
    struct value *vbd = value_get(req->params, "vbd");
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    gboolean empty;
    if (!xen_find(req->params, XEN_ALIVE, &d, f))
        return NULL;
    g_autofree char *device = attached_disk(d.domid, vbd, &empty, f);
    if (device != NULL && empty != insert)
        fault_set(f, insert ? "VBD_NOT_EMPTY" : "VBD_IS_EMPTY", uuid_of(vbd), NULL);
    if (f->code != NULL || !xen_op_begin(&op, req, f))
        return NULL;
    g_autoptr(value) wanted = value_map_with(vbd, "empty", value_bool(!insert));
    g_autofree char *note = xen_disk_note(wanted);
    gboolean done;
    if (is_hvm(&d))
        done = add_disk(&op, &d, wanted, TRUE, f);
    else
        done = insert ? add_disk(&op, &d, wanted, FALSE, f) : remove_disk(&op, &d, device, FALSE, uuid_of(vbd), f);
    if (!done)
        return NULL;
    set_note(d.domid, "vbd", uuid_of(vbd), note);
    return value_empty_map();
}

struct value *xen_vbd_insert(struct helper_request *req, struct fault *f)
{
    return change_medium(req, TRUE, f);
}

struct value *xen_vbd_eject(struct helper_request *req, struct fault *f)
{
    return change_medium(req, FALSE, f);
}

gboolean xen_drives_empty(struct xen_op *op, struct value *config, guint32 domid, struct fault *f)
{
    struct value *vbds = value_get(config, "vbds");
    int rc = 0;
    for (gsize i = 0; rc == 0 && i < value_count(vbds); i++) {
        libxl_device_disk disk;
        if (!is_empty(value_at(vbds, i)) || !xen_disk_fill(value_at(vbds, i), TRUE, &disk, f))
            continue;
        rc = xen_op_wait(op, libxl_cdrom_insert(op->ctx, domid, &disk, xen_op_how(op)), 0);
        libxl_device_disk_dispose(&disk);
    }
    return rc == 0 || xen_build_fault(op, rc, value_get_str(config, "uuid", ""), "cdrom_insert", f);
}

/* ---- interfaces plugged ---- */

static gboolean add_nic(struct xen_op *op, const struct xen_domain *d, struct value *vif, struct fault *f)
{
    libxl_device_nic nic;
    gboolean done = xen_nic_fill(vif, is_hvm(d), &nic, f);
    if (done) {
        int rc = libxl_device_nic_add(op->ctx, (guint32) d->domid, &nic, xen_op_how(op));
        rc = xen_op_wait(op, rc, 0);
        done = rc == 0 || xen_build_fault(op, rc, d->uuid, "nic_add", f);
    }
    libxl_device_nic_dispose(&nic);
    return done;
}

/* Its rules first: not one frame passes before they hold. */
struct value *xen_vif_plug(struct helper_request *req, struct fault *f)
{
    struct value *vif = value_get(req->params, "vif");
    const char *device = value_get_str(vif, "device", "0");
    int devid = (int) g_ascii_strtoll(device, NULL, 10);
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    if (!xen_find(req->params, XEN_ALIVE, &d, f))
        return NULL;
    xen_device_wait(d.domid, uuid_of(vif));
    if (!device_is_free(d.domid, "vif", uuid_of(vif), device, f) || !xen_op_begin(&op, req, f))
        return NULL;
    xen_device_begin(d.domid, "plug", "vif", uuid_of(vif), device);
    set_note(d.domid, "vif", uuid_of(vif), device);
    gboolean added = xen_nic_filter(d.domid, vif, f) && add_nic(&op, &d, vif, f) && xen_nic_lock(d.domid, vif, f);
    if (!added) {
        take_back(&d, "vif", device, uuid_of(vif));
        xen_filter_remove(d.domid, devid);
    }
    xen_device_end(d.domid, uuid_of(vif));
    xen_watch_tell(d.domid);
    return added ? value_empty_map() : NULL;
}

struct value *xen_vif_unplug(struct helper_request *req, struct fault *f)
{
    struct value *vif = value_get(req->params, "vif");
    gboolean force = value_as_bool(value_get(req->params, "force"));
    g_auto(xen_op) op = XEN_OP_INIT;
    struct xen_domain d;
    if (!xen_find(req->params, XEN_ALIVE, &d, f))
        return NULL;
    gboolean waited = xen_device_wait(d.domid, uuid_of(vif));
    g_autofree char *note = storage_uuid_is_valid(uuid_of(vif)) ? note_of(d.domid, "vif", uuid_of(vif)) : NULL;
    if (note == NULL && waited)
        return value_empty_map();
    if (note == NULL) {
        fault_set(f, "DEVICE_ALREADY_DETACHED", uuid_of(vif), NULL);
        return NULL;
    }
    if (!xen_op_begin(&op, req, f))
        return NULL;
    int devid = (int) g_ascii_strtoll(note, NULL, 10);
    xen_device_begin(d.domid, "unplug", "vif", uuid_of(vif), note);
    gboolean removed = remove_nic(&op, &d, devid, force, uuid_of(vif), f);
    if (removed) {
        xen_filter_remove(d.domid, devid);
        set_note(d.domid, "vif", uuid_of(vif), NULL);
    }
    xen_device_end(d.domid, uuid_of(vif));
    return removed ? value_empty_map() : NULL;
}

struct value *xen_vif_update(struct helper_request *req, struct fault *f)
{
    struct value *vif = value_get(req->params, "vif");
    struct xen_domain d;
    if (!xen_find(req->params, XEN_ALIVE, &d, f))
        return NULL;
    g_autofree char *note = storage_uuid_is_valid(uuid_of(vif)) ? note_of(d.domid, "vif", uuid_of(vif)) : NULL;
    if (note == NULL) {
        fault_set(f, "DEVICE_NOT_ATTACHED", uuid_of(vif), NULL);
        return NULL;
    }
    return xen_nic_filter(d.domid, vif, f) && xen_nic_move(d.domid, vif, f) && xen_nic_lock(d.domid, vif, f)
               ? value_empty_map()
               : NULL;
}
