/* sim_state.c - the simulated domains outlive the helper, as real ones do: RUNTIME_DIR/sim-domains.json.
 *
 * The file is a list of lines, one JSON text each: first the boot, then a domain as it became or {"uuid","gone"}; the
 * last line of a domain counts. A change is one write at the end, so a kill leaves at most half a line there. When most
 * of it is out of date it is written anew and replaced. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/codec/jsonrpc.h"

#define NAME         "sim-domains.json"
#define REWRITE_FROM (1024 * 1024) /* bytes */

static struct {
    char *path;
    int fd;
    gsize size, whole;   /* bytes now, and when it was last written anew */
    struct value *pools; /* as they were read */
} file = {.fd = -1};

static const char *const powers[] = {"starting", "running", "paused", "shutdown", "crashed"};

/* ---- a domain as text ---- */

static void put_int(struct value_builder *b, const char *key, gint64 i)
{
    value_builder_put(b, key, value_int(NULL, i));
}

static char *domain_line(const struct sim_domain *d)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 24);
    value_builder_put_string(&b, "uuid", d->uuid);
    if (d->gone) {
        value_builder_put(&b, "gone", value_bool(TRUE));
        put_int(&b, "next_domid", sim.next_domid);
    } else {
        put_int(&b, "domid", d->domid);
        put_int(&b, "power", d->power);
        value_builder_put_string(&b, "power_text", powers[d->power]);
        value_builder_put_string(&b, "reason", d->reason);
        value_builder_put(&b, "ours", value_bool(d->ours));
        value_builder_put(&b, "config", value_ref(d->config));
        value_builder_put(&b, "vbds", value_ref(d->vbds));
        value_builder_put(&b, "vifs", value_ref(d->vifs));
        if (d->guest != NULL)
            value_builder_put(&b, "guest", value_ref(d->guest));
        put_int(&b, "memory_actual", d->memory_actual);
        put_int(&b, "memory_target", d->memory_target);
        put_int(&b, "vcpus", d->vcpus);
        put_int(&b, "weight", d->weight);
        put_int(&b, "cap", d->cap);
        if (d->affinity != NULL)
            value_builder_put(&b, "affinity", value_ref(d->affinity));
        put_int(&b, "cpu_pool", d->pool);
        put_int(&b, "start_time", d->start_time);
        value_builder_put(&b, "cpu_time", value_float(NULL, d->cpu_time));
        put_int(&b, "cpu_stamp", d->cpu_stamp);
    }
    g_autoptr(value) v = value_builder_end(&b);
    return json_text(v);
}

static const char *static_reason(const char *text)
{
    const char *const all[] = {"poweroff", "reboot", "suspend", "crash"};
    for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
        if (strcmp(all[i], text) == 0)
            return all[i];
    return "";
}

static void load_domain(struct value *v)
{
    struct value *config = value_get(v, "config"), *vbds = value_get(v, "vbds"), *vifs = value_get(v, "vifs");
    gint64 power = sim_int(v, "power", SIM_STARTING);
    sim.next_domid = MAX(sim.next_domid, (int) sim_int(v, "next_domid", 0));
    g_hash_table_remove(sim.domains, value_get_str(v, "uuid", ""));
    if (config == NULL || vbds == NULL || vifs == NULL || power < SIM_RUNNING || power > SIM_CRASHED)
        return;
    struct sim_domain *d = sim_domain_new(config);
    d->domid = (int) sim_int(v, "domid", 0);
    d->power = (enum sim_power) power;
    d->reason = static_reason(value_get_str(v, "reason", ""));
    d->ours = value_as_bool(value_get(v, "ours"));
    value_unref(d->vbds);
    d->vbds = value_ref(vbds);
    value_unref(d->vifs);
    d->vifs = value_ref(vifs);
    d->guest = value_get(v, "guest") != NULL ? value_ref(value_get(v, "guest")) : NULL;
    d->memory_actual = sim_int(v, "memory_actual", 0);
    d->memory_target = sim_int(v, "memory_target", 0);
    d->vcpus = (int) sim_int(v, "vcpus", 1);
    d->weight = sim_int(v, "weight", 256);
    d->cap = sim_int(v, "cap", 0);
    value_unref(d->affinity);
    d->affinity = value_get(v, "affinity") != NULL ? value_ref(value_get(v, "affinity")) : NULL;
    d->pool = sim_int(v, "cpu_pool", 0);
    d->start_time = sim_int(v, "start_time", 0);
    d->cpu_time = value_as_float(value_get(v, "cpu_time"));
    d->cpu_stamp = sim_int(v, "cpu_stamp", d->start_time);
    sim.next_domid = MAX(sim.next_domid, d->domid + 1);
    g_hash_table_replace(sim.domains, d->uuid, d);
}

/* ---- the file ---- */

static char *boot_id(void)
{
    char *text = NULL;
    if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &text, NULL, NULL))
        return g_strdup("");
    return g_strstrip(text);
}

