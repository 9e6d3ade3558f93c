/* xen_store.c - reading and writing xenstore. */
#include "config.h"
#include "xenbackend/xen.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static char *read_path(const char *path)
{
    unsigned int len;
    char *raw = xs_read(xen.xs, XBT_NULL, path, &len);
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
    return xs_write(xen.xs, XBT_NULL, full, text, (unsigned int) strlen(text));
}

gboolean xen_remove(const char *path, ...)
{
    FORMAT_PATH(full, path);
    return xs_rm(xen.xs, XBT_NULL, full);
}

GStrv xen_list(const char *path, ...)
{
    FORMAT_PATH(full, path);
    unsigned int n = 0;
    char **names = xs_directory(xen.xs, XBT_NULL, full, &n);
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
