/* storage_file_vdi.c - the driver `file`: making, cloning, copying, resizing and removing disk images. */
#include "config.h"
#include "xenbackend/storage/storage_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "xenbackend/run.h"

#define SECTOR       512
#define MAX_SIZE     ((gint64) 64 << 40)
#define SMALL_LIMIT  60 /* seconds that a tool may take for what is no copy */
#define MAX_CHAIN    4096
#define NO_SPACE_SAY "No space left on device"

/* Runs qemu-img; what it says of a full disk becomes SR_FULL. args is NULL-terminated and begins with "qemu-img". */
static gboolean qemu_img(struct storage_dir *d, const char *const *args, const struct storage_job *job, struct fault *f)
{
    struct run_options o = {.timeout_s = SMALL_LIMIT};
    if (job != NULL)
        o = (struct run_options){.cancel = job->cancel, .progress = job->progress, .data = job->data};
    struct fault why = FAULT_INIT;
    if (run_tool(args, &o, NULL, &why))
        return TRUE;
    if (strcmp(why.code, "SR_BACKEND_FAILURE") == 0 && strstr(why.params[2], NO_SPACE_SAY) != NULL)
        dir_fault(d, "qemu-img", ENOSPC, f);
    fault_move(f, &why);
    return FALSE;
}

gboolean file_check_size(const char *vdi, gint64 *size, struct fault *f)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, *size);
    g_autofree char *maximum = g_strdup_printf("%" G_GINT64_FORMAT, MAX_SIZE);
    if (*size <= 0)
        return fault_set(f, "INVALID_VALUE", "virtual_size", text, NULL);
    if (*size > MAX_SIZE)
        return fault_set(f, "VDI_TOO_LARGE", vdi, maximum, NULL);
    *size = (*size + SECTOR - 1) / SECTOR * SECTOR;
    return TRUE;
}

static gboolean already_there(struct storage_dir *d, const char *vdi, struct fault *f)
{
    g_autofree char *words = g_strdup_printf("%s has a VDI %s already", d->path, vdi);
    return fault_set(f, "SR_BACKEND_FAILURE", "17", "", words, NULL);
}

static gboolean not_cancelled(const struct storage_job *job, struct fault *f)
{
    if (job->cancel == NULL || g_atomic_int_get(job->cancel) == 0)
        return TRUE;
    return fault_set(f, "TASK_CANCELLED", "", NULL);
}

/* ---- empty images ---- */

