/* storage_dir.c - a directory of disk images: opening and locking it, reading what is there, making files visible. */
#include "config.h"
#include "xenbackend/storage/storage_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/codec/jsonrpc.h"
#include "xenbackend/storage/storage_qcow2.h"

#define LABEL        "sr.json"
#define MAX_TEXT     (1024 * 1024) /* of a sidecar */
#define ROOM_TO_KEEP (1024 * 1024) /* what metadata may need */

/* ---- faults ---- */

static gint64 room_left(struct storage_dir *d);

gboolean dir_fault(struct storage_dir *d, const char *what, int err, struct fault *f)
{
    char number[16];
    if (d != NULL && (err == ENOSPC || err == EDQUOT)) {
        g_autofree char *maximum = g_strdup_printf("%" G_GINT64_FORMAT, room_left(d));
        return fault_set(f, "SR_FULL", "0", maximum, NULL);
    }
    g_snprintf(number, sizeof(number), "%d", err);
    g_autofree char *words = g_strdup_printf("%s: %s", what, g_strerror(err));
    return fault_set(f, "SR_BACKEND_FAILURE", number, "", words, NULL);
}

/* ---- opening ---- */

char *dir_path(struct value *device_config, struct fault *f)
{
    const char *path = value_get_str(device_config, "location", NULL);
    if (path == NULL || *path == '\0')
        path = value_get_str(device_config, "path", "");
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    if (*path != '/' || strlen(path) >= PATH_MAX - 2 * IMAGE_NAME_SIZE ||
        g_strv_contains((const char *const *) parts, "..")) {
        fault_set(f, "SR_BACKEND_FAILURE", "22", "", "device_config:location must be an absolute directory", NULL);
        return NULL;
    }
    return g_canonicalize_filename(path, "/");
}

/* The text of a small file, NUL-terminated; NULL when it cannot be read. */
static char *read_text(int dirfd, const char *name, gsize *len)
{
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    struct stat st;
    g_autofree char *text = NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= MAX_TEXT) {
        text = g_malloc((gsize) st.st_size + 1);
        gssize n = read(fd, text, (gsize) st.st_size);
        *len = n > 0 ? (gsize) n : 0;
        text[*len] = '\0';
    }
    close(fd);
    return g_steal_pointer(&text);
}

static struct value *read_json(int dirfd, const char *name)
{
    gsize len = 0;
    g_autofree char *text = read_text(dirfd, name, &len);
    return text != NULL ? json_parse(NULL, text, len, NULL, NULL) : NULL;
}

char *dir_read_label(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    g_autoptr(value) label = read_json(fd, LABEL);
    close(fd);
    const char *uuid = label != NULL ? value_get_str(label, "sr", NULL) : NULL;
    return storage_uuid_is_valid(uuid) ? g_strdup(uuid) : NULL;
}

#define LOCK_TRIES   40
#define LOCK_STEP_US 50000

/* A process of ours that was killed may have left a tool on its way from fork to exec, which holds its lock until then.
 */
static gboolean lock_soon(int fd)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return TRUE;
        if (errno != EWOULDBLOCK)
            return errno == EOPNOTSUPP || errno == ENOSYS || errno == ENOLCK; /* no locks there */
        g_usleep(LOCK_STEP_US);
    }
    return FALSE;
}

