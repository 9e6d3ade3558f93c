/* fuzz-xva.c - any bytes as an exported VM: its tar, its records, its checksums; and as the frames of a viewer of a
 * console. What is read of the records must survive being written and read again. */
#include "xapi-classes/transfers/websocket.h"
#include "xapi-classes/transfers/xva.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size);

static void check(gboolean ok, const char *what)
{
    if (ok)
        return;
    g_printerr("%s\n", what);
    abort(); /* libFuzzer keeps the input then */
}

static void read_ova(const char *text, gsize len)
{
    struct fault f = FAULT_INIT;
    g_autoptr(xva_ova) ova = xva_ova_parse(text, len, &f);
    check((ova != NULL) == (f.code == NULL), "neither records nor a fault");
    fault_clear(&f);
    if (!ova)
        return;
    struct xva_plan plan = {.ova = ova};
    for (guint i = 0; i < ova->objects->len; i++)
        xva_is_disk(&plan, ova->objects->pdata[i]);
    g_autofree char *written = xva_ova_text(ova);
    g_autoptr(xva_ova) again = xva_ova_parse(written, strlen(written), &f);
    check(again && again->objects->len == ova->objects->len, "what was written cannot be read");
    g_autofree char *twice = xva_ova_text(again);
    check(strcmp(written, twice) == 0, "written otherwise the second time");
}

static void read_tar(const char *data, gsize size)
{
    struct tar_header h;
    struct xva_piece p;
    for (gsize at = 0; size - at >= TAR_BLOCK && tar_parse(data + at, &h) == TAR_FILE;) {
        at += TAR_BLOCK;
        gsize len = (gsize) MIN((guint64) h.size, size - at);
        char block[TAR_BLOCK];
        struct tar_header same;
        if (h.size < 1 << 30 && strlen(h.name) < 100) {
            tar_format(block, h.name, h.size);
            gboolean named = *h.name != '\0';
            check(tar_parse(block, &same) == TAR_FILE && same.size == h.size &&
                      (!named || strcmp(same.name, h.name) == 0),
                  "a header reads otherwise");
        }
        if (strcmp(h.name, "ova.xml") == 0)
            read_ova(data + at, len);
        if (xva_piece_parse(h.name, &p) && *p.suffix)
            xva_checksum_is_right(p.suffix, data + at, MIN(len, 128), data, size);
        at += MIN(len + tar_padding(h.size), size - at);
    }
}

/* The same frames in one piece and byte by byte come to the same. */
static void read_frames(const guint8 *data, gsize size)
{
    struct websocket a = {.closed = FALSE}, b = {.closed = FALSE};
    g_autoptr(GByteArray) x = g_byte_array_new(), y = g_byte_array_new(), rx = g_byte_array_new(),
                          ry = g_byte_array_new();
    gboolean whole = websocket_decode(&a, data, size, x, rx), going = TRUE;
    for (gsize i = 0; going && i < size; i++)
        going = websocket_decode(&b, data + i, 1, y, ry);
    check(whole == going && x->len == y->len && rx->len == ry->len, "frames read otherwise byte by byte");
    check(x->len == 0 || memcmp(x->data, y->data, x->len) == 0, "payload read otherwise byte by byte");
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        model_init();
        g_once_init_leave(&once, 1);
    }
    read_ova((const char *) data, size);
    read_tar((const char *) data, size);
    read_frames(data, size);
    return 0;
}
