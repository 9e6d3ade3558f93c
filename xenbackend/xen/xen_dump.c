/* xen_dump.c - the memory of a domain that has crashed, as the core file that Xen's tools read: domain.core_dump. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK ((gsize) 64 * 1024)

struct dump {
    struct helper_request *req;
    int fd;
    gint64 at, room; /* in the image: what was written, and how much there is */
    gint64 expected; /* about so much */
    gboolean sparse; /* what is not written reads as zeroes */
    int err;
};

static gboolean is_zero(const char *bytes, gsize n)
{
    return n > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

static gboolean put_at(struct dump *d, const char *bytes, gsize n, gint64 at)
{
    for (gsize done = 0; done < n;) {
        gssize k = pwrite(d->fd, bytes + done, n - done, at + (gint64) done);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            d->err = k < 0 ? errno : EIO;
            return FALSE;
        }
        done += (gsize) k;
    }
    return TRUE;
}

/* Much of a guest's memory is empty: that takes no room where it can be left out. */
static gboolean put(struct dump *d, const char *bytes, gsize n)
{
    gboolean written = TRUE;
    for (gsize done = 0; written && done < n; done += BLOCK) {
        gsize k = MIN(n - done, BLOCK);
        if (!d->sparse || !is_zero(bytes + done, k))
            written = put_at(d, bytes + done, k, d->at + (gint64) done);
    }
    return written;
}

/* Called with one part after the other, of some MiB. */
static int take_part(xc_interface *xc G_GNUC_UNUSED, void *arg, char *bytes, unsigned int length)
{
    struct dump *d = arg;
    if (helper_cancelled(d->req))
        d->err = ECANCELED;
    else if (d->at + length > d->room)
        d->err = ENOSPC;
    if (d->err != 0 || !put(d, bytes, length)) {
        errno = d->err;
        return -1;
    }
    d->at += length;
    helper_progress(d->req, MIN((double) d->at / (double) d->expected, 0.99));
    return 0;
}

static gboolean dump_fault(const struct dump *d, const struct xen_domain *domain, int err, struct fault *f)
{
    char number[16];
    g_autofree char *needed = g_strdup_printf("%" G_GINT64_FORMAT, d->expected);
    g_autofree char *there = g_strdup_printf("%" G_GINT64_FORMAT, d->room);
    g_autofree char *words = g_strdup_printf("core dump of domain %d: %s", domain->domid, g_strerror(err));
    g_snprintf(number, sizeof number, "%d", err);
    if (err == ECANCELED)
        return fault_set(f, "TASK_CANCELLED", "", NULL);
    if (err == ENOSPC)
        return fault_set(f, "SR_FULL", needed, there, NULL);
    return d->err != 0 ? fault_set(f, "SR_BACKEND_FAILURE", number, "", words, NULL)
                       : fault_set(f, "INTERNAL_ERROR", words, NULL);
}

struct value *xen_core_dump(struct helper_request *req, struct fault *f)
{
    g_auto(xen_image) image = XEN_IMAGE_INIT;
    struct dump d = {.req = req};
    struct xen_domain domain;
    struct value_builder b;
    struct stat st;
    if (!xen_find(req->params, XEN_ANY & ~(1u << XEN_RUNNING), &domain, f) ||
        !xen_image_open_vdi(&image, req->params, O_RDWR, f))
        return NULL;
    d.fd = image.fd;
    d.room = lseek(image.fd, 0, SEEK_END);
    d.expected = (gint64) domain.info.tot_pages * PAGE_BYTES + KIB * KIB;
    d.sparse = fstat(image.fd, &st) == 0 && S_ISREG(st.st_mode);
    int rc = xc_domain_dumpcore_via_callback(xen.xc, (guint32) domain.domid, &d, take_part);
    int err = d.err != 0 ? d.err : errno;
    if (rc == 0 && fsync(image.fd) != 0) {
        rc = -1;
        err = d.err = errno;
    }
    if (rc != 0) {
        dump_fault(&d, &domain, err, f);
        return NULL;
    }
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "size", value_int(NULL, d.at));
    return value_builder_end(&b);
}
