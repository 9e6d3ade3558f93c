/* transfer_console.c - CONNECT /console, and GET /console for WebSocket: a viewer of a running VM's console. GET
 * /vncsnapshot: one look at its screen. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "xapi-classes/transfers/rfb.h"
#include "xapi-classes/transfers/transfer.h"
#include "xapi-classes/transfers/websocket.h"
#include "xenbackend/backend.h"

#define PENDING_MOST (256 * 1024) /* that one side may be ahead of the other */
#define TICK_MS      500          /* how soon the end of the daemon is seen */
#define PICTURE_S    10           /* for a screen to answer */
#define NO_CACHE     "Cache-Control: no-cache, no-store\r\n"

/* ---- which console ---- */

static struct record *console_of(struct transfer *t, const struct record *vm)
{
    const struct value *refs = record_field(vm, F_VM_consoles);
    struct record *found = NULL;
    for (gsize i = 0; i < value_count(refs); i++) {
        struct record *r = store_get(the_store(), CLASS_console, value_str(value_at(refs, i)));
        gboolean screen = r && strcmp(record_str(r, F_console_protocol), "rfb") == 0;
        if (!found || screen) {
            record_unref(found);
            found = r;
        } else {
            record_unref(r);
        }
    }
    if (!found)
        fault_set(&t->fault, "HANDLE_INVALID", "console", vm->ref, NULL);
    return found;
}

/* A console, or a VM for the one that shows most of it, by reference or uuid. */
static struct record *find_console(struct transfer *t)
{
    const char *given = transfer_query(t, "ref") ? transfer_query(t, "ref") : transfer_query(t, "uuid");
    struct record *console = store_get(the_store(), CLASS_console, given);
    if (!console && given)
        console = store_get_by_uuid(the_store(), CLASS_console, given);
    if (console)
        return console;
    g_autoptr(record) vm = transfer_object(t, CLASS_VM, transfer_query(t, "ref") ? "ref" : "uuid");
    return vm ? console_of(t, vm) : NULL;
}

/* A connected socket; -1 with the fault set. */
static int connect_console(struct transfer *t, const struct record *console)
{
    int fds[WIRE_MAX_FDS], n_fds = 0;
    struct peer_options options = {.timeout_ms = 20000, .got_fds = fds, .n_got_fds = &n_fds};
    g_autoptr(record) vm = store_get(the_store(), CLASS_VM, record_str(console, F_console_VM));
    struct value_builder b;
    if (!vm) {
        fault_set(&t->fault, "HANDLE_INVALID", "VM", record_str(console, F_console_VM), NULL);
        return -1;
    }
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "uuid", record_str(vm, F_VM_uuid));
    value_builder_put_string(&b, "protocol", record_str(console, F_console_protocol));
    g_autoptr(value) params = value_builder_end(&b);
    g_autoptr(value) answer = backend_call("console.open", params, &options, &t->fault);
    for (int i = 1; answer && i < n_fds; i++)
        close(fds[i]);
    if (answer && n_fds < 1)
        fault_set(&t->fault, "INTERNAL_ERROR", "the backend gave no descriptor", NULL);
    return answer && n_fds >= 1 ? fds[0] : -1;
}

static int open_console(struct transfer *t)
{
    g_autoptr(record) console = find_console(t);
    return console ? connect_console(t, console) : -1;
}

/* ---- from one to the other ---- */

struct viewer {
    struct transfer *t;
    struct http_socket *client;
    int console;
    struct websocket *ws; /* NULL: bytes as they are */
    GByteArray *to_client, *to_console;
};

/* FALSE at the end. */
static gboolean read_client(struct viewer *v)
{
    guint8 buffer[16 * 1024];
    while (v->to_console->len < PENDING_MOST) {
        gssize n = http_socket_read(v->client, buffer, sizeof buffer);
        if (n <= 0)
            return n == 0;
        if (!v->ws)
            g_byte_array_append(v->to_console, buffer, (guint) n);
        else if (!websocket_decode(v->ws, buffer, (gsize) n, v->to_console, v->to_client))
            return FALSE;
    }
    return TRUE;
}

static gboolean read_console(struct viewer *v)
{
    guint8 buffer[16 * 1024];
    ssize_t n = read(v->console, buffer, sizeof buffer);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return TRUE;
    if (n > 0 && v->ws)
        websocket_encode(v->to_client, buffer, (gsize) n);
    else if (n > 0)
        g_byte_array_append(v->to_client, buffer, (guint) n);
    return n > 0;
}

static gboolean flush_client(struct viewer *v)
{
    while (v->to_client->len > 0) {
        gssize n = http_socket_write(v->client, v->to_client->data, v->to_client->len);
        if (n <= 0)
            return n == 0;
        g_byte_array_remove_range(v->to_client, 0, (guint) n);
    }
    return TRUE;
}

static gboolean flush_console(struct viewer *v)
{
    while (v->to_console->len > 0) {
        ssize_t n = write(v->console, v->to_console->data, v->to_console->len);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        g_byte_array_remove_range(v->to_console, 0, (guint) n);
    }
    return TRUE;
}

static short wanted(gboolean in, gboolean out)
{
    return (short) ((in ? POLLIN : 0) | (out ? POLLOUT : 0));
}

