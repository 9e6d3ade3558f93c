/* storage_file_coalesce.c - the driver `file`: a base that only one image needs is merged with that image.
 *
 * What the upper image (a base, or a VDI that nobody uses) holds is written into the base below it. Whoever reads the
 * upper image, whatever it has open or remembers, does not see that: the upper one covers exactly what is written. When
 * it is whole on the medium, the lower file gets the upper one's name in one rename. So at every moment each name
 * stands for the same content, and what is cut off anywhere is begun again, or left as it is. The upper image's name,
 * not the lower one's, stays, because that is what others refer to.
 *
 * Nobody may write to either meanwhile. A base is written to by nobody, except the one below a VDI in use that was
 * about to be snapshotted (vdi_freeze): so that one is left alone. A base that may be written to by us has the bit for
 * that in its mode, also after a crash: then it is looked through before it is used on. */
#include "config.h"
#include "xenbackend/storage/storage_file_chain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/codec/jsonrpc.h"
#include "xenbackend/run.h"

#define TOOL_LIMIT       60 /* seconds, and one more for each of these bytes that are written */
#define BYTES_A_SECOND   ((gint64) 1 << 20)
#define QEMU_WRITER_BYTE 101                  /* of an image: QEMU has a lock on it while it may write to it */
#define OPENING_US       (1 * G_USEC_PER_SEC) /* who found a name in a header has opened it by then */
#define STEP_US          50000

/* ---- the look ---- */

gboolean file_may_coalesce(void *sr)
{
    struct storage_dir *d = sr;
    GHashTableIter iter;
    void *n;
    gboolean may = FALSE;
    g_mutex_lock(&d->lock);
    g_hash_table_iter_init(&iter, d->refs);
    while (d->refs_known && !may && g_hash_table_iter_next(&iter, NULL, &n))
        may = GPOINTER_TO_UINT(n) == 1;
    g_mutex_unlock(&d->lock);
    return may;
}

/* What is there now; from now on those are taken out whose path is asked for. */
static gboolean begin_watch(struct storage_dir *d, struct fault *f)
{
    g_autoptr(GPtrArray) names = dir_names(d, f);
    g_hash_table_remove_all(d->still);
    for (guint i = 0; names != NULL && i < names->len; i++) {
        char uuid[STORAGE_UUID_LEN + 1];
        const char *suffix;
        if (name_split(names->pdata[i], uuid, &suffix) &&
            (strcmp(suffix, SUFFIX_QCOW2) == 0 || strcmp(suffix, SUFFIX_BASE) == 0))
            g_hash_table_add(d->still, g_strdup(uuid));
    }
    return names != NULL;
}

gboolean file_coalesce_look(void *sr, GPtrArray *vdis, struct fault *f)
{
    struct storage_dir *d = sr;
    g_auto(chains) c = {0};
    g_mutex_lock(&d->lock);
    gboolean begun = begin_watch(d, f);
    g_mutex_unlock(&d->lock);
    if (!begun || !chains_read(d, &c, NULL, f))
        return FALSE;
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, c.vdis);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct image *vdi = value, *base = g_hash_table_lookup(c.bases, vdi->base);
        if (base != NULL && (chains_mate(&c, vdi) != NULL || chains_mate(&c, base) != NULL || !base->read_only))
            g_ptr_array_add(vdis, g_strdup(vdi->uuid));
    }
    return TRUE;
}

/* With the lock. */
void file_leave_alone(struct storage_dir *d, const char *vdi)
{
    g_hash_table_remove(d->still, vdi);
    while (strcmp(d->merging, vdi) == 0) {
        g_atomic_int_set(d->stop, 1);
        g_cond_wait(&d->merged, &d->lock);
    }
}

/* ---- one step ---- */

struct work {
    struct storage_dir *d;
    const struct storage_coalesce *who;
    gint *stop;         /* the job's, or ours: also set by who wants the VDI that is being merged */
    GHashTable *failed; /* names of upper images, or of bases that could not be repaired */
    GPtrArray *names;   /* of bases that are another name for what took their place */
};

struct step {
    struct image upper, lower; /* no upper: lower is looked through */
    gboolean is_vdi, grow;
    struct stat was; /* upper, when it began */
};

static gboolean is_stopped(const struct work *w)
{
    return g_atomic_int_get(w->stop) != 0;
}