/* Another process with the same directory would take our temporary files for leftovers. */
static gboolean take_lock(struct storage_dir *d, struct fault *f)
{
    d->lock_fd = openat(d->fd, ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (d->lock_fd < 0)
        return dir_fault(d, d->path, errno, f);
    if (lock_soon(d->lock_fd))
        return TRUE;
    g_autofree char *words = g_strdup_printf("%s is in use by another SR or another process", d->path);
    return fault_set(f, "SR_BACKEND_FAILURE", "16", "", words, NULL);
}

static gboolean check_label(struct storage_dir *d, const char *uuid, struct fault *f)
{
    g_autofree char *label = dir_read_label(d->path);
    if (label == NULL || uuid == NULL || g_ascii_strcasecmp(label, uuid) == 0)
        return TRUE;
    g_autofree char *words = g_strdup_printf("%s holds the SR %s", d->path, label);
    return fault_set(f, "SR_BACKEND_FAILURE", "17", "", words, NULL);
}

struct storage_dir *dir_open(const char *path, const char *uuid, struct fault *f)
{
    g_autoptr(storage_dir) d = g_new0(struct storage_dir, 1);
    g_mutex_init(&d->lock);
    d->uuid = g_strdup(uuid != NULL ? uuid : "");
    d->path = g_strdup(path);
    d->lock_fd = -1;
    d->making = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    d->refs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    d->still = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_cond_init(&d->merged);
    d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->fd < 0) {
        dir_fault(NULL, path, errno, f);
        return NULL;
    }
    if (!take_lock(d, f) || !check_label(d, uuid, f))
        return NULL;
    return g_steal_pointer(&d);
}

void dir_close(struct storage_dir *d)
{
    if (d == NULL)
        return;
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    if (d->fd >= 0)
        close(d->fd);
    g_hash_table_unref(d->making);
    g_hash_table_unref(d->refs);
    g_hash_table_unref(d->still);
    g_cond_clear(&d->merged);
    g_mutex_clear(&d->lock);
    g_free(d->uuid);
    g_free(d->path);
    g_free(d);
}

/* ---- names ---- */

gboolean name_split(const char *name, char uuid[STORAGE_UUID_LEN + 1], const char **suffix)
{
    if (strlen(name) <= STORAGE_UUID_LEN || name[STORAGE_UUID_LEN] != '.')
        return FALSE;
    g_strlcpy(uuid, name, STORAGE_UUID_LEN + 1);
    *suffix = name + STORAGE_UUID_LEN;
    return storage_uuid_is_valid(uuid);
}

void name_make(char name[IMAGE_NAME_SIZE], const char *uuid, const char *suffix)
{
    g_snprintf(name, IMAGE_NAME_SIZE, "%s%s", uuid, suffix);
}

GPtrArray *dir_names(struct storage_dir *d, struct fault *f)
{
    int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int err = errno;
        if (fd >= 0)
            close(fd);
        dir_fault(d, d->path, err, f);
        return NULL;
    }
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            g_ptr_array_add(names, g_strdup(e->d_name));
    closedir(dir);
    return names;
}

char *dir_file(struct storage_dir *d, const char *name)
{
    return g_build_filename(d->path, name, NULL);
}

/* ---- images ---- */

static gboolean bad_image(const char *name, const char *why, struct fault *f)
{
    g_autofree char *words = g_strdup_printf("%s: %s", name, why);
    return fault_set(f, "SR_BACKEND_FAILURE", "22", "", words, NULL);
}

/* Only bases of this directory are followed: an image must not lead a tool to any other file. */
static gboolean read_backing(struct image *image, const char *backing, struct fault *f)
{
    const char *suffix;
    image->base[0] = '\0';
    if (*backing == '\0')
        return TRUE;
    if (!name_split(backing, image->base, &suffix) || strcmp(suffix, SUFFIX_BASE) != 0)
        return bad_image(image->name, "its backing file is none of this SR", f);
    return TRUE;
}

static gboolean read_image(int fd, const struct stat *st, struct image *image, struct fault *f)
{
    image->physical = (gint64) st->st_blocks * 512;
    image->read_only = (st->st_mode & S_IWUSR) == 0;
    if (!S_ISREG(st->st_mode))
        return bad_image(image->name, "not a file", f);
    if (strcmp(image->type, "raw") == 0) {
        image->virtual_size = st->st_size;
        return TRUE;
    }
    struct qcow2_info info;
    const char *why = "";
    if (!qcow2_read(fd, &info, &why))
        return bad_image(image->name, why, f);
    image->virtual_size = info.virtual_size;
    image->empty = info.empty;
    return read_backing(image, info.backing, f);
}

