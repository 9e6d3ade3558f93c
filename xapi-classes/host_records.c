/* host_records.c - pool, host, metrics, CPUs, networks, PIFs and the control domain, as the backend describes them. */
#include <time.h>
#include "config.h"
#include "daemon/call.h"
#include "xapi-classes/start.h"

#define API_MAJOR        2
#define API_MINOR        21
#define PLATFORM_VERSION "3.4.0" /* what clients compare with to know which calls exist */
#define XAPI_VERSION     "24.19.0"

static const char *the_host = NULL_REF, *the_pool = NULL_REF;

const char *host_ref(void)
{
    return the_host;
}

const char *pool_ref(void)
{
    return the_pool;
}

/* The first object of a class that has a single one, or a new one. */
static const char *single(struct txn *t, enum class_id class, gboolean *is_new)
{
    g_autoptr(GPtrArray) all = txn_all(t, class);
    *is_new = all->len == 0;
    return g_intern_string(all->len ? ((struct record *) all->pdata[0])->ref : txn_create(t, class, NULL, NULL));
}

static gint64 now(void)
{
    return g_get_real_time() / G_USEC_PER_SEC;
}

static struct value *or_empty(struct value *v, struct value *empty)
{
    return v ? value_ref(v) : empty;
}

/* Any map as the API's map of strings; a backend may say true where the field says "true". */
static struct value *string_map(struct value *map)
{
    struct value_builder b;

    value_builder_map(&b, NULL, value_count(map));
    for (gsize i = 0; i < value_count(map); i++) {
        struct value *v = map->u.map.m[i].value;
        g_autofree char *number = v->type == VALUE_INT ? g_strdup_printf("%" G_GINT64_FORMAT, v->u.i) : NULL;
        const char *text = v->type == VALUE_BOOL ? (value_as_bool(v) ? "true" : "false") : number;
        value_builder_put_string(&b, value_str(map->u.map.m[i].key), text ? text : value_str(v));
    }
    return value_builder_end(&b);
}

/* ---- versions ---- */

static struct value *software_version(struct value *info)
{
    struct value *reported = value_get(info, "software_version");
    struct value_builder b;
    struct {
        const char *key, *value;
    } ours[] = {
        {"product_brand", PACKAGE_NAME},
        {"product_version", PACKAGE_VERSION},
        {"product_version_text", PACKAGE_VERSION},
        {"product_version_text_short", PACKAGE_VERSION},
        {"platform_name", "XCP"},
        {"platform_version", PLATFORM_VERSION},
        {"build_number", PACKAGE_VERSION},
        {"xapi", XAPI_VERSION},
        {"xapi_build", XAPI_VERSION},
        {"xencenter_min", "2.16"},
        {"xencenter_max", "2.21"},
        {"hostname", value_get_str(info, "hostname", "localhost")},
    };

    value_builder_map(&b, NULL, G_N_ELEMENTS(ours) + value_count(reported));
    for (gsize i = 0; i < G_N_ELEMENTS(ours); i++)
        value_builder_put_string(&b, ours[i].key, ours[i].value);
    for (gsize i = 0; i < value_count(reported); i++) {
        struct value_member *m = &reported->u.map.m[i];
        if (!value_builder_has(&b, value_str(m->key)))
            value_builder_put(&b, value_str(m->key), value_ref(m->value));
    }
    return value_builder_end(&b);
}

/* Nothing needs a licence; what a client may not expect of this server is said as a restriction. */
static struct value *license_params(void)
{
    struct value_builder b;

    value_builder_map(&b, NULL, 4);
    value_builder_put_string(&b, "sku_type", "free");
    value_builder_put_string(&b, "expiry", "20991231T23:59:59Z");
    value_builder_put_string(&b, "restrict_zstd_export", "true");
    value_builder_put_string(&b, "restrict_vtpm", "true");
    return value_builder_end(&b);
}

/* ---- CPUs ---- */

static struct value *cpu_info(struct value *info)
{
    struct value *cpus = value_get(info, "cpus"), *cpu = value_at(cpus, 0);
    struct value_builder b;

