/* storage_lvm.c - the storage driver `lvm`: a volume group on the devices that the SR is given, thick or with a thin
 * pool. The SR's own operations, and the scan that ends what crashes left. */
#include "config.h"
#include "xenbackend/storage/storage_lvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/codec/jsonrpc.h"
#include "xenbackend/run.h"
#include "xenbackend/storage/storage_private.h"

#define LIMIT_S     180 /* for an LVM command */
#define MAX_DEVICES 64
#define WIPE_STEP   ((guint64) 256 << 20)
#define COLUMNS     "lv_name,lv_size,lv_tags,data_percent"

/* ---- commands ---- */

gboolean lvm_run(const char *devices, const char *const *args, char **out, struct fault *f)
{
    const struct run_options o = {.timeout_s = LIMIT_S};
    struct fault why = FAULT_INIT;
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_ptr_array_add(argv, (gpointer) args[0]);
    if (devices != NULL) {
        g_ptr_array_add(argv, (gpointer) "--devices");
        g_ptr_array_add(argv, (gpointer) devices);
    }
    for (guint i = 1; args[i - 1] != NULL; i++)
        g_ptr_array_add(argv, (gpointer) args[i]);
    if (run_tool((const char *const *) argv->pdata, &o, out, &why))
        return TRUE;
    const char *words = why.params != NULL ? why.params[2] : "";
    if (strstr(words, "nsufficient free space") != NULL || strstr(words, "nsufficient suitable allocatable") != NULL ||
        strstr(words, "free extents") != NULL)
        fault_set(f, "SR_FULL", "0", "0", NULL);
    fault_move(f, &why);
    return FALSE;
}

/* The rows of the one report in an LVM command's JSON; borrowed from v. */
static struct value *report_rows(struct value *v, const char *kind)
{
    struct value *report = v != NULL ? value_at(value_get(v, "report"), 0) : NULL;
    return report != NULL ? value_get(report, kind) : NULL;
}

static gint64 number(struct value *row, const char *key)
{
    return g_ascii_strtoll(value_get_str(row, key, "0"), NULL, 10);
}

void lvm_lv_free(struct lvm_lv *v)
{
    if (v == NULL)
        return;
    g_strfreev(v->tags);
    g_free(v);
}

GPtrArray *lvm_parse_volumes(const char *text)
{
    g_autoptr(value) v = json_parse(NULL, text, strlen(text), NULL, NULL);
    struct value *rows = report_rows(v, "lv");
    if (rows == NULL)
        return NULL;
    GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify) lvm_lv_free);
    for (gsize i = 0; i < value_count(rows); i++) {
        struct value *row = value_at(rows, i);
        struct lvm_lv *lv = g_new0(struct lvm_lv, 1);
        const char *percent = value_get_str(row, "data_percent", "");
        g_strlcpy(lv->name, value_get_str(row, "lv_name", ""), sizeof lv->name);
        lv->size = number(row, "lv_size");
        lv->data_percent = *percent != '\0' ? g_ascii_strtod(percent, NULL) : -1;
        lv->tags = g_strsplit(value_get_str(row, "lv_tags", ""), ",", -1);
        g_ptr_array_add(all, lv);
    }
    return all;
}

static gboolean no_report(const char *command, struct fault *f)
{
    g_autofree char *words = g_strdup_printf("%s: the answer could not be read", command);
    return fault_set(f, "SR_BACKEND_FAILURE", "71", "", words, NULL);
}

GPtrArray *lvm_volumes(struct lvm_sr *s, const char *name, struct fault *f)
{
    g_autofree char *out = NULL, *which = name != NULL ? g_strdup_printf("%s/%s", s->vg, name) : g_strdup(s->vg);
    const char *const args[] = {"lvs", "--reportformat", "json", "--units", "b", "--nosuffix",
                                "-o",  COLUMNS,          which,  NULL};
    if (!lvm_run(s->devices, args, &out, f))
        return NULL;
    GPtrArray *all = lvm_parse_volumes(out);
    if (all == NULL)
        no_report("lvs", f);
    return all;
}

gboolean lvm_parse_group(const char *text, gint64 *size, gint64 *free, gint64 *extent)
{
    g_autoptr(value) v = json_parse(NULL, text, strlen(text), NULL, NULL);
    struct value *rows = report_rows(v, "vg");
    if (value_count(rows) != 1)
        return FALSE;
    *size = number(value_at(rows, 0), "vg_size");
    *free = number(value_at(rows, 0), "vg_free");
    *extent = number(value_at(rows, 0), "vg_extent_size");
    return *size > 0 && *extent > 0;
}

