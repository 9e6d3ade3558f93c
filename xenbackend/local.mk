# The front's end of the backend.
libfront_a_SOURCES += xenbackend/backend.c xenbackend/backend.h

# What both backends share: storage drivers, and programs that they run.
noinst_LIBRARIES += libstorage.a
libstorage_a_SOURCES = \
	xenbackend/io_priority.c xenbackend/io_priority.h xenbackend/run.c xenbackend/run.h \
	xenbackend/storage/nbd.c xenbackend/storage/nbd.h \
	xenbackend/storage/storage.c xenbackend/storage/storage.h xenbackend/storage/storage_bitmap.c \
	xenbackend/storage/storage_coalesce.c \
	xenbackend/storage/storage_bitmap.h xenbackend/storage/storage_cbt.c xenbackend/storage/storage_cbt.h \
	xenbackend/storage/storage_dir.c xenbackend/storage/storage_dir.h xenbackend/storage/storage_file.c \
	xenbackend/storage/storage_file.h xenbackend/storage/storage_file_chain.c \
	xenbackend/storage/storage_file_chain.h xenbackend/storage/storage_file_coalesce.c \
	xenbackend/storage/storage_file_stage.c \
	xenbackend/storage/storage_file_vdi.c xenbackend/storage/storage_iso.c xenbackend/storage/storage_live.c \
	xenbackend/storage/storage_lvm.c xenbackend/storage/storage_lvm.h \
	xenbackend/storage/storage_lvm_vdi.c xenbackend/storage/storage_mount.c \
	xenbackend/storage/storage_mount.h xenbackend/storage/storage_nfs.c xenbackend/storage/storage_open.c \
	xenbackend/storage/storage_plugin.c xenbackend/storage/storage_plugin.h \
	xenbackend/storage/storage_private.h xenbackend/storage/storage_qcow2.c \
	xenbackend/storage/storage_qcow2.h xenbackend/storage/storage_smapi1.c \
	xenbackend/storage/storage_smapi3.c

# The simulated host.
pkglibexec_PROGRAMS += xenapid-sim
xenapid_sim_SOURCES = \
	xenbackend/sim/sim.h xenbackend/sim/sim_console.c xenbackend/sim/sim_device.c xenbackend/sim/sim_disk.c \
	xenbackend/sim/sim_domain.c xenbackend/sim/sim_fault.c xenbackend/sim/sim_guest.c \
	xenbackend/sim/sim_host.c xenbackend/sim/sim_machine.c xenbackend/sim/sim_main.c \
	xenbackend/sim/sim_pool.c xenbackend/sim/sim_power.c xenbackend/sim/sim_state.c xenbackend/sim/sim_tune.c
xenapid_sim_LDADD = libstorage.a $(BASE_LIBS)

# The host with Xen, where its libraries are.
if HAVE_XEN
pkglibexec_PROGRAMS += xenapid-xen
endif
xenapid_xen_SOURCES = \
	xenbackend/xen/filter.c xenbackend/xen/filter.h xenbackend/xen/xen.h xenbackend/xen/xen_boot.c \
	xenbackend/xen/xen_config.c xenbackend/xen/xen_console.c xenbackend/xen/xen_cpu.c \
	xenbackend/xen/xen_cpupool.c xenbackend/xen/xen_device.c xenbackend/xen/xen_disk_usage.c \
	xenbackend/xen/xen_domain.c xenbackend/xen/xen_dump.c xenbackend/xen/xen_filter.c \
	xenbackend/xen/xen_guest.c xenbackend/xen/xen_host.c xenbackend/xen/xen_image.c xenbackend/xen/xen_ionice.c \
	xenbackend/xen/xen_machine.c xenbackend/xen/xen_main.c xenbackend/xen/xen_metrics.c \
	xenbackend/xen/xen_model.c xenbackend/xen/xen_net.c xenbackend/xen/xen_op.c xenbackend/xen/xen_qmp.c \
	xenbackend/xen/xen_recover.c xenbackend/xen/xen_start.c xenbackend/xen/xen_stop.c xenbackend/xen/xen_store.c \
	xenbackend/xen/xen_suspend.c xenbackend/xen/xen_tune.c xenbackend/xen/xen_usage.c \
	xenbackend/xen/xen_watch.c
xenapid_xen_CFLAGS = $(AM_CFLAGS) $(XEN_CFLAGS)
xenapid_xen_LDADD = libstorage.a $(BASE_LIBS) $(XEN_LIBS) -lxenguest
