/* codec.h - what both codecs have in common: a request as read, a reply as written.
 *
 * Codecs know values, not classes. A request is bytes in, a method name and argument values out (in an arena); a
 * reply is values in, a list of byte ranges out. Large stored records are not copied into a reply: it refers to
 * their bytes (VALUE_BLOB), so that get_all_records of ten thousand objects is a list of references.
 * All functions may be called on any thread; nothing here keeps state but a parser per thread. */
#ifndef XENAPID_CODEC_H
#define XENAPID_CODEC_H

#include "daemon/value/value.h"

/* Limits on what a stranger's request may hold; 0 means the built-in default. */
struct codec_limits {
    guint depth;         /* nesting of sets and maps, default 32 */
    guint elements;      /* values in one request, default 200000 */
    gsize string_length; /* bytes of one string, default 16 MiB */
};

/* ---- replies: a list of ranges ---- */

struct reply;
struct reply_range {
    const void *data;
    gsize len;
};
struct reply *reply_new(void);
void reply_free(struct reply *r);
/* Copies text in. */
void reply_put(struct reply *r, const char *text, gsize len);
/* Refers to bytes (takes a reference); short ones are copied instead. */
void reply_put_bytes(struct reply *r, GBytes *bytes);
gsize reply_length(const struct reply *r);
/* The ranges in order, valid until r changes or goes; *n is their number. */
const struct reply_range *reply_ranges(struct reply *r, gsize *n);
/* All in one NUL-terminated string (tests, small replies); the caller frees it. */
char *reply_text(struct reply *r);

/* ---- requests ---- */

/* What became of the bytes. */
enum parse_result {
    PARSE_OK,
    PARSE_MALFORMED, /* not XML / not JSON / over a limit: the protocol's parse error */
    PARSE_INVALID,   /* well-formed, but not a request */
};

struct rpc_request {
    const char *method;  /* in the arena; "" when absent */
    struct value **args; /* in the arena */
    gsize n_args;
    /* JSON-RPC only */
    guint version;            /* 0: XML-RPC; 1: JSON-RPC 1.0; 2: JSON-RPC 2.0 */
    struct value *id;         /* VALUE_STRING, VALUE_INT, VALUE_FLOAT or NULL for null */
    gboolean notification;    /* 2.0 without id, 1.0 with id null: no reply is due for 2.0 */
    enum parse_result result; /* of this request (one in a batch may be bad while others are good) */
    const char *error;        /* in the arena or static: what is wrong, for people */
};

/* Writes v, as a value of the format, into r. */
void codec_put_value(struct reply *r, enum wire_format format, struct value *v);
/* The same into one heap buffer: how a stored record is kept. */
GBytes *codec_value_bytes(enum wire_format format, struct value *v);

#endif
