/* xen_op.c - one request's work with libxl: a context of its own, its words, waiting and giving up, its errors as
 * faults. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#define WORDS_MAX 1500

/* ---- libxl's log ---- */

static void keep_words(struct xen_op *op, const char *text)
{
    if (op->words->len + strlen(text) > WORDS_MAX)
        return; /* the first ones name the cause */
    if (op->words->len > 0)
        g_string_append(op->words, "; ");
    g_string_append(op->words, text);
}

static GLogLevelFlags log_level(xentoollog_level level)
{
    if (level >= XTL_ERROR)
        return G_LOG_LEVEL_WARNING;
    return level >= XTL_NOTICE ? G_LOG_LEVEL_INFO : G_LOG_LEVEL_DEBUG;
}

static void G_GNUC_PRINTF(5, 0) take_message(xentoollog_logger *logger, xentoollog_level level, int errnoval,
                                             const char *context, const char *format, va_list ap)
{
    struct xen_op *op = ((typeof(op->log) *) logger)->op;
    if (level < XTL_INFO)
        return;
    g_autofree char *plain = g_strdup_vprintf(format, ap);
    g_autofree char *text = errnoval >= 0 ? g_strdup_printf("%s: %s", plain, g_strerror(errnoval)) : g_strdup(plain);
    if (level >= XTL_ERROR)
        keep_words(op, text);
    g_log(G_LOG_DOMAIN, log_level(level), "%s: %s", context != NULL ? context : "xen", text);
}

static void take_progress(xentoollog_logger *logger, const char *context G_GNUC_UNUSED,
                          const char *doing_what G_GNUC_UNUSED, int percent, unsigned long done G_GNUC_UNUSED,
                          unsigned long total G_GNUC_UNUSED)
{
    struct xen_op *op = ((typeof(op->log) *) logger)->op;
    if (op->req != NULL)
        helper_progress(op->req, op->from + (op->to - op->from) * CLAMP(percent, 0, 100) / 100.0);
}

/* ---- begin and end ---- */

static void on_cancel(void *data)
{
    const struct xen_op *op = data;
    guint64 one = 1;
    if (write(op->wake, &one, sizeof one) < 0)
        g_debug("eventfd: %s", g_strerror(errno));
    xen_watch_wake();
}

gboolean xen_op_begin(struct xen_op *op, struct helper_request *req, struct fault *f)
{
    static const libxl_childproc_hooks hooks = {.chldowner = libxl_sigchld_owner_libxl_always_selective_reap};
    op->req = req;
    op->words = g_string_new(NULL);
    op->to = 1.0;
    op->log.vtable.vmessage = take_message;
    op->log.vtable.progress = take_progress;
    op->log.op = op;
    op->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = libxl_ctx_alloc(&op->ctx, LIBXL_VERSION, 0, &op->log.vtable);
    if (rc != 0) {
        op->ctx = NULL;
        return xen_op_fault(op, rc, "", "libxl_ctx_alloc", f);
    }
    libxl_childproc_setmode(op->ctx, &hooks, NULL);
    if (req != NULL)
        helper_on_cancel(req, on_cancel, op);
    return TRUE;
}

void xen_op_end(struct xen_op *op)
{
    if (op->req != NULL)
        helper_off_cancel(op->req);
    libxl_ctx_free(op->ctx);
    if (op->words != NULL)
        g_string_free(op->words, TRUE);
    if (op->wake >= 0)
        close(op->wake);
}

/* ---- waiting ---- */

static void take_result(libxl_ctx *ctx G_GNUC_UNUSED, int rc, void *data)
{
    struct xen_op *op = data;
    op->done = TRUE;
    op->rc = rc;
}

const libxl_asyncop_how *xen_op_how(struct xen_op *op)
{
    op->done = FALSE;
    op->how = (libxl_asyncop_how){.callback = take_result, .u.for_callback = op};
    return &op->how;
}

static int remaining_ms(gint64 deadline)
{
    gint64 left = deadline - g_get_monotonic_time();
    return left <= 0 ? 0 : (int) MIN(left / 1000 + 1, G_MAXINT);
}

/* The descriptors and the time that libxl waits for, and in the last place our own. */
static int prepare_poll(struct xen_op *op, GArray *fds, int *timeout)
{
    struct timeval now;
    int n = (int) fds->len;
    gettimeofday(&now, NULL);
    for (;;) {
        g_array_set_size(fds, (guint) n + 1);
        *timeout = -1;
        int rc = libxl_osevent_beforepoll(op->ctx, &n, (struct pollfd *) (void *) fds->data, timeout, now);
        if (rc != ERROR_BUFFERFULL)
            break;
    }
    g_array_index(fds, struct pollfd, n) = (struct pollfd){op->wake, POLLIN, 0};
    return n;
}

