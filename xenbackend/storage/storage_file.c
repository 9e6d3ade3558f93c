/* storage_file.c - the storage driver `file`: disk images in a directory. The SR's own operations, and the scan that
 * finds what is there and removes what crashes left. */
#include "config.h"
#include "xenbackend/storage/storage_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- bases ---- */

void file_ref_base(struct storage_dir *d, const char *base)
{
    if (*base == '\0')
        return;
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(d->refs, base));
    g_hash_table_replace(d->refs, g_strdup(base), GUINT_TO_POINTER(n + 1));
}

void file_unref_base(struct storage_dir *d, const char *base)
{
    char uuid[STORAGE_UUID_LEN + 1];
    g_strlcpy(uuid, base, sizeof(uuid));
    while (*uuid != '\0') {
        guint n = GPOINTER_TO_UINT(g_hash_table_lookup(d->refs, uuid));
        if (n > 1) {
            g_hash_table_replace(d->refs, g_strdup(uuid), GUINT_TO_POINTER(n - 1));
            return;
        }
        g_hash_table_remove(d->refs, uuid);
        char name[IMAGE_NAME_SIZE];
        struct image image;
        struct fault f = FAULT_INIT;
        name_make(name, uuid, SUFFIX_BASE);
        gboolean read = d->refs_known && dir_image(d, name, &image, &f);
        fault_clear(&f);
        if (!read || unlinkat(d->fd, name, 0) < 0)
            return;
        g_strlcpy(uuid, image.base, sizeof(uuid));
    }
}

/* ---- scan ---- */

void file_describe(struct storage_dir *d, const struct image *image, struct storage_vdi *out)
{
    memset(out, 0, sizeof(*out));
    g_strlcpy(out->uuid, image->uuid, sizeof(out->uuid));
    g_strlcpy(out->parent, image->base, sizeof(out->parent));
    out->location = g_strdup(image->uuid);
    out->type = image->type;
    out->virtual_size = image->virtual_size;
    out->physical_utilisation = image->physical;
    out->read_only = image->read_only;
    out->sm_config = dir_read_sidecar(d, image->uuid);
}

/* What a directory holds, while it is gone through. */
struct inventory {
    GHashTable *vdis, *bases; /* uuid -> struct image */
    gboolean damaged;         /* an image cannot be read: what it refers to is not known */
};

static void inventory_clear(struct inventory *inv)
{
    g_hash_table_unref(inv->vdis);
    g_hash_table_unref(inv->bases);
}

/* Temporary files that nobody is writing were left by a crash. */
static void remove_leftover(struct storage_dir *d, const char *name)
{
    if (g_hash_table_contains(d->making, name))
        return;
    if (unlinkat(d->fd, name, 0) == 0)
        g_message("%s: removed the leftover %s", d->path, name);
}

static void take_image(struct storage_dir *d, struct inventory *inv, const char *name, GHashTable *into)
{
    struct image image;
    struct fault f = FAULT_INIT;
    if (dir_image(d, name, &image, &f)) {
        file_ref_base(d, image.base);
        g_hash_table_replace(into, g_strdup(image.uuid), g_memdup2(&image, sizeof(image)));
    } else {
        g_autofree char *why = fault_text(&f);
        g_warning("%s: %s", d->path, why);
        inv->damaged = TRUE;
    }
    fault_clear(&f);
}

static void take_names(struct storage_dir *d, struct inventory *inv, const GPtrArray *names)
{
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i], *suffix;
        char uuid[STORAGE_UUID_LEN + 1];
        if (g_str_has_suffix(name, ".tmp"))
            remove_leftover(d, name);
        else if (!name_split(name, uuid, &suffix))
            continue;
        else if (strcmp(suffix, SUFFIX_BASE) == 0)
            take_image(d, inv, name, inv->bases);
        else if (strcmp(suffix, SUFFIX_RAW) == 0 || strcmp(suffix, SUFFIX_QCOW2) == 0)
            take_image(d, inv, name, inv->vdis);
    }
}

