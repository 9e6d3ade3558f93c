/* pam_check.c - conversations with PAM: is this the user's password, may the user come in, take this new one. */
#include "config.h"

#include <security/pam_appl.h>
#include <stdlib.h>
#include <string.h>

#include "auth/helper_private.h"
#include "daemon/process/log.h"

/* What the modules are told, and what they said. */
struct talk {
    const char *user, *password, *new_password;
    gboolean changing; /* prompts may mean the new password */
    GString *said;
};

/* "Current password: ", "(current) UNIX password: ", "Old password: " ask for the old one. */
static gboolean is_about_old(const char *prompt)
{
    g_autofree char *lower = g_ascii_strdown(prompt, -1);
    return strstr(lower, "current") || strstr(lower, "old");
}

static char *reply_to(struct talk *t, const struct pam_message *m)
{
    switch (m->msg_style) {
    case PAM_PROMPT_ECHO_OFF:
        return strdup(t->changing && !is_about_old(m->msg) ? t->new_password : t->password);
    case PAM_PROMPT_ECHO_ON:
        return strdup(t->user);
    case PAM_ERROR_MSG:
        g_string_append_printf(t->said, "%s%s", t->said->len ? "; " : "", m->msg);
        return NULL;
    default:
        return NULL;
    }
}

/* PAM frees the replies, with free(3). */
static int converse(int n, const struct pam_message **messages, struct pam_response **replies, void *data)
{
    if (n <= 0 || n > PAM_MAX_NUM_MSG || !(*replies = calloc((size_t) n, sizeof **replies)))
        return PAM_CONV_ERR;
    for (int i = 0; i < n; i++)
        (*replies)[i].resp = reply_to(data, messages[i]);
    return PAM_SUCCESS;
}

/* The caller makes every failure take as long as another: modules need not. */
static void no_delay(int result, unsigned int usec, void *data)
{
    (void) result, (void) usec, (void) data;
}

static int start(const struct pam_place *p, const char *user, const char *address, const struct pam_conv *conv,
                 pam_handle_t **h)
{
    int result;
#ifdef HAVE_PAM_START_CONFDIR
    if (*p->confdir)
        result = pam_start_confdir(p->service, user, conv, p->confdir, h);
    else
        result = pam_start(p->service, user, conv, h);
#else
    if (*p->confdir)
        return PAM_SYSTEM_ERR;
    result = pam_start(p->service, user, conv, h);
#endif
    if (result != PAM_SUCCESS)
        return result;
    pam_set_item(*h, PAM_FAIL_DELAY, (const void *) no_delay);
    if (*address)
        pam_set_item(*h, PAM_RHOST, address);
    return PAM_SUCCESS;
}

static char *describe(pam_handle_t *h, const char *step, int result, const struct talk *t)
{
    const char *text = pam_strerror(h, result);
    if (result == PAM_NEW_AUTHTOK_REQD)
        text = "the password has expired and must be changed";
    return g_strdup_printf("%s: %s%s%s%s", step, text, t->said->len ? " (" : "", t->said->str, t->said->len ? ")" : "");
}

static char *canonical_name(pam_handle_t *h, const char *user)
{
    const void *item = NULL;
    if (pam_get_item(h, PAM_USER, &item) != PAM_SUCCESS || !item || !*(const char *) item)
        return g_strdup(user);
    return g_strdup(item);
}

gboolean pam_check(const struct pam_place *p, const char *user, const char *password, const char *address, char **name,
                   char **why)
{
    struct talk t = {user, password, NULL, FALSE, g_string_new(NULL)};
    struct pam_conv conv = {converse, &t};
    pam_handle_t *h = NULL;
    const char *step = "starting PAM";
    int result = start(p, user, address, &conv, &h);
    if (result == PAM_SUCCESS) {
        step = "authentication";
        result = pam_authenticate(h, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    }
    if (result == PAM_SUCCESS) {
        step = "account";
        result = pam_acct_mgmt(h, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    }
    if (result == PAM_SUCCESS)
        *name = canonical_name(h, user);
    else
        *why = describe(h, step, result, &t);
    if (h)
        pam_end(h, result);
    g_string_free(t.said, TRUE);
    return result == PAM_SUCCESS;
}

/* The old password is checked first: to root, which we are, PAM gives any user's password away for the asking. An
 * account whose password has expired may do this, no other that is closed. */
gboolean pam_change(const struct pam_place *p, const char *user, const char *old, const char *new, char **why)
{
    struct talk t = {user, old, new, FALSE, g_string_new(NULL)};
    struct pam_conv conv = {converse, &t};
    pam_handle_t *h = NULL;
    const char *step = "starting PAM";
    int result = start(p, user, "", &conv, &h);
    if (result == PAM_SUCCESS) {
        step = "the old password";
        result = pam_authenticate(h, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    }
    if (result == PAM_SUCCESS) {
        step = "account";
        result = pam_acct_mgmt(h, PAM_SILENT);
    }
    if (result == PAM_SUCCESS || result == PAM_NEW_AUTHTOK_REQD) {
        step = "the new password";
        t.changing = TRUE;
        result = pam_chauthtok(h, 0);
    }
    if (result != PAM_SUCCESS)
        *why = describe(h, step, result, &t);
    if (h)
        pam_end(h, result);
    g_string_free(t.said, TRUE);
    return result == PAM_SUCCESS;
}
