/* vm.h - what the files of VMs and their devices share: their work with the backend, the changes of their records,
 * the backend's description of them. */
#ifndef XENAPID_VM_H
#define XENAPID_VM_H

#include "daemon/call.h"

/* ---- work on a VM (vm_watch.c) ---- */

/* A piece of work that changes what the backend runs. While any is under way, the backend's own news of the VM wait
 * until it ends, so that they neither overtake nor contradict what the work writes. When a request of it failed, the
 * VM's true state is asked for at the end. */
struct vm_work {
    char ref[REF_SIZE], uuid[UUID_SIZE];
    gint64 domid;    /* as it was at the beginning */
    gboolean unsure; /* a request failed: what is true is not known (after the end: could not be found out) */
};
void vm_work_begin(struct vm_work *w, const struct record *vm);
void vm_work_end(struct vm_work *w);
typedef struct vm_work vm_work;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(vm_work, vm_work_end)
#define VM_WORK_INIT                                                                                                   \
    {                                                                                                                  \
        .ref = ""                                                                                                      \
    }

/* Forgets what is known of a VM that is no more. */
void vm_watch_forget(const char *uuid);

/* ---- asking the backend (vm_ask.c) ---- */

enum {
    ASK_QUICK_MS = 60 * 1000,
    ASK_LONG_MS = 10 * 60 * 1000,      /* building a domain, plugging a device */
    ASK_IMAGE_MS = 6 * 60 * 60 * 1000, /* copying memory or disks */
};

/* A request on behalf of c, with its progress and cancellation; takes over params. Blocks. NULL after failing, with
 * uuids in the fault's parameters turned into references. w may be NULL. */
struct value *vm_ask(struct call *c, struct vm_work *w, const char *method, struct value *params, int timeout_ms);
/* The same for a request that is only a part of the call: its progress goes from one fraction to another. */
struct value *vm_ask_part(struct call *c, struct vm_work *w, const char *method, struct value *params, int timeout_ms,
                          double from, double to);
/* {"uuid": uuid}, to be ended by the caller, who may put more in. */
void vm_params(struct value_builder *b, const char *uuid);

/* ---- changes of records (vm_state.c) ---- */

gboolean vm_is(const struct record *vm, const char *power_state);
/* The VM runs as state (backend-protocol) says; consoles are the ones it was started with, or NULL. */
void vm_set_running(struct txn *t, const char *ref, const struct value *state, const struct value *consoles);
void vm_set_paused(struct txn *t, const char *ref, gboolean paused);
void vm_set_halted(struct txn *t, const char *ref);
void vm_set_suspended(struct txn *t, const char *ref);
void vm_drop_guest_metrics(struct txn *t, const char *ref);
/* Tells the VM_metrics object (made if there is none): a state of the backend. */
const char *vm_metrics_of(struct txn *t, const char *ref);
void vm_metrics_update(struct txn *t, const char *ref, const struct value *state);

/* ---- consoles (console.c) ---- */

/* [{"uuid", "protocol"}, ...]: those that a VM is to be started with. Heap. */
struct value *consoles_plan(const struct record *vm);
void consoles_open(struct txn *t, const char *vm, const struct value *plan);
void consoles_close(struct txn *t, const char *vm);

/* ---- descriptions for the backend (vm_config.c) ---- */

/* Heap values; records are read as they stand. */
struct value *vm_config(const struct record *vm, const struct value *consoles, gboolean paused);
struct value *vbd_config(const struct record *vbd);
struct value *vif_config(const struct record *vif);
const char *vm_domain_type(const struct record *vm); /* "pv", "pvh", "hvm" */
/* Scheduling as VCPUs_params says: weight, cap and affinity are put into b. */
void vm_put_scheduling(struct value_builder *b, const struct record *vm);

/* ---- disks (vm_disks.c) ---- */

/* Checks that the disk can be used by its VM now and keeps others from taking it until disk_release. op is for the
 * fault. Inside a transaction, so that of two only one succeeds. */
gboolean disk_reserve(struct txn *t, const struct record *vbd, const char *op, struct fault *f);
void disk_release(const char *vbd);
/* All disks of a VM: all or none. */
gboolean disks_reserve(struct txn *t, const struct record *vm, const char *op, struct fault *f);
void disks_release(const struct record *vm);
/* Could they be taken now? */
gboolean disks_check(struct txn *t, const struct record *vm, const char *op, struct fault *f);
gboolean disk_check(struct txn *t, const struct record *vbd, const char *op, struct fault *f);
gboolean vdi_is_reserved(const char *vdi);

/* ---- devices (vm_device.c) ---- */

/* Where a name ("0", "xvda", "hda1", "sdb", "fda", "51712", "0xca00") stands: equal numbers are the same place. -1: no
 * such name. */
