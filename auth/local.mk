# Who may do what: sessions, logins, roles; part of the front.
libfront_a_SOURCES += \
	auth/session.c auth/session.h auth/session_private.h auth/session_login.c auth/throttle.c auth/throttle.h \
	auth/access.c auth/access.h auth/roles.c auth/roles.h
