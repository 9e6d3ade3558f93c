/* test-bitmap.c - the reader of QEMU's dirty bitmaps: what qemu-img and qemu-io wrote is found, what is damaged is said
 * to be so, and nothing is read outside of what was allocated. */
#include "config.h"

#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "xenbackend/run.h"
#include "xenbackend/storage/storage_bitmap.h"

#define SIZE (G_GINT64_CONSTANT(64) << 20)

static char *dir, *path;

static void run(const char *const *argv)
{
    struct fault f = FAULT_INIT;
    if (run_tool(argv, NULL, NULL, &f))
        return;
    g_autofree char *text = fault_text(&f);
    g_error("%s: %s", argv[0], text);
}

static void make_image(void)
{
    const char *const create[] = {"qemu-img", "create", "-q", "-f", "qcow2", path, "64M", NULL};
    const char *const first[] = {"qemu-img", "bitmap", "--add", "--enable", "-g", "64K",
                                 "-f",       "qcow2",  path,    "one",      NULL};
    const char *const second[] = {"qemu-img", "bitmap", "--add", "--enable", "-g", "1M",
                                  "-f",       "qcow2",  path,    "two",      NULL};
    const char *const write[] = {"qemu-io",          "-f", "qcow2", "-c", "write 0 1", "-c", "write 196607 2", "-c",
                                 "write 67108863 1", path, NULL};
    run(create);
    run(first);
    run(second);
    run(write);
}

static enum bitmap_found read_it(const char *name, guint8 *bits)
{
    int fd = open(path, O_RDONLY);
    g_assert_cmpint(fd, >=, 0);
    memset(bits, 0, bitmap_size(SIZE));
    enum bitmap_found found = qcow2_bitmap_read(fd, name, SIZE, bits);
    close(fd);
    return found;
}

static void test_read(void)
{
    guint8 bits[128];
    make_image();
    g_assert_cmpuint(bitmap_size(SIZE), ==, sizeof bits);
    g_assert_cmpint(read_it("one", bits), ==, BITMAP_READ);
    g_assert_cmphex(bits[0], ==, 0x80 | 0x20 | 0x10);
    g_assert_cmphex(bits[127], ==, 0x01);
    for (int i = 1; i < 127; i++)
        g_assert_cmphex(bits[i], ==, 0);
    g_assert_cmpint(read_it("on", bits), ==, BITMAP_MISSING);
    g_assert_cmpint(read_it("two", bits), ==, BITMAP_UNUSABLE); /* another granularity */
}

static void test_sizes(void)
{
    g_assert_cmpuint(bitmap_size(1), ==, 1);
    g_assert_cmpuint(bitmap_size(8 * 65536), ==, 1);
    g_assert_cmpuint(bitmap_size(8 * 65536 + 1), ==, 2);
}

/* Every byte of the header, its extensions and the directory wrong in turn: an answer of some kind, no more. */
static void test_damage(void)
{
    guint8 bits[128];
    g_autofree char *text = NULL;
    gsize len;
    make_image();
    g_assert_true(g_file_get_contents(path, &text, &len, NULL));
    int fd = open(path, O_RDWR);
    for (gsize at = 0; at < len; at += at < 512 ? 1 : 4093) {
        static const guint8 values[] = {0x00, 0x7f, 0xff};
        for (gsize i = 0; i < G_N_ELEMENTS(values); i++) {
            g_assert_cmpint(pwrite(fd, &values[i], 1, (off_t) at), ==, 1);
            read_it("one", bits);
        }
        g_assert_cmpint(pwrite(fd, text + at, 1, (off_t) at), ==, 1);
    }
    for (gsize cut = 0; cut < len; cut += cut < 512 ? 7 : 16381) {
        g_assert_cmpint(ftruncate(fd, (off_t) cut), ==, 0);
        enum bitmap_found found = read_it("one", bits);
        g_assert_true(cut > 65536 || found != BITMAP_READ);
        g_assert_cmpint(ftruncate(fd, 0), ==, 0);
        g_assert_cmpint(pwrite(fd, text, len, 0), ==, (gssize) len);
    }
    close(fd);
}

static void test_in_use(void)
{
    guint8 bits[128];
    make_image();
    /* A program that knows nothing of bitmaps clears the bit that says that they are true. */
    int fd = open(path, O_RDWR);
    g_assert_cmpint(pwrite(fd, "\0\0\0\0\0\0\0\0", 8, 88), ==, 8);
    close(fd);
    g_assert_cmpint(read_it("one", bits), ==, BITMAP_MISSING);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("xenapid-bitmap-XXXXXX", NULL);
    path = g_build_filename(dir, "image.qcow2", NULL);
    g_test_add_func("/bitmap/sizes", test_sizes);
    g_test_add_func("/bitmap/read", test_read);
    g_test_add_func("/bitmap/damage", test_damage);
    g_test_add_func("/bitmap/autoclear", test_in_use);
    int status = g_test_run();
    g_unlink(path);
    g_rmdir(dir);
    g_free(path);
    g_free(dir);
    return status;
}
