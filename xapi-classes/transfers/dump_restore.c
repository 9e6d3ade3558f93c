/* dump_restore.c - what a restore leaves for the next start: a line for each object, "CLASS TAB REF TAB JSON". */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <glib/gstdio.h>

#include "daemon/codec/jsonrpc.h"
#include "xapi-classes/transfers/dump.h"

#define NAME   "restore"        /* to be applied */
#define BEFORE "before-restore" /* what was there when one was applied last: the same form */

struct dump_restore {
    char *dir, *name, *new;
    FILE *file;
};

/* ---- the file ---- */

static struct dump_restore *begin(const char *dir, const char *name, struct fault *f)
{
    g_autoptr(dump_restore) d = g_new0(struct dump_restore, 1);
    d->dir = g_strdup(dir);
    d->name = g_build_filename(dir, name, NULL);
    d->new = g_strconcat(d->name, ".new", NULL);
    int fd = open(d->new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    d->file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (d->file)
        return g_steal_pointer(&d);
    fault_set_errno(f, d->new);
    if (fd >= 0)
        close(fd);
    return NULL;
}

struct dump_restore *dump_restore_new(const char *state_dir, struct fault *f)
{
    return begin(state_dir, NAME, f);
}

static gboolean put_line(struct dump_restore *d, const char *class, const char *ref, const char *json, struct fault *f)
{
    return fprintf(d->file, "%s\t%s\t%s\n", class, ref, json) > 0 || fault_set_errno(f, d->new);
}

gboolean dump_restore_add(const struct class *class, const char *ref, struct value *fields, void *data, struct fault *f)
{
    g_autofree char *json = json_text(fields);
    return put_line(data, class->name, ref, json, f);
}

static gboolean sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    gboolean done = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return done;
}

gboolean dump_restore_commit(struct dump_restore *d, struct fault *f)
{
    if (fflush(d->file) != 0 || fsync(fileno(d->file)) != 0 || g_rename(d->new, d->name) != 0 || !sync_dir(d->dir))
        return fault_set_errno(f, d->name);
    return TRUE;
}

void dump_restore_free(struct dump_restore *d)
{
    if (!d)
        return;
    if (d->file) {
        fclose(d->file);
        g_unlink(d->new); /* gone already after a commit */
    }
    g_free(d->dir);
    g_free(d->name);
    g_free(d->new);
    g_free(d);
}

/* ---- at start ---- */

struct applying {
    GArray *changes;  /* struct journal_change */
    GPtrArray *texts; /* that they point into */
    struct dump_restore *before;
    struct fault fault;
};

/* What is there now goes, but for tasks, whose clients may still ask for them. */
static gboolean replace(const char *ref, const char *class, const char *json, gsize len, void *data, GError **error)
{
    struct applying *a = data;
    const struct class *c = class_by_name(class);
    (void) len;
    if (c && !dump_has_class(c))
        return TRUE;
    struct journal_change change = {.ref = g_strdup(ref)};
    g_ptr_array_add(a->texts, (char *) change.ref);
    g_array_append_val(a->changes, change);
    if (put_line(a->before, class, ref, json, &a->fault))
        return TRUE;
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s", a->before->new);
    return FALSE;
}

/* text is cut into its lines. */
static gboolean add_lines(struct applying *a, char *text)
{
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        char *ref = strchr(line, '\t'), *json = ref ? strchr(ref + 1, '\t') : NULL;
        if (!json)
            return FALSE;
        *ref = *json = '\0';
        struct journal_change change = {.ref = ref + 1, .class = line, .json = json + 1, .json_len = strlen(json + 1)};
        g_array_append_val(a->changes, change);
    }
    return TRUE;
}

static gboolean apply(struct journal *j, struct applying *a, char *text, const char *name, GError **error)
{
    if (!j->ops->load(j, replace, a, error))
        return FALSE;
    if (!add_lines(a, text)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s is damaged", name);
        return FALSE;
    }
    if (dump_restore_commit(a->before, &a->fault) &&
        j->ops->commit(j, (const struct journal_change *) (void *) a->changes->data, a->changes->len, &a->fault))
        return TRUE;
    g_autofree char *why = fault_text(&a->fault);
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s cannot be applied: %s", name, why);
    return FALSE;
}

gboolean dump_apply(struct journal *j, const char *state_dir, GError **error)
{
    g_autofree char *name = g_build_filename(state_dir, NAME, NULL), *text = NULL;
    if (!g_file_test(name, G_FILE_TEST_EXISTS))
        return TRUE;
    struct fault f = FAULT_INIT;
    g_autoptr(dump_restore) before = begin(state_dir, BEFORE, &f);
    if (!before) {
        g_autofree char *why = fault_text(&f);
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s", why);
        fault_clear(&f);
        return FALSE;
    }
    if (!g_file_get_contents(name, &text, NULL, error))
        return FALSE;
    struct applying a = {.before = before};
    a.changes = g_array_new(FALSE, FALSE, sizeof(struct journal_change));
    a.texts = g_ptr_array_new_with_free_func(g_free);
    gboolean done = apply(j, &a, text, name, error);
    g_array_unref(a.changes);
    g_ptr_array_unref(a.texts);
    fault_clear(&a.fault);
    if (done && (g_unlink(name) != 0 || !sync_dir(state_dir)))
        g_warning("%s stays, and would be applied again: %s", name, g_strerror(errno));
    if (done)
        g_message("the store was restored from a dump; what was there before is kept in %s", before->name);
    return done;
}