int vbd_position(const char *name);
/* "xvda" for 0; the name itself where it is one. */
char *vbd_device_name(const char *userdevice);
/* The first place that is free, NULL when there is none; and all of them. */
char *vbd_free_device(struct txn *t, const struct record *vm);
char *vif_free_device(struct txn *t, const struct record *vm);
struct value *vbd_free_devices(struct txn *t, const struct record *vm);
struct value *vif_free_devices(struct txn *t, const struct record *vm);
gboolean vbd_device_taken(struct txn *t, const struct record *vm, int position, const char *but);
gboolean vif_device_taken(struct txn *t, const struct record *vm, const char *device, const char *but);
gboolean mac_is_valid(const char *mac);
/* From a VM's seed and the device's number: always the same. */
void mac_from_seed(const char *seed, const char *device, char mac[18]);

/* ---- figures (vm_data_source.c) ---- */

/* What domain.usage says of disks, for who asks later. Any thread. */
void vm_rates_take(const struct value *domains);

/* ---- suspend images (vm_suspend.c) ---- */

/* Where a host without storage keeps one. */
char *vm_suspend_path(const char *uuid);
/* In other_config of a VDI that holds memory: the uuid that the VM had when it was saved, where it is another now. */
#define VM_SAVED_AS "xenapid:saved-as"
/* Is one there that was made of the domain that the VM last had? */
gboolean vm_memory_is_in_file(const struct record *vm);
/* Where the image of a VM's memory goes: own (NULL: none of its own), the choice of the host and of its pool (fields of
 * those classes), the pool's default SR; the first that is attached. Counted; NULL when there is none. */
struct record *memory_vdi_sr(const char *own, int of_host, int of_pool);
/* Makes a VDI with room for all of the memory and what is said about it (what is not written takes no space), as
 * image_make does. Blocks. */
struct value *memory_vdi_make(struct call *c, const struct record *vm, const struct record *sr, const char *uuid,
                              const char *label, const char *type);
/* Removes it, if there is one. */
void vm_drop_memory_file(const char *uuid);
/* Destroys the VDI that held one, if any, and if no other VM or snapshot refers to it. Blocks. */
void vm_drop_suspend_image(struct call *c, const char *vdi);
/* Without admission. to_vdi: VM_NO_SUSPEND_SR where no repository takes the image, instead of a file. Block. */
gboolean vm_do_suspend(struct call *c, const struct record *vm, gboolean to_vdi);
gboolean vm_do_resume(struct call *c, const char *vm, const char *host, gboolean paused);

/* ---- power (vm_start.c, vm_power.c): without admission, also for tasks of the daemon's own ---- */

/* Checks everything and takes the VM's disks for op; the record as it is going to be started (its disks are to be
 * released), or NULL. host may be NULL: this one. from is the power state that it must have. */
struct record *vm_begin_attempt(struct call *c, const char *ref, const char *host, const char *from, const char *op);
/* Makes a request that ends in a running domain and records that; ends params. */
gboolean vm_run_domain(struct call *c, struct vm_work *w, const char *method, struct value_builder *params,
                       struct value *consoles);
gboolean vm_do_start(struct call *c, const char *ref, const char *host, gboolean paused);
gboolean vm_do_restart(struct call *c, struct vm_work *w, const struct record *vm, gboolean clean);
gboolean vm_do_destroy_domain(struct call *c, struct vm_work *w, const struct record *vm);
/* The same for a domain that its VM's record may know nothing of: then the record stays as it is. */
gboolean vm_do_destroy_leftover(struct call *c, struct vm_work *w, const struct record *vm);
/* The checks of what a start needs, but for memory, which the backend knows. */
gboolean vm_check_bootable(struct txn *t, const struct record *vm, const char *host, struct fault *f);

/* ---- records (vm.c, vm_create.c, vm_memory.c) ---- */

/* With its devices, metrics and consoles; not its disks. */
void vm_destroy_record(struct txn *t, const struct record *vm);

/* Begins a change for which op must be allowed on argument 0 (a VM); NULL after failing. */
struct txn *vm_begin_change(struct call *c, const char *op, struct record **vm);
/* Ends a call that has changed t. */
struct value *vm_end_change(struct call *c, struct txn *t);
struct value *vm_give_up(struct call *c, struct txn *t);
gboolean vm_check_memory(gint64 static_min, gint64 dynamic_min, gint64 dynamic_max, gint64 static_max, struct fault *f);
gint64 vm_memory_overhead(const struct record *vm);

/* The VMs of an appliance, those that start first before the others. The caller frees. */
GPtrArray *appliance_members(const struct record *appliance);

#endif
