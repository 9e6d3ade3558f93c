/* vm_provision.c - VM.provision: the disks that a template's other_config:disks lays out, and a template no more. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

struct disk {
    char *device, *sr, *type;
    gint64 size;
    gboolean bootable;
    struct record *repository;
    char uuid[UUID_SIZE]; /* of the image */
    struct value *vdi;    /* reference, once it is made */
};

static void disk_free(void *data)
{
    struct disk *d = data;
    g_free(d->device);
    g_free(d->sr);
    g_free(d->type);
    record_unref(d->repository);
    value_unref(d->vdi);
    g_free(d);
}

/* ---- <provision><disk device="0" size="8589934592" sr="" bootable="true" type="system"/></provision> ---- */

static const char *attribute(const char **names, const char **values, const char *name, const char *otherwise)
{
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], name) == 0)
            return values[i];
    return otherwise;
}

static void start_element(G_GNUC_UNUSED GMarkupParseContext *context, const char *element, const char **names,
                          const char **values, gpointer data, G_GNUC_UNUSED GError **error)
{
    if (strcmp(element, "disk") != 0)
        return;
    struct disk *d = g_new0(struct disk, 1);
    d->device = g_strdup(attribute(names, values, "device", ""));
    d->sr = g_strdup(attribute(names, values, "sr", ""));
    d->type = g_strdup(attribute(names, values, "type", "user"));
    d->size = g_ascii_strtoll(attribute(names, values, "size", "0"), NULL, 10);
    d->bootable = strcmp(attribute(names, values, "bootable", "false"), "true") == 0;
    g_ptr_array_add(data, d);
}

/* Two disks in one place; places that the VM has taken already are seen later. */
static gboolean check_places(GPtrArray *disks, struct fault *f)
{
    for (guint i = 0; i < disks->len; i++) {
        const struct disk *d = g_ptr_array_index(disks, i);
        for (guint k = 0; k < i; k++) {
            const struct disk *other = g_ptr_array_index(disks, k);
            if (vbd_position(d->device) >= 0 && vbd_position(d->device) == vbd_position(other->device))
                return fault_set(f, "DEVICE_ALREADY_EXISTS", d->device, NULL);
        }
    }
    return TRUE;
}

static GPtrArray *parse_disks(struct call *c, const char *text)
{
    static const GMarkupParser parser = {.start_element = start_element};
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func(disk_free);
    g_autoptr(GMarkupParseContext) context = g_markup_parse_context_new(&parser, 0, disks, NULL);
    g_autoptr(GError) error = NULL;
    if (*text != '\0' && (!g_markup_parse_context_parse(context, text, -1, &error) ||
                          !g_markup_parse_context_end_parse(context, &error))) {
        call_fail(c, "INVALID_VALUE", "other_config:disks", error->message, NULL);
        return NULL;
    }
    return check_places(disks, &c->fault) ? g_steal_pointer(&disks) : NULL;
}

/* ---- images ---- */

static struct record *find_sr(struct call *c, const char *uuid)
{
    if (*uuid != '\0') {
        g_autoptr(record) sr = store_get_by_uuid(the_store(), CLASS_SR, uuid);
        if (sr == NULL)
            call_fail(c, "UUID_INVALID", "SR", uuid, NULL);
        return sr != NULL ? storage_attached_sr(sr->ref, &c->fault) : NULL;
    }
    g_autoptr(record) pool = store_get(the_store(), CLASS_pool, pool_ref());
    const char *ref = pool != NULL ? record_str(pool, F_pool_default_SR) : NULL_REF;
    if (ref_is_null(ref)) {
        call_fail(c, "DEFAULT_SR_NOT_FOUND", ref, NULL);
        return NULL;
    }
    return storage_attached_sr(ref, &c->fault);
}

static const char *image_format(const struct record *sr)
{
    const char *format = record_key(sr, F_SR_sm_config, "type");
    return format != NULL ? format : ""; /* the driver's own */
}

struct disk_of_vm {
    const struct record *vm;
    const struct disk *disk;
};

static struct value *make_record(G_GNUC_UNUSED struct call *c, struct txn *t, const char *uuid, void *data)
{
    const struct disk_of_vm *d = data;
    struct value *ref = value_string(NULL, txn_create(t, CLASS_VDI, NULL, uuid));
    g_autofree char *name = g_strdup_printf("%s %s", record_str(d->vm, F_VM_name_label), d->disk->device);
    txn_set_str(t, CLASS_VDI, value_str(ref), F_VDI_name_label, name);
    txn_set_str(t, CLASS_VDI, value_str(ref), F_VDI_name_description, "Created by template provisioner");
    txn_set_str(t, CLASS_VDI, value_str(ref), F_VDI_type, strcmp(d->disk->type, "system") == 0 ? "system" : "user");
    return ref;
}

