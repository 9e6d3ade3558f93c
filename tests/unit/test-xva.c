/* test-xva.c - the tar of an exported VM, its checksums; WebSocket's accept key. */
#include "xapi-classes/transfers/websocket.h"
#include "xapi-classes/transfers/xva_tar.h"

#include <string.h>

/* Values of the reference implementation. */
static void test_xxhash(void)
{
    const gsize size = 1024 * 1024;
    g_autofree guint8 *bytes = g_malloc(size);
    for (gsize i = 0; i < size; i++)
        bytes[i] = (guint8) (i * 7);
    g_assert_cmphex(xxhash64(bytes, size), ==, G_GUINT64_CONSTANT(0xE560471DFE1C5AC1));
    g_assert_cmphex(xxhash64(bytes, 1000003), ==, G_GUINT64_CONSTANT(0xF7D4DCDF2D97CD45));
    g_assert_cmphex(xxhash64("", 0), ==, G_GUINT64_CONSTANT(0xEF46DB3751D8E999));
    g_assert_cmphex(xxhash64("a", 1), ==, G_GUINT64_CONSTANT(0xD24EC4F1A98C6E5B));
    g_assert_cmphex(xxhash64("abc", 3), ==, G_GUINT64_CONSTANT(0x44BC2CF5AD770999));
    g_assert_cmphex(xxhash64("Nobody inspects the spammish repetition", 39), ==,
                    G_GUINT64_CONSTANT(0xFBCEA83C8A378BF1));
}

static void test_checksums(void)
{
    g_assert_true(xva_checksum_is_right(".xxhash", "44BC2CF5AD770999", 16, "abc", 3));
    g_assert_true(xva_checksum_is_right(".xxhash", "44bc2cf5ad770999\n", 17, "abc", 3));
    g_assert_false(xva_checksum_is_right(".xxhash", "44BC2CF5AD770998", 16, "abc", 3));
    g_assert_false(xva_checksum_is_right(".xxhash", "", 0, "abc", 3));
    g_assert_false(xva_checksum_is_right(".xxhash", "044BC2CF5AD770999", 17, "abc", 3));
    g_assert_true(xva_checksum_is_right(".checksum", "a9993e364706816aba3e25717850c26c9cd0d89d", 40, "abc", 3));
    g_assert_false(xva_checksum_is_right(".checksum", "a9993e364706816aba3e25717850c26c9cd0d89e", 40, "abc", 3));
}

static void test_tar(void)
{
    char block[TAR_BLOCK], again[TAR_BLOCK];
    struct tar_header h;
    tar_format(block, "Ref:4/00000012", 1048576);
    tar_format(again, "Ref:4/00000012", 1048576);
    g_assert_cmpmem(block, TAR_BLOCK, again, TAR_BLOCK);
    g_assert_cmpint(tar_parse(block, &h), ==, TAR_FILE);
    g_assert_cmpstr(h.name, ==, "Ref:4/00000012");
    g_assert_cmpint(h.size, ==, 1048576);
    g_assert_cmpint(h.type, ==, '0');
    block[0] ^= 1;
    g_assert_cmpint(tar_parse(block, &h), ==, TAR_DAMAGED);
    memset(block, 0, sizeof block);
    g_assert_cmpint(tar_parse(block, &h), ==, TAR_END);
    g_assert_cmpuint(tar_padding(0), ==, 0);
    g_assert_cmpuint(tar_padding(1), ==, 511);
    g_assert_cmpuint(tar_padding(512), ==, 0);
}

static void test_pieces(void)
{
    struct xva_piece p;
    g_assert_true(xva_piece_parse("Ref:12/00000003.xxhash", &p));
    g_assert_cmpstr(p.disk, ==, "Ref:12");
    g_assert_cmpint(p.number, ==, 3);
    g_assert_cmpstr(p.suffix, ==, ".xxhash");
    g_assert_false(xva_piece_parse("Ref:12", &p));
    g_assert_false(xva_piece_parse("/00000000", &p));
    g_assert_false(xva_piece_parse("Ref:12/-1", &p));
    g_assert_false(xva_piece_parse("Ref:12/1.md5", &p));
    g_assert_false(xva_piece_parse("Ref:12/99999999999999999999", &p));
}

/* The example of RFC 6455. */
static void test_websocket(void)
{
    g_autofree char *accept = websocket_accept("dGhlIHNhbXBsZSBub25jZQ==");
    g_assert_cmpstr(accept, ==, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for (gsize len = 0; len < 70000; len += len < 200 ? 1 : 333) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autofree char *data = g_malloc0(len + 1);
        websocket_encode(out, data, len);
        guint head = len < 126 ? 2 : len < 65536 ? 4 : 10;
        g_assert_cmpuint(out->len, ==, head + len);
        g_assert_cmpuint(out->data[0], ==, 0x82);
        if (head == 4)
            g_assert_cmpuint((guint) (out->data[2] << 8 | out->data[3]), ==, len);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xva/xxhash", test_xxhash);
    g_test_add_func("/xva/checksums", test_checksums);
    g_test_add_func("/xva/tar", test_tar);
    g_test_add_func("/xva/pieces", test_pieces);
    g_test_add_func("/websocket", test_websocket);
    return g_test_run();
}
