/* xen_model.c - a device model for a domain that has none yet. libxl starts one only with the domain and only if that
 * needs it then; a disk image that only a device model can read may be plugged later. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_TIMEOUT (60 * G_TIME_SPAN_SECOND)
#define LOOK_MS       20

static char *find_program(void)
{
    static const char *const places[] = {"/usr/libexec/xen-qemu-system-i386", "/usr/lib/xen/bin/qemu-system-i386",
                                         "/usr/libexec/xen/bin/qemu-system-i386",
                                         "/usr/lib/xen-4.17/bin/qemu-system-i386", NULL};
    for (gsize i = 0; places[i] != NULL; i++)
        if (access(places[i], X_OK) == 0)
            return g_strdup(places[i]);
    return g_find_program_in_path("qemu-system-i386");
}

static gboolean is_running(int domid)
{
    g_autofree char *state = xen_read("/local/domain/0/device-model/%d/state", domid);
    return g_strcmp0(state, "running") == 0;
}

/* Between fork and exec only async-signal-safe calls are allowed. It outlives us, so it must not be our child. */
static void G_GNUC_NORETURN become(char *const *argv, int null, int log, int report)
{
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    pid_t pid = fork();
    if (pid != 0) {
        (void) !write(report, &pid, sizeof pid);
        _exit(0);
    }
    if (dup2(null, 0) >= 0 && dup2(log, 1) >= 0 && dup2(log, 2) >= 0)
        execv(argv[0], argv);
    _exit(127);
}

/* The process that it became, or -1. */
static pid_t spawn(char *const *argv, const char *log_path)
{
    int report[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    pid_t model = -1;
    if (null >= 0 && log >= 0 && pipe2(report, O_CLOEXEC) == 0) {
        pid_t child = fork();
        if (child == 0)
            become(argv, null, log, report[1]);
        close(report[1]);
        if (child > 0 && read(report[0], &model, sizeof model) != sizeof model)
            model = -1;
        close(report[0]);
        if (child > 0)
            waitpid(child, NULL, 0);
    }
    if (null >= 0)
        close(null);
    if (log >= 0)
        close(log);
    return model;
}

static gboolean wait_until_it_runs(struct helper_request *req, int domid, pid_t pid, struct fault *f)
{
    gint64 until = g_get_monotonic_time() + START_TIMEOUT;
    while (!is_running(domid)) {
        if (kill(pid, 0) != 0)
            return fault_set(f, "DOMAIN_BUILDER_ERROR", "device_model", "1", "the device model ended at once", NULL);
        if (g_get_monotonic_time() >= until)
            return fault_set(f, "DOMAIN_BUILDER_ERROR", "device_model", "110", "the device model does not start", NULL);
        if (!helper_sleep(req, LOOK_MS))
            return fault_set(f, "TASK_CANCELLED", "", NULL);
    }
    return TRUE;
}

/* The keys are those by which libxl knows the device models that it started itself: it ends this one, too. */
static gboolean start(struct helper_request *req, const struct xen_domain *d, struct fault *f)
{
    g_autofree char *program = find_program(), *id = g_strdup_printf("%d", d->domid);
    g_autofree char *memory = g_strdup_printf("%" G_GUINT64_FORMAT, (guint64) d->info.tot_pages * 4 / 1024);
    g_autofree char *qmp =
        g_strdup_printf("socket,id=libxl-cmd,path=/var/run/xen/qmp-libxl-%d,server=on,wait=off", d->domid);
    g_autofree char *log = g_strdup_printf("/var/log/xen/qemu-dm-%s.log", d->uuid);
    if (program == NULL)
        return fault_set(f, "DOMAIN_BUILDER_ERROR", "device_model", "2", "there is no device model on this host", NULL);
    char *const argv[] = {program,
                          (char *) "-xen-domid",
                          id,
                          (char *) "-no-shutdown",
                          (char *) "-chardev",
                          qmp,
                          (char *) "-mon",
                          (char *) "chardev=libxl-cmd,mode=control",
                          (char *) "-nodefaults",
                          (char *) "-no-user-config",
                          (char *) "-name",
                          (char *) d->uuid,
                          (char *) "-vnc",
                          (char *) "none",
                          (char *) "-display",
                          (char *) "none",
                          (char *) "-xen-attach",
                          (char *) "-machine",
                          (char *) "xenpv",
                          (char *) "-m",
                          memory,
                          NULL};
    xs_mkdir(xen.xs, XBT_NULL, "/local/domain/0/device-model");
    pid_t pid = spawn(argv, log);
    if (pid < 0)
        return fault_set(f, "DOMAIN_BUILDER_ERROR", "device_model", "1", g_strerror(errno), NULL);
    g_autofree char *number = g_strdup_printf("%d", (int) pid);
    xen_write(number, "/local/domain/%d/image/device-model-pid", d->domid);
    if (wait_until_it_runs(req, d->domid, pid, f))
        return TRUE;
    kill(pid, SIGKILL);
    xen_remove("/local/domain/%d/image/device-model-pid", d->domid);
    xen_remove("/local/domain/0/device-model/%d", d->domid);
    return FALSE;
}

gboolean xen_model_ensure(struct helper_request *req, const struct xen_domain *d, struct fault *f)
{
    static GMutex lock; /* one for a domain, not two */
    g_mutex_lock(&lock);
    gboolean runs = is_running(d->domid) || start(req, d, f);
    g_mutex_unlock(&lock);
    return runs;
}
