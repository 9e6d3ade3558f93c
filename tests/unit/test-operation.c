/* test-operation.c - what may be done to an object in which state: the API's table of VM operations, what goes
 * together, templates, snapshots, the control domain, and the devices, images and repositories. */
#include <string.h>

#include "daemon/store/store.h"
#include "xapi-classes/vm/operation.h"

static struct store *s;

/* ---- the API's table, written down a second time ---- */

static const struct {
    const char *states; /* H, P, S, R */
    const char *operations;
} table[] = {
    {"H", "start start_on provision make_into_template changing_shadow_memory changing_NVRAM create_vtpm "
          "changing_VCPUs changing_static_range changing_memory_limits clone copy"},
    {"HS", "destroy export create_template"},
    {"P", "unpause"},
    {"S", "resume resume_on csvm"},
    {"R", "pause suspend clean_shutdown clean_reboot pool_migrate send_sysrq send_trigger changing_memory_live "
          "awaiting_memory_live changing_VCPUs_live changing_shadow_memory_live data_source_op call_plugin "
          "snapshot_with_quiesce"},
    {"HR", "changing_dynamic_range"},
    {"PR", "hard_reboot"},
    {"PSR", "hard_shutdown shutdown checkpoint get_boot_record"},
    {"HSR", "migrate_send"},
    {"HPSR", "snapshot revert reverting metadata_export assert_operation_valid update_allowed_operations "
             "power_state_reset query_services"},
};

static const char *const states[] = {"Halted", "Paused", "Suspended", "Running"};

static const char *states_of(const char *op)
{
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        g_auto(GStrv) words = g_strsplit(table[i].operations, " ", -1);
        if (g_strv_contains((const char *const *) words, op))
            return table[i].states;
    }
    return "";
}

static const char *const *all_operations(void)
{
    return class_field(class_by_id(CLASS_VM), "allowed_operations")->type->elem->enumeration->values;
}

/* ---- helpers ---- */

static char *make(enum class_id class)
{
    struct txn *t = txn_begin(s);
    char *ref = g_strdup(txn_create(t, class, NULL, NULL));
    txn_commit(t);
    return ref;
}

static void set_str(enum class_id class, const char *ref, int field, const char *text)
{
    struct txn *t = txn_begin(s);
    txn_set_str(t, class, ref, field, text);
    txn_commit(t);
}

static void set_bool(enum class_id class, const char *ref, int field, gboolean b)
{
    struct txn *t = txn_begin(s);
    txn_set_bool(t, class, ref, field, b);
    txn_commit(t);
}

static void set_key(enum class_id class, const char *ref, int field, const char *key, const char *value)
{
    struct txn *t = txn_begin(s);
    if (value != NULL)
        txn_put_key(t, class, ref, field, key, value);
    else
        txn_remove_key(t, class, ref, field, key);
    txn_commit(t);
}

static char *make_vm(const char *state)
{
    char *ref = make(CLASS_VM);
    set_str(CLASS_VM, ref, F_VM_power_state, state);
    return ref;
}

/* "" when it is allowed, else "CODE [a, b]". */
static char *check(enum class_id class, const char *ref, const char *op)
{
    struct fault f = FAULT_INIT;
    struct txn *t = txn_begin(s);
    gboolean allowed = operation_check(t, class, ref, op, &f);
    txn_abort(t);
    g_assert_cmpint(allowed, ==, f.code == NULL);
    char *text = allowed ? g_strdup("") : fault_text(&f);
    fault_clear(&f);
    return text;
}

