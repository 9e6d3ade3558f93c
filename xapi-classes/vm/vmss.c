/* vmss.c - the class VMSS: snapshot schedules, what may stand in them, and which VMs follow them. */
#include "xapi-classes/vm/vmss.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

#define MAX_RETAINED 10

static const char *const day_names[] = {"sunday",   "monday", "tuesday",  "wednesday",
                                        "thursday", "friday", "saturday", NULL};

/* ---- what a schedule says ---- */

static gboolean parse_number(const char *text, int max, int *n)
{
    char *end;
    if (!g_ascii_isdigit(*text) || strlen(text) > 2)
        return FALSE;
    *n = (int) g_ascii_strtoll(text, &end, 10);
    return *end == '\0' && *n <= max;
}

/* "monday,Friday": a bit per day, Sunday is the first. 0: not all of them are days. */
static guint parse_days(const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, ",", -1);
    guint days = 0;
    for (guint i = 0; words[i] != NULL; i++) {
        g_autofree char *word = g_ascii_strdown(g_strstrip(words[i]), -1);
        guint day = 0;
        while (day_names[day] != NULL && strcmp(day_names[day], word) != 0)
            day++;
        if (day_names[day] == NULL)
            return 0;
        days |= 1u << day;
    }
    return days;
}

static const char *setting(const struct value *schedule, const char *key, const char *otherwise)
{
    return value_get_str(schedule, key, otherwise);
}

struct vmss_times vmss_times(const char *frequency, const struct value *schedule)
{
    struct vmss_times times = {.hour = -1, .days = 0x7f};
    parse_number(setting(schedule, "min", "0"), 59, &times.minute);
    if (strcmp(frequency, "hourly") != 0)
        times.hour = 0;
    if (times.hour == 0)
        parse_number(setting(schedule, "hour", "0"), 23, &times.hour);
    if (strcmp(frequency, "weekly") == 0)
        times.days = parse_days(setting(schedule, "days", "monday"));
    return times;
}

gboolean vmss_is_due(const struct vmss_times *times, int day, int hour, int minute)
{
    return minute == times->minute && (times->hour == -1 || hour == times->hour) && (times->days & 1u << day) != 0;
}

/* ---- checks ---- */

static gboolean check_key(const char *key, const char *text, struct fault *f)
{
    int n;
    gboolean known = TRUE, valid = FALSE;
    if (strcmp(key, "min") == 0)
        valid = parse_number(text, 59, &n);
    else if (strcmp(key, "hour") == 0)
        valid = parse_number(text, 23, &n);
    else if (strcmp(key, "days") == 0)
        valid = parse_days(text) != 0;
    else
        known = FALSE;
    g_autofree char *field = g_strconcat("schedule:", key, NULL);
    return valid || fault_set(f, "INVALID_VALUE", known ? field : "schedule", known ? text : key, NULL);
}

static gboolean check_schedule(const struct value *schedule, struct fault *f)
{
    for (gsize i = 0; i < value_count(schedule); i++)
        if (!check_key(value_str(schedule->u.map.m[i].key), value_str(schedule->u.map.m[i].value), f))
            return FALSE;
    return TRUE;
}

static gboolean check_retained(gint64 n, struct fault *f)
{
    char text[24];
    g_snprintf(text, sizeof text, "%" G_GINT64_FORMAT, n);
    return (n >= 1 && n <= MAX_RETAINED) || fault_set(f, "INVALID_VALUE", "retained_snapshots", text, NULL);
}

/* Guests here are not asked to quiesce: such a schedule could only fail. */
static gboolean check_type(const char *type, struct fault *f)
{
    return strcmp(type, "snapshot_with_quiesce") != 0 || fault_set(f, "INVALID_VALUE", "type", type, NULL);
}

/* ---- objects ---- */

/* What the frequency asks for and nobody said is midnight, and Monday. */
static void complete(struct txn *t, const char *ref)
{
    const struct record *r = txn_get(t, CLASS_VMSS, ref);
    const char *frequency = record_str(r, F_VMSS_frequency);
    gboolean hourly = strcmp(frequency, "hourly") == 0, weekly = strcmp(frequency, "weekly") == 0;
    if (record_key(r, F_VMSS_schedule, "min") == NULL)
        txn_put_key(t, CLASS_VMSS, ref, F_VMSS_schedule, "min", "0");
    if (!hourly && record_key(r, F_VMSS_schedule, "hour") == NULL)
        txn_put_key(t, CLASS_VMSS, ref, F_VMSS_schedule, "hour", "0");
    if (weekly && record_key(r, F_VMSS_schedule, "days") == NULL)
        txn_put_key(t, CLASS_VMSS, ref, F_VMSS_schedule, "days", "monday");
}