/* Until one of them ends. What the console said last still goes to the client. */
static void pump(struct viewer *v)
{
    gboolean going = TRUE;
    while (going && transfer_may_go_on(v->t)) {
        going = read_client(v) && flush_console(v) && flush_client(v);
        if (!going)
            break;
        struct pollfd p[2] = {
            {http_socket_fd(v->client), wanted(v->to_console->len<PENDING_MOST, v->to_client->len> 0), 0},
            {v->console, wanted(v->to_client->len<PENDING_MOST, v->to_console->len> 0), 0}};
        poll(p, 2, TICK_MS);
        if (p[1].revents & (POLLIN | POLLHUP | POLLERR))
            going = read_console(v);
    }
    flush_client(v);
}

/* ---- the answer ---- */

static void view(struct transfer *t, const char *head, struct websocket *ws)
{
    int console = open_console(t);
    if (console < 0)
        return;
    fcntl(console, F_SETFL, fcntl(console, F_GETFL) | O_NONBLOCK);
    struct viewer v = {.t = t, .console = console, .ws = ws};
    v.client = http_take_over(transfer_take_request(t), head);
    if (v.client) {
        v.to_client = g_byte_array_new();
        v.to_console = g_byte_array_new();
        pump(&v);
        http_socket_close(v.client);
        g_byte_array_unref(v.to_client);
        g_byte_array_unref(v.to_console);
    }
    close(console);
    fault_clear(&t->fault); /* that it ended is no failure */
}

static void view_raw(struct transfer *t)
{
    view(t, "HTTP/1.1 200 OK\r\n" NO_CACHE "\r\n", NULL);
}

/* A page of somebody else must not use the cookie of the one who looks at it. */
static gboolean origin_is_ours(struct transfer *t)
{
    const char *origin = transfer_query(t, "Origin"), *host = transfer_query(t, "Host");
    const char *name = origin ? strstr(origin, "://") : NULL;
    const GStrv others = the_conf()->cors_origins;
    if (!origin || transfer_flag(t, "session in query"))
        return TRUE;
    if (others &&
        (g_strv_contains((const char *const *) others, origin) || g_strv_contains((const char *const *) others, "*")))
        return TRUE;
    return name && host && g_ascii_strcasecmp(name + 3, host) == 0;
}

static gboolean lists(const char *header, const char *word)
{
    g_auto(GStrv) words = g_strsplit(header ? header : "", ",", 64);
    for (gsize i = 0; words[i]; i++)
        if (g_ascii_strcasecmp(g_strstrip(words[i]), word) == 0)
            return TRUE;
    return FALSE;
}

static void refuse(struct transfer *t, guint status, const char *text)
{
    struct http_request *r = transfer_take_request(t);
    if (status == 426)
        http_answer_header(r, "Upgrade", "websocket");
    http_answer_text(r, status, "%s\n", text);
}

static void view_websocket(struct transfer *t)
{
    const char *key = transfer_query(t, "Sec-WebSocket-Key"), *version = transfer_query(t, "Sec-WebSocket-Version");
    struct websocket ws = {.closed = FALSE};
    if (!lists(transfer_query(t, "Upgrade"), "websocket") || !key || g_strcmp0(version, "13") != 0) {
        refuse(t, 426, "Consoles are for CONNECT and WebSocket (version 13).");
        return;
    }
    if (!origin_is_ours(t)) {
        refuse(t, 403, "This page may not open consoles here.");
        return;
    }
    g_autofree char *accept = websocket_accept(key);
    const char *protocol =
        lists(transfer_query(t, "Sec-WebSocket-Protocol"), "binary") ? "Sec-WebSocket-Protocol: binary\r\n" : "";
    g_autofree char *head = g_strdup_printf("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                            "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s" NO_CACHE "\r\n",
                                            accept, protocol);
    view(t, head, &ws);
}

/* ---- a picture of the screen ---- */

static gboolean shows_screen(struct transfer *t, const struct record *console)
{
    return strcmp(record_str(console, F_console_protocol), "rfb") == 0 ||
           fault_set(&t->fault, "OPERATION_NOT_ALLOWED", "a text console has no picture", NULL);
}

static void take_picture(struct transfer *t)
{
    struct rfb_picture picture;
    g_autoptr(record) console = find_console(t);
    if (!console || (transfer_query(t, "task_id") && !transfer_begin_task(t)) || !shows_screen(t, console))
        return;
    int fd = connect_console(t, console);
    if (fd < 0)
        return;
    gint64 deadline = g_get_monotonic_time() + PICTURE_S * G_TIME_SPAN_SECOND;
    gboolean seen = rfb_look(fd, deadline, &t->cancel, &picture, &t->fault);
    close(fd);
    if (!seen)
        return;
    GBytes *png = rfb_png(&picture);
    g_free(picture.pixels);
    http_answer_header(t->r, "Cache-Control", "no-cache, no-store");
    http_answer(transfer_take_request(t), 200, "image/png", png);
}

static void on_picture(struct http_request *r)
{
    transfer_run(r, "vncsnapshot", take_picture);
}

static void on_connect(struct http_request *r)
{
    transfer_run(r, "console", view_raw);
}

static void on_get(struct http_request *r)
{
    transfer_run(r, "console", view_websocket);
}

void transfer_console_init(void)
{
    static const struct http_route routes[] = {
        {"CONNECT", "/console", HTTP_SESSION, ROLE_vm_operator, on_connect, TRUE},
        {"GET", "/console", HTTP_SESSION, ROLE_vm_operator, on_get, TRUE},
        {"GET", "/vncsnapshot", HTTP_SESSION, ROLE_vm_operator, on_picture, TRUE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(routes); i++)
        http_route_add(&routes[i]);
}