static void assert_check(enum class_id class, const char *ref, const char *op, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
static void assert_check(enum class_id class, const char *ref, const char *op, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *expected = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_autofree char *got = check(class, ref, op);
    g_assert_cmpstr(got, ==, expected);
}

static gboolean tells(enum class_id class, const char *ref, const char *op)
{
    g_autoptr(record) r = store_get(s, class, ref);
    int field = class_field(class_by_id(class), "allowed_operations")->index;
    return value_contains(record_field(r, field), op);
}

/* ---- VMs ---- */

static const char *lower_states(const char *letters)
{
    static char text[64];
    text[0] = '\0';
    for (const char *p = letters; *p; p++) {
        g_strlcat(text, p == letters ? "" : ", ", sizeof text);
        g_strlcat(text, *p == 'H' ? "halted" : *p == 'P' ? "paused" : *p == 'S' ? "suspended" : "running", sizeof text);
    }
    return text;
}

static gboolean is_only_for_others(const char *op)
{
    return strcmp(op, "provision") == 0 || strcmp(op, "revert") == 0;
}

static void test_power_states(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(states); i++) {
        g_autofree char *vm = make_vm(states[i]);
        g_autofree char *actual = g_ascii_strdown(states[i], -1);
        for (const char *const *op = all_operations(); *op != NULL; op++) {
            const char *letters = states_of(*op);
            if (strcmp(*op, "import") == 0 || is_only_for_others(*op))
                continue;
            if (strchr(letters, states[i][0]) != NULL)
                assert_check(CLASS_VM, vm, *op, "%s", "");
            else
                assert_check(CLASS_VM, vm, *op, "VM_BAD_POWER_STATE [%s, %s, %s]", vm, lower_states(letters), actual);
        }
    }
}

/* What is told is what is allowed, but for values that clients of 2018 do not know and what no client can ask for. */
static void test_told(void)
{
    static const char *const untold[] = {"changing_NVRAM", "create_vtpm",  "snapshot_with_quiesce", "reverting",
                                         "import",         "pool_migrate", "migrate_send",          NULL};
    for (gsize i = 0; i < G_N_ELEMENTS(states); i++) {
        g_autofree char *vm = make_vm(states[i]);
        for (const char *const *op = all_operations(); *op != NULL; op++) {
            g_autofree char *fault = check(CLASS_VM, vm, *op);
            gboolean expected = *fault == '\0' && !g_strv_contains(untold, *op);
            g_assert_cmpint(tells(CLASS_VM, vm, *op), ==, expected);
        }
    }
}

static void test_unknown(void)
{
    g_autofree char *vm = make_vm("Halted");
    assert_check(CLASS_VM, "OpaqueRef:none", "start", "HANDLE_INVALID [VM, OpaqueRef:none]");
    assert_check(CLASS_VM, vm, "fly", "INVALID_VALUE [operation, fly]");
}

static void test_templates(void)
{
    g_autofree char *vm = make_vm("Halted");
    set_bool(CLASS_VM, vm, F_VM_is_a_template, TRUE);
    static const char *const can[] = {"clone",
                                      "copy",
                                      "provision",
                                      "export",
                                      "destroy",
                                      "snapshot",
                                      "changing_VCPUs",
                                      "changing_memory_limits",
                                      "changing_static_range",
                                      "changing_dynamic_range",
                                      NULL};
    for (const char *const *op = can; *op != NULL; op++)
        assert_check(CLASS_VM, vm, *op, "%s", "");
    static const char *const cannot[] = {"start", "start_on", "make_into_template", NULL};
    for (const char *const *op = cannot; *op != NULL; op++)
        assert_check(CLASS_VM, vm, *op, "VM_IS_TEMPLATE [%s]", vm);
    set_bool(CLASS_VM, vm, F_VM_is_default_template, TRUE);
    assert_check(CLASS_VM, vm, "destroy", "VM_CANNOT_DELETE_DEFAULT_TEMPLATE [%s]", vm);
    set_bool(CLASS_VM, vm, F_VM_is_a_template, FALSE);
    set_bool(CLASS_VM, vm, F_VM_is_default_template, FALSE);
    assert_check(CLASS_VM, vm, "provision", "PROVISION_ONLY_ALLOWED_ON_TEMPLATE []");
}

