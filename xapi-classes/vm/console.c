/* console.c - the class console: one for each screen or line of a running VM, gone when it halts. */
#include "xapi-classes/handlers.h"
#include "xapi-classes/start.h"
#include "xapi-classes/vm/vm.h"

#include <string.h>

/* Marks those that came with a start; one that a client made stays, without a location, while the VM is halted. */
#define MADE_BY_START "xenapid:start"

static gboolean is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* The address under which clients reach this host. */
static char *host_address(struct txn *t)
{
    struct record *host = txn_get(t, CLASS_host, host_ref());
    const char *address = host != NULL ? record_str(host, F_host_address) : "";
    if (*address == '\0' && host != NULL)
        address = record_str(host, F_host_hostname);
    if (*address == '\0')
        address = "localhost";
    return strchr(address, ':') != NULL ? g_strdup_printf("[%s]", address) : g_strdup(address);
}

static void put_console(struct value_builder *b, const char *uuid, const char *protocol)
{
    struct value_builder one;
    vm_params(&one, uuid);
    value_builder_put_string(&one, "protocol", protocol);
    value_builder_add(b, value_builder_end(&one));
}

/* A client's own consoles, and the one that every VM of its type has. */
struct value *consoles_plan(const struct record *vm)
{
    const char *usual = is(vm_domain_type(vm), "hvm") ? "rfb" : "vt100";
    const struct value *refs = record_field(vm, F_VM_consoles);
    gboolean has_usual = FALSE;
    struct value_builder b;
    value_builder_set(&b, NULL, 2);
    for (gsize i = 0; i < value_count(refs); i++) {
        g_autoptr(record) r = store_get(the_store(), CLASS_console, value_str(value_at(refs, i)));
        if (r == NULL || record_key(r, F_console_other_config, MADE_BY_START) != NULL)
            continue;
        put_console(&b, record_str(r, F_console_uuid), record_str(r, F_console_protocol));
        has_usual |= is(record_str(r, F_console_protocol), usual);
    }
    if (!has_usual) {
        char uuid[UUID_SIZE];
        uuid_generate_text(uuid);
        put_console(&b, uuid, usual);
    }
    return value_builder_end(&b);
}

static struct record *console_with(struct txn *t, const struct record *vm, const char *uuid)
{
    const struct value *refs = record_field(vm, F_VM_consoles);
    for (gsize i = 0; i < value_count(refs); i++) {
        struct record *r = txn_get(t, CLASS_console, value_str(value_at(refs, i)));
        if (r != NULL && is(record_str(r, F_console_uuid), uuid))
            return r;
    }
    return NULL;
}

static void open_one(struct txn *t, const struct record *vm, const struct value *plan, const char *address)
{
    const char *uuid = value_get_str(plan, "uuid", "");
    struct record *r = console_with(t, vm, uuid);
    const char *ref = r != NULL ? r->ref : txn_create(t, CLASS_console, NULL, uuid);
    g_autofree char *location = g_strdup_printf("https://%s/console?uuid=%s", address, uuid);
    if (r == NULL) {
        txn_set_str(t, CLASS_console, ref, F_console_protocol, value_get_str(plan, "protocol", "vt100"));
        txn_set_str(t, CLASS_console, ref, F_console_VM, vm->ref);
        txn_put_key(t, CLASS_console, ref, F_console_other_config, MADE_BY_START, "true");
    }
    txn_set_str(t, CLASS_console, ref, F_console_location, location);
}

void consoles_open(struct txn *t, const char *vm_ref, const struct value *plan)
{
    struct record *vm = txn_get(t, CLASS_VM, vm_ref);
    g_autofree char *address = host_address(t);
    for (gsize i = 0; vm != NULL && i < value_count(plan); i++)
        open_one(t, vm, value_at(plan, i), address);
}

void consoles_close(struct txn *t, const char *vm_ref)
{
    struct record *vm = txn_get(t, CLASS_VM, vm_ref);
    const struct value *refs = vm != NULL ? record_field(vm, F_VM_consoles) : NULL;
    for (gsize i = 0; i < value_count(refs); i++) {
        const char *ref = value_str(value_at(refs, i));
        struct record *r = txn_get(t, CLASS_console, ref);
        if (r != NULL && record_key(r, F_console_other_config, MADE_BY_START) != NULL)
            txn_destroy(t, CLASS_console, ref);
        else if (r != NULL)
            txn_set_str(t, CLASS_console, ref, F_console_location, "");
    }
}

/* Clients of the 1.0 API say before a start which consoles a VM is to have. */
struct value *console_create(struct call *c)
{
    struct value *args = call_arg(c, 0);
    const char *vm = value_get_str(args, "VM", NULL_REF);
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_VM, vm) == NULL) {
        call_fail(c, "HANDLE_INVALID", "VM", vm, NULL);
        return vm_give_up(c, t);
    }
    const char *ref = txn_create(t, CLASS_console, NULL, NULL);
    struct value *other_config = value_get(args, "other_config");
    txn_set_str(t, CLASS_console, ref, F_console_VM, vm);
    txn_set_str(t, CLASS_console, ref, F_console_protocol, value_get_str(args, "protocol", "vt100"));
    if (other_config != NULL)
        txn_set(t, CLASS_console, ref, F_console_other_config, value_map_without(other_config, MADE_BY_START));
    struct value *result = value_string(NULL, ref);
    call_commit(c, t);
    return result;
}
