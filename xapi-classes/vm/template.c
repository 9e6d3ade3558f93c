/* template.c - the templates of a new pool: the rows of templates.def as records. */
#include "daemon/call.h"
#include "xapi-classes/start.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

#define MIB        ((gint64) 1 << 20)
#define GIB        ((gint64) 1 << 30)
#define MAX_MEMORY (1536 * GIB)
#define MAX_VCPUS  32
#define MAX_VBDS   255
#define MAX_VIFS   7

/* ---- what the guests of a family have in common ---- */

struct pair {
    const char *key, *value;
};

static const struct pair hvm_platform[] = {{"acpi", "1"},     {"apic", "true"},          {"pae", "true"},
                                           {"nx", "true"},    {"viridian", "false"},     {"vga", "std"},
                                           {"videoram", "8"}, {"cores-per-socket", "1"}, {NULL, NULL}};
/* Windows wants Hyper-V's interfaces, its own clock, and few sockets. */
static const struct pair windows_platform[] = {{"acpi", "1"},
                                               {"apic", "true"},
                                               {"pae", "true"},
                                               {"nx", "true"},
                                               {"viridian", "true"},
                                               {"viridian_time_ref_count", "true"},
                                               {"viridian_reference_tsc", "true"},
                                               {"hpet", "true"},
                                               {"timeoffset", "0"},
                                               {"vga", "std"},
                                               {"videoram", "8"},
                                               {"device_id", "0002"},
                                               {"cores-per-socket", "2"},
                                               {NULL, NULL}};
static const struct pair pv_platform[] = {{"nx", "false"}, {"cores-per-socket", "1"}, {NULL, NULL}};

static const struct pair bios[] = {{"order", "cdn"}, {"firmware", "bios"}, {NULL, NULL}};
static const struct pair uefi[] = {{"order", "cdn"}, {"firmware", "uefi"}, {NULL, NULL}};
static const struct pair no_firmware[] = {{NULL, NULL}};

static const struct family {
    const char *domain_type;
    const struct pair *platform, *boot;
    const char *install_methods, *distro; /* "": nothing is said */
    const char *args;                     /* of a paravirtual kernel */
    gboolean linux_guest;
} OTHER = {"hvm", hvm_platform, bios, "cdrom", "", "", FALSE},
  DEBIAN = {"hvm", hvm_platform, bios, "cdrom,http,ftp", "debianlike", "", TRUE},
  RHEL = {"hvm", hvm_platform, bios, "cdrom,nfs,http,ftp", "rhlike", "", TRUE},
  WINDOWS = {"hvm", windows_platform, bios, "cdrom", "", "", FALSE},
  WINDOWS_UEFI = {"hvm", windows_platform, uefi, "cdrom", "", "", FALSE},
  PV = {"pv", pv_platform, no_firmware, "", "", "console=hvc0 root=/dev/xvda1 ro", TRUE};

struct template
{
    const char *uuid, *label, *name, *description;
    const struct family *family;
    int disk_gib, memory_mib, least_mib, vcpus;
};

static const struct template templates[] = {
#define TEMPLATE(uuid, label, name, description, family, disk, memory, least, vcpus)                                   \
    {uuid, label, name, description, &family, disk, memory, least, vcpus},
#include "xapi-classes/model/templates.def"
#undef TEMPLATE
};

/* ---- texts that clients read ---- */

static char *recommendations(const struct template *tp)
{
    return g_strdup_printf("<restrictions>"
                           "<restriction field=\"memory-static-min\" min=\"%" G_GINT64_FORMAT "\"/>"
                           "<restriction field=\"memory-static-max\" max=\"%" G_GINT64_FORMAT "\"/>"
                           "<restriction field=\"vcpus-max\" max=\"%d\"/>"
                           "<restriction property=\"number-of-vbds\" max=\"%d\"/>"
                           "<restriction property=\"number-of-vifs\" max=\"%d\"/>"
                           "</restrictions>",
                           tp->least_mib * MIB, MAX_MEMORY, MAX_VCPUS, MAX_VBDS, MAX_VIFS);
}

static char *disks(const struct template *tp)
{
    return g_strdup_printf("<provision><disk device=\"0\" size=\"%" G_GINT64_FORMAT
                           "\" sr=\"\" bootable=\"true\" type=\"system\"/></provision>",
                           tp->disk_gib * GIB);
}

