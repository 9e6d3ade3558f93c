/* sim.h - the simulated host: what its files share.
 *
 * All state lives in `sim` under one mutex that is held for microseconds only: a handler runs with it, and work that
 * takes time is a wait on the domain's condition (sim_wait), which lets it go. What others must hear of is put into a
 * queue (sim_notify) and sent when the mutex is free, in order and before the answer of the request that caused it. No
 * function of helper.h that takes a lock of its own is called with the mutex held.
 *
 * Every function here is called with the mutex unless it says otherwise. */
#ifndef XENAPID_SIM_H
#define XENAPID_SIM_H

#include "daemon/process/helper.h"

#define MIB                 ((gint64) 1 << 20)
#define DOM0_MAX            (1024 * MIB)
#define DOMID_FIRST_INVALID 0x7ff0

enum sim_power {
    SIM_STARTING, /* being built: not shown to anybody, not kept over a restart */
    SIM_RUNNING,
    SIM_PAUSED,
    SIM_SHUTDOWN, /* stopped by itself, reason says why; stays until destroyed */
    SIM_CRASHED,
};

struct sim_domain {
    gint refs;
    char *uuid;
    int domid;
    enum sim_power power;
    gboolean gone;             /* destroyed: no longer in the table */
    gboolean ours;             /* FALSE: as if another toolstack had made it */
    gboolean suspending;       /* a request is at it */
    const char *reason;        /* static: "poweroff", "reboot", "suspend", "crash", "" */
    struct value *config;      /* as it was started; other_config follows sim.guest */
    struct value *vbds, *vifs; /* MAPs of what is attached: uuid -> as the protocol says */
    struct value *guest;       /* MAP of guest metrics that sim.guest replaced, or NULL */
    gint64 memory_actual, memory_target;
    int vcpus;
    gint64 weight, cap;
    struct value *affinity; /* NULL: any */
    gint64 pool;            /* the id of its CPU pool */
    gint64 start_time;      /* microseconds since 1970 */
    double cpu_time;        /* seconds, up to cpu_stamp */
    gint64 cpu_stamp;
    double load;         /* of each vCPU, about */
    gboolean told_guest; /* the guest's metrics were reported to this front */
    GHashTable *io;      /* of sim_disk.c; NULL: none */
    gint64 moved;        /* when memory_actual last moved towards its target */
    GCond changed;       /* anything above changed, or a request that works on it was cancelled */
};

/* The simulated host. */
extern struct sim {
    GMutex lock;
    const struct conf *conf;
    GHashTable *domains; /* uuid -> struct sim_domain, each with one reference */
    int next_domid;
    gboolean off;                        /* shut down, until sim.power_on or another process of ours */
    char *hostname, *iscsi_iqn, *syslog; /* as an administrator set them; NULL: never */
    gint64 extra_memory;                 /* that sim.populate needed on top of what is configured */
    gint64 boot_time;                    /* microseconds since 1970 */
    struct sim_domain *dom0;             /* not in the table */
    GCond wake;                          /* of the clock thread */
    guint64 calls;
} sim;

/* A request as its handler sees it. */
struct sim_op {
    struct helper_request *req;
    struct value *params;
    struct sim_domain *waits_for; /* set while it waits: a cancel wakes that */
};
typedef struct value *sim_fn(struct sim_op *op, struct fault *f);

/* ---- sim_main.c ---- */

/* What a wait ended with. */
enum sim_end { SIM_DONE, SIM_CANCELLED, SIM_GONE };
/* Waits until the monotonic time, the request's cancel, d's end, or until stop(d) (may be NULL) holds, which counts as
 * done. Lets the mutex go meanwhile. until G_MAXINT64 waits for ever. */
enum sim_end sim_wait(struct sim_op *op, struct sim_domain *d, gint64 until, gboolean (*stop)(struct sim_domain *d));
/* The same for work that takes about ms milliseconds (with the configured jitter), telling its progress between the two
 * fractions. */
enum sim_end sim_work(struct sim_op *op, struct sim_domain *d, int ms, double from, double to);
/* Queues a notification; takes over params. */
void sim_notify(const char *method, struct value *params);
/* Sends what is queued. Without the mutex. */
void sim_flush(void);
/* A parameter as a number: clients of call_plugin send text. */
gint64 sim_int(struct value *map, const char *key, gint64 otherwise);

/* ---- sim_state.c: what survives the helper ---- */

/* Opens RUNTIME_DIR/sim-domains.json and loads what is in it. Before any other thread runs. FALSE with a logged reason.
 */
gboolean sim_state_open(const char *runtime_dir);
/* Writes d as it is now, or that it is gone. Domains that are starting are not written. */
void sim_state_save(const struct sim_domain *d);
/* Writes what is not a domain's: extra_memory. */
void sim_state_save_host(void);

/* ---- sim_domain.c: the table, starting and ending ---- */

struct sim_domain *sim_domain_ref(struct sim_domain *d);
void sim_domain_unref(struct sim_domain *d); /* NULL is allowed */
typedef struct sim_domain sim_domain;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(sim_domain, sim_domain_unref)
/* A new domain from its description, SIM_STARTING, in no table. The caller owns it. */
struct sim_domain *sim_domain_new(struct value *config);
/* A reference to the domain named by params.uuid in one of the powers of the mask (bits 1 << power); NULL with f set:
 * VM_BAD_POWER_STATE [uuid, expected, actual]. */