gboolean lvm_group(const char *devices, const char *vg, gint64 *size, gint64 *free, gint64 *extent, struct fault *f)
{
    g_autofree char *out = NULL;
    const char *const args[] = {
        "vgs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", "vg_size,vg_free,vg_extent_size", vg,
        NULL};
    return lvm_run(devices, args, &out, f) && (lvm_parse_group(out, size, free, extent) || no_report("vgs", f));
}

/* ---- volumes ---- */

gint64 lvm_round(const struct lvm_sr *s, gint64 size)
{
    return (size + s->extent - 1) / s->extent * s->extent;
}

char *lvm_device(const struct lvm_sr *s, const char *name)
{
    return g_strdup_printf("/dev/%s/%s", s->vg, name);
}

static gboolean errno_fault(const char *what, int err, struct fault *f)
{
    char code[16];
    g_snprintf(code, sizeof code, "%d", err);
    g_autofree char *words = g_strdup_printf("%s: %s", what, g_strerror(err));
    return fault_set(f, "SR_BACKEND_FAILURE", code, "", words, NULL);
}

static gboolean job_cancelled(const struct storage_job *job)
{
    return job != NULL && job->cancel != NULL && g_atomic_int_get(job->cancel) != 0;
}

gboolean lvm_wipe(const char *path, gint64 from, const struct storage_job *job, struct fault *f)
{
    guint64 size = 0;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno_fault(path, errno, f);
    gboolean done = ioctl(fd, BLKGETSIZE64, &size) == 0 || errno_fault(path, errno, f);
    for (guint64 at = (guint64) from; done && at < size; at += WIPE_STEP) {
        guint64 range[2] = {at, MIN(WIPE_STEP, size - at)};
        if (job_cancelled(job))
            done = fault_set(f, "TASK_CANCELLED", "", NULL);
        else if (ioctl(fd, BLKZEROOUT, range) < 0)
            done = errno_fault(path, errno, f);
        else if (job != NULL && job->progress != NULL)
            job->progress((double) (at + range[1]) / (double) size, job->data);
    }
    if (done && fsync(fd) < 0)
        done = errno_fault(path, errno, f);
    close(fd);
    return done;
}

gint64 lvm_wipe_offset(const struct lvm_lv *v)
{
    for (guint i = 0; v->tags[i] != NULL; i++)
        if (g_str_has_prefix(v->tags[i], LVM_TAG_WIPE))
            return g_ascii_strtoll(v->tags[i] + strlen(LVM_TAG_WIPE), NULL, 10);
    return -1;
}

void lvm_describe(const struct lvm_lv *v, struct storage_vdi *out)
{
    memset(out, 0, sizeof(*out));
    g_strlcpy(out->uuid, v->name + strlen(LVM_VDI_PREFIX), sizeof out->uuid);
    out->location = g_strdup(out->uuid);
    out->type = "raw";
    out->virtual_size = v->size;
    out->physical_utilisation = v->data_percent >= 0 ? (gint64) ((double) v->size * v->data_percent / 100) : v->size;
}

gboolean lvm_remove(struct lvm_sr *s, const char *name, struct fault *f)
{
    g_autofree char *which = g_strdup_printf("%s/%s", s->vg, name);
    const char *const args[] = {"lvremove", "--yes", which, NULL};
    return lvm_run(s->devices, args, NULL, f);
}

gboolean lvm_rename(struct lvm_sr *s, const char *from, const char *to, struct fault *f)
{
    const char *const args[] = {"lvrename", s->vg, from, to, NULL};
    return lvm_run(s->devices, args, NULL, f);
}

gboolean lvm_is_making(struct lvm_sr *s, const char *name)
{
    g_mutex_lock(&s->lock);
    gboolean making = g_hash_table_contains(s->making, name);
    g_mutex_unlock(&s->lock);
    return making;
}

/* ---- scan ---- */

static gboolean is_vdi(const struct lvm_lv *v)
{
    return g_str_has_prefix(v->name, LVM_VDI_PREFIX) && storage_uuid_is_valid(v->name + strlen(LVM_VDI_PREFIX));
}

static struct lvm_lv *find(GPtrArray *all, const char *name)
{
    for (guint i = 0; i < all->len; i++) {
        struct lvm_lv *v = all->pdata[i];
        if (strcmp(v->name, name) == 0)
            return v;
    }
    return NULL;
}

