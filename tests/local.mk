# make check runs the unit tests (TAP-less GLib tests); ./test runs them and everything else.
unit_libs = $(BASE_LIBS)
check_PROGRAMS += tests/unit/test-codec
tests_unit_test_codec_SOURCES = tests/unit/test-codec.c
tests_unit_test_codec_LDADD = $(BASE_LIBS)
TESTS += $(check_PROGRAMS)
