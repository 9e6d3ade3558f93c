/* storage_cbt.c - changed block tracking: the logs, and what each kind of image is asked. */
#include "config.h"
#include "xenbackend/storage/storage_cbt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "xenbackend/run.h"
#include "xenbackend/storage/storage_bitmap.h"
#include "xenbackend/storage/storage_qcow2.h"

#define MAGIC      "XENCBT1\n"
#define FLAG_ALL   1U /* nothing is known: every block counts as written */
#define FLAG_SUMS  2U /* the sums follow the bits */
#define SUM_SIZE   16
#define MAX_BITS   (8 * 1024 * 1024) /* bytes; what one answer can hold in Base64 */
#define MAX_LOG    (G_GINT64_CONSTANT(2) << 30)
#define MAX_STEPS  100000
#define TOOL_LIMIT 60

/* As it stands in the file, little-endian; bits and sums follow. */
struct header {
    char magic[8];
    char parent[40]; /* uuid, or nothing */
    char bitmap[40]; /* the name of QEMU's bitmap, while the image is in use; nothing for snapshots and raw images */
    guint64 size;    /* of the disk, in bytes, when bits was written */
    guint32 flags, reserved;
};

struct log {
    struct header h;
    guint8 *bits; /* bitmap_size(h.size) */
    guint8 *sums; /* of the parent's blocks; NULL unless FLAG_SUMS */
};

/* Of those who change logs that are there. Who reads them needs none: each is whole at every moment, and one that leads
 * to a log that is gone is unrelated to what came before. */
static GMutex lock;

/* ---- files ---- */

static char *state_dir;

void cbt_init(const char *dir)
{
    state_dir = g_canonicalize_filename(dir, NULL);
}

/* A directory that is ours and no link: who owns the one above is not trusted. -1 with errno. */
static int open_own(int parent, const char *name, gboolean make)
{
    struct stat st;
    if (make && mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
        return -1;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 022) == 0)
        return fd;
    if (fd >= 0) {
        close(fd);
        errno = EPERM;
    }
    return -1;
}

static int open_logs(const char *sr, gboolean make)
{
    errno = ENOENT;
    int top = state_dir != NULL ? open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int all = top >= 0 ? open_own(top, "cbt", make) : -1;
    int fd = all >= 0 ? open_own(all, sr, make) : -1, err = errno;
    if (all >= 0)
        close(all);
    if (top >= 0)
        close(top);
    errno = err;
    return fd;
}

static gsize sums_size(gint64 size)
{
    return (gsize) ((size + BITMAP_BLOCK - 1) / BITMAP_BLOCK) * SUM_SIZE;
}

static void log_free(struct log *l)
{
    if (l == NULL)
        return;
    g_free(l->bits);
    g_free(l->sums);
    g_free(l);
}
typedef struct log cbt_log;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(cbt_log, log_free)

static struct log *log_new(const char *parent, gint64 size)
{
    struct log *l = g_new0(struct log, 1);
    memcpy(l->h.magic, MAGIC, sizeof l->h.magic);
    g_strlcpy(l->h.parent, parent, sizeof l->h.parent);
    l->h.size = (guint64) size;
    l->bits = g_malloc0(bitmap_size(size) + 1);
    return l;
}

static gboolean read_all(int fd, void *buffer, gsize len)
{
    for (guint8 *p = buffer; len > 0;) {
        gssize n = read(fd, p, MIN(len, (gsize) 1 << 30));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return FALSE;
        p += n;
        len -= (gsize) n;
    }
    return TRUE;
}

static gboolean write_all(int fd, const void *buffer, gsize len)
{
    for (const guint8 *p = buffer; len > 0;) {
        gssize n = write(fd, p, MIN(len, (gsize) 1 << 30));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return FALSE;
        p += n;
        len -= (gsize) n;
    }
    return TRUE;
}

static gboolean header_read(int fd, struct header *h)
{
    if (!read_all(fd, h, sizeof *h) || memcmp(h->magic, MAGIC, sizeof h->magic) != 0)
        return FALSE;
    h->size = GUINT64_FROM_LE(h->size);
    h->flags = GUINT32_FROM_LE(h->flags);
    return h->size <= (guint64) MAX_BITS * 8 * BITMAP_BLOCK && memchr(h->parent, 0, sizeof h->parent) != NULL &&
           memchr(h->bitmap, 0, sizeof h->bitmap) != NULL && (*h->parent == '\0' || storage_uuid_is_valid(h->parent));
}

