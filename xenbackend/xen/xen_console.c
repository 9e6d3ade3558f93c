/* xen_console.c - console.open: a guest's text console or screen as a descriptor. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define VNC_PORT_MIN 5900

static int open_fault(const char *what, struct fault *f)
{
    g_autofree char *text = g_strdup_printf("%s: %s", what, g_strerror(errno));
    fault_set(f, "INTERNAL_ERROR", text, NULL);
    return -1;
}

static int no_console(const char *protocol, struct fault *f)
{
    fault_set(f, "INVALID_VALUE", "protocol", protocol, NULL);
    return -1;
}

/* The terminal that the console daemon (HVM: the device model) made for the guest, with nothing changed on the way. */
static int open_text(const struct xen_domain *d, struct fault *f)
{
    gboolean hvm = strcmp(xen_type(d), "hvm") == 0;
    g_autofree char *tty = xen_read("/local/domain/%d/%s", d->domid, hvm ? "serial/0/tty" : "console/tty");
    struct termios t;
    if (tty == NULL || !g_str_has_prefix(tty, "/dev/pts/") || strstr(tty, "..") != NULL)
        return no_console("vt100", f);
    int fd = open(tty, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return open_fault(tty, f);
    if (tcgetattr(fd, &t) == 0) {
        cfmakeraw(&t);
        tcsetattr(fd, TCSANOW, &t);
    }
    return fd;
}

static int open_screen(const struct xen_domain *d, struct fault *f)
{
    gint64 port = xen_read_int(0, "/local/domain/%d/console/vnc-port", d->domid);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (port < VNC_PORT_MIN || port > G_MAXUINT16)
        return no_console("rfb", f);
    to.sin_port = htons((guint16) port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *) &to, sizeof to) == 0)
        return fd;
    open_fault("VNC", f);
    if (fd >= 0)
        close(fd);
    return -1;
}

struct value *xen_console_open(struct helper_request *req, struct fault *f)
{
    const char *protocol = value_get_str(req->params, "protocol", "");
    struct xen_domain d;
    int fd;
    if (!xen_find(req->params, XEN_ALIVE, &d, f))
        return NULL;
    if (strcmp(protocol, "vt100") == 0)
        fd = open_text(&d, f);
    else
        fd = strcmp(protocol, "rfb") == 0 ? open_screen(&d, f) : no_console(protocol, f);
    if (fd < 0)
        return NULL;
    req->answer_fds[0] = fd;
    req->n_answer_fds = 1;
    return value_empty_map();
}
