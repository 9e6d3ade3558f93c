/* fuzz-nbd.c - the first part of an NBD connection: what a stranger sends, and what an image's server might say. The
 * input is the client's bytes, behind their length in two bytes, and then the server's. */
#include "config.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "xapi-classes/transfers/nbd_server.h"

static struct {
    const guint8 *data;
    gsize len;
    int fd; /* the far end */
} image;

/* A socket from which those bytes come and then the end. */
static int feed(const guint8 *data, gsize len, int *far)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        g_error("socketpair");
    if (len > 0 && send(fds[1], data, len, 0) != (gssize) len)
        g_error("send");
    shutdown(fds[1], SHUT_WR);
    *far = fds[1];
    return fds[0];
}

/* In the place of the real one: any name that is not empty is an image's. */
gboolean nbd_open(struct nbd_connection *c, const char *export_name, char **why)
{
    if (*export_name == '\0') {
        *why = g_strdup("The name is empty");
        return FALSE;
    }
    nbd_stream_init(&c->image, feed(image.data, image.len, &image.fd));
    return TRUE;
}

void nbd_release(struct nbd_connection *c)
{
    if (c->image.fd < 0)
        return;
    close(c->image.fd);
    close(image.fd);
    c->image.fd = -1;
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    gsize len = size >= 2 ? (gsize) data[0] << 8 | data[1] : 0;
    static const char start_tls[] = "IHAVEOPT\0\0\0\5"; /* from there on it is GnuTLS that reads */
    if (size < 2 || len > size - 2 || memmem(data, size, start_tls, sizeof start_tls - 1) != NULL)
        return 0;
    image.data = data + 2 + len;
    image.len = size - 2 - len;
    struct nbd_connection c = {.image.fd = -1};
    int far;
    nbd_stream_init(&c.client, feed(data + 2, len, &far));
    if (nbd_negotiate(&c) && c.image.fd < 0)
        g_error("data would flow without an image");
    nbd_release(&c);
    nbd_stream_clear(&c.client);
    close(c.client.fd);
    close(far);
    return 0;
}
