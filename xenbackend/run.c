/* run.c - runs a tool without a shell: its output bounded, its time limited, killed when cancelled. */
#include "config.h"
#include "xenbackend/run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_OUTPUT (1024 * 1024)
#define LAST_WORDS 2048 /* of each stream in a fault */
#define TICK_MS    50   /* how soon a cancel is seen */

struct tool {
    pid_t pid;
    int fds[2]; /* its stdout and stderr; -1 when closed */
    GString *text[2];
    gint64 deadline; /* 0: none */
    gboolean cancelled, late;
};

/* Between fork and exec only async-signal-safe calls are allowed: everything was prepared by the parent. */
static void G_GNUC_NORETURN become(const char *path, char *const *argv, char *const *env, pid_t parent, int null,
                                   const int out[2])
{
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || dup2(null, 0) < 0 || dup2(out[0], 1) < 0 || dup2(out[1], 2) < 0)
        _exit(127);
    execve(path, argv, env);
    static const char words[] = "cannot be executed\n";
    (void) !write(2, words, sizeof(words) - 1);
    _exit(127);
}

/* A file in memory that holds the text, to be read from its beginning. */
static int make_input(const char *text)
{
    gsize len = strlen(text), done = 0;
    int fd = memfd_create("input", MFD_CLOEXEC);
    while (fd >= 0 && done < len) {
        gssize n = pwrite(fd, text + done, len - done, (off_t) done);
        if (n < 0 && errno != EINTR) {
            close(fd);
            return -1;
        }
        done += n > 0 ? (gsize) n : 0;
    }
    return fd;
}

static gboolean start(struct tool *t, const char *path, const char *const *argv, const char *input)
{
    int out[2], err[2];
    int null = input != NULL ? make_input(input) : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0)
        return FALSE;
    if (pipe2(out, O_CLOEXEC) < 0) {
        close(null);
        return FALSE;
    }
    if (pipe2(err, O_CLOEXEC) < 0) {
        close(null);
        close(out[0]);
        close(out[1]);
        return FALSE;
    }
    g_autofree char *search = g_strconcat("PATH=", g_getenv("PATH") != NULL ? g_getenv("PATH") : "", NULL);
    char *const env[] = {search, (char *) "LC_ALL=C", NULL};
    const int theirs[2] = {out[1], err[1]};
    pid_t parent = getpid();
    t->pid = fork();
    if (t->pid == 0)
        become(path, (char *const *) argv, env, parent, null, theirs);
    int saved = errno;
    close(null);
    close(out[1]);
    close(err[1]);
    t->fds[0] = out[0];
    t->fds[1] = err[0];
    if (t->pid < 0) {
        close(out[0]);
        close(err[0]);
        errno = saved;
        return FALSE;
    }
    setpgid(t->pid, t->pid); /* also here, so that a kill of the group never comes too early */
    return TRUE;
}

static void keep(GString *text, const char *data, gsize len)
{
    g_string_append_len(text, data, (gssize) len);
    if (text->len > MAX_OUTPUT)
        g_string_erase(text, 0, (gssize) (text->len - MAX_OUTPUT));
}

/* Reads what is there; closes the descriptor at its end. */
static void drain(struct tool *t, int i, const struct run_options *o)
{
    char buffer[8192];
    ssize_t n = read(t->fds[i], buffer, sizeof(buffer) - 1);
    if (n > 0) {
        buffer[n] = '\0';
        keep(t->text[i], buffer, (gsize) n);
        double fraction = i == 0 && o->progress != NULL ? run_parse_progress(buffer) : -1;
        if (fraction >= 0)
            o->progress(fraction, o->data);
    } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
        close(t->fds[i]);
        t->fds[i] = -1;
    }
}

static void check_limits(struct tool *t, const struct run_options *o)
{
    t->cancelled = t->cancelled || (o->cancel != NULL && g_atomic_int_get(o->cancel) != 0);
    t->late = t->late || (t->deadline != 0 && g_get_monotonic_time() >= t->deadline);
    if (t->cancelled || t->late)
        kill(-t->pid, SIGKILL);
}

/* Reads until the tool has left; answers its wait status. A child of the tool that keeps the pipes open does not keep
 * us: what the tool itself wrote is in the pipe by the time it is gone. */