static void poll_once(struct xen_op *op, GArray *fds, gint64 deadline, gboolean gave_up)
{
    struct timeval now;
    int timeout, n = prepare_poll(op, fds, &timeout);
    if (deadline > 0 && !gave_up) {
        int left = remaining_ms(deadline);
        timeout = timeout < 0 ? left : MIN(timeout, left);
    }
    if (poll((struct pollfd *) (void *) fds->data, (nfds_t) n + (gave_up ? 0 : 1), timeout) < 0 && errno != EINTR)
        g_warning("poll: %s", g_strerror(errno));
    gettimeofday(&now, NULL);
    libxl_osevent_afterpoll(op->ctx, n, (struct pollfd *) (void *) fds->data, now);
}

int xen_op_wait(struct xen_op *op, int rc, gint64 deadline)
{
    gboolean cancelled = FALSE, late = FALSE;
    if (rc != 0)
        return rc;
    g_autoptr(GArray) fds = g_array_sized_new(FALSE, TRUE, sizeof(struct pollfd), 16);
    while (!op->done) {
        poll_once(op, fds, deadline, cancelled || late);
        if (op->done || cancelled || late)
            continue;
        cancelled = op->req != NULL && helper_cancelled(op->req);
        late = deadline > 0 && g_get_monotonic_time() >= deadline;
        if (cancelled || late)
            libxl_ao_abort(op->ctx, &op->how);
    }
    return op->rc == ERROR_ABORTED && late && !cancelled ? ERROR_TIMEDOUT : op->rc;
}

/* ---- errors ---- */

/* Those that say the same whatever was tried. A NULL parameter is the VM's uuid. */
static const struct {
    int rc;
    const char *code;
    const char *params[4];
    int n;
} known[] = {
    {ERROR_ABORTED, "TASK_CANCELLED", {""}, 1},
    {ERROR_DOMAIN_NOTFOUND, "VM_BAD_POWER_STATE", {NULL, "running", "halted"}, 3},
    {ERROR_DOMAIN_DESTROYED, "VM_BAD_POWER_STATE", {NULL, "running", "halted"}, 3},
    {ERROR_NI, "NOT_IMPLEMENTED", {"this version of Xen"}, 1},
    {ERROR_NOPARAVIRT, "VM_LACKS_FEATURE", {NULL}, 1},
};

static gboolean known_fault(int rc, const char *uuid, struct fault *f)
{
    for (gsize i = 0; i < G_N_ELEMENTS(known); i++) {
        if (known[i].rc != rc)
            continue;
        const char *params[5] = {NULL};
        for (int j = 0; j < known[i].n; j++)
            params[j] = known[i].params[j] != NULL ? known[i].params[j] : uuid;
        fault_setv(f, known[i].code, params);
        return TRUE;
    }
    return FALSE;
}

static const char *words_of(const struct xen_op *op, int rc)
{
    if (op->words != NULL && op->words->len > 0)
        return op->words->str;
    const char *name = libxl_error_to_string(rc);
    return name != NULL ? name : "libxl said nothing";
}

gboolean xen_op_fault(struct xen_op *op, int rc, const char *uuid, const char *function, struct fault *f)
{
    if (known_fault(rc, uuid, f))
        return FALSE;
    g_autofree char *text = g_strdup_printf("%s: %s (%d)", function, words_of(op, rc), rc);
    return fault_set(f, "INTERNAL_ERROR", text, NULL);
}

/* libxl has no number of its own for these. */
static const struct {
    const char *words, *code;
} build_words[] = {
    {"bootloader failed", "BOOTLOADER_FAILED"},
    {"bootloader isn't", "BOOTLOADER_FAILED"},
};

gboolean xen_build_fault(struct xen_op *op, int rc, const char *uuid, const char *function, struct fault *f)
{
    char number[16];
    const char *words = words_of(op, rc);
    if (known_fault(rc, uuid, f))
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(build_words); i++)
        if (strstr(words, build_words[i].words) != NULL)
            return fault_set(f, build_words[i].code, uuid, words, NULL);
    g_snprintf(number, sizeof number, "%d", rc);
    return fault_set(f, "DOMAIN_BUILDER_ERROR", function, number, words, NULL);
}