/* Those that were there at the look, of VDIs those whose path nobody asked for since. */
static gboolean is_still(struct storage_dir *d, const char *uuid)
{
    g_mutex_lock(&d->lock);
    gboolean still = g_hash_table_contains(d->still, uuid);
    g_mutex_unlock(&d->lock);
    return still;
}

/* Nobody has any VDI open that is above it, or is about to open one. */
static gboolean all_above_are_still(const struct work *w, const struct chains *c, const struct image *base)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, c->vdis);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct image *vdi = value;
        if (chains_is_above(c, vdi, base) &&
            (!g_hash_table_contains(w->who->idle, vdi->uuid) || !is_still(w->d, vdi->uuid)))
            return FALSE;
    }
    return TRUE;
}

static gboolean may_try(const struct work *w, const struct image *image)
{
    return !g_hash_table_contains(w->failed, image->name) && is_still(w->d, image->uuid);
}

/* A larger one makes the table of the lower image's clusters move: nobody may be about to open it. */
static gboolean base_fits(const struct work *w, const struct chains *c, const struct image *base)
{
    const struct image *lower = chains_mate(c, base);
    return lower != NULL && may_try(w, base) && is_still(w->d, lower->uuid) &&
           !g_hash_table_contains(c->in_use, base->uuid) &&
           (base->virtual_size == lower->virtual_size || all_above_are_still(w, c, base));
}

static gboolean vdi_fits(const struct work *w, const struct chains *c, const struct image *vdi)
{
    const struct image *lower = chains_mate(c, vdi);
    return lower != NULL && may_try(w, vdi) && is_still(w->d, lower->uuid) &&
           g_hash_table_contains(w->who->merge, vdi->uuid);
}

static void step_of(struct step *s, const struct chains *c, const struct image *upper, gboolean is_vdi)
{
    s->upper = *upper;
    s->lower = *(const struct image *) g_hash_table_lookup(c->bases, upper->base);
    s->is_vdi = is_vdi;
    s->grow = s->upper.virtual_size != s->lower.virtual_size;
}

/* From below, so that nothing is written twice; VDIs come last. */
static gboolean choose(const struct work *w, const struct chains *c, struct step *s)
{
    GHashTableIter iter;
    void *value;
    memset(s, 0, sizeof *s);
    g_hash_table_iter_init(&iter, c->bases);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct image *base = value;
        if (base->read_only || chains_count(c->users, base->uuid) == 0 || !may_try(w, base) ||
            g_hash_table_contains(c->in_use, base->uuid))
            continue;
        s->lower = *base;
        return TRUE;
    }
    g_hash_table_iter_init(&iter, c->bases);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct image *base = value;
        if (!base_fits(w, c, base) || base_fits(w, c, chains_mate(c, base)))
            continue;
        step_of(s, c, base, FALSE);
        return TRUE;
    }
    g_hash_table_iter_init(&iter, c->vdis);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (!vdi_fits(w, c, value))
            continue;
        step_of(s, c, value, TRUE);
        return TRUE;
    }
    return FALSE;
}

/* ---- the tools ---- */

/* The file without QEMU's locks: others may have it open, and open it, meanwhile. */
static struct value *node(struct storage_dir *d, const struct image *image, struct value *backing)
{
    struct value_builder b, file;
    g_autofree char *path = dir_file(d, image->name);
    value_builder_map(&file, NULL, 3);
    value_builder_put_string(&file, "driver", "file");
    value_builder_put_string(&file, "filename", path);
    value_builder_put_string(&file, "locking", "off");
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "driver", "qcow2");
    value_builder_put(&b, "file", value_builder_end(&file));
    if (backing != NULL)
        value_builder_put(&b, "backing", backing);
    return value_builder_end(&b);
}

/* Takes over v. */
static char *node_name(struct value *v)
{
    g_autofree char *text = json_text(v);
    value_unref(v);
    return g_strconcat("json:", text, NULL);
}

static gboolean run(struct work *w, const char *const *args, gint64 bytes, struct fault *f)
{
    struct run_options o = {.timeout_s = TOOL_LIMIT + (int) MIN(bytes / BYTES_A_SECOND, G_MAXINT / 2),
                            .cancel = w->stop};
    return run_tool(args, &o, NULL, f);
}

/* What a tool that was killed may have left behind: clusters that belong to nothing. */
static gboolean repair(struct work *w, const struct image *image, struct fault *f)
{
    g_autofree char *name = node_name(node(w->d, image, NULL));
    const char *const args[] = {"qemu-img", "check", "-q", "-r", "leaks", name, NULL};
    return run(w, args, image->physical, f);
}