/* Content that was about to be replaced: it is what counts unless the new one is there already. TRUE: names changed. */
static gboolean settle_old(struct lvm_sr *s, GPtrArray *all, const struct lvm_lv *v)
{
    g_autofree char *vdi = g_strconcat(LVM_VDI_PREFIX, v->name + strlen(LVM_OLD_PREFIX), NULL);
    if (find(all, vdi) != NULL)
        return lvm_remove(s, v->name, NULL);
    return lvm_rename(s, v->name, vdi, NULL);
}

/* Grown, but what it grew by was not zeroed yet. */
static void settle_wipe(struct lvm_sr *s, const struct lvm_lv *v)
{
    g_autofree char *path = lvm_device(s, v->name), *which = g_strdup_printf("%s/%s", s->vg, v->name);
    g_autofree char *tag = g_strdup_printf(LVM_TAG_WIPE "%" G_GINT64_FORMAT, lvm_wipe_offset(v));
    const char *const untag[] = {"lvchange", "--deltag", tag, which, NULL};
    if (lvm_wipe(path, lvm_wipe_offset(v), NULL, NULL))
        lvm_run(s->devices, untag, NULL, NULL);
}

/* TRUE when names changed. */
static gboolean settle(struct lvm_sr *s, GPtrArray *all)
{
    gboolean changed = FALSE;
    for (guint i = 0; i < all->len; i++) {
        const struct lvm_lv *v = all->pdata[i];
        if (lvm_is_making(s, v->name))
            continue;
        if (g_str_has_prefix(v->name, LVM_OLD_PREFIX)) {
            changed = settle_old(s, all, v) || changed;
        } else if (g_str_has_prefix(v->name, LVM_TMP_PREFIX)) {
            g_message("%s: removed the leftover %s", s->vg, v->name);
            lvm_remove(s, v->name, NULL);
        } else if (is_vdi(v) && lvm_wipe_offset(v) >= 0) {
            settle_wipe(s, v);
        }
    }
    return changed;
}

static gboolean lvm_scan(void *sr, GPtrArray *vdis, struct fault *f)
{
    struct lvm_sr *s = sr;
    g_autoptr(GPtrArray) all = lvm_volumes(s, NULL, f);
    if (all != NULL && settle(s, all)) {
        g_ptr_array_unref(all);
        all = lvm_volumes(s, NULL, f);
    }
    for (guint i = 0; all != NULL && i < all->len; i++) {
        struct lvm_lv *v = all->pdata[i];
        if (g_str_has_prefix(v->name, "VHD-"))
            g_message("%s: %s holds a VHD, which this driver does not read", s->vg, v->name);
        if (!is_vdi(v) || vdis == NULL)
            continue;
        struct storage_vdi *vdi = g_new(struct storage_vdi, 1);
        lvm_describe(v, vdi);
        g_ptr_array_add(vdis, vdi);
    }
    return all != NULL;
}

static gboolean lvm_stat(void *sr, struct storage_space *space, struct fault *f)
{
    struct lvm_sr *s = sr;
    gint64 free = 0, extent = 0;
    g_autoptr(GPtrArray) all = lvm_volumes(s, NULL, f);
    if (all == NULL || !lvm_group(s->devices, s->vg, &space->physical_size, &free, &extent, f))
        return FALSE;
    space->physical_utilisation = space->physical_size - free;
    space->virtual_allocation = 0;
    for (guint i = 0; i < all->len; i++) {
        const struct lvm_lv *v = all->pdata[i];
        if (is_vdi(v))
            space->virtual_allocation += v->size;
        if (strcmp(v->name, LVM_POOL) == 0 && s->thin) {
            space->physical_size = v->size;
            space->physical_utilisation = (gint64) ((double) v->size * MAX(v->data_percent, 0) / 100);
        }
    }
    return TRUE;
}

/* ---- devices ---- */

/* The devices of a device_config, separated by commas, each a path below /dev of a block device. NULL with f set. */
static char *devices_of(struct value *config, struct fault *f)
{
    const char *text = value_get_str(config, "device", "");
    g_auto(GStrv) paths = g_strsplit(text, ",", MAX_DEVICES + 1);
    struct stat st;
    if (*text == '\0') {
        fault_set(f, "SR_BACKEND_FAILURE_90", "", "The request is missing the device parameter", "", NULL);
        return NULL;
    }
    for (guint i = 0; paths[i] != NULL; i++) {
        g_auto(GStrv) parts = g_strsplit(paths[i], "/", -1);
        gboolean below = g_str_has_prefix(paths[i], "/dev/") && !g_strv_contains((const char *const *) parts, "..");
        if (i >= MAX_DEVICES || !below || stat(paths[i], &st) < 0 || !S_ISBLK(st.st_mode)) {
            g_autofree char *words = g_strdup_printf("%s is no block device below /dev", paths[i]);
            fault_set(f, "SR_BACKEND_FAILURE_63", "", "A Failure occurred accessing an LVM device", words, NULL);
            return NULL;
        }
    }
    return g_strdup(text);
}