    value_builder_map(&b, NULL, 12);
    value_builder_put(&b, "cpu_count", value_printf(NULL, "%" G_GSIZE_FORMAT, value_count(cpus)));
    value_builder_put(&b, "socket_count",
                      value_printf(NULL, "%" G_GINT64_FORMAT, value_as_int(value_get(info, "cpu_sockets"))));
    value_builder_put(&b, "threads_per_core",
                      value_printf(NULL, "%" G_GINT64_FORMAT, value_as_int(value_get(info, "threads_per_core"))));
    static const char *const same[] = {"vendor", "modelname", "stepping", "flags", "features", NULL};
    for (int i = 0; same[i]; i++)
        value_builder_put_string(&b, same[i], value_get_str(cpu, same[i], ""));
    static const char *const numbers[] = {"speed", "family", "model", NULL};
    for (int i = 0; numbers[i]; i++)
        value_builder_put(&b, numbers[i],
                          value_printf(NULL, "%" G_GINT64_FORMAT, value_as_int(value_get(cpu, numbers[i]))));
    return value_builder_end(&b);
}

static const char *cpu_record(struct txn *t, GPtrArray *known, gint64 number)
{
    for (guint i = 0; i < known->len; i++) {
        struct record *r = known->pdata[i];
        if (record_int(r, F_host_cpu_number) == number)
            return r->ref;
    }
    return txn_create(t, CLASS_host_cpu, NULL, NULL);
}

static void update_cpus(struct txn *t, struct value *info)
{
    g_autoptr(GPtrArray) known = txn_all(t, CLASS_host_cpu);
    struct value *cpus = value_get(info, "cpus");

    for (gsize i = 0; i < value_count(cpus); i++) {
        struct value *cpu = value_at(cpus, i);
        gint64 number = value_as_int(value_get(cpu, "number"));
        const char *ref = cpu_record(t, known, number);
        txn_set_str(t, CLASS_host_cpu, ref, F_host_cpu_host, the_host);
        txn_set_int(t, CLASS_host_cpu, ref, F_host_cpu_number, number);
        txn_set_str(t, CLASS_host_cpu, ref, F_host_cpu_vendor, value_get_str(cpu, "vendor", ""));
        txn_set_str(t, CLASS_host_cpu, ref, F_host_cpu_modelname, value_get_str(cpu, "modelname", ""));
        txn_set_str(t, CLASS_host_cpu, ref, F_host_cpu_stepping, value_get_str(cpu, "stepping", ""));
        txn_set_str(t, CLASS_host_cpu, ref, F_host_cpu_flags, value_get_str(cpu, "flags", ""));
        txn_set_str(t, CLASS_host_cpu, ref, F_host_cpu_features, value_get_str(cpu, "features", ""));
        txn_set_int(t, CLASS_host_cpu, ref, F_host_cpu_speed, value_as_int(value_get(cpu, "speed")));
        txn_set_int(t, CLASS_host_cpu, ref, F_host_cpu_family, value_as_int(value_get(cpu, "family")));
        txn_set_int(t, CLASS_host_cpu, ref, F_host_cpu_model, value_as_int(value_get(cpu, "model")));
    }
    for (guint i = 0; i < known->len; i++) { /* taken out of the machine */
        struct record *r = known->pdata[i];
        if (record_int(r, F_host_cpu_number) >= (gint64) value_count(cpus))
            txn_destroy(t, CLASS_host_cpu, r->ref);
    }
}

/* ---- networks ---- */

static const char *network_of_bridge(struct txn *t, const char *bridge, const char *device)
{
    g_autoptr(GPtrArray) networks = txn_all(t, CLASS_network);
    for (guint i = 0; i < networks->len; i++) {
        struct record *r = networks->pdata[i];
        if (strcmp(record_str(r, F_network_bridge), bridge) == 0)
            return r->ref;
    }
    const char *ref = txn_create(t, CLASS_network, NULL, NULL);
    g_autofree char *name = g_strdup_printf("Pool-wide network associated with %s", device);
    txn_set_str(t, CLASS_network, ref, F_network_name_label, name);
    txn_set_str(t, CLASS_network, ref, F_network_bridge, bridge);
    return ref;
}

