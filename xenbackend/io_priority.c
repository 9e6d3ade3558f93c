/* io_priority.c - ioprio_set(2), for which there is no function in the C library. */
#include "config.h"
#include "xenbackend/io_priority.h"

#include <errno.h>
#include <linux/ioprio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NORMAL "4"

/* 0 to 7; -1: neither a name nor such a number. */
static int level_of(const char *text)
{
    static const struct {
        const char *name;
        int level;
    } names[] = {{"highest", 0}, {"high", 2}, {"normal", 4}, {"low", 6}, {"lowest", 7}};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (strcmp(text, names[i].name) == 0)
            return names[i].level;
    return strlen(text) == 1 && *text >= '0' && *text <= '7' ? *text - '0' : -1;
}

int io_priority_of(struct value *vbd)
{
    struct value *params = value_get(vbd, "qos_params");
    const char *sched = value_get_str(params, "sched", "best-effort");
    int level = level_of(value_get_str(params, "class", NORMAL));
    if (strcmp(value_get_str(vbd, "qos_type", ""), "ionice") != 0)
        return IO_PRIORITY_NONE;
    if (strcmp(sched, "idle") == 0)
        return IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0);
    if (level >= 0 && (strcmp(sched, "rt") == 0 || strcmp(sched, "real-time") == 0))
        return IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, level);
    return level >= 0 && strcmp(sched, "best-effort") == 0 ? IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, level)
                                                           : IO_PRIORITY_NONE;
}

/* Classes and levels count downwards: the smaller number goes first. */
int io_priority_first(int a, int b)
{
    return a == IO_PRIORITY_NONE ? b : b == IO_PRIORITY_NONE ? a : MIN(a, b);
}

static gboolean give_thread(int tid, int priority)
{
    long now = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid);
    /* Who was given none is told to have one that was derived of its nice value: that is never compared. */
    if (now >= 0 && now == priority && priority != IO_PRIORITY_NONE)
        return TRUE;
    return syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, priority) == 0 || errno == ESRCH;
}

gboolean io_priority_give(pid_t pid, int priority)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", (int) pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    int error = 0;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL)
        if (!give_thread(atoi(name), priority))
            error = errno;
    errno = error;
    return error == 0;
}
