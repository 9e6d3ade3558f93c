/* control.c - a thread that reads the supervisor's wire for the front and calls back. See control.h. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/process/control.h"
#include "daemon/codec/wire.h"

static struct {
    struct control_callbacks call;
    struct wire *wire;
    GThread *thread;
    gint ending;
    GArray *listeners; /* gathered until "start" */
} control;

static gboolean parse_kind(const char *text, enum listener_kind *kind)
{
    static const char *const names[] = {"https", "http", "unix"};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *kind = i;
            return TRUE;
        }
    }
    return FALSE;
}

static int take_fd(struct wire_message *m)
{
    int fd = m->n_fds > 0 ? m->fds[0] : -1;
    m->fds[0] = -1;
    return fd;
}

static void on_listener(struct wire_message *m)
{
    struct control_listener l;
    if (!parse_kind(value_get_str(m->params, "kind", ""), &l.kind) || m->n_fds != 1) {
        g_warning("the supervisor sent a listener of no known kind");
        return;
    }
    l.address = g_strdup(value_get_str(m->params, "address", ""));
    l.fd = take_fd(m);
    g_array_append_val(control.listeners, l);
}

static void on_start(void)
{
    struct control_listener *l = (struct control_listener *) control.listeners->data;
    guint n = control.listeners->len;
    if (control.call.listeners)
        control.call.listeners(l, (int) n, control.call.data);
    for (guint i = 0; i < n; i++)
        g_free(l[i].address);
    g_array_set_size(control.listeners, 0);
}

static void on_helper(struct wire_message *m)
{
    const char *name = value_get_str(m->params, "name", "");
    int fd = take_fd(m);
    if (fd < 0)
        return;
    if (control.call.helper)
        control.call.helper(name, fd, control.call.data);
    else
        close(fd);
}

static void on_ping(gint64 id)
{
    if (!control.call.ping || control.call.ping(control.call.data))
        wire_answer(control.wire, id, NULL, NULL, 0);
}

static void on_message(struct wire_message *m)
{
    const char *method = m->method ? m->method : "";
    if (strcmp(method, "listener") == 0)
        on_listener(m);
    else if (strcmp(method, "helper") == 0)
        on_helper(m);
    else if (strcmp(method, "start") == 0)
        on_start();
    else if (strcmp(method, "ping") == 0)
        on_ping(m->id);
    else if (strcmp(method, "reload") == 0 && control.call.reload)
        control.call.reload(control.call.data);
    else if (strcmp(method, "stop") == 0 && control.call.stop)
        control.call.stop(control.call.data);
}

static void *read_control(void *data)
{
    struct wire_message m;
    (void) data;
    while (wire_read(control.wire, &m, -1) > 0) {
        on_message(&m);
        wire_message_clear(&m);
    }
    if (g_atomic_int_get(&control.ending))
        return NULL;
    g_warning("the supervisor has gone: stopping");
    if (control.call.stop)
        control.call.stop(control.call.data);
    return NULL;
}

gboolean control_start(const struct control_callbacks *c)
{
    const char *text = g_getenv("XENAPID_CONTROL_FD");
    int fd = text ? atoi(text) : -1;
    if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        g_critical("this program is started by xenapid, not by hand");
        return FALSE;
    }
    control.call = *c;
    control.wire = wire_new(fd);
    control.listeners = g_array_new(FALSE, FALSE, sizeof(struct control_listener));
    control.thread = g_thread_new("control", read_control, NULL);
    return TRUE;
}

void control_ready(void)
{
    wire_notify(control.wire, "ready", NULL, NULL, 0);
}

void control_ask(const char *what)
{
    wire_notify(control.wire, what, NULL, NULL, 0);
}

void control_status(const char *text)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put_string(&b, "text", text);
    g_autoptr(value) params = value_builder_end(&b);
    wire_notify(control.wire, "status", params, NULL, 0);
}

void control_end(void)
{
    if (!control.wire)
        return;
    g_atomic_int_set(&control.ending, 1);
    shutdown(wire_fd(control.wire), SHUT_RD);
    g_thread_join(g_steal_pointer(&control.thread));
    struct control_listener *l = (struct control_listener *) control.listeners->data;
    for (guint i = 0; i < control.listeners->len; i++) {
        close(l[i].fd);
        g_free(l[i].address);
    }
    g_array_unref(g_steal_pointer(&control.listeners));
    wire_free(g_steal_pointer(&control.wire));
}