static struct log *read_log(int dir, const char *name)
{
    struct header h;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    g_autoptr(cbt_log) l = NULL;
    if (fd >= 0 && header_read(fd, &h)) {
        l = log_new("", (gint64) h.size);
        l->h = h;
        if ((h.flags & FLAG_SUMS) != 0)
            l->sums = g_malloc(sums_size((gint64) h.size) + 1);
        if (!read_all(fd, l->bits, bitmap_size((gint64) h.size)) ||
            (l->sums != NULL && !read_all(fd, l->sums, sums_size((gint64) h.size))))
            g_clear_pointer(&l, log_free);
    }
    if (fd >= 0 && l == NULL)
        g_warning("the log of changed blocks of %s is damaged", name);
    if (fd >= 0)
        close(fd);
    return g_steal_pointer(&l);
}

static struct log *log_load(const char *sr, const char *vdi)
{
    int dir = open_logs(sr, FALSE);
    struct log *l = dir >= 0 ? read_log(dir, vdi) : NULL;
    if (dir >= 0)
        close(dir);
    return l;
}

static gboolean write_log(int dir, const char *tmp, const struct log *l)
{
    struct header h = l->h;
    h.size = GUINT64_TO_LE(h.size);
    h.flags = GUINT32_TO_LE((l->h.flags & FLAG_ALL) | (l->sums != NULL ? FLAG_SUMS : 0));
    int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    gboolean done = fd >= 0 && write_all(fd, &h, sizeof h) && write_all(fd, l->bits, bitmap_size((gint64) l->h.size)) &&
                    (l->sums == NULL || write_all(fd, l->sums, sums_size((gint64) l->h.size))) && fsync(fd) == 0;
    int err = errno;
    if (fd >= 0)
        close(fd);
    errno = err;
    return done;
}

static gboolean log_fault(struct fault *f)
{
    char number[16];
    g_snprintf(number, sizeof number, "%d", errno);
    g_autofree char *words = g_strdup_printf("the log of changed blocks: %s", g_strerror(errno));
    return f != NULL && fault_set(f, "SR_BACKEND_FAILURE", number, "", words, NULL);
}

/* Whole or not at all. */
static gboolean log_save(const char *sr, const char *vdi, const struct log *l, struct fault *f)
{
    int dir = open_logs(sr, TRUE);
    g_autofree char *tmp = g_strconcat(vdi, ".tmp", NULL);
    gboolean done = dir >= 0 && write_log(dir, tmp, l) && renameat(dir, tmp, dir, vdi) == 0 && fsync(dir) == 0;
    if (!done) {
        log_fault(f);
        if (dir >= 0)
            unlinkat(dir, tmp, 0);
    }
    if (dir >= 0)
        close(dir);
    return done;
}

static void log_remove(const char *sr, const char *vdi)
{
    int dir = open_logs(sr, FALSE);
    if (dir < 0)
        return;
    unlinkat(dir, vdi, 0);
    close(dir);
}

/* ---- bits ---- */

static void set_all(guint8 *bits, gint64 size)
{
    memset(bits, 0xff, bitmap_size(size));
}

/* No bit stands for what lies behind the end. */
static void cut_tail(guint8 *bits, gint64 size)
{
    guint tail = (guint) ((size + BITMAP_BLOCK - 1) / BITMAP_BLOCK % 8);
    if (tail != 0)
        bits[bitmap_size(size) - 1] &= (guint8) (0xff << (8 - tail));
}

static void merge_bits(guint8 *bits, gint64 size, const guint8 *more, gint64 more_size)
{
    gsize n = bitmap_size(MIN(size, more_size));
    for (gsize i = 0; i < n; i++)
        bits[i] |= more[i];
}

static void set_bit(guint8 *bits, gsize block)
{
    bits[block / 8] |= (guint8) (0x80 >> block % 8);
}

/* ---- qcow2: QEMU's bitmap ---- */

static gboolean qemu_bitmap(const char *path, const char *action, const char *name, struct fault *f)
{
    struct run_options o = {.timeout_s = TOOL_LIMIT};
    const char *const add[] = {"qemu-img", "bitmap", "--add", "--enable", "-g", "64K", "-f", "qcow2", path, name, NULL};
    const char *const other[] = {"qemu-img", "bitmap", action, "-f", "qcow2", path, name, NULL};
    return run_tool(strcmp(action, "--add") == 0 ? add : other, &o, NULL, f);
}

