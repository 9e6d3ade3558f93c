/* vdi.c - the class VDI: disk images. The medium is changed first, the record follows; what a crash leaves between the
 * two is found by the next scan. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/storage/vdi.h"
#include "xapi-classes/vm/vm.h"
#include "xenbackend/backend.h"

#define SECTOR       512
#define MAX_VDI_SIZE (G_GINT64_CONSTANT(1) << 46) /* 64 TiB: what qcow2 and the tools here surely hold */

/* The image and its attached SR, counted; FALSE with the fault set. */
static gboolean image_and_sr(struct call *c, int arg, struct record **vdi, struct record **sr)
{
    *sr = NULL;
    *vdi = call_object(c, arg);
    if (*vdi)
        *sr = storage_attached_sr(record_str(*vdi, F_VDI_SR), &c->fault);
    return *sr != NULL;
}

/* "" leaves it to the driver. */
static const char *image_format(struct call *c, struct value *sm_config, const struct record *sr)
{
    const char *of_sr = record_key(sr, F_SR_sm_config, "type");
    const char *format = value_get_str(sm_config, "type", of_sr ? of_sr : "");
    if (*format == '\0' || strcmp(format, "raw") == 0 || strcmp(format, "qcow2") == 0)
        return format;
    call_fail(c, "VALUE_NOT_SUPPORTED", "sm_config:type", format, "raw or qcow2", NULL);
    return NULL;
}

/* ---- create, introduce ---- */

static gboolean check_size(struct call *c, gint64 size)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, size);
    if (size > MAX_VDI_SIZE) {
        g_autofree char *max = g_strdup_printf("%" G_GINT64_FORMAT, MAX_VDI_SIZE);
        return fault_set(&c->fault, "VDI_TOO_LARGE", NULL_REF, max, NULL);
    }
    return size > 0 || fault_set(&c->fault, "INVALID_VALUE", "virtual_size", text, NULL);
}

static struct value *record_created(struct call *c, struct txn *t, const char *uuid, G_GNUC_UNUSED void *data)
{
    return generic_create_in(c, t, uuid);
}

/* VDI.create(record), as a task. */
struct value *vdi_create(struct call *c)
{
    struct value *given = call_arg(c, 0);
    gint64 size = value_as_int(value_get(given, "virtual_size"));
    char uuid[UUID_SIZE];
    struct value_builder b;

    g_autoptr(record) sr = storage_attached_sr(value_get_str(given, "SR", ""), &c->fault);
    if (!sr || !check_size(c, size))
        return NULL;
    const char *format = image_format(c, value_get(given, "sm_config"), sr);
    if (!format)
        return NULL;
    uuid_generate_text(uuid);
    storage_params_begin(&b, record_str(sr, F_SR_uuid), uuid);
    value_builder_put(&b, "virtual_size", value_int(NULL, (size + SECTOR - 1) / SECTOR * SECTOR));
    value_builder_put_string(&b, "type", format);
    value_builder_put_string(&b, "name_label", value_get_str(given, "name_label", ""));
    value_builder_put_string(&b, "name_description", value_get_str(given, "name_description", ""));
    return image_make(c, "vdi.create", value_builder_end(&b), sr, uuid, record_created, NULL);
}

static gboolean is_known(struct txn *t, const struct record *sr, const char *uuid)
{
    struct record *now = txn_get(t, CLASS_SR, sr->ref);
    struct value *vdis = now ? record_field(now, F_SR_VDIs) : NULL;
    for (gsize i = 0; i < value_count(vdis); i++) {
        struct record *r = txn_get(t, CLASS_VDI, value_str(value_at(vdis, i)));
        if (r && strcmp(record_str(r, F_VDI_uuid), uuid) == 0)
            return TRUE;
    }
    return FALSE;
}

/* VDI.introduce(uuid, name_label, name_description, SR, type, sharable, read_only, other_config, location,
 * xenstore_data, sm_config, managed, ...). */
struct value *vdi_introduce(struct call *c)
{
    static const struct {
        int arg, field;
    } same[] = {{1, F_VDI_name_label},   {2, F_VDI_name_description}, {3, F_VDI_SR},
                {4, F_VDI_type},         {5, F_VDI_sharable},         {6, F_VDI_read_only},
                {7, F_VDI_other_config}, {9, F_VDI_xenstore_data},    {10, F_VDI_sm_config}};
    const char *uuid = call_str(c, 0);
    g_autoptr(record) sr = storage_attached_sr(call_str(c, 3), &c->fault);
    g_autoptr(record) there = store_get_by_uuid(the_store(), CLASS_VDI, uuid);

