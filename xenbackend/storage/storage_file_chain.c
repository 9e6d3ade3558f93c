/* storage_file_chain.c - the driver `file`: which image is a difference to which. */
#include "config.h"
#include "xenbackend/storage/storage_file_chain.h"

#include <string.h>

#define MOST_IMAGES 30 /* of a chain */

void chains_clear(struct chains *c)
{
    g_clear_pointer(&c->bases, g_hash_table_unref);
    g_clear_pointer(&c->vdis, g_hash_table_unref);
    g_clear_pointer(&c->users, g_hash_table_unref);
    g_clear_pointer(&c->in_use, g_hash_table_unref);
}

guint chains_count(GHashTable *of, const char *uuid)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(of, uuid));
}

static void take(struct storage_dir *d, struct chains *c, GHashTable *idle, const char *name)
{
    char uuid[STORAGE_UUID_LEN + 1];
    const char *suffix;
    struct image image;
    struct fault f = FAULT_INIT;
    if (!name_split(name, uuid, &suffix) || !g_str_has_suffix(suffix, SUFFIX_QCOW2))
        return;
    gboolean base = strcmp(suffix, SUFFIX_BASE) == 0;
    if (dir_image(d, name, &image, &f) && (base || *image.base != '\0')) {
        g_hash_table_replace(base ? c->bases : c->vdis, g_strdup(uuid), g_memdup2(&image, sizeof image));
        if (*image.base != '\0')
            g_hash_table_replace(c->users, g_strdup(image.base),
                                 GUINT_TO_POINTER(chains_count(c->users, image.base) + 1));
        if (!base && (idle == NULL || !g_hash_table_contains(idle, uuid)))
            g_hash_table_add(c->in_use, g_strdup(image.base));
    }
    fault_clear(&f);
}

gboolean chains_read(struct storage_dir *d, struct chains *c, GHashTable *idle, struct fault *f)
{
    g_autoptr(GPtrArray) names = dir_names(d, f);
    c->bases = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    c->vdis = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    c->users = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    c->in_use = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; names != NULL && i < names->len; i++)
        take(d, c, idle, names->pdata[i]);
    return names != NULL;
}

const struct image *chains_mate(const struct chains *c, const struct image *image)
{
    const struct image *lower = *image->base != '\0' ? g_hash_table_lookup(c->bases, image->base) : NULL;
    return lower != NULL && chains_count(c->users, lower->uuid) == 1 && image->virtual_size >= lower->virtual_size
               ? lower
               : NULL;
}

gboolean chains_is_above(const struct chains *c, const struct image *image, const struct image *base)
{
    for (guint depth = 0; image != NULL && *image->base != '\0' && depth <= g_hash_table_size(c->bases); depth++) {
        if (strcmp(image->base, base->uuid) == 0)
            return TRUE;
        image = g_hash_table_lookup(c->bases, image->base);
    }
    return FALSE;
}

gboolean file_chain_has_room(struct storage_dir *d, const struct image *image, struct fault *f)
{
    struct image at = *image;
    int length = 1;
    while (*at.base != '\0' && length < MOST_IMAGES) {
        char name[IMAGE_NAME_SIZE];
        name_make(name, at.base, SUFFIX_BASE);
        if (!dir_image(d, name, &at, f))
            return FALSE;
        length++;
    }
    return length < MOST_IMAGES ||
           fault_set(f, "SR_BACKEND_FAILURE_109", "", "The snapshot chain is too long", "", NULL);
}