static void test_snapshots(void)
{
    g_autofree char *vm = make_vm("Suspended");
    assert_check(CLASS_VM, vm, "clone", "VM_BAD_POWER_STATE [%s, halted, suspended]", vm);
    assert_check(CLASS_VM, vm, "revert", "OPERATION_NOT_ALLOWED [only a snapshot can be reverted to]");
    set_bool(CLASS_VM, vm, F_VM_is_a_snapshot, TRUE);
    set_bool(CLASS_VM, vm, F_VM_is_a_template, TRUE);
    for (const char *const *op = (const char *const[]){"clone", "copy", "revert", "export", "destroy", NULL}; *op; op++)
        assert_check(CLASS_VM, vm, *op, "%s", "");
    for (const char *const *op = (const char *const[]){"resume", "resume_on", NULL}; *op; op++)
        assert_check(CLASS_VM, vm, *op, "VM_IS_TEMPLATE [%s]", vm);
}

static void test_control_domain(void)
{
    g_autofree char *vm = make_vm("Running");
    set_bool(CLASS_VM, vm, F_VM_is_control_domain, TRUE);
    static const char *const can[] = {"changing_VCPUs",
                                      "changing_static_range",
                                      "changing_memory_limits",
                                      "changing_dynamic_range",
                                      "changing_memory_live",
                                      "data_source_op",
                                      NULL};
    for (const char *const *op = can; *op != NULL; op++)
        assert_check(CLASS_VM, vm, *op, "%s", "");
    static const char *const cannot[] = {"start",   "pause",   "clean_shutdown", "hard_shutdown",
                                         "destroy", "suspend", "snapshot",       "power_state_reset",
                                         NULL};
    for (const char *const *op = cannot; *op != NULL; op++)
        assert_check(CLASS_VM, vm, *op, "OPERATION_NOT_ALLOWED [the control domain is no guest]");
}

static void test_blocked(void)
{
    g_autofree char *vm = make_vm("Halted");
    set_key(CLASS_VM, vm, F_VM_blocked_operations, "start", "SAID_SO");
    assert_check(CLASS_VM, vm, "start", "OPERATION_BLOCKED [%s, SAID_SO]", vm);
    g_assert_false(tells(CLASS_VM, vm, "start"));
    set_key(CLASS_VM, vm, F_VM_blocked_operations, "start", NULL);
    g_assert_true(tells(CLASS_VM, vm, "start"));
}

/* ---- operations beside operations ---- */

static gboolean goes_together(const char *op, const char *other)
{
    static const char *const pairs[][2] = {
        {"clone", "clone"},
        {"clone", "copy"},
        {"clone", "export"},
        {"copy", "clone"},
        {"copy", "copy"},
        {"copy", "export"},
        {"export", "clone"},
        {"export", "copy"},
        {"export", "export"},
        {"snapshot", "snapshot"},
        {"snapshot", "checkpoint"},
        {"checkpoint", "snapshot"},
        {"checkpoint", "checkpoint"},
        {"clean_shutdown", "migrate_send"},
        {"clean_reboot", "migrate_send"},
        {"metadata_export", "migrate_send"},
    };
    if (strcmp(op, "hard_shutdown") == 0)
        return strcmp(other, "hard_shutdown") != 0;
    if (strcmp(op, "hard_reboot") == 0)
        return strcmp(other, "hard_shutdown") != 0 && strcmp(other, "hard_reboot") != 0;
    for (gsize i = 0; i < G_N_ELEMENTS(pairs); i++)
        if (strcmp(op, pairs[i][0]) == 0 && strcmp(other, pairs[i][1]) == 0)
            return TRUE;
    return FALSE;
}

static gboolean needs_no_turn(const char *op)
{
    static const char *const free[] = {"assert_operation_valid", "update_allowed_operations", "query_services",
                                       "get_boot_record", NULL};
    return g_strv_contains(free, op);
}