    if (!sr)
        return NULL;
    if (there)
        return call_fail(c, "DB_UNIQUENESS_CONSTRAINT_VIOLATION", "VDI", "uuid", uuid, NULL);
    if (!uuid_is_valid(uuid))
        return call_fail(c, "INVALID_VALUE", "uuid", uuid, NULL);
    g_autoptr(value) stat = storage_call(c, "vdi.stat", storage_params(record_str(sr, F_SR_uuid), uuid));
    if (!stat)
        return NULL;
    struct txn *t = txn_begin(the_store());
    if (is_known(t, sr, uuid)) { /* a scan was quicker */
        txn_abort(t);
        return call_fail(c, "DB_UNIQUENESS_CONSTRAINT_VIOLATION", "VDI", "uuid", uuid, NULL);
    }
    struct value *ref = value_string(NULL, txn_create(t, CLASS_VDI, NULL, uuid));
    for (gsize i = 0; i < G_N_ELEMENTS(same); i++)
        txn_set(t, CLASS_VDI, value_str(ref), same[i].field, value_ref(call_arg(c, same[i].arg)));
    vdi_apply(t, value_str(ref), stat);
    call_commit(c, t);
    return ref;
}

/* ---- destroy, forget ---- */

static struct value *drop_record(struct call *c, const char *ref)
{
    struct txn *t = txn_begin(the_store());
    vdi_forget_record(t, ref);
    call_commit(c, t);
    return value_void();
}

static gboolean destroy_image(struct call *c, const struct record *sr, const struct record *vdi)
{
    g_autoptr(value) done =
        storage_call(c, "vdi.destroy", storage_params(record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid)));
    if (!done && strcmp(c->fault.code, "VDI_MISSING") == 0)
        fault_clear(&c->fault); /* somebody was quicker */
    storage_coalesce_soon(record_str(sr, F_SR_uuid), done);
    return c->fault.code == NULL;
}

struct value *vdi_destroy(struct call *c)
{
    g_autoptr(record) vdi = NULL, sr = NULL;
    if (!image_and_sr(c, 0, &vdi, &sr))
        return NULL;
    image_work_begin(record_str(vdi, F_VDI_uuid));
    struct value *done = record_bool(vdi, F_VDI_missing) || destroy_image(c, sr, vdi) ? drop_record(c, vdi->ref) : NULL;
    image_work_end(record_str(vdi, F_VDI_uuid));
    return done;
}

struct value *vdi_forget(struct call *c)
{
    g_autoptr(record) vdi = call_object(c, 0);
    return vdi ? drop_record(c, vdi->ref) : NULL;
}

/* ---- clone, snapshot, copy ---- */

struct value *vdi_record_twin(G_GNUC_UNUSED struct call *c, struct txn *t, const char *uuid, void *data)
{
    static const int same[] = {F_VDI_name_label,   F_VDI_name_description, F_VDI_type,    F_VDI_sharable,
                               F_VDI_other_config, F_VDI_xenstore_data,    F_VDI_on_boot, F_VDI_tags};
    const struct vdi_twin *twin = data;
    struct value *ref = value_string(NULL, txn_create(t, CLASS_VDI, NULL, uuid));
    const char *r = value_str(ref);

    for (gsize i = 0; i < G_N_ELEMENTS(same); i++)
        txn_set(t, CLASS_VDI, r, same[i], value_ref(record_field(twin->vdi, same[i])));
    if (twin->snapshot) {
        txn_set_bool(t, CLASS_VDI, r, F_VDI_is_a_snapshot, TRUE);
        txn_set_str(t, CLASS_VDI, r, F_VDI_snapshot_of, twin->vdi->ref);
        txn_set_time(t, CLASS_VDI, r, F_VDI_snapshot_time, g_get_real_time() / G_USEC_PER_SEC);
    }
    return ref;
}

/* The uuid of a VM that runs and has the image attached, if wanted for writing; NULL when there is none. Heap. */
static char *user_of(const struct record *vdi, gboolean writer)
{
    struct value *vbds = record_field(vdi, F_VDI_VBDs);
    for (gsize i = 0; i < value_count(vbds); i++) {
        g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, value_str(value_at(vbds, i)));
        if (!vbd || !record_bool(vbd, F_VBD_currently_attached) ||
            (writer && strcmp(record_str(vbd, F_VBD_mode), "RW") != 0))
            continue;
        g_autoptr(record) vm = store_get(the_store(), CLASS_VM, record_str(vbd, F_VBD_VM));
        if (vm && record_int(vm, F_VM_domid) >= 0)
            return g_strdup(record_str(vm, F_VM_uuid));
    }
    return NULL;
}

