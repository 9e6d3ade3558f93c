/* vdi.h - what the files of the class VDI share among themselves. */
#ifndef XENAPID_CLASSES_VDI_H
#define XENAPID_CLASSES_VDI_H

#include "daemon/call.h"

/* The uuid of a VM that runs and has the image attached for writing; NULL when there is none. Heap. */
char *vdi_writer(const struct record *vdi);
/* An image_record_fn of a copy: a record like that of the VDI that data, a struct vdi_twin, names. */
struct vdi_twin {
    const struct record *vdi;
    gboolean snapshot;
};
struct value *vdi_record_twin(struct call *c, struct txn *t, const char *uuid, void *data);
/* A new VDI (its reference, heap) in sr that holds those blocks of vdi that differ from base, and zeroes elsewhere.
 * NULL with c's fault set. Blocks. */
struct value *vdi_copy_delta(struct call *c, const struct record *vdi, const struct record *base, const char *sr_ref);

#endif