/* Where each is to go is known, and that they are to be made, before the first is. */
static gboolean plan_images(struct call *c, GPtrArray *disks, struct drafts *drafts)
{
    for (guint i = 0; i < disks->len; i++) {
        struct disk *d = g_ptr_array_index(disks, i);
        d->repository = find_sr(c, d->sr);
        if (d->repository == NULL)
            return FALSE;
        uuid_generate_text(d->uuid);
        drafts_add(drafts, record_str(d->repository, F_SR_uuid), d->uuid);
    }
    return drafts_begin(drafts, &c->fault);
}

static gboolean make_image(struct call *c, const struct record *vm, struct disk *d)
{
    struct value_builder b;
    storage_params_begin(&b, record_str(d->repository, F_SR_uuid), d->uuid);
    value_builder_put(&b, "virtual_size", value_int(NULL, d->size));
    value_builder_put_string(&b, "type", image_format(d->repository));
    struct disk_of_vm of_vm = {.vm = vm, .disk = d};
    d->vdi = image_make(c, "vdi.create", value_builder_end(&b), d->repository, d->uuid, make_record, &of_vm);
    return d->vdi != NULL;
}

static gboolean make_images(struct call *c, const struct record *vm, GPtrArray *disks)
{
    for (guint i = 0; i < disks->len; i++) {
        if (call_is_cancelled(c)) {
            call_cancelled_fault(c);
            return FALSE;
        }
        if (!make_image(c, vm, g_ptr_array_index(disks, i)))
            return FALSE;
    }
    return TRUE;
}

/* ---- records ---- */

static gboolean make_vbd(struct txn *t, const char *vm_ref, const struct disk *d, struct fault *f)
{
    const struct record *vm = txn_get(t, CLASS_VM, vm_ref);
    int position = vbd_position(d->device);
    if (position < 0)
        return fault_set(f, "INVALID_DEVICE", d->device, NULL);
    if (vbd_device_taken(t, vm, position, NULL))
        return fault_set(f, "DEVICE_ALREADY_EXISTS", d->device, NULL);
    const char *ref = txn_create(t, CLASS_VBD, NULL, NULL);
    g_autofree char *device = vbd_device_name(d->device);
    txn_set_str(t, CLASS_VBD, ref, F_VBD_VM, vm_ref);
    txn_set_str(t, CLASS_VBD, ref, F_VBD_VDI, value_str(d->vdi));
    txn_set_str(t, CLASS_VBD, ref, F_VBD_userdevice, d->device);
    txn_set_str(t, CLASS_VBD, ref, F_VBD_device, device);
    txn_set_bool(t, CLASS_VBD, ref, F_VBD_bootable, d->bootable);
    txn_set_str(t, CLASS_VBD, ref, F_VBD_mode, "RW");
    txn_set_str(t, CLASS_VBD, ref, F_VBD_type, "Disk");
    /* Who destroys the VM in its client's name may destroy these with it. */
    txn_put_key(t, CLASS_VBD, ref, F_VBD_other_config, "owner", "");
    return TRUE;
}

static void commit_provisioned(struct call *c, const char *ref, GPtrArray *disks)
{
    struct txn *t = txn_begin(the_store());
    gboolean done = call_txn_object(c, t, 0) != NULL;
    for (guint i = 0; done && i < disks->len; i++)
        done = make_vbd(t, ref, g_ptr_array_index(disks, i), &c->fault);
    if (!done) {
        txn_abort(t);
        return;
    }
    txn_remove_key(t, CLASS_VM, ref, F_VM_other_config, "disks");
    txn_set_bool(t, CLASS_VM, ref, F_VM_is_a_template, FALSE);
    txn_set_time(t, CLASS_VM_metrics, vm_metrics_of(t, ref), F_VM_metrics_install_time,
                 g_get_real_time() / G_USEC_PER_SEC);
    call_commit(c, t);
}

struct value *vm_provision(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    if (vm == NULL)
        return NULL;
    const char *text = record_key(vm, F_VM_other_config, "disks");
    g_autoptr(GPtrArray) disks = parse_disks(c, text != NULL ? text : "");
    if (disks == NULL)
        return NULL;
    struct drafts *drafts = drafts_new();
    if (plan_images(c, disks, drafts) && make_images(c, vm, disks))
        commit_provisioned(c, vm->ref, disks);
    drafts_end(c, drafts);
    return c->fault.code == NULL ? value_void() : NULL;
}
