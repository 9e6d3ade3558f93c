/* sim_power.c - pausing, clean shutdown, reboot, suspend and resume of simulated domains. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/codec/jsonrpc.h"
#include "xenbackend/storage/storage.h"

#define DEFAULT_TIMEOUT 1200 /* seconds that a guest has to obey */
#define ACK_TIMEOUT     60   /* and to say that it heard */
#define IMAGE_MAGIC     "XENAPID-SIM-SUSPEND-1\n"
#define IMAGE_MAX       (4 * 1024 * 1024)

/* ---- pause ---- */

static struct value *set_paused(struct sim_op *op, enum sim_power power, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    if (d == NULL)
        return NULL;
    if (d->power != power) {
        sim_account_cpu(d, g_get_real_time());
        d->power = power;
        sim_changed(d);
    }
    return value_empty_map();
}

struct value *sim_pause(struct sim_op *op, struct fault *f)
{
    return set_paused(op, SIM_PAUSED, f);
}

struct value *sim_unpause(struct sim_op *op, struct fault *f)
{
    return set_paused(op, SIM_RUNNING, f);
}

/* ---- asking a guest to stop ---- */

static gboolean has_stopped(struct sim_domain *d)
{
    return d->power == SIM_SHUTDOWN || d->power == SIM_CRASHED;
}

/* What a guest may be told, and the words of its refusal. */
struct request {
    const char *reason; /* "poweroff", "reboot", "suspend" */
    const char *option; /* of other_config: how this guest takes it */
    const char *unheard, *late;
    int ms;
};

static gint64 in_seconds(gint64 seconds)
{
    return g_get_monotonic_time() + CLAMP(seconds, 0, G_MAXINT32) * G_TIME_SPAN_SECOND;
}

/* A guest that does not stop: it did not hear, or heard and hangs. Ends when somebody else stops it. */
static enum sim_end wait_in_vain(struct sim_op *op, struct sim_domain *d, const struct request *r, gint64 timeout,
                                 struct fault *f)
{
    gboolean heard = strcmp(sim_option(d, r->option, ""), "hang") == 0;
    enum sim_end end = sim_wait(op, d, in_seconds(heard ? timeout : MIN(timeout, ACK_TIMEOUT)), has_stopped);
    g_autofree char *seconds = g_strdup_printf("%" G_GINT64_FORMAT, timeout);
    if (end == SIM_DONE && !has_stopped(d)) {
        if (heard)
            fault_set(f, r->late, d->uuid, seconds, NULL);
        else
            fault_set(f, r->unheard, d->uuid, NULL);
    }
    return end;
}

/* Asks the guest and waits until it has stopped (a suspending one: until it is ready). FALSE with f set. When it was
 * destroyed meanwhile *gone is set instead: whether that is well depends on what was asked. */
static gboolean ask_guest(struct sim_op *op, struct sim_domain *d, const struct request *r, gboolean *gone,
                          struct fault *f)
{
    gint64 timeout = sim_int(op->params, "timeout", DEFAULT_TIMEOUT);
    const char *how = sim_option(d, r->option, "");
    enum sim_end end;
    *gone = FALSE;
    if (strcmp(how, "ignore") == 0 || strcmp(how, "hang") == 0) {
        end = wait_in_vain(op, d, r, timeout, f);
    } else if ((gint64) r->ms > timeout * 1000) {
        g_autofree char *seconds = g_strdup_printf("%" G_GINT64_FORMAT, timeout);
        end = sim_work(op, d, (int) (timeout * 1000), 0.0, 0.5);
        if (end == SIM_DONE && !has_stopped(d))
            fault_set(f, r->late, d->uuid, seconds, NULL);
    } else {
        end = sim_work(op, d, r->ms, 0.0, 0.5);
    }
    if (end == SIM_CANCELLED)
        return fault_set(f, "TASK_CANCELLED", "", NULL);
    *gone = end == SIM_GONE;
    if (!*gone && d->power == SIM_CRASHED)
        return fault_set(f, "VM_CRASHED", d->uuid, NULL);
    return f->code == NULL;
}

