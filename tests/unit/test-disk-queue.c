/* test-disk-queue.c - several requests under way to a disk image's server, a real qemu-nbd: what was written is read,
 * in order where it overlaps; an error in the middle and a server that dies are told, and nobody waits for ever. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "xapi-classes/transfers/disk_queue.h"

#define MIB    ((gint64) 1 << 20)
#define SIZE   (48 * MIB)
#define BAD    (20 * MIB) /* where writing fails, when it is to */
#define SECTOR 512

struct fixture {
    char *dir, *image, *socket;
    GPid server;
    struct nbd_handle *nbd;
    struct disk_queue *q;
    char *data, *back;
};

static void die_with_us(G_GNUC_UNUSED void *data)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void start(struct fixture *x, gboolean is_bad)
{
    g_autofree char *bad = g_strdup_printf("driver=raw,file.driver=blkdebug,file.image.driver=file,"
                                           "file.image.filename=%s,file.inject-error.0.event=none,"
                                           "file.inject-error.0.iotype=write,file.inject-error.0.sector=%d,"
                                           "file.inject-error.0.errno=%d",
                                           x->image, (int) (BAD / SECTOR), ENOSPC);
    g_autofree char *good = g_strdup_printf("driver=raw,file.driver=file,file.filename=%s", x->image);
    char *argv[] = {(char *) "qemu-nbd", (char *) "--image-opts", (char *) "-k", x->socket, is_bad ? bad : good, NULL};
    g_assert_true(g_spawn_async(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, die_with_us, NULL,
                                &x->server, NULL));
    x->nbd = nbd_create();
    for (int tries = 0; nbd_connect_unix(x->nbd, x->socket) != 0; tries++) { /* it makes the socket when it is ready */
        g_assert_cmpint(tries, <, 2000);
        nbd_close(x->nbd);
        x->nbd = nbd_create();
        g_usleep(10000);
    }
    x->q = disk_queue_new(x->nbd);
}