static const char *pif_of_device(struct txn *t, const char *device)
{
    g_autoptr(GPtrArray) pifs = txn_all(t, CLASS_PIF);
    for (guint i = 0; i < pifs->len; i++) {
        struct record *r = pifs->pdata[i];
        if (strcmp(record_str(r, F_PIF_device), device) == 0 && record_int(r, F_PIF_VLAN) < 0)
            return r->ref;
    }
    const char *ref = txn_create(t, CLASS_PIF, NULL, NULL);
    txn_set_str(t, CLASS_PIF, ref, F_PIF_device, device);
    txn_set_int(t, CLASS_PIF, ref, F_PIF_VLAN, -1);
    txn_set_str(t, CLASS_PIF, ref, F_PIF_metrics, txn_create(t, CLASS_PIF_metrics, NULL, NULL));
    return ref;
}

static void update_pif_metrics(struct txn *t, const char *ref, struct value *nic)
{
    if (!txn_get(t, CLASS_PIF_metrics, ref))
        return;
    txn_set_bool(t, CLASS_PIF_metrics, ref, F_PIF_metrics_carrier, value_as_bool(value_get(nic, "carrier")));
    txn_set_int(t, CLASS_PIF_metrics, ref, F_PIF_metrics_speed, value_as_int(value_get(nic, "speed")));
    txn_set_bool(t, CLASS_PIF_metrics, ref, F_PIF_metrics_duplex, value_as_bool(value_get(nic, "carrier")));
    txn_set_time(t, CLASS_PIF_metrics, ref, F_PIF_metrics_last_updated, now());
}

static void update_pif(struct txn *t, struct value *nic, const char *management_ip)
{
    const char *device = value_get_str(nic, "device", ""), *bridge = value_get_str(nic, "bridge", "");
    const char *ip = value_get_str(nic, "ip", "");
    const char *ref = pif_of_device(t, device);

    txn_set_str(t, CLASS_PIF, ref, F_PIF_host, the_host);
    txn_set_str(t, CLASS_PIF, ref, F_PIF_network, network_of_bridge(t, *bridge ? bridge : device, device));
    txn_set_str(t, CLASS_PIF, ref, F_PIF_MAC, value_get_str(nic, "mac", ""));
    txn_set_int(t, CLASS_PIF, ref, F_PIF_MTU, value_as_int(value_get(nic, "mtu")));
    txn_set_bool(t, CLASS_PIF, ref, F_PIF_physical, value_as_bool(value_get(nic, "physical")));
    txn_set_bool(t, CLASS_PIF, ref, F_PIF_currently_attached, TRUE);
    txn_set_bool(t, CLASS_PIF, ref, F_PIF_management, *ip && strcmp(ip, management_ip) == 0);
    txn_set_str(t, CLASS_PIF, ref, F_PIF_ip_configuration_mode, *ip ? "Static" : "None");
    txn_set_str(t, CLASS_PIF, ref, F_PIF_IP, ip);
    txn_set_str(t, CLASS_PIF, ref, F_PIF_netmask, value_get_str(nic, "netmask", ""));
    txn_set_str(t, CLASS_PIF, ref, F_PIF_gateway, value_get_str(nic, "gateway", ""));
    update_pif_metrics(t, record_str(txn_get(t, CLASS_PIF, ref), F_PIF_metrics), nic);
}

static void update_networks(struct txn *t, struct value *info)
{
    struct value *nics = value_get(info, "interfaces");
    for (gsize i = 0; i < value_count(nics); i++)
        update_pif(t, value_at(nics, i), value_get_str(info, "address", ""));
}

/* ---- the control domain ---- */