static gboolean not_there(const struct sim_domain *d, struct fault *f)
{
    return fault_set(f, "VM_BAD_POWER_STATE", d->uuid, "running", "halted", NULL);
}

static struct request shutdown_request(const char *reason)
{
    gboolean reboot = strcmp(reason, "reboot") == 0;
    return (struct request){
        .reason = reboot ? "reboot" : "poweroff",
        .option = "sim:shutdown",
        .unheard = "VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT",
        .late = "VM_SHUTDOWN_TIMEOUT",
        .ms = reboot ? sim.conf->sim_reboot_ms / 2 : sim.conf->sim_shutdown_ms,
    };
}

struct value *sim_shutdown(struct sim_op *op, struct fault *f)
{
    const char *reason = value_get_str(op->params, "reason", "poweroff");
    if (strcmp(reason, "suspend") == 0)
        return sim_suspend(op, f);
    g_autoptr(sim_domain) d = sim_find(op, 1u << SIM_RUNNING | 1u << SIM_SHUTDOWN, f);
    if (d == NULL)
        return NULL;
    struct request r = shutdown_request(reason);
    gboolean gone = FALSE;
    if (!has_stopped(d) && !ask_guest(op, d, &r, &gone, f))
        return NULL;
    if (gone && strcmp(r.reason, "poweroff") != 0) {
        not_there(d, f);
        return NULL;
    }
    if (!gone && !has_stopped(d))
        sim_stop(d, SIM_SHUTDOWN, r.reason);
    return value_empty_map();
}

struct value *sim_reboot(struct sim_op *op, struct fault *f)
{
    struct value *config = value_get(op->params, "config");
    const char *uuid = value_get_str(config, "uuid", "");
    struct sim_domain *there = g_hash_table_lookup(sim.domains, uuid);
    if (there == NULL || there->power == SIM_STARTING) {
        fault_set(f, "VM_BAD_POWER_STATE", uuid, "running", there != NULL ? "starting" : "halted", NULL);
        return NULL;
    }
    g_autoptr(sim_domain) d = sim_domain_ref(there);
    gboolean gone = FALSE;
    if (value_as_bool(value_get(op->params, "clean")) && !has_stopped(d)) {
        struct request r = shutdown_request("reboot");
        if (d->power != SIM_RUNNING) {
            fault_set(f, "VM_BAD_POWER_STATE", d->uuid, "running", "paused", NULL);
            return NULL;
        }
        if (!ask_guest(op, d, &r, &gone, f))
            return NULL;
        if (gone) {
            not_there(d, f);
            return NULL;
        }
        if (!has_stopped(d))
            sim_stop(d, SIM_SHUTDOWN, "reboot");
    }
    gboolean paused = value_as_bool(value_get(config, "paused"));
    return sim_build(op, config, sim.conf->sim_reboot_ms / 2, d, "reboot", paused, f);
}

/* ---- suspend images: magic, length in decimal, JSON of the domain ---- */

/* An image named by a path is a file of the domain's uuid: the front says where, but not over which file. */
static gboolean check_path(const char *path, const char *uuid, struct fault *f)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    g_autofree char *name = g_path_get_basename(path);
    if (*path == '/' && !g_strv_contains((const char *const *) parts, "..") && storage_uuid_is_valid(uuid) &&
        g_str_has_prefix(name, uuid))
        return TRUE;
    return fault_set(f, "INVALID_VALUE", "path", path, NULL);
}

/* Where the image of domain uuid is: "path", or the VDI "vdi" of "sr"; *is_vdi says which. Without the mutex. The
 * caller frees. */
static char *image_path(struct value *params, const char *uuid, gboolean *is_vdi, struct fault *f)
{
    const char *path = value_get_str(params, "path", ""), *vdi = value_get_str(params, "vdi", "");
    char *found = NULL;
    const char *format = NULL;
    *is_vdi = *path == '\0';
    if (!*is_vdi)
        return check_path(path, uuid, f) ? g_strdup(path) : NULL;
    if (!storage_vdi_path(value_get_str(params, "sr", ""), vdi, &found, &format, f))
        return NULL;
    if (strcmp(format, "raw") == 0)
        return found;
    g_free(found);
    fault_set(f, "VDI_INCOMPATIBLE_TYPE", vdi, format, NULL);
    return NULL;
}