static void put_setting(struct value_builder *b, const char *key, const char *text)
{
    if (text != NULL)
        value_builder_put_string(b, key, text);
}

static char *host_line(void)
{
    g_autofree char *boot = boot_id();
    struct value_builder b;
    value_builder_map(&b, NULL, 8);
    value_builder_put_string(&b, "boot", boot);
    put_int(&b, "boot_time", sim.boot_time);
    put_int(&b, "extra_memory", sim.extra_memory);
    put_int(&b, "next_domid", sim.next_domid);
    value_builder_put(&b, "pools", sim_pools());
    put_setting(&b, "hostname", sim.hostname);
    put_setting(&b, "iscsi_iqn", sim.iscsi_iqn);
    put_setting(&b, "syslog", sim.syslog);
    g_autoptr(value) v = value_builder_end(&b);
    return json_text(v);
}

static void load_setting(char **where, struct value *v, const char *key)
{
    const char *text = value_get_str(v, key, NULL);
    if (text == NULL)
        return;
    g_free(*where);
    *where = g_strdup(text);
}

/* FALSE when the line is of another boot of the machine: what follows died with it. */
static gboolean load_line(char *line, gboolean first)
{
    g_autoptr(value) v = json_parse(NULL, line, strlen(line), NULL, NULL);
    if (v == NULL)
        return !first; /* cut off by a kill */
    g_autofree char *boot = boot_id();
    const char *theirs = value_get_str(v, "boot", NULL);
    if (theirs == NULL) {
        if (!first)
            load_domain(v);
        return !first;
    }
    load_setting(&sim.hostname, v, "hostname");
    load_setting(&sim.iscsi_iqn, v, "iscsi_iqn");
    load_setting(&sim.syslog, v, "syslog");
    if (strcmp(theirs, boot) != 0)
        return FALSE;
    sim.boot_time = sim_int(v, "boot_time", sim.boot_time);
    sim.extra_memory = sim_int(v, "extra_memory", 0);
    value_unref(file.pools);
    file.pools = value_get(v, "pools") != NULL ? value_ref(value_get(v, "pools")) : NULL;
    sim.next_domid = MAX(sim.next_domid, (int) sim_int(v, "next_domid", 1));
    return TRUE;
}

static void load(void)
{
    char *text = NULL;
    if (!g_file_get_contents(file.path, &text, NULL, NULL))
        return;
    gboolean good = TRUE, first = TRUE;
    for (char *line = text, *end; good && *line != '\0'; line = end) {
        end = strchrnul(line, '\n');
        if (*end != '\0')
            *end++ = '\0';
        good = load_line(line, first);
        first = FALSE;
    }
    g_free(text);
}

static gboolean put_line(int fd, char *line, gsize *size)
{
    g_autofree char *text = g_strconcat(line, "\n", NULL);
    gsize len = strlen(text);
    g_free(line);
    *size += len;
    for (gsize done = 0; done < len;) {
        gssize n = write(fd, text + done, len - done);
        if (n < 0 && errno != EINTR)
            return FALSE;
        done += n > 0 ? (gsize) n : 0;
    }
    return TRUE;
}

static gboolean write_anew(void)
{
    g_autofree char *tmp = g_strconcat(file.path, ".tmp", NULL);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    gsize size = 0;
    gboolean written = fd >= 0 && put_line(fd, host_line(), &size);
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, sim.domains);
    while (written && g_hash_table_iter_next(&iter, NULL, &value)) {
        struct sim_domain *d = value;
        if (d->power != SIM_STARTING)
            written = put_line(fd, domain_line(d), &size);
    }
    if (!written || rename(tmp, file.path) < 0) {
        g_warning("%s: %s", tmp, g_strerror(errno));
        if (fd >= 0)
            close(fd);
        return FALSE;
    }
    if (file.fd >= 0)
        close(file.fd);
    file.fd = fd;
    file.size = file.whole = size;
    return TRUE;
}

gboolean sim_state_open(const char *runtime_dir)
{
    if (g_mkdir_with_parents(runtime_dir, 0755) < 0)
        g_warning("%s: %s", runtime_dir, g_strerror(errno));
    file.path = g_build_filename(runtime_dir, NAME, NULL);
    sim.boot_time = g_get_real_time();
    load();
    sim_pools_init(file.pools);
    g_clear_pointer(&file.pools, value_unref);
    return write_anew();
}

static void append(char *line)
{
    gboolean written = put_line(file.fd, line, &file.size);
    if (!written)
        g_warning("%s: %s", file.path, g_strerror(errno));
    if (!written || file.size > MAX(REWRITE_FROM, file.whole * 2))
        write_anew();
}

void sim_state_save(const struct sim_domain *d)
{
    if (d->power != SIM_STARTING && d != sim.dom0)
        append(domain_line(d));
}

void sim_state_save_host(void)
{
    append(host_line());
}
