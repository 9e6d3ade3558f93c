/* storage_live.c - snapshots of images that a running domain writes to, where its device model can be told to go on in
 * another file (storage_switch_over).
 *
 * First the image's name gets an empty difference to what it stood for, then the device model is switched to that. In
 * between it writes to what is about to be frozen, which is what the name stands for, too: whoever is cut off there,
 * in whatever way, leaves nothing that anybody would see, and the next snapshot begins with the switch that is
 * missing. So nothing is ever taken back. */
#include "config.h"
#include "xenbackend/storage/storage_cbt.h"

#include <string.h>

gboolean (*storage_switch_over)(const char *domain, char *const *paths, struct fault *f);

struct leaf {
    struct storage_sr *s;
    const char *vdi;
    char base[STORAGE_UUID_LEN + 1]; /* "" until it is frozen */
};

/* Is it to be frozen? Volumes have snapshots of their own. FALSE, with f set where it can be snapshotted in no way. */
static gboolean is_leaf(const struct storage_sr *s, const char *vdi, char **path, struct fault *f)
{
    const char *format = NULL;
    if (s->driver->snapshots_live != NULL && s->driver->snapshots_live(s->sr))
        return FALSE;
    if (!s->driver->vdi_path(s->sr, vdi, path, &format, f))
        return FALSE;
    if (storage_switch_over != NULL && s->driver->vdi_freeze != NULL && strcmp(format, "qcow2") == 0)
        return TRUE;
    return fault_set(f, "VDI_IN_USE", vdi, "snapshot", NULL);
}

/* paths are the leaves', NULL-terminated. */
static gboolean freeze(struct leaf *leaves, char *const *paths, const char *writer, struct fault *f)
{
    /* One that was cut off may have left it to us. */
    if (!storage_switch_over(writer, paths, f))
        return FALSE;
    for (guint i = 0; paths[i] != NULL; i++) {
        struct leaf *l = &leaves[i];
        if (!l->s->driver->vdi_freeze(l->s->sr, l->vdi, l->base, f))
            return FALSE;
        cbt_freeze(l->s, l->vdi, paths[i], l->base);
    }
    return storage_switch_over(writer, paths, f);
}

gboolean storage_freeze(struct storage_sr *s, const char *vdi, const char *writer, char base[STORAGE_UUID_LEN + 1],
                        struct fault *f)
{
    struct leaf l = {.s = s, .vdi = vdi};
    g_autofree char *path = NULL;
    char *paths[] = {NULL, NULL};
    *base = '\0';
    if (!is_leaf(s, vdi, &path, f))
        return f->code == NULL;
    paths[0] = path;
    gboolean done = freeze(&l, paths, writer, f);
    g_strlcpy(base, l.base, STORAGE_UUID_LEN + 1);
    return done;
}

/* ---- several at once ---- */

static void put_srs(GArray *leaves)
{
    for (guint i = 0; i < leaves->len; i++)
        storage_sr_put(g_array_index(leaves, struct leaf, i).s);
    g_array_unref(leaves);
}

static gboolean add_leaf(GArray *leaves, GPtrArray *paths, struct value *image, struct fault *f)
{
    const char *vdi = value_get_str(image, "vdi", "");
    g_autoptr(storage_sr) s = storage_sr_get(value_get_str(image, "sr", ""), f);
    char *path = NULL;
    if (s == NULL)
        return FALSE;
    if (!storage_uuid_is_valid(vdi))
        return fault_set(f, "UUID_INVALID", "VDI", vdi, NULL);
    if (is_leaf(s, vdi, &path, f)) {
        struct leaf l = {.s = g_steal_pointer(&s), .vdi = vdi};
        g_array_append_val(leaves, l);
        g_ptr_array_add(paths, g_steal_pointer(&path));
    }
    g_free(path);
    return f->code == NULL;
}

static struct value *bases_of(const GArray *leaves)
{
    struct value_builder b, bases;
    value_builder_map(&bases, NULL, leaves->len);
    for (guint i = 0; i < leaves->len; i++) {
        const struct leaf *l = &g_array_index(leaves, struct leaf, i);
        value_builder_put_string(&bases, l->vdi, l->base);
    }
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "bases", value_builder_end(&bases));
    return value_builder_end(&b);
}

struct value *storage_vdi_freeze(struct helper_request *req, struct fault *f)
{
    struct value *images = value_get(req->params, "images");
    GArray *leaves = g_array_new(FALSE, FALSE, sizeof(struct leaf));
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    gboolean done = TRUE;
    for (gsize i = 0; done && !storage_writers_keep_still && i < value_count(images); i++)
        done = add_leaf(leaves, paths, value_at(images, i), f);
    g_ptr_array_add(paths, NULL);
    if (done && leaves->len > 0)
        done = freeze((struct leaf *) (void *) leaves->data, (char *const *) paths->pdata,
                      value_get_str(req->params, "writer", ""), f);
    struct value *answer = done ? bases_of(leaves) : NULL;
    put_srs(leaves);
    return answer;
}
