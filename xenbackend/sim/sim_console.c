/* sim_console.c - console.open: a simulated guest's login prompt, or its screen, which shows one colour. Each viewer
 * has a socket and a thread of its own; they end with the domain. */
#include "config.h"
#include "xenbackend/sim/sim.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK_MS 100 /* how soon the end of a domain is seen */
#define WIDTH   64
#define HEIGHT  48

struct viewer {
    struct sim_domain *domain;
    char *name;
    int fd;
};

/* ---- reading and writing, while the domain lives ---- */

static gboolean is_alive(struct viewer *v)
{
    g_mutex_lock(&sim.lock);
    gboolean alive = !v->domain->gone && (1u << v->domain->power & SIM_ALIVE);
    g_mutex_unlock(&sim.lock);
    return alive;
}

/* Some bytes; 0: the end. */
static gsize get_some(struct viewer *v, void *buffer, gsize room)
{
    while (is_alive(v)) {
        struct pollfd p = {v->fd, POLLIN, 0};
        if (poll(&p, 1, TICK_MS) <= 0)
            continue;
        ssize_t n = recv(v->fd, buffer, room, 0);
        if (n >= 0 || errno != EINTR)
            return n > 0 ? (gsize) n : 0;
    }
    return 0;
}

static gboolean get(struct viewer *v, void *buffer, gsize len)
{
    for (gsize done = 0, n; done < len; done += n)
        if ((n = get_some(v, (char *) buffer + done, len - done)) == 0)
            return FALSE;
    return TRUE;
}

