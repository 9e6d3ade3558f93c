/* vm_state.c - the records of a VM, its devices and metrics as its power state changes. */
#include "xapi-classes/cpu_pool.h"
#include "xapi-classes/start.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

gboolean vm_is(const struct record *vm, const char *power_state)
{
    return strcmp(record_str(vm, F_VM_power_state), power_state) == 0;
}

static gint64 now(void)
{
    return g_get_real_time() / G_USEC_PER_SEC;
}

/* ---- metrics ---- */

const char *vm_metrics_of(struct txn *t, const char *ref)
{
    struct record *vm = txn_get(t, CLASS_VM, ref);
    const char *metrics = record_str(vm, F_VM_metrics);
    if (txn_get(t, CLASS_VM_metrics, metrics) != NULL)
        return metrics;
    metrics = txn_create(t, CLASS_VM_metrics, NULL, NULL);
    txn_set_str(t, CLASS_VM, ref, F_VM_metrics, metrics);
    return metrics;
}

void vm_metrics_update(struct txn *t, const char *ref, const struct value *state)
{
    static const char *const running[] = {"running", NULL}, *const paused[] = {"paused", NULL};
    struct record *vm = txn_get(t, CLASS_VM, ref);
    const char *metrics = vm_metrics_of(t, ref);
    const char *type = value_get_str(state, "type", vm_domain_type(vm));
    struct value *start = value_get(state, "start_time"), *vcpus = value_get(state, "vcpus");
    struct value *memory = value_get(state, "memory_actual");
    gboolean is_paused = strcmp(value_get_str(state, "power", ""), "paused") == 0;
    if (memory != NULL)
        txn_set_int(t, CLASS_VM_metrics, metrics, F_VM_metrics_memory_actual, value_as_int(memory));
    txn_set_int(t, CLASS_VM_metrics, metrics, F_VM_metrics_VCPUs_number,
                vcpus != NULL ? value_as_int(vcpus) : record_int(vm, F_VM_VCPUs_at_startup));
    if (start != NULL)
        txn_set_time(t, CLASS_VM_metrics, metrics, F_VM_metrics_start_time, (gint64) value_as_float(start));
    txn_set(t, CLASS_VM_metrics, metrics, F_VM_metrics_VCPUs_params, value_ref(record_field(vm, F_VM_VCPUs_params)));
    txn_set(t, CLASS_VM_metrics, metrics, F_VM_metrics_state, value_string_set(NULL, is_paused ? paused : running));
    txn_set_time(t, CLASS_VM_metrics, metrics, F_VM_metrics_last_updated, now());
    txn_set_bool(t, CLASS_VM_metrics, metrics, F_VM_metrics_hvm, strcmp(type, "hvm") == 0);
    txn_set_str(t, CLASS_VM_metrics, metrics, F_VM_metrics_current_domain_type, *type ? type : "unspecified");
}

static void metrics_stopped(struct txn *t, const char *ref)
{
    static const char *const halted[] = {"halted", NULL};
    const char *metrics = vm_metrics_of(t, ref);
    txn_set_int(t, CLASS_VM_metrics, metrics, F_VM_metrics_memory_actual, 0);
    txn_set_int(t, CLASS_VM_metrics, metrics, F_VM_metrics_VCPUs_number, 0);
    txn_set(t, CLASS_VM_metrics, metrics, F_VM_metrics_VCPUs_utilisation, value_empty_map());
    txn_set(t, CLASS_VM_metrics, metrics, F_VM_metrics_VCPUs_CPU, value_empty_map());
    txn_set(t, CLASS_VM_metrics, metrics, F_VM_metrics_VCPUs_flags, value_empty_map());
    txn_set(t, CLASS_VM_metrics, metrics, F_VM_metrics_state, value_string_set(NULL, halted));
    txn_set_time(t, CLASS_VM_metrics, metrics, F_VM_metrics_last_updated, now());
    txn_set_str(t, CLASS_VM_metrics, metrics, F_VM_metrics_current_domain_type, "unspecified");
}

