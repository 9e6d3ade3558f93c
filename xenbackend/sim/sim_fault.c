/* sim_fault.c - requests that are made to go wrong: sim.fault puts rules into a list, each request takes its own. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "daemon/codec/jsonrpc.h"

enum kind { FAIL, HANG, DIE, SLOW, N_KINDS };
static const char *const kinds[N_KINDS] = {"fail", "hang", "die", "slow"};

struct rule {
    char *method; /* "*": all but sim.* */
    char *uuid;   /* NULL: of any object */
    enum kind kind;
    gboolean after; /* when the work is done, before the answer */
    gint64 left;    /* requests that it is for; 0 or less: all */
    gint64 ms;
    char *code;
    GStrv params;
};

static GMutex lock; /* guards rules; no other is taken with it */
static GQueue rules = G_QUEUE_INIT;

static void rule_free(struct rule *r)
{
    g_free(r->method);
    g_free(r->uuid);
    g_free(r->code);
    g_strfreev(r->params);
    g_free(r);
}

/* ---- requests ---- */

static gboolean names_uuid(struct value *params, const char *uuid)
{
    static const char *const keys[] = {"uuid", "sr", "vdi", "new"};
    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++)
        if (strcmp(value_get_str(params, keys[i], ""), uuid) == 0)
            return TRUE;
    return strcmp(value_get_str(value_get(params, "config"), "uuid", ""), uuid) == 0;
}

static gboolean matches(const struct rule *r, const struct helper_request *req, gboolean after)
{
    gboolean named =
        strcmp(r->method, req->method) == 0 || (strcmp(r->method, "*") == 0 && !g_str_has_prefix(req->method, "sim."));
    return named && r->after == after && (r->uuid == NULL || names_uuid(req->params, r->uuid));
}

/* The first rule that is for this request, as a copy; its count goes down. NULL when there is none. */
static struct rule *take(const struct helper_request *req, gboolean after)
{
    struct rule *copy = NULL;
    g_mutex_lock(&lock);
    GList *l = rules.head;
    while (l != NULL && !matches(l->data, req, after))
        l = l->next;
    if (l != NULL) {
        struct rule *r = l->data;
        copy = g_memdup2(r, sizeof(*r));
        copy->method = NULL;
        copy->uuid = NULL;
        copy->code = g_strdup(r->code);
        copy->params = g_strdupv(r->params);
        if (r->left > 0 && --r->left == 0) {
            g_queue_delete_link(&rules, l);
            rule_free(r);
        }
    }
    g_mutex_unlock(&lock);
    return copy;
}

static gboolean apply(struct helper_request *req, gboolean after, struct fault *f)
{
    struct rule *r = take(req, after);
    gboolean go_on = TRUE;
    if (r == NULL)
        return TRUE;
    switch (r->kind) {
    case FAIL:
        go_on = fault_setv(f, r->code, (const char *const *) r->params);
        break;
    case HANG: /* for ms, or until it is cancelled */
        while (helper_sleep(req, r->ms > 0 ? (guint64) r->ms : 3600 * 1000) && r->ms <= 0)
            continue;
        go_on = after || fault_set(f, "TASK_CANCELLED", "", NULL);
        break;
    case DIE:
        if (r->ms > 0)
            helper_sleep(req, (guint64) r->ms);
        raise(SIGKILL);
        break;
    case SLOW:
        go_on = helper_sleep(req, (guint64) MAX(r->ms, 0)) || after || fault_set(f, "TASK_CANCELLED", "", NULL);
        break;
    case N_KINDS:
        break;
    }
    rule_free(r);
    return go_on;
}

gboolean sim_fault_before(struct helper_request *req, struct fault *f)
{
    return apply(req, FALSE, f);
}

gboolean sim_fault_after(struct helper_request *req, struct fault *f)
{
    return apply(req, TRUE, f);
}

/* ---- sim.fault ---- */

/* A set of strings, a JSON text of one, or one string. */
static GStrv as_strv(struct value *v)
{
    g_autoptr(value) parsed = NULL;
    if (v == NULL)
        return g_new0(char *, 1);
    if (v->type == VALUE_STRING && *value_str(v) == '[')
        v = parsed = json_parse(NULL, value_str(v), strlen(value_str(v)), NULL, NULL);
    GPtrArray *strv = g_ptr_array_new();
    if (v != NULL && v->type == VALUE_STRING)
        g_ptr_array_add(strv, g_strdup(value_str(v)));
    for (gsize i = 0; i < value_count(v); i++)
        g_ptr_array_add(strv, g_strdup(value_str(value_at(v, i))));
    g_ptr_array_add(strv, NULL);
    return (GStrv) g_ptr_array_free(strv, FALSE);
}

static void clear_rules(void)
{
    g_mutex_lock(&lock);
    for (struct rule *r; (r = g_queue_pop_head(&rules)) != NULL;)
        rule_free(r);
    g_mutex_unlock(&lock);
}

static gboolean truthy(struct value *v)
{
    return value_as_bool(v) || strcmp(value_str(v), "true") == 0;
}

struct value *sim_fault(struct sim_op *op, struct fault *f)
{
    struct value *p = op->params;
    if (truthy(value_get(p, "clear"))) {
        clear_rules();
        return value_empty_map();
    }
    const char *kind_text = value_get_str(p, "kind", "fail"), *when = value_get_str(p, "when", "before");
    int kind = 0;
    while (kind < N_KINDS && strcmp(kinds[kind], kind_text) != 0)
        kind++;
    gboolean after = strcmp(when, "after") == 0;
    if (kind == N_KINDS) {
        fault_set(f, "INVALID_VALUE", "kind", kind_text, NULL);
        return NULL;
    }
    if ((!after && strcmp(when, "before") != 0) || (after && kind == FAIL)) {
        fault_set(f, "INVALID_VALUE", "when", when, NULL);
        return NULL;
    }
    struct rule *r = g_new0(struct rule, 1);
    r->method = g_strdup(value_get_str(p, "method", "*"));
    r->uuid = g_strdup(value_get_str(p, "uuid", NULL));
    r->kind = (enum kind) kind;
    r->after = after;
    r->left = sim_int(p, "count", 1);
    r->ms = sim_int(p, "ms", 0);
    r->code = g_strdup(value_get_str(p, "code", "INTERNAL_ERROR"));
    r->params = as_strv(value_get(p, "params"));
    g_mutex_lock(&lock);
    g_queue_push_tail(&rules, r);
    g_mutex_unlock(&lock);
    return value_empty_map();
}

struct value *sim_fault_list(void)
{
    struct value_builder set, b;
    value_builder_set(&set, NULL, 0);
    g_mutex_lock(&lock);
    for (GList *l = rules.head; l != NULL; l = l->next) {
        const struct rule *r = l->data;
        value_builder_map(&b, NULL, 8);
        value_builder_put_string(&b, "method", r->method);
        value_builder_put_string(&b, "kind", kinds[r->kind]);
        value_builder_put_string(&b, "when", r->after ? "after" : "before");
        value_builder_put(&b, "count", value_int(NULL, r->left));
        value_builder_put_string(&b, "code", r->code);
        value_builder_put(&b, "params", value_string_set(NULL, (const char *const *) r->params));
        value_builder_put(&b, "ms", value_int(NULL, r->ms));
        value_builder_add(&set, value_builder_end(&b));
    }
    g_mutex_unlock(&lock);
    return value_builder_end(&set);
}
