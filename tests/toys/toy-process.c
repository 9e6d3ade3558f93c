/* toy-process.c - stands in for xenapid-front, xenapid-auth and xenapid-sim (by the name it is run as), to test the
 * supervisor. The front answers lines on its UNIX listener; the helpers count, tell who they are and crash. */
#include "config.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/process/control.h"
#include "daemon/process/helper.h"
#include "daemon/process/log.h"
#include "daemon/process/peer.h"

/* uid, groups, capabilities and no_new_privs as the kernel sees them. */
static char *who_am_i(void)
{
    g_autofree char *text = NULL;
    GString *out = g_string_new(NULL);
    g_file_get_contents("/proc/self/status", &text, NULL, NULL);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l; l++) {
        if (g_str_has_prefix(*l, "Uid") || g_str_has_prefix(*l, "Gid") || g_str_has_prefix(*l, "Groups") ||
            g_str_has_prefix(*l, "Cap") || g_str_has_prefix(*l, "NoNewPrivs"))
            g_string_append_printf(out, "%s;", g_strdelimit(*l, "\t", ' '));
    }
    return g_string_free(out, FALSE);
}

/* ---- helpers ---- */

static gint count;

static struct value *do_count(struct helper_request *req, struct fault *f)
{
    (void) req, (void) f;
    return value_int(NULL, g_atomic_int_add(&count, 1) + 1);
}

static struct value *do_who(struct helper_request *req, struct fault *f)
{
    g_autofree char *text = who_am_i();
    (void) req, (void) f;
    return value_string(NULL, text);
}

static struct value *do_pid(struct helper_request *req, struct fault *f)
{
    (void) req, (void) f;
    return value_int(NULL, getpid());
}

static struct value *do_crash(struct helper_request *req, struct fault *f)
{
    (void) req, (void) f;
    kill(getpid(), SIGKILL);
    return NULL;
}

/* What a helper does that hangs on something: its request and new ones are refused until "well". */
static gint well;

static gboolean is_spared(const char *method)
{
    return strcmp(method, "who") == 0 || strcmp(method, "well") == 0;
}

static struct value *do_stuck(struct helper_request *req, struct fault *f)
{
    struct fault why = FAULT_INIT;
    (void) f;
    fault_set(&why, "INTERNAL_ERROR", "stuck", NULL);
    helper_refuse(&why, is_spared);
    fault_clear(&why);
    while (!g_atomic_int_get(&well))
        g_usleep(1000);
    return value_int(NULL, helper_cancelled(req)); /* to nobody */
}

static struct value *do_well(struct helper_request *req, struct fault *f)
{
    (void) req, (void) f;
    helper_accept();
    g_atomic_int_set(&well, 1);
    return value_int(NULL, 1);
}

static const struct helper_method methods[] = {{"count", do_count}, {"who", do_who},     {"pid", do_pid},
                                               {"crash", do_crash}, {"stuck", do_stuck}, {"well", do_well},
                                               {NULL, NULL}};

/* ---- the front ---- */

static struct peer *auth, *backend;
static int listener = -1;
static gint reloads, unwell;
static char *all_listeners;
static GMutex lock;
static GCond changed;

static void on_listeners(const struct control_listener *l, int n, void *data)
{
    GString *out = g_string_new(NULL);
    (void) data;
    for (int i = 0; i < n; i++) {
        g_string_append_printf(out, "%d=%s;", l[i].kind, l[i].address);
        if (l[i].kind == LISTENER_UNIX && listener < 0)
            listener = l[i].fd;
        else
            close(l[i].fd);
    }
    g_mutex_lock(&lock);
    all_listeners = g_string_free(out, FALSE);
    g_cond_signal(&changed);
    g_mutex_unlock(&lock);
}

static void on_helper(const char *name, int fd, void *data)
{
    (void) data;
    peer_connect(strcmp(name, "auth") == 0 ? auth : backend, fd);
}

static void on_reload(void *data)
{
    (void) data;
    g_atomic_int_inc(&reloads);
}

static void on_stop(void *data)
{
    (void) data;
    if (!g_getenv("TOY_DEAF"))
        exit(0);
}

static gboolean on_ping(void *data)
{
    (void) data;
    return !g_atomic_int_get(&unwell);
}

/* "auth count", "backend who": what the helper answers. */
static char *ask(const char *line)
{
    struct fault f = FAULT_INIT;
    gboolean is_auth = g_str_has_prefix(line, "auth ");
    g_autoptr(value) v = peer_call(is_auth ? auth : backend, strchr(line, ' ') + 1, NULL, NULL, &f);
    char *text = !v                        ? fault_text(&f)
                 : v->type == VALUE_STRING ? g_strdup(value_str(v))
                                           : g_strdup_printf("%d", (int) value_as_int(v));
    fault_clear(&f);
    return text;
}

static char *answer(const char *line)
{
    if (strcmp(line, "listeners") == 0)
        return g_strdup(all_listeners);
    if (strcmp(line, "who") == 0)
        return who_am_i();
    if (strcmp(line, "pid") == 0)
        return g_strdup_printf("%d", (int) getpid());
    if (strcmp(line, "reloads") == 0)
        return g_strdup_printf("%d", g_atomic_int_get(&reloads));
    if (strcmp(line, "unwell") == 0)
        g_atomic_int_set(&unwell, 1);
    else if (strcmp(line, "crash") == 0)
        kill(getpid(), SIGKILL);
    else if (strcmp(line, "fail") == 0)
        _exit(3);
    else if (g_str_has_prefix(line, "status "))
        control_status("one\nREADY=1 line");
    else if (strchr(line, ' '))
        return ask(line);
    return g_strdup("?");
}

static void serve(int fd)
{
    FILE *f = fdopen(fd, "r+");
    char line[256];
    while (fgets(line, sizeof line, f)) {
        g_autofree char *text = answer(g_strchomp(line));
        fprintf(f, "%s\n", text);
        fflush(f);
    }
    fclose(f);
}

static int run_front(void)
{
    const struct control_callbacks callbacks = {on_listeners, on_helper, on_reload, on_stop, on_ping, NULL};
    log_init("toy-front", LOG_DEBUG);
    if (g_getenv("TOY_FAILS"))
        return 1;
    auth = peer_new("auth", NULL, NULL, NULL);
    backend = peer_new("backend", NULL, NULL, NULL);
    if (!control_start(&callbacks))
        return 2;
    g_mutex_lock(&lock);
    while (!all_listeners)
        g_cond_wait(&changed, &lock);
    g_mutex_unlock(&lock);
    control_ready();
    fcntl(listener, F_SETFL, 0);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            serve(fd);
    }
}

int main(int argc, char **argv)
{
    const struct helper_options options = {.program = "toy-helper", .methods = methods};
    if (g_str_has_suffix(argv[0], "xenapid-front"))
        return run_front();
    return helper_main(argc, argv, &options, NULL);
}
