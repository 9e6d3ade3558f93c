/* http_route.c - the table of routes, who is behind a request, and answers that may come later. */
#include "config.h"

#include <stdarg.h>
#include <string.h>

#include "daemon/http/http_request.h"

static GArray *routes;

void http_route_add(const struct http_route *row)
{
    struct route route = {row, strlen(row->path)};
    if (!routes)
        routes = g_array_new(FALSE, FALSE, sizeof route);
    g_array_append_val(routes, route);
}

static gboolean route_matches(const struct route *route, const char *path)
{
    return strncmp(path, route->row->path, route->len) == 0 && (path[route->len] == '\0' || path[route->len] == '/');
}

const struct route *route_find(const char *method, const char *path, gboolean *other)
{
    const struct route *best = NULL;
    *other = FALSE;
    for (guint i = 0; routes && i < routes->len; i++) {
        const struct route *route = &g_array_index(routes, struct route, i);
        if (!route_matches(route, path))
            continue;
        *other = TRUE;
        if (strcmp(route->row->method, method) == 0 && (!best || route->len > best->len))
            best = route;
    }
    return best;
}

char *route_allow(const char *path)
{
    GString *allow = g_string_new("OPTIONS");
    for (guint i = 0; routes && i < routes->len; i++) {
        const struct route *route = &g_array_index(routes, struct route, i);
        if (!route_matches(route, path))
            continue;
        g_string_append_printf(allow, ", %s", route->row->method);
        if (strcmp(route->row->method, "GET") == 0)
            g_string_append(allow, ", HEAD");
    }
    return g_string_free(allow, FALSE);
}

/* ---- a request ---- */

void request_unref(struct http_request *r)
{
    if (!g_atomic_int_dec_and_test(&r->refs))
        return;
    if (r->session) {
        if (r->session_is_ours)
            session_end(r->session);
        session_unref(r->session);
    }
    g_free(r->path);
    g_free(r->address);
    g_free(r->user_agent);
    g_free(r->host);
    g_free(r->content_type);
    g_clear_pointer(&r->answer, g_bytes_unref);
    g_ptr_array_unref(r->headers);
    fault_clear(&r->fault);
    g_free(r->ring.data);
    g_cond_clear(&r->changed);
    g_mutex_clear(&r->lock);
    g_free(r);
}

static const char *header(struct http_connection *c, const char *name)
{
    return MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name);
}

static struct http_request *request_new(struct http_connection *c, const struct route *route, const char *path)
{
    struct http_request *r = g_new0(struct http_request, 1);
    r->refs = 1;
    r->c = c;
    r->route = route;
    r->path = g_strdup(path);
    r->headers = g_ptr_array_new_full(4, g_free);
    g_mutex_init(&r->lock);
    g_cond_init(&r->changed);
    r->origin = c->origin;
    r->origin.address = r->address = g_strdup(c->address);
    r->origin.user_agent = r->user_agent = g_strdup(header(c, MHD_HTTP_HEADER_USER_AGENT));
    r->origin.host = r->host = g_strdup(header(c, MHD_HTTP_HEADER_HOST));
    return r;
}

/* ---- who is it ---- */

/* The session that the query or a cookie names, counted, or NULL. */
static struct session *named_session(struct http_connection *c, gboolean *named)
{
    const char *ref = MHD_lookup_connection_value(c->mhd, MHD_GET_ARGUMENT_KIND, "session_id");
    if (!ref)
        ref = MHD_lookup_connection_value(c->mhd, MHD_COOKIE_KIND, "session_id");
    *named = ref != NULL;
    return ref ? session_find(ref) : NULL;
}

/* The user and password of HTTP Basic; the caller wipes and frees *user, which holds both. */
static gboolean basic_credentials(struct http_connection *c, char **user, gsize *size, const char **password)
{
    const char *value = header(c, MHD_HTTP_HEADER_AUTHORIZATION);
    if (!value || g_ascii_strncasecmp(value, "Basic ", 6) != 0)
        return FALSE;
    gsize len;
    guchar *raw = g_base64_decode(value + 6, &len);
    char *text = g_malloc(len + 1);
    memcpy(text, raw, len);
    text[len] = '\0';
    explicit_bzero(raw, len);
    g_free(raw);

    char *colon = strchr(text, ':');
    if (!colon || strlen(text) != len || !g_utf8_validate(text, len, NULL)) {
        explicit_bzero(text, len);
        g_free(text);
        return FALSE;
    }
    *colon = '\0';
    *user = text;
    *size = len + 1;
    *password = colon + 1;
    return TRUE;
}

static void login_done(struct session *s, const struct fault *f, void *data)
{
    struct http_request *r = data;
    g_mutex_lock(&r->lock);
    r->session = s;
    r->session_is_ours = s != NULL;
    if (!s && f)
        fault_setv(&r->fault, f->code, (const char *const *) f->params);
    if (r->c)
        connection_wake(r->c);
    g_mutex_unlock(&r->lock);
    request_unref(r);
}

static gboolean may_be_local_root(const struct http_request *r)
{
    return r->origin.is_unix && r->origin.uid_known && r->origin.uid == 0 && the_conf()->unix_root_is_admin;
}

gboolean request_login(struct http_request *r)
{
    char *user = NULL;
    const char *password = "";
    gsize size = 0;
    gboolean basic = basic_credentials(r->c, &user, &size, &password);
    if (!basic && !may_be_local_root(r))
        return FALSE;

    g_autofree char *originator =
        g_strdup_printf("%s%s", r->user_agent ? r->user_agent : "HTTP", basic ? " using Basic auth" : "");
    r->stage = STAGE_LOGIN;
    connection_phase(r->c, PHASE_RUNNING);
    connection_wait(r->c);
    g_atomic_int_inc(&r->refs);
    session_login(basic ? user : "", password, originator, &r->origin, login_done, r);
    if (user) {
        explicit_bzero(user, size);
        g_free(user);
    }
    return TRUE;
}