/* The image that this one is a difference to, in the same directory; NULL when it is none. Heap. */
static char *backing_path(const char *path, const struct qcow2_info *info)
{
    if (*info->backing == '\0' || strchr(info->backing, '/') != NULL || *info->backing == '.')
        return NULL;
    g_autofree char *dir = g_path_get_dirname(path);
    return g_build_filename(dir, info->backing, NULL);
}

/* Looks into the image, and, after a snapshot, into what it was until then. */
static enum bitmap_found read_bitmap(const char *path, const char *name, gboolean deep, gint64 size, guint8 *bits)
{
    struct qcow2_info info;
    const char *why;
    int fd = storage_open_path(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0)
        return BITMAP_UNUSABLE;
    enum bitmap_found found = BITMAP_UNUSABLE;
    g_autofree char *below = NULL;
    if (qcow2_read(fd, &info, &why)) {
        found = qcow2_bitmap_read(fd, name, MIN(size, info.virtual_size), bits);
        below = backing_path(path, &info);
    }
    close(fd);
    return found == BITMAP_MISSING && deep && below != NULL ? read_bitmap(below, name, FALSE, size, bits) : found;
}

static gboolean nothing_written(const char *path)
{
    struct qcow2_info info;
    const char *why;
    int fd = storage_open_path(path, O_RDONLY | O_NONBLOCK);
    gboolean empty = fd >= 0 && qcow2_read(fd, &info, &why) && info.empty;
    if (fd >= 0)
        close(fd);
    return empty;
}

/* ---- raw: sums ---- */

