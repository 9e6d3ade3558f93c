# libbase: what every process of xenapid links; libfront: the front alone.
noinst_LIBRARIES += libbase.a libfront.a
libbase_a_SOURCES = \
	daemon/value.c daemon/value.h \
	daemon/wire.c daemon/wire.h daemon/peer.c daemon/peer.h \
	daemon/helper.c daemon/helper.h daemon/control.c daemon/control.h \
	daemon/conf.c daemon/conf.h daemon/conf_private.h daemon/conf_args.c \
	daemon/conf_table.c daemon/listen_address.c \
	daemon/log.c daemon/log.h \
	tests/unit/tsan-glib.c \
	daemon/bytes.h daemon/arena.c daemon/datetime.c daemon/fault.c \
	daemon/codec.c daemon/codec.h daemon/codec-internal.h \
	daemon/tree.c \
	daemon/json.c daemon/jsonrpc.c daemon/jsonrpc.h \
	daemon/xmlrpc.c daemon/xmlrpc.h daemon/xml_writer.c \
	daemon/xmlrpc_guard.c daemon/xmlrpc_guard.h
libfront_a_SOURCES = \
	daemon/store.c daemon/store.h daemon/store_internal.h daemon/record.c daemon/txn.c daemon/mirror.c \
	daemon/commit.c daemon/changes.c daemon/journal.h daemon/journal_sqlite.c daemon/journal_sqlite.h \
	daemon/clock.c daemon/clock.h daemon/call.c daemon/call.h daemon/call_private.h \
	daemon/dispatch.c daemon/dispatch.h daemon/dispatch_private.h daemon/system.c \
	daemon/task.c daemon/task_queue.c daemon/task.h daemon/task_private.h daemon/event.c daemon/event.h \
	daemon/http.c daemon/http.h daemon/http_internal.h daemon/http_accept.c daemon/http_connection.c daemon/http_body.c \
	daemon/http_rpc.c daemon/http_plain.c daemon/http_cors.c daemon/http_reply.c \
	daemon/http_gzip.c daemon/http_gzip.h daemon/http_route.c daemon/http_route.h daemon/http_request.h \
	daemon/http_stream.c daemon/http_reference.c \
	daemon/http_tls.c daemon/certificate.h daemon/certificate_check.c daemon/tls_self_signed.c daemon/tls_self_signed.h

# The supervisor: root, so it links nothing but what it needs.
sbin_PROGRAMS += xenapid
xenapid_SOURCES = \
	daemon/main.c daemon/supervisor.c daemon/supervisor.h daemon/child.c daemon/child.h \
	daemon/spawn.c daemon/spawn.h daemon/listen.c daemon/listen.h daemon/notify.c daemon/notify.h
xenapid_CFLAGS = $(AM_CFLAGS) $(SYSTEMD_CFLAGS)
xenapid_LDADD = libbase.a $(GLIB_LIBS) $(SYSTEMD_LIBS) -lpthread -lm

# The front: faces the network, without privilege.
pkglibexec_PROGRAMS += xenapid-front
xenapid_front_SOURCES = daemon/front.c
xenapid_front_LDADD = libfront.a $(BASE_LIBS) $(MHD_LIBS) $(GNUTLS_LIBS) $(SQLITE_LIBS) $(NBD_LIBS) $(ZSTD_LIBS)
