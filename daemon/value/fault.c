/* fault.c - why a call failed: an error code of the API and its parameters. */
#include "daemon/value/value.h"

#include <errno.h>

gboolean fault_setv(struct fault *f, const char *code, const char *const *params)
{
    if (f == NULL || f->code != NULL)
        return FALSE;
    f->code = g_strdup(code);
    f->params = g_strdupv((char **) params);
    return FALSE;
}

gboolean fault_set(struct fault *f, const char *code, ...)
{
    if (f == NULL || f->code != NULL)
        return FALSE;
    va_list ap;
    g_autoptr(GPtrArray) params = g_ptr_array_new();
    va_start(ap, code);
    for (const char *s; (s = va_arg(ap, const char *)) != NULL;)
        g_ptr_array_add(params, g_strdup(s));
    va_end(ap);
    g_ptr_array_add(params, NULL);
    f->code = g_strdup(code);
    f->params = (GStrv) g_ptr_array_free(g_steal_pointer(&params), FALSE);
    return FALSE;
}

gboolean fault_set_errno(struct fault *f, const char *name)
{
    int why = errno;
    g_autofree char *text = g_strdup_printf("%s: %s", name, g_strerror(why));
    if (why == ENOSPC || why == EDQUOT)
        return fault_set(f, "OUT_OF_SPACE", name, NULL);
    return fault_set(f, "INTERNAL_ERROR", text, NULL);
}

void fault_move(struct fault *dst, struct fault *src)
{
    if (dst != NULL && dst->code == NULL) {
        *dst = *src;
        *src = (struct fault) FAULT_INIT;
    }
    fault_clear(src);
}

void fault_clear(struct fault *f)
{
    g_clear_pointer(&f->code, g_free);
    g_clear_pointer(&f->params, g_strfreev);
}

char *fault_text(const struct fault *f)
{
    g_autofree char *params = f->params != NULL ? g_strjoinv(", ", f->params) : NULL;
    return g_strdup_printf("%s [%s]", f->code != NULL ? f->code : "", params != NULL ? params : "");
}

struct value *fault_value(struct arena *a, const struct fault *f)
{
    struct value_builder b;
    value_builder_set(&b, a, 4);
    value_builder_add_string(&b, f->code != NULL ? f->code : "");
    for (guint i = 0; f->params != NULL && f->params[i] != NULL; i++)
        value_builder_add_string(&b, f->params[i]);
    return value_builder_end(&b);
}
