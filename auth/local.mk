# Who may do what: sessions, logins, roles; part of the front.
libfront_a_SOURCES += \
	auth/session.c auth/session.h auth/session_private.h auth/session_login.c auth/throttle.c auth/throttle.h \
	auth/access.c auth/access.h auth/roles.c auth/roles.h

# The helper that asks PAM: root, in a process of its own.
pkglibexec_PROGRAMS += xenapid-auth
xenapid_auth_SOURCES = \
	auth/auth_main.c auth/auth_worker.c auth/pam_check.c auth/users.c auth/helper_private.h daemon/process/spawn.c
xenapid_auth_LDADD = libbase.a $(GLIB_LIBS) $(PAM_LIBS) -lpthread -lm
