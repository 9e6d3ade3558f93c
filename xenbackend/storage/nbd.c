/* nbd.c - starts qemu-nbd on a socket that it is given and sees to its end. */
#include "config.h"
#include "xenbackend/storage/nbd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "xenbackend/io_priority.h"

#define START_MS  20000
#define MAX_WORDS 2048
#define PAGE      4096
#define HIGH_FD   16 /* descriptors for the child are kept above those that they become */

struct nbd {
    GThread *thread;
    GMutex lock;
    GCond changed;
    pid_t pid; /* 0: it could not be started or has ended */
    gboolean ended;
    int status;
    GString *words; /* what it said on its way out */
    /* for the thread */
    char *program, **argv;
    int listener, out[2];
};

/* ---- the child ---- */

/* The decimal digits of n at text, by hand: nothing else is safe between fork and exec. */
static void put_number(char *text, pid_t n)
{
    char digits[16];
    int len = 0;
    do
        digits[len++] = (char) ('0' + n % 10);
    while ((n /= 10) != 0);
    while (len > 0)
        *text++ = digits[--len];
    *text = '\0';
}

static void G_GNUC_NORETURN become(const struct nbd *n, char *const *env, char *listen_pid, int null, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    put_number(listen_pid, getpid());
    if (getppid() != parent || dup2(null, 0) < 0 || dup2(n->out[1], 1) < 0 || dup2(n->out[1], 2) < 0 ||
        dup2(n->listener, 3) < 0)
        _exit(127);
    execve(n->program, n->argv, env);
    static const char words[] = "cannot be executed\n";
    (void) !write(2, words, sizeof(words) - 1);
    _exit(127);
}

static pid_t start_child(struct nbd *n)
{
    char listen_pid[32] = "LISTEN_PID=";
    g_autofree char *search = g_strconcat("PATH=", g_getenv("PATH") != NULL ? g_getenv("PATH") : "", NULL);
    /* Requests are of a mebibyte: with these the C library keeps their buffers instead of mapping each anew, which
     * costs a fault for each page. Some tens of mebibytes stay the most. */
    char *const env[] = {search,
                         (char *) "LC_ALL=C",
                         (char *) "LISTEN_FDS=1",
                         listen_pid,
                         (char *) "MALLOC_MMAP_THRESHOLD_=33554432",
                         (char *) "MALLOC_TRIM_THRESHOLD_=67108864",
                         NULL};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pid_t parent = getpid(), pid = null >= 0 ? fork() : -1;
    if (pid == 0)
        become(n, env, listen_pid + strlen(listen_pid), null, parent);
    if (null >= 0)
        close(null);
    return pid;
}

static void read_words(struct nbd *n)
{
    char buffer[512];
    for (;;) {
        ssize_t got = read(n->out[0], buffer, sizeof buffer);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return;
        g_string_append_len(n->words, buffer, got);
        if (n->words->len > MAX_WORDS)
            g_string_erase(n->words, 0, (gssize) (n->words->len - MAX_WORDS));
    }
}

static void told(struct nbd *n, pid_t pid, gboolean ended, int status)
{
    g_mutex_lock(&n->lock);
    n->pid = pid;
    n->ended = ended;
    n->status = status;
    g_cond_broadcast(&n->changed);
    g_mutex_unlock(&n->lock);
}

