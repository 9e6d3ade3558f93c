/* xva_tar.c - tar headers and checksums. What is read here comes from strangers. */
#include "config.h"
#include "xapi-classes/transfers/xva_tar.h"

#include <string.h>

/* Where the fields of a header are. */
enum {
    H_NAME = 0,
    H_NAME_LEN = 100,
    H_MODE = 100,
    H_UID = 108,
    H_GID = 116,
    H_SIZE = 124,
    H_SIZE_LEN = 12,
    H_MTIME = 136,
    H_SUM = 148,
    H_SUM_LEN = 8,
    H_TYPE = 156,
    H_MAGIC = 257,
    H_VERSION = 263,
    H_PREFIX = 345,
    H_PREFIX_LEN = 155
};

static guint32 sum_of(const char *block)
{
    guint32 sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += i >= H_SUM && i < H_SUM + H_SUM_LEN ? ' ' : (guint8) block[i];
    return sum;
}

void tar_format(char block[TAR_BLOCK], const char *name, gint64 size)
{
    memset(block, 0, TAR_BLOCK);
    g_strlcpy(block + H_NAME, name, H_NAME_LEN);
    g_strlcpy(block + H_MODE, "0000400", 8);
    g_strlcpy(block + H_UID, "0000000", 8);
    g_strlcpy(block + H_GID, "0000000", 8);
    g_snprintf(block + H_SIZE, H_SIZE_LEN, "%011" G_GINT64_MODIFIER "o", (guint64) size);
    g_strlcpy(block + H_MTIME, "00000000000", 12);
    block[H_TYPE] = '0';
    memcpy(block + H_MAGIC, "ustar", 6);
    memcpy(block + H_VERSION, "00", 2);
    g_snprintf(block + H_SUM, H_SUM_LEN, "%06o", sum_of(block));
    block[H_SUM + 7] = ' ';
}

/* Octal digits between spaces, or, when the first bit is set, a big-endian number. -1: neither. */
static gint64 number(const char *text, gsize len)
{
    guint64 n = 0;
    gsize i = 0;
    if ((guint8) text[0] & 0x80) {
        n = (guint8) text[0] & 0x7f;
        for (i = 1; i < len && n <= G_MAXINT64 >> 8; i++)
            n = n << 8 | (guint8) text[i];
        return i == len && n <= G_MAXINT64 ? (gint64) n : -1;
    }
    while (i < len && text[i] == ' ')
        i++;
    for (; i < len && text[i] >= '0' && text[i] <= '7' && n <= G_MAXINT64 >> 4; i++)
        n = n << 3 | (guint64) (text[i] - '0');
    return i == len || text[i] == '\0' || text[i] == ' ' ? (gint64) n : -1;
}

static gboolean is_empty(const char *block)
{
    return block[0] == '\0' && memcmp(block, block + 1, TAR_BLOCK - 1) == 0;
}

enum tar_result tar_parse(const char block[TAR_BLOCK], struct tar_header *h)
{
    if (is_empty(block))
        return TAR_END;
    if (number(block + H_SUM, H_SUM_LEN) != (gint64) sum_of(block))
        return TAR_DAMAGED;
    h->size = number(block + H_SIZE, H_SIZE_LEN);
    h->type = block[H_TYPE] == '\0' ? '0' : block[H_TYPE];
    gboolean has_prefix = memcmp(block + H_MAGIC, "ustar", 6) == 0 && block[H_PREFIX] != '\0';
    g_snprintf(h->name, sizeof h->name, "%.*s%s%.*s", has_prefix ? H_PREFIX_LEN : 0, block + H_PREFIX,
               has_prefix ? "/" : "", H_NAME_LEN, block + H_NAME);
    return h->size >= 0 && g_utf8_validate(h->name, -1, NULL) ? TAR_FILE : TAR_DAMAGED;
}

