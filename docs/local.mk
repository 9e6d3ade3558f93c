
# The API reference, from the tables: make docs/api-reference.html
EXTRA_DIST += docs/api-reference.py docs/backend-protocol.md docs/host.md docs/storage.md docs/systemd.md docs/vms.md docs/xen.md docs/simulator.md docs/transfers.md docs/simulator.md docs/vms.md
docs/api-reference.html: $(top_srcdir)/docs/api-reference.py xenapid-front
	$(AM_V_GEN)$(MKDIR_P) docs && ./xenapid-front --describe-api | python3 $(top_srcdir)/docs/api-reference.py >$@
CLEANFILES += docs/api-reference.html

dist_man_MANS += docs/xenapid.8 docs/xenapid.conf.5
