/* vmss.h - snapshot schedules: what they say, and the clock that follows them. */
#ifndef XENAPID_VMSS_H
#define XENAPID_VMSS_H

#include "daemon/call.h"

/* When a schedule is due, in local time. */
struct vmss_times {
    int minute;
    int hour;   /* -1: every */
    guint days; /* a bit each, Sunday is the first */
};
/* Of a frequency and a schedule that were checked before. */
struct vmss_times vmss_times(const char *frequency, const struct value *schedule);
/* day: 0 is Sunday. */
gboolean vmss_is_due(const struct vmss_times *times, int day, int hour, int minute);

#endif
