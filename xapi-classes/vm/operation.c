/* operation.c - what may be done to a VM now, and the record of what is being done to any object. */
#include "xapi-classes/vm/operation.h"

#include <string.h>

#include "xapi-classes/vm/operation_private.h"
#include "xapi-classes/vm/vm.h"

/* ---- VMs: the table ---- */

enum {
    HALTED = 1,
    PAUSED = 2,
    SUSPENDED = 4,
    RUNNING = 8,
    ANY = HALTED | PAUSED | SUSPENDED | RUNNING,
    /* who else may have it */
    OF_TEMPLATE = 16,
    OF_SNAPSHOT = 32,
    OF_CONTROL_DOMAIN = 64,
    /* not told in allowed_operations: old clients fail on a value they do not know, others are of no use to anybody */
    UNTOLD = 128,
    /* the control domain never halts: what needs a halted VM is allowed to it while it runs */
    RUNNING_CONTROL_DOMAIN = 256 | OF_CONTROL_DOMAIN,
};

static const struct vm_operation {
    const char *name;
    guint when;
} vm_table[] = {
    {"snapshot", ANY | OF_TEMPLATE},
    {"clone", HALTED | OF_TEMPLATE | OF_SNAPSHOT},
    {"copy", HALTED | OF_TEMPLATE | OF_SNAPSHOT},
    {"create_template", HALTED | SUSPENDED | OF_SNAPSHOT},
    {"revert", ANY | OF_SNAPSHOT},
    {"checkpoint", PAUSED | SUSPENDED | RUNNING},
    {"snapshot_with_quiesce", RUNNING | UNTOLD},
    {"provision", HALTED | OF_TEMPLATE},
    {"start", HALTED},
    {"start_on", HALTED},
    {"pause", RUNNING},
    {"unpause", PAUSED},
    {"clean_shutdown", RUNNING},
    {"clean_reboot", RUNNING},
    {"hard_shutdown", PAUSED | SUSPENDED | RUNNING | OF_SNAPSHOT},
    {"power_state_reset", ANY},
    {"hard_reboot", PAUSED | RUNNING},
    {"suspend", RUNNING},
    {"csvm", SUSPENDED},
    {"resume", SUSPENDED},
    {"resume_on", SUSPENDED},
    {"pool_migrate", RUNNING | UNTOLD},
    {"migrate_send", HALTED | SUSPENDED | RUNNING | UNTOLD},
    {"get_boot_record", PAUSED | SUSPENDED | RUNNING},
    {"send_sysrq", RUNNING},
    {"send_trigger", RUNNING},
    {"query_services", ANY | OF_CONTROL_DOMAIN},
    {"shutdown", PAUSED | SUSPENDED | RUNNING},
    {"call_plugin", RUNNING | OF_CONTROL_DOMAIN},
    {"changing_memory_live", RUNNING | OF_CONTROL_DOMAIN},
    {"awaiting_memory_live", RUNNING | OF_CONTROL_DOMAIN},
    {"changing_dynamic_range", HALTED | RUNNING | OF_TEMPLATE | OF_CONTROL_DOMAIN},
    {"changing_static_range", HALTED | OF_TEMPLATE | RUNNING_CONTROL_DOMAIN},
    {"changing_memory_limits", HALTED | OF_TEMPLATE | RUNNING_CONTROL_DOMAIN},
    {"changing_shadow_memory", HALTED | OF_TEMPLATE},
    {"changing_shadow_memory_live", RUNNING},
    {"changing_VCPUs", HALTED | OF_TEMPLATE | RUNNING_CONTROL_DOMAIN},
    {"changing_VCPUs_live", RUNNING | OF_CONTROL_DOMAIN},
    {"changing_NVRAM", HALTED | OF_TEMPLATE | UNTOLD},
    {"assert_operation_valid", ANY | OF_TEMPLATE | OF_SNAPSHOT | OF_CONTROL_DOMAIN},
    {"data_source_op", RUNNING | OF_CONTROL_DOMAIN},
    {"update_allowed_operations", ANY | OF_TEMPLATE | OF_SNAPSHOT | OF_CONTROL_DOMAIN},
    {"make_into_template", HALTED},
    {"import", 0 | UNTOLD},
    {"export", HALTED | SUSPENDED | OF_TEMPLATE | OF_SNAPSHOT},
    {"metadata_export", ANY | OF_TEMPLATE | OF_SNAPSHOT | OF_CONTROL_DOMAIN},
    {"reverting", ANY | OF_TEMPLATE | UNTOLD},
    {"destroy", HALTED | SUSPENDED | OF_TEMPLATE | OF_SNAPSHOT},
    {"create_vtpm", HALTED | UNTOLD},
};
G_STATIC_ASSERT(G_N_ELEMENTS(vm_table) <= 64);