/* What the guest said is still of interest after it stopped, but it says nothing any more. */
static void guest_metrics_stopped(struct txn *t, const struct record *vm)
{
    const char *gm = record_str(vm, F_VM_guest_metrics);
    if (txn_get(t, CLASS_VM_guest_metrics, gm) != NULL)
        txn_set_bool(t, CLASS_VM_guest_metrics, gm, F_VM_guest_metrics_live, FALSE);
}

void vm_drop_guest_metrics(struct txn *t, const char *ref)
{
    const char *gm = record_str(txn_get(t, CLASS_VM, ref), F_VM_guest_metrics);
    if (txn_get(t, CLASS_VM_guest_metrics, gm) != NULL)
        txn_destroy(t, CLASS_VM_guest_metrics, gm);
    txn_set_str(t, CLASS_VM, ref, F_VM_guest_metrics, NULL_REF);
}

/* ---- devices ---- */

/* attached: the uuids of those that are, or NULL for all or none of them. */
static void set_attached(struct txn *t, const struct record *vm, const struct value *attached, gboolean all, int set,
                         enum class_id class, int uuid_field, int field)
{
    const struct value *refs = record_field(vm, set);
    for (gsize i = 0; i < value_count(refs); i++) {
        const char *ref = value_str(value_at(refs, i));
        struct record *r = txn_get(t, class, ref);
        if (r != NULL)
            txn_set_bool(t, class, ref, field,
                         attached != NULL ? value_contains(attached, record_str(r, uuid_field)) : all);
    }
}

/* A disk that moved under the guest: what the domain has is what the VM has, also when nobody was left to say so. */
static void images_as(struct txn *t, const struct record *vm, const struct value *images)
{
    const struct value *refs = record_field(vm, F_VM_VBDs);
    for (gsize i = 0; i < value_count(refs); i++) {
        const char *ref = value_str(value_at(refs, i));
        const struct record *vbd = txn_get(t, CLASS_VBD, ref);
        const char *uuid = vbd != NULL ? value_get_str(images, record_str(vbd, F_VBD_uuid), NULL) : NULL;
        g_autoptr(record) vdi = uuid != NULL ? store_get_by_uuid(the_store(), CLASS_VDI, uuid) : NULL;
        if (vdi != NULL && txn_get(t, CLASS_VDI, vdi->ref) != NULL && strcmp(record_str(vbd, F_VBD_VDI), vdi->ref) != 0)
            txn_set_str(t, CLASS_VBD, ref, F_VBD_VDI, vdi->ref);
    }
}

static void devices_as(struct txn *t, const struct record *vm, const struct value *state, gboolean all)
{
    set_attached(t, vm, state != NULL ? value_get(state, "vbds") : NULL, all, F_VM_VBDs, CLASS_VBD, F_VBD_uuid,
                 F_VBD_currently_attached);
    set_attached(t, vm, state != NULL ? value_get(state, "vifs") : NULL, all, F_VM_VIFs, CLASS_VIF, F_VIF_uuid,
                 F_VIF_currently_attached);
    if (state != NULL && value_get(state, "images") != NULL)
        images_as(t, vm, value_get(state, "images"));
}

/* ---- power states ---- */

/* The settings that a running domain has until it is started again. */
static char *settings_text(const struct record *vm)
{
    static const int fields[] = {F_VM_memory_static_max, F_VM_memory_dynamic_max, F_VM_memory_dynamic_min,
                                 F_VM_memory_static_min, F_VM_VCPUs_max,          F_VM_VCPUs_at_startup};
    GString *s = g_string_new("('struct'");
    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++)
        g_string_append_printf(s, " ('%s' '%" G_GINT64_FORMAT "')", vm->class->fields[fields[i]].name,
                               record_int(vm, fields[i]));
    g_string_append_c(s, ')');
    return g_string_free(s, FALSE);
}