static const char *control_domain_record(struct txn *t, const char *uuid)
{
    struct record *host = txn_get(t, CLASS_host, the_host);
    const char *ref = record_str(host, F_host_control_domain);

    if (txn_get(t, CLASS_VM, ref))
        return ref;
    ref = g_intern_string(txn_create(t, CLASS_VM, NULL, uuid_is_valid(uuid) ? uuid : NULL));
    txn_set_bool(t, CLASS_VM, ref, F_VM_is_control_domain, TRUE);
    txn_set_str(t, CLASS_VM, ref, F_VM_metrics, txn_create(t, CLASS_VM_metrics, NULL, NULL));
    txn_set_str(t, CLASS_host, the_host, F_host_control_domain, ref);
    return ref;
}

static void update_control_domain(struct txn *t, struct value *info)
{
    struct value *dom0 = value_get(info, "dom0");
    gint64 memory = value_as_int(value_get(dom0, "memory")), vcpus = value_as_int(value_get(dom0, "vcpus"));
    const char *ref = control_domain_record(t, value_get_str(dom0, "uuid", ""));
    g_autofree char *name = g_strconcat("Control domain on host: ", value_get_str(info, "hostname", "localhost"), NULL);
    static const int memory_fields[] = {F_VM_memory_static_max, F_VM_memory_static_min, F_VM_memory_dynamic_max,
                                        F_VM_memory_dynamic_min, F_VM_memory_target};

    txn_set_str(t, CLASS_VM, ref, F_VM_name_label, name);
    txn_set_str(t, CLASS_VM, ref, F_VM_name_description,
                "The domain that manages physical devices and the other domains");
    txn_set_str(t, CLASS_VM, ref, F_VM_power_state, "Running");
    txn_set_int(t, CLASS_VM, ref, F_VM_domid, 0);
    txn_set_str(t, CLASS_VM, ref, F_VM_resident_on, the_host);
    txn_set_str(t, CLASS_VM, ref, F_VM_affinity, the_host);
    txn_set_int(t, CLASS_VM, ref, F_VM_VCPUs_max, vcpus);
    txn_set_int(t, CLASS_VM, ref, F_VM_VCPUs_at_startup, vcpus);
    for (gsize i = 0; i < G_N_ELEMENTS(memory_fields); i++)
        txn_set_int(t, CLASS_VM, ref, memory_fields[i], memory);
    const char *metrics = record_str(txn_get(t, CLASS_VM, ref), F_VM_metrics);
    if (txn_get(t, CLASS_VM_metrics, metrics)) {
        txn_set_int(t, CLASS_VM_metrics, metrics, F_VM_metrics_memory_actual, memory);
        txn_set_int(t, CLASS_VM_metrics, metrics, F_VM_metrics_VCPUs_number, vcpus);
        txn_set_time(t, CLASS_VM_metrics, metrics, F_VM_metrics_start_time, value_as_int(value_get(info, "boot_time")));
        txn_set_time(t, CLASS_VM_metrics, metrics, F_VM_metrics_last_updated, now());
    }
}

/* ---- host and pool ---- */

static void set_metrics(struct txn *t, const char *ref, struct value *m)
{
    txn_set_int(t, CLASS_host_metrics, ref, F_host_metrics_memory_total, value_as_int(value_get(m, "memory_total")));
    txn_set_int(t, CLASS_host_metrics, ref, F_host_metrics_memory_free, value_as_int(value_get(m, "memory_free")));
    txn_set_bool(t, CLASS_host_metrics, ref, F_host_metrics_live, TRUE);
    txn_set_time(t, CLASS_host_metrics, ref, F_host_metrics_last_updated, now());
}

/* What a new host gets once and its administrator may change. */
static void begin_host(struct txn *t, struct value *info)
{
    const char *name = value_get_str(info, "hostname", "localhost");

    txn_set_str(t, CLASS_host, the_host, F_host_name_label, name);
    txn_set_bool(t, CLASS_host, the_host, F_host_enabled, TRUE);
    txn_set_bool(t, CLASS_host, the_host, F_host_ssl_legacy, FALSE);
    txn_set_str(t, CLASS_host, the_host, F_host_metrics, txn_create(t, CLASS_host_metrics, NULL, NULL));
}