gboolean dir_image(struct storage_dir *d, const char *name, struct image *image, struct fault *f)
{
    const char *suffix;
    memset(image, 0, sizeof(*image));
    g_strlcpy(image->name, name, sizeof(image->name));
    if (!name_split(name, image->uuid, &suffix))
        return bad_image(name, "not the name of an image", f);
    image->type = strcmp(suffix, SUFFIX_RAW) == 0 ? "raw" : "qcow2";
    struct stat st;
    gboolean read, raw = strcmp(image->type, "raw") == 0; /* what there is to know of one stands outside */
    int fd = raw ? -1 : openat(d->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    gboolean found = raw ? fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 : fd >= 0 && fstat(fd, &st) == 0;
    if (!found && errno == ENOENT)
        return fault_set(f, "VDI_MISSING", d->uuid, image->uuid, NULL);
    read = found ? read_image(fd, &st, image, f) : dir_fault(d, name, errno, f);
    if (fd >= 0)
        close(fd);
    return read;
}

static gboolean exists(struct storage_dir *d, const char *vdi, const char *suffix)
{
    char name[IMAGE_NAME_SIZE];
    name_make(name, vdi, suffix);
    return faccessat(d->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

gboolean dir_has_vdi(struct storage_dir *d, const char *vdi)
{
    return exists(d, vdi, SUFFIX_QCOW2) || exists(d, vdi, SUFFIX_RAW);
}

gboolean dir_vdi(struct storage_dir *d, const char *vdi, struct image *image, struct fault *f)
{
    char name[IMAGE_NAME_SIZE];
    name_make(name, vdi, exists(d, vdi, SUFFIX_RAW) ? SUFFIX_RAW : SUFFIX_QCOW2);
    return dir_image(d, name, image, f);
}

/* ---- making files ---- */

char *dir_tmp(struct storage_dir *d, const char *name)
{
    static gint serial;
    char *tmp = g_strdup_printf("%s.%d.%d.tmp", name, (int) getpid(), g_atomic_int_add(&serial, 1));
    g_mutex_lock(&d->lock);
    g_hash_table_add(d->making, g_strdup(tmp));
    g_mutex_unlock(&d->lock);
    return tmp;
}

void dir_tmp_end(struct storage_dir *d, char *tmp)
{
    if (tmp == NULL)
        return;
    unlinkat(d->fd, tmp, 0);
    g_mutex_lock(&d->lock);
    g_hash_table_remove(d->making, tmp);
    g_mutex_unlock(&d->lock);
    g_free(tmp);
}

gboolean dir_sync(struct storage_dir *d, struct fault *f)
{
    return fsync(d->fd) == 0 || dir_fault(d, d->path, errno, f);
}

gboolean dir_sync_file(struct storage_dir *d, const char *name, struct fault *f)
{
    int fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    gboolean synced = fd >= 0 && fsync(fd) == 0;
    if (!synced)
        dir_fault(d, name, errno, f);
    if (fd >= 0)
        close(fd);
    return synced;
}

gboolean dir_publish(struct storage_dir *d, const char *tmp, const char *name, struct fault *f)
{
    if (renameat(d->fd, tmp, d->fd, name) < 0)
        return dir_fault(d, name, errno, f);
    return dir_sync(d, f);
}

static gboolean write_all(int fd, const char *text, gsize len)
{
    while (len > 0) {
        gssize n = write(fd, text, len);
        if (n < 0 && errno != EINTR)
            return FALSE;
        if (n > 0) {
            text += n;
            len -= (gsize) n;
        }
    }
    return TRUE;
}

/* The directory itself is not synced: what follows does that. The name of the temporary file is not in making: called
 * with the lock, which a scan takes too. */
static gboolean write_json(struct storage_dir *d, const char *name, struct value *v, struct fault *f)
{
    g_autofree char *text = json_text(v);
    g_autofree char *tmp = g_strdup_printf("%s.%d.tmp", name, (int) getpid());
    int fd = openat(d->fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    gboolean done =
        fd >= 0 && write_all(fd, text, strlen(text)) && fsync(fd) == 0 && renameat(d->fd, tmp, d->fd, name) == 0;
    if (!done) {
        dir_fault(d, name, errno, f);
        unlinkat(d->fd, tmp, 0);
    }
    if (fd >= 0)
        close(fd);
    return done;
}

gboolean dir_write_label(struct storage_dir *d, struct fault *f)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "sr", d->uuid);
    value_builder_put(&b, "version", value_int(NULL, 1));
    g_autoptr(value) label = value_builder_end(&b);
    return write_json(d, LABEL, label, f) && dir_sync(d, f);
}

struct value *dir_read_sidecar(struct storage_dir *d, const char *vdi)
{
    char name[IMAGE_NAME_SIZE];
    name_make(name, vdi, SUFFIX_JSON);
    g_autoptr(value) v = read_json(d->fd, name);
    struct value *sm_config = v != NULL ? value_get(v, "sm_config") : NULL;
    return sm_config != NULL ? value_ref(sm_config) : NULL;
}

gboolean dir_write_sidecar(struct storage_dir *d, const char *vdi, struct value *sm_config, const char *origin,
                           struct fault *f)
{
    char name[IMAGE_NAME_SIZE], now[DATETIME_TEXT_SIZE];
    name_make(name, vdi, SUFFIX_JSON);
    datetime_format(g_get_real_time() / G_USEC_PER_SEC, now);
    struct value_builder b;
    value_builder_map(&b, NULL, 4);
    value_builder_put_string(&b, "vdi", vdi);
    value_builder_put_string(&b, "created", now);
    value_builder_put_string(&b, "origin", origin);
    value_builder_put(&b, "sm_config", sm_config != NULL ? value_ref(sm_config) : value_empty_map());
    g_autoptr(value) v = value_builder_end(&b);
    return write_json(d, name, v, f);
}

/* ---- space ---- */

static gint64 allocated(struct storage_dir *d)
{
    gint64 sum = 0;
    g_autoptr(GPtrArray) names = dir_names(d, NULL);
    for (guint i = 0; names != NULL && i < names->len; i++) {
        struct stat st;
        if (fstatat(d->fd, names->pdata[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            sum += (gint64) st.st_blocks * 512;
    }
    return sum;
}

gboolean dir_space(struct storage_dir *d, gint64 *size, gint64 *used, struct fault *f)
{
    struct statvfs fs;
    if (fstatvfs(d->fd, &fs) < 0)
        return dir_fault(d, d->path, errno, f);
    gint64 block = (gint64) fs.f_frsize;
    gint64 left = (gint64) fs.f_bavail * block;
    *size = (gint64) fs.f_blocks * block;
    *used = *size - left;
    if (d->quota > 0) {
        *used = allocated(d);
        *size = MIN(d->quota, *used + left);
    }
    return TRUE;
}

static gint64 room_left(struct storage_dir *d)
{
    gint64 size, used;
    return dir_space(d, &size, &used, NULL) ? MAX(size - used, 0) : 0;
}

gboolean dir_room(struct storage_dir *d, gint64 bytes, struct fault *f)
{
    gint64 left = room_left(d);
    if (bytes <= G_MAXINT64 - ROOM_TO_KEEP && bytes + ROOM_TO_KEEP <= left)
        return TRUE;
    g_autofree char *requested = g_strdup_printf("%" G_GINT64_FORMAT, bytes);
    g_autofree char *maximum = g_strdup_printf("%" G_GINT64_FORMAT, left);
    return fault_set(f, "SR_FULL", requested, maximum, NULL);
}
