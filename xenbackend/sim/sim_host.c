/* sim_host.c - the simulated host itself: CPUs, memory, network cards, the hypervisor's console. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <stdarg.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "xenbackend/storage/storage.h"

#define DMESG_MAX (16 * 1024)
#define CPU_FLAGS                                                                                                      \
    "fpu de tsc msr pae mce cx8 apic sep mca cmov pat clflush mmx fxsr sse sse2 ht syscall nx lm constant_tsc"
#define FEATURES "1789cbf5-f6fa3223-2d93fbff-00000023-00000001-000007ab-00000000-00000000-00001000-0c000000"

static GString *dmesg;

/* ---- memory ---- */

gint64 sim_memory_total(void)
{
    return sim.conf->sim_memory * MIB + sim.extra_memory;
}

static gint64 memory_overhead(void)
{
    return sim.conf->sim_memory * MIB / 64;
}

gint64 sim_memory_free(void)
{
    gint64 left = sim_memory_total() - memory_overhead() - sim_memory_reserved(sim.dom0);
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, sim.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        left -= sim_memory_reserved(value);
    return MAX(left, 0);
}

/* ---- metrics ---- */

/* What the domains use, spread over the CPUs. */
static double mean_load(void)
{
    double sum = sim.dom0->load * sim.dom0->vcpus;
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, sim.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct sim_domain *d = value;
        if (d->power == SIM_RUNNING)
            sum += d->load * d->vcpus;
    }
    return MIN(sum / sim.conf->sim_cpus, 1.0);
}

static struct value *metrics(void)
{
    struct value_builder b, cpus;
    double mean = mean_load();
    value_builder_set(&cpus, NULL, (gsize) sim.conf->sim_cpus);
    for (int i = 0; i < sim.conf->sim_cpus; i++) {
        double noise = sim.conf->sim_metrics ? g_random_double_range(0.8, 1.2) : 1.0;
        value_builder_add(&cpus, value_float(NULL, CLAMP(mean * noise, 0.0, 1.0)));
    }
    value_builder_map(&b, NULL, 4);
    value_builder_put(&b, "memory_total", value_int(NULL, sim_memory_total()));
    value_builder_put(&b, "memory_free", value_int(NULL, sim_memory_free()));
    value_builder_put(&b, "cpu_utilisation", value_builder_end(&cpus));
    value_builder_put(&b, "live", value_bool(TRUE));
    return value_builder_end(&b);
}

void sim_host_changed(void)
{
    sim_notify("host.changed", metrics());
}

struct value *sim_host_metrics(struct sim_op *op G_GNUC_UNUSED, struct fault *f G_GNUC_UNUSED)
{
    return metrics();
}

/* ---- the console ---- */

void sim_dmesg(const char *format, ...)
{
    va_list ap;
    if (dmesg == NULL)
        dmesg = g_string_new(NULL);
    g_string_append(dmesg, "(XEN) ");
    va_start(ap, format);
    g_string_append_vprintf(dmesg, format, ap);
    va_end(ap);
    g_string_append_c(dmesg, '\n');
    if (dmesg->len > DMESG_MAX) { /* a ring: the oldest lines go */
        const char *line = strchr(dmesg->str + dmesg->len - DMESG_MAX / 2, '\n');
        g_string_erase(dmesg, 0, line + 1 - dmesg->str);
    }
}

struct value *sim_host_dmesg(struct sim_op *op, struct fault *f G_GNUC_UNUSED)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "text", dmesg->str);
    if (value_as_bool(value_get(op->params, "clear")))
        g_string_truncate(dmesg, 0);
    return value_builder_end(&b);
}

struct value *sim_host_debug_keys(struct sim_op *op, struct fault *f G_GNUC_UNUSED)
{
    for (const char *key = value_get_str(op->params, "keys", ""); *key != '\0'; key++)
        if (g_ascii_isgraph(*key))
            sim_dmesg("'%c' pressed -> nothing, this host is simulated", *key);
    return value_empty_map();
}

