/* storage_nfs.c - the storage driver `nfs`: the driver `file` in a directory named after the SR below an NFS export.
 * The export's directory is mounted softly, so that a server that is gone ends in errors, and is asked before each
 * operation whether it still answers. */
#include "config.h"
#include "xenbackend/storage/storage_file.h"
#include "xenbackend/storage/storage_mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOUNT_LIMIT_S 60
#define MAX_PATH      1024
/* Three tries of 5, 10, 20 seconds; attributes of directories are not cached: others may write there. */
#define OPTIONS "soft,timeo=50,retrans=3,retry=0,acdirmin=0,acdirmax=0,nosuid,nodev,noexec"

struct nfs_sr {
    char *place;
    void *dir; /* the file driver's */
    struct mount_watch *watch;
};

/* ---- the configuration ---- */

static gboolean bad_config(const char *number, const char *words, struct fault *f)
{
    g_autofree char *code = g_strconcat("SR_BACKEND_FAILURE_", number, NULL);
    return fault_set(f, code, "", words, "", NULL);
}

/* Characters that no name of a host, path or option needs and that could be taken for something else. */
static gboolean is_plain(const char *text, gsize max)
{
    for (const char *p = text; *p != '\0'; p++)
        if (g_ascii_iscntrl(*p) || *p == '\\')
            return FALSE;
    return strlen(text) <= max;
}

static gboolean check_config(struct value *config, struct fault *f)
{
    const char *server = value_get_str(config, "server", ""), *path = value_get_str(config, "serverpath", "");
    const char *version = value_get_str(config, "nfsversion", "");
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    if (*server == '\0' || *server == '-' || strpbrk(server, " /,") != NULL || !is_plain(server, 255))
        return bad_config("100", "The request is missing the server parameter", f);
    if (*path != '/' || !is_plain(path, MAX_PATH) || g_strv_contains((const char *const *) parts, ".."))
        return bad_config("101", "The request is missing the serverpath parameter", f);
    if (!is_plain(value_get_str(config, "options", ""), MAX_PATH) ||
        (*version != '\0' && strcmp(version, "3") != 0 && strcmp(version, "4") != 0 && strcmp(version, "4.0") != 0 &&
         strcmp(version, "4.1") != 0 && strcmp(version, "4.2") != 0))
        return bad_config("72", "Required NFS server version unsupported", f);
    return TRUE;
}

/* Mounts the export's directory at place. Others than we may be in its directory: of the options that the site gives,
 * none may make programs or devices there ours. */
static gboolean mount_export(const char *place, struct value *config, struct fault *f)
{
    const char *server = value_get_str(config, "server", ""), *version = value_get_str(config, "nfsversion", "");
    const char *more = value_get_str(config, "options", "");
    gboolean v6 = strchr(server, ':') != NULL && *server != '[';
    g_autofree char *source =
        g_strdup_printf("%s%s%s:%s", v6 ? "[" : "", server, v6 ? "]" : "", value_get_str(config, "serverpath", ""));
    g_autofree char *options =
        g_strdup_printf("%s%s%s%s%s,nosuid,nodev,noexec", OPTIONS, *version != '\0' ? ",vers=" : "", version,
                        *more != '\0' ? "," : "", more);
    const char *const argv[] = {"mount.nfs", source, place, "-o", options, NULL};
    struct fault why = FAULT_INIT;
    if (mount_at(place, source, argv, MOUNT_LIMIT_S, &why))
        return TRUE;
    g_autofree char *words = g_strdup_printf("%s: %s", source, why.params != NULL ? why.params[2] : "");
    fault_clear(&why);
    return fault_set(f, "SR_BACKEND_FAILURE_73", "", "NFS mount error", words, NULL);
}

static struct value *folder_config(const char *place, const char *uuid)
{
    struct value_builder b;
    g_autofree char *folder = uuid != NULL ? g_build_filename(place, uuid, NULL) : g_strdup(place);
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "location", folder);
    return value_builder_end(&b);
}

