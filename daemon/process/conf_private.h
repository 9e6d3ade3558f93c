/* conf_private.h - the table behind the configuration, shared by conf.c (file), conf_args.c (command line) and
 * conf_table.c (the rows and the sample). */
#ifndef XENAPID_CONF_PRIVATE_H
#define XENAPID_CONF_PRIVATE_H

#include "daemon/process/conf.h"

enum conf_type {
    CONF_TEXT,
    CONF_PATH, /* absolute when not empty */
    CONF_LIST, /* separated by ';' */
    CONF_BOOL, /* yes, no */
    CONF_INT,
    CONF_SIZE,  /* gint64 with K, M, G */
    CONF_OCTAL, /* a file mode */
    CONF_BACKEND,
    CONF_LOG_LEVEL,
};

/* What a TEXT or LIST must look like beyond that. */
enum conf_form { FORM_ANY, FORM_NOT_EMPTY, FORM_ADDRESSES, FORM_PATHS, FORM_NAME };

struct conf_row {
    const char *section, *key;
    enum conf_type type;
    gsize offset;          /* in struct conf */
    const char *otherwise; /* the default, as text */
    gint64 min, max;       /* INT, SIZE */
    enum conf_form form;
    const char *argument; /* what the option takes, for --help; NULL: no such option */
    const char *doc;
};

extern const struct conf_row conf_rows[];
extern const gsize n_conf_rows;

#define FROM_DEFAULT 0
#define FROM_OPTION  -1

/* struct conf is the first member of what conf_from_args makes. */
struct conf_whole {
    struct conf conf;
    GStrv options;        /* "--log-level=debug" ..., as conf_to_args hands them on; without --config */
    gboolean file_wanted; /* --config was given: the file must be there */
    int *origins;         /* a row: FROM_DEFAULT, FROM_OPTION or the line in the file */
};

/* All defaults. */
struct conf_whole *conf_whole_new(void);
const struct conf_row *conf_find_row(const char *section, const char *key);
/* Sets a row's value from text; append adds to a list that the command line began. FALSE with *why (the caller frees):
 * what is allowed. */
gboolean conf_set(struct conf_whole *w, const struct conf_row *row, const char *text, int origin, char **why);
/* Reads the file and lays the options over it; then what belongs together is checked. */
gboolean conf_load(struct conf_whole *w, const char *file, GStrv options, GError **error);
/* "a whole number from 1 to 64": what a row takes; the caller frees. */
char *conf_allowed(const struct conf_row *row);
GQuark conf_error_quark(void);
#define CONF_ERROR conf_error_quark()

#endif
