/* storage_coalesce.c - after disks were removed: the images that they shared with others are merged, in the background.
 * The backend does it (docs/backend-protocol.md: sr.coalesce); here is known who uses what. */
#include "daemon/clock.h"
#include "daemon/task.h"
#include "xapi-classes/start.h"
#include "xapi-classes/storage/storage.h"
#include "xapi-classes/vm/vm.h"
#include "xenbackend/backend.h"

#include <string.h>

#define TASK_NAME "Garbage Collection" /* as it is called in xapi */
#define AT_ONCE   3                    /* how often it is begun again because a VDI was wanted */
#define LATER_MS  (5 * 60 * 1000)

static struct {
    GMutex lock;
    GHashTable *running; /* uuids of SRs -> whether it is to be done once more */
    GHashTable *later;   /* uuids of SRs whose disks were in use */
    GPtrArray *tasks;    /* references of the tasks that are at it */
    gboolean stopping;
} work;

static void work_init(void)
{
    if (work.running)
        return;
    work.running = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    work.later = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    work.tasks = g_ptr_array_new_with_free_func(g_free);
}

/* ---- who uses what ---- */

/* In a suspended VM, too, which has it when it goes on. */
static gboolean is_in_use(const struct record *vdi)
{
    struct value *vbds = record_field(vdi, F_VDI_VBDs);
    if (vdi_is_reserved(vdi->ref) || value_count(record_field(vdi, F_VDI_current_operations)))
        return TRUE;
    for (gsize i = 0; i < value_count(vbds); i++) {
        g_autoptr(record) vbd = store_get(the_store(), CLASS_VBD, value_str(value_at(vbds, i)));
        if (vbd &&
            (record_bool(vbd, F_VBD_currently_attached) || value_count(record_field(vbd, F_VBD_current_operations))))
            return TRUE;
    }
    return FALSE;
}

static gboolean says_false(const struct record *r, int field, const char *key)
{
    return g_strcmp0(record_key(r, field, key), "false") == 0;
}

/* Changed blocks are counted in the image itself; what a VM's start puts back stays apart. */
static gboolean may_merge(const struct record *sr, const struct record *vdi)
{
    return !record_bool(vdi, F_VDI_cbt_enabled) && !record_bool(vdi, F_VDI_allow_caching) &&
           strcmp(record_str(vdi, F_VDI_on_boot), "reset") != 0 &&
           !says_false(vdi, F_VDI_other_config, "leaf-coalesce") && !says_false(sr, F_SR_other_config, "leaf-coalesce");
}

/* Sorts the VDIs that the backend wants to know of. TRUE when some of them are in use. */
static gboolean sort(const struct record *sr, struct value *vdis, struct value_builder *idle,
                     struct value_builder *merge)
{
    gboolean some = FALSE;
    for (gsize i = 0; i < value_count(vdis); i++) {
        const char *uuid = value_str(value_at(vdis, i));
        g_autoptr(record) vdi = store_get_by_uuid(the_store(), CLASS_VDI, uuid);
        if (!vdi || image_scan_may_be_stale(uuid) || is_in_use(vdi)) {
            some = TRUE;
            continue;
        }
        value_builder_add_string(idle, uuid);
        if (may_merge(sr, vdi))
            value_builder_add_string(merge, uuid);
    }
    return some;
}

/* ---- the work ---- */

static void apply(struct call *c, struct value *vdis)
{
    struct txn *t = txn_begin(the_store());
    for (gsize i = 0; i < value_count(vdis); i++) {
        struct value *vdi = value_at(vdis, i);
        g_autoptr(record) r = store_get_by_uuid(the_store(), CLASS_VDI, value_get_str(vdi, "vdi", ""));
        if (r && txn_get(t, CLASS_VDI, r->ref))
            vdi_apply(t, r->ref, vdi);
    }
    call_commit(c, t);
}

/* TRUE when it was cut short, because somebody wanted a VDI. *some: disks in use were left out. */
static gboolean coalesce(struct call *c, const struct record *sr, gboolean *some)
{
    struct value_builder b, idle, merge;
    const char *uuid = record_str(sr, F_SR_uuid);
    g_autoptr(value) found = storage_call(c, "sr.coalesce_look", storage_params(uuid, NULL));
    struct value *vdis = found ? value_get(found, "vdis") : NULL;
    if (!value_count(vdis))
        return FALSE;
    value_builder_set(&idle, NULL, value_count(vdis));
    value_builder_set(&merge, NULL, value_count(vdis));
    *some = sort(sr, vdis, &idle, &merge);
    storage_params_begin(&b, uuid, NULL);
    value_builder_put(&b, "idle", value_builder_end(&idle));
    value_builder_put(&b, "merge", value_builder_end(&merge));
    g_autoptr(value) done = storage_call(c, "sr.coalesce", value_builder_end(&b));
    if (done)
        apply(c, value_get(done, "vdis"));
    return done && value_as_bool(value_get(done, "again"));
}

