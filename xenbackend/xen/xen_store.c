/* xen_store.c - reading and writing xenstore, and what is done when it does not answer. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE (10 * G_TIME_SPAN_SECOND)
#define LOOK_US  (2 * G_TIME_SPAN_SECOND)

/* ---- an answer that does not come ---- */

static struct {
    GMutex lock;
    guint waiting;  /* calls */
    gint64 since;   /* the monotonic time of the last answer, or of the first call that waits */
    gboolean ready; /* requests are taken: they can be refused */
} guard;

static void call_begins(void)
{
    g_mutex_lock(&guard.lock);
    if (guard.waiting++ == 0)
        guard.since = g_get_monotonic_time();
    g_mutex_unlock(&guard.lock);
}

static void call_ends(void)
{
    int saved = errno;
    g_mutex_lock(&guard.lock);
    guard.waiting--;
    guard.since = g_get_monotonic_time();
    g_mutex_unlock(&guard.lock);
    errno = saved;
}

static gboolean is_stuck(gboolean *ready)
{
    g_mutex_lock(&guard.lock);
    gboolean stuck = guard.waiting > 0 && g_get_monotonic_time() - guard.since > PATIENCE;
    *ready = guard.ready;
    g_mutex_unlock(&guard.lock);
    return stuck;
}

/* Storage needs no xenstore. */
static gboolean is_spared(const char *method)
{
    return g_str_has_prefix(method, "sr.") || g_str_has_prefix(method, "vdi.");
}

static void give_up(void)
{
    struct fault f = FAULT_INIT;
    g_critical("xenstored has not answered for %d seconds: look whether it runs (ps), is stopped, or lacks memory or "
               "disk. Until it answers nothing can be done with guests, which go on. Do not restart it: that needs a "
               "reboot of the host",
               (int) (PATIENCE / G_TIME_SPAN_SECOND));
    fault_set(&f, "INTERNAL_ERROR", "xenstored does not answer", NULL);
    helper_refuse(&f, is_spared);
    fault_clear(&f);
}

/* A call of libxenstore cannot be taken back. Its thread waits on, but those who wait for it are told. */
static void *watch_over(void *data G_GNUC_UNUSED)
{
    gboolean was_stuck = FALSE, ready;
    for (;;) {
        g_usleep(LOOK_US);
        gboolean stuck = is_stuck(&ready);
        if (stuck && !ready) {
            g_critical("xenstored does not answer: nothing can be begun");
            _exit(1); /* the supervisor tries again */
        }
        if (stuck && !was_stuck)
            give_up();
        if (!stuck && was_stuck) {
            g_message("xenstored answers again");
            helper_accept();
            xen_watch_tell_again();
        }
        was_stuck = stuck;
    }
    return NULL;
}

struct xs_handle *xen_store_open(void)
{
    call_begins();
    struct xs_handle *xs = xs_open(0);
    call_ends();
    return xs;
}

void xen_store_guard(void)
{
    g_thread_unref(g_thread_new("xenstore", watch_over, NULL));
}

void xen_store_ready(void)
{
    g_mutex_lock(&guard.lock);
    guard.ready = TRUE;
    g_mutex_unlock(&guard.lock);
}

/* ---- calls ---- */

static char *read_path(const char *path)
{
    unsigned int len;
    call_begins();
    char *raw = xs_read(xen.xs, XBT_NULL, path, &len);
    call_ends();
    char *text = raw != NULL ? g_strndup(raw, len) : NULL; /* guests may write NULs */
    free(raw);
    return text;
}

#define FORMAT_PATH(name, format)                                                                                      \
    va_list ap;                                                                                                        \
    va_start(ap, format);                                                                                              \
    g_autofree char *name = g_strdup_vprintf(format, ap);                                                              \
    va_end(ap)

char *xen_read(const char *path, ...)
{
    FORMAT_PATH(full, path);
    return read_path(full);
}

gint64 xen_read_int(gint64 otherwise, const char *path, ...)
{
    FORMAT_PATH(full, path);
    g_autofree char *text = read_path(full);
    char *end;
    if (text == NULL || *text == '\0')
        return otherwise;
    gint64 n = g_ascii_strtoll(text, &end, 10);
    return end != text ? n : otherwise;
}

gboolean xen_write(const char *text, const char *path, ...)
{
    FORMAT_PATH(full, path);
    call_begins();
    gboolean written = xs_write(xen.xs, XBT_NULL, full, text, (unsigned int) strlen(text));
    call_ends();
    return written;
}

gboolean xen_remove(const char *path, ...)
{
    FORMAT_PATH(full, path);
    call_begins();
    gboolean removed = xs_rm(xen.xs, XBT_NULL, full);
    call_ends();
    return removed;
}

GStrv xen_list(const char *path, ...)
{
    FORMAT_PATH(full, path);
    unsigned int n = 0;
    call_begins();
    char **names = xs_directory(xen.xs, XBT_NULL, full, &n);
    call_ends();
    GStrv copy = g_new0(char *, (names != NULL ? n : 0) + 1);
    for (unsigned int i = 0; names != NULL && i < n; i++)
        copy[i] = g_strdup(names[i]);
    free(names); /* one block, with the texts in it */
    return copy;
}

char *xen_guest_text(const char *text, gsize max)
{
    g_autofree char *cut = g_strndup(text, max);
    char *valid = g_utf8_make_valid(cut, -1);
    for (char *c = valid; *c != '\0'; c++)
        if (g_ascii_iscntrl(*c))
            *c = ' ';
    return valid;
}
