/* storage_mount.c - file systems that a driver mounts for an SR, and whether they still answer. */
#include "config.h"
#include "xenbackend/storage/storage_mount.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "xenbackend/run.h"
#include "xenbackend/storage/storage_private.h"

#define ANSWER_LIMIT_US (20 * G_TIME_SPAN_SECOND)
#define UMOUNT_LIMIT_S  30

/* ---- mounting ---- */

char *mount_place(const char *name)
{
    return g_build_filename(storage_runtime_dir, "sr-mount", name, NULL);
}

/* Undoes the \ooo by which the kernel writes blanks and backslashes, in place. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *p = text; *p != '\0'; to++) {
        if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' && p[3] >= '0' && p[3] <= '7') {
            *to = (char) ((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
            p += 4;
        } else {
            *to = *p++;
        }
    }
    *to = '\0';
}

/* A line of mountinfo: id parent device root PLACE options [tags] - type SOURCE superoptions. */
static gboolean line_is(const char *line, const char *place, char **source)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    guint n = g_strv_length(words), dash = 6;
    if (n < 9)
        return FALSE;
    unescape(words[4]);
    if (strcmp(words[4], place) != 0)
        return FALSE;
    while (dash < n && strcmp(words[dash], "-") != 0)
        dash++;
    if (source != NULL && dash + 2 < n) {
        unescape(words[dash + 2]);
        g_free(*source);
        *source = g_strdup(words[dash + 2]);
    }
    return TRUE;
}

gboolean mount_find(const char *place, char **source)
{
    g_autofree char *text = NULL;
    gboolean found = FALSE;
    if (source != NULL)
        *source = NULL;
    if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
        return FALSE;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) /* the last one is on top */
        found = line_is(lines[i], place, source) || found;
    return found;
}

gboolean mount_end(const char *place, gboolean lazy, struct fault *f)
{
    const char *const plain[] = {"umount", "--", place, NULL}, *const later[] = {"umount", "-l", "--", place, NULL};
    const struct run_options o = {.timeout_s = UMOUNT_LIMIT_S};
    struct fault why = FAULT_INIT;
    while (mount_find(place, NULL)) {
        if (run_tool(plain, &o, NULL, &why))
            continue;
        if (!lazy || !run_tool(later, &o, NULL, NULL)) {
            fault_move(f, &why);
            return FALSE;
        }
        fault_clear(&why);
    }
    rmdir(place);
    return TRUE;
}

/* A network file system's source is written as it was given, another's (a device, a bind mount) may not be. */
static gboolean is_other(const char *there, const char *wanted)
{
    return strchr(there, ':') != NULL && strcmp(there, wanted) != 0;
}

gboolean mount_at(const char *place, const char *source, const char *const *argv, int timeout_s, struct fault *f)
{
    const struct run_options o = {.timeout_s = timeout_s};
    g_autofree char *there = NULL;
    if (mount_find(place, &there)) {
        if (there == NULL || !is_other(there, source))
            return TRUE;
        if (!mount_end(place, TRUE, f))
            return FALSE;
    }
    if (g_mkdir_with_parents(place, 0700) < 0) {
        g_autofree char *words = g_strdup_printf("%s: %s", place, g_strerror(errno));
        return fault_set(f, "SR_BACKEND_FAILURE", "2", "", words, NULL);
    }
    if (run_tool(argv, &o, NULL, f))
        return TRUE;
    mount_end(place, TRUE, NULL); /* it may have come after all */
    rmdir(place);
    return FALSE;
}

/* ---- does it answer? ---- */

struct mount_watch {
    gint refs;
    GMutex lock;
    GCond changed;
    char *path;
    gboolean asking;
    guint64 asked; /* questions that were answered */
    gint64 since;
    int err; /* of the last one */
};

static void watch_unref(struct mount_watch *w)
{
    if (!g_atomic_int_dec_and_test(&w->refs))
        return;
    g_mutex_clear(&w->lock);
    g_cond_clear(&w->changed);
    g_free(w->path);
    g_free(w);
}

static void *ask(void *data)
{
    struct mount_watch *w = data;
    struct statvfs fs;
    int err = statvfs(w->path, &fs) < 0 ? errno : 0;
    g_mutex_lock(&w->lock);
    w->asking = FALSE;
    w->asked++;
    w->err = err;
    g_cond_broadcast(&w->changed);
    g_mutex_unlock(&w->lock);
    watch_unref(w);
    return NULL;
}

struct mount_watch *mount_watch_new(const char *path)
{
    struct mount_watch *w = g_new0(struct mount_watch, 1);
    w->refs = 1;
    w->path = g_strdup(path);
    g_mutex_init(&w->lock);
    g_cond_init(&w->changed);
    return w;
}

gboolean mount_answers(struct mount_watch *w, struct fault *f)
{
    g_mutex_lock(&w->lock);
    if (!w->asking) {
        w->asking = TRUE;
        w->since = g_get_monotonic_time();
        g_atomic_int_inc(&w->refs);
        g_thread_unref(g_thread_new("mount", ask, w));
    }
    guint64 before = w->asked;
    gint64 until = w->since + ANSWER_LIMIT_US; /* of the question that is under way: who asks later waits less */
    while (w->asked == before && g_cond_wait_until(&w->changed, &w->lock, until))
        continue;
    gboolean late = w->asked == before;
    int err = w->err;
    g_mutex_unlock(&w->lock);
    char number[16];
    g_snprintf(number, sizeof number, "%d", late ? ETIMEDOUT : err);
    g_autofree char *words =
        g_strdup_printf("%s: %s", w->path, late ? "the file system does not answer" : g_strerror(err));
    return (!late && err == 0) || fault_set(f, "SR_BACKEND_FAILURE", number, "", words, NULL);
}

void mount_watch_free(struct mount_watch *w)
{
    if (w != NULL)
        watch_unref(w);
}