static gboolean put(struct viewer *v, const void *data, gsize len)
{
    for (gsize done = 0; done < len && is_alive(v);) {
        struct pollfd p = {v->fd, POLLOUT, 0};
        if (poll(&p, 1, TICK_MS) <= 0)
            continue;
        ssize_t n = send(v->fd, (const char *) data + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return FALSE;
        done += n > 0 ? (gsize) n : 0;
        if (done == len)
            return TRUE;
    }
    return len == 0;
}

static gboolean put_text(struct viewer *v, const char *text)
{
    return put(v, text, strlen(text));
}

/* ---- the text console: what is typed is shown; nobody ever logs in ---- */

static gboolean prompt(struct viewer *v)
{
    return put_text(v, "\r\n") && put_text(v, v->name) && put_text(v, " login: ");
}

static gboolean typed(struct viewer *v, char key)
{
    if (key == '\r' || key == '\n')
        return put_text(v, "\r\nLogin incorrect\r\n") && prompt(v);
    if (key == '\b' || key == 0x7f)
        return put_text(v, "\b \b");
    return put(v, &key, 1);
}

static void serve_text(struct viewer *v)
{
    char keys[256];
    gboolean going = put_text(v, "\r\nSimulated guest on hvc0\r\n") && prompt(v);
    while (going) {
        gsize n = get_some(v, keys, sizeof keys);
        going = n > 0;
        for (gsize i = 0; going && i < n; i++)
            going = typed(v, keys[i]);
    }
}

/* ---- the screen: RFB 3.8 and 3.3 (RFC 6143) without authentication ---- */

static void store16(guint8 *p, guint16 n)
{
    p[0] = n >> 8;
    p[1] = n & 0xff;
}

static void store32(guint8 *p, guint32 n)
{
    store16(p, n >> 16);
    store16(p + 2, n & 0xffff);
}

static gboolean greet(struct viewer *v)
{
    static const guint8 none[] = {1, 1}, done[4] = {0}, old_none[] = {0, 0, 0, 1};
    char version[12];
    guint8 choice, shared;
    if (!put_text(v, "RFB 003.008\n") || !get(v, version, sizeof version) || memcmp(version, "RFB 003.", 8) != 0)
        return FALSE;
    gboolean old = memcmp(version + 8, "003", 3) == 0;
    if (old ? !put(v, old_none, sizeof old_none)
            : !put(v, none, sizeof none) || !get(v, &choice, 1) || choice != 1 || !put(v, done, sizeof done))
        return FALSE;
    return get(v, &shared, 1);
}

static gboolean describe(struct viewer *v)
{
    static const guint8 format[16] = {32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0};
    guint8 head[24];
    store16(head, WIDTH);
    store16(head + 2, HEIGHT);
    memcpy(head + 4, format, sizeof format);
    store32(head + 20, (guint32) strlen(v->name));
    return put(v, head, sizeof head) && put_text(v, v->name);
}

/* The whole screen, whatever part was asked for, in the bytes per pixel that the client wants. */
static gboolean update(struct viewer *v, guint bytes_per_pixel)
{
    guint8 head[16] = {0, 0, 0, 1};
    guint8 pixels[WIDTH * 4];
    store16(head + 8, WIDTH);
    store16(head + 10, HEIGHT);
    memset(pixels, 0x40, sizeof pixels);
    gboolean going = put(v, head, sizeof head);
    for (int y = 0; going && y < HEIGHT; y++)
        going = put(v, pixels, WIDTH * (gsize) bytes_per_pixel);
    return going;
}

static gboolean skip(struct viewer *v, gsize len)
{
    char buffer[256];
    for (; len > 0; len -= MIN(len, sizeof buffer))
        if (!get(v, buffer, MIN(len, sizeof buffer)))
            return FALSE;
    return TRUE;
}

/* One message of the client. A screen that does not change is sent once; later the client waits, as with a real one. */
static gboolean serve_message(struct viewer *v, guint *bytes_per_pixel)
{
    guint8 type, body[20];
    if (!get(v, &type, 1))
        return FALSE;
    switch (type) {
    case 0: /* SetPixelFormat */
        if (!get(v, body, 19))
            return FALSE;
        *bytes_per_pixel = body[3] / 8;
        return *bytes_per_pixel == 1 || *bytes_per_pixel == 2 || *bytes_per_pixel == 4;
    case 2: /* SetEncodings */
        return get(v, body, 3) && skip(v, 4u * (body[1] << 8 | body[2]));
    case 3: /* FramebufferUpdateRequest */
        return get(v, body, 9) && (body[0] != 0 || update(v, *bytes_per_pixel));
    case 4: /* KeyEvent */
        return skip(v, 7);
    case 5: /* PointerEvent */
        return skip(v, 5);
    case 6: /* ClientCutText */
        return get(v, body, 7) && skip(v, (gsize) body[3] << 24 | body[4] << 16 | body[5] << 8 | body[6]);
    default:
        return FALSE;
    }
}

static void serve_screen(struct viewer *v)
{
    guint bytes_per_pixel = 4;
    gboolean going = greet(v) && describe(v);
    while (going)
        going = serve_message(v, &bytes_per_pixel);
}

/* ---- viewers ---- */

static void viewer_free(struct viewer *v)
{
    close(v->fd);
    g_mutex_lock(&sim.lock);
    sim_domain_unref(v->domain);
    g_mutex_unlock(&sim.lock);
    g_free(v->name);
    g_free(v);
}

static void *view_text(void *data)
{
    serve_text(data);
    viewer_free(data);
    return NULL;
}

static void *view_screen(void *data)
{
    serve_screen(data);
    viewer_free(data);
    return NULL;
}

static gboolean has_console(const struct sim_domain *d, const char *protocol)
{
    const struct value *consoles = value_get(d->config, "consoles");
    for (gsize i = 0; i < value_count(consoles); i++)
        if (strcmp(value_get_str(value_at(consoles, i), "protocol", ""), protocol) == 0)
            return TRUE;
    return FALSE;
}

struct value *sim_console_open(struct sim_op *op, struct fault *f)
{
    const char *protocol = value_get_str(op->params, "protocol", "vt100");
    g_autoptr(sim_domain) d = sim_find(op, SIM_ALIVE, f);
    int fds[2];
    if (d == NULL)
        return NULL;
    if (!has_console(d, protocol)) {
        fault_set(f, "INVALID_VALUE", "protocol", protocol, NULL);
        return NULL;
    }
    if (!wire_pair(fds)) {
        fault_set(f, "INTERNAL_ERROR", g_strerror(errno), NULL);
        return NULL;
    }
    struct viewer *v = g_new0(struct viewer, 1);
    v->domain = sim_domain_ref(d);
    v->name = g_strdup(value_get_str(d->config, "name", "guest"));
    v->fd = fds[0];
    g_thread_unref(g_thread_new("console", strcmp(protocol, "rfb") == 0 ? view_screen : view_text, v));
    op->req->answer_fds[op->req->n_answer_fds++] = fds[1];
    return value_empty_map();
}
