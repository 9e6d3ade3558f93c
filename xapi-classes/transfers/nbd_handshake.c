/* nbd_handshake.c - the first part of an NBD connection (the fixed newstyle negotiation): TLS before anything else,
 * then who the client is, and the options that are the image's server's to answer. */
#include "config.h"
#include "xapi-classes/transfers/nbd_server.h"
#include "daemon/value/bytes.h"

#include <string.h>

#define LIMIT_US     (30 * G_TIME_SPAN_SECOND)
#define MOST_OPTIONS 64
#define MOST_DATA    8192 /* of an option */
#define MOST_REPLY   (64 * 1024)
#define MOST_NAME    512

#define MAGIC_SERVER G_GUINT64_CONSTANT(0x4e42444d41474943) /* "NBDMAGIC" */
#define MAGIC_OPTION G_GUINT64_CONSTANT(0x49484156454f5054) /* "IHAVEOPT" */
#define MAGIC_REPLY  G_GUINT64_CONSTANT(0x0003e889045565a9)

enum { FLAG_FIXED_NEWSTYLE = 1, FLAG_NO_ZEROES = 2 };

enum option {
    OPT_EXPORT_NAME = 1,
    OPT_ABORT = 2,
    OPT_LIST = 3,
    OPT_STARTTLS = 5,
    OPT_INFO = 6,
    OPT_GO = 7,
    OPT_STRUCTURED_REPLY = 8,
    OPT_LIST_META_CONTEXT = 9,
    OPT_SET_META_CONTEXT = 10,
};

#define REP_ERROR(n) (0x80000000U | (n))
enum {
    REP_ACK = 1,
};
#define REP_ERR_UNSUP    REP_ERROR(1)
#define REP_ERR_POLICY   REP_ERROR(2)
#define REP_ERR_INVALID  REP_ERROR(3)
#define REP_ERR_TLS_REQD REP_ERROR(5)

struct talk {
    struct nbd_connection *c;
    gint64 deadline;
    guint32 flags;       /* the client's */
    gboolean structured; /* it wants structured replies */
    gboolean image_structured;
    char name[MOST_NAME + 1]; /* of the image that is open */
    guint32 option, len;
    guint8 data[MOST_DATA];
};

/* What an option ends with. */
enum step { GO_ON, TRANSMIT, END };

/* ---- to the client ---- */

static enum step reply(struct talk *t, guint32 type, const char *text)
{
    guint8 h[20];
    gsize len = text != NULL ? strlen(text) : 0;
    put64(h, MAGIC_REPLY);
    put32(h + 8, t->option);
    put32(h + 12, type);
    put32(h + 16, (guint32) len);
    return nbd_stream_write(&t->c->client, h, sizeof h, t->deadline) &&
                   nbd_stream_write(&t->c->client, text, len, t->deadline)
               ? GO_ON
               : END;
}

static gboolean greet(struct talk *t)
{
    guint8 h[18], flags[4];
    put64(h, MAGIC_SERVER);
    put64(h + 8, MAGIC_OPTION);
    h[16] = 0;
    h[17] = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES;
    if (!nbd_stream_write(&t->c->client, h, sizeof h, t->deadline) ||
        !nbd_stream_read(&t->c->client, flags, sizeof flags, t->deadline))
        return FALSE;
    t->flags = get32(flags);
    return (t->flags & ~(guint32) (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)) == 0 && (t->flags & FLAG_FIXED_NEWSTYLE) != 0;
}

static gboolean read_option(struct talk *t)
{
    guint8 h[16];
    if (!nbd_stream_read(&t->c->client, h, sizeof h, t->deadline) || get64(h) != MAGIC_OPTION)
        return FALSE;
    t->option = get32(h + 8);
    t->len = get32(h + 12);
    return t->len <= sizeof t->data && nbd_stream_read(&t->c->client, t->data, t->len, t->deadline);
}

/* ---- to the image's server ---- */

static gboolean ask_image(struct talk *t, guint32 option, const void *data, gsize len)
{
    guint8 h[16];
    put64(h, MAGIC_OPTION);
    put32(h + 8, option);
    put32(h + 12, (guint32) len);
    return nbd_stream_write(&t->c->image, h, sizeof h, t->deadline) &&
           nbd_stream_write(&t->c->image, data, len, t->deadline);
}

/* One reply; its header, 20 bytes, and data that the caller frees. FALSE: it makes no sense. */
static gboolean read_reply(struct talk *t, guint8 h[20], guint8 **data)
{
    *data = NULL;
    if (!nbd_stream_read(&t->c->image, h, 20, t->deadline) || get64(h) != MAGIC_REPLY || get32(h + 16) > MOST_REPLY)
        return FALSE;
    *data = g_malloc(get32(h + 16) + 1);
    return nbd_stream_read(&t->c->image, *data, get32(h + 16), t->deadline);
}

static gboolean greet_image(struct talk *t)
{
    guint8 h[18], flags[4], r[20];
    put32(flags, FLAG_FIXED_NEWSTYLE | (t->flags & FLAG_NO_ZEROES));
    if (!nbd_stream_read(&t->c->image, h, sizeof h, t->deadline) || get64(h) != MAGIC_SERVER ||
        get64(h + 8) != MAGIC_OPTION || !nbd_stream_write(&t->c->image, flags, sizeof flags, t->deadline))
        return FALSE;
    if (!t->structured)
        return TRUE;
    g_autofree guint8 *data = NULL;
    t->image_structured = ask_image(t, OPT_STRUCTURED_REPLY, NULL, 0) && read_reply(t, r, &data);
    return t->image_structured && get32(r + 12) == REP_ACK;
}

