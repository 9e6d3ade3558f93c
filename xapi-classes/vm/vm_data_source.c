/* vm_data_source.c - a running VM's figures by name: VM.get_data_sources and query_data_source, as monitoring programs
 * ask for them. Here nothing is kept but the last measurement. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/rrd.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

#define OLD_US (60 * G_TIME_SPAN_SECOND)
#define KIB    1024.0

/* What the backend said last of a domain's disks. */
struct rates {
    struct value *disks;
    gint64 when;
};

static GMutex lock;
static GHashTable *all; /* VM's uuid -> struct rates */

static void rates_free(void *data)
{
    struct rates *r = data;
    value_unref(r->disks);
    g_free(r);
}

static gboolean is_old(G_GNUC_UNUSED gpointer key, gpointer data, G_GNUC_UNUSED gpointer user)
{
    return g_get_monotonic_time() - ((struct rates *) data)->when > OLD_US;
}

void vm_rates_take(const struct value *domains)
{
    g_mutex_lock(&lock);
    if (all == NULL)
        all = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, rates_free);
    for (gsize i = 0; i < value_count(domains); i++) {
        const struct value *domain = value_at(domains, i);
        struct value *disks = value_get(domain, "vbds");
        if (disks == NULL)
            continue;
        struct rates *r = g_new0(struct rates, 1);
        r->disks = value_ref(disks);
        r->when = g_get_monotonic_time();
        g_hash_table_replace(all, g_strdup(value_get_str(domain, "uuid", "")), r);
    }
    g_hash_table_foreach_remove(all, is_old, NULL);
    g_mutex_unlock(&lock);
}

static struct value *disks_of(const struct record *vm)
{
    g_mutex_lock(&lock);
    const struct rates *r = all != NULL ? g_hash_table_lookup(all, record_str(vm, F_VM_uuid)) : NULL;
    struct value *disks = r != NULL ? value_ref(r->disks) : NULL;
    g_mutex_unlock(&lock);
    return disks != NULL ? disks : value_ref(value_empty_set());
}

/* ---- the list ---- */

void rrd_add_source(struct value_builder *set, const char *uuid, const char *name, const char *words, const char *units,
                    double max, double v)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 8);
    value_builder_put_string(&b, "name_label", name);
    value_builder_put_string(&b, "name_description", words);
    value_builder_put(&b, "enabled", value_bool(rrd_is_recorded(uuid, name)));
    value_builder_put(&b, "standard", value_bool(TRUE));
    value_builder_put_string(&b, "units", units);
    value_builder_put(&b, "min", value_float(NULL, 0.0));
    value_builder_put(&b, "max", value_float(NULL, max));
    value_builder_put(&b, "value", value_float(NULL, v));
    value_builder_add(set, value_builder_end(&b));
}

static void add_processors(struct value_builder *set, const char *uuid, const struct record *metrics)
{
    const struct value *use = record_field(metrics, F_VM_metrics_VCPUs_utilisation);
    for (gsize i = 0; i < value_count(use); i++) {
        const struct value_member *m = &use->u.map.m[i];
        g_autofree char *number =
            m->key->type == VALUE_STRING ? g_strdup(value_str(m->key)) : g_strdup_printf("%" G_GSIZE_FORMAT, i);
        g_autofree char *name = g_strconcat("cpu", number, NULL);
        rrd_add_source(set, uuid, name, "Part of the time that the virtual processor ran", "(fraction)", 1.0,
                       value_as_float(m->value));
    }
}

static void add_disks(struct value_builder *set, const struct record *vm)
{
    g_autoptr(value) disks = disks_of(vm);
    for (gsize i = 0; i < value_count(disks); i++) {
        const struct value *d = value_at(disks, i);
        g_autoptr(record) vbd = store_get_by_uuid(the_store(), CLASS_VBD, value_get_str(d, "uuid", ""));
        const char *device = vbd != NULL ? record_str(vbd, F_VBD_device) : "";
        if (*device == '\0')
            continue;
        g_autofree char *in = g_strdup_printf("vbd_%s_read", device), *out = g_strdup_printf("vbd_%s_write", device);
        rrd_add_source(set, record_str(vm, F_VM_uuid), in, "Bytes read from the disk in a second", "B/s", G_MAXDOUBLE,
                       value_as_float(value_get(d, "io_read_kbs")) * KIB);
        rrd_add_source(set, record_str(vm, F_VM_uuid), out, "Bytes written to the disk in a second", "B/s", G_MAXDOUBLE,
                       value_as_float(value_get(d, "io_write_kbs")) * KIB);
    }
}

struct value *vm_data_sources(const struct record *vm)
{
    struct value_builder set;
    g_autoptr(record) metrics = store_get(the_store(), CLASS_VM_metrics, record_str(vm, F_VM_metrics));
    value_builder_set(&set, NULL, 8);
    if (metrics != NULL) {
        add_processors(&set, record_str(vm, F_VM_uuid), metrics);
        rrd_add_source(&set, record_str(vm, F_VM_uuid), "memory", "Memory that the VM has now", "B", G_MAXDOUBLE,
                       (double) record_int(metrics, F_VM_metrics_memory_actual));
    }
    add_disks(&set, vm);
    return value_builder_end(&set);
}

/* ---- messages ---- */

static struct record *running_vm(struct call *c)
{
    g_autoptr(record) vm = call_object(c, 0);
    if (vm == NULL)
        return NULL;
    struct txn *t = txn_begin(the_store());
    gboolean may = operation_check(t, CLASS_VM, vm->ref, "data_source_op", &c->fault);
    txn_abort(t);
    return may ? g_steal_pointer(&vm) : NULL;
}

struct value *vm_get_data_sources(struct call *c)
{
    g_autoptr(record) vm = running_vm(c);
    return vm != NULL ? vm_data_sources(vm) : NULL;
}

struct value *vm_query_data_source(struct call *c)
{
    g_autoptr(record) vm = running_vm(c);
    if (vm == NULL)
        return NULL;
    g_autoptr(value) set = vm_data_sources(vm);
    for (gsize i = 0; i < value_count(set); i++)
        if (strcmp(value_get_str(value_at(set, i), "name_label", ""), call_str(c, 1)) == 0)
            return value_ref(value_get(value_at(set, i), "value"));
    return call_fail(c, "INVALID_VALUE", "data_source", call_str(c, 1), NULL);
}
