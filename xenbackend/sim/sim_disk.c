/* sim_disk.c - what simulated guests do with their disks: reading and writing when they are told to, through the image
 * itself; disks that grow or move to another repository under a running guest. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <string.h>

#include "xenbackend/io_priority.h"
#include "xenbackend/run.h"
#include "xenbackend/storage/storage.h"

#define IO_LIMIT     60 /* seconds */
#define IO_MOST      (G_GINT64_CONSTANT(1) << 30)
#define KIB          1024.0
#define FIRST_PERIOD (5 * G_TIME_SPAN_SECOND) /* that the first figures are spread over */

/* What passed between a guest and one of its disks. */
struct sim_io {
    gint64 read, written;           /* bytes */
    gint64 told_read, told_written; /* of them, when the figures were told last */
    gint64 told;                    /* monotonic; 0: never */
    gint64 writes;                  /* that were begun */
    guint writing;                  /* under way */
    gboolean held;                  /* writes wait, for the disk is about to move */
    gint64 size;                    /* that the guest was told; 0: as it found it */
};

static struct sim_io *io_of(struct sim_domain *d, const char *vbd)
{
    if (d->io == NULL)
        d->io = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    struct sim_io *io = g_hash_table_lookup(d->io, vbd);
    if (io == NULL) {
        io = g_new0(struct sim_io, 1);
        g_hash_table_insert(d->io, g_strdup(vbd), io);
    }
    return io;
}

/* ---- figures ---- */

static double rate(gint64 bytes, gint64 us)
{
    return us > 0 ? (double) bytes / KIB * G_USEC_PER_SEC / (double) us : 0.0;
}

struct value *sim_disk_usage(struct sim_domain *d)
{
    struct value_builder set, b;
    gint64 now = g_get_monotonic_time();
    value_builder_set(&set, NULL, value_count(d->vbds));
    for (gsize i = 0; i < value_count(d->vbds); i++) {
        const char *uuid = value_str(d->vbds->u.map.m[i].key);
        struct sim_io *io = io_of(d, uuid);
        gint64 passed = io->told > 0 ? now - io->told : FIRST_PERIOD;
        value_builder_map(&b, NULL, 3);
        value_builder_put_string(&b, "uuid", uuid);
        value_builder_put(&b, "io_read_kbs", value_float(NULL, rate(io->read - io->told_read, passed)));
        value_builder_put(&b, "io_write_kbs", value_float(NULL, rate(io->written - io->told_written, passed)));
        value_builder_add(&set, value_builder_end(&b));
        io->told_read = io->read;
        io->told_written = io->written;
        io->told = now;
    }
    return value_builder_end(&set);
}

struct value *sim_disk_images(const struct sim_domain *d)
{
    struct value_builder b;
    value_builder_map(&b, NULL, value_count(d->vbds));
    for (gsize i = 0; i < value_count(d->vbds); i++) {
        const struct value_member *m = &d->vbds->u.map.m[i];
        const char *vdi = value_get_str(m->value, "vdi", "");
        if (*vdi != '\0' && strcmp(value_get_str(m->value, "type", "Disk"), "Disk") == 0)
            value_builder_put_string(&b, value_str(m->key), vdi);
    }
    return value_builder_end(&b);
}

struct value *sim_disk_sizes(struct sim_domain *d)
{
    struct value_builder b;
    value_builder_map(&b, NULL, value_count(d->vbds));
    for (gsize i = 0; i < value_count(d->vbds); i++) {
        const struct value_member *m = &d->vbds->u.map.m[i];
        const struct sim_io *io = d->io != NULL ? g_hash_table_lookup(d->io, value_str(m->key)) : NULL;
        const char *device = value_get_str(m->value, "device", "");
        g_autofree char *text = io != NULL ? g_strdup_printf("%" G_GINT64_FORMAT, io->size) : NULL;
        if (io != NULL && io->size > 0 && *device != '\0' && !value_builder_has(&b, device))
            value_builder_put_string(&b, device, text);
    }
    return value_builder_end(&b);
}

int sim_disk_priority(const char *vdi)
{
    int priority = IO_PRIORITY_NONE;
    GHashTableIter iter;
    void *data;
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&sim.lock);
    g_hash_table_iter_init(&iter, sim.domains);
    while (g_hash_table_iter_next(&iter, NULL, &data)) {
        const struct sim_domain *d = data;
        for (gsize i = 0; i < value_count(d->vbds); i++)
            if (strcmp(value_get_str(d->vbds->u.map.m[i].value, "vdi", ""), vdi) == 0)
                priority = io_priority_first(priority, io_priority_of(d->vbds->u.map.m[i].value));
    }
    return priority;
}

/* ---- reading and writing ---- */

struct io_request {
    gboolean write;
    gint64 offset, length, pattern;
    char *sr, *vdi;
};

