/* notify.h - what the supervisor tells systemd; nothing where there is none. */
#ifndef XENAPID_NOTIFY_H
#define XENAPID_NOTIFY_H

#include <glib.h>

void notify_ready(void);
void notify_reloading(void);
void notify_stopping(int seconds); /* how long it may take */
void notify_watchdog(void);
/* One line; the text may come from a process that is not trusted. */
void notify_status(const char *text);
/* How often the watchdog wants to hear from us; 0: it does not. */
guint notify_watchdog_interval_ms(void);

#endif
