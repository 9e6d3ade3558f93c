/* storage_file_stage.c - the driver `file`: new content for an image, written aside and put in its place in one step.
 */
#include "config.h"
#include "xenbackend/storage/storage_file.h"

#include <string.h>

struct stage {
    char vdi[STORAGE_UUID_LEN + 1];
    const char *type;
    char *tmp;
};

static void stage_free(struct storage_dir *d, struct stage *s)
{
    dir_tmp_end(d, s->tmp);
    g_free(s);
}

/* What vdi is now, or what it is to be. */
static gboolean plan(struct storage_dir *d, struct stage *s, const char *type, gint64 *size, struct fault *f)
{
    struct image image;
    gboolean known = TRUE;
    if (*type == '\0')
        type = "qcow2";
    g_mutex_lock(&d->lock);
    gboolean there = dir_has_vdi(d, s->vdi);
    if (there)
        known = dir_vdi(d, s->vdi, &image, f);
    known = known && dir_room(d, 0, f);
    g_mutex_unlock(&d->lock);
    if (!known)
        return FALSE;
    if (there)
        *size = image.virtual_size;
    else if (strcmp(type, "raw") != 0 && strcmp(type, "qcow2") != 0)
        return fault_set(f, "INVALID_VALUE", "type", type, NULL);
    s->type = strcmp(there ? image.type : type, "raw") == 0 ? "raw" : "qcow2";
    return file_check_size(s->vdi, size, f);
}

void *file_vdi_stage(void *sr, const char *vdi, gint64 virtual_size, const char *type, char **path, const char **format,
                     gint64 *size, struct fault *f)
{
    struct storage_dir *d = sr;
    struct stage *s = g_new0(struct stage, 1);
    g_strlcpy(s->vdi, vdi, sizeof(s->vdi));
    s->tmp = dir_tmp(d, vdi);
    *size = virtual_size;
    if (!plan(d, s, type, size, f) || !file_make_empty(d, s->tmp, vdi, *size, s->type, f)) {
        stage_free(d, s);
        return NULL;
    }
    *path = dir_file(d, s->tmp);
    *format = s->type;
    return s;
}

gboolean file_vdi_publish(void *sr, void *stage, struct storage_vdi *out, struct fault *f)
{
    struct storage_dir *d = sr;
    struct stage *s = stage;
    struct image old;
    g_mutex_lock(&d->lock);
    gboolean done = dir_room(d, 0, f); /* a quota may have been passed meanwhile */
    if (done && !dir_has_vdi(d, s->vdi))
        done = file_publish_new(d, s->tmp, s->vdi, s->type, NULL, "", out, f);
    else if (done)
        done = dir_vdi(d, s->vdi, &old, f) &&
               (strcmp(old.type, s->type) == 0 || fault_set(f, "VDI_INCOMPATIBLE_TYPE", s->vdi, old.type, NULL)) &&
               file_publish_over(d, s->tmp, &old, out, f);
    g_mutex_unlock(&d->lock);
    stage_free(d, s);
    return done;
}

void file_vdi_unstage(void *sr, void *stage)
{
    stage_free(sr, stage);
}