static gboolean make_raw(struct storage_dir *d, const char *tmp, const char *vdi, gint64 size, struct fault *f)
{
    int fd = openat(d->fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return dir_fault(d, tmp, errno, f);
    int err = ftruncate(fd, size) < 0 ? errno : 0;
    close(fd);
    g_autofree char *maximum = g_strdup_printf("%" G_GINT64_FORMAT, MAX_SIZE);
    if (err == EFBIG)
        return fault_set(f, "VDI_TOO_LARGE", vdi, maximum, NULL);
    return err == 0 || dir_fault(d, tmp, err, f);
}

/* base is the uuid of what it is a difference to, "" for none. The base need not exist yet (-u). */
static gboolean make_qcow2(struct storage_dir *d, const char *tmp, gint64 size, const char *base, struct fault *f)
{
    g_autofree char *path = dir_file(d, tmp);
    g_autofree char *bytes = g_strdup_printf("%" G_GINT64_FORMAT, size);
    char backing[IMAGE_NAME_SIZE];
    name_make(backing, base, SUFFIX_BASE);
    const char *const whole[] = {"qemu-img", "create", "-q", "-f", "qcow2", path, bytes, NULL};
    const char *const difference[] = {"qemu-img", "create", "-q",    "-u", "-f",  "qcow2", "-F",
                                      "qcow2",    "-b",     backing, path, bytes, NULL};
    if (!qemu_img(d, *base != '\0' ? difference : whole, NULL, f))
        return FALSE;
    return fchmodat(d->fd, tmp, 0600, 0) == 0 || dir_fault(d, tmp, errno, f);
}

gboolean file_make_empty(struct storage_dir *d, const char *tmp, const char *vdi, gint64 size, const char *type,
                         struct fault *f)
{
    return strcmp(type, "raw") == 0 ? make_raw(d, tmp, vdi, size, f) : make_qcow2(d, tmp, size, "", f);
}

/* The last step of making a VDI, with the lock: sidecar, name, books. The image in tmp is complete. */
gboolean file_publish_new(struct storage_dir *d, const char *tmp, const char *vdi, const char *type,
                          struct value *sm_config, const char *origin, struct storage_vdi *out, struct fault *f)
{
    char name[IMAGE_NAME_SIZE];
    struct image image;
    name_make(name, vdi, strcmp(type, "raw") == 0 ? SUFFIX_RAW : SUFFIX_QCOW2);
    if (dir_has_vdi(d, vdi))
        return already_there(d, vdi, f);
    if (!dir_sync_file(d, tmp, f) || !dir_write_sidecar(d, vdi, sm_config, origin, f) ||
        !dir_publish(d, tmp, name, f) || !dir_image(d, name, &image, f))
        return FALSE;
    file_ref_base(d, image.base);
    d->virtual_allocation += image.virtual_size;
    file_describe(d, &image, out);
    return TRUE;
}

gboolean file_vdi_create(void *sr, const char *vdi, gint64 virtual_size, const char *type, struct value *sm_config,
                         struct storage_vdi *out, struct fault *f)
{
    struct storage_dir *d = sr;
    if (*type == '\0')
        type = "qcow2";
    if (strcmp(type, "raw") != 0 && strcmp(type, "qcow2") != 0)
        return fault_set(f, "INVALID_VALUE", "type", type, NULL);
    if (!file_check_size(vdi, &virtual_size, f))
        return FALSE;
    char *tmp = dir_tmp(d, vdi);
    g_mutex_lock(&d->lock);
    gboolean room = dir_room(d, 0, f);
    g_mutex_unlock(&d->lock);
    gboolean made = room && file_make_empty(d, tmp, vdi, virtual_size, type, f);
    if (made) {
        g_mutex_lock(&d->lock);
        made = file_publish_new(d, tmp, vdi, type, sm_config, "", out, f);
        g_mutex_unlock(&d->lock);
    }
    dir_tmp_end(d, tmp);
    return made;
}

/* A file whose contents are no image any more can be removed, too. What it was a difference to is counted again when
 * the SR is attached. */
static gboolean find_any(struct storage_dir *d, const char *vdi, struct image *image, struct fault *f)
{
    struct stat st;
    struct fault why = FAULT_INIT;
    if (dir_vdi(d, vdi, image, &why))
        return TRUE;
    if (fstatat(d->fd, image->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode)) {
        fault_move(f, &why);
        return FALSE;
    }
    fault_clear(&why);
    image->base[0] = '\0';
    image->virtual_size = 0;
    return TRUE;
}

gboolean file_vdi_destroy(void *sr, const char *vdi, struct fault *f)
{
    struct storage_dir *d = sr;
    struct image image;
    char sidecar[IMAGE_NAME_SIZE];
    g_mutex_lock(&d->lock);
    file_leave_alone(d, vdi);
    gboolean gone = find_any(d, vdi, &image, f);
    if (gone && unlinkat(d->fd, image.name, 0) < 0)
        gone = dir_fault(d, image.name, errno, f);
    if (gone) {
        name_make(sidecar, vdi, SUFFIX_JSON);
        unlinkat(d->fd, sidecar, 0);
        file_unref_base(d, image.base);
        d->virtual_allocation -= image.virtual_size;
        gone = dir_sync(d, f);
    }
    g_mutex_unlock(&d->lock);
    return gone;
}

/* ---- clones ---- */

/* The image becomes a base that is never written again, under a second name first; then a difference to it takes its
 * place in one rename. At every moment the VDI's name stands for the same content. */
static gboolean push_down(struct storage_dir *d, const struct image *image, const char *tmp, const char *base,
                          struct fault *f)
{
    char name[IMAGE_NAME_SIZE];
    name_make(name, base, SUFFIX_BASE);
    if (!file_chain_has_room(d, image, f) || !make_qcow2(d, tmp, image->virtual_size, base, f) ||
        !dir_sync_file(d, tmp, f))
        return FALSE;
    if (linkat(d->fd, image->name, d->fd, name, 0) < 0)
        return dir_fault(d, name, errno, f);
    if (!dir_sync(d, f) || renameat(d->fd, tmp, d->fd, image->name) < 0) {
        dir_fault(d, image->name, errno, f);
        unlinkat(d->fd, name, 0);
        return FALSE;
    }
    fchmodat(d->fd, name, 0400, 0);
    file_ref_base(d, base);
    return dir_sync(d, f);
}

/* Always with a new base, whatever the image says of itself: whoever writes to it keeps things back. */
gboolean file_vdi_freeze(void *sr, const char *vdi, char base[STORAGE_UUID_LEN + 1], struct fault *f)
{
    struct storage_dir *d = sr;
    struct image image;
    char *tmp = dir_tmp(d, vdi);
    storage_uuid_new(base);
    g_mutex_lock(&d->lock);
    gboolean done = dir_vdi(d, vdi, &image, f) && dir_room(d, 0, f);
    if (done && strcmp(image.type, "raw") == 0)
        done = fault_set(f, "VDI_IN_USE", vdi, "snapshot", NULL);
    done = done && push_down(d, &image, tmp, base, f);
    g_mutex_unlock(&d->lock);
    dir_tmp_end(d, tmp);
    return done;
}

static gboolean base_is_there(struct storage_dir *d, const char *base, struct fault *f)
{
    char name[IMAGE_NAME_SIZE];
    struct image image;
    name_make(name, base, SUFFIX_BASE);
    return dir_image(d, name, &image, f);
}

/* With the lock. An image to which nothing was written since it was last cloned needs no new base: without this each
 * clone of a template would make its chain one longer. frozen (may be NULL) is what a freeze made of it. */
static gboolean clone_qcow2(struct storage_dir *d, const struct image *image, const char *frozen, char *const tmp[2],
                            const char *new, struct storage_vdi *out, struct fault *f)
{
    char base[STORAGE_UUID_LEN + 1];
    g_autoptr(value) sm_config = dir_read_sidecar(d, image->uuid);
    g_strlcpy(base, frozen != NULL ? frozen : image->base, sizeof(base));
    if (frozen != NULL && !base_is_there(d, base, f))
        return FALSE;
    if (frozen == NULL && !image->empty) {
        storage_uuid_new(base);
        if (!push_down(d, image, tmp[0], base, f))
            return FALSE;
    }
    return make_qcow2(d, tmp[1], image->virtual_size, base, f) &&
           file_publish_new(d, tmp[1], new, "qcow2", sm_config, image->uuid, out, f);
}

static gboolean reflink(struct storage_dir *d, const char *from, const char *to)
{
    int in = openat(d->fd, from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int out = openat(d->fd, to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    gboolean done = in >= 0 && out >= 0 && ioctl(out, FICLONE, in) == 0;
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return done;
}

static gboolean convert(struct storage_dir *d, const char *path, const char *format, const char *tmp, const char *type,
                        const struct storage_job *job, struct fault *f)
{
    g_autofree char *to = dir_file(d, tmp);
    const char *const args[] = {"qemu-img", "convert", "-p", "-f", format, "-O", type, path, to, NULL};
    unlinkat(d->fd, tmp, 0);
    if (!qemu_img(d, args, job, f) || !not_cancelled(job, f))
        return FALSE;
    return fchmodat(d->fd, tmp, 0600, 0) == 0 || dir_fault(d, tmp, errno, f);
}

/* A raw image has no bases: its clone shares blocks where the file system can, and is a copy elsewhere. Without the
 * lock, but for the last step. */
static gboolean clone_raw(struct storage_dir *d, const struct image *image, const char *tmp, const char *new,
                          const struct storage_job *job, struct storage_vdi *out, struct fault *f)
{
    if (!reflink(d, image->name, tmp)) {
        g_autofree char *path = dir_file(d, image->name);
        g_mutex_lock(&d->lock);
        gboolean room = dir_room(d, image->physical, f);
        g_mutex_unlock(&d->lock);
        if (!room || !convert(d, path, "raw", tmp, "raw", job, f))
            return FALSE;
    }
    g_autoptr(value) sm_config = dir_read_sidecar(d, image->uuid);
    g_mutex_lock(&d->lock);
    gboolean done = file_publish_new(d, tmp, new, "raw", sm_config, image->uuid, out, f);
    g_mutex_unlock(&d->lock);
    return done;
}

gboolean file_vdi_clone(void *sr, const char *vdi, const char *new, const struct storage_job *job,
                        struct storage_vdi *out, struct fault *f)
{
    struct storage_dir *d = sr;
    struct image image;
    char *const tmp[2] = {dir_tmp(d, vdi), dir_tmp(d, new)};
    g_mutex_lock(&d->lock);
    gboolean done = dir_vdi(d, vdi, &image, f) && dir_room(d, 0, f);
    gboolean raw = done && strcmp(image.type, "raw") == 0;
    if (done && dir_has_vdi(d, new))
        done = already_there(d, new, f);
    if (done && !raw)
        done = clone_qcow2(d, &image, job != NULL ? job->base : NULL, tmp, new, out, f);
    g_mutex_unlock(&d->lock);
    if (done && raw)
        done = clone_raw(d, &image, tmp[1], new, job, out, f);
    dir_tmp_end(d, tmp[0]);
    dir_tmp_end(d, tmp[1]);
    return done;
}

/* ---- copies ---- */

/* What the file and all that it is a difference to take up: the most that a copy of it can need. Images that no driver
 * of ours made are refused on the way, so that a tool opens nothing but the chain that was looked at. */
static gboolean chain_allocated(const char *path, const char *format, gint64 *bytes, struct fault *f)
{
    g_autofree char *dir = g_path_get_dirname(path), *name = g_path_get_basename(path);
    struct stat st;
    if (strcmp(format, "raw") == 0) {
        if (stat(path, &st) < 0)
            return dir_fault(NULL, path, errno, f);
        *bytes = (gint64) st.st_blocks * 512; /* nothing, of a device: how much of it is zero is not known */
        return TRUE;
    }
    struct storage_dir d = {.fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .path = dir, .uuid = (char *) ""};
    struct image image = {0};
    gboolean read = TRUE;
    *bytes = 0;
    for (int depth = 0; read && depth < MAX_CHAIN && *name != '\0'; depth++) {
        read = dir_image(&d, name, &image, f);
        *bytes += image.physical;
        g_free(name);
        name = *image.base != '\0' ? g_strconcat(image.base, SUFFIX_BASE, NULL) : g_strdup("");
    }
    if (d.fd >= 0)
        close(d.fd);
    return read;
}

/* The copy in tmp takes the place of an existing VDI, which keeps its size. With the lock. */
gboolean file_publish_over(struct storage_dir *d, const char *tmp, const struct image *old, struct storage_vdi *out,
                           struct fault *f)
{
    g_autofree char *path = dir_file(d, tmp);
    g_autofree char *bytes = g_strdup_printf("%" G_GINT64_FORMAT, old->virtual_size);
    const char *const grow[] = {"qemu-img", "resize", "-q", "-f", old->type, path, bytes, NULL};
    struct image image;
    if (!qemu_img(d, grow, NULL, f) || !dir_sync_file(d, tmp, f) || !dir_publish(d, tmp, old->name, f))
        return FALSE;
    file_unref_base(d, old->base);
    if (!dir_image(d, old->name, &image, f))
        return FALSE;
    file_describe(d, &image, out);
    return TRUE;
}

/* The image that the copy goes into; its type is the copy's. With the lock. */
static gboolean find_target(struct storage_dir *d, const char *new, gboolean into, gint64 bytes, struct image *old,
                            struct fault *f)
{
    if (into ? !dir_vdi(d, new, old, f) : dir_has_vdi(d, new))
        return into ? FALSE : already_there(d, new, f);
    return dir_room(d, bytes, f);
}

static gboolean copied_size_fits(struct storage_dir *d, const char *tmp, const char *path, const struct image *old,
                                 struct fault *f)
{
    struct image copy = {0};
    struct stat st;
    /* The temporary name does not tell the type: read it as what it was made as. */
    if (strcmp(old->type, "raw") == 0) {
        if (fstatat(d->fd, tmp, &st, 0) < 0)
            return dir_fault(d, tmp, errno, f);
        copy.virtual_size = st.st_size;
    } else if (!dir_image(d, tmp, &copy, f)) {
        return FALSE;
    }
    if (copy.virtual_size <= old->virtual_size)
        return TRUE;
    g_autofree char *least = g_strdup_printf("%" G_GINT64_FORMAT, copy.virtual_size);
    g_debug("%s does not fit into %s", path, old->name);
    return fault_set(f, "VDI_TOO_SMALL", old->uuid, least, NULL);
}

static gboolean same_type(const struct image *image, const char *type, struct fault *f)
{
    return strcmp(image->type, type) == 0 || fault_set(f, "VDI_INCOMPATIBLE_TYPE", image->uuid, image->type, NULL);
}

gboolean file_vdi_copy(void *sr, const char *new, gboolean into, const char *path, const char *format,
                       const struct storage_job *job, struct storage_vdi *out, struct fault *f)
{
    struct storage_dir *d = sr;
    struct image old = {0};
    gint64 bytes = 0;
    if (!chain_allocated(path, format, &bytes, f))
        return FALSE;
    g_mutex_lock(&d->lock);
    gboolean done = find_target(d, new, into, bytes, &old, f);
    g_mutex_unlock(&d->lock);
    if (!done)
        return FALSE;
    const char *type = into ? old.type : format;
    char *tmp = dir_tmp(d, new);
    done = convert(d, path, format, tmp, type, job, f) && (!into || copied_size_fits(d, tmp, path, &old, f));
    if (done) {
        g_mutex_lock(&d->lock);
        if (into) /* it may have changed meanwhile, but a file's name must never lie about its type */
            done = dir_vdi(d, new, &old, f) && same_type(&old, type, f) && file_publish_over(d, tmp, &old, out, f);
        else
            done = file_publish_new(d, tmp, new, type, NULL, "", out, f);
        g_mutex_unlock(&d->lock);
    }
    dir_tmp_end(d, tmp);
    return done;
}

/* ---- size ---- */

static gboolean grow(struct storage_dir *d, const struct image *image, gint64 size, struct fault *f)
{
    g_autofree char *path = dir_file(d, image->name);
    g_autofree char *bytes = g_strdup_printf("%" G_GINT64_FORMAT, size);
    g_autofree char *least = g_strdup_printf("%" G_GINT64_FORMAT, image->virtual_size);
    const char *const args[] = {"qemu-img", "resize", "-q", "-f", image->type, path, bytes, NULL};
    if (size < image->virtual_size)
        return fault_set(f, "VDI_TOO_SMALL", image->uuid, least, NULL);
    if (size == image->virtual_size)
        return TRUE;
    return dir_room(d, 0, f) && qemu_img(d, args, NULL, f) && dir_sync_file(d, image->name, f);
}

gboolean file_vdi_resize(void *sr, const char *vdi, gint64 virtual_size, struct storage_vdi *out, struct fault *f)
{
    struct storage_dir *d = sr;
    struct image before, after;
    if (!file_check_size(vdi, &virtual_size, f))
        return FALSE;
    g_mutex_lock(&d->lock);
    file_leave_alone(d, vdi);
    gboolean done = dir_vdi(d, vdi, &before, f) && grow(d, &before, virtual_size, f) && dir_vdi(d, vdi, &after, f);
    if (done) {
        d->virtual_allocation += after.virtual_size - before.virtual_size;
        file_describe(d, &after, out);
    }
    g_mutex_unlock(&d->lock);
    return done;
}

gboolean file_vdi_stat(void *sr, const char *vdi, struct storage_vdi *out, struct fault *f)
{
    struct storage_dir *d = sr;
    struct image image;
    g_mutex_lock(&d->lock);
    gboolean read = dir_vdi(d, vdi, &image, f);
    if (read)
        file_describe(d, &image, out);
    g_mutex_unlock(&d->lock);
    return read;
}

gboolean file_vdi_path(void *sr, const char *vdi, char **path, const char **format, struct fault *f)
{
    struct storage_dir *d = sr;
    struct image image;
    g_mutex_lock(&d->lock);
    file_leave_alone(d, vdi);
    gboolean read = dir_vdi(d, vdi, &image, f);
    if (read) {
        *path = dir_file(d, image.name);
        *format = image.type;
    }
    g_mutex_unlock(&d->lock);
    return read;
}
