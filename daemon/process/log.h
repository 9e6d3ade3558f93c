/* log.h - the log: journald with fields where the journal is, plain lines on stderr elsewhere.
 *
 * Use g_warning/g_message/g_info/g_debug. What log_push said of the calling thread goes with each line: the fields
 * TASK, SESSION (the session's public uuid, never its reference), METHOD and REQUEST_ID. A line is escaped as a whole;
 * pass clients' text through log_escape, which also shortens it. Passwords and session references never come here. */
#ifndef XENAPID_LOG_H
#define XENAPID_LOG_H

#include "daemon/process/conf.h"

/* program: "xenapid", "xenapid-auth"; installs the GLib writer. */
void log_init(const char *program, enum log_level level);
void log_set_level(enum log_level level);

/* What a line belongs to: set for the calling thread while a request or task runs on it; members may be NULL. */
struct log_context {
    const char *task, *session, *method;
    guint64 request_id; /* 0: none */
};
/* Answers the context that was there before; c must outlive its use. NULL clears. */
const struct log_context *log_push(const struct log_context *c);

/* Keeps the last lines, some 256 KiB of them, for log_recent. Once, before threads. */
void log_keep(void);
/* Them, oldest first; "" without log_keep. The caller frees. */
char *log_recent(void);

/* Printable form of a client's text, shortened; the caller frees. */
char *log_escape(const char *text);

#endif
