/* transfer.h - long data over HTTP (disks, whole VMs, consoles): what the handlers share. Each transfer has a thread
 * and a task, the client's own or one that is made for it, and holds the objects that it works on. */
#ifndef XENAPID_TRANSFER_H
#define XENAPID_TRANSFER_H

#include "daemon/http/http_route.h"
#include "daemon/store/store.h"

#define UNKNOWN_LENGTH G_GINT64_CONSTANT(1125899906842624) /* announced by clients that do not know */

struct transfer;
/* The work itself: answers, or sets t->fault and returns, which answers, too. Either way the task is ended after it. */
typedef void transfer_fn(struct transfer *t);

struct transfer {
    struct http_request *r; /* NULL: answered */
    const char *name;
    transfer_fn *fn;
    GHashTable *query; /* what the client asked for, and the headers that matter ("Range") */
    gboolean is_head;
    gint64 length;          /* of the body; -1: it is not known, also when it was announced as UNKNOWN_LENGTH */
    gboolean is_open_ended; /* announced as UNKNOWN_LENGTH */
    char task[REF_SIZE];
    gboolean task_ended;
    guint8 last; /* of the answer, not sent yet */
    gboolean has_last;
    gint cancel;        /* atomic: the task was cancelled, or the daemon stops */
    struct fault fault; /* why it failed */
    struct value *result;
    GPtrArray *held;     /* of struct held: operations to be taken out of current_operations */
    void (*after)(void); /* to be called when all is answered; NULL: nothing */
    gint64 told;         /* when the task's progress was set last */
};

/* Both may be called before the first request. */
void transfers_init(void);
/* The daemon is about to stop: consoles end now, no new transfer begins. */
void transfers_quiesce(void);
/* No client is there any more: waits for the threads, at most until the deadline (monotonic milliseconds). */
void transfers_stop(gint64 deadline_ms);

/* In a handler: runs fn on a thread. */
void transfer_run(struct http_request *r, const char *name, transfer_fn *fn);

/* ---- for transfer_fn ---- */

const char *transfer_query(const struct transfer *t, const char *name); /* NULL when absent or empty */
gboolean transfer_flag(const struct transfer *t, const char *name);     /* "true", "1" */
/* Makes the task; FALSE with the fault set when the one that the client named is of no use. */
gboolean transfer_begin_task(struct transfer *t);
void transfer_progress(struct transfer *t, double fraction);
/* FALSE with TASK_CANCELLED set. */
gboolean transfer_may_go_on(struct transfer *t);
/* TRUE when an upload has no content and no task: its client asks only whether it is at the right place. */
gboolean transfer_is_probe(struct transfer *t);
/* The object that a parameter names by reference or uuid, counted; NULL with the fault set. */
struct record *transfer_object(struct transfer *t, enum class_id class, const char *parameter);
/* Puts op, which check (NULL: op itself) must be allowed for, into the object's current_operations until the end. */
gboolean transfer_hold(struct transfer *t, enum class_id class, const char *ref, const char *op, const char *check);
/* Fills the buffer unless the body ends: bytes; -1 with the fault set when the client went away. */
gssize transfer_read(struct transfer *t, void *buffer, gsize len);
/* The same, but content with any bytes that are there; 0 at the end. */
gssize transfer_read_some(struct transfer *t, void *buffer, gsize room);
/* FALSE when it went away: the fault is set. */
gboolean transfer_write(struct transfer *t, const void *data, gsize len);
/* Sends the text and empties it, once it is that long. */
gboolean transfer_write_text(struct transfer *t, GString *text, gsize least);
/* The end of an answer that was begun with http_begin. */
void transfer_end_answer(struct transfer *t);
/* Who takes the request ends it; t->r is NULL then. */
struct http_request *transfer_take_request(struct transfer *t);
/* An HTTP status for a fault. */
guint transfer_status(const struct fault *f);

/* ---- the handlers ---- */

void transfer_raw_init(void);
void transfer_export_init(void);
void transfer_import_init(void);
void transfer_console_init(void);
void transfer_blob_init(void);
void transfer_dump_init(void);
void transfer_rrd_init(void);

#endif