char *vdi_writer(const struct record *vdi)
{
    return user_of(vdi, TRUE);
}

static void choose_uuid(char chosen[UUID_SIZE], const char *given)
{
    if (given)
        g_strlcpy(chosen, given, UUID_SIZE);
    else
        uuid_generate_text(chosen);
}

struct value *vdi_clone_now(struct call *c, const char *vdi_ref, const char *new_uuid, gboolean snapshot,
                            const char *base)
{
    char uuid[UUID_SIZE];
    struct value_builder b;
    g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, vdi_ref);
    struct vdi_twin twin = {.vdi = vdi, .snapshot = snapshot};

    if (!vdi)
        return call_fail(c, "HANDLE_INVALID", "VDI", vdi_ref, NULL);
    g_autoptr(record) sr = storage_attached_sr(record_str(vdi, F_VDI_SR), &c->fault);
    if (!sr)
        return NULL;
    g_autofree char *writer = snapshot ? vdi_writer(vdi) : NULL;
    choose_uuid(uuid, new_uuid);
    storage_params_begin(&b, record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid));
    value_builder_put_string(&b, "new", uuid);
    if (writer)
        value_builder_put_string(&b, "writer", writer);
    if (base)
        value_builder_put_string(&b, "base", base);
    return image_make(c, snapshot ? "vdi.snapshot" : "vdi.clone", value_builder_end(&b), sr, uuid, vdi_record_twin,
                      &twin);
}

struct value *vdi_copy_now(struct call *c, const char *vdi_ref, const char *new_uuid, const char *sr_ref)
{
    char uuid[UUID_SIZE];
    struct value_builder b;
    g_autoptr(record) vdi = store_get(the_store(), CLASS_VDI, vdi_ref);
    struct vdi_twin twin = {.vdi = vdi};

    if (!vdi)
        return call_fail(c, "HANDLE_INVALID", "VDI", vdi_ref, NULL);
    g_autoptr(record) from = storage_attached_sr(record_str(vdi, F_VDI_SR), &c->fault);
    g_autoptr(record) to = from ? storage_attached_sr(sr_ref, &c->fault) : NULL;
    if (!to)
        return NULL;
    choose_uuid(uuid, new_uuid);
    storage_params_begin(&b, record_str(from, F_SR_uuid), record_str(vdi, F_VDI_uuid));
    value_builder_put_string(&b, "dest_sr", record_str(to, F_SR_uuid));
    value_builder_put_string(&b, "new", uuid);
    return image_make(c, "vdi.copy", value_builder_end(&b), to, uuid, vdi_record_twin, &twin);
}

struct value *vdi_clone(struct call *c)
{
    return vdi_clone_now(c, call_str(c, 0), NULL, FALSE, NULL);
}

struct value *vdi_snapshot(struct call *c)
{
    return vdi_clone_now(c, call_str(c, 0), NULL, TRUE, NULL);
}

/* The image that is written to takes part in the operation, under the same task. FALSE with c's fault set. */
static gboolean hold_target(struct call *c, const struct record *vdi, const char *into)
{
    g_autofree char *least = g_strdup_printf("%" G_GINT64_FORMAT, record_int(vdi, F_VDI_virtual_size));
    struct txn *t = txn_begin(the_store());
    const struct record *target = txn_get(t, CLASS_VDI, into);
    if (!target)
        call_fail(c, "HANDLE_INVALID", "VDI", into, NULL);
    else if (record_bool(target, F_VDI_read_only) || record_bool(target, F_VDI_is_a_snapshot))
        call_fail(c, "VDI_READONLY", into, NULL);
    else if (record_int(target, F_VDI_virtual_size) < record_int(vdi, F_VDI_virtual_size))
        call_fail(c, "VDI_TOO_SMALL", into, least, NULL);
    else if (operation_check(t, CLASS_VDI, into, "blocked", &c->fault)) {
        txn_put_key(t, CLASS_VDI, into, F_VDI_current_operations, call_task_ref(c), "blocked");
        txn_commit(t);
        return TRUE;
    }
    txn_abort(t);
    return FALSE;
}