static int attend(struct tool *t, const struct run_options *o)
{
    int status = 0;
    gboolean gone = FALSE;
    while (!gone) {
        struct pollfd p[2] = {{t->fds[0], POLLIN, 0}, {t->fds[1], POLLIN, 0}};
        gboolean open = t->fds[0] >= 0 || t->fds[1] >= 0;
        int n = poll(p, 2, open ? TICK_MS : 2);
        for (int i = 0; n > 0 && i < 2; i++)
            if (p[i].revents != 0)
                drain(t, i, o);
        check_limits(t, o);
        pid_t left = n <= 0 || !open ? waitpid(t->pid, &status, WNOHANG) : 0;
        gone = left == t->pid || (left < 0 && errno != EINTR);
        if (gone && left < 0)
            status = 127 << 8; /* somebody else took its status: nothing is known, so it did not work */
    }
    kill(-t->pid, SIGKILL);
    for (int i = 0; i < 2; i++)
        if (t->fds[i] >= 0) {
            struct pollfd p = {t->fds[i], POLLIN, 0};
            while (t->fds[i] >= 0 && poll(&p, 1, 0) > 0)
                drain(t, i, o);
            if (t->fds[i] >= 0)
                close(t->fds[i]);
        }
    return status;
}

/* The end of what it said, without progress reports, as UTF-8. */
static char *last_words(const GString *text)
{
    const char *from = text->str + (text->len > LAST_WORDS ? text->len - LAST_WORDS : 0);
    const char *line = strrchr(from, '\r');
    g_autofree char *valid = g_utf8_make_valid(line != NULL ? line + 1 : from, -1);
    return g_strdup(g_strstrip(valid));
}

static gboolean failed(const struct tool *t, const char *name, int status, struct fault *f)
{
    if (t->cancelled)
        return fault_set(f, "TASK_CANCELLED", "", NULL);
    char code[32];
    if (WIFSIGNALED(status))
        g_snprintf(code, sizeof(code), "signal %d", WTERMSIG(status));
    else
        g_snprintf(code, sizeof(code), "%d", WEXITSTATUS(status));
    g_autofree char *out = last_words(t->text[0]);
    g_autofree char *err = last_words(t->text[1]);
    g_autofree char *words = t->late ? g_strdup_printf("%s took too long", name) : g_strdup(err);
    return fault_set(f, "SR_BACKEND_FAILURE", code, out, *words != '\0' ? words : name, NULL);
}

gboolean run_tool(const char *const *argv, const struct run_options *o, char **out, struct fault *f)
{
    static const struct run_options defaults;
    o = o != NULL ? o : &defaults;
    g_autofree char *path = g_find_program_in_path(argv[0]);
    if (path == NULL) {
        g_autofree char *words = g_strdup_printf("%s is not installed", argv[0]);
        return fault_set(f, "SR_BACKEND_FAILURE", "127", "", words, NULL);
    }
    struct tool t = {.deadline = o->timeout_s > 0 ? g_get_monotonic_time() + o->timeout_s * G_TIME_SPAN_SECOND : 0};
    if (!start(&t, path, argv, o->input)) {
        g_autofree char *words = g_strdup_printf("%s: %s", argv[0], g_strerror(errno));
        return fault_set(f, "SR_BACKEND_FAILURE", "127", "", words, NULL);
    }
    t.text[0] = g_string_new(NULL);
    t.text[1] = g_string_new(NULL);
    int status = attend(&t, o);
    gboolean well = WIFEXITED(status) && (WEXITSTATUS(status) == 0 || o->status != NULL) && !t.late && !t.cancelled;
    if (well && o->status != NULL)
        *o->status = WEXITSTATUS(status);
    if (well && out != NULL)
        *out = g_strdup(t.text[0]->str);
    else if (!well)
        failed(&t, argv[0], status, f);
    g_string_free(t.text[0], TRUE);
    g_string_free(t.text[1], TRUE);
    return well;
}

double run_parse_progress(const char *text)
{
    const char *end = g_strrstr(text, "/100%)");
    const char *p = end;
    while (p != NULL && p > text && p[-1] != '(')
        p--;
    if (p == NULL || p == text)
        return -1;
    char *stop = NULL;
    double percent = g_ascii_strtod(p, &stop);
    return stop == end && percent >= 0 && percent <= 100 ? percent / 100 : -1;
}
