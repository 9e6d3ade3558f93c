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
	xenbackend/storage_iso.c \
	xenbackend/storage_qcow2.c xenbackend/storage_qcow2.h

# The front's end of the backend.
libfront_a_SOURCES += xenbackend/backend.c xenbackend/backend.h

pkglibexec_PROGRAMS += xenapid-sim
xenapid_sim_SOURCES = \
	xenbackend/sim.h \
	xenbackend/sim_main.c \
	xenbackend/sim_state.c \
	xenbackend/sim_host.c \
	xenbackend/sim_domain.c \
	xenbackend/sim_power.c \
	xenbackend/sim_tune.c \
	xenbackend/sim_device.c \
	xenbackend/sim_guest.c \
	xenbackend/sim_fault.c
xenapid_sim_LDADD = libstorage.a $(BASE_LIBS)
