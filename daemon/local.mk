# libbase: what every process of xenapid links; libfront: the front alone.
noinst_LIBRARIES += libbase.a libfront.a
libbase_a_SOURCES = \
	daemon/value.c daemon/value.h \
	daemon/codec.c daemon/codec.h \
	daemon/json.c daemon/jsonrpc.c daemon/jsonrpc.h \
	daemon/xmlrpc.c daemon/xmlrpc.h