/* ---- the way of a request ---- */

enum MHD_Result request_deny(struct http_connection *c)
{
    static const char *const headers[] = {MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Basic realm=\"" PACKAGE_NAME "\"", NULL};
    static const char text[] = "Log in first: session_id in the query or a cookie, or HTTP Basic.\n";
    return send_bytes(c, MHD_HTTP_UNAUTHORIZED, "text/plain", g_bytes_new_static(text, sizeof text - 1), headers);
}

enum MHD_Result request_send(struct http_request *r)
{
    g_ptr_array_add(r->headers, NULL);
    g_ptr_array_add(r->headers, NULL);
    return send_bytes(r->c, r->status, r->content_type, g_steal_pointer(&r->answer),
                      (const char *const *) r->headers->pdata);
}

enum MHD_Result request_suspend_or(struct http_request *r, enum MHD_Result (*next)(struct http_request *r))
{
    if (connection_suspend(r->c))
        return MHD_YES;
    return g_atomic_int_get(&r->c->wait) == WAIT_GONE ? MHD_NO : next(r);
}

gboolean request_is_allowed(struct http_request *r, enum MHD_Result *refused)
{
    const struct http_route *row = r->route->row;
    if (row->access == HTTP_SESSION && !r->session)
        *refused = request_deny(r->c);
    else if (row->role != ROLE_none && !session_has_role(r->session, row->role))
        *refused = send_text(r->c, MHD_HTTP_FORBIDDEN, "Your role does not allow this.\n", NULL);
    else
        return TRUE;
    return FALSE;
}

static enum MHD_Result run_handler(struct http_request *r)
{
    enum MHD_Result refused;
    if (!request_is_allowed(r, &refused))
        return refused;
    r->stage = STAGE_HANDLER;
    connection_phase(r->c, PHASE_RUNNING);
    connection_wait(r->c);
    g_atomic_int_inc(&r->refs);
    r->route->row->handler(r);
    return request_suspend_or(r, request_send);
}

static enum MHD_Result route_end(struct http_connection *c)
{
    struct http_request *r = c->request;
    if (r->stage == STAGE_BODY) {
        if (c->discarded > 0)
            return send_text(c, MHD_HTTP_CONTENT_TOO_LARGE, "The request is too large.\n", NULL);
        if (r->route->row->access == HTTP_PUBLIC || r->session)
            return run_handler(r);
        if (request_login(r))
            return request_suspend_or(r, run_handler);
        return r->route->row->access == HTTP_OPTIONAL ? run_handler(r) : request_deny(c);
    }
    connection_resumed(c);
    if (g_atomic_int_get(&c->wait) != WAIT_DONE)
        return MHD_NO;
    return r->stage == STAGE_LOGIN ? run_handler(r) : request_send(r);
}

static enum MHD_Result route_body(struct http_connection *c, const char *data, gsize len)
{
    const struct conf *conf = the_conf();
    gsize most = c->request->session ? conf->body_size : conf->body_size_login;
    if (c->body_len + len > most) {
        c->discarded += len;
        return c->discarded <= most ? MHD_YES : MHD_NO;
    }
    body_append(c, data, len);
    return MHD_YES;
}

static void route_gone(struct http_connection *c)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&c->request->lock);
    c->request->c = NULL;
}

static void route_finished(struct http_connection *c)
{
    route_gone(c);
    request_unref(g_steal_pointer(&c->request));
    body_done(c);
}

static const struct http_ops route_ops = {route_body, route_end, route_gone, route_finished};

enum MHD_Result route_begin(struct http_connection *c, const struct route *route, const char *path)
{
    gboolean named;
    struct session *session = named_session(c, &named);
    /* A session that is over is told so before a long body is sent. */
    if (named && !session && route->row->access == HTTP_SESSION)
        return plain_begin(c, MHD_HTTP_UNAUTHORIZED, "The session is not valid.\n", NULL);
    c->ops = &route_ops;
    c->request = request_new(c, route, path);
    c->request->session = session;
    return route->row->streams ? stream_begin(c) : MHD_YES;
}

/* ---- what handlers use ---- */

const char *http_path(const struct http_request *r)
{
    return r->path;
}

const char *http_query(const struct http_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->c->mhd, MHD_GET_ARGUMENT_KIND, name);
}

const char *http_header(const struct http_request *r, const char *name)
{
    return header(r->c, name);
}

const char *http_body(const struct http_request *r, gsize *len)
{
    *len = r->c->body_len;
    return r->c->body_len > 0 ? r->c->body : "";
}

const struct origin *http_origin(const struct http_request *r)
{
    return &r->origin;
}

struct session *http_session(const struct http_request *r)
{
    return r->session;
}

gboolean http_is_gone(struct http_request *r)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&r->lock);
    return r->c == NULL;
}

void http_answer_header(struct http_request *r, const char *name, const char *value)
{
    g_ptr_array_add(r->headers, g_strdup(name));
    g_ptr_array_add(r->headers, g_strdup(value));
}

void http_answer(struct http_request *r, guint status, const char *content_type, GBytes *body)
{
    g_mutex_lock(&r->lock);
    r->status = status;
    r->content_type = g_strdup(content_type);
    r->answer = body;
    if (r->route->row->streams)
        stream_answered(r);
    else if (r->c)
        connection_wake(r->c);
    g_mutex_unlock(&r->lock);
    request_unref(r);
}

void http_answer_text(struct http_request *r, guint status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    http_answer(r, status, "text/plain", g_bytes_new_take(text, strlen(text)));
}
