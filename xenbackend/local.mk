# libstorage: what both backends share of storage. xenapid-sim: the simulated host.
noinst_LIBRARIES += libstorage.a
libstorage_a_SOURCES = \
	xenbackend/run.c xenbackend/run.h \
	xenbackend/storage.c xenbackend/storage.h \
	xenbackend/storage_dir.c xenbackend/storage_dir.h \
	xenbackend/storage_file.c xenbackend/storage_file.h \
	xenbackend/storage_file_vdi.c \
	xenbackend/storage_iso.c \
	xenbackend/storage_qcow2.c xenbackend/storage_qcow2.h

# The front's end of the backend.
libfront_a_SOURCES += xenbackend/backend.c xenbackend/backend.h
