/* vm_watch.c - what runs against what the records say: news of domains are followed, held back while work on the VM is
 * under way, and compared as a whole after a restart. */
#include "daemon/task.h"
#include "xapi-classes/cpu_pool.h"
#include "xapi-classes/vm/vm.h"
#include "xapi-classes/vm/vm_foreign.h"
#include "xapi-classes/vm/vm_stop.h"
#include "xapi-classes/world.h"
#include "xenbackend/backend.h"

#include <string.h>

/* What is known of a VM beside its record. */
struct watched {
    guint works;           /* under way */
    gboolean ask;          /* the state must be asked for when they have ended */
    guint64 time;          /* when anything happened here last, in ticks */
    struct value *changed; /* news that came meanwhile: the last of each kind */
    struct value *gone;
};

/* Held while news are applied, so that they are applied in order; taken before the store's transactions, never inside
 * one. */
static GMutex lock;
static GHashTable *watched; /* uuid -> struct watched */
static guint64 ticks;

static void watched_free(void *data)
{
    struct watched *v = data;
    value_unref(v->changed);
    value_unref(v->gone);
    g_free(v);
}

static struct watched *watch_of(const char *uuid)
{
    if (watched == NULL)
        watched = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, watched_free);
    struct watched *v = g_hash_table_lookup(watched, uuid);
    if (v == NULL) {
        v = g_new0(struct watched, 1);
        g_hash_table_insert(watched, g_strdup(uuid), v);
    }
    v->time = ++ticks;
    return v;
}

void vm_watch_forget(const char *uuid)
{
    g_mutex_lock(&lock);
    struct watched *v = watched != NULL ? g_hash_table_lookup(watched, uuid) : NULL;
    if (v != NULL && v->works == 0)
        g_hash_table_remove(watched, uuid);
    g_mutex_unlock(&lock);
}

/* ---- applying a domain's state to the record ---- */

static gboolean is_stopped(const char *power)
{
    return strcmp(power, "shutdown") == 0 || strcmp(power, "crashed") == 0;
}

static gboolean is_live(const struct record *vm)
{
    return vm_is(vm, "Running") || vm_is(vm, "Paused");
}

/* The domain lives: the record says so, and which devices it has. */
static void follow_live(const struct record *vm, const struct value *state)
{
    gboolean same = record_int(vm, F_VM_domid) == value_as_int(value_get(state, "domid"));
    g_autoptr(value) consoles = same ? NULL : consoles_plan(vm);
    struct txn *t = txn_begin(the_store());
    txn_observes(t);
    if (txn_get(t, CLASS_VM, vm->ref) != NULL)
        vm_set_running(t, vm->ref, state, consoles);
    txn_commit(t);
}

/* A domain that went while its memory was being saved went because it was saved: nothing else takes it away then. */
static void follow_gone(const struct record *vm)
{
    gboolean in_file = vm_memory_is_in_file(vm);
    struct txn *t = txn_begin(the_store());
    txn_observes(t);
    const struct record *now = txn_get(t, CLASS_VM, vm->ref);
    if (now != NULL && (in_file || !ref_is_null(record_str(now, F_VM_suspend_VDI))))
        vm_set_suspended(t, vm->ref);
    else if (now != NULL)
        vm_set_halted(t, vm->ref);
    txn_commit(t);
}

/* A guest that has stopped to be suspended did so for somebody who saves it, and who will take it away or let it go on:
 * another toolstack, or a backend that goes on with what an earlier front asked for. */
static gboolean is_being_saved(const struct value *state)
{
    return strcmp(value_get_str(state, "shutdown_reason", ""), "suspend") == 0;
}

static void apply_changed(const struct value *state)
{
    const char *power = value_get_str(state, "power", "");
    g_autoptr(record) vm = store_get_by_uuid(the_store(), CLASS_VM, value_get_str(state, "uuid", ""));
    if (strcmp(power, "dying") == 0 || (vm != NULL && record_bool(vm, F_VM_is_control_domain)))
        return;
    if (vm != NULL && vm_is_foreign(vm))
        vm_foreign_changed(vm, state);
    if (vm == NULL)
        vm_foreign_appeared(state);
    else if (!is_stopped(power) || is_being_saved(state))
        follow_live(vm, state);
    else if (!vm_is_foreign(vm))
        vm_guest_stopped(vm, state);
}