gsize tar_padding(gint64 size)
{
    return (gsize) ((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

gboolean xva_piece_parse(const char *name, struct xva_piece *p)
{
    static const char *const suffixes[] = {"", ".checksum", ".xxhash"};
    const char *slash = strchr(name, '/');
    char *end;
    if (slash == NULL || slash == name || (gsize) (slash - name) >= sizeof p->disk || !g_ascii_isdigit(slash[1]))
        return FALSE;
    g_strlcpy(p->disk, name, (gsize) (slash - name) + 1);
    guint64 n = g_ascii_strtoull(slash + 1, &end, 10);
    p->number = (gint64) n;
    for (gsize i = 0; i < G_N_ELEMENTS(suffixes); i++)
        if (strcmp(end, suffixes[i]) == 0) {
            p->suffix = suffixes[i];
            return n <= G_MAXINT32;
        }
    return FALSE;
}

/* ---- xxHash, 64 bits, seed 0 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md) ---- */

#define PRIME1 G_GUINT64_CONSTANT(0x9E3779B185EBCA87)
#define PRIME2 G_GUINT64_CONSTANT(0xC2B2AE3D27D4EB4F)
#define PRIME3 G_GUINT64_CONSTANT(0x165667B19E3779F9)
#define PRIME4 G_GUINT64_CONSTANT(0x85EBCA77C2B2AE63)
#define PRIME5 G_GUINT64_CONSTANT(0x27D4EB2F165667C5)

static guint64 rotate(guint64 x, int n)
{
    return x << n | x >> (64 - n);
}

static guint64 lane64(const guint8 *p)
{
    guint64 v;
    memcpy(&v, p, sizeof v);
    return GUINT64_FROM_LE(v);
}

static guint32 lane32(const guint8 *p)
{
    guint32 v;
    memcpy(&v, p, sizeof v);
    return GUINT32_FROM_LE(v);
}

static guint64 mix(guint64 acc, guint64 lane)
{
    return rotate(acc + lane * PRIME2, 31) * PRIME1;
}

static guint64 stripes(const guint8 **p, gsize *left)
{
    guint64 acc[4] = {PRIME1 + PRIME2, PRIME2, 0, -PRIME1}, h;
    for (; *left >= 32; *left -= 32)
        for (int i = 0; i < 4; i++, *p += 8)
            acc[i] = mix(acc[i], lane64(*p));
    h = rotate(acc[0], 1) + rotate(acc[1], 7) + rotate(acc[2], 12) + rotate(acc[3], 18);
    for (int i = 0; i < 4; i++)
        h = (h ^ mix(0, acc[i])) * PRIME1 + PRIME4;
    return h;
}

guint64 xxhash64(const void *data, gsize len)
{
    const guint8 *p = data;
    gsize left = len;
    guint64 h = len >= 32 ? stripes(&p, &left) : PRIME5;
    h += len;
    for (; left >= 8; left -= 8, p += 8)
        h = rotate(h ^ mix(0, lane64(p)), 27) * PRIME1 + PRIME4;
    for (; left >= 4; left -= 4, p += 4)
        h = rotate(h ^ lane32(p) * PRIME1, 23) * PRIME2 + PRIME3;
    for (; left > 0; left--, p++)
        h = rotate(h ^ *p * PRIME5, 11) * PRIME1;
    h = (h ^ h >> 33) * PRIME2;
    h = (h ^ h >> 29) * PRIME3;
    return h ^ h >> 32;
}

/* Some writers drop leading zeroes of the number. */
gboolean xva_checksum_is_right(const char *suffix, const char *text, gsize text_len, const void *data, gsize len)
{
    g_autofree char *given = g_strndup(text, text_len), *sha1 = NULL;
    char *end;
    g_strstrip(given);
    if (strcmp(suffix, ".xxhash") == 0) {
        guint64 n = g_ascii_strtoull(given, &end, 16);
        return g_ascii_isxdigit(*given) && strlen(given) <= 16 && *end == '\0' && n == xxhash64(data, len);
    }
    sha1 = g_compute_checksum_for_data(G_CHECKSUM_SHA1, data, len);
    return g_ascii_strcasecmp(sha1, given) == 0;
}
