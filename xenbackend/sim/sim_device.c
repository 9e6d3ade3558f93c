/* sim_device.c - plugging, unplugging, inserting and ejecting the simulated domains' disks and network interfaces. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <string.h>

#include "xenbackend/storage/storage.h"

#define UNPLUG_TIMEOUT 30 /* seconds that a guest has to let a device go */

static gboolean is_empty(struct value *vbd)
{
    return value_as_bool(value_get(vbd, "empty"));
}

static gboolean is_cd(struct value *vbd)
{
    return strcmp(value_get_str(vbd, "type", "Disk"), "CD") == 0;
}

static const char *uuid_of(struct value *device)
{
    return value_get_str(device, "uuid", "");
}

/* ---- disks on the medium ---- */

static gboolean check_disk(const char *vm, struct value *vbd, struct fault *f)
{
    const char *sr = value_get_str(vbd, "sr", ""), *vdi = value_get_str(vbd, "vdi", "");
    if (is_empty(vbd))
        return TRUE;
    if (*vdi == '\0')
        return fault_set(f, "VM_REQUIRES_VDI", vm, uuid_of(vbd), NULL);
    g_autofree char *path = NULL;
    const char *format = NULL;
    return storage_vdi_path(sr, vdi, &path, &format, f);
}

gboolean sim_check_disks(const char *vm, struct value *vbds, struct fault *f)
{
    for (gsize i = 0; i < value_count(vbds); i++)
        if (!check_disk(vm, value_at(vbds, i), f))
            return FALSE;
    return TRUE;
}

/* With the mutex, which it lets go. */
static gboolean disk_is_there(const struct sim_domain *d, struct value *vbd, struct fault *f)
{
    g_mutex_unlock(&sim.lock);
    gboolean there = check_disk(d->uuid, vbd, f);
    g_mutex_lock(&sim.lock);
    return there;
}

/* ---- what disks and interfaces have in common ---- */

static gboolean device_is_free(struct value *map, struct value *device, struct fault *f)
{
    const char *name = value_get_str(device, "device", "");
    if (value_get(map, uuid_of(device)) != NULL)
        return fault_set(f, "DEVICE_ALREADY_ATTACHED", uuid_of(device), NULL);
    for (gsize i = 0; i < value_count(map); i++)
        if (strcmp(value_get_str(map->u.map.m[i].value, "device", ""), name) == 0)
            return fault_set(f, "DEVICE_ALREADY_EXISTS", name, NULL);
    return TRUE;
}

/* The domain as it is after the time that plugging takes. */
static gboolean plug_work(struct sim_op *op, struct sim_domain *d, struct fault *f)
{
    enum sim_end end = sim_work(op, d, sim.conf->sim_plug_ms, 0.0, 1.0);
    if (end == SIM_CANCELLED)
        return fault_set(f, "TASK_CANCELLED", "", NULL);
    if (end == SIM_GONE || (1u << d->power & SIM_ALIVE) == 0)
        return fault_set(f, "VM_BAD_POWER_STATE", d->uuid, "running", "halted", NULL);
    return TRUE;
}

/* *map is d's vbds or vifs. */
static void replace(struct sim_domain *d, struct value **map, struct value *now)
{
    value_unref(*map);
    *map = now;
    sim_changed(d);
}

static gboolean plug(struct sim_op *op, struct sim_domain *d, struct value **map, struct value *device, struct fault *f)
{
    const char *uuid = uuid_of(device);
    if (*uuid == '\0')
        return fault_set(f, "INVALID_VALUE", "uuid", "", NULL);
    if (!device_is_free(*map, device, f) || !plug_work(op, d, f) || !device_is_free(*map, device, f))
        return FALSE;
    replace(d, map, value_map_with(*map, uuid, value_ref(device)));
    return TRUE;
}

/* "sim:unplug" says how the guest takes it: "reject", "ignore". Force does not ask it. */
static gboolean guest_lets_go(struct sim_op *op, struct sim_domain *d, const char *class, const char *uuid,
                              struct fault *f)
{
    const char *how = sim_option(d, "sim:unplug", "");
    if (value_as_bool(value_get(op->params, "force")))
        return TRUE;
    if (strcmp(how, "reject") == 0)
        return fault_set(f, "DEVICE_DETACH_REJECTED", class, uuid, "The guest uses the device", NULL);
    if (strcmp(how, "ignore") != 0)
        return TRUE;
    gint64 seconds = sim_int(op->params, "timeout", UNPLUG_TIMEOUT);
    enum sim_end end = sim_wait(op, d, g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND, NULL);
    if (end == SIM_CANCELLED)
        return fault_set(f, "TASK_CANCELLED", "", NULL);
    return fault_set(f, "DEVICE_DETACH_TIMEOUT", class, uuid, NULL);
}