static void apply_gone(const struct value *params)
{
    g_autoptr(record) vm = store_get_by_uuid(the_store(), CLASS_VM, value_get_str(params, "uuid", ""));
    const struct value *domid = value_get(params, "domid");
    if (vm == NULL || record_bool(vm, F_VM_is_control_domain))
        return;
    gboolean same = domid == NULL || value_as_int(domid) == record_int(vm, F_VM_domid);
    if (vm_is_foreign(vm) && (same || !is_live(vm)))
        vm_foreign_gone(vm);
    else if (same && is_live(vm))
        follow_gone(vm);
}

/* A domain that is gone did whatever it did before that. */
static void apply_held(struct watched *v)
{
    g_autoptr(value) changed = g_steal_pointer(&v->changed), gone = g_steal_pointer(&v->gone);
    if (gone != NULL)
        apply_gone(gone);
    if (changed == NULL)
        return;
    if (gone == NULL || value_as_int(value_get(gone, "domid")) != value_as_int(value_get(changed, "domid")))
        apply_changed(changed);
}

/* ---- news ---- */

static void hold(struct value **place, struct value *params)
{
    value_unref(*place);
    *place = value_ref(params);
}

static gboolean is_unknown(const char *uuid)
{
    g_autoptr(record) vm = store_get_by_uuid(the_store(), CLASS_VM, uuid);
    return vm == NULL;
}

/* A domain of ours whose VM has no record (any more) is on its way out. */
void world_domain_changed(struct value *params)
{
    const struct value *ours = value_get(params, "ours");
    if ((ours == NULL || value_as_bool(ours)) && is_unknown(value_get_str(params, "uuid", "")))
        return;
    g_mutex_lock(&lock);
    struct watched *v = watch_of(value_get_str(params, "uuid", ""));
    if (v->works > 0)
        hold(&v->changed, params);
    else
        apply_changed(params);
    g_mutex_unlock(&lock);
}

void world_domain_gone(struct value *params)
{
    const char *uuid = value_get_str(params, "uuid", "");
    g_mutex_lock(&lock);
    struct watched *v = watch_of(uuid);
    if (v->works > 0) {
        hold(&v->gone, params);
    } else {
        apply_gone(params);
        if (is_unknown(uuid)) /* it has no record, or has none any more */
            g_hash_table_remove(watched, uuid);
    }
    g_mutex_unlock(&lock);
}

/* ---- comparing with all that runs ---- */

static struct value *ask_domains(const char *uuid)
{
    struct fault f = FAULT_INIT;
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    if (uuid != NULL)
        value_builder_put_string(&b, "uuid", uuid);
    g_autoptr(value) params = value_builder_end(&b);
    struct value *answer = backend_call("domain.list", params, NULL, &f);
    if (answer == NULL) {
        g_autofree char *text = fault_text(&f);
        g_warning("the backend does not say what runs: %s", text);
        fault_clear(&f);
    }
    return answer;
}

/* state is NULL where there is no domain. A suspended VM has none either. */
static void compare(const struct record *vm, const struct value *state)
{
    if (state != NULL)
        apply_changed(state);
    else if (vm_is_foreign(vm))
        vm_foreign_gone(vm);
    else if (is_live(vm) && !record_bool(vm, F_VM_is_control_domain))
        follow_gone(vm);
}

static const struct value *state_in(const struct value *answer, const char *uuid)
{
    const struct value *domains = value_get(answer, "domains");
    for (gsize i = 0; i < value_count(domains); i++)
        if (strcmp(value_get_str(value_at(domains, i), "uuid", ""), uuid) == 0)
            return value_at(domains, i);
    return NULL;
}

static GHashTable *states_by_uuid(const struct value *answer)
{
    GHashTable *states = g_hash_table_new(g_str_hash, g_str_equal);
    const struct value *domains = value_get(answer, "domains");
    for (gsize i = 0; i < value_count(domains); i++) {
        struct value *state = value_at(domains, i);
        g_hash_table_insert(states, (char *) value_get_str(state, "uuid", ""), state);
    }
    return states;
}

/* What happened since the question was asked is newer than the answer; work under way asks for itself at its end. */
static void compare_one(const struct record *vm, const struct value *state, guint64 asked)
{
    const char *uuid = record_str(vm, F_VM_uuid);
    g_mutex_lock(&lock);
    struct watched *v = watched != NULL ? g_hash_table_lookup(watched, uuid) : NULL;
    if (v != NULL && v->works > 0)
        v->ask = TRUE;
    else if (v == NULL || v->time <= asked)
        compare(vm, state);
    g_mutex_unlock(&lock);
}

