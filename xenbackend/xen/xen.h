/* xen.h - a host that runs Xen: what the files of xenapid-xen share.
 *
 * What a domain is, is kept where it cannot be lost: in the hypervisor and in xenstore. Beside libxl's own keys there
 * are a few of ours, below /local/domain/N/xenapid, which the guest can read but not write:
 *   state         "ready", or what a process is doing with it: "building PID START", "suspending PID START",
 *                 "destroying PID START"
 *   name          the VM's name, which need not be unique as Xen's is
 *   vbd/UUID      the virtual device, "xvda"; followed by " empty" for a drive without a medium
 *   vif/UUID      the number of the interface
 *   doing/UUID    "plug CLASS DEVICE PID START", or unplug: a process is at it
 * A domain with them is ours, every other one is another toolstack's.
 *
 * Long work is libxl's. Each such request has a libxl context of its own (struct xen_op): libxl holds a context's lock
 * while it copies memory, and its words are to be told from those of other requests. All contexts reap their own
 * children only, so that tools which we start ourselves (run.c) are not theirs. */
#ifndef XENAPID_XEN_H
#define XENAPID_XEN_H

#include <libxl.h>
#include <libxl_utils.h>
#include <xenctrl.h>
#include <xenstore.h>

#include "daemon/process/helper.h"

#define UUID_TEXT_SIZE 37
#define KIB            ((gint64) 1024)
#define PAGE_BYTES     ((gint64) XC_PAGE_SIZE)

/* This host. All of it is made before the first request and may be used on any thread. */
extern struct xen {
    char *state_dir;
    char *blank; /* a medium with nothing on it */
    char dom0_uuid[UUID_TEXT_SIZE];
    xc_interface *xc;
    struct xs_handle *xs;
} xen;

/* ---- xen_op.c: one request's work with libxl ---- */

struct xen_op {
    struct helper_request *req; /* NULL: not a request's (at start) */
    struct {
        xentoollog_logger vtable; /* first: libxl hands back a pointer to it */
        struct xen_op *op;
    } log;
    libxl_ctx *ctx;
    libxl_asyncop_how how;
    GString *words;  /* what libxl reported as errors */
    double from, to; /* the part of the request's progress that its next operation is */
    gboolean done;
    int rc;
    int wake; /* an eventfd: the request was cancelled */
};
#define XEN_OP_INIT                                                                                                    \
    {                                                                                                                  \
        .ctx = NULL, .wake = -1                                                                                        \
    }
/* req may be NULL. FALSE with f set when Xen cannot be reached; xen_op_end is due in any case. */
gboolean xen_op_begin(struct xen_op *op, struct helper_request *req, struct fault *f);
void xen_op_end(struct xen_op *op);
typedef struct xen_op xen_op;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(xen_op, xen_op_end)

/* Long functions of libxl: rc = xen_op_wait(op, libxl_...(op->ctx, ..., xen_op_how(op)), deadline). */
const libxl_asyncop_how *xen_op_how(struct xen_op *op);
/* Waits until it has ended. When the request is cancelled, or the monotonic time deadline (0: none) has passed, it is
 * asked to stop; ERROR_ABORTED or ERROR_TIMEDOUT when it did. */
int xen_op_wait(struct xen_op *op, int rc, gint64 deadline);
/* The fault for what libxl answered; FALSE always. function names what was tried. */
gboolean xen_op_fault(struct xen_op *op, int rc, const char *uuid, const char *function, struct fault *f);
/* The same for a domain's building, where libxl's words say more. */
gboolean xen_build_fault(struct xen_op *op, int rc, const char *uuid, const char *function, struct fault *f);

/* ---- xen_store.c: xenstore ---- */

/* A connection of one's own; NULL with errno. */
struct xs_handle *xen_store_open(void);
/* Looks after xenstored from now on, on a thread: while it does not answer, requests about domains are refused. */
void xen_store_guard(void);
/* Until then the process ends itself instead. */
void xen_store_ready(void);
/* All paths are formats. The caller frees what is read; NULL when there is nothing. */
char *xen_read(const char *path, ...) G_GNUC_PRINTF(1, 2);
gint64 xen_read_int(gint64 otherwise, const char *path, ...) G_GNUC_PRINTF(2, 3);
gboolean xen_write(const char *text, const char *path, ...) G_GNUC_PRINTF(2, 3);
gboolean xen_remove(const char *path, ...) G_GNUC_PRINTF(1, 2);
/* The names below path, NULL-terminated, never NULL. */
GStrv xen_list(const char *path, ...) G_GNUC_PRINTF(1, 2);
/* Text of a guest as it may be shown: UTF-8, without control characters, not longer than max bytes. */
char *xen_guest_text(const char *text, gsize max);