static gboolean unplug(struct sim_op *op, struct sim_domain *d, struct value **map, struct value *device,
                       const char *class, struct fault *f)
{
    const char *uuid = uuid_of(device);
    if (value_get(*map, uuid) == NULL)
        return fault_set(f, "DEVICE_ALREADY_DETACHED", uuid, NULL);
    if (!guest_lets_go(op, d, class, uuid, f) || !plug_work(op, d, f))
        return FALSE;
    if (value_get(*map, uuid) == NULL)
        return fault_set(f, "DEVICE_ALREADY_DETACHED", uuid, NULL);
    replace(d, map, value_map_without(*map, uuid));
    return TRUE;
}

/* ---- disks ---- */

static struct value *device_answer(struct value *device)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "device", value_get_str(device, "device", ""));
    return value_builder_end(&b);
}

/* With the mutex, which it lets go: the I/O priority that the disk asks for, or does not any more. */
static void tell_servers(struct value *vbd)
{
    const char *vdi = value_get_str(vbd, "vdi", "");
    g_mutex_unlock(&sim.lock);
    if (*vdi != '\0')
        storage_io_priority_changed(vdi);
    g_mutex_lock(&sim.lock);
}

struct value *sim_vbd_plug(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    struct value *vbd = value_get(op->params, "vbd");
    if (d == NULL || !disk_is_there(d, vbd, f) || !plug(op, d, &d->vbds, vbd, f))
        return NULL;
    tell_servers(vbd);
    return device_answer(vbd);
}

struct value *sim_vbd_unplug(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    struct value *vbd = value_get(op->params, "vbd");
    if (d == NULL || !unplug(op, d, &d->vbds, vbd, "VBD", f))
        return NULL;
    tell_servers(vbd);
    return device_answer(vbd);
}

struct value *sim_vbd_update(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    struct value *vbd = value_get(op->params, "vbd");
    if (d == NULL)
        return NULL;
    if (value_get(d->vbds, uuid_of(vbd)) == NULL) {
        fault_set(f, "DEVICE_NOT_ATTACHED", uuid_of(vbd), NULL);
        return NULL;
    }
    replace(d, &d->vbds, value_map_with(d->vbds, uuid_of(vbd), value_ref(vbd)));
    tell_servers(vbd);
    return value_empty_map();
}

/* The attached drive that params.vbd names, borrowed. */
static struct value *find_drive(struct sim_op *op, const struct sim_domain *d, struct fault *f)
{
    const char *uuid = uuid_of(value_get(op->params, "vbd"));
    struct value *drive = value_get(d->vbds, uuid);
    if (drive == NULL)
        fault_set(f, "DEVICE_NOT_ATTACHED", uuid, NULL);
    else if (!is_cd(drive))
        fault_set(f, "VBD_NOT_REMOVABLE_MEDIA", uuid, NULL);
    else if (strcmp(sim_option(d, "sim:tray", ""), "locked") == 0)
        fault_set(f, "VBD_TRAY_LOCKED", uuid, NULL);
    return f->code == NULL ? drive : NULL;
}

struct value *sim_vbd_insert(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    struct value *vbd = value_get(op->params, "vbd");
    struct value *drive = d != NULL ? find_drive(op, d, f) : NULL;
    if (drive == NULL)
        return NULL;
    if (!is_empty(drive)) {
        fault_set(f, "VBD_NOT_EMPTY", uuid_of(vbd), NULL);
        return NULL;
    }
    if (!disk_is_there(d, vbd, f) || !plug_work(op, d, f))
        return NULL;
    g_autoptr(value) full = value_map_with(vbd, "empty", value_bool(FALSE));
    replace(d, &d->vbds, value_map_with(d->vbds, uuid_of(vbd), value_ref(full)));
    return value_empty_map();
}

struct value *sim_vbd_eject(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    struct value *drive = d != NULL ? find_drive(op, d, f) : NULL;
    if (drive == NULL)
        return NULL;
    g_autofree char *uuid = g_strdup(uuid_of(drive));
    if (is_empty(drive)) {
        fault_set(f, "VBD_IS_EMPTY", uuid, NULL);
        return NULL;
    }
    if (!plug_work(op, d, f))
        return NULL;
    drive = value_get(d->vbds, uuid);
    if (drive != NULL)
        replace(d, &d->vbds, value_map_with(d->vbds, uuid, value_map_with(drive, "empty", value_bool(TRUE))));
    return value_empty_map();
}

/* ---- interfaces ---- */

struct value *sim_vif_plug(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    if (d == NULL || !plug(op, d, &d->vifs, value_get(op->params, "vif"), f))
        return NULL;
    d->told_guest = FALSE; /* the guest has another network now */
    return value_empty_map();
}

struct value *sim_vif_unplug(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    if (d == NULL || !unplug(op, d, &d->vifs, value_get(op->params, "vif"), "VIF", f))
        return NULL;
    d->told_guest = FALSE;
    return value_empty_map();
}

struct value *sim_vif_update(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    struct value *vif = value_get(op->params, "vif");
    if (d == NULL)
        return NULL;
    if (value_get(d->vifs, uuid_of(vif)) == NULL) {
        fault_set(f, "DEVICE_NOT_ATTACHED", uuid_of(vif), NULL);
        return NULL;
    }
    replace(d, &d->vifs, value_map_with(d->vifs, uuid_of(vif), value_ref(vif)));
    return value_empty_map();
}