/* The option goes to the image's server, whose only export has no name; what it says goes back. */
static enum step forward(struct talk *t, const void *data, gsize len)
{
    guint8 h[20];
    if (!ask_image(t, t->option, data, len))
        return END;
    for (;;) {
        g_autofree guint8 *said = NULL;
        if (!read_reply(t, h, &said) || !nbd_stream_write(&t->c->client, h, sizeof h, t->deadline) ||
            !nbd_stream_write(&t->c->client, said, get32(h + 16), t->deadline))
            return END;
        guint32 type = get32(h + 12);
        if (type == REP_ACK)
            return t->option == OPT_GO ? TRANSMIT : GO_ON;
        if ((type & 0x80000000U) != 0)
            return GO_ON;
    }
}

/* The image of that name is open after this. FALSE with *why. */
static gboolean open_image(struct talk *t, const guint8 *name, gsize len, char **why)
{
    if (len > MOST_NAME || memchr(name, 0, len) != NULL) {
        *why = g_strdup("That is no name of an export");
        return FALSE;
    }
    g_autofree char *text = g_strndup((const char *) name, len);
    if (t->c->image.fd >= 0 && strcmp(text, t->name) == 0)
        return TRUE;
    nbd_release(t->c);
    t->image_structured = FALSE;
    if (!nbd_open(t->c, text, why))
        return FALSE;
    if (greet_image(t)) {
        g_strlcpy(t->name, text, sizeof t->name);
        return TRUE;
    }
    nbd_release(t->c);
    *why = g_strdup("The image's server does not answer");
    return FALSE;
}

/* ---- options ---- */

/* The name stands in front with its length; what follows is passed on as it is. */
static enum step named_option(struct talk *t)
{
    g_autofree char *why = NULL;
    guint32 len = t->len >= 4 ? get32(t->data) : G_MAXUINT32;
    if (t->len < 4 || len > t->len - 4)
        return reply(t, REP_ERR_INVALID, NULL);
    if (!open_image(t, t->data + 4, len, &why))
        return reply(t, REP_ERR_POLICY, why);
    guint32 rest = t->len - 4 - len;
    g_autofree guint8 *data = g_malloc0(4 + (gsize) rest);
    memcpy(data + 4, t->data + 4 + len, rest);
    return forward(t, data, 4 + (gsize) rest);
}

/* The old form knows no refusal but the end. */
static enum step export_name(struct talk *t)
{
    g_autofree char *why = NULL;
    if (!open_image(t, t->data, t->len, &why) || !ask_image(t, OPT_EXPORT_NAME, NULL, 0))
        return END;
    return TRANSMIT; /* size and flags are the first that comes from it */
}

static enum step start_tls(struct talk *t)
{
    const char *why = "";
    if (t->c->client.tls != NULL || t->len != 0)
        return reply(t, REP_ERR_INVALID, NULL);
    if (reply(t, REP_ACK, NULL) == END)
        return END;
    if (nbd_stream_start_tls(&t->c->client, t->deadline, &why))
        return GO_ON;
    g_info("NBD: TLS with %s failed: %s", t->c->address, why);
    return END;
}

static enum step structured_reply(struct talk *t)
{
    if (t->len != 0)
        return reply(t, REP_ERR_INVALID, NULL);
    t->structured = TRUE;
    if (t->c->image.fd < 0 || t->image_structured)
        return reply(t, REP_ACK, NULL);
    t->image_structured = TRUE;
    return forward(t, NULL, 0);
}

static enum step abort_talk(struct talk *t)
{
    reply(t, REP_ACK, NULL);
    return END;
}

static enum step do_option(struct talk *t)
{
    if (t->option == OPT_STARTTLS)
        return start_tls(t);
    if (t->option == OPT_ABORT)
        return abort_talk(t);
    if (t->c->must_be_tls && t->c->client.tls == NULL)
        return t->option == OPT_EXPORT_NAME ? END : reply(t, REP_ERR_TLS_REQD, "TLS is required here");
    switch (t->option) {
    case OPT_EXPORT_NAME:
        return export_name(t);
    case OPT_INFO:
    case OPT_GO:
    case OPT_LIST_META_CONTEXT:
    case OPT_SET_META_CONTEXT:
        return named_option(t);
    case OPT_STRUCTURED_REPLY:
        return structured_reply(t);
    case OPT_LIST:
        return reply(t, REP_ERR_POLICY, "Names of exports are told by VDI.get_nbd_info");
    default:
        return reply(t, REP_ERR_UNSUP, NULL);
    }
}

gboolean nbd_negotiate(struct nbd_connection *c)
{
    g_autofree struct talk *t = g_new0(struct talk, 1);
    t->c = c;
    t->deadline = g_get_monotonic_time() + LIMIT_US;
    if (!greet(t))
        return FALSE;
    enum step step = GO_ON;
    for (int i = 0; i < MOST_OPTIONS && step == GO_ON; i++)
        step = read_option(t) ? do_option(t) : END;
    return step == TRANSMIT;
}
