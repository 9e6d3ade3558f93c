/* bench-mhd.c - the yardstick: the least that a server on libmicrohttpd can do. It reads each POST and answers bytes
 * that it was given at its start.
 *
 *   bench-mhd THREADS ANSWER-FILE...
 *
 * A file holds a whole HTTP answer, header and body (what load -o wrote); the one with number N is the answer to /N.
 * The daemon's flags are those of xenapid's listeners. Prints its port and serves until its input ends. */
#define _GNU_SOURCE /* memmem */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define MAX_ANSWERS 16
#define MAX_HEADERS 8

static struct answer {
    char *body;
    size_t len;
    char *names[MAX_HEADERS], *values[MAX_HEADERS];
    int n_headers;
} answers[MAX_ANSWERS];

/* libmicrohttpd writes these by itself. */
static int is_automatic(const char *name)
{
    return strcasecmp(name, "Date") == 0 || strcasecmp(name, "Content-Length") == 0 ||
           strcasecmp(name, "Connection") == 0;
}

static void load_answer(struct answer *a, const char *path)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL, *end;
    size_t room = 0, len = 0, n;
    if (!f) {
        perror(path);
        exit(1);
    }
    do {
        text = realloc(text, room += 16 << 20);
        len += n = fread(text + len, 1, room - len, f);
    } while (n > 0);
    fclose(f);
    end = memmem(text, len, "\r\n\r\n", 4);
    if (!end) {
        fprintf(stderr, "%s is not an HTTP answer\n", path);
        exit(1);
    }
    a->body = end + 4;
    a->len = len - (size_t) (a->body - text);
    *end = '\0';
    strtok(text, "\r\n");
    for (char *line; (line = strtok(NULL, "\r\n")) && a->n_headers < MAX_HEADERS;) {
        char *colon = strstr(line, ": ");
        *colon = '\0';
        if (is_automatic(line))
            continue;
        a->names[a->n_headers] = line;
        a->values[a->n_headers++] = colon + 2;
    }
}

static enum MHD_Result answer(struct MHD_Connection *connection, const struct answer *a)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(a->len, a->body, MHD_RESPMEM_PERSISTENT);
    for (int i = 0; i < a->n_headers; i++)
        MHD_add_response_header(r, a->names[i], a->values[i]);
    enum MHD_Result ok = MHD_queue_response(connection, MHD_HTTP_OK, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *len, void **context)
{
    static int begun;
    (void) cls;
    (void) method;
    (void) version;
    (void) data;
    if (!*context) {
        *context = &begun;
        return MHD_YES;
    }
    if (*len > 0) {
        *len = 0;
        return MHD_YES;
    }
    return answer(connection, &answers[atoi(url + 1) % MAX_ANSWERS]);
}

int main(int argc, char **argv)
{
    unsigned threads = argc > 1 ? (unsigned) atoi(argv[1]) : 1;
    struct MHD_OptionItem pool[] = {{threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, threads, NULL},
                                    {MHD_OPTION_END, 0, NULL}};
    char c;
    for (int i = 2; i < argc && i - 2 < MAX_ANSWERS; i++)
        load_answer(&answers[i - 2], argv[i]);
    struct MHD_Daemon *d =
        MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
                         on_request, NULL, MHD_OPTION_ARRAY, pool, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         (size_t) (32 * 1024), MHD_OPTION_CONNECTION_TIMEOUT, 305u, MHD_OPTION_END);
    if (!d)
        return 1;
    printf("%d\n", MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    while (read(0, &c, 1) > 0)
        continue;
    MHD_stop_daemon(d);
    return 0;
}
