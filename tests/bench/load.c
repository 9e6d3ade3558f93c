/* load.c - a load generator: keep-alive connections over loopback, each with one POST under way, in one epoll loop.
 *
 *   load -p PORT -u PATH -T CONTENT-TYPE -b BODY-FILE [-c CONNECTIONS] [-t SECONDS] [-n REQUESTS] [-m MATCH] [-o FILE]
 *
 * -n ends after so many requests. -m is text that every answer must have near its beginning, or it counts as an error.
 * -o keeps the first answer, header and all. In the body the first ######## becomes a number that counts up. Prints one
 * JSON object: requests, errors, seconds, bytes, and the microseconds that half, 99 of 100, and all of them took. */
#define _GNU_SOURCE /* memmem */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_ROOM   4096         /* of an answer's beginning is looked at */
#define READ_ROOM   (256 * 1024) /* bytes read at once */
#define MAX_SAMPLES 4000000

struct connection {
    int fd;
    double began;
    char head[HEAD_ROOM];
    size_t got, expected; /* bytes of this answer; expected is 0 until its header is complete */
};

static struct {
    int port, connections;
    double seconds;
    long requests;
    const char *path, *type, *match, *keep;
} options = {.connections = 1, .seconds = 1, .path = "/", .type = "text/xml"};

static char *request, *counter; /* the counter is in the request, or NULL */
static size_t request_len;
static long sent, done, errors, count;
static unsigned long long bytes;
static unsigned *samples;
static FILE *keep;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static char *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        die(path);
    size_t room = 1 << 20;
    char *text = malloc(room);
    *len = fread(text, 1, room, f);
    fclose(f);
    return text;
}

static void make_request(const char *body_file)
{
    size_t body_len;
    char *body = read_file(body_file, &body_len), *head;
    int head_len =
        asprintf(&head, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n",
                 options.path, options.port, options.type, body_len);
    if (head_len < 0)
        die("asprintf");
    request_len = (size_t) head_len + body_len;
    request = malloc(request_len);
    memcpy(request, head, (size_t) head_len);
    memcpy(request + head_len, body, body_len);
    counter = memmem(request, request_len, "########", 8);
    free(body);
    free(head);
}

static void send_request(struct connection *c)
{
    if (counter) {
        char digits[16];
        snprintf(digits, sizeof digits, "%08ld", ++count % 100000000);
        memcpy(counter, digits, 8);
    }
    c->got = c->expected = 0;
    c->began = now();
    sent++;
    /* A request fits the socket's buffer, which is empty. */
    if (write(c->fd, request, request_len) != (ssize_t) request_len)
        die("write");
}

static void open_connection(struct connection *c, int epoll)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short) options.port)};
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *) &a, sizeof a) != 0)
        die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) != 0)
        die("epoll_ctl");
}

/* The length of the whole answer, once its header is there. */
static size_t answer_length(const struct connection *c)
{
    size_t have = c->got < HEAD_ROOM ? c->got : HEAD_ROOM;
    const char *end = memmem(c->head, have, "\r\n\r\n", 4);
    if (!end)
        return 0;
    for (const char *p = c->head; p < end; p++)
        if (*p == '\n' && strncasecmp(p + 1, "Content-Length:", 15) == 0)
            return (size_t) (end + 4 - c->head) + strtoul(p + 16, NULL, 10);
    fprintf(stderr, "an answer without a length\n");
    exit(1);
}

static void answered(struct connection *c, double until)
{
    size_t have = c->got < HEAD_ROOM ? c->got : HEAD_ROOM;
    double t = now();
    if (memcmp(c->head, "HTTP/1.1 200", 12) != 0 ||
        (options.match && !memmem(c->head, have, options.match, strlen(options.match))))
        errors++;
    if (done < MAX_SAMPLES)
        samples[done] = (unsigned) ((t - c->began) * 1e6);
    done++;
    bytes += c->got;
    if (keep) {
        fclose(keep);
        keep = NULL;
    }
    if (t < until && (options.requests == 0 || sent < options.requests))
        send_request(c);
    else
        c->began = 0;
}

static void read_answer(struct connection *c, double until)
{
    static char buffer[READ_ROOM];
    ssize_t n = read(c->fd, buffer, sizeof buffer);
    if (n <= 0) {
        fprintf(stderr, "the server closed a connection after %ld answers\n", done);
        exit(1);
    }
    if (keep && fwrite(buffer, 1, (size_t) n, keep) != (size_t) n)
        die("write");
    if (c->got < HEAD_ROOM)
        memcpy(c->head + c->got, buffer, (size_t) n < HEAD_ROOM - c->got ? (size_t) n : HEAD_ROOM - c->got);
    c->got += (size_t) n;
    if (c->expected == 0)
        c->expected = answer_length(c);
    if (c->expected > 0 && c->got >= c->expected)
        answered(c, until);
}

static int is_busy(const struct connection *c, int n)
{
    for (int i = 0; i < n; i++)
        if (c[i].began > 0)
            return 1;
    return 0;
}

static int by_size(const void *a, const void *b)
{
    unsigned x = *(const unsigned *) a, y = *(const unsigned *) b;
    return x < y ? -1 : x > y;
}

static void report(double seconds)
{
    long n = done < MAX_SAMPLES ? done : MAX_SAMPLES;
    qsort(samples, (size_t) n, sizeof *samples, by_size);
    printf("{\"requests\": %ld, \"errors\": %ld, \"seconds\": %.6f, \"bytes\": %llu, \"p50\": %u, \"p99\": %u, "
           "\"max\": %u}\n",
           done, errors, seconds, bytes, n ? samples[n / 2] : 0, n ? samples[n * 99 / 100] : 0, n ? samples[n - 1] : 0);
}

static void parse_options(int argc, char **argv)
{
    const char *body = NULL;
    int o;
    while ((o = getopt(argc, argv, "p:u:T:b:c:t:n:m:o:")) != -1) {
        switch (o) {
        case 'p':
            options.port = atoi(optarg);
            break;
        case 'u':
            options.path = optarg;
            break;
        case 'T':
            options.type = optarg;
            break;
        case 'b':
            body = optarg;
            break;
        case 'c':
            options.connections = atoi(optarg);
            break;
        case 't':
            options.seconds = atof(optarg);
            break;
        case 'n':
            options.requests = atol(optarg);
            break;
        case 'm':
            options.match = optarg;
            break;
        case 'o':
            options.keep = optarg;
            break;
        default:
            exit(2);
        }
    }
    if (!body || options.port == 0) {
        fprintf(stderr, "load: -p PORT and -b BODY-FILE are needed\n");
        exit(2);
    }
    make_request(body);
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    int epoll = epoll_create1(0), n = options.connections;
    struct connection *c = calloc((size_t) n, sizeof *c);
    struct epoll_event events[256];
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    if (options.keep && !(keep = fopen(options.keep, "wb")))
        die(options.keep);
    for (int i = 0; i < n; i++)
        open_connection(&c[i], epoll);

    double began = now(), until = began + options.seconds;
    for (int i = 0; i < n && (options.requests == 0 || sent < options.requests); i++)
        send_request(&c[i]);
    while (is_busy(c, n)) {
        int k = epoll_wait(epoll, events, 256, 30000);
        if (k == 0) {
            fprintf(stderr, "no answer in 30 s\n");
            return 1;
        }
        for (int i = 0; i < k; i++)
            read_answer(events[i].data.ptr, until);
    }
    report(now() - began);
    return 0;
}