static gboolean grow(struct work *w, const struct step *s, struct fault *f)
{
    g_autofree char *name = node_name(node(w->d, &s->lower, NULL));
    g_autofree char *bytes = g_strdup_printf("%" G_GINT64_FORMAT, s->upper.virtual_size);
    const char *const args[] = {"qemu-img", "resize", "-q", name, bytes, NULL};
    return run(w, args, 0, f);
}

static gboolean commit(struct work *w, const struct step *s, struct fault *f)
{
    g_autofree char *name = node_name(node(w->d, &s->upper, node(w->d, &s->lower, NULL)));
    const char *const args[] = {"qemu-img", "commit", "-q", "-d", name, NULL};
    return run(w, args, s->upper.physical, f) && dir_sync_file(w->d, s->lower.name, f);
}

/* ---- before and after ---- */

static gboolean not_now(const struct image *image, const char *why, struct fault *f)
{
    g_autofree char *words = g_strdup_printf("%s: %s", image->name, why);
    return fault_set(f, "SR_BACKEND_FAILURE", "16", "", words, NULL);
}

/* The front says who uses what; this is for programs that it does not know of. */
static gboolean nobody_writes(struct storage_dir *d, const struct image *image, struct fault *f)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = QEMU_WRITER_BYTE, .l_len = 1};
    int fd = openat(d->fd, image->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    gboolean told = fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0;
    if (fd >= 0)
        close(fd);
    return fd >= 0 && (!told || lock.l_type == F_UNLCK) ? TRUE : not_now(image, "somebody writes to it", f);
}

/* With the lock: both are what they were found as, and nobody else needs the lower one. */
static gboolean is_as_it_was(const struct work *w, const struct step *s, struct stat *st, struct fault *f)
{
    struct storage_dir *d = w->d;
    struct image upper, lower;
    if (!dir_image(d, s->lower.name, &lower, f) || !dir_image(d, s->upper.name, &upper, f))
        return FALSE;
    if (fstatat(d->fd, upper.name, st, AT_SYMLINK_NOFOLLOW) < 0)
        return dir_fault(d, upper.name, errno, f);
    if (!d->refs_known || strcmp(upper.base, lower.uuid) != 0 || chains_count(d->refs, lower.uuid) != 1 ||
        upper.virtual_size != s->upper.virtual_size)
        return not_now(&upper, "it has changed", f);
    if (s->is_vdi && !g_hash_table_contains(d->still, upper.uuid))
        return not_now(&upper, "it is used", f);
    return nobody_writes(d, &upper, f) && nobody_writes(d, &lower, f);
}

/* With the lock. */
static gboolean begin(struct work *w, struct step *s, struct fault *f)
{
    struct storage_dir *d = w->d;
    if (!is_as_it_was(w, s, &s->was, f) || !dir_room(d, s->upper.physical, f))
        return FALSE;
    if (fchmodat(d->fd, s->lower.name, 0600, 0) < 0 || (!s->is_vdi && fchmodat(d->fd, s->upper.name, 0600, 0) < 0))
        return dir_fault(d, s->lower.name, errno, f);
    if (s->grow && !grow(w, s, f))
        return FALSE;
    if (s->is_vdi)
        g_strlcpy(d->merging, s->upper.uuid, sizeof d->merging);
    d->stop = w->stop;
    return TRUE;
}

/* With the lock: the lower file takes the upper one's name. It keeps its own, too, for those who have read that in the
 * upper one's header and are about to open it. */
static gboolean publish(struct work *w, const struct step *s, const char *tmp, struct fault *f)
{
    struct storage_dir *d = w->d;
    struct stat now;
    if (!is_as_it_was(w, s, &now, f))
        return FALSE;
    if (now.st_ino != s->was.st_ino || now.st_size != s->was.st_size || now.st_mtim.tv_sec != s->was.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != s->was.st_mtim.tv_nsec)
        return not_now(&s->upper, "somebody wrote to it", f);
    if ((!s->is_vdi && fchmodat(d->fd, s->lower.name, 0400, 0) < 0) ||
        linkat(d->fd, s->lower.name, d->fd, tmp, 0) < 0 || renameat(d->fd, tmp, d->fd, s->upper.name) < 0)
        return dir_fault(d, s->upper.name, errno, f);
    g_hash_table_remove(d->refs, s->lower.uuid);
    file_ref_base(d, s->lower.base);
    g_ptr_array_add(w->names, g_strdup(s->lower.name));
    return dir_sync(d, f);
}

