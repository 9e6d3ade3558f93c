/* xva_tar.h - the tar format as exported VMs use it, and the checksums beside their pieces. No input, no output. */
#ifndef XENAPID_XVA_TAR_H
#define XENAPID_XVA_TAR_H

#include <glib.h>

#define TAR_BLOCK 512

struct tar_header {
    char name[256 + 1];
    gint64 size;
    char type; /* '0' a file, '5' a directory, 'x' more of the next header, ... */
};

/* Always the same bytes for the same name (at most 99 of it) and size. */
void tar_format(char block[TAR_BLOCK], const char *name, gint64 size);
enum tar_result { TAR_FILE, TAR_END, TAR_DAMAGED };
enum tar_result tar_parse(const char block[TAR_BLOCK], struct tar_header *h);
/* What follows a file of that size up to the next block. */
gsize tar_padding(gint64 size);

/* "Ref:4/00000012": a piece of a disk. */
struct xva_piece {
    char disk[64];
    gint64 number;
    const char *suffix; /* "" data, ".checksum" SHA-1, ".xxhash"; static */
};
gboolean xva_piece_parse(const char *name, struct xva_piece *p);

guint64 xxhash64(const void *data, gsize len);
/* Does the text, as found in a file with that suffix, belong to the data? */
gboolean xva_checksum_is_right(const char *suffix, const char *text, gsize text_len, const void *data, gsize len);

#endif
