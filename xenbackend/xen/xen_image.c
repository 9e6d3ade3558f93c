/* xen_image.c - the files that suspended domains are in: a head that says whose it is, then libxl's stream. The state
 * directory belongs to the front, so nothing in it is followed blindly. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "xenbackend/storage/storage.h"

#define MAGIC   "XENAPID-SUSPENDED 1\n"
#define UNWHOLE ".part"

static gboolean file_fault(const char *path, int err, struct fault *f)
{
    char number[16];
    g_snprintf(number, sizeof number, "%d", err);
    g_autofree char *words = g_strdup_printf("%s: %s", path, g_strerror(err));
    return fault_set(f, "SR_BACKEND_FAILURE", number, "", words, NULL);
}

static gboolean bad_image(const char *path, const char *why, struct fault *f)
{
    g_autofree char *words = g_strdup_printf("%s: %s", path, why);
    return fault_set(f, "DOMAIN_BUILDER_ERROR", "restore", "22", words, NULL);
}

/* ---- the directory ---- */

static int open_directory(int state, const char *name)
{
    return openat(state, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The front removes files that it does not need any more, so a directory that is made here is its own. */
static int open_or_make(int state, const char *name)
{
    struct stat st;
    int dir = open_directory(state, name);
    if (dir >= 0 || errno != ENOENT || mkdirat(state, name, 0700) != 0)
        return dir;
    dir = open_directory(state, name);
    if (dir >= 0 && fstat(state, &st) == 0 && fchown(dir, st.st_uid, st.st_gid) != 0)
        g_warning("%s/%s: %s", xen.state_dir, name, g_strerror(errno));
    return dir;
}

/* STATE/DIRECTORY/NAME: one step each, so that no link can lead elsewhere. */
static gboolean locate(struct xen_image *image, const char *path, const char *uuid, struct fault *f)
{
    gsize prefix = strlen(xen.state_dir);
    gboolean below = strncmp(path, xen.state_dir, prefix) == 0 && path[prefix] == '/';
    g_auto(GStrv) steps = g_strsplit(below ? path + prefix + 1 : "", "/", -1);
    if (g_strv_length(steps) != 2 || *steps[0] == '\0' || *steps[0] == '.' || !storage_uuid_is_valid(uuid) ||
        !g_str_has_prefix(steps[1], uuid))
        return fault_set(f, "INVALID_VALUE", "path", path, NULL);
    int state = open(xen.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    image->dir = state >= 0 ? open_or_make(state, steps[0]) : -1;
    int err = errno;
    if (state >= 0)
        close(state);
    image->name = g_strdup(steps[1]);
    return image->dir >= 0 || file_fault(path, err, f);
}

/* ---- the file ---- */

static void make_head(char head[XEN_IMAGE_HEAD], const char *uuid)
{
    memset(head, 0, XEN_IMAGE_HEAD);
    g_snprintf(head, XEN_IMAGE_HEAD, MAGIC "%s\n", uuid);
}

static char *part_name(const struct xen_image *image)
{
    return g_strconcat(image->name, UNWHOLE, NULL);
}

gboolean xen_image_open_vdi(struct xen_image *image, struct value *params, int flags, struct fault *f)
{
    const char *vdi = value_get_str(params, "vdi", ""), *format = NULL;
    g_autofree char *path = NULL;
    if (!storage_vdi_path(value_get_str(params, "sr", ""), vdi, &path, &format, f))
        return FALSE;
    if (strcmp(format, "raw") != 0)
        return fault_set(f, "VDI_INCOMPATIBLE_TYPE", vdi, format, NULL);
    image->is_vdi = TRUE;
    image->fd = storage_open_path(path, flags | O_NONBLOCK);
    return image->fd >= 0 || file_fault(path, errno, f);
}

static gboolean create_file(struct xen_image *image, const char *path, const char *uuid, struct fault *f)
{
    if (!locate(image, path, uuid, f))
        return FALSE;
    g_autofree char *part = part_name(image);
    unlinkat(image->dir, part, 0);
    image->fd = openat(image->dir, part, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return image->fd >= 0 || file_fault(path, errno, f);
}

static gboolean write_head(const struct xen_image *image, const char *head, struct fault *f)
{
    return write(image->fd, head, XEN_IMAGE_HEAD) == XEN_IMAGE_HEAD || file_fault("suspend image", errno, f);
}

gboolean xen_image_create(struct xen_image *image, struct value *params, const char *uuid, struct fault *f)
{
    char head[XEN_IMAGE_HEAD];
    const char *path = value_get_str(params, "path", "");
    if (!(*path != '\0' ? create_file(image, path, uuid, f) : xen_image_open_vdi(image, params, O_RDWR, f)))
        return FALSE;
    make_head(head, uuid);
    return write_head(image, head, f);
}

static gboolean open_file(struct xen_image *image, const char *path, const char *uuid, struct fault *f)
{
    if (!locate(image, path, uuid, f))
        return FALSE;
    image->fd = openat(image->dir, image->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    g_clear_pointer(&image->name, g_free); /* nothing to take back */
    return image->fd >= 0 || file_fault(path, errno, f);
}

gboolean xen_image_open(struct xen_image *image, struct value *params, const char *uuid, struct fault *f)
{
    char head[XEN_IMAGE_HEAD], wanted[XEN_IMAGE_HEAD];
    struct stat st;
    const char *path = value_get_str(params, "path", "");
    if (!(*path != '\0' ? open_file(image, path, uuid, f) : xen_image_open_vdi(image, params, O_RDONLY, f)))
        return FALSE;
    if (fstat(image->fd, &st) != 0 || (S_ISDIR(st.st_mode) || S_ISFIFO(st.st_mode)) ||
        read(image->fd, head, sizeof head) != XEN_IMAGE_HEAD)
        return bad_image(path, "the suspend image is cut off", f);
    make_head(wanted, uuid);
    if (memcmp(head, wanted, strlen(MAGIC)) != 0)
        return bad_image(path, "not a suspend image", f);
    return memcmp(head, wanted, sizeof head) == 0 || bad_image(path, "the suspend image is another domain's", f);
}

gboolean xen_image_remove(const char *path, const char *uuid, struct fault *f)
{
    g_auto(xen_image) image = XEN_IMAGE_INIT;
    if (!locate(&image, path, uuid, f))
        return FALSE;
    return unlinkat(image.dir, image.name, 0) == 0 || errno == ENOENT || file_fault(path, errno, f);
}

gboolean xen_image_commit(struct xen_image *image, gint64 *size, struct fault *f)
{
    *size = lseek(image->fd, 0, SEEK_CUR);
    if (fsync(image->fd) != 0)
        return file_fault("suspend image", errno, f);
    if (!image->is_vdi) {
        g_autofree char *part = part_name(image);
        if (renameat(image->dir, part, image->dir, image->name) != 0 || fsync(image->dir) != 0)
            return file_fault(image->name, errno, f);
    }
    image->is_vdi = FALSE; /* whole: not to be taken back */
    g_clear_pointer(&image->name, g_free);
    return TRUE;
}

void xen_image_close(struct xen_image *image)
{
    if (image->name != NULL && image->fd >= 0) {
        g_autofree char *part = part_name(image);
        unlinkat(image->dir, part, 0);
    }
    if (image->fd >= 0)
        close(image->fd);
    if (image->dir >= 0)
        close(image->dir);
    g_free(image->name);
    *image = (struct xen_image) XEN_IMAGE_INIT;
}

void xen_image_clean(void)
{
    int state = open(xen.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int dir = state >= 0 ? open_directory(state, "suspend") : -1;
    DIR *files = dir >= 0 ? fdopendir(dir) : NULL;
    for (struct dirent *e = NULL; files != NULL && (e = readdir(files)) != NULL;)
        if (g_str_has_suffix(e->d_name, UNWHOLE))
            unlinkat(dir, e->d_name, 0);
    if (files != NULL)
        closedir(files);
    else if (dir >= 0)
        close(dir);
    if (state >= 0)
        close(state);
}