static gboolean file_fault(const char *path, int err, struct fault *f)
{
    char number[16];
    g_snprintf(number, sizeof(number), "%d", err);
    g_autofree char *words = g_strdup_printf("%s: %s", path, g_strerror(err));
    return fault_set(f, "SR_BACKEND_FAILURE", number, "", words, NULL);
}

static gboolean write_text(int fd, const char *text)
{
    gsize len = strlen(text);
    return pwrite(fd, text, len, 0) == (gssize) len && fsync(fd) == 0;
}

/* A VDI is written into; a file appears when it is whole, in a directory that is made if need be. */
static gboolean write_image(const char *path, gboolean is_vdi, const char *text, struct fault *f)
{
    g_autofree char *tmp = is_vdi ? g_strdup(path) : g_strconcat(path, ".tmp", NULL);
    g_autofree char *dir = g_path_get_dirname(path);
    if (!is_vdi && g_mkdir_with_parents(dir, 0700) < 0)
        return file_fault(dir, errno, f);
    int fd = storage_open_path(tmp, O_WRONLY | (is_vdi ? 0 : O_CREAT | O_TRUNC));
    if (fd < 0)
        return file_fault(path, errno, f);
    gboolean written = write_text(fd, text);
    if (written && !is_vdi)
        written = rename(tmp, path) == 0;
    int err = errno;
    close(fd);
    if (!written && !is_vdi)
        unlink(tmp);
    return written || file_fault(path, err, f);
}

gboolean sim_drop_image(const char *path, const char *uuid, struct fault *f)
{
    if (!check_path(path, uuid, f))
        return FALSE;
    return unlink(path) == 0 || errno == ENOENT || file_fault(path, errno, f);
}

static char *image_text(struct sim_domain *d)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 4);
    value_builder_put(&b, "config", value_ref(d->config));
    value_builder_put(&b, "memory_target", value_int(NULL, d->memory_target));
    value_builder_put(&b, "vcpus", value_int(NULL, d->vcpus));
    value_builder_put(&b, "cpu_time", value_float(NULL, d->cpu_time));
    g_autoptr(value) v = value_builder_end(&b);
    g_autofree char *json = json_text(v);
    return g_strdup_printf(IMAGE_MAGIC "%zu\n%s\n", strlen(json), json);
}

static struct value *bad_image(const char *path, const char *why, struct fault *f)
{
    g_autofree char *words = g_strdup_printf("%s: %s", path, why);
    fault_set(f, "DOMAIN_BUILDER_ERROR", "restore", "22", words, NULL);
    return NULL;
}

static struct value *read_image(const char *path, struct fault *f)
{
    int fd = storage_open_path(path, O_RDONLY);
    if (fd < 0) {
        file_fault(path, errno, f);
        return NULL;
    }
    g_autofree char *text = g_malloc0(IMAGE_MAX + 1);
    gssize n = pread(fd, text, IMAGE_MAX, 0);
    close(fd);
    if (n < (gssize) strlen(IMAGE_MAGIC) || !g_str_has_prefix(text, IMAGE_MAGIC))
        return bad_image(path, "not a suspend image", f);
    char *json = NULL;
    guint64 len = g_ascii_strtoull(text + strlen(IMAGE_MAGIC), &json, 10);
    if (*json != '\n' || len > (guint64) (text + n - json - 1))
        return bad_image(path, "the suspend image is cut off", f);
    struct value *v = json_parse(NULL, json + 1, len, NULL, NULL);
    return v != NULL ? v : bad_image(path, "the suspend image is damaged", f);
}

/* ---- suspend and resume ---- */