/* A sidecar is written before its image and removed after it: alone it means nothing. */
static void remove_lone_sidecars(struct storage_dir *d, const GPtrArray *names)
{
    for (guint i = 0; i < names->len; i++) {
        const char *suffix;
        char uuid[STORAGE_UUID_LEN + 1];
        if (name_split(names->pdata[i], uuid, &suffix) && strcmp(suffix, SUFFIX_JSON) == 0 && !dir_has_vdi(d, uuid))
            unlinkat(d->fd, names->pdata[i], 0);
    }
}

/* A crash between making a base and its first child leaves it without any. */
static void remove_lone_bases(struct storage_dir *d, struct inventory *inv)
{
    GHashTableIter iter;
    void *key, *value;
    g_hash_table_iter_init(&iter, inv->bases);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const struct image *base = value;
        if (g_hash_table_contains(d->refs, key))
            continue;
        g_message("%s: removed %s, which nothing refers to", d->path, base->name);
        if (unlinkat(d->fd, base->name, 0) == 0)
            file_unref_base(d, base->base);
    }
}

static gboolean chain_is_whole(const struct inventory *inv, const struct image *image)
{
    for (guint depth = 0; *image->base != '\0'; depth++) {
        image = g_hash_table_lookup(inv->bases, image->base);
        if (image == NULL || depth > g_hash_table_size(inv->bases))
            return FALSE;
    }
    return TRUE;
}

static void report(struct storage_dir *d, const struct inventory *inv, GPtrArray *vdis)
{
    GHashTableIter iter;
    void *value;
    d->virtual_allocation = 0;
    g_hash_table_iter_init(&iter, inv->vdis);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct image *image = value;
        d->virtual_allocation += image->virtual_size;
        if (!chain_is_whole(inv, image)) {
            g_warning("%s: %s lacks an image that it is a difference to", d->path, image->name);
            continue;
        }
        if (vdis == NULL)
            continue;
        struct storage_vdi *v = g_new(struct storage_vdi, 1);
        file_describe(d, image, v);
        g_ptr_array_add(vdis, v);
    }
}

static gboolean file_scan(void *sr, GPtrArray *vdis, struct fault *f)
{
    struct storage_dir *d = sr;
    g_mutex_lock(&d->lock);
    g_autoptr(GPtrArray) names = dir_names(d, f);
    if (names != NULL) {
        struct inventory inv = {.vdis = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
                                .bases = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free)};
        g_hash_table_remove_all(d->refs);
        take_names(d, &inv, names);
        d->refs_known = !inv.damaged;
        if (!inv.damaged) {
            remove_lone_bases(d, &inv);
            remove_lone_sidecars(d, names);
        }
        report(d, &inv, vdis);
        inventory_clear(&inv);
    }
    g_mutex_unlock(&d->lock);
    return names != NULL;
}

static gboolean file_stat(void *sr, struct storage_space *space, struct fault *f)
{
    struct storage_dir *d = sr;
    g_mutex_lock(&d->lock);
    gboolean read = dir_space(d, &space->physical_size, &space->physical_utilisation, f);
    space->virtual_allocation = d->virtual_allocation;
    g_mutex_unlock(&d->lock);
    return read;
}

/* ---- the SR itself ---- */

static void *file_attach(const char *uuid, struct value *device_config, struct fault *f)
{
    g_autofree char *path = dir_path(device_config, f);
    g_autoptr(storage_dir) d = path != NULL ? dir_open(path, uuid, f) : NULL;
    if (d == NULL)
        return NULL;
    d->quota = g_ascii_strtoll(value_get_str(device_config, "quota", "0"), NULL, 10);
    g_autofree char *label = dir_read_label(path);
    if (label == NULL && !dir_write_label(d, f))
        return NULL;
    return file_scan(d, NULL, f) ? g_steal_pointer(&d) : NULL;
}

static void file_detach(void *sr)
{
    dir_close(sr);
}

/* Whether the directory holds an image; TRUE also when that cannot be told. */
static gboolean holds_images(struct storage_dir *d, struct fault *f)
{
    g_autoptr(GPtrArray) names = dir_names(d, f);
    char uuid[STORAGE_UUID_LEN + 1];
    const char *suffix;
    for (guint i = 0; names != NULL && i < names->len; i++)
        if (name_split(names->pdata[i], uuid, &suffix) &&
            (g_str_has_suffix(suffix, SUFFIX_RAW) || g_str_has_suffix(suffix, SUFFIX_QCOW2)))
            return TRUE;
    return names == NULL;
}