static void set_up(struct fixture *x, gconstpointer is_bad)
{
    x->dir = g_dir_make_tmp("test-disk-queue-XXXXXX", NULL);
    x->image = g_build_filename(x->dir, "image", NULL);
    x->socket = g_build_filename(x->dir, "s", NULL);
    int fd = open(x->image, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    g_assert_true(fd >= 0 && ftruncate(fd, SIZE) == 0);
    close(fd);
    x->data = g_malloc(DISK_CHUNK);
    x->back = g_malloc(DISK_CHUNK);
    start(x, is_bad != NULL);
}

static void tear_down(struct fixture *x, G_GNUC_UNUSED gconstpointer data)
{
    disk_queue_free(x->q);
    nbd_close(x->nbd);
    kill(x->server, SIGKILL);
    waitpid(x->server, NULL, 0);
    g_unlink(x->image);
    g_unlink(x->socket);
    g_rmdir(x->dir);
    g_free(x->dir);
    g_free(x->image);
    g_free(x->socket);
    g_free(x->data);
    g_free(x->back);
}

static gboolean put(struct fixture *x, int byte, gsize len, gint64 offset)
{
    memset(x->data, byte, len);
    return disk_queue_write(x->q, x->data, len, offset);
}

static void assert_holds(struct fixture *x, int byte, gsize len, gint64 offset, gint64 limit)
{
    memset(x->data, byte, len);
    g_assert_true(disk_queue_read(x->q, x->back, len, offset, limit));
    g_assert_cmpmem(x->back, len, x->data, len);
}

static int byte_of(int i)
{
    return i % 251 + 1;
}

static void test_all(struct fixture *x, G_GNUC_UNUSED gconstpointer data)
{
    for (int i = 0; i < SIZE / MIB; i++)
        g_assert_true(put(x, byte_of(i), MIB, i * MIB));
    g_assert_true(disk_queue_rest(x->q));
    for (int i = 0; i < SIZE / MIB; i++) /* it reads ahead */
        assert_holds(x, byte_of(i), MIB, i * MIB, SIZE);
    for (int i = (int) (SIZE / MIB) - 1; i >= 0; i -= 5) /* and what it has then is not what is wanted */
        assert_holds(x, byte_of(i), MIB, i * MIB, SIZE);
    g_assert_cmpint(disk_queue_why(x->q, NULL), ==, 0);
}

/* Downwards, for what is queued is sent upwards. */
static void test_overlapping(struct fixture *x, G_GNUC_UNUSED gconstpointer data)
{
    for (int i = 0; i < 200; i++)
        g_assert_true(put(x, byte_of(i), MIB, 8 * MIB - i * SECTOR));
    g_assert_true(disk_queue_rest(x->q));
    assert_holds(x, byte_of(199), MIB, 8 * MIB - 199 * SECTOR, SIZE);
    for (int i = 0; i < 199; i++)
        assert_holds(x, byte_of(i), SECTOR, 9 * MIB - (i + 1) * SECTOR, SIZE);
}

/* What was read ahead is not what is there after a write. */
static void test_written_after_read(struct fixture *x, G_GNUC_UNUSED gconstpointer data)
{
    for (int round = 1; round <= 20; round++) {
        for (int i = 0; i < 3; i++)
            g_assert_true(disk_queue_read(x->q, x->back, MIB, i * MIB, SIZE));
        g_assert_true(put(x, round, MIB, 3 * MIB));
        g_assert_true(disk_queue_rest(x->q));
        assert_holds(x, round, MIB, 3 * MIB, SIZE);
    }
}

/* The error is that of the write that failed, is told by a later call, and stays. */
static void test_error(struct fixture *x, G_GNUC_UNUSED gconstpointer data)
{
    const char *text = NULL;
    for (gint64 at = 0; at < SIZE && put(x, 7, MIB, at); at += MIB)
        continue;
    g_assert_false(disk_queue_rest(x->q));
    g_assert_cmpint(disk_queue_why(x->q, &text), ==, ENOSPC);
    g_assert_nonnull(text);
    g_assert_false(put(x, 7, MIB, 0));
    g_assert_false(disk_queue_rest(x->q));
    assert_holds(x, 7, MIB, BAD - 9 * MIB, SIZE); /* what was begun long before is there */
}

static void test_read_past_the_end(struct fixture *x, G_GNUC_UNUSED gconstpointer data)
{
    assert_holds(x, 0, MIB, SIZE - MIB, SIZE);
    g_assert_false(disk_queue_read(x->q, x->back, MIB, SIZE, SIZE + 8 * MIB));
    g_assert_cmpint(disk_queue_why(x->q, NULL), !=, 0);
}

static void test_dies_reading(struct fixture *x, G_GNUC_UNUSED gconstpointer data)
{
    kill(x->server, SIGKILL);
    g_assert_false(disk_queue_read(x->q, x->back, MIB, 0, SIZE));
    g_assert_cmpint(disk_queue_why(x->q, NULL), !=, 0);
}

static void test_dies_writing(struct fixture *x, G_GNUC_UNUSED gconstpointer data)
{
    kill(x->server, SIGSTOP); /* so that requests are under way */
    for (int i = 0; i < 6; i++)
        g_assert_true(put(x, 1, MIB, i * MIB));
    kill(x->server, SIGKILL);
    g_assert_false(disk_queue_rest(x->q));
    g_assert_cmpint(disk_queue_why(x->q, NULL), !=, 0);
    g_assert_false(put(x, 1, MIB, 0));
}

/* Neither the write nor what is read ahead is waited for. */
static void test_let_go(struct fixture *x, G_GNUC_UNUSED gconstpointer data)
{
    g_assert_true(disk_queue_read(x->q, x->back, MIB, 0, SIZE));
    g_assert_true(disk_queue_read(x->q, x->back, MIB, MIB, SIZE));
    kill(x->server, SIGSTOP);
    g_assert_true(put(x, 1, MIB, 40 * MIB)); /* for more there is no room while what is read ahead is under way */
    disk_queue_free(x->q);
    x->q = NULL;
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_autofree char *server = g_find_program_in_path("qemu-nbd");
    if (server == NULL) {
        g_printerr("qemu-nbd is not installed\n");
        return 77;
    }
    g_test_add("/disk-queue/all", struct fixture, NULL, set_up, test_all, tear_down);
    g_test_add("/disk-queue/overlapping", struct fixture, NULL, set_up, test_overlapping, tear_down);
    g_test_add("/disk-queue/written-after-read", struct fixture, NULL, set_up, test_written_after_read, tear_down);
    g_test_add("/disk-queue/error", struct fixture, "bad", set_up, test_error, tear_down);
    g_test_add("/disk-queue/read-past-the-end", struct fixture, NULL, set_up, test_read_past_the_end, tear_down);
    g_test_add("/disk-queue/dies/reading", struct fixture, NULL, set_up, test_dies_reading, tear_down);
    g_test_add("/disk-queue/dies/writing", struct fixture, NULL, set_up, test_dies_writing, tear_down);
    g_test_add("/disk-queue/let-go", struct fixture, NULL, set_up, test_let_go, tear_down);
    return g_test_run();
}