static gboolean all_zero(const guint8 *p, gsize len)
{
    return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static void sum_block(const guint8 *data, gsize len, guint8 sum[SUM_SIZE])
{
    guint8 digest[32];
    gsize n = sizeof digest;
    if (all_zero(data, len)) {
        memset(sum, 0, SUM_SIZE);
        return;
    }
    GChecksum *c = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(c, data, (gssize) len);
    g_checksum_get_digest(c, digest, &n);
    g_checksum_free(c);
    memcpy(sum, digest, SUM_SIZE);
}

static gboolean cancelled(const struct storage_job *job)
{
    return job != NULL && job->cancel != NULL && g_atomic_int_get(job->cancel) != 0;
}

/* Of each block of the image; NULL when it cannot be read to its end. Heap. */
static guint8 *read_sums(const char *path, gint64 size, const struct storage_job *job)
{
    int fd = storage_open_path(path, O_RDONLY | O_NONBLOCK);
    g_autofree guint8 *sums = g_malloc0(sums_size(size) + 1), *data = g_malloc(BITMAP_BLOCK);
    gboolean read = fd >= 0;
    for (gint64 at = 0; read && at < size; at += BITMAP_BLOCK) {
        gint64 next = lseek(fd, at, SEEK_DATA);
        if (next < 0 && errno == ENXIO)
            break; /* a hole to the end */
        if (next > at)
            at = next / BITMAP_BLOCK * BITMAP_BLOCK;
        gsize n = (gsize) MIN(BITMAP_BLOCK, size - at);
        read = !cancelled(job) && pread(fd, data, n, at) == (gssize) n;
        if (read)
            sum_block(data, n, sums + at / BITMAP_BLOCK * SUM_SIZE);
    }
    if (fd >= 0)
        close(fd);
    return read ? g_steal_pointer(&sums) : NULL;
}

static void compare_sums(const struct log *l, const guint8 *now, gint64 size, guint8 *bits)
{
    static const guint8 none[SUM_SIZE];
    gsize blocks = sums_size(size) / SUM_SIZE, known = sums_size((gint64) l->h.size) / SUM_SIZE;
    for (gsize i = 0; i < blocks; i++)
        if (memcmp(now + i * SUM_SIZE, i < known ? l->sums + i * SUM_SIZE : none, SUM_SIZE) != 0)
            set_bit(bits, i);
}

/* ---- what was written since the log's parent ---- */

struct image_file {
    char *path;
    const char *format;
    gint64 size;
};

static void image_file_clear(struct image_file *i)
{
    g_clear_pointer(&i->path, g_free);
}
typedef struct image_file image_file;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(image_file, image_file_clear)

static gboolean find_file(struct storage_sr *s, const char *vdi, struct image_file *i, struct fault *f)
{
    struct storage_vdi v = {0};
    if (!s->driver->vdi_stat(s->sr, vdi, &v, f))
        return FALSE;
    i->size = v.virtual_size;
    storage_vdi_clear(&v);
    return s->driver->vdi_path(s->sr, vdi, &i->path, &i->format, f);
}

/* The bits of a log, of size bytes. image is NULL for one that has no image any more, or that nobody writes to. deep:
 * see read_bitmap. sums: those of a raw image as it is now, kept for the next log; may be NULL. Heap. */
static guint8 *bits_of(const struct log *l, const struct image_file *image, gboolean deep, gint64 size, guint8 **sums,
                       const struct storage_job *job)
{
    g_autofree guint8 *bits = g_malloc0(bitmap_size(size) + 1);
    g_autofree guint8 *now = NULL;
    gboolean known = (l->h.flags & FLAG_ALL) == 0;
    merge_bits(bits, size, l->bits, (gint64) l->h.size);
    if (image != NULL && strcmp(image->format, "raw") == 0) {
        now = read_sums(image->path, image->size, job);
        known = known && now != NULL && l->sums != NULL;
        if (known)
            compare_sums(l, now, MIN(size, image->size), bits);
    } else if (known && *l->h.bitmap != '\0') {
        known = image != NULL && read_bitmap(image->path, l->h.bitmap, deep, size, bits) == BITMAP_READ;
    }
    if (!known)
        set_all(bits, size);
    cut_tail(bits, size);
    if (sums != NULL)
        *sums = g_steal_pointer(&now);
    return g_steal_pointer(&bits);
}

/* ---- for storage.c ---- */

static void new_name(struct log *l)
{
    char uuid[STORAGE_UUID_LEN + 1];
    storage_uuid_new(uuid);
    g_snprintf(l->h.bitmap, sizeof l->h.bitmap, "%s", uuid);
}

gboolean cbt_is_enabled(const struct storage_sr *s, const char *vdi)
{
    int dir = open_logs(s->uuid, FALSE);
    gboolean there = dir >= 0 && faccessat(dir, vdi, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (dir >= 0)
        close(dir);
    return there;
}

static gboolean begin(struct storage_sr *s, const char *vdi, struct fault *f)
{
    g_auto(image_file) image = {0};
    if (s->driver->vdi_snapshot == NULL)
        return storage_unsupported(s->uuid, f);
    if (!find_file(s, vdi, &image, f))
        return FALSE;
    if (bitmap_size(image.size) > MAX_BITS) {
        g_autofree char *most = g_strdup_printf("%" G_GINT64_FORMAT, (gint64) MAX_BITS * 8 * BITMAP_BLOCK);
        return fault_set(f, "VDI_TOO_LARGE", vdi, most, NULL);
    }
    g_autoptr(cbt_log) l = log_new("", image.size);
    l->h.flags = FLAG_ALL; /* all that was there before nobody has seen */
    if (strcmp(image.format, "qcow2") == 0) {
        new_name(l);
        if (!qemu_bitmap(image.path, "--add", l->h.bitmap, f))
            return FALSE;
    }
    if (log_save(s->uuid, vdi, l, f))
        return TRUE;
    if (*l->h.bitmap != '\0')
        qemu_bitmap(image.path, "--remove", l->h.bitmap, NULL);
    return FALSE;
}

gboolean cbt_enable(struct storage_sr *s, const char *vdi, struct fault *f)
{
    g_mutex_lock(&lock);
    g_autoptr(cbt_log) there = log_load(s->uuid, vdi);
    gboolean done = there != NULL || begin(s, vdi, f);
    g_mutex_unlock(&lock);
    return done;
}

/* A bitmap that stays costs little and means nothing any more. */
static void drop_bitmap(struct storage_sr *s, const char *vdi, const char *name)
{
    g_auto(image_file) image = {0};
    struct fault f = FAULT_INIT;
    if (*name != '\0' && find_file(s, vdi, &image, &f) && strcmp(image.format, "qcow2") == 0)
        qemu_bitmap(image.path, "--remove", name, &f);
    fault_clear(&f);
}

gboolean cbt_disable(struct storage_sr *s, const char *vdi, struct fault *f G_GNUC_UNUSED)
{
    g_mutex_lock(&lock);
    g_autoptr(cbt_log) l = log_load(s->uuid, vdi);
    log_remove(s->uuid, vdi);
    if (l != NULL)
        drop_bitmap(s, vdi, l->h.bitmap);
    g_mutex_unlock(&lock);
    return TRUE;
}

/* Its name is the base's: so the snapshot, which comes later, knows it. Without it all counts as written. */
void cbt_freeze(struct storage_sr *s, const char *vdi, const char *path, const char *base)
{
    struct fault f = FAULT_INIT;
    if (cbt_is_enabled(s, vdi) && !qemu_bitmap(path, "--add", base, &f)) {
        g_autofree char *text = fault_text(&f);
        g_warning("changed blocks of %s are not counted until its next snapshot: %s", vdi, text);
    }
    fault_clear(&f);
}

/* The image counts anew from its snapshot on. Whoever wrote between the snapshot and the new bitmap was not counted.
 * frozen: it counts already, and somebody has it open. */
static void count_anew(struct log *next, const struct log *old, const struct image_file *image, const char *frozen)
{
    struct fault f = FAULT_INIT;
    if (strcmp(image->format, "qcow2") != 0)
        return;
    if (frozen != NULL) {
        g_strlcpy(next->h.bitmap, frozen, sizeof next->h.bitmap);
        return;
    }
    new_name(next);
    if (!qemu_bitmap(image->path, "--add", next->h.bitmap, &f) || !nothing_written(image->path))
        next->h.flags |= FLAG_ALL;
    fault_clear(&f);
    qemu_bitmap(image->path, "--remove", old->h.bitmap, &f); /* in an image that was empty and is used on */
    fault_clear(&f);
}

static gboolean keep(struct storage_sr *s, const char *vdi, const char *new, const struct log *old,
                     const struct storage_job *job)
{
    g_auto(image_file) image = {0}, snapshot = {0};
    struct fault f = FAULT_INIT;
    guint8 *sums = NULL;
    if (!find_file(s, vdi, &image, &f) || !find_file(s, new, &snapshot, &f)) {
        fault_clear(&f);
        return FALSE;
    }
    gboolean raw = strcmp(image.format, "raw") == 0;
    g_autoptr(cbt_log) frozen = log_new(old->h.parent, snapshot.size), next = log_new(new, image.size);
    g_free(frozen->bits);
    /* Of a raw image its copy is read, to which nobody writes. */
    frozen->bits = bits_of(old, raw ? &snapshot : &image, TRUE, snapshot.size, &sums, job);
    next->sums = sums;
    count_anew(next, old, &image, job != NULL ? job->base : NULL);
    gboolean saved = log_save(s->uuid, new, frozen, &f) && log_save(s->uuid, vdi, next, &f);
    if (!saved) {
        g_autofree char *text = fault_text(&f);
        g_warning("changed blocks of %s are not tracked any more: %s", vdi, text);
        log_remove(s->uuid, new);
        log_remove(s->uuid, vdi);
    }
    fault_clear(&f);
    return saved;
}

gboolean cbt_snapshot(struct storage_sr *s, const char *vdi, const char *new, const struct storage_job *job)
{
    g_autoptr(cbt_log) old = log_load(s->uuid, vdi);
    return old != NULL && keep(s, vdi, new, old, job);
}

/* ---- the end of an image ---- */

static void inherit(const char *sr, const char *child, struct log *l, const struct log *gone)
{
    struct fault f = FAULT_INIT;
    g_strlcpy(l->h.parent, gone->h.parent, sizeof l->h.parent);
    merge_bits(l->bits, (gint64) l->h.size, gone->bits, (gint64) gone->h.size);
    l->h.flags |= gone->h.flags & FLAG_ALL;
    if (!log_save(sr, child, l, &f))
        log_remove(sr, child); /* better no log than one that lacks something */
    fault_clear(&f);
}

/* The log whose parent has that uuid: its name; NULL when there is none. Heap. */
static char *find_child(const char *sr, const char *parent)
{
    int fd = open_logs(sr, FALSE);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    char *found = NULL;
    for (struct dirent *e; dir != NULL && found == NULL && (e = readdir(dir)) != NULL;) {
        struct header h;
        int log = storage_uuid_is_valid(e->d_name) ? openat(fd, e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (log >= 0 && header_read(log, &h) && strcmp(h.parent, parent) == 0)
            found = g_strdup(e->d_name);
        if (log >= 0)
            close(log);
    }
    if (dir != NULL)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
    return found;
}

void cbt_forget(struct storage_sr *s, const char *vdi)
{
    g_mutex_lock(&lock);
    g_autoptr(cbt_log) gone = log_load(s->uuid, vdi);
    g_autofree char *child = gone != NULL ? find_child(s->uuid, vdi) : NULL;
    g_autoptr(cbt_log) l = child != NULL ? log_load(s->uuid, child) : NULL;
    if (l != NULL)
        inherit(s->uuid, child, l, gone);
    log_remove(s->uuid, vdi);
    g_mutex_unlock(&lock);
}

void cbt_forget_all(const char *sr)
{
    g_mutex_lock(&lock);
    int fd = open_logs(sr, FALSE);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
        if (*e->d_name != '.')
            unlinkat(fd, e->d_name, 0);
    if (dir != NULL)
        closedir(dir);
    g_mutex_unlock(&lock);
}

/* ---- the question ---- */

/* One step back: what was written to vdi since its parent is added. NULL with f set. */
static gboolean add_step(struct storage_sr *s, const char *vdi, const struct log *l, gint64 size, guint8 *bits,
                         const struct storage_job *job, struct fault *f)
{
    g_auto(image_file) image = {0};
    gboolean in_use = *l->h.bitmap != '\0' || l->sums != NULL;
    if (in_use && !find_file(s, vdi, &image, f))
        return FALSE;
    g_autofree guint8 *more = bits_of(l, in_use ? &image : NULL, FALSE, size, NULL, job);
    if (cancelled(job))
        return fault_set(f, "TASK_CANCELLED", "", NULL);
    merge_bits(bits, size, more, size);
    return TRUE;
}

static gint64 size_of(struct storage_sr *s, const char *vdi, const struct log *l)
{
    struct storage_vdi v = {0};
    struct fault f = FAULT_INIT;
    gint64 size = s->driver->vdi_stat(s->sr, vdi, &v, &f) ? v.virtual_size : (gint64) l->h.size;
    storage_vdi_clear(&v);
    fault_clear(&f);
    return MIN(size, (gint64) MAX_BITS * 8 * BITMAP_BLOCK);
}

static gboolean unrelated(struct fault *f)
{
    return fault_set(f, "SR_BACKEND_FAILURE", "460", "",
                     "Failed to calculate changed blocks for given VDIs. [opterr=Source and target VDI are unrelated]",
                     NULL);
}

static gboolean walk(struct storage_sr *s, const char *from, const char *to, gint64 size, guint8 *bits,
                     const struct storage_job *job, struct fault *f)
{
    char at[STORAGE_UUID_LEN + 1];
    g_strlcpy(at, to, sizeof at);
    for (int i = 0; strcmp(at, from) != 0; i++) {
        g_autoptr(cbt_log) l = i < MAX_STEPS ? log_load(s->uuid, at) : NULL;
        if (l == NULL || *l->h.parent == '\0')
            return unrelated(f);
        if (!add_step(s, at, l, size, bits, job, f))
            return FALSE;
        g_strlcpy(at, l->h.parent, sizeof at);
    }
    return TRUE;
}

static gboolean has_log(struct storage_sr *s, const char *vdi, struct fault *f)
{
    return cbt_is_enabled(s, vdi) || fault_set(f, "VDI_NO_CBT_METADATA", vdi, NULL);
}

char *cbt_changed(struct storage_sr *s, const char *from, const char *to, const struct storage_job *job,
                  struct fault *f)
{
    char *text = NULL;
    if (!has_log(s, from, f) || !has_log(s, to, f))
        return NULL;
    g_autoptr(cbt_log) last = log_load(s->uuid, to);
    gint64 size = last != NULL ? size_of(s, to, last) : 0;
    g_autofree guint8 *bits = g_malloc0(bitmap_size(size) + 1);
    if (last == NULL)
        fault_set(f, "VDI_NO_CBT_METADATA", to, NULL);
    else if (walk(s, from, to, size, bits, job, f))
        text = g_base64_encode(bits, bitmap_size(size));
    return text;
}
