/* xen_ionice.c - I/O priorities of domains' disks: of blkback's kernel threads, which are there once the guest has
 * connected and again whenever it does so, and of the device model, which serves all its disks with the same threads.
 * What a disk is to have is in xenstore (xenapid/ionice/UUID); it is looked at every few seconds. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "xenbackend/io_priority.h"
#include "xenbackend/storage/storage.h"

#define KERNEL_THREAD 0x00200000UL /* PF_KTHREAD in /proc/PID/stat */
#define FLAGS_AT      6            /* of its fields, behind the name */

static gint any = TRUE; /* atomic: some disk may have one */

char *xen_ionice_note(struct value *vbd)
{
    int priority = io_priority_of(vbd);
    if (priority == IO_PRIORITY_NONE)
        return NULL;
    g_atomic_int_set(&any, TRUE);
    return g_strdup_printf("%d", priority);
}

/* ---- blkback ---- */

static gboolean is_kernel_thread(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/stat", pid), *text = NULL;
    const char *rest = g_file_get_contents(path, &text, NULL, NULL) ? strrchr(text, ')') : NULL;
    g_auto(GStrv) fields = rest != NULL ? g_strsplit(g_strstrip(text + (rest + 1 - text)), " ", -1) : NULL;
    return fields != NULL && g_strv_length(fields) > FLAGS_AT &&
           (strtoul(fields[FLAGS_AT], NULL, 10) & KERNEL_THREAD) != 0;
}

/* "12.xvda-0", "blkback.12.xvda": by the kernel's version, with the number of the ring. */
static gboolean is_name_of(const char *comm, const char *disk)
{
    gsize len = strlen(disk);
    if (g_str_has_prefix(comm, "blkback."))
        comm += strlen("blkback.");
    return strncmp(comm, disk, len) == 0 && (comm[len] == '\0' || comm[len] == '-');
}

static void give(pid_t pid, int priority, int domid, const char *device)
{
    if (!io_priority_give(pid, priority))
        g_info("domain %d: %s does not get its I/O priority: %s", domid, device, g_strerror(errno));
}

static void give_kernel(int domid, const char *device, const char *backend, int priority)
{
    g_autofree char *disk = g_strdup_printf("%d.%s", domid, device);
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    gint64 told = xen_read_int(0, "%s/kthread-pid", backend);
    const char *pid;
    if (told > 0)
        give((pid_t) told, priority, domid, device);
    while (proc != NULL && (pid = g_dir_read_name(proc)) != NULL) {
        g_autofree char *path = g_strdup_printf("/proc/%s/comm", pid), *comm = NULL;
        if (g_ascii_isdigit(*pid) && g_file_get_contents(path, &comm, NULL, NULL) &&
            is_name_of(g_strstrip(comm), disk) && is_kernel_thread(pid))
            give((pid_t) atoi(pid), priority, domid, device);
    }
}

/* ---- a domain ---- */

/* The backend of the domain's disk; *device: as our note names it. NULL: it is not plugged, or a drive without medium.
 */
static char *backend_of(int domid, const char *vbd, char **device)
{
    g_auto(GStrv) ids = xen_list("/libxl/%d/device/vbd", domid);
    *device = xen_read("/local/domain/%d/xenapid/vbd/%s", domid, vbd);
    for (guint i = 0; *device != NULL && ids[i] != NULL; i++) {
        char *backend = xen_read("/libxl/%d/device/vbd/%s/backend", domid, ids[i]);
        g_autofree char *name = backend != NULL ? xen_read("%s/dev", backend) : NULL;
        if (g_strcmp0(name, *device) == 0)
            return backend;
        g_free(backend);
    }
    return NULL;
}

/* One disk; of those that the device model serves *model becomes what goes first. */
static void look_at(int domid, const char *vbd, int priority, int *model)
{
    g_autofree char *device = NULL, *backend = backend_of(domid, vbd, &device);
    if (backend == NULL)
        return;
    if (strstr(backend, "/backend/qdisk/") != NULL)
        *model = io_priority_first(*model, priority);
    else
        give_kernel(domid, device, backend, priority);
}

static void give_model(int domid, int priority)
{
    gint64 pid = xen_read_int(0, "/local/domain/%d/image/device-model-pid", domid);
    if (pid > 1)
        give((pid_t) pid, priority, domid, "the device model");
}

/* TRUE: some disk of it has one. */
static gboolean look_at_domain(int domid, gboolean reset_model)
{
    g_auto(GStrv) vbds = xen_list("/local/domain/%d/xenapid/ionice", domid);
    int model = IO_PRIORITY_NONE;
    for (guint i = 0; vbds[i] != NULL; i++)
        look_at(domid, vbds[i],
                (int) xen_read_int(IO_PRIORITY_NONE, "/local/domain/%d/xenapid/ionice/%s", domid, vbds[i]), &model);
    if (model != IO_PRIORITY_NONE || reset_model)
        give_model(domid, model);
    return vbds[0] != NULL;
}

void xen_ionice_look(void)
{
    gboolean found = FALSE;
    if (!g_atomic_int_compare_and_exchange(&any, TRUE, FALSE))
        return;
    g_auto(GStrv) domids = xen_list("/local/domain");
    for (guint i = 0; domids[i] != NULL; i++)
        found |= atoi(domids[i]) > 0 && look_at_domain(atoi(domids[i]), FALSE);
    if (found)
        g_atomic_int_set(&any, TRUE);
}

void xen_ionice_set(int domid, struct value *vbd)
{
    const char *uuid = value_get_str(vbd, "uuid", "");
    g_autofree char *note = xen_ionice_note(vbd), *before = NULL;
    int model = IO_PRIORITY_NONE;
    if (!storage_uuid_is_valid(uuid))
        return;
    before = xen_read("/local/domain/%d/xenapid/ionice/%s", domid, uuid);
    if (note != NULL) {
        xen_write(note, "/local/domain/%d/xenapid/ionice/%s", domid, uuid);
    } else if (before != NULL) {
        xen_remove("/local/domain/%d/xenapid/ionice/%s", domid, uuid);
        look_at(domid, uuid, IO_PRIORITY_NONE, &model);
    }
    if (note != NULL || before != NULL)
        look_at_domain(domid, TRUE);
}

void xen_ionice_forget(int domid, const char *vbd)
{
    g_autofree char *note = xen_read("/local/domain/%d/xenapid/ionice/%s", domid, vbd);
    if (note == NULL)
        return;
    xen_remove("/local/domain/%d/xenapid/ionice/%s", domid, vbd);
    look_at_domain(domid, TRUE);
}

struct value *xen_vbd_update(struct helper_request *req, struct fault *f)
{
    struct value *vbd = value_get(req->params, "vbd");
    const char *uuid = value_get_str(vbd, "uuid", "");
    struct xen_domain d;
    if (!xen_find(req->params, XEN_ALIVE, &d, f))
        return NULL;
    g_autofree char *note =
        storage_uuid_is_valid(uuid) ? xen_read("/local/domain/%d/xenapid/vbd/%s", d.domid, uuid) : NULL;
    if (note == NULL) {
        fault_set(f, "DEVICE_NOT_ATTACHED", uuid, NULL);
        return NULL;
    }
    xen_ionice_set(d.domid, vbd);
    return value_empty_map();
}
