/* storage_lvm_vdi.c - the driver `lvm`: making, cloning, copying, resizing and removing volumes. A volume gets a VDI's
 * name when its content is whole; nobody ever sees what was on its extents before. */
#include "config.h"
#include "xenbackend/storage/storage_lvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "xenbackend/run.h"
#include "xenbackend/storage/storage_qcow2.h"

#define MAX_SIZE ((gint64) 64 << 40)

static void vdi_name(char name[LVM_NAME_SIZE], const char *vdi)
{
    g_snprintf(name, LVM_NAME_SIZE, LVM_VDI_PREFIX "%s", vdi);
}

static void set_making(struct lvm_sr *s, const char *name, gboolean making)
{
    g_mutex_lock(&s->lock);
    if (making)
        g_hash_table_add(s->making, g_strdup(name));
    else
        g_hash_table_remove(s->making, name);
    g_mutex_unlock(&s->lock);
}

/* Of all volumes, so that one that is not there is no error of a tool; NULL without a fault when there is none. */
static struct lvm_lv *look_up(struct lvm_sr *s, const char *name, struct fault *f)
{
    g_autoptr(GPtrArray) all = lvm_volumes(s, NULL, f);
    for (guint i = 0; all != NULL && i < all->len; i++) {
        struct lvm_lv *v = all->pdata[i];
        if (strcmp(v->name, name) == 0) {
            g_ptr_array_set_free_func(all, NULL);
            for (guint j = 0; j < all->len; j++)
                if (j != i)
                    lvm_lv_free(all->pdata[j]);
            return v;
        }
    }
    return NULL;
}

static struct lvm_lv *find_vdi(struct lvm_sr *s, const char *vdi, struct fault *f)
{
    char name[LVM_NAME_SIZE];
    vdi_name(name, vdi);
    struct lvm_lv *v = look_up(s, name, f);
    if (v == NULL && f->code == NULL)
        fault_set(f, "VDI_MISSING", s->uuid, vdi, NULL);
    return v;
}

static gboolean must_be_new(struct lvm_sr *s, const char *vdi, struct fault *f)
{
    char name[LVM_NAME_SIZE];
    vdi_name(name, vdi);
    struct lvm_lv *v = look_up(s, name, f);
    if (v == NULL)
        return f->code == NULL;
    lvm_lv_free(v);
    g_autofree char *words = g_strdup_printf("%s has a VDI %s already", s->vg, vdi);
    return fault_set(f, "SR_BACKEND_FAILURE", "17", "", words, NULL);
}

/* ---- space ---- */

static gboolean full(gint64 requested, gint64 maximum, struct fault *f)
{
    g_autofree char *r = g_strdup_printf("%" G_GINT64_FORMAT, requested);
    g_autofree char *m = g_strdup_printf("%" G_GINT64_FORMAT, maximum);
    return fault_set(f, "SR_FULL", r, m, NULL);
}

/* A thick volume needs all its extents at once, a thin one only a pool that is not full. */
static gboolean has_room(struct lvm_sr *s, gint64 bytes, struct fault *f)
{
    gint64 size, free, extent;
    if (!s->thin)
        return lvm_group(s->devices, s->vg, &size, &free, &extent, f) && (bytes <= free || full(bytes, free, f));
    struct lvm_lv *pool = look_up(s, LVM_POOL, f);
    if (pool == NULL)
        return f->code != NULL ? FALSE : fault_set(f, "SR_BACKEND_FAILURE", "2", "", "the thin pool is gone", NULL);
    gboolean room = pool->data_percent < 99.9 || full(bytes, 0, f);
    lvm_lv_free(pool);
    return room;
}

static gboolean check_size(const char *vdi, gint64 size, struct fault *f)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, size);
    g_autofree char *maximum = g_strdup_printf("%" G_GINT64_FORMAT, MAX_SIZE);
    if (size <= 0)
        return fault_set(f, "INVALID_VALUE", "virtual_size", text, NULL);
    return size <= MAX_SIZE || fault_set(f, "VDI_TOO_LARGE", vdi, maximum, NULL);
}

/* ---- making volumes ---- */

/* A new volume under a temporary name, active; it counts as under way until drop_tmp or keep_tmp. NULL with f set. */
static char *make_tmp(struct lvm_sr *s, const char *vdi, gint64 size, struct fault *f)
{
    static gint serial;
    g_autofree char *name = g_strdup_printf(LVM_TMP_PREFIX "%s-%d", vdi, g_atomic_int_add(&serial, 1));
    g_autofree char *bytes = g_strdup_printf("%" G_GINT64_FORMAT "b", lvm_round(s, size));
    const char *const thick[] = {"lvcreate", "--yes", "-Wn", "-Zn", "-ay", "-L", bytes, "--name", name, s->vg, NULL};
    const char *const thin[] = {"lvcreate",   "--yes",  "-ay",    "-kn", "-V",  bytes,
                                "--thinpool", LVM_POOL, "--name", name,  s->vg, NULL};
    if (!has_room(s, lvm_round(s, size), f))
        return NULL;
    set_making(s, name, TRUE);
    if (lvm_run(s->devices, s->thin ? thin : thick, NULL, f))
        return g_steal_pointer(&name);
    set_making(s, name, FALSE);
    return NULL;
}