/* The attached disk that "device" names, by device, number or uuid; borrowed. NULL with f set. */
static struct value *find_disk(const struct sim_domain *d, const char *name, struct fault *f)
{
    for (gsize i = 0; i < value_count(d->vbds); i++) {
        struct value *vbd = d->vbds->u.map.m[i].value;
        if (strcmp(value_get_str(vbd, "device", ""), name) == 0 ||
            strcmp(value_get_str(vbd, "userdevice", ""), name) == 0 ||
            strcmp(value_get_str(vbd, "uuid", ""), name) == 0)
            return vbd;
    }
    fault_set(f, "DEVICE_NOT_ATTACHED", name, NULL);
    return NULL;
}

static gboolean read_request(struct value *params, struct value *vbd, struct io_request *r, struct fault *f)
{
    *r = (struct io_request){.write = strcmp(value_get_str(params, "do", ""), "write") == 0,
                             .offset = sim_int(params, "offset", 0),
                             .length = sim_int(params, "length", 65536),
                             .pattern = sim_int(params, "pattern", 0xa5)};
    if (r->offset < 0 || r->length <= 0 || r->length > IO_MOST || r->pattern < 0 || r->pattern > 255)
        return fault_set(f, "INVALID_VALUE", "offset, length, pattern", "", NULL);
    if (value_as_bool(value_get(vbd, "empty")))
        return fault_set(f, "VBD_IS_EMPTY", value_get_str(vbd, "uuid", ""), NULL);
    if (r->write && strcmp(value_get_str(vbd, "mode", "RW"), "RW") != 0)
        return fault_set(f, "VDI_READONLY", value_get_str(vbd, "vdi", ""), NULL);
    r->sr = g_strdup(value_get_str(vbd, "sr", ""));
    r->vdi = g_strdup(value_get_str(vbd, "vdi", ""));
    return TRUE;
}

/* What was read is not what was expected. */
static gboolean says_no(const char *out)
{
    return out != NULL && strstr(out, "verification failed") != NULL;
}

/* Without the mutex. matches: for reading, whether the pattern was there. One at a time, as a disk's own queue would:
 * QEMU's tools lock an image against each other. */
static gboolean do_io(const struct io_request *r, gboolean *matches, struct fault *f)
{
    static GMutex one;
    g_autofree char *path = NULL, *out = NULL, *command = NULL;
    const char *format = NULL;
    if (!storage_vdi_path(r->sr, r->vdi, &path, &format, f))
        return FALSE;
    command = g_strdup_printf("%s -P %d %" G_GINT64_FORMAT " %" G_GINT64_FORMAT, r->write ? "write" : "read",
                              (int) r->pattern, r->offset, r->length);
    const char *const writing[] = {"qemu-io", "-f", format, "-c", command, "-c", "flush", path, NULL};
    const char *const reading[] = {"qemu-io", "-r", "-U", "-f", format, "-c", command, path, NULL};
    int status = 0;
    struct run_options o = {.timeout_s = IO_LIMIT, .status = &status};
    g_mutex_lock(&one);
    gboolean ran = run_tool(r->write ? writing : reading, &o, &out, f);
    g_mutex_unlock(&one);
    *matches = ran && !says_no(out);
    if (!ran || status == 0 || !*matches)
        return ran;
    return fault_set(f, "SR_BACKEND_FAILURE", "5", "", out != NULL ? out : "qemu-io", NULL);
}

static gboolean is_free(struct sim_domain *d)
{
    GHashTableIter iter;
    void *io;
    g_hash_table_iter_init(&iter, d->io);
    while (g_hash_table_iter_next(&iter, NULL, &io))
        if (((struct sim_io *) io)->held)
            return FALSE;
    return TRUE;
}

/* With the mutex, which it lets go meanwhile. */
static gboolean run_io(struct sim_domain *d, const char *vbd, const struct io_request *r, gboolean *matches,
                       struct fault *f)
{
    struct sim_io *io = io_of(d, vbd); /* stays as long as d */
    io->writes += r->write;
    io->writing += r->write;
    g_mutex_unlock(&sim.lock);
    gboolean done = do_io(r, matches, f);
    g_mutex_lock(&sim.lock);
    io->writing -= r->write;
    io->written += done && r->write ? r->length : 0;
    io->read += done && !r->write ? r->length : 0;
    g_cond_broadcast(&d->changed);
    return done;
}

