/* spawn.c - fork, give up privileges, exec. Between fork and exec only what is safe in a signal handler is called:
 * the supervisor has a thread of GLib's. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/process/spawn.h"

#define FIRST_FD 3
#define MOST_FDS 8
/* Descriptors are moved out of the way to here before they get their numbers. */
#define HIGH_FD 64

/* What the child says through a pipe when it could not get as far as exec. */
struct obstacle {
    char step[32];
    int error;
};

struct account *account_find(const char *name, GError **error)
{
    errno = 0;
    struct passwd *pw = getpwnam(name);
    if (!pw) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "there is no user %s%s%s", name, errno ? ": " : "",
                    errno ? g_strerror(errno) : "");
        return NULL;
    }
    struct account *a = g_new0(struct account, 1);
    a->name = g_strdup(name);
    a->uid = pw->pw_uid;
    a->gid = pw->pw_gid;
    a->n_groups = 0;
    getgrouplist(name, a->gid, NULL, &a->n_groups);
    a->groups = g_new0(gid_t, a->n_groups + 1);
    if (getgrouplist(name, a->gid, a->groups, &a->n_groups) < 0)
        a->n_groups = 0;
    return a;
}

void account_free(struct account *a)
{
    if (!a)
        return;
    g_free(a->name);
    g_free(a->groups);
    g_free(a);
}

/* ---- in the child ---- */

static int report_fd;

static void G_GNUC_NORETURN give_up(const char *step)
{
    struct obstacle o = {"", errno};
    strncpy(o.step, step, sizeof o.step - 1);
    ssize_t n = write(report_fd, &o, sizeof o);
    (void) n;
    _exit(127);
}

static void must(int result, const char *step)
{
    if (result < 0)
        give_up(step);
}

static void close_from(int first)
{
#ifdef HAVE_CLOSE_RANGE
    if (close_range(first, ~0U, 0) == 0)
        return;
#endif
    for (int fd = first; fd < 4096; fd++)
        close(fd);
}

/* The given descriptors become 3, 4, ...; the report pipe comes after them; all others are closed. */
static void arrange_fds(const struct spawn *s)
{
    int high[MOST_FDS], null;
    must(report_fd = fcntl(report_fd, F_DUPFD, HIGH_FD), "fcntl");
    for (int i = 0; i < s->n_fds; i++)
        must(high[i] = fcntl(s->fds[i], F_DUPFD, HIGH_FD), "fcntl");
    for (int i = 0; i < s->n_fds; i++)
        must(dup2(high[i], FIRST_FD + i), "dup2");
    must(dup2(report_fd, FIRST_FD + s->n_fds), "dup2");
    report_fd = FIRST_FD + s->n_fds;
    must(fcntl(report_fd, F_SETFD, FD_CLOEXEC), "fcntl");
    close_from(report_fd + 1);
    must(null = open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null");
    must(dup2(null, STDIN_FILENO), "dup2");
}

static void reset_signals(void)
{
    sigset_t none;
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void raise_open_files(int wanted)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= (rlim_t) wanted)
        return;
    limit.rlim_cur = (rlim_t) wanted;
    if (limit.rlim_max < limit.rlim_cur)
        limit.rlim_max = limit.rlim_cur;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return;
    /* Not ours to raise: as far as it goes. */
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
    memset(none, 0, sizeof none);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    must(syscall(SYS_capset, &header, none), "capset");
}

static void become(const struct account *a)
{
    /* Beyond what no_new_privs forbids already; not allowed to a supervisor that was itself confined. */
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    must(setgroups(a->n_groups, a->groups), "setgroups");
    must(setresgid(a->gid, a->gid, a->gid), "setgid");
    must(setresuid(a->uid, a->uid, a->uid), "setuid");
    drop_capabilities();
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

static void G_GNUC_NORETURN run_child(const struct spawn *s, pid_t parent)
{
    setpgid(0, 0);
    reset_signals();
    arrange_fds(s);
    if (s->open_files > 0)
        raise_open_files(s->open_files);
    if (s->become)
        become(s->become);
    /* After the change of user, which clears it; a parent that died before is noticed here. */
    must(prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0), "prctl");
    if (getppid() != parent)
        _exit(1);
    execve(s->path, s->argv, s->envp);
    give_up("exec");
}

/* ---- in the parent ---- */

/* Waits until the child has become its program. */
static gboolean started(int fd, const struct spawn *s, GError **error)
{
    struct obstacle o;
    ssize_t n;
    do
        n = read(fd, &o, sizeof o);
    while (n < 0 && errno == EINTR);
    if (n != sizeof o)
        return TRUE;
    o.step[sizeof o.step - 1] = '\0';
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(o.error), "cannot start %s: %s: %s", s->path, o.step,
                g_strerror(o.error));
    return FALSE;
}

pid_t spawn_child(const struct spawn *s, GError **error)
{
    int report[2];
    g_return_val_if_fail(s->n_fds <= MOST_FDS, -1);
    if (pipe2(report, O_CLOEXEC) < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "pipe: %s", g_strerror(errno));
        return -1;
    }
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        report_fd = report[1];
        run_child(s, parent);
    }
    int why = errno;
    close(report[1]);
    if (pid < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(why), "fork: %s", g_strerror(why));
    } else if (!started(report[0], s, error)) {
        waitpid(pid, NULL, 0);
        pid = -1;
    }
    close(report[0]);
    return pid;
}
