/* data_source.c - the figures of the host and of storage repositories by name, and which figures are recorded. */
#include "config.h"
#include "daemon/call.h"
#include "xapi-classes/handlers.h"
#include "xapi-classes/rrd.h"

#include <string.h>

struct value *host_data_sources(const struct record *host)
{
    const char *uuid = record_str(host, F_host_uuid);
    const struct value *cpus = record_field(host, F_host_host_CPUs);
    g_autoptr(record) metrics = store_get(the_store(), CLASS_host_metrics, record_str(host, F_host_metrics));
    struct value_builder set;
    double sum = 0;
    value_builder_set(&set, NULL, value_count(cpus) + 3);
    for (gsize i = 0; i < value_count(cpus); i++) {
        g_autoptr(record) cpu = store_get(the_store(), CLASS_host_cpu, value_str(value_at(cpus, i)));
        double use = cpu ? record_float(cpu, F_host_cpu_utilisation) : 0;
        g_autofree char *name =
            g_strdup_printf("cpu%" G_GINT64_FORMAT, cpu ? record_int(cpu, F_host_cpu_number) : (gint64) i);
        rrd_add_source(&set, uuid, name, "Part of the time that the processor was busy", "(fraction)", 1.0, use);
        sum += use;
    }
    if (value_count(cpus) > 0)
        rrd_add_source(&set, uuid, "cpu_avg", "The average of all processors", "(fraction)", 1.0,
                       sum / (double) value_count(cpus));
    if (metrics) {
        rrd_add_source(&set, uuid, "memory_total_kib", "Memory of the host", "KiB", G_MAXDOUBLE,
                       (double) (record_int(metrics, F_host_metrics_memory_total) / 1024));
        rrd_add_source(&set, uuid, "memory_free_kib", "Memory that nobody has", "KiB", G_MAXDOUBLE,
                       (double) (record_int(metrics, F_host_metrics_memory_free) / 1024));
    }
    return value_builder_end(&set);
}

struct value *sr_data_sources(const struct record *sr)
{
    static const struct {
        int field;
        const char *name, *words;
    } figures[] = {
        {F_SR_physical_size, "physical_size", "Room of the repository"},
        {F_SR_physical_utilisation, "physical_utilisation", "Room that is taken"},
        {F_SR_virtual_allocation, "virtual_allocation", "Room that its disks may take at most"},
    };
    struct value_builder set;
    value_builder_set(&set, NULL, G_N_ELEMENTS(figures));
    for (gsize i = 0; i < G_N_ELEMENTS(figures); i++)
        if (record_int(sr, figures[i].field) >= 0) /* -1: not known */
            rrd_add_source(&set, record_str(sr, F_SR_uuid), figures[i].name, figures[i].words, "B", G_MAXDOUBLE,
                           (double) record_int(sr, figures[i].field));
    return value_builder_end(&set);
}

static struct value *sources_of(const struct record *r)
{
    return r->class->id == CLASS_VM   ? vm_data_sources(r)
           : r->class->id == CLASS_SR ? sr_data_sources(r)
                                      : host_data_sources(r);
}

static const struct value *find(const struct value *set, const char *name)
{
    for (gsize i = 0; i < value_count(set); i++)
        if (strcmp(value_get_str(value_at(set, i), "name_label", ""), name) == 0)
            return value_at(set, i);
    return NULL;
}

/* ---- messages of hosts and repositories, and those of VMs that need no more than the object ---- */

struct value *get_data_sources(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    return r ? sources_of(r) : NULL;
}

struct value *query_data_source(struct call *c)
{
    g_autoptr(record) r = call_object(c, 0);
    g_autoptr(value) set = r ? sources_of(r) : NULL;
    const struct value *found = set ? find(set, call_str(c, 1)) : NULL;
    if (found)
        return value_ref(value_get(found, "value"));
    return r ? call_fail(c, "INVALID_VALUE", "data_source", call_str(c, 1), NULL) : NULL;
}

static struct value *change(struct call *c, void (*fn)(const char *uuid, const char *source))
{
    g_autoptr(record) r = call_object(c, 0);
    g_autoptr(value) set = r ? sources_of(r) : NULL;
    if (!r)
        return NULL;
    if (!find(set, call_str(c, 1)))
        return call_fail(c, "INVALID_VALUE", "data_source", call_str(c, 1), NULL);
    fn(record_str(r, r->class->uuid_field), call_str(c, 1));
    return value_void();
}

struct value *record_data_source(struct call *c)
{
    return change(c, rrd_record);
}

struct value *forget_data_source_archives(struct call *c)
{
    return change(c, rrd_forget);
}
