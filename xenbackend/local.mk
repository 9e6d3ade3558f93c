# libstorage: what both backends share of storage. xenapid-sim: the simulated host.
noinst_LIBRARIES += libstorage.a
libstorage_a_SOURCES = \
	xenbackend/run.c xenbackend/run.h \
	xenbackend/storage.c xenbackend/storage.h \
	xenbackend/storage_dir.c xenbackend/storage_dir.h \
	xenbackend/storage_file.c xenbackend/storage_file.h \
	xenbackend/storage_file_vdi.c \
	xenbackend/storage_file_stage.c \
	xenbackend/storage_open.c xenbackend/storage_private.h \
	xenbackend/nbd.c xenbackend/nbd.h \
	xenbackend/storage_cbt.c xenbackend/storage_cbt.h \
	xenbackend/storage_bitmap.c xenbackend/storage_bitmap.h \
	xenbackend/storage_iso.c \
	xenbackend/storage_mount.c xenbackend/storage_mount.h \
	xenbackend/storage_nfs.c \
	xenbackend/storage_lvm.c xenbackend/storage_lvm.h \
	xenbackend/storage_lvm_vdi.c \
	xenbackend/storage_plugin.c xenbackend/storage_plugin.h \
	xenbackend/storage_smapi1.c \
	xenbackend/storage_smapi3.c \
	xenbackend/storage_qcow2.c xenbackend/storage_qcow2.h

# The front's end of the backend.
libfront_a_SOURCES += xenbackend/backend.c xenbackend/backend.h

pkglibexec_PROGRAMS += xenapid-sim
xenapid_sim_SOURCES = \
	xenbackend/sim.h \
	xenbackend/sim_main.c \
	xenbackend/sim_state.c \
	xenbackend/sim_host.c xenbackend/sim_machine.c \
	xenbackend/sim_domain.c \
	xenbackend/sim_power.c \
	xenbackend/sim_tune.c xenbackend/sim_pool.c \
	xenbackend/sim_device.c xenbackend/sim_disk.c \
	xenbackend/sim_guest.c \
	xenbackend/sim_console.c \
	xenbackend/sim_fault.c
xenapid_sim_LDADD = libstorage.a $(BASE_LIBS)

# The host with Xen, where its libraries are.
if HAVE_XEN
pkglibexec_PROGRAMS += xenapid-xen
endif
xenapid_xen_SOURCES = \
	xenbackend/xen.h \
	xenbackend/xen_main.c \
	xenbackend/xen_op.c \
	xenbackend/xen_store.c \
	xenbackend/xen_domain.c \
	xenbackend/xen_watch.c \
	xenbackend/xen_guest.c \
	xenbackend/xen_usage.c xenbackend/xen_disk_usage.c \
	xenbackend/xen_boot.c \
	xenbackend/xen_config.c \
	xenbackend/xen_device.c \
	xenbackend/xen_start.c \
	xenbackend/xen_stop.c \
	xenbackend/xen_image.c \
	xenbackend/xen_model.c \
	xenbackend/xen_console.c \
	xenbackend/xen_suspend.c \
	xenbackend/xen_tune.c \
	xenbackend/xen_metrics.c \
	xenbackend/xen_recover.c \
	xenbackend/xen_host.c xenbackend/xen_machine.c \
	xenbackend/xen_cpu.c xenbackend/xen_cpupool.c xenbackend/xen_dump.c \
	xenbackend/xen_net.c \
	xenbackend/xen_filter.c xenbackend/filter.c xenbackend/filter.h
xenapid_xen_CFLAGS = $(AM_CFLAGS) $(XEN_CFLAGS)
xenapid_xen_LDADD = libstorage.a $(BASE_LIBS) $(XEN_LIBS) -lxenguest