static const struct vm_operation *vm_operation_find(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(vm_table); i++)
        if (strcmp(vm_table[i].name, name) == 0)
            return &vm_table[i];
    return NULL;
}

static guint state_bit(const char *power_state)
{
    switch (power_state[0]) {
    case 'R':
        return RUNNING;
    case 'P':
        return PAUSED;
    case 'S':
        return SUSPENDED;
    default:
        return HALTED;
    }
}

/* Lower case, as the errors of power states have them; the order is that of the API's own tables. */
static char *states_text(guint states)
{
    GString *s = g_string_new(NULL);
    static const struct {
        guint bit;
        const char *name;
    } names[] = {{HALTED, "halted"}, {PAUSED, "paused"}, {SUSPENDED, "suspended"}, {RUNNING, "running"}};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (states & names[i].bit)
            g_string_append_printf(s, "%s%s", s->len > 0 ? ", " : "", names[i].name);
    return g_string_free(s, FALSE);
}

gboolean fault_power_state(struct fault *f, const char *vm, const char *expected, const char *actual)
{
    g_autofree char *lower = g_ascii_strdown(actual, -1);
    return fault_set(f, "VM_BAD_POWER_STATE", vm, expected, lower, NULL);
}

/* ---- VMs: what a VM is, as far as the table asks ---- */

struct situation {
    const struct record *vm;
    guint state;
    gboolean template, default_template, snapshot, control_domain;
};

static struct situation situation_of(const struct record *vm)
{
    return (struct situation){
        .vm = vm,
        .state = state_bit(record_str(vm, F_VM_power_state)),
        .template = record_bool(vm, F_VM_is_a_template),
        .default_template = record_bool(vm, F_VM_is_default_template),
        .snapshot = record_bool(vm, F_VM_is_a_snapshot),
        .control_domain = record_bool(vm, F_VM_is_control_domain),
    };
}

static guint states_of(const struct situation *s, const struct vm_operation *op)
{
    guint states = op->when & ANY;
    if (s->snapshot && (strcmp(op->name, "clone") == 0 || strcmp(op->name, "copy") == 0))
        states |= SUSPENDED;
    if (s->control_domain && (op->when & RUNNING_CONTROL_DOMAIN) == RUNNING_CONTROL_DOMAIN)
        states |= RUNNING;
    return states;
}

static gboolean is_one_of(const char *s, const char *const *list)
{
    return g_strv_contains(list, s);
}

/* May op begin while other is in progress? */
static gboolean may_join(const char *op, const char *other)
{
    static const char *const copies[] = {"clone", "copy", "export", NULL};
    static const char *const snapshots[] = {"snapshot", "checkpoint", NULL};
    static const char *const over_migration[] = {"clean_shutdown", "clean_reboot", "metadata_export", NULL};
    if (strcmp(op, "hard_shutdown") == 0)
        return strcmp(other, op) != 0;
    if (strcmp(op, "hard_reboot") == 0)
        return strcmp(other, op) != 0 && strcmp(other, "hard_shutdown") != 0;
    if (is_one_of(op, copies) && is_one_of(other, copies))
        return TRUE;
    if (is_one_of(op, snapshots) && is_one_of(other, snapshots))
        return TRUE;
    return strcmp(other, "migrate_send") == 0 && is_one_of(op, over_migration);
}

/* Reads and asserts change nothing and need not wait for anything. */
static gboolean needs_no_turn(const char *op)
{
    static const char *const free[] = {"assert_operation_valid", "update_allowed_operations", "query_services",
                                       "get_boot_record", NULL};
    return is_one_of(op, free);
}