static gboolean in_use(const char *device, const char *by, struct fault *f)
{
    g_autofree char *words = g_strdup_printf("%s holds %s; sm_config:force=true overwrites it", device, by);
    return fault_set(f, "SR_BACKEND_FAILURE", "16", "", words, NULL);
}

/* Whether anything is on the device that somebody may miss, told by blkid's probing; status 2 is "nothing found". */
static gboolean is_blank(const char *device, struct fault *f)
{
    int status = 0;
    const struct run_options o = {.timeout_s = LIMIT_S, .status = &status};
    g_autofree char *out = NULL;
    const char *const args[] = {"blkid", "-p", "-o", "value", "-s", "TYPE", "-s", "PTTYPE", device, NULL};
    if (!run_tool(args, &o, &out, f))
        return FALSE;
    if (status == 2)
        return TRUE;
    g_strdelimit(g_strstrip(out), "\n", ' ');
    return in_use(device, status == 0 && *out != '\0' ? out : "something that blkid cannot name", f);
}

/* The devices of attached SRs: a group without volumes holds none of its devices open. */
static struct {
    GMutex lock;
    GHashTable *sr_of; /* device number -> uuid */
} attached;

static void set_attached(struct lvm_sr *s, gboolean is)
{
    g_auto(GStrv) paths = g_strsplit(s->devices, ",", -1);
    struct stat st;
    g_mutex_lock(&attached.lock);
    if (attached.sr_of == NULL)
        attached.sr_of = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    for (guint i = 0; paths[i] != NULL; i++) {
        if (stat(paths[i], &st) < 0)
            continue;
        gint64 number = (gint64) st.st_rdev;
        if (is)
            g_hash_table_replace(attached.sr_of, g_memdup2(&number, sizeof number), g_strdup(s->uuid));
        else
            g_hash_table_remove(attached.sr_of, &number);
    }
    g_mutex_unlock(&attached.lock);
}

static gboolean is_attached(const char *device)
{
    struct stat st;
    gint64 number = stat(device, &st) == 0 ? (gint64) st.st_rdev : 0;
    g_mutex_lock(&attached.lock);
    gboolean is = attached.sr_of != NULL && g_hash_table_contains(attached.sr_of, &number);
    g_mutex_unlock(&attached.lock);
    return is;
}

/* Nothing mounted, no other device built on it, no SR of ours. */
static gboolean is_free(const char *device, struct fault *f)
{
    if (is_attached(device))
        return fault_set(f, "SR_DEVICE_IN_USE", device, NULL);
    int fd = open(device, O_RDWR | O_EXCL | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == EBUSY)
        return fault_set(f, "SR_DEVICE_IN_USE", device, NULL);
    if (fd < 0)
        return errno_fault(device, errno, f);
    close(fd);
    return TRUE;
}

static gboolean check_devices(const char *devices, gboolean force, struct fault *f)
{
    g_auto(GStrv) paths = g_strsplit(devices, ",", -1);
    for (guint i = 0; paths[i] != NULL; i++)
        if (!is_free(paths[i], f) || (!force && !is_blank(paths[i], f)))
            return FALSE;
    return TRUE;
}

static gboolean wipe_signatures(const char *devices, struct fault *f)
{
    const struct run_options o = {.timeout_s = LIMIT_S};
    g_auto(GStrv) paths = g_strsplit(devices, ",", -1);
    for (guint i = 0; paths[i] != NULL; i++) {
        const char *const args[] = {"wipefs", "-a", "--", paths[i], NULL};
        if (!run_tool(args, &o, NULL, f))
            return FALSE;
    }
    return TRUE;
}

/* ---- the SR itself ---- */

static void vg_name(char vg[LVM_NAME_SIZE], const char *uuid)
{
    g_snprintf(vg, LVM_NAME_SIZE, LVM_VG_PREFIX "%s", uuid);
}

