# What every process of xenapid links: values, their forms on wires, and how processes talk to each other.
noinst_LIBRARIES += libbase.a libfront.a
libbase_a_SOURCES = \
	tests/unit/tsan-glib.c daemon/value/arena.c daemon/value/bytes.h daemon/value/datetime.c \
	daemon/value/fault.c daemon/value/value.c daemon/value/value.h daemon/codec/codec-internal.h \
	daemon/codec/codec.c daemon/codec/codec.h daemon/codec/json.c daemon/codec/jsonrpc.c \
	daemon/codec/jsonrpc.h daemon/codec/tree.c daemon/codec/wire.c daemon/codec/wire.h \
	daemon/codec/xml_writer.c daemon/codec/xmlrpc.c daemon/codec/xmlrpc.h daemon/codec/xmlrpc_guard.c \
	daemon/codec/xmlrpc_guard.h daemon/process/conf.c daemon/process/conf.h daemon/process/conf_args.c \
	daemon/process/conf_private.h daemon/process/conf_table.c daemon/process/control.c \
	daemon/process/control.h daemon/process/helper.c daemon/process/helper.h daemon/process/listen_address.c \
	daemon/process/log.c daemon/process/log.h daemon/process/peer.c daemon/process/peer.h

# The front alone: the store, HTTP, and calls, tasks and events between them.
libfront_a_SOURCES = \
	daemon/call.c daemon/call.h daemon/call_private.h daemon/clock.c daemon/clock.h daemon/dispatch.c \
	daemon/dispatch.h daemon/dispatch_private.h daemon/event.c daemon/event.h daemon/system.c daemon/task.c \
	daemon/task.h daemon/task_private.h daemon/task_queue.c daemon/store/changes.c daemon/store/commit.c \
	daemon/store/journal.h daemon/store/journal_sqlite.c daemon/store/journal_sqlite.h daemon/store/mirror.c \
	daemon/store/record.c daemon/store/store.c daemon/store/store.h daemon/store/store_internal.h \
	daemon/store/txn.c daemon/http/certificate.h daemon/http/certificate_check.c daemon/http/http.c \
	daemon/http/http.h daemon/http/http_accept.c daemon/http/http_body.c daemon/http/http_connection.c \
	daemon/http/http_cors.c daemon/http/http_gzip.c daemon/http/http_gzip.h daemon/http/http_internal.h \
	daemon/http/http_plain.c daemon/http/http_reference.c daemon/http/http_reply.c daemon/http/http_request.h \
	daemon/http/http_route.c daemon/http/http_route.h daemon/http/http_rpc.c daemon/http/http_stream.c \
	daemon/http/http_tls.c daemon/http/tls_self_signed.c daemon/http/tls_self_signed.h

# The supervisor: root, so it links nothing but what it needs.
sbin_PROGRAMS += xenapid
xenapid_SOURCES = \
	daemon/main.c daemon/process/child.c daemon/process/child.h daemon/process/listen.c \
	daemon/process/listen.h daemon/process/notify.c daemon/process/notify.h daemon/process/spawn.c \
	daemon/process/spawn.h daemon/process/supervisor.c daemon/process/supervisor.h
xenapid_CFLAGS = $(AM_CFLAGS) $(SYSTEMD_CFLAGS)
xenapid_LDADD = libbase.a $(GLIB_LIBS) $(SYSTEMD_LIBS) -lpthread -lm

# The front: faces the network, without privilege.
pkglibexec_PROGRAMS += xenapid-front
xenapid_front_SOURCES = daemon/front.c
xenapid_front_LDADD = libfront.a $(BASE_LIBS) $(MHD_LIBS) $(GNUTLS_LIBS) $(SQLITE_LIBS) $(NBD_LIBS) $(ZSTD_LIBS)
