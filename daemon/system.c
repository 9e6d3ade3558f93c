/* system.c - the introspection calls: system.listMethods, methodSignature, methodHelp, multicall. They need no session
 * and answer bare values, without the Status struct (http://xmlrpc-c.sourceforge.net/introspection.html). */
#include "daemon/dispatch_private.h"
#include "daemon/codec/xmlrpc.h"

#define MAX_MULTICALL 1000

static const char *const system_methods[] = {"system.listMethods", "system.methodSignature", "system.methodHelp",
                                             "system.multicall"};

struct multicall {
    struct rpc_request asked;
    struct value_builder results;
};

/* Not of lists: clients take what comes before ".get_all_records" for a class. */
static gboolean has_async(const struct message *m)
{
    return message_can_be_async(m) && (m->long_running || !m->implicit) && !g_str_has_prefix(m->name, "get_all");
}

/* Made once: the tables never change. */
static struct value *list_methods(void)
{
    static struct value *list;

    if (g_once_init_enter(&list)) {
        struct value_builder b;
        gsize n;
        const struct message *const *all = message_all(&n);
        value_builder_set(&b, NULL, n);
        for (gsize i = 0; i < n; i++) {
            if (!message_is_built(all[i]))
                continue;
            value_builder_add_string(&b, all[i]->full_name);
            if (has_async(all[i]))
                value_builder_add(&b, value_printf(NULL, "Async.%s", all[i]->full_name));
        }
        for (gsize i = 0; i < G_N_ELEMENTS(system_methods); i++)
            value_builder_add_string(&b, system_methods[i]);
        g_once_init_leave(&list, value_builder_end(&b));
    }
    return value_ref(list);
}

static const char *xmlrpc_type(const struct type *t)
{
    switch (t->kind) {
    case TYPE_FLOAT:
        return "double";
    case TYPE_BOOL:
        return "boolean";
    case TYPE_DATETIME:
        return "dateTime.iso8601";
    case TYPE_SET:
        return "array";
    case TYPE_MAP:
    case TYPE_RECORD:
    case TYPE_EVENT_BATCH:
        return "struct";
    default:
        return "string"; /* integers too: 64 bits do not fit <int> */
    }
}

static const struct message *named(const struct rpc_request *req, gboolean *async, struct fault *f)
{
    if (req->n_args != 1) {
        g_autofree char *received = g_strdup_printf("%" G_GSIZE_FORMAT, req->n_args);
        fault_set(f, "MESSAGE_PARAMETER_COUNT_MISMATCH", req->method, "1", received, NULL);
        return NULL;
    }
    const char *name = value_str(req->args[0]);
    *async = g_str_has_prefix(name, "Async.");
    const struct message *m = message_lookup(*async ? name + strlen("Async.") : name);
    if (!m || (*async && !has_async(m))) {
        fault_set(f, "MESSAGE_METHOD_UNKNOWN", name, NULL);
        return NULL;
    }
    return m;
}

static struct value *method_signature(const struct rpc_request *req, struct fault *f)
{
    gboolean async;
    struct value_builder signature, all;
    const struct message *m = named(req, &async, f);
    if (!m)
        return NULL;
    value_builder_set(&signature, NULL, m->n_params + 2);
    value_builder_add_string(&signature, async ? "string" : xmlrpc_type(m->result));
    if (!m->no_session)
        value_builder_add_string(&signature, "string");
    for (int i = 0; i < m->n_params; i++)
        value_builder_add_string(&signature, xmlrpc_type(m->params[i].type));
    value_builder_set(&all, NULL, 1);
    value_builder_add(&all, value_builder_end(&signature));
    return value_builder_end(&all);
}

static struct value *method_help(const struct rpc_request *req, struct fault *f)
{
    gboolean async;
    const struct message *m = named(req, &async, f);
    return m ? value_string(NULL, m->doc) : NULL;
}

gboolean system_call(G_GNUC_UNUSED struct exchange *x, const struct rpc_request *req, struct value **result,
                     struct fault *f)
{
    if (strcmp(req->method, "system.listMethods") == 0)
        *result = list_methods();
    else if (strcmp(req->method, "system.methodSignature") == 0)
        *result = method_signature(req, f);
    else if (strcmp(req->method, "system.methodHelp") == 0)
        *result = method_help(req, f);
    else
        return FALSE;
    return TRUE;
}

/* One {methodName, params} as a request of its own; what is none becomes one with an error. */
static void part(struct exchange *x, struct value *v, struct rpc_request *req)
{
    struct value *params = value_get(v, "params");

    memset(req, 0, sizeof *req);
    req->method = value_get_str(v, "methodName", "");
    req->n_args = value_count(params);
    req->args = arena_alloc(x->arena, sizeof *req->args * (req->n_args + 1));
    for (gsize i = 0; i < req->n_args; i++)
        req->args[i] = value_at(params, i);
    req->result = PARSE_OK;
    if (v->type != VALUE_MAP || !params || params->type != VALUE_SET) {
        req->result = PARSE_INVALID;
        req->error = "a part of system.multicall is {methodName, params}";
    }
}

gboolean multicall_begin(struct exchange *x, const struct rpc_request *req, struct fault *f)
{
    struct value *parts = req->n_args == 1 ? req->args[0] : NULL;
    gsize n = value_count(parts);

    if (x->multicall || x->batch)
        return fault_set(f, "OPERATION_NOT_ALLOWED", "system.multicall cannot be part of another batch", NULL);
    if (!parts || parts->type != VALUE_SET)
        return fault_set(f, "FIELD_TYPE_ERROR", "calls", NULL);
    if (n > MAX_MULTICALL)
        return fault_set(f, "VALUE_NOT_SUPPORTED", "calls", "more than 1000", "too many calls at once", NULL);
    x->multicall = arena_alloc(x->arena, sizeof *x->multicall);
    x->multicall->asked = *req;
    value_builder_set(&x->multicall->results, NULL, n);
    x->reqs = arena_alloc(x->arena, sizeof *x->reqs * (n + 1));
    for (gsize i = 0; i < n; i++)
        part(x, value_at(parts, i), &x->reqs[i]);
    x->n_reqs = n;
    x->next = 0;
    return TRUE;
}

/* Each result is an array of one, as the convention for system.multicall has it; what is in it is what the single call
 * would have answered: the struct with Status, or a bare value. */
void multicall_add(struct exchange *x, struct value *result, const struct fault *f, gboolean bare)
{
    struct value_builder one;

    value_builder_set(&one, NULL, 1);
    value_builder_add(&one, bare && result ? value_ref(result) : xmlrpc_status_value(NULL, result, f));
    value_builder_add(&x->multicall->results, value_builder_end(&one));
}

struct value *multicall_end(struct exchange *x, struct rpc_request *req)
{
    struct value *all = value_builder_end(&x->multicall->results);
    *req = x->multicall->asked;
    x->multicall = NULL;
    return all;
}