/* A little is left for the pool's metadata to grow. A write that finds it full fails at once. */
static gboolean make_pool(const char *devices, const char *vg, struct fault *f)
{
    g_autofree char *pool = g_strdup_printf("%s/%s", vg, LVM_POOL);
    const char *const make[] = {"lvcreate", "--yes",  "--type", "thin-pool", "-l", "98%FREE",
                                "-Zy",      "--name", LVM_POOL, vg,          NULL};
    const char *const fail[] = {"lvchange", "--errorwhenfull", "y", pool, NULL};
    return lvm_run(devices, make, NULL, f) && lvm_run(devices, fail, NULL, f);
}

static void take_apart(const char *devices, const char *vg)
{
    const char *const remove[] = {"vgremove", "--yes", "--force", vg, NULL};
    g_auto(GStrv) paths = g_strsplit(devices, ",", -1);
    lvm_run(devices, remove, NULL, NULL);
    for (guint i = 0; paths[i] != NULL; i++) {
        const char *const args[] = {"pvremove", "--yes", paths[i], NULL};
        lvm_run(devices, args, NULL, NULL);
    }
}

static gboolean lvm_create(const char *uuid, struct value *config, gint64 size G_GNUC_UNUSED, struct fault *f)
{
    char vg[LVM_NAME_SIZE];
    struct value *sm_config = storage_sm_config();
    g_autofree char *devices = devices_of(config, f);
    const char *allocation = value_get_str(sm_config, "allocation", value_get_str(config, "allocation", "thick"));
    gboolean thin = strcmp(allocation, "thin") == 0, force = strcmp(value_get_str(sm_config, "force", ""), "true") == 0;
    if (devices == NULL)
        return FALSE;
    if (!thin && strcmp(allocation, "thick") != 0)
        return fault_set(f, "INVALID_VALUE", "sm_config:allocation", allocation, NULL);
    if (!check_devices(devices, force, f) || (force && !wipe_signatures(devices, f)))
        return FALSE;
    vg_name(vg, uuid);
    g_autoptr(GPtrArray) args = g_ptr_array_new();
    g_auto(GStrv) paths = g_strsplit(devices, ",", -1);
    static const char *const begin[] = {"vgcreate", "--yes", "--addtag", "xenapid", "--autobackup", "y"};
    for (gsize i = 0; i < G_N_ELEMENTS(begin); i++)
        g_ptr_array_add(args, (gpointer) begin[i]);
    g_ptr_array_add(args, vg);
    for (guint i = 0; paths[i] != NULL; i++)
        g_ptr_array_add(args, paths[i]);
    g_ptr_array_add(args, NULL);
    if (!lvm_run(devices, (const char *const *) args->pdata, NULL, f))
        return FALSE;
    if (!thin || make_pool(devices, vg, f))
        return TRUE;
    take_apart(devices, vg);
    return FALSE;
}

static void sr_free(struct lvm_sr *s)
{
    g_hash_table_unref(s->making);
    g_mutex_clear(&s->lock);
    g_free(s->devices);
    g_free(s);
}

static struct lvm_sr *open_group(const char *uuid, struct value *config, struct fault *f)
{
    gint64 size, free;
    g_autofree char *devices = devices_of(config, f);
    if (devices == NULL)
        return NULL;
    struct lvm_sr *s = g_new0(struct lvm_sr, 1);
    g_strlcpy(s->uuid, uuid, sizeof s->uuid);
    vg_name(s->vg, uuid);
    s->devices = g_steal_pointer(&devices);
    s->making = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_mutex_init(&s->lock);
    g_autoptr(GPtrArray) all = NULL;
    if (lvm_group(s->devices, s->vg, &size, &free, &s->extent, f))
        all = lvm_volumes(s, NULL, f);
    if (all == NULL) {
        sr_free(s);
        return NULL;
    }
    s->thin = find(all, LVM_POOL) != NULL;
    return s;
}

static void deactivate(struct lvm_sr *s)
{
    const char *const args[] = {"vgchange", "-an", s->vg, NULL};
    struct fault f = FAULT_INIT;
    if (!lvm_run(s->devices, args, NULL, &f)) {
        g_autofree char *text = fault_text(&f);
        g_warning("%s stays active: %s", s->vg, text);
        fault_clear(&f);
    }
}

static void lvm_detach(void *sr)
{
    set_attached(sr, FALSE);
    deactivate(sr);
    sr_free(sr);
}