struct value *sim_disk_io(struct sim_op *op, struct sim_domain *d, struct fault *f)
{
    struct io_request r = {0};
    gboolean matches = FALSE, done = FALSE;
    const char *name = value_get_str(op->params, "device", "0");
    if (d->io == NULL)
        io_of(d, name);
    enum sim_end end = sim_wait(op, d, G_MAXINT64, is_free);
    if (end != SIM_DONE) {
        fault_set(f, end == SIM_GONE ? "VM_BAD_POWER_STATE" : "TASK_CANCELLED", d->uuid, "running", "halted", NULL);
        return NULL;
    }
    struct value *vbd = find_disk(d, name, f);
    if (vbd != NULL && read_request(op->params, vbd, &r, f)) {
        g_autofree char *uuid = g_strdup(value_get_str(vbd, "uuid", ""));
        done = run_io(d, uuid, &r, &matches, f);
    }
    g_free(r.sr);
    g_free(r.vdi);
    if (!done)
        return NULL;
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "matches", value_bool(matches));
    return value_builder_end(&b);
}

/* ---- disks that change under a guest ---- */

/* vdi.copy with the request's own parameters; without the mutex. */
static struct value *copy(struct sim_op *op, struct fault *f)
{
    for (const struct helper_method *m = storage_methods; m->name != NULL; m++)
        if (strcmp(m->name, "vdi.copy") == 0)
            return m->fn(op->req, f);
    return NULL;
}

static struct value *copy_unlocked(struct sim_op *op, struct fault *f)
{
    g_mutex_unlock(&sim.lock);
    struct value *answer = copy(op, f);
    g_mutex_lock(&sim.lock);
    return answer;
}

static struct value *attached(struct sim_op *op, const struct sim_domain *d, struct fault *f)
{
    const char *uuid = value_get_str(value_get(op->params, "vbd"), "uuid", "");
    struct value *vbd = value_get(d->vbds, uuid);
    if (vbd == NULL)
        fault_set(f, "DEVICE_NOT_ATTACHED", uuid, NULL);
    return vbd;
}

static gboolean is_quiet(struct sim_domain *d)
{
    GHashTableIter iter;
    void *io;
    g_hash_table_iter_init(&iter, d->io);
    while (g_hash_table_iter_next(&iter, NULL, &io))
        if (((struct sim_io *) io)->held && ((struct sim_io *) io)->writing > 0)
            return FALSE;
    return TRUE;
}

/* From here to let_write the guest's writes wait: QEMU's tools copy no image that somebody writes to. */
static gboolean hold(struct sim_op *op, struct sim_domain *d, struct sim_io *io, struct fault *f)
{
    io->held = TRUE;
    return sim_wait(op, d, G_MAXINT64, is_quiet) == SIM_DONE || fault_set(f, "TASK_CANCELLED", "", NULL);
}

static void let_write(struct sim_domain *d, struct sim_io *io)
{
    io->held = FALSE;
    g_cond_broadcast(&d->changed);
}

/* A copy; "writes" tells domain.vbd_pivot whether the guest has written since. */
struct value *sim_vbd_mirror(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    struct value *vbd = d != NULL ? attached(op, d, f) : NULL;
    if (vbd == NULL)
        return NULL;
    struct sim_io *io = io_of(d, value_get_str(vbd, "uuid", ""));
    g_autoptr(value) made = hold(op, d, io, f) ? copy_unlocked(op, f) : NULL;
    gint64 writes = io->writes;
    let_write(d, io);
    return made != NULL ? value_map_with(made, "writes", value_int(NULL, writes)) : NULL;
}

static void replace_disk(struct sim_domain *d, struct value *vbd)
{
    struct value *now = value_map_with(d->vbds, value_get_str(vbd, "uuid", ""), value_ref(vbd));
    value_unref(d->vbds);
    d->vbds = now;
    sim_changed(d);
}

/* What was written since the copy is copied once more; then the guest has the new image. */
static gboolean pivot(struct sim_op *op, struct sim_domain *d, struct sim_io *io, struct fault *f)
{
    if (!hold(op, d, io, f))
        return FALSE;
    if (io->writes != sim_int(op->params, "writes", -1)) {
        g_autoptr(value) again = copy_unlocked(op, f);
        if (again == NULL)
            return FALSE;
    }
    if (d->gone)
        return fault_set(f, "VM_BAD_POWER_STATE", d->uuid, "running", "halted", NULL);
    replace_disk(d, value_get(op->params, "vbd"));
    return TRUE;
}

struct value *sim_vbd_pivot(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    struct value *vbd = d != NULL ? attached(op, d, f) : NULL;
    if (vbd == NULL)
        return NULL;
    struct sim_io *io = io_of(d, value_get_str(vbd, "uuid", ""));
    gboolean done = pivot(op, d, io, f);
    let_write(d, io);
    return done ? value_empty_map() : NULL;
}

struct value *sim_vbd_resized(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    struct value *vbd = d != NULL ? attached(op, d, f) : NULL;
    if (vbd == NULL)
        return NULL;
    io_of(d, value_get_str(vbd, "uuid", ""))->size = sim_int(op->params, "virtual_size", 0);
    d->told_guest = FALSE; /* it reports its disks anew */
    g_cond_signal(&sim.wake);
    return value_empty_map();
}