/* A mount for a short while, at a place that nobody else uses. NULL with f set. */
static char *mount_briefly(struct value *config, struct fault *f)
{
    char name[STORAGE_UUID_LEN + 1];
    if (!check_config(config, f))
        return NULL;
    storage_uuid_new(name);
    g_autofree char *brief = g_strconcat("brief-", name, NULL);
    g_autofree char *place = mount_place(brief);
    struct mount_watch *watch = mount_watch_new(place);
    gboolean there = mount_export(place, config, f);
    if (there && !mount_answers(watch, f)) {
        mount_end(place, TRUE, NULL);
        there = FALSE;
    }
    mount_watch_free(watch);
    return there ? g_steal_pointer(&place) : NULL;
}

/* ---- the SR ---- */

static gboolean nfs_create(const char *uuid, struct value *config, gint64 size, struct fault *f)
{
    g_autofree char *place = mount_briefly(config, f);
    if (place == NULL)
        return FALSE;
    g_autoptr(value) folder = folder_config(place, uuid);
    gboolean made = storage_file_driver.create(uuid, folder, size, f);
    return mount_end(place, TRUE, made ? f : NULL) && made;
}

static gboolean nfs_destroy(const char *uuid, struct value *config, struct fault *f)
{
    g_autofree char *place = mount_briefly(config, f);
    if (place == NULL)
        return FALSE;
    g_autoptr(value) folder = folder_config(place, uuid);
    gboolean gone = storage_file_driver.destroy(uuid, folder, f);
    if (gone)
        rmdir(value_get_str(folder, "location", "")); /* NFS kept its lock there until that was closed */
    return mount_end(place, TRUE, gone ? f : NULL) && gone;
}

static void add_found(struct value_builder *srs, struct value *config, const char *uuid)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "sr", uuid);
    value_builder_put(&b, "device_config", value_ref(config));
    value_builder_add(srs, value_builder_end(&b));
}