/* ---- what the host is ---- */

static struct value *cpu(int i)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 12);
    value_builder_put(&b, "number", value_int(NULL, i));
    value_builder_put_string(&b, "vendor", "GenuineIntel");
    value_builder_put(&b, "speed", value_int(NULL, 2400));
    value_builder_put_string(&b, "modelname", "Simulated CPU @ 2.40GHz");
    value_builder_put_string(&b, "stepping", "1");
    value_builder_put(&b, "model", value_int(NULL, 63));
    value_builder_put(&b, "family", value_int(NULL, 6));
    value_builder_put_string(&b, "flags", CPU_FLAGS);
    value_builder_put_string(&b, "features", FEATURES);
    value_builder_put(&b, "socket", value_int(NULL, i >= (sim.conf->sim_cpus + 1) / 2));
    value_builder_put(&b, "core", value_int(NULL, i / 2));
    value_builder_put(&b, "node", value_int(NULL, 0));
    return value_builder_end(&b);
}

static struct value *cpus(void)
{
    struct value_builder b;
    value_builder_set(&b, NULL, (gsize) sim.conf->sim_cpus);
    for (int i = 0; i < sim.conf->sim_cpus; i++)
        value_builder_add(&b, cpu(i));
    return value_builder_end(&b);
}

static struct value *interface(int i)
{
    struct value_builder b;
    g_autofree char *device = g_strdup_printf("eth%d", i);
    g_autofree char *bridge = g_strdup_printf("xenbr%d", i);
    g_autofree char *mac = g_strdup_printf("02:16:3e:00:00:%02x", i + 1);
    value_builder_map(&b, NULL, 12);
    value_builder_put_string(&b, "device", device);
    value_builder_put_string(&b, "mac", mac);
    value_builder_put(&b, "mtu", value_int(NULL, 1500));
    value_builder_put(&b, "carrier", value_bool(TRUE));
    value_builder_put(&b, "speed", value_int(NULL, 10000));
    value_builder_put_string(&b, "bridge", bridge);
    value_builder_put_string(&b, "ip", i == 0 ? "192.0.2.1" : "");
    value_builder_put_string(&b, "netmask", i == 0 ? "255.255.255.0" : "");
    value_builder_put_string(&b, "gateway", i == 0 ? "192.0.2.254" : "");
    value_builder_put(&b, "physical", value_bool(TRUE));
    return value_builder_end(&b);
}

static struct value *interfaces(void)
{
    struct value_builder b;
    value_builder_set(&b, NULL, 2);
    value_builder_add(&b, interface(0));
    value_builder_add(&b, interface(1));
    return value_builder_end(&b);
}

static struct value *dom0(void)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "uuid", sim.dom0->uuid);
    value_builder_put(&b, "memory", value_int(NULL, sim.dom0->memory_actual));
    value_builder_put(&b, "vcpus", value_int(NULL, sim.dom0->vcpus));
    return value_builder_end(&b);
}

static struct value *chipset(void)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "iommu", value_bool(FALSE));
    return value_builder_end(&b);
}

