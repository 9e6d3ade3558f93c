/* storage_file_chain.h - which images of a directory are differences to which, as far as they are qcow2. */
#ifndef XENAPID_STORAGE_FILE_CHAIN_H
#define XENAPID_STORAGE_FILE_CHAIN_H

#include "xenbackend/storage/storage_file.h"

struct chains {
    GHashTable *bases, *vdis; /* uuid -> struct image; of VDIs those that are a difference */
    GHashTable *users;        /* uuid of a base -> how many are a difference to it */
    GHashTable *in_use;       /* uuids of the bases directly below a VDI that somebody may write to */
};
void chains_clear(struct chains *c);
typedef struct chains chains;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(chains, chains_clear)

/* Fills *c, which the caller clears also after a failure. Needs no lock: what was found must be looked at again before
 * anything is changed. idle: uuids of the VDIs that nobody has, NULL when that is not known yet. FALSE with f set. */
gboolean chains_read(struct storage_dir *d, struct chains *c, GHashTable *idle, struct fault *f);
/* The number that a table of numbers (users, refs) has for uuid; 0 when it is not in there. */
guint chains_count(GHashTable *of, const char *uuid);
/* The base below image, when it could become one with it; else NULL. Both are borrowed. */
const struct image *chains_mate(const struct chains *c, const struct image *image);
/* Whether image is a difference to base, or to one that is. */
gboolean chains_is_above(const struct chains *c, const struct image *image, const struct image *base);

#endif
