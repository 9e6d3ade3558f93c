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
tests_unit_test_storage_file_SOURCES = tests/unit/test-storage-file.c tests/unit/storage-fixture.h
tests_unit_test_storage_file_LDADD = libstorage.a $(BASE_LIBS)
check_PROGRAMS += tests/unit/test-storage-coalesce
tests_unit_test_storage_coalesce_SOURCES = tests/unit/test-storage-coalesce.c tests/unit/storage-fixture.h
tests_unit_test_storage_coalesce_LDADD = libstorage.a $(BASE_LIBS)
check_PROGRAMS += tests/unit/test-bitmap
tests_unit_test_bitmap_SOURCES = tests/unit/test-bitmap.c
tests_unit_test_bitmap_LDADD = libstorage.a $(BASE_LIBS)
check_PROGRAMS += tests/unit/test-storage-drivers
tests_unit_test_storage_drivers_SOURCES = tests/unit/test-storage-drivers.c tests/unit/storage-fixture.h
tests_unit_test_storage_drivers_CPPFLAGS = $(AM_CPPFLAGS) -DSOURCES=\"$(abs_top_srcdir)\"
tests_unit_test_storage_drivers_LDADD = libstorage.a $(BASE_LIBS)
EXTRA_DIST += tests/unit/fake-lvm.py
check_PROGRAMS += tests/unit/test-wire tests/unit/test-conf
tests_unit_test_wire_SOURCES = tests/unit/test-wire.c
tests_unit_test_wire_LDADD = $(BASE_LIBS)
tests_unit_test_conf_SOURCES = tests/unit/test-conf.c
tests_unit_test_conf_CPPFLAGS = $(AM_CPPFLAGS) -DSOURCES=\"$(abs_top_srcdir)\"
tests_unit_test_conf_LDADD = $(BASE_LIBS)

# The model's tables name every handler, so what needs the model needs the whole front.
front_libs = libfront.a $(BASE_LIBS) $(SQLITE_LIBS) $(MHD_LIBS) $(GNUTLS_LIBS) $(NBD_LIBS) $(ZSTD_LIBS)
check_PROGRAMS += tests/unit/test-model tests/unit/test-expr tests/unit/test-generic
tests_unit_test_model_SOURCES = tests/unit/test-model.c
tests_unit_test_model_LDADD = $(front_libs)
tests_unit_test_expr_SOURCES = tests/unit/test-expr.c
tests_unit_test_expr_LDADD = $(front_libs)
tests_unit_test_generic_SOURCES = tests/unit/test-generic.c
tests_unit_test_generic_LDADD = $(front_libs)
check_PROGRAMS += tests/unit/test-store tests/unit/test-durable tests/unit/test-store-threads tests/unit/test-journal \
	tests/e2e/crash-store
tests_unit_test_store_SOURCES = tests/unit/test-store.c
tests_unit_test_store_LDADD = $(front_libs)
tests_unit_test_durable_SOURCES = tests/unit/test-durable.c tests/unit/mock-journal.c tests/unit/mock-journal.h \
	tests/unit/tsan-glib.c
tests_unit_test_durable_LDADD = $(front_libs)
tests_unit_test_store_threads_SOURCES = tests/unit/test-store-threads.c tests/unit/mock-journal.c \
	tests/unit/mock-journal.h tests/unit/tsan-glib.c