static void check_beside(const char *vm, const char *other)
{
    set_key(CLASS_VM, vm, F_VM_current_operations, "OpaqueRef:task", other);
    for (const char *const *op = all_operations(); *op != NULL; op++) {
        g_autoptr(record) r = store_get(s, CLASS_VM, vm);
        if (strchr(states_of(*op), record_str(r, F_VM_power_state)[0]) == NULL || is_only_for_others(*op) ||
            needs_no_turn(*op))
            continue;
        if (goes_together(*op, other))
            assert_check(CLASS_VM, vm, *op, "%s", "");
        else
            assert_check(CLASS_VM, vm, *op, "OTHER_OPERATION_IN_PROGRESS [VM, %s, %s, OpaqueRef:task]", vm, other);
    }
    set_key(CLASS_VM, vm, F_VM_current_operations, "OpaqueRef:task", NULL);
}

static void test_conflicts(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(states); i++) {
        g_autofree char *vm = make_vm(states[i]);
        for (const char *const *other = all_operations(); *other != NULL; other++)
            check_beside(vm, *other);
    }
}

static void test_begin_and_end(void)
{
    struct fault f = FAULT_INIT;
    const struct message *start = message_lookup("VM.start"), *hard = message_lookup("VM.hard_shutdown");
    g_autofree char *vm = make_vm("Running");
    g_autoptr(value) arg = value_string(NULL, vm);
    struct value *args[] = {arg, value_bool(FALSE), value_bool(FALSE)};
    struct txn *t = txn_begin(s);
    g_assert_false(operation_begin(t, start, args, "OpaqueRef:1", &f));
    g_assert_cmpstr(f.code, ==, "VM_BAD_POWER_STATE");
    fault_clear(&f);
    g_assert_true(operation_begin(t, hard, args, "OpaqueRef:2", &f));
    g_assert_false(operation_begin(t, hard, args, "OpaqueRef:3", &f));
    g_assert_cmpstr(f.code, ==, "OTHER_OPERATION_IN_PROGRESS");
    g_assert_cmpstr(f.params[3], ==, "OpaqueRef:2");
    fault_clear(&f);
    txn_commit(t);
    g_assert_false(tells(CLASS_VM, vm, "hard_shutdown"));
    t = txn_begin(s);
    operation_end(t, hard, args, "OpaqueRef:2");
    operation_end(t, hard, args, "OpaqueRef:unknown");
    txn_commit(t);
    g_assert_true(tells(CLASS_VM, vm, "hard_shutdown"));

    set_key(CLASS_VM, vm, F_VM_current_operations, "OpaqueRef:4", "pause");
    t = txn_begin(s);
    operations_clear(t);
    txn_commit(t);
    g_assert_true(tells(CLASS_VM, vm, "pause"));
    t = txn_begin(s);
    txn_destroy(t, CLASS_VM, vm);
    operation_end(t, hard, args, "OpaqueRef:2"); /* the object may be gone */
    txn_commit(t);
}

/* ---- devices, images, repositories, hosts ---- */

static char *make_device(enum class_id class, const char *vm, int vm_field)
{
    char *ref = make(class);
    set_str(class, ref, vm_field, vm);
    return ref;
}