struct sim_domain *sim_find(struct sim_op *op, guint mask, struct fault *f);
#define SIM_ALIVE (1u << SIM_RUNNING | 1u << SIM_PAUSED)
#define SIM_ANY   (SIM_ALIVE | 1u << SIM_SHUTDOWN | 1u << SIM_CRASHED)
/* d->other_config[key] or otherwise. */
const char *sim_option(const struct sim_domain *d, const char *key, const char *otherwise);
struct value *sim_domain_state(struct sim_domain *d);
/* Saves d, tells the front and wakes who waits on it. */
void sim_changed(struct sim_domain *d);
/* A guest that stops by itself. */
void sim_stop(struct sim_domain *d, enum sim_power power, const char *reason);
/* Takes d out of the table and tells so, with its reason or otherwise. */
void sim_remove(struct sim_domain *d, const char *otherwise);
/* Puts d, which has its memory, to life: domid, table, front. */
void sim_alive(struct sim_domain *d, gboolean paused);
/* The whole of starting: checks, memory, the time it takes, disks. Answers {domid, state}; the domain is gone when it
 * fails. replaces (may be NULL) is the domain whose place and memory it takes, which ends with reason. */
struct value *sim_build(struct sim_op *op, struct value *config, int ms, struct sim_domain *replaces,
                        const char *reason, gboolean paused, struct fault *f);
gint64 sim_memory_reserved(const struct sim_domain *d);
void sim_account_cpu(struct sim_domain *d, gint64 now);

sim_fn sim_list, sim_start, sim_destroy, sim_populate, sim_tell;

/* ---- sim_power.c ---- */

/* Removes the suspend image of domain uuid; none is no fault. Without the mutex. */
gboolean sim_drop_image(const char *path, const char *uuid, struct fault *f);

sim_fn sim_pause, sim_unpause, sim_shutdown, sim_reboot, sim_suspend, sim_resume, sim_core_dump;

/* ---- sim_tune.c: memory, vCPUs, scheduler, keys, metrics ---- */

sim_fn sim_set_memory_target, sim_set_vcpus, sim_set_scheduler, sim_sysrq, sim_trigger, sim_domain_metrics;

/* ---- sim_pool.c: pools of processors ---- */

/* Makes the first pool, and those that were kept (sim_pools of an earlier process, or NULL). At the beginning
 * and after each boot; no domain runs. */
void sim_pools_init(struct value *kept);
struct value *sim_pools(void);
const char *sim_pool_uuid(gint64 id);
/* Puts d into the pool of this uuid, or into the first one. */
gboolean sim_pool_enter(struct sim_domain *d, const char *uuid, struct fault *f);
sim_fn sim_pool_list, sim_pool_create, sim_pool_destroy, sim_pool_add_cpu, sim_pool_remove_cpu, sim_set_pool;

/* ---- sim_device.c ---- */

/* Whether every disk of the list is there. Without the mutex. */
gboolean sim_check_disks(const char *vm, struct value *vbds, struct fault *f);
sim_fn sim_vbd_update, sim_vbd_plug, sim_vbd_unplug, sim_vbd_insert, sim_vbd_eject, sim_vif_plug, sim_vif_unplug,
    sim_vif_update;

/* ---- sim_disk.c ---- */

/* [{"uuid", "io_read_kbs", "io_write_kbs"}] of each disk since it was asked last. */
struct value *sim_disk_usage(struct sim_domain *d);
/* VBD -> VDI of its disks. */
struct value *sim_disk_images(const struct sim_domain *d);
/* Device -> bytes of those whose size changed while the guest had them. */
struct value *sim_disk_sizes(struct sim_domain *d);
/* sim.guest's "read" and "write". Lets the mutex go. */
struct value *sim_disk_io(struct sim_op *op, struct sim_domain *d, struct fault *f);
/* The I/O priority that running domains ask for of an image. Without the mutex. */
int sim_disk_priority(const char *vdi);
sim_fn sim_vbd_mirror, sim_vbd_pivot, sim_vbd_resized;

/* ---- sim_host.c ---- */

gint64 sim_memory_total(void);
gint64 sim_memory_free(void);
/* Tells host.changed. */
void sim_host_changed(void);
/* A line of the hypervisor's console. */
void sim_dmesg(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* Makes domain 0 and the first lines of the console. */
void sim_host_init(void);
sim_fn sim_host_info, sim_host_metrics, sim_host_dmesg, sim_host_debug_keys;

/* ---- sim_machine.c: the machine as a whole ---- */

sim_fn sim_host_reboot, sim_host_shutdown, sim_host_set_hostname, sim_host_set_iscsi_iqn, sim_host_set_syslog;
sim_fn sim_power_on;
/* FALSE with f set, HOST_NOT_LIVE [], for what a machine does not do while it is off. Without the mutex. */
gboolean sim_is_on(const char *method, struct fault *f);

/* ---- sim_guest.c: what guests do by themselves, and the clock ---- */

/* A map of pairs: key, value, ..., NULL. */
struct value *sim_strings(const char *const *pairs);
/* Starts the clock thread. Without the mutex. */
void sim_clock_start(void);
/* Ends it: before the configuration goes. */
void sim_clock_stop(void);
/* Makes every guest report its metrics again (to a new front). */
void sim_guest_tell_again(void);
sim_fn sim_guest;

/* ---- sim_console.c ---- */

sim_fn sim_console_open;

/* ---- sim_fault.c ---- */

/* What was asked to go wrong with this request, at its beginning or before its answer. FALSE with f set when the
 * request is to fail. May block, or end the process. Without the mutex. */
gboolean sim_fault_before(struct helper_request *req, struct fault *f);
gboolean sim_fault_after(struct helper_request *req, struct fault *f);
/* The faults that wait, for sim.state. */
struct value *sim_fault_list(void);
sim_fn sim_fault;

#endif