/* ---- records ---- */

static struct value *map_of(const struct pair *pairs)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 16);
    for (; pairs->key != NULL; pairs++)
        value_builder_put_string(&b, pairs->key, pairs->value);
    return value_builder_end(&b);
}

static struct value *other_config(const struct template *tp)
{
    struct value_builder b;
    g_autofree char *provision = disks(tp);
    value_builder_map(&b, NULL, 8);
    value_builder_put_string(&b, "default_template", "true");
    if (tp->disk_gib > 0)
        value_builder_put_string(&b, "disks", provision);
    if (*tp->family->install_methods != '\0')
        value_builder_put_string(&b, "install-methods", tp->family->install_methods);
    if (*tp->family->distro != '\0')
        value_builder_put_string(&b, "install-distro", tp->family->distro);
    if (tp->family->linux_guest)
        value_builder_put_string(&b, "linux_template", "true");
    return value_builder_end(&b);
}

static void set_size(struct txn *t, const char *ref, const struct template *tp)
{
    gint64 memory = tp->memory_mib * MIB;
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_static_max, memory);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_dynamic_max, memory);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_dynamic_min, memory);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_static_min, tp->least_mib * MIB);
    txn_set_int(t, CLASS_VM, ref, F_VM_memory_target, memory);
    txn_set_int(t, CLASS_VM, ref, F_VM_VCPUs_max, tp->vcpus);
    txn_set_int(t, CLASS_VM, ref, F_VM_VCPUs_at_startup, tp->vcpus);
}

static void set_boot(struct txn *t, const char *ref, const struct family *family)
{
    gboolean hvm = strcmp(family->domain_type, "hvm") == 0;
    txn_set_str(t, CLASS_VM, ref, F_VM_domain_type, family->domain_type);
    txn_set_str(t, CLASS_VM, ref, F_VM_HVM_boot_policy, hvm ? "BIOS order" : "");
    txn_set(t, CLASS_VM, ref, F_VM_HVM_boot_params, map_of(family->boot));
    txn_set(t, CLASS_VM, ref, F_VM_platform, map_of(family->platform));
    txn_set_str(t, CLASS_VM, ref, F_VM_PV_args, family->args);
    txn_set_str(t, CLASS_VM, ref, F_VM_actions_after_shutdown, "destroy");
    txn_set_str(t, CLASS_VM, ref, F_VM_actions_after_reboot, "restart");
    txn_set_str(t, CLASS_VM, ref, F_VM_actions_after_crash, "restart");
}

static void add(struct txn *t, const struct template *tp)
{
    g_autofree char *restrictions = recommendations(tp);
    const char *ref = txn_create(t, CLASS_VM, NULL, tp->uuid);
    txn_set_str(t, CLASS_VM, ref, F_VM_name_label, tp->name);
    txn_set_str(t, CLASS_VM, ref, F_VM_name_description, tp->description);
    txn_set_str(t, CLASS_VM, ref, F_VM_reference_label, tp->label);
    txn_set_bool(t, CLASS_VM, ref, F_VM_is_a_template, TRUE);
    txn_set_bool(t, CLASS_VM, ref, F_VM_is_default_template, TRUE);
    txn_set_int(t, CLASS_VM, ref, F_VM_domid, -1);
    txn_set_str(t, CLASS_VM, ref, F_VM_recommendations, restrictions);
    txn_set(t, CLASS_VM, ref, F_VM_other_config, other_config(tp));
    set_size(t, ref, tp);
    set_boot(t, ref, tp->family);
    vm_metrics_of(t, ref);
}

/* Those that are there are left as they are: the administrator may have changed them. */
void templates_start(void)
{
    if (!the_conf()->templates)
        return;
    gboolean there[G_N_ELEMENTS(templates)];
    for (gsize i = 0; i < G_N_ELEMENTS(templates); i++) {
        g_autoptr(record) r = store_get_by_uuid(the_store(), CLASS_VM, templates[i].uuid);
        there[i] = r != NULL;
    }
    struct txn *t = txn_begin(the_store());
    for (gsize i = 0; i < G_N_ELEMENTS(templates); i++)
        if (!there[i])
            add(t, &templates[i]);
    txn_commit(t);
}