static gboolean file_create(const char *uuid, struct value *device_config, gint64 size G_GNUC_UNUSED, struct fault *f)
{
    g_autofree char *path = dir_path(device_config, f);
    if (path == NULL)
        return FALSE;
    if (g_mkdir_with_parents(path, 0700) < 0)
        return dir_fault(NULL, path, errno, f);
    g_autoptr(storage_dir) d = dir_open(path, uuid, f);
    if (d == NULL)
        return FALSE;
    g_autofree char *label = dir_read_label(path);
    if (label == NULL && holds_images(d, f)) {
        g_autofree char *words = g_strdup_printf("%s holds disk images already", path);
        return fault_set(f, "SR_BACKEND_FAILURE", "17", "", words, NULL);
    }
    return label != NULL || dir_write_label(d, f);
}

static gboolean file_destroy(const char *uuid, struct value *device_config, struct fault *f)
{
    g_autofree char *path = dir_path(device_config, f);
    g_autoptr(storage_dir) d = path != NULL ? dir_open(path, uuid, f) : NULL;
    if (d == NULL)
        return FALSE;
    if (!file_scan(d, NULL, f))
        return FALSE;
    if (holds_images(d, f))
        return fault_set(f, "SR_NOT_EMPTY", NULL);
    if ((unlinkat(d->fd, "sr.json", 0) < 0 && errno != ENOENT) || !dir_sync(d, f))
        return dir_fault(d, path, errno, f);
    unlinkat(d->fd, ".lock", 0);
    rmdir(path); /* stays when it holds something of somebody else's */
    return TRUE;
}

static gboolean file_probe(struct value *device_config, struct value_builder *srs, struct fault *f)
{
    g_autofree char *path = dir_path(device_config, f);
    if (path == NULL)
        return FALSE;
    if (access(path, R_OK | X_OK) < 0)
        return dir_fault(NULL, path, errno, f);
    g_autofree char *label = dir_read_label(path);
    if (label == NULL)
        return TRUE;
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "sr", label);
    value_builder_put(&b, "device_config", value_ref(device_config));
    value_builder_add(srs, value_builder_end(&b));
    return TRUE;
}

static const char *const capabilities[] = {
    "SR_PROBE",  "SR_SCAN",    "SR_UPDATE", "VDI_CREATE",   "VDI_DELETE",     "VDI_ATTACH", "VDI_DETACH",
    "VDI_CLONE", "VDI_RESIZE", "VDI_COPY",  "VDI_SNAPSHOT", "VDI_CONFIG_CBT", NULL,
};
static const char *const configuration[] = {
    "location", "directory that holds the disk images (absolute path)",
    "quota",    "bytes that the images may take up (optional)",
    NULL,
};

/* A snapshot is a clone that the front treats differently. */
const struct storage_driver storage_file_driver = {
    .type = "file",
    .name = "Directory",
    .description = "Disk images, raw or qcow2, in a directory",
    .capabilities = capabilities,
    .configuration = configuration,
    .create = file_create,
    .destroy = file_destroy,
    .probe = file_probe,
    .attach = file_attach,
    .detach = file_detach,
    .scan = file_scan,
    .stat = file_stat,
    .vdi_create = file_vdi_create,
    .vdi_destroy = file_vdi_destroy,
    .vdi_clone = file_vdi_clone,
    .vdi_snapshot = file_vdi_clone,
    .vdi_freeze = file_vdi_freeze,
    .vdi_copy = file_vdi_copy,
    .vdi_resize = file_vdi_resize,
    .vdi_stat = file_vdi_stat,
    .vdi_path = file_vdi_path,
    .vdi_stage = file_vdi_stage,
    .vdi_publish = file_vdi_publish,
    .vdi_unstage = file_vdi_unstage,
    .may_coalesce = file_may_coalesce,
    .coalesce_look = file_coalesce_look,
    .coalesce = file_coalesce,
};