static struct value *cpu_flags(struct txn *t, const char *host_ref)
{
    struct record *host = txn_get(t, CLASS_host, host_ref);
    struct value_builder b;
    if (host == NULL)
        return value_empty_map();
    const char *vendor = record_key(host, F_host_cpu_info, "vendor");
    const char *features = record_key(host, F_host_cpu_info, "features");
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "vendor", vendor != NULL ? vendor : "");
    value_builder_put_string(&b, "features", features != NULL ? features : "");
    return value_builder_end(&b);
}

static void set_booted(struct txn *t, const char *ref, const struct record *vm, const char *host)
{
    g_autofree char *settings = settings_text(vm);
    txn_set_str(t, CLASS_VM, ref, F_VM_last_booted_record, settings);
    txn_set(t, CLASS_VM, ref, F_VM_last_boot_CPU_flags, cpu_flags(t, host));
    txn_set_bool(t, CLASS_VM, ref, F_VM_requires_reboot, FALSE);
}

void vm_set_running(struct txn *t, const char *ref, const struct value *state, const struct value *consoles)
{
    struct record *vm = txn_get(t, CLASS_VM, ref);
    gint64 domid = value_as_int(value_get(state, "domid"));
    gboolean paused = strcmp(value_get_str(state, "power", ""), "paused") == 0;
    const char *host = host_ref();
    cpu_pool_place(t, ref, state, record_int(vm, F_VM_domid) != domid);
    if (record_int(vm, F_VM_domid) != domid) {
        set_booted(t, ref, vm, host);
        consoles_close(t, ref);
        if (consoles != NULL)
            consoles_open(t, ref, consoles);
    }
    txn_set_str(t, CLASS_VM, ref, F_VM_power_state, paused ? "Paused" : "Running");
    txn_set_int(t, CLASS_VM, ref, F_VM_domid, domid);
    txn_set_str(t, CLASS_VM, ref, F_VM_resident_on, host);
    txn_set_str(t, CLASS_VM, ref, F_VM_scheduled_to_be_resident_on, NULL_REF);
    if (!value_as_bool(value_get(state, "suspending"))) /* else the image is being written */
        txn_set_str(t, CLASS_VM, ref, F_VM_suspend_VDI, NULL_REF);
    devices_as(t, vm, state, TRUE);
    vm_metrics_update(t, ref, state);
}

void vm_set_paused(struct txn *t, const char *ref, gboolean paused)
{
    txn_set_str(t, CLASS_VM, ref, F_VM_power_state, paused ? "Paused" : "Running");
}

static void set_nowhere(struct txn *t, const char *ref, const char *power_state)
{
    struct record *vm = txn_get(t, CLASS_VM, ref);
    txn_set_str(t, CLASS_VM, ref, F_VM_power_state, power_state);
    txn_set_int(t, CLASS_VM, ref, F_VM_domid, -1);
    txn_set_str(t, CLASS_VM, ref, F_VM_resident_on, NULL_REF);
    txn_set_str(t, CLASS_VM, ref, F_VM_scheduled_to_be_resident_on, NULL_REF);
    consoles_close(t, ref);
    cpu_pool_leave(t, ref);
    metrics_stopped(t, ref);
    guest_metrics_stopped(t, vm);
}

void vm_set_halted(struct txn *t, const char *ref)
{
    set_nowhere(t, ref, "Halted");
    txn_set_bool(t, CLASS_VM, ref, F_VM_requires_reboot, FALSE);
    txn_set_str(t, CLASS_VM, ref, F_VM_suspend_VDI, NULL_REF);
    devices_as(t, txn_get(t, CLASS_VM, ref), NULL, FALSE);
}

/* The disks of a suspended VM stay its own: its memory believes in their content. */
void vm_set_suspended(struct txn *t, const char *ref)
{
    set_nowhere(t, ref, "Suspended");
}