static void update_host_record(struct txn *t, struct value *info)
{
    const char *h = the_host;

    txn_set_str(t, CLASS_host, h, F_host_hostname, value_get_str(info, "hostname", "localhost"));
    txn_set_str(t, CLASS_host, h, F_host_iscsi_iqn, value_get_str(info, "iscsi_iqn", ""));
    txn_set_str(t, CLASS_host, h, F_host_address, value_get_str(info, "address", ""));
    txn_set_int(t, CLASS_host, h, F_host_API_version_major, API_MAJOR);
    txn_set_int(t, CLASS_host, h, F_host_API_version_minor, API_MINOR);
    txn_set_str(t, CLASS_host, h, F_host_API_version_vendor, PACKAGE_NAME);
    txn_set_int(t, CLASS_host, h, F_host_memory_overhead, value_as_int(value_get(info, "memory_overhead")));
    txn_set(t, CLASS_host, h, F_host_software_version, software_version(info));
    txn_set(t, CLASS_host, h, F_host_license_params, license_params());
    txn_set_str(t, CLASS_host, h, F_host_edition, "free");
    txn_set(t, CLASS_host, h, F_host_cpu_info, cpu_info(info));
    txn_set(t, CLASS_host, h, F_host_capabilities, or_empty(value_get(info, "capabilities"), value_empty_set()));
    txn_set_str(t, CLASS_host, h, F_host_sched_policy, value_get_str(info, "scheduler", ""));
    txn_set(t, CLASS_host, h, F_host_chipset_info, string_map(value_get(info, "chipset")));
    txn_set(t, CLASS_host, h, F_host_bios_strings, string_map(value_get(info, "bios")));
    set_metrics(t, record_str(txn_get(t, CLASS_host, h), F_host_metrics), info);
}

static void update_pool(struct txn *t, struct value *info, gboolean is_new)
{
    struct value_builder b;

    txn_set_str(t, CLASS_pool, the_pool, F_pool_master, the_host);
    txn_set(t, CLASS_pool, the_pool, F_pool_cpu_info, cpu_info(info));
    if (!is_new)
        return;
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "restrict_zstd_export", "true");
    value_builder_put_string(&b, "restrict_vtpm", "true");
    txn_set(t, CLASS_pool, the_pool, F_pool_restrictions, value_builder_end(&b));
}

void host_update(struct value *info)
{
    gboolean new_host, new_pool;
    struct txn *t = txn_begin(the_store());

    the_host = single(t, CLASS_host, &new_host);
    the_pool = single(t, CLASS_pool, &new_pool);
    if (new_host)
        begin_host(t, info);
    update_host_record(t, info);
    update_pool(t, info, new_pool);
    update_cpus(t, info);
    update_networks(t, info);
    update_control_domain(t, info);
    txn_commit(t);
}

void host_set_live(gboolean live)
{
    struct txn *t = txn_begin(the_store());
    g_autoptr(GPtrArray) all = txn_all(t, CLASS_host_metrics);
    for (guint i = 0; i < all->len; i++)
        txn_set_bool(t, CLASS_host_metrics, ((struct record *) all->pdata[i])->ref, F_host_metrics_live, live);
    txn_commit(t);
}

static void update_cpu_utilisation(struct txn *t, struct value *per_cpu)
{
    g_autoptr(GPtrArray) cpus = txn_all(t, CLASS_host_cpu);
    for (guint i = 0; per_cpu && i < cpus->len; i++) {
        struct record *r = cpus->pdata[i];
        struct value *u = value_at(per_cpu, record_int(r, F_host_cpu_number));
        if (u)
            txn_set_float(t, CLASS_host_cpu, r->ref, F_host_cpu_utilisation, value_as_float(u));
    }
}

void host_metrics_update(struct value *m)
{
    struct txn *t = txn_begin(the_store());
    struct record *host = txn_get(t, CLASS_host, the_host);

    if (host)
        set_metrics(t, record_str(host, F_host_metrics), m);
    update_cpu_utilisation(t, value_get(m, "cpu_utilisation"));
    txn_commit(t);
}
