# The libFuzzer targets. They need clang, and the libraries they test built with coverage:
#   configure --enable-fuzzers --enable-sanitizers=address,undefined CC=clang CFLAGS='-g -O1 -fsanitize=fuzzer-no-link'
#   make tests/fuzz/fuzz-xmlrpc tests/fuzz/fuzz-jsonrpc
#   tests/fuzz/fuzz-xmlrpc -dict=.../tests/fuzz/xmlrpc.dict -max_total_time=60 work/ .../tests/fuzz/corpus/xmlrpc/
# -fsanitize=fuzzer goes to the linker alone: it brings main().
fuzz_ldflags = $(AM_LDFLAGS) -fsanitize=fuzzer
if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz-xmlrpc tests/fuzz/fuzz-jsonrpc tests/fuzz/fuzz-expr tests/fuzz/fuzz-dispatch \
	tests/fuzz/fuzz-xva tests/fuzz/fuzz-image tests/fuzz/fuzz-dump tests/fuzz/fuzz-nbd
tests_fuzz_fuzz_xmlrpc_SOURCES = tests/fuzz/fuzz-xmlrpc.c
tests_fuzz_fuzz_xmlrpc_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_xmlrpc_LDADD = $(BASE_LIBS)
# jansson is the oracle of the JSON reader, and of use to nothing else.
tests_fuzz_fuzz_jsonrpc_SOURCES = tests/fuzz/fuzz-jsonrpc.c
tests_fuzz_fuzz_jsonrpc_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
tests_fuzz_fuzz_jsonrpc_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_jsonrpc_LDADD = $(BASE_LIBS) $(JANSSON_LIBS)
tests_fuzz_fuzz_expr_SOURCES = tests/fuzz/fuzz-expr.c
tests_fuzz_fuzz_expr_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_expr_LDADD = $(front_libs)
tests_fuzz_fuzz_dispatch_SOURCES = tests/fuzz/fuzz-dispatch.c
tests_fuzz_fuzz_dispatch_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_dispatch_LDADD = $(front_libs)
tests_fuzz_fuzz_xva_SOURCES = tests/fuzz/fuzz-xva.c
tests_fuzz_fuzz_xva_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_xva_LDADD = $(front_libs)
tests_fuzz_fuzz_image_SOURCES = tests/fuzz/fuzz-image.c
tests_fuzz_fuzz_image_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_image_LDADD = $(front_libs)
tests_fuzz_fuzz_dump_SOURCES = tests/fuzz/fuzz-dump.c
tests_fuzz_fuzz_dump_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_dump_LDADD = $(front_libs)
tests_fuzz_fuzz_nbd_SOURCES = tests/fuzz/fuzz-nbd.c
tests_fuzz_fuzz_nbd_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_nbd_LDADD = $(front_libs)
endif

EXTRA_DIST += tests/fuzz/run tests/fuzz/leaks.supp tests/fuzz/xmlrpc.dict tests/fuzz/jsonrpc.dict tests/fuzz/expr.dict \
	tests/fuzz/dispatch.dict tests/fuzz/xva.dict tests/fuzz/dump.dict tests/fuzz/corpus