/* content (NULL: it stayed what it was) is what the backend says of it now. */
static void release_target(struct call *c, const char *into, struct value *content)
{
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VDI, into)) {
        txn_remove_key(t, CLASS_VDI, into, F_VDI_current_operations, call_task_ref(c));
        if (content)
            vdi_apply(t, into, content);
    }
    call_commit(c, t);
}

static struct value *ask_copy_into(struct call *c, const struct record *vdi, const struct record *into)
{
    struct value_builder b;
    g_autoptr(record) from = storage_attached_sr(record_str(vdi, F_VDI_SR), &c->fault);
    g_autoptr(record) to = from ? storage_attached_sr(record_str(into, F_VDI_SR), &c->fault) : NULL;
    if (!to)
        return NULL;
    storage_params_begin(&b, record_str(from, F_SR_uuid), record_str(vdi, F_VDI_uuid));
    value_builder_put_string(&b, "dest_sr", record_str(to, F_SR_uuid));
    value_builder_put_string(&b, "new", record_str(into, F_VDI_uuid));
    value_builder_put(&b, "into", value_bool(TRUE));
    return storage_call(c, "vdi.copy", value_builder_end(&b));
}

/* All of it, also when base says that the target has a part already: then the outcome is the same. */
static struct value *copy_into(struct call *c, const struct record *vdi, const char *into_ref)
{
    if (strcmp(into_ref, vdi->ref) == 0)
        return call_fail(c, "VDI_IN_USE", into_ref, "copy", NULL);
    if (!hold_target(c, vdi, into_ref))
        return NULL;
    g_autoptr(record) into = store_get(the_store(), CLASS_VDI, into_ref);
    g_autoptr(value) content = into ? ask_copy_into(c, vdi, into) : NULL;
    release_target(c, into_ref, content);
    return content ? value_string(NULL, into_ref) : NULL;
}

/* VDI.copy(vdi, sr, base_vdi, into_vdi). */
struct value *vdi_copy(struct call *c)
{
    g_autoptr(record) vdi = call_object(c, 0);
    g_autoptr(record) base = vdi && !ref_is_null(call_str(c, 2)) ? call_object(c, 2) : NULL;
    if (!vdi || c->fault.code)
        return NULL;
    if (!ref_is_null(call_str(c, 3)))
        return copy_into(c, vdi, call_str(c, 3));
    const char *sr = ref_is_null(call_str(c, 1)) ? record_str(vdi, F_VDI_SR) : call_str(c, 1);
    return base ? vdi_copy_delta(c, vdi, base, sr) : vdi_copy_now(c, vdi->ref, NULL, sr);
}

/* ---- resize, update ---- */

static struct value *apply_answer(struct call *c, const char *ref, struct value *answer)
{
    if (!answer)
        return NULL;
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VDI, ref))
        vdi_apply(t, ref, answer);
    call_commit(c, t);
    return value_void();
}

/* Guests that have the disk see its size at once. One that is gone meanwhile sees it when it comes again. */
static void tell_users(const struct record *vdi, gint64 size)
{
    struct value *vbds = record_field(vdi, F_VDI_VBDs);
    for (gsize i = 0; i < value_count(vbds); i++) {
        struct fault f = FAULT_INIT;
        struct value_builder b;
        g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, value_str(value_at(vbds, i)));
        g_autoptr(record) vm = vbd ? store_get(the_store(), CLASS_VM, record_str(vbd, F_VBD_VM)) : NULL;
        if (!vm || !record_bool(vbd, F_VBD_currently_attached) || record_int(vm, F_VM_domid) < 0)
            continue;
        vm_params(&b, record_str(vm, F_VM_uuid));
        value_builder_put(&b, "vbd", vbd_config(vbd));
        value_builder_put(&b, "virtual_size", value_int(NULL, size));
        g_autoptr(value) params = value_builder_end(&b);
        g_autoptr(value) answer = backend_call("domain.vbd_resized", params, NULL, &f);
        if (!answer)
            g_debug("a guest was not told of its disk's size: %s", f.code);
        fault_clear(&f);
    }
}

struct value *vdi_resize(struct call *c)
{
    g_autoptr(record) vdi = NULL, sr = NULL;
    gint64 size = call_int(c, 1);
    struct value_builder b;