/* ---- xen_domain.c: which domains there are, and what is told of one ---- */

enum xen_power { XEN_RUNNING, XEN_PAUSED, XEN_SHUTDOWN, XEN_CRASHED, XEN_DYING };

struct xen_domain {
    int domid;
    char uuid[UUID_TEXT_SIZE];
    enum xen_power power;
    const char *reason; /* static: why it shut down, or "" */
    xc_domaininfo_t info;
};
/* All of them, domain 0 too, as an array of struct xen_domain; NULL when the hypervisor does not answer. */
GArray *xen_domains(void);
gboolean xen_domain_by_id(int domid, struct xen_domain *d);
/* The youngest with this uuid that is not dying. */
gboolean xen_domain_by_uuid(const char *uuid, struct xen_domain *d);
gboolean xen_is_ours(int domid);
/* Still being built: to be shown to nobody. */
gboolean xen_is_building(int domid);
/* The domain that params.uuid names, in one of the powers of the mask (bits 1 << power); FALSE with f set:
 * VM_BAD_POWER_STATE [uuid, expected, actual], OPERATION_NOT_ALLOWED for domain 0 unless the mask has XEN_DOM0. */
gboolean xen_find(struct value *params, guint mask, struct xen_domain *d, struct fault *f);
#define XEN_ALIVE (1u << XEN_RUNNING | 1u << XEN_PAUSED)
#define XEN_ANY   (XEN_ALIVE | 1u << XEN_SHUTDOWN | 1u << XEN_CRASHED)
#define XEN_DOM0  (1u << 31)
/* What changes without being news is left out of it unless all is TRUE. */
struct value *xen_state(const struct xen_domain *d, gboolean all);
const char *xen_power_text(enum xen_power power);
gint64 xen_start_time(const struct xen_domain *d);
/* "pv", "pvh" or "hvm"; static. */
const char *xen_type(const struct xen_domain *d);

/* ---- xen_watch.c: news from xenstore and from the hypervisor ---- */

gboolean xen_watch_start(void);
/* To be looked at again soon: what xenstore says nothing about has changed. */
void xen_watch_poke(int domid);
/* The same, at once: when it returns the front has been told how things stand. To be called before a request that
 * changed something is answered, so that older news never come after the answer. */
void xen_watch_tell(int domid);
/* A new front, or one that could not do anything about what it was told: it is told all again. */
void xen_watch_tell_again(void);
/* Why the domain of this uuid is going to end, for domain.gone; reason is static. */
void xen_watch_expect(const char *uuid, const char *reason);

/* Counts what happened; to be read before looking, then to be waited on. */
guint64 xen_watch_moment(void);
/* Waits until something has happened since moment, the monotonic time deadline, or the request's cancel: FALSE then.
 * The request is one of a struct xen_op, which wakes those who wait here. */
gboolean xen_watch_wait(struct helper_request *req, guint64 moment, gint64 deadline);
void xen_watch_wake(void);

/* ---- xen_guest.c: what a guest says of itself ---- */

/* As domain.guest, or NULL when it says nothing. */
struct value *xen_guest_metrics(int domid, const char *uuid);

/* ---- xen_usage.c: processor time ---- */

/* Measures, tells domain.usage and host.changed. */
void xen_usage_tell(void);
/* The last measured fraction of a virtual and of a physical processor; 0 when there is none yet. */
double xen_usage_vcpu(int domid, guint vcpu);
struct value *xen_usage_host(void);

/* ---- xen_disk_usage.c: what guests read and wrote ---- */

/* Looks at all disks that the kernel serves; one thread. */
void xen_disk_usage_measure(void);
/* [{"uuid", "io_read_kbs", "io_write_kbs"}] of a domain's, between the last two looks. */
struct value *xen_disk_usage(int domid);

/* ---- xen_config.c: a VM's description as libxl wants it ---- */

/* Fills *c, which the caller disposes of. Empty drives come with a blank medium: device models (QEMU 7.2) that begin
 * with an empty one die when something is inserted. It is to be ejected (xen_drives_empty) before the guest runs. A
 * domain that does not boot is restored: it has its kernel already. */
gboolean xen_config_fill(struct xen_op *op, struct value *config, gboolean boots, libxl_domain_config *c,
                         struct fault *f);

/* ---- xen_boot.c: what a domain boots from ---- */