struct value *sim_host_info(struct sim_op *op G_GNUC_UNUSED, struct fault *f G_GNUC_UNUSED)
{
    static const char *const capabilities[] = {"xen-3.0-x86_64", "hvm-3.0-x86_32", "hvm-3.0-x86_32p", "hvm-3.0-x86_64",
                                               NULL};
    static const char *const bios[] = {"bios-vendor",
                                       "xenapid",
                                       "bios-version",
                                       PACKAGE_VERSION,
                                       "system-manufacturer",
                                       "xenapid",
                                       "system-product-name",
                                       "Simulated host",
                                       NULL};
    struct utsname os;
    uname(&os);
    const char *const software[] = {"xen", "4.17.0-simulated", "linux", os.release, "backend", "xenapid-sim", NULL};
    struct value_builder b;
    value_builder_map(&b, NULL, 20);
    value_builder_put_string(&b, "hostname", sim.hostname != NULL ? sim.hostname : os.nodename);
    if (sim.iscsi_iqn != NULL)
        value_builder_put_string(&b, "iscsi_iqn", sim.iscsi_iqn);
    value_builder_put(&b, "boot_id", value_printf(NULL, "%" G_GINT64_FORMAT, sim.boot_time));
    value_builder_put_string(&b, "address", "192.0.2.1");
    value_builder_put(&b, "memory_total", value_int(NULL, sim_memory_total()));
    value_builder_put(&b, "memory_free", value_int(NULL, sim_memory_free()));
    value_builder_put(&b, "memory_overhead", value_int(NULL, memory_overhead()));
    value_builder_put(&b, "cpus", cpus());
    value_builder_put(&b, "cpu_sockets", value_int(NULL, sim.conf->sim_cpus > 1 ? 2 : 1));
    value_builder_put(&b, "threads_per_core", value_int(NULL, sim.conf->sim_cpus > 1 ? 2 : 1));
    value_builder_put(&b, "software_version", sim_strings(software));
    value_builder_put(&b, "capabilities", value_string_set(NULL, capabilities));
    value_builder_put_string(&b, "scheduler", "credit2");
    value_builder_put(&b, "boot_time", value_int(NULL, sim.boot_time / G_USEC_PER_SEC));
    value_builder_put(&b, "chipset", chipset());
    value_builder_put(&b, "bios", sim_strings(bios));
    value_builder_put(&b, "interfaces", interfaces());
    value_builder_put(&b, "dom0", dom0());
    return value_builder_end(&b);
}

/* ---- the beginning ---- */

/* The same for each start of the same daemon, another for another one on this machine. */
static void dom0_uuid(char uuid[STORAGE_UUID_LEN + 1])
{
    g_autofree char *machine = NULL;
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    guint8 digest[20];
    gsize len = sizeof(digest);
    if (g_file_get_contents("/etc/machine-id", &machine, NULL, NULL))
        g_checksum_update(sum, (const guchar *) machine, -1);
    g_checksum_update(sum, (const guchar *) "domain 0 ", -1);
    g_checksum_update(sum, (const guchar *) sim.conf->state_dir, -1);
    g_checksum_get_digest(sum, digest, &len);
    storage_uuid_format(digest, 5, uuid);
}

void sim_host_init(void)
{
    char uuid[STORAGE_UUID_LEN + 1];
    struct value_builder b;
    gint64 memory = MIN(DOM0_MAX, sim.conf->sim_memory * MIB / 8);
    gint64 vcpus = MIN(sim.conf->sim_cpus, 4);
    dom0_uuid(uuid);
    value_builder_map(&b, NULL, 8);
    value_builder_put_string(&b, "uuid", uuid);
    value_builder_put_string(&b, "name", "Domain-0");
    value_builder_put_string(&b, "type", "pv");
    value_builder_put(&b, "memory_target", value_int(NULL, memory));
    value_builder_put(&b, "memory_static_max", value_int(NULL, memory));
    value_builder_put(&b, "vcpus", value_int(NULL, vcpus));
    value_builder_put(&b, "vcpus_max", value_int(NULL, vcpus));
    g_autoptr(value) config = value_builder_end(&b);
    sim.dom0 = sim_domain_new(config);
    sim.dom0->power = SIM_RUNNING;
    sim.dom0->start_time = sim.dom0->cpu_stamp = sim.boot_time;
    sim.dom0->told_guest = TRUE;
    sim_dmesg("Xen version 4.17.0-simulated (xenapid-sim " PACKAGE_VERSION ")");
    sim_dmesg("System RAM: %" G_GINT64_FORMAT "MB", sim.conf->sim_memory);
    sim_dmesg("Scheduler: SMP Credit Scheduler rev2 (credit2), %d CPUs", sim.conf->sim_cpus);
}