    if (!image_and_sr(c, 0, &vdi, &sr))
        return NULL;
    if (size < record_int(vdi, F_VDI_virtual_size)) {
        g_autofree char *least = g_strdup_printf("%" G_GINT64_FORMAT, record_int(vdi, F_VDI_virtual_size));
        return call_fail(c, "VDI_TOO_SMALL", vdi->ref, least, NULL);
    }
    if (!check_size(c, size))
        return NULL;
    storage_params_begin(&b, record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid));
    value_builder_put(&b, "virtual_size", value_int(NULL, (size + SECTOR - 1) / SECTOR * SECTOR));
    g_autofree char *user = user_of(vdi, FALSE);
    if (user)
        value_builder_put_string(&b, "writer", user);
    g_autoptr(value) answer = storage_call(c, "vdi.resize", value_builder_end(&b));
    if (answer)
        tell_users(vdi, value_as_int(value_get(answer, "virtual_size")));
    return apply_answer(c, vdi->ref, answer);
}

struct value *vdi_update(struct call *c)
{
    g_autoptr(record) vdi = NULL, sr = NULL;
    if (!image_and_sr(c, 0, &vdi, &sr))
        return NULL;
    g_autoptr(value) answer =
        storage_call(c, "vdi.stat", storage_params(record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid)));
    return apply_answer(c, vdi->ref, answer);
}

/* ---- setters ---- */

static gboolean is_attached(struct txn *t, const struct record *vdi)
{
    struct value *vbds = record_field(vdi, F_VDI_VBDs);
    for (gsize i = 0; i < value_count(vbds); i++) {
        struct record *vbd = txn_get(t, CLASS_VBD, value_str(value_at(vbds, i)));
        if (vbd && record_bool(vbd, F_VBD_currently_attached))
            return TRUE;
    }
    return FALSE;
}

static struct value *set_field(struct call *c, int field, gboolean only_detached)
{
    struct txn *t = txn_begin(the_store());
    struct record *vdi = call_txn_object(c, t, 0);

    if (vdi && only_detached && is_attached(t, vdi))
        call_fail(c, "VDI_IN_USE", vdi->ref, c->msg->name, NULL);
    if (c->fault.code) {
        txn_abort(t);
        return NULL;
    }
    txn_set(t, CLASS_VDI, call_str(c, 0), field, value_ref(call_arg(c, 1)));
    call_commit(c, t);
    return value_void();
}

struct value *vdi_set_name_label(struct call *c)
{
    return set_field(c, F_VDI_name_label, FALSE);
}

struct value *vdi_set_name_description(struct call *c)
{
    return set_field(c, F_VDI_name_description, FALSE);
}

struct value *vdi_set_read_only(struct call *c)
{
    return set_field(c, F_VDI_read_only, TRUE);
}

struct value *vdi_set_sharable(struct call *c)
{
    return set_field(c, F_VDI_sharable, TRUE);
}

/* Only the next attach looks at it. */
struct value *vdi_set_allow_caching(struct call *c)
{
    return set_field(c, F_VDI_allow_caching, FALSE);
}

/* No driver here can put a disk back to what it was when its VM starts. */
struct value *vdi_set_on_boot(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    const struct record *vdi = call_txn_object(c, t, 0);
    gboolean may = vdi && operation_check(t, CLASS_VDI, vdi->ref, "set_on_boot", &c->fault);
    if (may && strcmp(call_str(c, 1), "reset") == 0)
        call_fail(c, "SR_OPERATION_NOT_SUPPORTED", record_str(vdi, F_VDI_SR), NULL);
    if (c->fault.code) {
        txn_abort(t);
        return NULL;
    }
    txn_set(t, CLASS_VDI, vdi->ref, F_VDI_on_boot, value_ref(call_arg(c, 1)));
    call_commit(c, t);
    return value_void();
}

/* ---- databases in images: nobody here writes any ---- */

struct value *vdi_open_database(struct call *c)
{
    g_autoptr(record) vdi = call_object(c, 0);
    if (!vdi)
        return NULL;
    if (strcmp(record_str(vdi, F_VDI_type), "metadata") != 0)
        return call_fail(c, "VDI_INCOMPATIBLE_TYPE", vdi->ref, record_str(vdi, F_VDI_type), NULL);
    return call_fail(c, "COULD_NOT_IMPORT_DATABASE", "The image holds no database that this host can read", NULL);
}

struct value *vdi_read_database_pool_uuid(struct call *c)
{
    g_autoptr(record) vdi = call_object(c, 0);
    return vdi ? value_string(NULL, "") : NULL;
}