tests_unit_test_store_threads_LDADD = $(front_libs)
tests_unit_test_journal_SOURCES = tests/unit/test-journal.c
tests_unit_test_journal_LDADD = $(front_libs)
tests_e2e_crash_store_SOURCES = tests/e2e/crash-store.c
tests_e2e_crash_store_LDADD = $(front_libs)
check_PROGRAMS += tests/unit/test-session tests/unit/test-login tests/unit/test-roles
auth_fixture = tests/unit/auth-fixture.c tests/unit/auth-fixture.h tests/unit/tsan-glib.c
tests_unit_test_session_SOURCES = tests/unit/test-session.c $(auth_fixture)
tests_unit_test_session_LDADD = $(front_libs)
tests_unit_test_login_SOURCES = tests/unit/test-login.c $(auth_fixture)
tests_unit_test_login_LDADD = $(front_libs)
tests_unit_test_roles_SOURCES = tests/unit/test-roles.c $(auth_fixture)
tests_unit_test_roles_LDADD = $(front_libs)
check_PROGRAMS += tests/unit/test-operation
tests_unit_test_operation_SOURCES = tests/unit/test-operation.c
tests_unit_test_operation_LDADD = $(front_libs)
check_PROGRAMS += tests/unit/test-xva
tests_unit_test_xva_SOURCES = tests/unit/test-xva.c
tests_unit_test_xva_LDADD = $(front_libs)
check_PROGRAMS += tests/unit/test-disk-queue
tests_unit_test_disk_queue_SOURCES = tests/unit/test-disk-queue.c
tests_unit_test_disk_queue_LDADD = $(front_libs)
TESTS += $(check_PROGRAMS)

# The model against the contract, and what test_filter.py uses.
EXTRA_PROGRAMS = tests/unit/describe-api tests/e2e/filter-script
tests_unit_describe_api_SOURCES = tests/unit/describe-api.c
tests_unit_describe_api_LDADD = $(front_libs)
tests_e2e_filter_script_SOURCES = tests/e2e/filter-script.c xenbackend/xen/filter.c xenbackend/xen/filter.h
tests_e2e_filter_script_LDADD = $(BASE_LIBS)

EXTRA_PROGRAMS += tests/bench/bench-store
tests_bench_bench_store_SOURCES = tests/bench/bench-store.c
tests_bench_bench_store_LDADD = $(front_libs)
# tests/bench/run makes these three; bench-abyss needs xmlrpc-c (libxmlrpc-core-c3-dev).
EXTRA_PROGRAMS += tests/bench/load tests/bench/bench-mhd tests/bench/bench-abyss
tests_bench_load_SOURCES = tests/bench/load.c
tests_bench_bench_mhd_SOURCES = tests/bench/bench-mhd.c
tests_bench_bench_mhd_LDADD = $(MHD_LIBS)
tests_bench_bench_abyss_SOURCES = tests/bench/bench-abyss.c
tests_bench_bench_abyss_LDADD = -lxmlrpc_server_abyss -lxmlrpc_server -lxmlrpc_abyss -lxmlrpc -lxmlrpc_xmlparse \
	-lxmlrpc_xmltok -lxmlrpc_util -lpthread
EXTRA_DIST += tests/bench/run tests/bench/storage tests/bench/README
TEST_EXTENSIONS = .py
PY_LOG_COMPILER = python3
AM_TESTS_ENVIRONMENT = DESCRIBE_API=$(abs_top_builddir)/tests/unit/describe-api; export DESCRIBE_API;
TESTS += tests/contract/check_contract.py
tests/contract/check_contract.log: tests/unit/describe-api$(EXEEXT)
EXTRA_DIST += tests/contract/README.md tests/contract/check_contract.py tests/contract/xenapi-2.json \
	tests/contract/xenapi-1.0-additions.json tests/contract/errors.json

# Builds what make check runs, without running it.
check-programs: $(check_PROGRAMS) tests/unit/describe-api tests/e2e/filter-script
.PHONY: check-programs

include tests/fuzz/local.mk

# Stands in for the supervisor's children in tests/e2e/test_supervisor.py.
noinst_PROGRAMS += tests/toys/toy-process
tests_toys_toy_process_SOURCES = tests/toys/toy-process.c
tests_toys_toy_process_LDADD = $(BASE_LIBS)

# What make check and ./test run beside the programs.
CLEANFILES += $(EXTRA_PROGRAMS)
EXTRA_DIST += tests/tsan.supp tests/run-all tests/packages.sh tests/e2e tests/clients tests/both tests/xen
dist-hook:
	find $(distdir)/tests '(' -name __pycache__ -o -name node_modules -o -name '*.o' -o -name .dirstamp -o -name .deps ')' -prune -exec rm -rf '{}' +