/* With the volume, or without it when it has got another name. Frees name. */
static void end_tmp(struct lvm_sr *s, char *name, gboolean remove)
{
    if (name == NULL)
        return;
    if (remove)
        lvm_remove(s, name, NULL);
    set_making(s, name, FALSE);
    g_free(name);
}

static gboolean describe(struct lvm_sr *s, const char *vdi, struct storage_vdi *out, struct fault *f)
{
    struct lvm_lv *v = find_vdi(s, vdi, f);
    if (v == NULL)
        return FALSE;
    lvm_describe(v, out);
    lvm_lv_free(v);
    return TRUE;
}

/* The volume, whose content is whole, becomes the VDI. Ends tmp in any case. */
static gboolean publish_new(struct lvm_sr *s, char *tmp, const char *vdi, struct storage_vdi *out, struct fault *f)
{
    char name[LVM_NAME_SIZE];
    vdi_name(name, vdi);
    gboolean done = lvm_rename(s, tmp, name, f);
    end_tmp(s, tmp, !done);
    return done && describe(s, vdi, out, f);
}

/* It takes the place of the volume that the VDI has; a crash in between is settled by the next scan. */
static gboolean publish_over(struct lvm_sr *s, char *tmp, const char *vdi, struct storage_vdi *out, struct fault *f)
{
    char name[LVM_NAME_SIZE], old[LVM_NAME_SIZE];
    vdi_name(name, vdi);
    g_snprintf(old, sizeof old, LVM_OLD_PREFIX "%s", vdi);
    set_making(s, old, TRUE);
    gboolean moved = lvm_rename(s, name, old, f), done = moved && lvm_rename(s, tmp, name, f);
    if (moved && !done)
        lvm_rename(s, old, name, NULL);
    if (done)
        lvm_remove(s, old, NULL);
    set_making(s, old, FALSE);
    end_tmp(s, tmp, !done);
    return done && describe(s, vdi, out, f);
}

/* A thin volume reads as zeroes. */
static gboolean zero(struct lvm_sr *s, const char *name, gint64 from, struct fault *f)
{
    g_autofree char *path = lvm_device(s, name);
    return s->thin || lvm_wipe(path, from, NULL, f);
}

gboolean lvm_vdi_create(void *sr, const char *vdi, gint64 virtual_size, const char *type,
                        struct value *sm_config G_GNUC_UNUSED, struct storage_vdi *out, struct fault *f)
{
    struct lvm_sr *s = sr;
    if (*type != '\0' && strcmp(type, "raw") != 0)
        return fault_set(f, "VALUE_NOT_SUPPORTED", "sm_config:type", type, "raw", NULL);
    if (!check_size(vdi, virtual_size, f) || !must_be_new(s, vdi, f))
        return FALSE;
    char *tmp = make_tmp(s, vdi, virtual_size, f);
    if (tmp == NULL)
        return FALSE;
    if (zero(s, tmp, 0, f))
        return publish_new(s, tmp, vdi, out, f);
    end_tmp(s, tmp, TRUE);
    return FALSE;
}

gboolean lvm_vdi_destroy(void *sr, const char *vdi, struct fault *f)
{
    struct lvm_sr *s = sr;
    struct lvm_lv *v = find_vdi(s, vdi, f);
    gboolean gone = v != NULL && lvm_remove(s, v->name, f);
    lvm_lv_free(v);
    return gone;
}

/* ---- clones and copies ---- */

static gboolean convert(struct lvm_sr *s, const char *path, const char *format, const char *name,
                        const struct storage_job *job, struct fault *f)
{
    g_autofree char *to = lvm_device(s, name);
    const struct run_options o = {.cancel = job->cancel, .progress = job->progress, .data = job->data};
    const char *const thick[] = {"qemu-img", "convert", "-p", "-n", "-f", format, "-O", "raw", path, to, NULL};
    const char *const thin[] = {"qemu-img", "convert", "-p", "-n", "--target-is-zero", "-f", format, "-O",
                                "raw",      path,      to,   NULL};
    struct fault why = FAULT_INIT;
    if (run_tool(s->thin ? thin : thick, &o, NULL, &why))
        return TRUE;
    if (s->thin && why.params != NULL && g_strv_length(why.params) > 2 &&
        strstr(why.params[2], "No space left") != NULL)
        full(0, 0, f);
    fault_move(f, &why);
    return FALSE;
}

