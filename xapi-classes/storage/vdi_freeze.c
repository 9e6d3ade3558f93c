/* vdi_freeze.c - several images of a VM that runs, snapshotted as of one moment. */
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/storage/vdi.h"

#include <string.h>

static gboolean is_written_by(const struct record *vdi, const char *vm_uuid)
{
    g_autofree char *writer = vdi != NULL ? vdi_writer(vdi) : NULL;
    return writer != NULL && strcmp(writer, vm_uuid) == 0;
}

static gboolean add_image(struct call *c, struct value_builder *images, const struct record *vdi)
{
    g_autoptr(record) sr = storage_attached_sr(record_str(vdi, F_VDI_SR), &c->fault);
    if (sr == NULL)
        return FALSE;
    value_builder_add(images, storage_params(record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid)));
    return TRUE;
}

struct value *vdis_freeze(struct call *c, const char *vm_uuid, GPtrArray *vdis)
{
    struct value_builder b, images;
    gboolean all = TRUE;
    value_builder_set(&images, NULL, vdis->len);
    for (guint i = 0; all && i < vdis->len; i++) {
        const struct record *vdi = g_ptr_array_index(vdis, i);
        if (is_written_by(vdi, vm_uuid))
            all = add_image(c, &images, vdi);
    }
    if (!all || images.n < 2) { /* the snapshot of a single one is of one moment */
        value_builder_clear(&images);
        return all ? value_empty_map() : NULL;
    }
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "writer", vm_uuid);
    value_builder_put(&b, "images", value_builder_end(&images));
    g_autoptr(value) answer = storage_call(c, "vdi.freeze", value_builder_end(&b));
    struct value *bases = value_get(answer, "bases");
    return bases != NULL ? value_ref(bases) : answer != NULL ? value_empty_map() : NULL;
}