static void test_hotplug(void)
{
    g_autofree char *vm = make_vm("Halted");
    g_autofree char *vbd = make_device(CLASS_VBD, vm, F_VBD_VM), *vif = make_device(CLASS_VIF, vm, F_VIF_VM);
    set_str(CLASS_VBD, vbd, F_VBD_type, "Disk");
    assert_check(CLASS_VBD, vbd, "plug", "VM_BAD_POWER_STATE [%s, running, halted]", vm);
    assert_check(CLASS_VIF, vif, "unplug", "VM_BAD_POWER_STATE [%s, running, halted]", vm);
    g_assert_false(tells(CLASS_VBD, vbd, "plug"));
    set_str(CLASS_VM, vm, F_VM_power_state, "Running");
    g_assert_true(tells(CLASS_VBD, vbd, "plug")); /* told by the VM's change alone */
    g_assert_true(tells(CLASS_VIF, vif, "plug"));
    assert_check(CLASS_VBD, vbd, "unplug", "DEVICE_ALREADY_DETACHED [%s]", vbd);
    set_bool(CLASS_VBD, vbd, F_VBD_currently_attached, TRUE);
    set_bool(CLASS_VIF, vif, F_VIF_currently_attached, TRUE);
    assert_check(CLASS_VBD, vbd, "plug", "DEVICE_ALREADY_ATTACHED [%s]", vbd);
    assert_check(CLASS_VIF, vif, "plug", "DEVICE_ALREADY_ATTACHED [%s]", vif);
    g_assert_true(tells(CLASS_VBD, vbd, "unplug") && tells(CLASS_VIF, vif, "unplug"));
    set_bool(CLASS_VBD, vbd, F_VBD_unpluggable, FALSE);
    assert_check(CLASS_VBD, vbd, "unplug", "VBD_NOT_UNPLUGGABLE [%s]", vbd);
    set_key(CLASS_VM, vm, F_VM_current_operations, "OpaqueRef:task", "suspend");
    assert_check(CLASS_VIF, vif, "unplug", "OTHER_OPERATION_IN_PROGRESS [VM, %s, suspend, OpaqueRef:task]", vm);
    g_assert_false(tells(CLASS_VIF, vif, "unplug"));
    set_key(CLASS_VM, vm, F_VM_current_operations, "OpaqueRef:task", NULL);
    set_key(CLASS_VIF, vif, F_VIF_current_operations, "OpaqueRef:task", "unplug");
    assert_check(CLASS_VIF, vif, "unplug", "OTHER_OPERATION_IN_PROGRESS [VIF, %s, unplug, OpaqueRef:task]", vif);
}

static void test_media(void)
{
    g_autofree char *vm = make_vm("Halted");
    g_autofree char *vbd = make_device(CLASS_VBD, vm, F_VBD_VM);
    set_str(CLASS_VBD, vbd, F_VBD_type, "Disk");
    assert_check(CLASS_VBD, vbd, "insert", "VBD_NOT_REMOVABLE_MEDIA [%s]", vbd);
    set_str(CLASS_VBD, vbd, F_VBD_type, "CD");
    assert_check(CLASS_VBD, vbd, "insert", "VBD_NOT_EMPTY [%s]", vbd);
    g_assert_true(tells(CLASS_VBD, vbd, "eject"));
    set_bool(CLASS_VBD, vbd, F_VBD_empty, TRUE);
    assert_check(CLASS_VBD, vbd, "eject", "VBD_IS_EMPTY [%s]", vbd);
    g_assert_true(tells(CLASS_VBD, vbd, "insert"));
    set_str(CLASS_VM, vm, F_VM_power_state, "Suspended");
    assert_check(CLASS_VBD, vbd, "insert", "VM_BAD_POWER_STATE [%s, halted, running, suspended]", vm);
}

