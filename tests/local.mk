# make check runs the unit tests (TAP-less GLib tests); ./test runs them and everything else.
unit_libs = $(BASE_LIBS)
check_PROGRAMS += tests/unit/test-value tests/unit/test-codec tests/unit/test-xmlrpc
tests_unit_test_value_SOURCES = tests/unit/test-value.c
tests_unit_test_value_LDADD = $(BASE_LIBS)
tests_unit_test_codec_SOURCES = tests/unit/test-codec.c
tests_unit_test_codec_LDADD = $(BASE_LIBS)
tests_unit_test_xmlrpc_SOURCES = tests/unit/test-xmlrpc.c
tests_unit_test_xmlrpc_LDADD = $(BASE_LIBS)
check_PROGRAMS += tests/unit/test-storage-file
tests_unit_test_storage_file_SOURCES = tests/unit/test-storage-file.c
tests_unit_test_storage_file_LDADD = libstorage.a $(BASE_LIBS)
check_PROGRAMS += tests/unit/test-wire tests/unit/test-conf
tests_unit_test_wire_SOURCES = tests/unit/test-wire.c
tests_unit_test_wire_LDADD = $(BASE_LIBS)
tests_unit_test_conf_SOURCES = tests/unit/test-conf.c
tests_unit_test_conf_LDADD = $(BASE_LIBS)
TESTS += $(check_PROGRAMS)

include tests/fuzz/local.mk
