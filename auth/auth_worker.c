/* auth_worker.c - one question about a user, in a process that lives no longer than its answer. */
#include "config.h"

#include <fcntl.h>
#include <string.h>

#include "auth/helper_private.h"
#include "daemon/process/log.h"
#include "daemon/codec/wire.h"

#define WORKER_FD   3
#define NAME_LENGTH 256

/* What no user's name has and a log, a passwd file or a path would choke on. */
static gboolean is_good_name(const char *user)
{
    gsize len = strlen(user);
    if (len == 0 || len > NAME_LENGTH || *user == '-')
        return FALSE;
    for (const char *p = user; *p; p++) {
        if ((guchar) *p < ' ' || *p == 0x7f || strchr(":/", *p))
            return FALSE;
    }
    return TRUE;
}

static const char *member(struct value *request, const char *key)
{
    return value_get_str(request, key, "");
}

static void wipe(struct value *request, const char *key)
{
    const char *secret = member(request, key);
    explicit_bzero((char *) secret, strlen(secret));
}

static struct value *authenticate(const struct pam_place *p, struct value *request, struct fault *f)
{
    const char *user = member(request, "user");
    g_autofree char *name = NULL, *why = NULL, *shown = log_escape(user);
    gboolean good = FALSE;
    if (is_good_name(user))
        good = pam_check(p, user, member(request, "password"), member(request, "address"), &name, &why);
    else
        why = g_strdup("not a user's name");
    wipe(request, "password");
    if (good)
        return users_identity(name);
    g_message("login of \"%s\" refused: %s", shown, why);
    fault_set(f, "SESSION_AUTHENTICATION_FAILED", user, "", NULL);
    return NULL;
}

static struct value *change_password(const struct pam_place *p, struct value *request, struct fault *f)
{
    const char *user = member(request, "user");
    g_autofree char *why = NULL, *shown = log_escape(user);
    gboolean good = FALSE;
    if (!is_good_name(user))
        why = g_strdup("not a user's name");
    else if (!*member(request, "new"))
        why = g_strdup("the new password is empty");
    else
        good = pam_change(p, user, member(request, "old"), member(request, "new"), &why);
    wipe(request, "old");
    wipe(request, "new");
    if (good) {
        g_message("\"%s\" has changed the password", shown);
        return value_void();
    }
    g_message("a new password for \"%s\" was refused: %s", shown, why);
    fault_set(f, "CHANGE_PASSWORD_REJECTED", why, NULL);
    return NULL;
}

static struct value *dispatch(const char *method, const struct pam_place *p, struct value *request, struct fault *f)
{
    if (strcmp(method, "authenticate") == 0)
        return authenticate(p, request, f);
    if (strcmp(method, "change_password") == 0)
        return change_password(p, request, f);
    if (strcmp(method, "resolve") == 0)
        return users_resolve(member(request, "name"), f);
    if (strcmp(method, "info") == 0)
        return users_information(member(request, "identifier"), f);
    if (strcmp(method, "groups") == 0) {
        const char *user = member(request, "user");
        g_autofree char *identifier = *user ? g_strconcat("u:", user, NULL) : g_strdup(member(request, "identifier"));
        return users_groups(identifier, f);
    }
    fault_set(f, "MESSAGE_METHOD_UNKNOWN", method, NULL);
    return NULL;
}

static void answer(struct wire *wire, const struct wire_message *m)
{
    struct value *request = value_get(m->params, "request");
    struct pam_place p = {member(m->params, "service"), member(m->params, "confdir")};
    struct log_context context = {.method = m->method,
                                  .request_id = (guint64) value_as_int(value_get(m->params, "id"))};
    struct fault f = FAULT_INIT;
    log_init("xenapid-auth", (enum log_level) value_as_int(value_get(m->params, "log_level")));
    log_push(&context);
    g_autoptr(value) result = dispatch(m->method, &p, request, &f);
    if (result)
        wire_answer(wire, m->id, result, NULL, 0);
    else
        wire_answer_fault(wire, m->id, &f);
    fault_clear(&f);
    log_push(NULL);
}

int worker_main(void)
{
    struct wire_message m;
    /* Not for what modules execute. */
    if (fcntl(WORKER_FD, F_SETFD, FD_CLOEXEC) < 0)
        return 2;
    struct wire *wire = wire_new(WORKER_FD);
    int got = wire_read(wire, &m, -1);
    if (got > 0 && m.method)
        answer(wire, &m);
    if (got > 0)
        wire_message_clear(&m);
    wire_free(wire);
    return got > 0 ? 0 : 1;
}