static gboolean fault_in_progress(struct fault *f, const char *class, const char *ref, const struct value_member *other)
{
    return fault_set(f, "OTHER_OPERATION_IN_PROGRESS", class, ref, value_str(other->value), value_str(other->key),
                     NULL);
}

static gboolean check_in_progress(const struct situation *s, const struct vm_operation *op, struct fault *f)
{
    const struct value *current = record_field(s->vm, F_VM_current_operations);
    if (needs_no_turn(op->name))
        return TRUE;
    for (gsize i = 0; i < value_count(current); i++)
        if (!may_join(op->name, value_str(current->u.map.m[i].value)))
            return fault_in_progress(f, "VM", s->vm->ref, &current->u.map.m[i]);
    return TRUE;
}

static gboolean check_power_state(const struct situation *s, const struct vm_operation *op, struct fault *f)
{
    guint states = states_of(s, op);
    if (states & s->state)
        return TRUE;
    if (f == NULL)
        return FALSE;
    g_autofree char *expected = states_text(states);
    return fault_power_state(f, s->vm->ref, expected, record_str(s->vm, F_VM_power_state));
}

/* Templates and snapshots are not there to run. */
static gboolean check_kind(const struct situation *s, const struct vm_operation *op, struct fault *f)
{
    if (strcmp(op->name, "provision") == 0 && !s->template)
        return fault_set(f, "PROVISION_ONLY_ALLOWED_ON_TEMPLATE", NULL);
    if (strcmp(op->name, "revert") == 0 && !s->snapshot)
        return fault_set(f, "OPERATION_NOT_ALLOWED", "only a snapshot can be reverted to", NULL);
    if (s->snapshot)
        return (op->when & OF_SNAPSHOT) || fault_set(f, "VM_IS_TEMPLATE", s->vm->ref, NULL);
    if (s->default_template && strcmp(op->name, "destroy") == 0)
        return fault_set(f, "VM_CANNOT_DELETE_DEFAULT_TEMPLATE", s->vm->ref, NULL);
    if (s->template && !(op->when & OF_TEMPLATE))
        return fault_set(f, "VM_IS_TEMPLATE", s->vm->ref, NULL);
    return TRUE;
}

/* f may be NULL: then only the answer counts. */
static gboolean vm_allows(const struct situation *s, const struct vm_operation *op, struct fault *f)
{
    const char *blocked = record_key(s->vm, F_VM_blocked_operations, op->name);
    if (blocked != NULL)
        return fault_set(f, "OPERATION_BLOCKED", s->vm->ref, blocked, NULL);
    if (s->control_domain && !(op->when & OF_CONTROL_DOMAIN))
        return fault_set(f, "OPERATION_NOT_ALLOWED", "the control domain is no guest", NULL);
    return check_power_state(s, op, f) && check_in_progress(s, op, f) && check_kind(s, op, f);
}

static gboolean vm_check(const struct record *vm, const char *name, struct fault *f)
{
    const struct vm_operation *op = vm_operation_find(name);
    if (op == NULL)
        return fault_set(f, "INVALID_VALUE", "operation", name, NULL);
    struct situation s = situation_of(vm);
    return vm_allows(&s, op, f);
}

/* ---- allowed_operations as sets ---- */

/* Few different sets exist at any time: objects share them. */
struct value *operation_set(const char *const *names, gsize stride, guint64 mask)
{
    static GMutex lock;
    static GHashTable *sets; /* "table:mask" -> struct value */
    g_autofree char *key = g_strdup_printf("%p:%" G_GINT64_MODIFIER "x", (const void *) names, mask);
    g_mutex_lock(&lock);
    if (sets == NULL)
        sets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) value_unref);
    struct value *v = g_hash_table_lookup(sets, key);
    if (v == NULL) {
        struct value_builder b;
        value_builder_set(&b, NULL, 16);
        for (int i = 0; i < 64; i++)
            if (mask & ((guint64) 1 << i))
                value_builder_add_string(&b, *(const char *const *) ((const char *) names + i * stride));
        v = value_builder_end(&b);
        g_hash_table_insert(sets, g_steal_pointer(&key), v);
    }
    v = value_ref(v);
    g_mutex_unlock(&lock);
    return v;
}

