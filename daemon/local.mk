# libbase: what every process of xenapid links; libfront: the front alone.
noinst_LIBRARIES += libbase.a libfront.a
libbase_a_SOURCES = \
	daemon/value.c daemon/value.h \
	daemon/arena.c daemon/datetime.c daemon/fault.c \
	daemon/codec.c daemon/codec.h daemon/codec-internal.h \
	daemon/tree.c \
	daemon/json.c daemon/jsonrpc.c daemon/jsonrpc.h \
	daemon/xmlrpc.c daemon/xmlrpc.h daemon/xml-writer.c \
	daemon/xmlrpc-guard.c daemon/xmlrpc-guard.h