struct value *vmss_create(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    g_autoptr(value) result = generic_create_in(c, t, NULL);
    const struct record *r = result != NULL ? txn_get(t, CLASS_VMSS, value_str(result)) : NULL;
    if (r == NULL || !check_type(record_str(r, F_VMSS_type), &c->fault) ||
        !check_retained(record_int(r, F_VMSS_retained_snapshots), &c->fault) ||
        !check_schedule(record_field(r, F_VMSS_schedule), &c->fault))
        return vm_give_up(c, t);
    complete(t, value_str(result));
    call_commit(c, t);
    return g_steal_pointer(&result);
}

struct value *vmss_destroy(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    const struct record *r = call_txn_object(c, t, 0);
    if (r != NULL && value_count(record_field(r, F_VMSS_VMs)) > 0)
        call_fail(c, "VMSS_HAS_VM", NULL);
    if (c->fault.code != NULL)
        return vm_give_up(c, t);
    txn_destroy(t, CLASS_VMSS, call_str(c, 0));
    return vm_end_change(c, t);
}

/* ---- setters ---- */

/* valid: argument 1 may stand in the field (a fault is set otherwise). */
static struct value *set_field(struct call *c, int field, gboolean valid)
{
    struct txn *t = txn_begin(the_store());
    if (!valid || call_txn_object(c, t, 0) == NULL)
        return vm_give_up(c, t);
    txn_set(t, CLASS_VMSS, call_str(c, 0), field, value_ref(call_arg(c, 1)));
    complete(t, call_str(c, 0));
    return vm_end_change(c, t);
}

struct value *vmss_set_type(struct call *c)
{
    return set_field(c, F_VMSS_type, check_type(call_str(c, 1), &c->fault));
}

struct value *vmss_set_frequency(struct call *c)
{
    return set_field(c, F_VMSS_frequency, TRUE);
}

struct value *vmss_set_retained_snapshots(struct call *c)
{
    return set_field(c, F_VMSS_retained_snapshots, check_retained(call_int(c, 1), &c->fault));
}

struct value *vmss_set_last_run_time(struct call *c)
{
    return set_field(c, F_VMSS_last_run_time, TRUE);
}

struct value *vmss_set_schedule(struct call *c)
{
    return set_field(c, F_VMSS_schedule, check_schedule(call_arg(c, 1), &c->fault));
}

/* As a map's: a key that is there already is refused. */
struct value *vmss_add_to_schedule(struct call *c)
{
    const char *ref = call_str(c, 0), *key = call_str(c, 1);
    struct txn *t = txn_begin(the_store());
    const struct record *r = call_txn_object(c, t, 0);
    if (r == NULL || !check_key(key, call_str(c, 2), &c->fault))
        return vm_give_up(c, t);
    if (record_key(r, F_VMSS_schedule, key) != NULL) {
        call_fail(c, "MAP_DUPLICATE_KEY", "VMSS", "schedule", record_str(r, F_VMSS_uuid), key, NULL);
        return vm_give_up(c, t);
    }
    txn_put_key(t, CLASS_VMSS, ref, F_VMSS_schedule, key, call_str(c, 2));
    return vm_end_change(c, t);
}

/* What is left out counts as its default until somebody adds it. */
struct value *vmss_remove_from_schedule(struct call *c)
{
    struct txn *t = txn_begin(the_store());
    if (call_txn_object(c, t, 0) == NULL)
        return vm_give_up(c, t);
    txn_remove_key(t, CLASS_VMSS, call_str(c, 0), F_VMSS_schedule, call_str(c, 1));
    return vm_end_change(c, t);
}

/* ---- VMs ---- */

static gboolean check_member(const struct record *vm, struct fault *f)
{
    const char *policy = record_str(vm, F_VM_protection_policy);
    if (record_bool(vm, F_VM_is_a_template))
        return fault_set(f, "VM_IS_TEMPLATE", vm->ref, NULL);
    if (record_bool(vm, F_VM_is_control_domain))
        return fault_set(f, "OPERATION_NOT_ALLOWED", "the control domain is no guest", NULL);
    return ref_is_null(policy) || fault_set(f, "VM_ASSIGNED_TO_PROTECTION_POLICY", vm->ref, policy, NULL);
}

struct value *vm_set_snapshot_schedule(struct call *c)
{
    struct record *vm;
    struct txn *t = vm_begin_change(c, NULL, &vm);
    gboolean some = !ref_is_null(call_str(c, 1));
    if (t == NULL)
        return NULL;
    if (some && (call_txn_object(c, t, 1) == NULL || !check_member(vm, &c->fault)))
        return vm_give_up(c, t);
    txn_set_str(t, CLASS_VM, vm->ref, F_VM_snapshot_schedule, some ? call_str(c, 1) : NULL_REF);
    return vm_end_change(c, t);
}
