/* disk_queue.c - the requests to the server of a disk image: a few slots, and the thread that drives the connection. */
#include "config.h"
#include "xapi-classes/transfers/disk_queue.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOTS 8 /* mebibytes under way, or read ahead */

enum state {
    FREE,    /* the user's */
    QUEUED,  /* for the thread to begin */
    RUNNING, /* the server's */
    READ     /* content that nobody has asked for yet; the user's */
};

struct slot {
    struct disk_queue *q;
    enum state state;
    gboolean writes;
    gboolean unwanted; /* read, but nobody will ask for it */
    gint64 offset;
    gsize len;
    int error; /* errno, of a read */
    char *data;
};

struct disk_queue {
    struct nbd_handle *nbd;
    GThread *thread;
    int wake; /* eventfd: something was queued while the thread waits for the server */
    gint64 read_end;
    GMutex lock; /* for the rest */
    GCond changed;
    gboolean polls, stop;
    guint running;
    int error; /* of the first write that failed */
    char *text;
    struct slot slots[SLOTS];
};

/* ---- the thread ---- */

static void fail(struct disk_queue *q, int error, const char *text)
{
    if (q->error != 0)
        return;
    q->error = error != 0 ? error : EIO;
    q->text = g_strdup(text ? text : g_strerror(q->error));
}

/* With the lock. */
static void finish(struct slot *s, int error, const char *text)
{
    struct disk_queue *q = s->q;
    if (error != 0 && s->writes)
        fail(q, error, text);
    s->error = error;
    s->state = s->writes || s->unwanted ? FREE : READ;
    q->running--;
    g_cond_broadcast(&q->changed);
}

static int completed(void *data, int *error)
{
    struct slot *s = data;
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&s->q->lock);
    finish(s, *error, NULL);
    return 1; /* nobody asks for it again */
}

/* With the lock, which is let go meanwhile: completed() may be called from within. */
static void begin(struct disk_queue *q, struct slot *s)
{
    nbd_completion_callback callback = {.callback = completed, .user_data = s};
    s->state = RUNNING;
    q->running++;
    g_mutex_unlock(&q->lock);
    gint64 cookie = s->writes ? nbd_aio_pwrite(q->nbd, s->data, s->len, (guint64) s->offset, callback, 0)
                              : nbd_aio_pread(q->nbd, s->data, s->len, (guint64) s->offset, callback, 0);
    int error = cookie < 0 ? nbd_get_errno() : 0;
    g_mutex_lock(&q->lock);
    if (cookie < 0 && s->state == RUNNING)
        finish(s, error != 0 ? error : EIO, nbd_get_error());
}

static struct slot *oldest_queued(struct disk_queue *q)
{
    struct slot *first = NULL;
    for (int i = 0; i < SLOTS; i++)
        if (q->slots[i].state == QUEUED && (!first || q->slots[i].offset < first->offset))
            first = &q->slots[i];
    return first;
}

static void drive(struct disk_queue *q)
{
    unsigned direction = nbd_aio_get_direction(q->nbd);
    struct pollfd p[2] = {{.fd = nbd_aio_get_fd(q->nbd)}, {.fd = q->wake, .events = POLLIN}};
    if (direction & LIBNBD_AIO_DIRECTION_READ)
        p[0].events |= POLLIN;
    if (direction & LIBNBD_AIO_DIRECTION_WRITE)
        p[0].events |= POLLOUT;
    if (poll(p, 2, -1) < 0)
        return;
    guint64 n;
    if (p[1].revents != 0 && read(q->wake, &n, sizeof n) < 0)
        g_debug("eventfd: %s", g_strerror(errno));
    if (p[0].revents == 0)
        return;
    direction = nbd_aio_get_direction(q->nbd);
    /* A server that is gone is seen by reading, or by writing to it. */
    if ((p[0].revents & (POLLIN | POLLHUP | POLLERR)) && (direction & LIBNBD_AIO_DIRECTION_READ))
        nbd_aio_notify_read(q->nbd);
    else if ((p[0].revents & (POLLOUT | POLLHUP | POLLERR)) && (direction & LIBNBD_AIO_DIRECTION_WRITE))
        nbd_aio_notify_write(q->nbd);
}

static void *work(void *data)
{
    struct disk_queue *q = data;
    struct slot *s;
    g_mutex_lock(&q->lock);
    while (!q->stop || q->running > 0) {
        if (!q->stop && (s = oldest_queued(q)) != NULL) {
            begin(q, s);
        } else if (q->running > 0) {
            q->polls = TRUE;
            g_mutex_unlock(&q->lock);
            drive(q);
            g_mutex_lock(&q->lock);
            q->polls = FALSE;
        } else {
            g_cond_wait(&q->changed, &q->lock);
        }
    }
    g_mutex_unlock(&q->lock);
    return NULL;
}

/* ---- for the user; all with the lock ---- */

static void queue(struct disk_queue *q, struct slot *s, gboolean writes, gint64 offset, gsize len)
{
    s->writes = writes;
    s->unwanted = FALSE;
    s->offset = offset;
    s->len = len;
    s->error = 0;
    s->state = QUEUED;
    if (!q->polls) {
        g_cond_broadcast(&q->changed);
        return;
    }
    const guint64 one = 1;
    if (write(q->wake, &one, sizeof one) < 0)
        g_debug("eventfd: %s", g_strerror(errno));
}