/* Domains that have no record: of another toolstack, or of ours from before the store was lost. */
static void adopt_unknown(const struct value *answer)
{
    const struct value *domains = value_get(answer, "domains");
    for (gsize i = 0; i < value_count(domains); i++) {
        struct value *state = value_at(domains, i);
        const char *uuid = value_get_str(state, "uuid", "");
        g_mutex_lock(&lock);
        g_autoptr(record) vm = store_get_by_uuid(the_store(), CLASS_VM, uuid);
        gboolean known = vm != NULL || (watched != NULL && g_hash_table_contains(watched, uuid));
        if (!known && !is_stopped(value_get_str(state, "power", "")))
            apply_changed(state);
        g_mutex_unlock(&lock);
    }
}

gboolean world_reconcile(void)
{
    g_mutex_lock(&lock);
    guint64 asked = ticks;
    g_mutex_unlock(&lock);
    g_autoptr(value) answer = ask_domains(NULL);
    if (answer == NULL)
        return FALSE;
    cpu_pools_reconcile(value_get(answer, "domains"));
    g_autoptr(GHashTable) states = states_by_uuid(answer);
    g_autoptr(GPtrArray) vms = store_all(the_store(), CLASS_VM);
    for (guint i = 0; i < vms->len; i++) {
        const struct record *vm = g_ptr_array_index(vms, i);
        const struct value *state = g_hash_table_lookup(states, record_str(vm, F_VM_uuid));
        if (state != NULL || is_live(vm) || vm_is_foreign(vm))
            compare_one(vm, state, asked);
    }
    adopt_unknown(answer);
    return TRUE;
}

/* ---- work ---- */

void vm_work_begin(struct vm_work *w, const struct record *vm)
{
    g_strlcpy(w->ref, vm->ref, sizeof w->ref);
    g_strlcpy(w->uuid, record_str(vm, F_VM_uuid), sizeof w->uuid);
    w->domid = record_int(vm, F_VM_domid);
    g_mutex_lock(&lock);
    struct watched *v = watch_of(w->uuid);
    if (v->works++ > 0)
        v->ask = TRUE; /* of two that crossed, neither knows how it ended */
    g_mutex_unlock(&lock);
}

static guint64 time_of(const char *uuid)
{
    g_mutex_lock(&lock);
    struct watched *v = watched != NULL ? g_hash_table_lookup(watched, uuid) : NULL;
    guint64 time = v != NULL ? v->time : 0;
    g_mutex_unlock(&lock);
    return time;
}

/* Applies the answer if nothing has happened since the question; FALSE: ask again. */
static gboolean settle(const char *uuid, const struct value *answer, guint64 asked)
{
    g_mutex_lock(&lock);
    struct watched *v = watched != NULL ? g_hash_table_lookup(watched, uuid) : NULL;
    gboolean over = v == NULL || v->works > 0; /* the next work asks for itself */
    gboolean current = !over && v->time == asked;
    if (v != NULL && v->works > 0)
        v->ask = TRUE;
    g_autoptr(record) vm = current ? store_get_by_uuid(the_store(), CLASS_VM, uuid) : NULL;
    if (vm != NULL)
        compare(vm, state_in(answer, uuid));
    g_mutex_unlock(&lock);
    return over || current;
}

/* FALSE: the backend is down; all are compared once it is back. */
static gboolean ask_again(const char *uuid)
{
    for (int i = 0; i < 3; i++) {
        guint64 asked = time_of(uuid);
        g_autoptr(value) answer = ask_domains(uuid);
        if (answer == NULL)
            return FALSE;
        if (settle(uuid, answer, asked))
            break;
    }
    return TRUE;
}

void vm_work_end(struct vm_work *w)
{
    if (*w->ref == '\0')
        return;
    g_mutex_lock(&lock);
    struct watched *v = watch_of(w->uuid);
    if (w->unsure)
        v->ask = TRUE;
    gboolean last = --v->works == 0;
    gboolean ask = last && v->ask;
    if (last) {
        v->ask = FALSE;
        apply_held(v);
    }
    g_mutex_unlock(&lock);
    if (ask && ask_again(w->uuid))
        w->unsure = FALSE;
    *w->ref = '\0';
}