static void coalesce_all(struct call *c, const char *uuid)
{
    gboolean some = FALSE, again = TRUE;
    for (int i = 0; again && i < AT_ONCE; i++) {
        g_autoptr(record) sr = store_get_by_uuid(the_store(), CLASS_SR, uuid);
        if (!sr || says_false(sr, F_SR_other_config, "coalesce") || says_false(sr, F_SR_other_config, "gc"))
            return;
        again = coalesce(c, sr, &some);
    }
    g_mutex_lock(&work.lock);
    if (some || again)
        g_hash_table_add(work.later, g_strdup(uuid));
    g_mutex_unlock(&work.lock);
}

/* TRUE when it was asked for once more meanwhile; never when it failed. */
static gboolean once_more(const char *uuid, gboolean failed)
{
    g_mutex_lock(&work.lock);
    gboolean more = !failed && GPOINTER_TO_INT(g_hash_table_lookup(work.running, uuid));
    if (more)
        g_hash_table_replace(work.running, g_strdup(uuid), GINT_TO_POINTER(FALSE));
    else
        g_hash_table_remove(work.running, uuid);
    g_mutex_unlock(&work.lock);
    return more;
}

/* FALSE when the daemon is about to end. */
static gboolean note(const char *task)
{
    g_mutex_lock(&work.lock);
    gboolean go_on = !work.stopping;
    g_ptr_array_add(work.tasks, g_strdup(task));
    g_mutex_unlock(&work.lock);
    return go_on;
}

static void forget(const char *task)
{
    guint at;
    g_mutex_lock(&work.lock);
    if (g_ptr_array_find_with_equal_func(work.tasks, task, g_str_equal, &at))
        g_ptr_array_remove_index_fast(work.tasks, at);
    g_mutex_unlock(&work.lock);
}

static struct value *run(struct call *c, void *data)
{
    gboolean more = note(call_task_ref(c));
    while (more) {
        coalesce_all(c, data);
        more = once_more(data, c->fault.code != NULL);
    }
    forget(call_task_ref(c));
    return c->fault.code ? NULL : value_void();
}

static void begin(const char *uuid)
{
    g_mutex_lock(&work.lock);
    work_init();
    gboolean runs = g_hash_table_contains(work.running, uuid);
    g_hash_table_replace(work.running, g_strdup(uuid), GINT_TO_POINTER(runs));
    g_hash_table_remove(work.later, uuid);
    g_mutex_unlock(&work.lock);
    if (runs || task_spawn(TASK_NAME, NULL, run, g_strdup(uuid), g_free))
        return;
    g_mutex_lock(&work.lock);
    g_hash_table_remove(work.running, uuid);
    g_mutex_unlock(&work.lock);
}

void storage_coalesce_soon(const char *sr_uuid, struct value *answer)
{
    if (answer && value_as_bool(value_get(answer, "coalesce")))
        begin(sr_uuid);
}

/* On the clock's thread. */
static void look_again(G_GNUC_UNUSED void *data)
{
    g_mutex_lock(&work.lock);
    work_init();
    g_autoptr(GList) uuids = g_hash_table_get_keys(work.later);
    for (GList *l = uuids; l; l = l->next)
        l->data = g_strdup(l->data);
    g_mutex_unlock(&work.lock);
    for (GList *l = uuids; l; l = l->next) {
        begin(l->data);
        g_free(l->data);
    }
}

void storage_coalesce_start(void)
{
    clock_every(LATER_MS, look_again, NULL);
}

void storage_coalesce_stop(void)
{
    g_mutex_lock(&work.lock);
    work_init();
    work.stopping = TRUE;
    g_autoptr(GPtrArray) tasks = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < work.tasks->len; i++)
        g_ptr_array_add(tasks, g_strdup(work.tasks->pdata[i]));
    g_mutex_unlock(&work.lock);
    for (guint i = 0; i < tasks->len; i++) {
        struct fault f = FAULT_INIT;
        task_cancel(tasks->pdata[i], &f); /* fails when it has just ended */
        fault_clear(&f);
    }
}