/* A thread of its own, because the child dies with the thread that started it. */
static void *attend(void *data)
{
    struct nbd *n = data;
    pid_t pid = start_child(n);
    int status = 127 << 8;
    close(n->listener);
    close(n->out[1]);
    if (pid > 0) {
        told(n, pid, FALSE, 0);
        read_words(n);
        siginfo_t info;
        while (waitid(P_PID, (id_t) pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
            continue;
        told(n, 0, FALSE, 0); /* nobody kills it from here on: the number may come again */
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    close(n->out[0]);
    told(n, 0, TRUE, status);
    return NULL;
}

/* ---- sockets ---- */

static int above(int fd)
{
    int high = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD) : -1;
    if (fd >= 0)
        close(fd);
    return high;
}

/* A listening socket and a connection that waits on it. Its name exists only while we connect, in a directory that only
 * we can enter. */
static gboolean make_sockets(int *listener, int *connection)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *dir = g_dir_make_tmp("xenapid-nbd-XXXXXX", NULL);
    if (dir == NULL)
        return FALSE;
    g_snprintf(address.sun_path, sizeof address.sun_path, "%s/s", dir);
    *listener = above(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    *connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gboolean made = *listener >= 0 && *connection >= 0 && strlen(dir) + 3 < sizeof address.sun_path &&
                    bind(*listener, (struct sockaddr *) &address, sizeof address) == 0 && listen(*listener, 1) == 0 &&
                    connect(*connection, (struct sockaddr *) &address, sizeof address) == 0;
    int saved = errno;
    unlink(address.sun_path);
    rmdir(dir);
    errno = saved;
    return made;
}

static void close_if(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* ---- for others ---- */

static gboolean fault_of_end(struct nbd *n, struct fault *f)
{
    char code[32];
    if (WIFSIGNALED(n->status))
        g_snprintf(code, sizeof code, "signal %d", WTERMSIG(n->status));
    else
        g_snprintf(code, sizeof code, "%d", WEXITSTATUS(n->status));
    g_autofree char *valid = g_utf8_make_valid(n->words->str, (gssize) n->words->len);
    g_strstrip(valid);
    return fault_set(f, "SR_BACKEND_FAILURE", code, "", *valid != '\0' ? valid : "qemu-nbd", NULL);
}

/* Until the server's greeting can be read, which is left to the client. */
static gboolean wait_greeting(struct nbd *n, int fd, struct fault *f)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte;
    int ready = poll(&p, 1, START_MS);
    if (ready == 1 && recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
        return TRUE;
    if (ready == 1 && nbd_wait(n, START_MS, f)) /* it closed the connection and yet ended well? */
        return fault_set(f, "SR_BACKEND_FAILURE", "0", "", "qemu-nbd ended at once", NULL);
    return fault_set(f, "SR_BACKEND_FAILURE", "1", "", "qemu-nbd did not start in time", NULL);
}

/* Large writes that nobody reads soon cost half the time without the system's cache, and leave it to others. Not every
 * file system can, and no file whose last page is not whole, which could grow. */
static gboolean can_go_past_cache(const char *path, gint64 size)
{
    int fd = size % PAGE == 0 ? open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_DIRECT) : -1;
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Within a file that nobody trusts yet no order of writes has to be kept, which costs a flush for each new cluster of a
 * qcow2 image; it is synced as a whole. */
static const char *cache_mode(const char *path, const char *format)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return "--cache=writeback";
    return strcmp(format, "raw") == 0 && can_go_past_cache(path, st.st_size) ? "--cache=none" : "--cache=unsafe";
}

struct nbd *nbd_start(const char *path, const char *format, gboolean writable, int *fd, struct fault *f)
{
    g_autofree char *program = g_find_program_in_path("qemu-nbd");
    int listener = -1, connection = -1, out[2];
    if (program == NULL) {
        fault_set(f, "SR_BACKEND_FAILURE", "127", "", "qemu-nbd is not installed", NULL);
        return NULL;
    }
    if (!make_sockets(&listener, &connection) || pipe2(out, O_CLOEXEC) < 0) {
        fault_set(f, "SR_BACKEND_FAILURE", "127", "", g_strerror(errno), NULL);
        close_if(listener);
        close_if(connection);
        return NULL;
    }
    const char *const writing[] = {"qemu-nbd", "-f", format, "--shared=1", "--discard=unmap", cache_mode(path, format),
                                   path,       NULL};
    const char *const reading[] = {"qemu-nbd", "-f", format, "--shared=1", "--read-only", path, NULL};
    struct nbd *n = g_new0(struct nbd, 1);
    n->program = g_steal_pointer(&program);
    n->argv = g_strdupv((char **) (writable ? writing : reading));
    n->words = g_string_new(NULL);
    n->listener = listener;
    n->out[0] = out[0];
    n->out[1] = above(out[1]);
    g_mutex_init(&n->lock);
    g_cond_init(&n->changed);
    n->thread = g_thread_new("nbd", attend, n);
    if (wait_greeting(n, connection, f)) {
        *fd = connection;
        return n;
    }
    close(connection);
    nbd_free(n);
    return NULL;
}

gboolean nbd_wait(struct nbd *n, int timeout_ms, struct fault *f)
{
    gint64 until = g_get_monotonic_time() + (gint64) timeout_ms * G_TIME_SPAN_MILLISECOND;
    g_mutex_lock(&n->lock);
    while (!n->ended && timeout_ms < 0)
        g_cond_wait(&n->changed, &n->lock);
    while (!n->ended && g_cond_wait_until(&n->changed, &n->lock, until))
        continue;
    gboolean ended = n->ended;
    g_mutex_unlock(&n->lock);
    if (!ended)
        return fault_set(f, "SR_BACKEND_FAILURE", "1", "", "qemu-nbd does not end", NULL);
    return n->status == 0 || fault_of_end(n, f);
}

gboolean nbd_has_ended(struct nbd *n, int timeout_ms)
{
    gint64 until = g_get_monotonic_time() + (gint64) timeout_ms * G_TIME_SPAN_MILLISECOND;
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&n->lock);
    while (!n->ended && g_cond_wait_until(&n->changed, &n->lock, until))
        continue;
    return n->ended;
}

void nbd_kill(struct nbd *n)
{
    g_mutex_lock(&n->lock);
    if (n->pid > 0)
        kill(n->pid, SIGKILL);
    g_mutex_unlock(&n->lock);
}

void nbd_give_priority(struct nbd *n, int priority)
{
    g_mutex_lock(&n->lock);
    if (n->pid > 0 && !io_priority_give(n->pid, priority))
        g_info("qemu-nbd does not get an I/O priority: %s", g_strerror(errno));
    g_mutex_unlock(&n->lock);
}

void nbd_free(struct nbd *n)
{
    if (n == NULL)
        return;
    nbd_kill(n);
    g_thread_join(n->thread);
    g_mutex_clear(&n->lock);
    g_cond_clear(&n->changed);
    g_string_free(n->words, TRUE);
    g_strfreev(n->argv);
    g_free(n->program);
    g_free(n);
}
