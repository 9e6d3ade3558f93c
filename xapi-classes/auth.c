/* auth.c - the class auth: users and groups as the login helper knows them; and how a message asks that helper. */
#include "auth/session.h"
#include "daemon/process/peer.h"
#include "xapi-classes/ask_auth.h"
#include "xapi-classes/handlers.h"

#define TIMEOUT_MS 30000

/* ---- asking ---- */

struct question {
    struct call *call;
    auth_answer_fn *answer;
};

static struct value *answer_of(struct call *c, auth_answer_fn *answer, struct value *result, const struct fault *f)
{
    if (f && f->code) {
        fault_setv(&c->fault, f->code, (const char *const *) f->params);
        return NULL;
    }
    return answer(c, result);
}

static void answered(struct value *result, const struct fault *f, void *data)
{
    struct question *q = data;
    call_complete(q->call, answer_of(q->call, q->answer, result, f));
    g_free(q);
}

static struct value *wait_for_answer(struct call *c, struct peer *helper, const char *method, struct value *params,
                                     auth_answer_fn *answer)
{
    struct peer_options options = {.timeout_ms = TIMEOUT_MS, .cancel = call_cancel_flag(c)};
    struct fault f = FAULT_INIT;
    g_autoptr(value) result = peer_call(helper, method, params, &options, &f);
    struct value *v = answer_of(c, answer, result, &f);
    fault_clear(&f);
    return v;
}

struct value *ask_auth(struct call *c, const char *method, struct value *params, auth_answer_fn *answer)
{
    g_autoptr(value) sent = params;
    struct peer *helper = auth_helper();
    if (!helper)
        return call_fail(c, "AUTH_SERVICE_ERROR", "The service that knows the users is not running", NULL);
    if (c->task)
        return wait_for_answer(c, helper, method, sent, answer);
    struct question *q = g_new(struct question, 1);
    q->call = call_defer(c);
    q->answer = answer;
    peer_call_async(helper, method, sent, TIMEOUT_MS, answered, q);
    return CALL_DEFERRED;
}

/* ---- the messages ---- */

static struct value *one_param(const char *key, const char *text)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, key, text);
    return value_builder_end(&b);
}

static struct value *identifier_answer(G_GNUC_UNUSED struct call *c, struct value *result)
{
    return value_string(NULL, value_get_str(result, "subject_identifier", ""));
}

struct value *auth_get_subject_identifier(struct call *c)
{
    return ask_auth(c, "resolve", one_param("name", call_str(c, 0)), identifier_answer);
}

/* The API's map holds strings only. */
static struct value *information_answer(G_GNUC_UNUSED struct call *c, struct value *result)
{
    struct value_builder b;
    struct value *information = value_get(result, "information");
    if (!information)
        information = result;
    value_builder_map(&b, NULL, value_count(information));
    for (gsize i = 0; i < value_count(information); i++) {
        const struct value_member *m = &information->u.map.m[i];
        if (m->value->type == VALUE_STRING)
            value_builder_put(&b, value_str(m->key), value_ref(m->value));
        else if (m->value->type == VALUE_BOOL)
            value_builder_put_string(&b, value_str(m->key), value_as_bool(m->value) ? "true" : "false");
        else
            value_builder_put(&b, value_str(m->key), value_printf(NULL, "%" G_GINT64_FORMAT, value_as_int(m->value)));
    }
    return value_builder_end(&b);
}

struct value *auth_get_subject_information_from_identifier(struct call *c)
{
    return ask_auth(c, "info", one_param("identifier", call_str(c, 0)), information_answer);
}

static struct value *groups_answer(G_GNUC_UNUSED struct call *c, struct value *result)
{
    struct value *groups = value_get(result, "groups");
    return groups && groups->type == VALUE_SET ? value_ref(groups) : value_empty_set();
}

struct value *auth_get_group_membership(struct call *c)
{
    return ask_auth(c, "groups", one_param("identifier", call_str(c, 0)), groups_answer);
}