static guint64 vm_mask(const struct record *vm)
{
    struct situation s = situation_of(vm);
    guint64 mask = 0;
    for (gsize i = 0; i < G_N_ELEMENTS(vm_table); i++)
        if (!(vm_table[i].when & UNTOLD) && vm_allows(&s, &vm_table[i], NULL))
            mask |= (guint64) 1 << i;
    return mask;
}

/* What the VM allows and how much the hypervisor needs for it follow from it alone; what its devices allow follows from
 * it, too. */
void vm_derive(struct txn *t, const char *ref)
{
    struct record *vm = txn_get(t, CLASS_VM, ref);
    if (vm == NULL)
        return;
    txn_set(t, CLASS_VM, ref, F_VM_allowed_operations,
            operation_set(&vm_table[0].name, sizeof vm_table[0], vm_mask(vm)));
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_overhead, vm_memory_overhead(vm));
    const struct value *vbds = record_field(vm, F_VM_VBDs), *vifs = record_field(vm, F_VM_VIFs);
    for (gsize i = 0; i < value_count(vbds); i++)
        vbd_derive(t, value_str(value_at(vbds, i)));
    for (gsize i = 0; i < value_count(vifs); i++)
        vif_derive(t, value_str(value_at(vifs, i)));
    appliance_derive(t, record_str(vm, F_VM_appliance));
}

/* ---- all classes ---- */

static int current_operations_of(const struct class *class)
{
    const struct field *f = class_field(class, "current_operations");
    return f != NULL ? f->index : -1;
}

gboolean operation_check_exclusive(const struct record *r, struct fault *f)
{
    int field = current_operations_of(r->class);
    const struct value *current = field >= 0 ? record_field(r, field) : NULL;
    if (current == NULL || value_count(current) == 0)
        return TRUE;
    return fault_in_progress(f, r->class->name, r->ref, &current->u.map.m[0]);
}

gboolean operation_check(struct txn *t, enum class_id class, const char *ref, const char *op, struct fault *f)
{
    struct record *r = txn_get(t, class, ref);
    if (r == NULL)
        return fault_set(f, "HANDLE_INVALID", class_by_id(class)->name, ref != NULL ? ref : "", NULL);
    switch (class) {
    case CLASS_VM:
        return vm_check(r, op, f);
    case CLASS_VBD:
        return vbd_check(t, r, op, f);
    case CLASS_VIF:
        return vif_check(t, r, op, f);
    case CLASS_VDI:
        return vdi_check(t, r, op, f);
    case CLASS_SR:
        return sr_check(t, r, op, f);
    case CLASS_host:
        return host_check(r, op, f);
    case CLASS_VM_appliance:
        return appliance_check(t, r, op, f);
    default:
        return operation_check_exclusive(r, f);
    }
}

static enum class_id object_class(const struct message *m)
{
    return m->params[0].type->class;
}

gboolean operation_begin(struct txn *t, const struct message *m, struct value *const *args, const char *task_ref,
                         struct fault *f)
{
    if (m->op == NULL)
        return TRUE;
    enum class_id class = object_class(m);
    const char *ref = value_str(args[0]);
    if (!operation_check(t, class, ref, m->op, f))
        return FALSE;
    int field = current_operations_of(class_by_id(class));
    if (field >= 0)
        txn_put_key(t, class, ref, field, task_ref, m->op);
    return TRUE;
}

void operation_end(struct txn *t, const struct message *m, struct value *const *args, const char *task_ref)
{
    if (m->op == NULL)
        return;
    enum class_id class = object_class(m);
    int field = current_operations_of(class_by_id(class));
    if (field >= 0 && txn_get(t, class, value_str(args[0])) != NULL)
        txn_remove_key(t, class, value_str(args[0]), field, task_ref);
}

void operations_clear(struct txn *t)
{
    for (int id = 0; id < N_CLASSES; id++) {
        const struct class *class = class_by_id(id);
        int field = current_operations_of(class);
        if (field < 0 && !class->derive)
            continue;
        g_autoptr(GPtrArray) all = txn_all(t, id);
        for (guint i = 0; i < all->len; i++) {
            struct record *r = g_ptr_array_index(all, i);
            if (field >= 0 && value_count(record_field(r, field)) > 0)
                txn_set(t, id, r->ref, field, value_empty_map());
            else if (class->derive) /* what is derived is not in the journal */
                txn_touch(t, id, r->ref);
        }
    }
}