/* With the lock. */
static void end(struct work *w, const struct step *s, gboolean done)
{
    struct storage_dir *d = w->d;
    if (!done && !s->is_vdi)
        fchmodat(d->fd, s->upper.name, 0400, 0);
    d->stop = NULL;
    *d->merging = '\0';
    g_cond_broadcast(&d->merged);
}

static gboolean merge(struct work *w, struct step *s, struct fault *f)
{
    struct storage_dir *d = w->d;
    char *tmp = dir_tmp(d, s->upper.uuid);
    g_mutex_lock(&d->lock);
    gboolean begun = begin(w, s, f);
    g_mutex_unlock(&d->lock);
    gboolean done = begun && commit(w, s, f);
    g_mutex_lock(&d->lock);
    done = done && publish(w, s, tmp, f);
    if (begun)
        end(w, s, done);
    g_mutex_unlock(&d->lock);
    dir_tmp_end(d, tmp);
    return done;
}

/* The image is a base that we wrote to, or were about to. */
static gboolean look_through(struct work *w, const struct image *base, struct fault *f)
{
    if (!nobody_writes(w->d, base, f) || !repair(w, base, f) || !dir_sync_file(w->d, base->name, f))
        return FALSE;
    return fchmodat(w->d->fd, base->name, 0400, 0) == 0 || dir_fault(w->d, base->name, errno, f);
}

/* ---- all of them ---- */

static void tell_changed(struct storage_dir *d, const struct step *s, GPtrArray *changed)
{
    struct image now;
    struct fault f = FAULT_INIT;
    struct storage_vdi *v = g_new0(struct storage_vdi, 1);
    g_mutex_lock(&d->lock);
    if (dir_image(d, s->upper.name, &now, &f)) {
        file_describe(d, &now, v);
        g_ptr_array_add(changed, g_steal_pointer(&v));
    }
    g_mutex_unlock(&d->lock);
    fault_clear(&f);
    g_free(v);
}

static void do_step(struct work *w, struct step *s, GPtrArray *changed)
{
    struct fault f = FAULT_INIT;
    const struct image *image = *s->upper.name != '\0' ? &s->upper : &s->lower;
    gboolean done = image == &s->lower ? look_through(w, image, &f) : merge(w, s, &f);
    if (done && s->is_vdi)
        tell_changed(w->d, s, changed);
    if (!done) {
        g_autofree char *why = fault_text(&f);
        g_hash_table_add(w->failed, g_strdup(image->name));
        g_info("%s: %s is left as it is: %s", w->d->path, image->name, why);
    }
    fault_clear(&f);
}

/* Their other name is in use by now. */
static void remove_names(struct work *w)
{
    struct storage_dir *d = w->d;
    gint64 until = g_get_monotonic_time() + OPENING_US;
    while (w->names->len > 0 && !is_stopped(w) && g_get_monotonic_time() < until)
        g_usleep(STEP_US);
    g_mutex_lock(&d->lock);
    for (guint i = 0; i < w->names->len; i++) {
        struct fault f = FAULT_INIT;
        struct image image;
        const char *name = w->names->pdata[i];
        if (dir_image(d, name, &image, &f) && chains_count(d->refs, image.uuid) == 0 && unlinkat(d->fd, name, 0) == 0)
            file_unref_base(d, image.base);
        fault_clear(&f);
    }
    g_mutex_unlock(&d->lock);
}

gboolean file_coalesce(void *sr, const struct storage_coalesce *who, const struct storage_job *job, GPtrArray *changed,
                       struct fault *f)
{
    gint own = 0;
    struct work w = {.d = sr,
                     .who = who,
                     .stop = job->cancel != NULL ? job->cancel : &own,
                     .failed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                     .names = g_ptr_array_new_with_free_func(g_free)};
    gboolean more = TRUE, read = TRUE;
    while (more && read && !is_stopped(&w)) {
        g_auto(chains) c = {0};
        struct step s;
        read = chains_read(w.d, &c, who->idle, f);
        more = read && choose(&w, &c, &s);
        if (more)
            do_step(&w, &s, changed);
    }
    remove_names(&w);
    g_hash_table_unref(w.failed);
    g_ptr_array_unref(w.names);
    return read;
}