static gboolean save_domain(struct sim_op *op, struct sim_domain *d, gint64 *size, struct fault *f)
{
    g_autofree char *text = image_text(d);
    *size = (gint64) strlen(text);
    g_mutex_unlock(&sim.lock);
    gboolean is_vdi;
    g_autofree char *path = image_path(op->params, d->uuid, &is_vdi, f);
    gboolean saved = path != NULL && write_image(path, is_vdi, text, f);
    g_mutex_lock(&sim.lock);
    return saved;
}

static struct value *suspend(struct sim_op *op, struct sim_domain *d, struct fault *f)
{
    struct request r = {"suspend", "sim:suspend", "VM_FAILED_SUSPEND_ACKNOWLEDGMENT", "VM_SUSPEND_TIMEOUT",
                        sim.conf->sim_suspend_ms / 2};
    gboolean gone = FALSE;
    gint64 size = 0;
    if (!ask_guest(op, d, &r, &gone, f))
        return NULL;
    enum sim_end end = gone ? SIM_GONE : sim_work(op, d, sim.conf->sim_suspend_ms - r.ms, 0.5, 1.0);
    if (end == SIM_CANCELLED) {
        fault_set(f, "TASK_CANCELLED", "", NULL);
        return NULL;
    }
    if (end == SIM_GONE || has_stopped(d)) {
        not_there(d, f);
        return NULL;
    }
    if (!save_domain(op, d, &size, f))
        return NULL;
    if (!d->gone) {
        d->reason = "suspend";
        sim_remove(d, "suspend");
    }
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "size", value_int(NULL, size));
    return value_builder_end(&b);
}

struct value *sim_suspend(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, 1u << SIM_RUNNING, f);
    if (d == NULL)
        return NULL;
    d->suspending = TRUE;
    struct value *answer = suspend(op, d, f);
    d->suspending = FALSE;
    if (answer == NULL && !d->gone)
        sim_changed(d);
    return answer;
}

struct value *sim_resume(struct sim_op *op, struct fault *f)
{
    struct value *config = value_get(op->params, "config");
    const char *uuid = value_get_str(config, "uuid", "");
    gboolean is_vdi;
    g_mutex_unlock(&sim.lock);
    g_autofree char *path = image_path(op->params, uuid, &is_vdi, f);
    g_autoptr(value) image = path != NULL ? read_image(path, f) : NULL;
    g_mutex_lock(&sim.lock);
    if (image == NULL)
        return NULL;
    const char *saved_as = is_vdi ? value_get_str(op->params, "saved_as", uuid) : uuid;
    if (strcmp(value_get_str(value_get(image, "config"), "uuid", ""), saved_as) != 0)
        return bad_image(path, "the suspend image is another domain's", f);
    gboolean paused = value_as_bool(value_get(op->params, "paused"));
    struct value *answer = sim_build(op, config, sim.conf->sim_suspend_ms, NULL, "", paused, f);
    struct sim_domain *d = answer != NULL ? g_hash_table_lookup(sim.domains, uuid) : NULL;
    if (d != NULL) {
        d->cpu_time = value_as_float(value_get(image, "cpu_time"));
        sim_state_save(d);
    }
    return answer;
}

/* ---- core dumps ---- */

/* Something to look at: which domain it was. */
struct value *sim_core_dump(struct sim_op *op, struct fault *f)
{
    g_autoptr(sim_domain) d = sim_find(op, SIM_ANY & ~(1u << SIM_RUNNING), f);
    struct value_builder b;
    gboolean is_vdi;
    if (d == NULL)
        return NULL;
    g_autofree char *text = g_strdup_printf("simulated core of domain %d, %s\n", d->domid, d->uuid);
    g_mutex_unlock(&sim.lock);
    g_autofree char *path = image_path(op->params, d->uuid, &is_vdi, f);
    gboolean written = path != NULL && write_image(path, is_vdi, text, f);
    g_mutex_lock(&sim.lock);
    if (!written)
        return NULL;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "size", value_int(NULL, (gint64) strlen(text)));
    return value_builder_end(&b);
}