/* Kernel, ramdisk, bootloader of config, each looked at before root opens it for somebody. */
gboolean xen_boot_fill(struct value *config, libxl_domain_build_info *b, struct fault *f);

/* ---- xen_device.c ---- */

/* Device descriptions as libxl wants them; the caller disposes of them. */
gboolean xen_disk_fill(struct value *vbd, gboolean hvm, libxl_device_disk *disk, struct fault *f);
gboolean xen_nic_fill(struct value *vif, gboolean hvm, libxl_device_nic *nic, struct fault *f);
/* Empty drives of other guests than HVM are only noted: they have no device without a medium. */
gboolean xen_disk_is_device(struct value *vbd, gboolean hvm);
/* "xvda" from the description; the caller frees. */
char *xen_disk_device(struct value *vbd);
/* The text of our key for it; the caller frees. */
char *xen_disk_note(struct value *vbd);
gboolean xen_drives_empty(struct xen_op *op, struct value *config, guint32 domid, struct fault *f);
/* Takes the device of the class ("vbd", "vif") from the domain. One that is not there is no fault. */
gboolean xen_device_remove(const struct xen_domain *d, const char *class, const char *device, gboolean force,
                           const char *uuid, struct fault *f);
helper_fn xen_vbd_plug, xen_vbd_unplug, xen_vbd_insert, xen_vbd_eject, xen_vif_plug, xen_vif_unplug, xen_vif_update;

/* ---- xen_ionice.c: I/O priorities of disks ---- */

/* The text of our key for what the disk asks for; NULL: nothing. The caller frees. */
char *xen_ionice_note(struct value *vbd);
/* Sees to it that who serves the disks has them. Now and then, on one thread. */
void xen_ionice_look(void);
/* The plugged disk asks for what its description says from now on. */
void xen_ionice_set(int domid, struct value *vbd);
/* It was unplugged. */
void xen_ionice_forget(int domid, const char *vbd);
helper_fn xen_vbd_update;

/* ---- xen_filter.c: what guests may send and receive ---- */

/* The interface is to be down. */
gboolean xen_nic_is_disabled(const struct value *vif);
/* What may pass the interface, which need not be there yet: rules where it is locked, none otherwise. FALSE with f set,
 * and no rule changed, where that cannot be: OPERATION_NOT_ALLOWED [text]. */
gboolean xen_nic_filter(int domid, struct value *vif, struct fault *f);
/* Takes the attached interface up, or down where it is disabled. */
gboolean xen_nic_lock(int domid, struct value *vif, struct fault *f);
/* Puts the attached interface on its bridge, if it is on another one. */
gboolean xen_nic_move(int domid, struct value *vif, struct fault *f);
/* Removes the rules of an interface, of all interfaces of a domain; the last at once, or soon on another thread. */
void xen_filter_remove(int domid, int devid);
void xen_filter_forget(int domid);
void xen_filter_forget_later(int domid);
/* Finds out which rules there are, and removes those of domains that are gone. Before the first request. */
void xen_filter_recover(void);

/* ---- xen_model.c ---- */

/* Sees to it that a device model runs for the domain. */
gboolean xen_model_ensure(struct helper_request *req, const struct xen_domain *d, struct fault *f);

/* ---- xen_qmp.c ---- */

/* The storage_switch_over (storage.h) of this backend. */
gboolean xen_switch_over(const char *domain, char *const *paths, struct fault *f);

/* ---- xen_image.c: files of suspended domains ---- */

#define XEN_IMAGE_HEAD 512 /* bytes before libxl's stream */
struct xen_image {
    int dir;    /* the directory, opened without following links; -1: a VDI, or none */
    char *name; /* in it; NULL: nothing to take back */
    int fd;     /* -1: none */
    gboolean is_vdi;
};
#define XEN_IMAGE_INIT                                                                                                 \
    {                                                                                                                  \
        .dir = -1, .fd = -1                                                                                            \
    }
/* The image that params name by "path", a file below the state directory whose name begins with the domain's uuid, or
 * by "sr" and "vdi", a raw one. To be written: a new file under a temporary name, or into the VDI. */
