/* fuzz-expr.c - any text as a query over a VM with every field at its default. */
#include "xapi-classes/model/expr.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct record *default_vm(void)
{
    static struct record *r;
    if (!r) {
        model_init();
        const struct class *vm = class_by_id(CLASS_VM);
        r = g_malloc0(sizeof *r + sizeof(struct value *) * vm->n_fields);
        r->class = vm;
        r->ref = "OpaqueRef:1";
        for (int i = 0; i < vm->n_fields; i++)
            r->fields[i] = vm->fields[i].initial_value;
    }
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct record *r = default_vm();
    g_autofree char *text = g_strndup((const char *) data, size);
    struct fault f = FAULT_INIT;
    g_autoptr(expr) e = expr_parse(r->class, text, &f);
    if (e)
        expr_matches(e, r);
    else
        g_assert_nonnull(f.code);
    fault_clear(&f);
    return 0;
}