static gboolean snapshot_thin(struct lvm_sr *s, const struct lvm_lv *v, const char *new, struct storage_vdi *out,
                              struct fault *f)
{
    char name[LVM_NAME_SIZE];
    vdi_name(name, new);
    g_autofree char *origin = g_strdup_printf("%s/%s", s->vg, v->name);
    g_autofree char *tag = g_strconcat(LVM_TAG_ORIGIN, v->name + strlen(LVM_VDI_PREFIX), NULL);
    const char *const args[] = {"lvcreate", "--yes", "-s", "-kn", "-ay", "--addtag", tag, "--name", name, origin, NULL};
    return has_room(s, 0, f) && lvm_run(s->devices, args, NULL, f) && describe(s, new, out, f);
}

/* From the file or device at path, which holds size bytes, into a new volume of at least that. NULL with f set. */
static char *copy_to_tmp(struct lvm_sr *s, const char *new, gint64 least, gint64 size, const char *path,
                         const char *format, const struct storage_job *job, struct fault *f)
{
    char *tmp = make_tmp(s, new, MAX(least, size), f);
    if (tmp == NULL)
        return NULL;
    if (convert(s, path, format, tmp, job, f) && zero(s, tmp, size, f))
        return tmp;
    end_tmp(s, tmp, TRUE);
    return NULL;
}

/* A thick volume has no way to share: its clone is a copy. */
gboolean lvm_vdi_clone(void *sr, const char *vdi, const char *new, const struct storage_job *job,
                       struct storage_vdi *out, struct fault *f)
{
    struct lvm_sr *s = sr;
    struct lvm_lv *v = must_be_new(s, new, f) ? find_vdi(s, vdi, f) : NULL;
    gboolean done = FALSE;
    if (v != NULL && s->thin) {
        done = snapshot_thin(s, v, new, out, f);
    } else if (v != NULL) {
        g_autofree char *path = lvm_device(s, v->name);
        char *tmp = copy_to_tmp(s, new, v->size, v->size, path, "raw", job, f);
        done = tmp != NULL && publish_new(s, tmp, new, out, f);
    }
    lvm_lv_free(v);
    return done;
}

/* How much a guest sees of the image at path. */
static gboolean size_of(const char *path, const char *format, gint64 *size, struct fault *f)
{
    struct stat st;
    struct qcow2_info info;
    guint64 bytes = 0;
    const char *why = "not an image";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    gboolean known = fd >= 0 && fstat(fd, &st) == 0;
    if (known && strcmp(format, "qcow2") == 0) {
        known = qcow2_read(fd, &info, &why);
        *size = known ? info.virtual_size : 0;
    } else if (known && S_ISBLK(st.st_mode)) {
        known = ioctl(fd, BLKGETSIZE64, &bytes) == 0;
        *size = (gint64) bytes;
    } else if (known) {
        *size = st.st_size;
    }
    if (fd >= 0)
        close(fd);
    g_autofree char *words = g_strdup_printf("%s: %s", path, fd < 0 ? g_strerror(errno) : why);
    return known || fault_set(f, "SR_BACKEND_FAILURE", "22", "", words, NULL);
}

gboolean lvm_vdi_copy(void *sr, const char *new, gboolean into, const char *path, const char *format,
                      const struct storage_job *job, struct storage_vdi *out, struct fault *f)
{
    struct lvm_sr *s = sr;
    gint64 size = 0, least = 0;
    struct lvm_lv *old = into ? find_vdi(s, new, f) : NULL;
    gboolean ready = size_of(path, format, &size, f) && (into ? old != NULL : must_be_new(s, new, f));
    if (ready && old != NULL && size > old->size) {
        g_autofree char *minimum = g_strdup_printf("%" G_GINT64_FORMAT, size);
        ready = fault_set(f, "VDI_TOO_SMALL", new, minimum, NULL);
    }
    least = old != NULL ? old->size : size;
    lvm_lv_free(old);
    char *tmp = ready ? copy_to_tmp(s, new, least, size, path, format, job, f) : NULL;
    if (tmp == NULL)
        return FALSE;
    return into ? publish_over(s, tmp, new, out, f) : publish_new(s, tmp, new, out, f);
}

/* ---- size ---- */