gboolean xen_image_create(struct xen_image *image, struct value *params, const char *uuid, struct fault *f);
/* To be read, at the beginning of the stream; it was made for this domain. */
gboolean xen_image_open(struct xen_image *image, struct value *params, const char *uuid, struct fault *f);
/* The raw VDI that params name by "sr" and "vdi", as a file that is there already; flags as for open. */
gboolean xen_image_open_vdi(struct xen_image *image, struct value *params, int flags, struct fault *f);
/* Removes such a file; one that is not there is no fault. */
gboolean xen_image_remove(const char *path, const char *uuid, struct fault *f);
/* Gives it its name when all of it is on the disk; *size is then its size. */
gboolean xen_image_commit(struct xen_image *image, gint64 *size, struct fault *f);
/* Closes it, and removes one that was not committed. */
void xen_image_close(struct xen_image *image);
/* Removes what was not committed by those who were killed. */
void xen_image_clean(void);
typedef struct xen_image xen_image;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(xen_image, xen_image_close)

/* ---- xen_start.c, xen_stop.c, xen_suspend.c, xen_tune.c, xen_metrics.c ---- */

helper_fn xen_domain_list, xen_domain_start, xen_domain_reboot, xen_domain_destroy, xen_domain_pause,
    xen_domain_unpause, xen_domain_shutdown, xen_domain_suspend, xen_domain_resume, xen_set_memory_target,
    xen_set_vcpus, xen_set_scheduler, xen_sysrq, xen_trigger, xen_metrics, xen_console_open, xen_core_dump;

/* Builds the domain, from fd where it is not -1 (a suspended domain's stream), and answers {domid, state}. */
struct value *xen_build(struct helper_request *req, struct value *config, int fd, gboolean paused, struct fault *f);
/* Ends the domain and all that belongs to it. A domain that is gone is no fault. */
gboolean xen_destroy(struct xen_op *op, const struct xen_domain *d, struct fault *f);
/* Asks the guest to stop and waits until it has. FALSE with f set; *gone when it ended meanwhile. */
gboolean xen_ask_to_stop(struct xen_op *op, const struct xen_domain *d, const char *reason, gint64 timeout,
                         gboolean *gone, struct fault *f);
/* One affinity for each virtual processor: sets of processors. */
gboolean xen_affinity_fill(struct xen_op *op, struct value *cpus, libxl_bitmap *map, struct fault *f);

/* ---- xen_cpupool.c: pools of processors ---- */

helper_fn xen_pool_list, xen_pool_create, xen_pool_destroy, xen_pool_add_cpu, xen_pool_remove_cpu, xen_domain_set_pool;
/* The uuid of the pool that Xen knows by this number. */
void xen_pool_uuid(guint32 id, char uuid[UUID_TEXT_SIZE]);
/* Fills *info, which the caller disposes of in any case; FALSE with f set when there is no such pool. */
gboolean xen_pool_find(struct xen_op *op, const char *uuid, libxl_cpupoolinfo *info, struct fault *f);
/* Tells the front when others have changed pools since it was told last. */
void xen_pools_tell(void);

/* ---- xen_recover.c ---- */

/* Puts right what a helper that was killed left half done. Before the first request. */
void xen_recover(void);
/* What of it may take longer, on threads of its own. Once the watch has begun. */
void xen_recover_rest(void);
/* What is written into a domain's keys while this process does something with it. The caller frees. */
char *xen_mark(const char *what);
/* A domain with this uuid is about to be created, or has got its own keys. */
void xen_building(const char *uuid, gboolean begins);
/* The device (as the note of it says) is about to be plugged or unplugged (what: "plug", "unplug"), and the end of
 * that, however it ended. */
void xen_device_begin(int domid, const char *what, const char *class, const char *uuid, const char *device);
void xen_device_end(int domid, const char *uuid);
/* Waits while a device is being taken away that a helper which was killed left half done. TRUE if there was one. */
gboolean xen_device_wait(int domid, const char *uuid);

/* ---- xen_host.c, xen_cpu.c, xen_net.c ---- */

helper_fn xen_host_info, xen_host_metrics, xen_host_dmesg, xen_host_debug_keys;

/* ---- xen_machine.c: the machine as a whole ---- */

helper_fn xen_host_reboot, xen_host_shutdown, xen_host_set_hostname, xen_host_set_iscsi_iqn, xen_host_set_syslog;
/* Its network name. The caller frees. */
char *xen_host_name(void);
/* The name of its iSCSI initiator; NULL when it has none. The caller frees. */
char *xen_host_iscsi_iqn(void);
/* Bytes that are free for new domains, and in all. */
gint64 xen_memory_free(void);
gint64 xen_memory_total(void);
void xen_host_init(void);
/* Adds what is told of the processors. */
gboolean xen_put_cpus(struct value_builder *b, struct xen_op *op, struct fault *f);
/* The network cards, and the bridges without one. */
struct value *xen_interfaces(void);
/* The address under which this host is reached, or "". The caller frees it. */
char *xen_address(void);

#endif
