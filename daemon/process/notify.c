/* notify.c - sd_notify(3) messages. */
#include "config.h"

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "daemon/process/log.h"
#include "daemon/process/notify.h"

static void tell(const char *text)
{
#ifdef HAVE_SYSTEMD
    sd_notify(FALSE, text);
#else
    (void) text;
#endif
}

void notify_ready(void)
{
    tell("READY=1\nSTATUS=ready");
}

void notify_reloading(void)
{
    g_autofree char *text = g_strdup_printf("RELOADING=1\nMONOTONIC_USEC=%" G_GINT64_FORMAT, g_get_monotonic_time());
    tell(text);
}

void notify_stopping(int seconds)
{
    g_autofree char *text = g_strdup_printf("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=%d000000", seconds);
    tell(text);
}

void notify_watchdog(void)
{
    tell("WATCHDOG=1");
}

void notify_status(const char *text)
{
    /* A line break would begin another assignment. */
    g_autofree char *line = log_escape(text);
    g_autofree char *message = g_strdup_printf("STATUS=%s", line);
    tell(message);
}

guint notify_watchdog_interval_ms(void)
{
#ifdef HAVE_SYSTEMD
    guint64 usec;
    if (sd_watchdog_enabled(FALSE, &usec) > 0)
        return (guint) CLAMP(usec / 4000, 100, 30000);
#endif
    return 0;
}