/* The tag says what is still to be zeroed, should we not come to it. */
static gboolean grow(struct lvm_sr *s, const struct lvm_lv *v, gint64 size, struct fault *f)
{
    g_autofree char *which = g_strdup_printf("%s/%s", s->vg, v->name);
    g_autofree char *bytes = g_strdup_printf("%" G_GINT64_FORMAT "b", size);
    g_autofree char *tag = g_strdup_printf(LVM_TAG_WIPE "%" G_GINT64_FORMAT, v->size);
    const char *const mark[] = {"lvchange", "--addtag", tag, which, NULL};
    const char *const unmark[] = {"lvchange", "--deltag", tag, which, NULL};
    const char *const extend[] = {"lvextend", "--yes", "-L", bytes, which, NULL};
    if (!has_room(s, size - v->size, f) || (!s->thin && !lvm_run(s->devices, mark, NULL, f)))
        return FALSE;
    gboolean done = lvm_run(s->devices, extend, NULL, f);
    if (done)
        done = zero(s, v->name, v->size, f);
    else if (!s->thin)
        lvm_run(s->devices, unmark, NULL, NULL);
    return done && (s->thin || lvm_run(s->devices, unmark, NULL, f));
}

gboolean lvm_vdi_resize(void *sr, const char *vdi, gint64 virtual_size, struct storage_vdi *out, struct fault *f)
{
    struct lvm_sr *s = sr;
    if (!check_size(vdi, virtual_size, f))
        return FALSE;
    gint64 size = lvm_round(s, virtual_size);
    struct lvm_lv *v = find_vdi(s, vdi, f);
    gboolean done = v != NULL;
    if (done && size < v->size) {
        g_autofree char *least = g_strdup_printf("%" G_GINT64_FORMAT, v->size);
        done = fault_set(f, "VDI_TOO_SMALL", vdi, least, NULL);
    }
    if (done && size > v->size)
        done = grow(s, v, size, f);
    lvm_lv_free(v);
    return done && describe(s, vdi, out, f);
}

gboolean lvm_vdi_stat(void *sr, const char *vdi, struct storage_vdi *out, struct fault *f)
{
    return describe(sr, vdi, out, f);
}

gboolean lvm_vdi_path(void *sr, const char *vdi, char **path, const char **format, struct fault *f)
{
    struct lvm_sr *s = sr;
    struct lvm_lv *v = find_vdi(s, vdi, f);
    if (v == NULL)
        return FALSE;
    g_autofree char *device = lvm_device(s, v->name), *which = g_strdup_printf("%s/%s", s->vg, v->name);
    const char *const activate[] = {"lvchange", "-ay", "-K", which, NULL};
    lvm_lv_free(v);
    if (access(device, F_OK) < 0 && !lvm_run(s->devices, activate, NULL, f))
        return FALSE;
    *path = g_steal_pointer(&device);
    *format = "raw";
    return TRUE;
}

/* ---- new content ---- */

struct stage {
    char vdi[STORAGE_UUID_LEN + 1];
    char *tmp;
};

void *lvm_vdi_stage(void *sr, const char *vdi, gint64 virtual_size, const char *type, char **path, const char **format,
                    gint64 *size, struct fault *f)
{
    struct lvm_sr *s = sr;
    struct lvm_lv *v = find_vdi(s, vdi, f);
    if (v == NULL && g_strcmp0(f->code, "VDI_MISSING") != 0)
        return NULL;
    fault_clear(f);
    *size = v != NULL ? v->size : virtual_size;
    gboolean fits = v != NULL || *type == '\0' || strcmp(type, "raw") == 0 ||
                    fault_set(f, "VALUE_NOT_SUPPORTED", "sm_config:type", type, "raw", NULL);
    lvm_lv_free(v);
    char *tmp = fits && check_size(vdi, *size, f) ? make_tmp(s, vdi, *size, f) : NULL;
    if (tmp != NULL && !zero(s, tmp, 0, f)) {
        end_tmp(s, tmp, TRUE);
        tmp = NULL;
    }
    if (tmp == NULL)
        return NULL;
    struct stage *stage = g_new0(struct stage, 1);
    g_strlcpy(stage->vdi, vdi, sizeof stage->vdi);
    stage->tmp = tmp;
    *path = lvm_device(s, tmp);
    *format = "raw";
    *size = lvm_round(s, *size);
    return stage;
}

gboolean lvm_vdi_publish(void *sr, void *stage, struct storage_vdi *out, struct fault *f)
{
    struct lvm_sr *s = sr;
    struct stage *g = stage;
    char name[LVM_NAME_SIZE];
    vdi_name(name, g->vdi);
    struct lvm_lv *old = look_up(s, name, f);
    gboolean done = FALSE;
    if (f->code != NULL)
        end_tmp(s, g->tmp, TRUE);
    else
        done = old != NULL ? publish_over(s, g->tmp, g->vdi, out, f) : publish_new(s, g->tmp, g->vdi, out, f);
    lvm_lv_free(old);
    g_free(g);
    return done;
}

void lvm_vdi_unstage(void *sr, void *stage)
{
    struct stage *g = stage;
    end_tmp(sr, g->tmp, TRUE);
    g_free(g);
}