static void *lvm_attach(const char *uuid, struct value *config, struct fault *f)
{
    struct lvm_sr *s = open_group(uuid, config, f);
    if (s == NULL)
        return NULL;
    const char *const args[] = {"vgchange", "-ay", s->vg, NULL};
    set_attached(s, TRUE);
    if (lvm_run(s->devices, args, NULL, f) && lvm_scan(s, NULL, f))
        return s;
    lvm_detach(s);
    return NULL;
}

static gboolean lvm_destroy(const char *uuid, struct value *config, struct fault *f)
{
    struct lvm_sr *s = open_group(uuid, config, f);
    if (s == NULL)
        return FALSE;
    g_autoptr(GPtrArray) all = lvm_volumes(s, NULL, f);
    gboolean gone = all != NULL;
    for (guint i = 0; gone && i < all->len; i++) { /* whatever it is that somebody made there */
        const char *name = ((struct lvm_lv *) all->pdata[i])->name;
        if (strcmp(name, LVM_POOL) != 0 && !g_str_has_prefix(name, LVM_TMP_PREFIX))
            gone = fault_set(f, "SR_NOT_EMPTY", NULL);
    }
    const char *const remove[] = {"vgremove", "--yes", "--force", s->vg, NULL};
    if (gone && lvm_run(s->devices, remove, NULL, f))
        take_apart(s->devices, s->vg);
    sr_free(s);
    return f->code == NULL;
}

static gboolean lvm_probe(struct value *config, struct value_builder *srs, struct fault *f)
{
    g_autofree char *devices = devices_of(config, f), *out = NULL;
    const char *const args[] = {"vgs", "--reportformat",          "json", "--units", "b", "--nosuffix",
                                "-o",  "vg_name,vg_size,vg_free", NULL};
    if (devices == NULL || !lvm_run(devices, args, &out, f))
        return FALSE;
    g_autoptr(value) v = json_parse(NULL, out, strlen(out), NULL, NULL);
    struct value *rows = report_rows(v, "vg");
    for (gsize i = 0; i < value_count(rows); i++) {
        struct value *row = value_at(rows, i);
        const char *name = value_get_str(row, "vg_name", "");
        struct value_builder b;
        if (!g_str_has_prefix(name, LVM_VG_PREFIX) || !storage_uuid_is_valid(name + strlen(LVM_VG_PREFIX)))
            continue;
        value_builder_map(&b, NULL, 4);
        value_builder_put_string(&b, "sr", name + strlen(LVM_VG_PREFIX));
        value_builder_put(&b, "device_config", value_ref(config));
        value_builder_put(&b, "total_space", value_int(NULL, number(row, "vg_size")));
        value_builder_put(&b, "free_space", value_int(NULL, number(row, "vg_free")));
        value_builder_add(srs, value_builder_end(&b));
    }
    return TRUE;
}

static gboolean lvm_snapshots_live(void *sr)
{
    const struct lvm_sr *s = sr;
    return s->thin;
}

static const char *const capabilities[] = {
    "SR_PROBE",   "SR_SCAN",   "SR_UPDATE",  "VDI_CREATE", "VDI_DELETE",   "VDI_ATTACH",
    "VDI_DETACH", "VDI_CLONE", "VDI_RESIZE", "VDI_COPY",   "VDI_SNAPSHOT", NULL,
};
static const char *const configuration[] = {
    "device",
    "block devices, separated by commas (required); what is on them is not overwritten unless "
    "sm_config:force=true. sm_config:allocation=thin makes a thin pool",
    NULL,
};

const struct storage_driver storage_lvm_driver = {
    .type = "lvm",
    .name = "Logical volumes",
    .description = "Disk images as logical volumes, thick or thin",
    .capabilities = capabilities,
    .configuration = configuration,
    .create = lvm_create,
    .destroy = lvm_destroy,
    .probe = lvm_probe,
    .attach = lvm_attach,
    .detach = lvm_detach,
    .scan = lvm_scan,
    .stat = lvm_stat,
    .snapshots_live = lvm_snapshots_live,
    .vdi_create = lvm_vdi_create,
    .vdi_destroy = lvm_vdi_destroy,
    .vdi_clone = lvm_vdi_clone,
    .vdi_snapshot = lvm_vdi_clone,
    .vdi_copy = lvm_vdi_copy,
    .vdi_resize = lvm_vdi_resize,
    .vdi_stat = lvm_vdi_stat,
    .vdi_path = lvm_vdi_path,
    .vdi_stage = lvm_vdi_stage,
    .vdi_publish = lvm_vdi_publish,
    .vdi_unstage = lvm_vdi_unstage,
};