static struct slot *find_free(struct disk_queue *q)
{
    for (int i = 0; i < SLOTS; i++)
        if (q->slots[i].state == FREE) {
            if (!q->slots[i].data)
                q->slots[i].data = g_malloc(DISK_CHUNK);
            return &q->slots[i];
        }
    return NULL;
}

static gboolean overlaps(struct disk_queue *q, gint64 offset, gsize len)
{
    for (int i = 0; i < SLOTS; i++) {
        const struct slot *s = &q->slots[i];
        if ((s->state == QUEUED || s->state == RUNNING) && s->offset < offset + (gint64) len &&
            offset < s->offset + (gint64) s->len)
            return TRUE;
    }
    return FALSE;
}

/* What was read ahead and is not what is wanted now. */
static void drop_reads(struct disk_queue *q)
{
    for (int i = 0; i < SLOTS; i++) {
        struct slot *s = &q->slots[i];
        if (s->state == READ || (s->state == QUEUED && !s->writes))
            s->state = FREE;
        else if (s->state == RUNNING && !s->writes)
            s->unwanted = TRUE;
    }
}

gboolean disk_queue_write(struct disk_queue *q, const void *data, gsize len, gint64 offset)
{
    struct slot *s = NULL;
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&q->lock);
    drop_reads(q);
    while (q->error == 0 && (overlaps(q, offset, len) || (s = find_free(q)) == NULL))
        g_cond_wait(&q->changed, &q->lock);
    if (q->error != 0)
        return FALSE;
    g_mutex_unlock(&q->lock); /* a free slot is the user's */
    memcpy(s->data, data, len);
    g_mutex_lock(&q->lock);
    queue(q, s, TRUE, offset, len);
    return TRUE;
}

static struct slot *find_read(struct disk_queue *q, gint64 offset, gsize len)
{
    for (int i = 0; i < SLOTS; i++) {
        struct slot *s = &q->slots[i];
        if (s->state != FREE && !s->writes && !s->unwanted && s->offset == offset && s->len == len)
            return s;
    }
    return NULL;
}

static void read_ahead(struct disk_queue *q, gint64 offset, gsize len, gint64 limit)
{
    struct slot *s;
    for (; offset + (gint64) len <= limit; offset += (gint64) len) {
        if (find_read(q, offset, len))
            continue;
        if (!(s = find_free(q)))
            return;
        queue(q, s, FALSE, offset, len);
    }
}

gboolean disk_queue_read(struct disk_queue *q, void *buffer, gsize len, gint64 offset, gint64 limit)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&q->lock);
    gboolean goes_on = offset == q->read_end;
    struct slot *s = find_read(q, offset, len);
    if (!s) {
        drop_reads(q);
        while (!(s = find_free(q)))
            g_cond_wait(&q->changed, &q->lock);
        queue(q, s, FALSE, offset, len);
    }
    q->read_end = offset + (gint64) len;
    if (goes_on)
        read_ahead(q, q->read_end, len, limit);
    while (s->state != READ)
        g_cond_wait(&q->changed, &q->lock);
    if (s->error != 0)
        fail(q, s->error, NULL);
    gboolean good = s->error == 0;
    g_mutex_unlock(&q->lock); /* content that was read is the user's */
    if (good)
        memcpy(buffer, s->data, len);
    g_mutex_lock(&q->lock);
    s->state = FREE;
    return good;
}

static gboolean is_busy(const struct disk_queue *q)
{
    for (int i = 0; i < SLOTS; i++)
        if (q->slots[i].state == QUEUED || q->slots[i].state == RUNNING)
            return TRUE;
    return FALSE;
}

gboolean disk_queue_rest(struct disk_queue *q)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&q->lock);
    while (is_busy(q))
        g_cond_wait(&q->changed, &q->lock);
    return q->error == 0;
}

int disk_queue_why(const struct disk_queue *q, const char **text)
{
    if (text)
        *text = q->text;
    return q->error;
}

struct disk_queue *disk_queue_new(struct nbd_handle *nbd)
{
    struct disk_queue *q = g_new0(struct disk_queue, 1);
    q->nbd = nbd;
    q->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    q->read_end = -1;
    g_mutex_init(&q->lock);
    g_cond_init(&q->changed);
    for (int i = 0; i < SLOTS; i++)
        q->slots[i].q = q;
    q->thread = g_thread_new("disk", work, q);
    return q;
}

void disk_queue_free(struct disk_queue *q)
{
    if (!q)
        return;
    g_mutex_lock(&q->lock);
    q->stop = TRUE;
    g_cond_broadcast(&q->changed);
    gboolean busy = q->running > 0;
    g_mutex_unlock(&q->lock);
    if (busy && shutdown(nbd_aio_get_fd(q->nbd), SHUT_RDWR) < 0)
        g_debug("a disk's server is gone already: %s", g_strerror(errno));
    g_thread_join(q->thread);
    for (int i = 0; i < SLOTS; i++)
        g_free(q->slots[i].data);
    if (q->wake >= 0)
        close(q->wake);
    g_mutex_clear(&q->lock);
    g_cond_clear(&q->changed);
    g_free(q->text);
    g_free(q);
}