static gboolean nfs_probe(struct value *config, struct value_builder *srs, struct fault *f)
{
    g_autofree char *place = mount_briefly(config, f);
    DIR *dir = place != NULL ? opendir(place) : NULL;
    if (place == NULL)
        return FALSE;
    if (dir == NULL)
        dir_fault(NULL, place, errno, f);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        struct stat st;
        if (storage_uuid_is_valid(e->d_name) && fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISDIR(st.st_mode))
            add_found(srs, config, e->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    mount_end(place, TRUE, NULL);
    return dir != NULL;
}

static void nfs_detach(void *sr)
{
    struct nfs_sr *s = sr;
    struct fault f = FAULT_INIT;
    if (s->dir != NULL)
        storage_file_driver.detach(s->dir);
    mount_watch_free(s->watch);
    if (!mount_end(s->place, TRUE, &f)) {
        g_autofree char *text = fault_text(&f);
        g_warning("%s stays mounted: %s", s->place, text);
        fault_clear(&f);
    }
    g_free(s->place);
    g_free(s);
}

static void *nfs_attach(const char *uuid, struct value *config, struct fault *f)
{
    if (!check_config(config, f))
        return NULL;
    struct nfs_sr *s = g_new0(struct nfs_sr, 1);
    s->place = mount_place(uuid);
    s->watch = mount_watch_new(s->place);
    g_autoptr(value) folder = folder_config(s->place, uuid);
    if (mount_export(s->place, config, f) && mount_answers(s->watch, f))
        s->dir = storage_file_driver.attach(uuid, folder, f);
    if (s->dir != NULL)
        return s;
    nfs_detach(s);
    return NULL;
}

/* ---- what the file driver does, when the server answers ---- */

static void *dir_of(void *sr, struct fault *f)
{
    struct nfs_sr *s = sr;
    return mount_answers(s->watch, f) ? s->dir : NULL;
}

static gboolean nfs_scan(void *sr, GPtrArray *vdis, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && storage_file_driver.scan(d, vdis, f);
}

static gboolean nfs_stat(void *sr, struct storage_space *space, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && storage_file_driver.stat(d, space, f);
}

static gboolean nfs_vdi_create(void *sr, const char *vdi, gint64 virtual_size, const char *type,
                               struct value *sm_config, struct storage_vdi *out, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && file_vdi_create(d, vdi, virtual_size, type, sm_config, out, f);
}

static gboolean nfs_vdi_destroy(void *sr, const char *vdi, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && file_vdi_destroy(d, vdi, f);
}

static gboolean nfs_vdi_clone(void *sr, const char *vdi, const char *new, const struct storage_job *job,
                              struct storage_vdi *out, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && file_vdi_clone(d, vdi, new, job, out, f);
}

static gboolean nfs_vdi_freeze(void *sr, const char *vdi, char base[STORAGE_UUID_LEN + 1], struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && file_vdi_freeze(d, vdi, base, f);
}

static gboolean nfs_vdi_copy(void *sr, const char *new, gboolean into, const char *path, const char *format,
                             const struct storage_job *job, struct storage_vdi *out, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && file_vdi_copy(d, new, into, path, format, job, out, f);
}

static gboolean nfs_vdi_resize(void *sr, const char *vdi, gint64 virtual_size, struct storage_vdi *out, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && file_vdi_resize(d, vdi, virtual_size, out, f);
}

static gboolean nfs_vdi_stat(void *sr, const char *vdi, struct storage_vdi *out, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && file_vdi_stat(d, vdi, out, f);
}

static gboolean nfs_vdi_path(void *sr, const char *vdi, char **path, const char **format, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && file_vdi_path(d, vdi, path, format, f);
}

static void *nfs_vdi_stage(void *sr, const char *vdi, gint64 virtual_size, const char *type, char **path,
                           const char **format, gint64 *size, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL ? file_vdi_stage(d, vdi, virtual_size, type, path, format, size, f) : NULL;
}

/* The stage is ended in any case. */
static gboolean nfs_vdi_publish(void *sr, void *stage, struct storage_vdi *out, struct fault *f)
{
    struct nfs_sr *s = sr;
    return file_vdi_publish(s->dir, stage, out, f);
}

static void nfs_vdi_unstage(void *sr, void *stage)
{
    struct nfs_sr *s = sr;
    file_vdi_unstage(s->dir, stage);
}

static gboolean nfs_may_coalesce(void *sr)
{
    struct nfs_sr *s = sr;
    return file_may_coalesce(s->dir);
}

static gboolean nfs_coalesce_look(void *sr, GPtrArray *vdis, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && file_coalesce_look(d, vdis, f);
}

static gboolean nfs_coalesce(void *sr, const struct storage_coalesce *who, const struct storage_job *job,
                             GPtrArray *changed, struct fault *f)
{
    void *d = dir_of(sr, f);
    return d != NULL && file_coalesce(d, who, job, changed, f);
}

static const char *const capabilities[] = {
    "SR_PROBE",   "SR_SCAN",   "SR_UPDATE",  "VDI_CREATE", "VDI_DELETE",   "VDI_ATTACH",
    "VDI_DETACH", "VDI_CLONE", "VDI_RESIZE", "VDI_COPY",   "VDI_SNAPSHOT", NULL,
};
static const char *const configuration[] = {
    "server",     "hostname or IP address of the NFS server (required)",
    "serverpath", "path on the server (required)",
    "nfsversion", "3, 4, 4.0, 4.1 or 4.2 (optional; what the server and the kernel agree on)",
    "options",    "more options of the mount, separated by commas (optional)",
    NULL,
};

const struct storage_driver storage_nfs_driver = {
    .type = "nfs",
    .name = "NFS",
    .description = "Disk images, raw or qcow2, on an NFS server",
    .capabilities = capabilities,
    .configuration = configuration,
    .create = nfs_create,
    .destroy = nfs_destroy,
    .probe = nfs_probe,
    .attach = nfs_attach,
    .detach = nfs_detach,
    .scan = nfs_scan,
    .stat = nfs_stat,
    .vdi_create = nfs_vdi_create,
    .vdi_destroy = nfs_vdi_destroy,
    .vdi_clone = nfs_vdi_clone,
    .vdi_snapshot = nfs_vdi_clone,
    .vdi_freeze = nfs_vdi_freeze,
    .vdi_copy = nfs_vdi_copy,
    .vdi_resize = nfs_vdi_resize,
    .vdi_stat = nfs_vdi_stat,
    .vdi_path = nfs_vdi_path,
    .vdi_stage = nfs_vdi_stage,
    .vdi_publish = nfs_vdi_publish,
    .vdi_unstage = nfs_vdi_unstage,
    .may_coalesce = nfs_may_coalesce,
    .coalesce_look = nfs_coalesce_look,
    .coalesce = nfs_coalesce,
};
