/* xva.h - whole VMs as streams: what export and import share. An XVA is a tar of ova.xml, which holds the records of
 * all objects under references of its own ("Ref:0", ...), and of each disk as pieces of a mebibyte. */
#ifndef XENAPID_XVA_H
#define XENAPID_XVA_H

#include "xapi-classes/transfers/transfer.h"
#include "xapi-classes/transfers/xva_tar.h"

#define XVA_PIECE       (1024 * 1024)
#define XVA_EXPORT_VSN  2
#define XVA_MOST_XML    (64 * 1024 * 1024)
#define XVA_MOST_OBJECT 4096

/* ---- compression (xva_stream.c): bytes to and from the client ---- */

struct xva_out;
/* method: NULL, "gzip" or "zstd". NULL with the fault set when it is not known here. */
struct xva_out *xva_out_new(struct transfer *t, const char *method);
gboolean xva_out_write(struct xva_out *o, const void *data, gsize len);
gboolean xva_out_end(struct xva_out *o);
void xva_out_free(struct xva_out *o);

struct xva_in;
/* Finds out by itself how the stream is compressed. */
struct xva_in *xva_in_new(struct transfer *t);
/* Fills the buffer unless the stream ends; -1 with the fault set when it is damaged or was cut. */
gssize xva_in_read(struct xva_in *in, void *buffer, gsize len);
void xva_in_free(struct xva_in *in);

typedef struct xva_out xva_out;
typedef struct xva_in xva_in;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xva_out, xva_out_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xva_in, xva_in_free)

/* ---- records (xva_ova.c) ---- */

struct xva_object {
    const struct class *class;
    char *id;               /* "Ref:0" */
    struct value *snapshot; /* a MAP of its fields, each of the field's type; heap */
    char ref[REF_SIZE];     /* export: whose it is; import: what became of it, "" when nothing did */
};

struct xva_ova {
    GPtrArray *objects; /* in order */
    GHashTable *by_id;  /* borrowed */
};
void xva_ova_free(struct xva_ova *ova);
typedef struct xva_ova xva_ova;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xva_ova, xva_ova_free)

/* The VM with all that belongs to it, as it stands; always the same for the same VM. snapshots: those, too. memory: of
 * suspended ones, too; without it they are halted ones. */
struct xva_ova *xva_ova_of(const struct record *vm, gboolean snapshots, gboolean memory);
char *xva_ova_text(const struct xva_ova *ova);
/* NULL with f set: IMPORT_ERROR [what], IMPORT_INCOMPATIBLE_VERSION. Objects of classes that are not known here are
 * left out, and so are fields; what is missing or of the wrong type has its initial value. */
struct xva_ova *xva_ova_parse(const char *text, gsize len, struct fault *f);
struct xva_object *xva_ova_find(const struct xva_ova *ova, const char *id);

/* ---- import (xva_import.c, xva_records.c) ---- */

/* How the objects of an ova are to be made. */
struct xva_plan {
    struct xva_ova *ova;
    const struct record *sr; /* for disks; NULL: they exist already */
    gboolean restore;        /* keep identities */
    gboolean force;          /* do without what is not there */
};
/* Which existing networks, ISO images and (without an SR for new ones) disks are meant. */
gboolean xva_find_existing(struct xva_plan *p, struct fault *f);
/* Makes the records of all VMs and their devices; disks have theirs already (object->ref). The VMs' references. */
struct value *xva_make_vms(struct xva_plan *p, struct txn *t);
/* The record of a disk whose image is there: answers its reference, valid until the transaction ends. */
const char *xva_make_vdi(struct xva_plan *p, struct txn *t, const struct xva_object *o, const char *uuid,
                         struct value *image);
/* The disks that an import has to bring: VDIs of VBDs of type Disk, in the stream's order or any, and memory. */
gboolean xva_is_disk(const struct xva_plan *p, const struct xva_object *vdi);
/* That of them which is the memory of a suspended VM: the VM, or NULL. */
const struct xva_object *xva_memory_of(const struct xva_plan *p, const struct xva_object *vdi);

#endif
