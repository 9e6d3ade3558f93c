/* codec-internal.h - what the codecs share among themselves: building values as they are read, and writing text. */
#ifndef XENAPID_CODEC_INTERNAL_H
#define XENAPID_CODEC_INTERNAL_H

#include "daemon/codec/codec.h"

#define METHOD_NAME_LENGTH 256

/* ---- a value as it is read: sets and maps are opened, filled and closed; no recursion ---- */

struct tree_frame {
    gsize start; /* of its items on the stack */
    enum value_type type;
};

/* Everything is in the arena: a tree that is given up needs no care. */
struct tree {
    struct arena *arena;
    struct codec_limits limits;
    guint n_values;
    guint depth; /* open frames */
    struct tree_frame *frames;
    struct value **stack; /* items of all open frames; in a map, keys and values alternate */
    gsize n, room;
    struct value *root;
    const char *error; /* static */
};

/* more_depth: levels that are the protocol's own and do not count. */
void tree_init(struct tree *t, struct arena *a, const struct codec_limits *limits, guint more_depth);
/* Each answers FALSE and sets error when a limit or a rule is broken. */
gboolean tree_open(struct tree *t, enum value_type type);
gboolean tree_key(struct tree *t, const char *s, gsize len);
gboolean tree_string(struct tree *t, const char *s, gsize len);
gboolean tree_value(struct tree *t, struct value *v);
gboolean tree_close(struct tree *t);

/* ---- text ---- */

/* The length, 1 to 4, of the well-formed UTF-8 sequence at p; 0 when there is none. */
static inline guint utf8_length(const guchar *p, gsize left)
{
    guchar c = p[0];
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || left < 2 || (p[1] & 0xc0) != 0x80)
        return 0;
    if (c < 0xe0)
        return 2;
    if (left < 3 || (p[2] & 0xc0) != 0x80)
        return 0;
    if (c < 0xf0) {
        gboolean overlong = c == 0xe0 && p[1] < 0xa0;
        gboolean surrogate = c == 0xed && p[1] >= 0xa0;
        return overlong || surrogate ? 0 : 3;
    }
    if (c > 0xf4 || left < 4 || (p[3] & 0xc0) != 0x80)
        return 0;
    gboolean overlong = c == 0xf0 && p[1] < 0x90;
    gboolean too_large = c == 0xf4 && p[1] >= 0x90;
    return overlong || too_large ? 0 : 4;
}

#define REPLACEMENT_CHARACTER "\xef\xbf\xbd"

#define reply_put_literal(r, text) reply_put(r, text, sizeof(text) - 1)
void reply_put_int(struct reply *r, gint64 i);
void reply_put_string(struct reply *r, const char *text);

void xml_put_value(struct reply *r, struct value *v);
void json_put_value(struct reply *r, struct value *v);
/* json_parse() with more levels allowed than the limits say. */
struct value *json_read(struct arena *a, const char *text, gsize len, const struct codec_limits *limits,
                        guint more_depth, const char **error);

#endif
