/* storage_iso.c - the storage driver `iso`: a directory of CD images that people put there; read-only. An image's uuid
 * follows from the SR's uuid and the file's name, so that it stays the same without anything being written. */
#include "config.h"
#include "xenbackend/storage/storage_dir.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct iso_sr {
    char *uuid, *path;
};

static void name_uuid(const struct iso_sr *s, const char *name, char uuid[STORAGE_UUID_LEN + 1])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    guint8 h[20];
    gsize len = sizeof(h);
    g_checksum_update(sum, (const guchar *) s->uuid, -1);
    g_checksum_update(sum, (const guchar *) "/", 1);
    g_checksum_update(sum, (const guchar *) name, -1);
    g_checksum_get_digest(sum, h, &len);
    storage_uuid_format(h, 5, uuid);
}

static gboolean is_iso(const char *name)
{
    g_autofree char *lower = g_ascii_strdown(name, -1);
    return *name != '.' && (g_str_has_suffix(lower, ".iso") || g_str_has_suffix(lower, ".img")) &&
           g_utf8_validate(name, -1, NULL);
}

static void *iso_attach(const char *uuid, struct value *device_config, struct fault *f)
{
    g_autofree char *path = dir_path(device_config, f);
    if (path == NULL)
        return NULL;
    if (access(path, R_OK | X_OK) < 0 || !g_file_test(path, G_FILE_TEST_IS_DIR)) {
        dir_fault(NULL, path, errno != 0 ? errno : ENOTDIR, f);
        return NULL;
    }
    struct iso_sr *s = g_new0(struct iso_sr, 1);
    s->uuid = g_strdup(uuid);
    s->path = g_steal_pointer(&path);
    return s;
}

static void iso_detach(void *sr)
{
    struct iso_sr *s = sr;
    g_free(s->uuid);
    g_free(s->path);
    g_free(s);
}

/* Fills v when name is a CD image. */
static gboolean describe(const struct iso_sr *s, const char *name, struct storage_vdi *v)
{
    struct stat st;
    g_autofree char *path = g_build_filename(s->path, name, NULL);
    if (!is_iso(name) || stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return FALSE;
    memset(v, 0, sizeof(*v));
    name_uuid(s, name, v->uuid);
    v->location = g_strdup(name);
    v->type = "raw";
    v->virtual_size = st.st_size;
    v->physical_utilisation = (gint64) st.st_blocks * 512;
    v->read_only = TRUE;
    return TRUE;
}

static gboolean iso_scan(void *sr, GPtrArray *vdis, struct fault *f)
{
    struct iso_sr *s = sr;
    DIR *dir = opendir(s->path);
    if (dir == NULL)
        return dir_fault(NULL, s->path, errno, f);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        struct storage_vdi v;
        if (describe(s, e->d_name, &v))
            g_ptr_array_add(vdis, g_memdup2(&v, sizeof(v)));
    }
    closedir(dir);
    return TRUE;
}

static gboolean iso_stat(void *sr, struct storage_space *space, struct fault *f)
{
    struct iso_sr *s = sr;
    g_autoptr(GPtrArray) vdis = g_ptr_array_new_with_free_func((GDestroyNotify) storage_vdi_free);
    struct statvfs fs;
    if (statvfs(s->path, &fs) < 0)
        return dir_fault(NULL, s->path, errno, f);
    if (!iso_scan(sr, vdis, f))
        return FALSE;
    *space = (struct storage_space){.physical_size = (gint64) fs.f_blocks * (gint64) fs.f_frsize};
    for (guint i = 0; i < vdis->len; i++) {
        const struct storage_vdi *v = vdis->pdata[i];
        space->physical_utilisation += v->physical_utilisation;
        space->virtual_allocation += v->virtual_size;
    }
    return TRUE;
}

static gboolean iso_vdi_stat(void *sr, const char *vdi, struct storage_vdi *out, struct fault *f)
{
    struct iso_sr *s = sr;
    g_autoptr(GPtrArray) vdis = g_ptr_array_new_with_free_func((GDestroyNotify) storage_vdi_free);
    if (!iso_scan(sr, vdis, f))
        return FALSE;
    for (guint i = 0; i < vdis->len; i++) {
        struct storage_vdi *v = vdis->pdata[i];
        if (g_ascii_strcasecmp(v->uuid, vdi) == 0)
            return describe(s, v->location, out) || fault_set(f, "VDI_MISSING", s->uuid, vdi, NULL);
    }
    return fault_set(f, "VDI_MISSING", s->uuid, vdi, NULL);
}

static gboolean iso_vdi_path(void *sr, const char *vdi, char **path, const char **format, struct fault *f)
{
    struct iso_sr *s = sr;
    struct storage_vdi v = {0};
    if (!iso_vdi_stat(sr, vdi, &v, f))
        return FALSE;
    *path = g_build_filename(s->path, v.location, NULL);
    *format = "raw";
    storage_vdi_clear(&v);
    return TRUE;
}

/* Nothing is written: any directory will do, and what is in it stays. */
static gboolean iso_create(const char *uuid, struct value *device_config, gint64 size G_GNUC_UNUSED, struct fault *f)
{
    void *sr = iso_attach(uuid, device_config, f);
    if (sr != NULL)
        iso_detach(sr);
    return sr != NULL;
}

static const char *const capabilities[] = {"SR_PROBE", "SR_SCAN", "VDI_ATTACH", "VDI_DETACH", NULL};
static const char *const configuration[] = {"location", "directory that holds the .iso files (absolute path)", NULL};

const struct storage_driver storage_iso_driver = {
    .type = "iso",
    .name = "ISO library",
    .description = "CD images in a directory, read-only",
    .capabilities = capabilities,
    .configuration = configuration,
    .create = iso_create,
    .attach = iso_attach,
    .detach = iso_detach,
    .scan = iso_scan,
    .stat = iso_stat,
    .vdi_stat = iso_vdi_stat,
    .vdi_path = iso_vdi_path,
};
