/* xmlrpc_guard.c - refuses documents that libxml2 would read but should not be given: character sets that need
 * iconv, invalid UTF-8, document types, and tags with so many attributes that checking them takes quadratic time. */
#include "daemon/codec/xmlrpc_guard.h"

#include <string.h>

#define DECLARATION_LENGTH 256
#define TAG_LENGTH         1024
#define LATIN1             "ISO-8859-1"

struct span {
    const char *p, *end;
};

static gboolean starts_with(struct span s, const char *text)
{
    gsize len = strlen(text);
    return (gsize) (s.end - s.p) >= len && memcmp(s.p, text, len) == 0;
}

/* Moves behind the next text; FALSE when there is none. */
static gboolean skip_past(struct span *s, const char *text)
{
    const char *found = g_strstr_len(s->p, s->end - s->p, text);
    if (found == NULL)
        return FALSE;
    s->p = found + strlen(text);
    return TRUE;
}

static void skip_space(struct span *s)
{
    while (s->p < s->end && g_ascii_isspace(*s->p))
        s->p++;
}

/* libxml2 reads these by itself; for others it would load a converter that the document chooses. */
static gboolean is_known_encoding(const char *name, gsize len, gboolean *utf8)
{
    static const char *const known[] = {"UTF-8", "UTF8", "US-ASCII", "ASCII", LATIN1};
    for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
        if (strlen(known[i]) == len && g_ascii_strncasecmp(known[i], name, len) == 0) {
            *utf8 = !g_str_equal(known[i], LATIN1);
            return TRUE;
        }
    }
    return FALSE;
}

/* The encoding in <?xml ... encoding="..."?>, if there is one, is a known one. */
static gboolean declaration_is_good(struct span s, gboolean *utf8)
{
    struct span rest = s;
    rest.end = s.p + MIN(s.end - s.p, DECLARATION_LENGTH);
    if (!skip_past(&rest, "?>"))
        return FALSE;
    s.end = rest.p;
    if (!skip_past(&s, "encoding"))
        return TRUE;
    skip_space(&s);
    if (s.p == s.end || *s.p++ != '=')
        return FALSE;
    skip_space(&s);
    char quote = s.p < s.end ? *s.p++ : '\0';
    if (quote != '"' && quote != '\'')
        return FALSE;
    const char *name = s.p, *close = memchr(name, quote, (gsize) (s.end - name));
    return close != NULL && is_known_encoding(name, (gsize) (close - name), utf8);
}

/* s begins with a start tag. Moves behind it. */
static gboolean skip_tag(struct span *s)
{
    const char *end = s->p + MIN(s->end - s->p, TAG_LENGTH);
    char quote = '\0';
    for (const char *p = s->p; p < end; p++) {
        if (quote != '\0') {
            if (*p == quote)
                quote = '\0';
        } else if (*p == '>') {
            s->p = p + 1;
            return TRUE;
        } else if (*p == '"' || *p == '\'') {
            quote = *p;
        }
    }
    return FALSE;
}

/* s begins with "<". Moves behind what it opens. */
static const char *guard_markup(struct span *s)
{
    if (starts_with(*s, "<!--")) {
        s->p += 4;
        return skip_past(s, "-->") ? NULL : "unfinished comment";
    }
    if (starts_with(*s, "<![CDATA["))
        return skip_past(s, "]]>") ? NULL : "unfinished CDATA section";
    if (starts_with(*s, "<!"))
        return "a document type is not allowed";
    if (starts_with(*s, "<?"))
        return skip_past(s, "?>") ? NULL : "unfinished processing instruction";
    return skip_tag(s) ? NULL : "a tag is unfinished or too long";
}

/* Nearly all text is ASCII, which is seen eight bytes at a time. */
static gboolean is_ascii(const char *text, gsize len)
{
    guint64 seen = 0, word;
    for (; len >= sizeof word; text += sizeof word, len -= sizeof word) {
        memcpy(&word, text, sizeof word);
        seen |= word;
    }
    for (; len > 0; len--)
        seen |= (guchar) *text++;
    return (seen & G_GUINT64_CONSTANT(0x8080808080808080)) == 0;
}

static gboolean is_utf8(const char *text, gsize len)
{
    return is_ascii(text, len) ? memchr(text, '\0', len) == NULL : g_utf8_validate_len(text, len, NULL);
}

const char *xmlrpc_guard(const char *text, gsize len)
{
    struct span s = {text, text + len};
    const char *error = NULL;
    gboolean utf8 = TRUE;
    /* UTF-16, UTF-32 and EBCDIC begin with other bytes. */
    if (s.end - s.p < 2 || s.p[1] == '\0' || (*s.p != '<' && !g_ascii_isspace(*s.p)))
        return "not XML";
    if (starts_with(s, "<?xml") && !declaration_is_good(s, &utf8))
        return "bad XML declaration or unknown encoding";
    /* libxml2 lets overlong sequences pass in CDATA sections. */
    if (utf8 && !is_utf8(text, len))
        return "invalid UTF-8";
    while (error == NULL && s.p < s.end && (s.p = memchr(s.p, '<', (gsize) (s.end - s.p))) != NULL)
        error = guard_markup(&s);
    return error;
}
