/* bench-abyss.c - the other yardstick: the same getter on xmlrpc-c's server, Abyss, as most C programs that speak
 * XML-RPC would write it. VM.get_name_label checks the session and answers {Status, Value}.
 *
 *   bench-abyss SESSION REF NAME
 *
 * Prints its port and serves until its input ends. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xmlrpc-c/base.h>
#include <xmlrpc-c/server.h>
#include <xmlrpc-c/server_abyss.h>

static const char *session, *ref, *name;

static xmlrpc_value *get_name_label(xmlrpc_env *env, xmlrpc_value *params, void *data, void *call_info)
{
    const char *s, *r;
    xmlrpc_value *result = NULL;
    (void) data;
    (void) call_info;
    xmlrpc_decompose_value(env, params, "(ss)", &s, &r);
    if (env->fault_occurred)
        return NULL;
    if (strcmp(s, session) != 0)
        result = xmlrpc_build_value(env, "{s:s,s:(ss)}", "Status", "Failure", "ErrorDescription", "SESSION_INVALID", s);
    else if (strcmp(r, ref) != 0)
        result = xmlrpc_build_value(env, "{s:s,s:(sss)}", "Status", "Failure", "ErrorDescription", "HANDLE_INVALID",
                                    "VM", r);
    else
        result = xmlrpc_build_value(env, "{s:s,s:s}", "Status", "Success", "Value", name);
    free((void *) s);
    free((void *) r);
    return result;
}

static int listen_somewhere(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *) &a, len) != 0 || listen(fd, 128) != 0 ||
        getsockname(fd, (struct sockaddr *) &a, &len) != 0)
        exit(1);
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

static void *end_with_input(void *unused)
{
    char c;
    (void) unused;
    while (read(0, &c, 1) > 0)
        continue;
    _exit(0);
}

int main(int argc, char **argv)
{
    struct xmlrpc_method_info3 method = {.methodName = "VM.get_name_label", .methodFunction = get_name_label};
    pthread_t thread;
    xmlrpc_env env;
    if (argc != 4)
        return 2;
    session = argv[1];
    ref = argv[2];
    name = argv[3];
    xmlrpc_env_init(&env);
    xmlrpc_server_abyss_parms p = {.config_file_name = NULL,
                                   .registryP = xmlrpc_registry_new(&env),
                                   .keepalive_max_conn = 1000000000,
                                   .keepalive_timeout = 60,
                                   .socket_bound = 1,
                                   .socket_handle = listen_somewhere(),
                                   .max_conn = 1024};
    xmlrpc_registry_add_method3(&env, p.registryP, &method);
    pthread_create(&thread, NULL, end_with_input, NULL);
    xmlrpc_server_abyss(&env, &p, XMLRPC_APSIZE(max_conn));
    fprintf(stderr, "%s\n", env.fault_string ? env.fault_string : "ended");
    return 1;
}