static void test_images(void)
{
    g_autofree char *vm = make_vm("Running"), *vdi = make(CLASS_VDI);
    g_autofree char *vbd = make_device(CLASS_VBD, vm, F_VBD_VM);
    set_str(CLASS_VBD, vbd, F_VBD_VDI, vdi);
    set_str(CLASS_VBD, vbd, F_VBD_mode, "RO");
    g_assert_true(tells(CLASS_VDI, vdi, "destroy") && tells(CLASS_VDI, vdi, "resize"));
    set_bool(CLASS_VBD, vbd, F_VBD_currently_attached, TRUE);
    assert_check(CLASS_VDI, vdi, "destroy", "VDI_IN_USE [%s, destroy]", vdi);
    g_assert_false(tells(CLASS_VDI, vdi, "destroy"));
    g_assert_true(tells(CLASS_VDI, vdi, "copy") && tells(CLASS_VDI, vdi, "snapshot"));
    set_str(CLASS_VBD, vbd, F_VBD_mode, "RW");
    assert_check(CLASS_VDI, vdi, "copy", "VDI_IN_USE [%s, copy]", vdi);
    g_assert_true(tells(CLASS_VDI, vdi, "snapshot"));
    set_bool(CLASS_VBD, vbd, F_VBD_currently_attached, FALSE);
    set_key(CLASS_VDI, vdi, F_VDI_current_operations, "OpaqueRef:task", "copy");
    assert_check(CLASS_VDI, vdi, "copy", "%s", "");
    assert_check(CLASS_VDI, vdi, "destroy", "OTHER_OPERATION_IN_PROGRESS [VDI, %s, copy, OpaqueRef:task]", vdi);
    set_key(CLASS_VDI, vdi, F_VDI_current_operations, "OpaqueRef:task", NULL);
    set_bool(CLASS_VDI, vdi, F_VDI_is_a_snapshot, TRUE);
    g_assert_false(tells(CLASS_VDI, vdi, "resize"));
    set_bool(CLASS_VDI, vdi, F_VDI_missing, TRUE);
    assert_check(CLASS_VDI, vdi, "copy", "VDI_MISSING [%s, %s]", NULL_REF, vdi);
    assert_check(CLASS_VDI, vdi, "forget", "%s", "");
}

static void test_repositories(void)
{
    g_autofree char *sr = make(CLASS_SR), *pbd = make(CLASS_PBD);
    assert_check(CLASS_SR, sr, "scan", "SR_HAS_NO_PBDS [%s]", sr);
    set_str(CLASS_PBD, pbd, F_PBD_SR, sr);
    assert_check(CLASS_SR, sr, "scan", "SR_NOT_ATTACHED [%s]", sr);
    g_assert_true(tells(CLASS_SR, sr, "forget"));
    set_bool(CLASS_PBD, pbd, F_PBD_currently_attached, TRUE);
    g_assert_true(tells(CLASS_SR, sr, "scan") && tells(CLASS_SR, sr, "vdi_create"));
    assert_check(CLASS_SR, sr, "destroy", "SR_HAS_PBD [%s]", sr);
    set_key(CLASS_SR, sr, F_SR_current_operations, "OpaqueRef:task", "vdi_create");
    assert_check(CLASS_SR, sr, "vdi_create", "%s", "");
    assert_check(CLASS_SR, sr, "scan", "OTHER_OPERATION_IN_PROGRESS [SR, %s, vdi_create, OpaqueRef:task]", sr);
}

static void test_hosts(void)
{
    g_autofree char *host = make(CLASS_host);
    set_bool(CLASS_host, host, F_host_enabled, TRUE);
    assert_check(CLASS_host, host, "reboot", "HOST_NOT_DISABLED []");
    g_assert_true(tells(CLASS_host, host, "vm_start"));
    set_bool(CLASS_host, host, F_host_enabled, FALSE);
    assert_check(CLASS_host, host, "vm_start", "HOST_DISABLED [%s]", host);
    g_assert_true(tells(CLASS_host, host, "shutdown"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    model_init();
    s = store_open(NULL, NULL);
    g_test_add_func("/operation/power-states", test_power_states);
    g_test_add_func("/operation/told", test_told);
    g_test_add_func("/operation/unknown", test_unknown);
    g_test_add_func("/operation/templates", test_templates);
    g_test_add_func("/operation/snapshots", test_snapshots);
    g_test_add_func("/operation/control-domain", test_control_domain);
    g_test_add_func("/operation/blocked", test_blocked);
    g_test_add_func("/operation/conflicts", test_conflicts);
    g_test_add_func("/operation/begin-and-end", test_begin_and_end);
    g_test_add_func("/operation/hotplug", test_hotplug);
    g_test_add_func("/operation/media", test_media);
    g_test_add_func("/operation/images", test_images);
    g_test_add_func("/operation/repositories", test_repositories);
    g_test_add_func("/operation/hosts", test_hosts);
    int status = g_test_run();
    store_close(s);
    return status;
}
