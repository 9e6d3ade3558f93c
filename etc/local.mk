# What is installed besides programs: configuration, PAM service, systemd units, the user and its directories.
EXTRA_DIST += etc/xenapid.conf etc/demo.conf etc/pam.d/xenapid etc/systemd/xenapid.service.in \
	etc/systemd/xenapid.socket etc/sysusers.d/xenapid.conf etc/tmpfiles.d/xenapid.conf
CLEANFILES += etc/systemd/xenapid.service

systemdsystemunit_DATA = etc/systemd/xenapid.service etc/systemd/xenapid.socket
sysusers_DATA = etc/sysusers.d/xenapid.conf
tmpfiles_DATA = etc/tmpfiles.d/xenapid.conf

etc/systemd/xenapid.service: $(top_srcdir)/etc/systemd/xenapid.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) etc/systemd && $(SED) 's|@sbindir[@]|$(sbindir)|g' \
		$(top_srcdir)/etc/systemd/xenapid.service.in >$@

# Files that an administrator edits are installed once and removed only as they came.
confdir = $(sysconfdir)/xenapid
install-data-local: install-conf
install-conf:
	$(MKDIR_P) '$(DESTDIR)$(confdir)' '$(DESTDIR)$(pamdir)'
	test -e '$(DESTDIR)$(confdir)/xenapid.conf' || \
		$(INSTALL_DATA) $(top_srcdir)/etc/xenapid.conf '$(DESTDIR)$(confdir)/xenapid.conf'
	test -e '$(DESTDIR)$(pamdir)/xenapid' || \
		$(INSTALL_DATA) $(top_srcdir)/etc/pam.d/xenapid '$(DESTDIR)$(pamdir)/xenapid'
uninstall-local: uninstall-conf
uninstall-conf:
	! cmp -s $(top_srcdir)/etc/xenapid.conf '$(DESTDIR)$(confdir)/xenapid.conf' || \
		rm -f '$(DESTDIR)$(confdir)/xenapid.conf'
	! cmp -s $(top_srcdir)/etc/pam.d/xenapid '$(DESTDIR)$(pamdir)/xenapid' || \
		rm -f '$(DESTDIR)$(pamdir)/xenapid'
.PHONY: install-conf uninstall-conf
