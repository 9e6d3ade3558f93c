/* main.c - xenapid: reads the configuration, makes directories and listening sockets, and supervises the processes that
 * do the work. It stays root and never reads a byte from the network. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/process/log.h"
#include "daemon/process/supervisor.h"

static int print_api(const struct conf *c)
{
    g_autofree char *path = g_build_filename(c->helper_dir, "xenapid-front", NULL);
    execl(path, path, "--describe-api", NULL);
    g_printerr("xenapid: cannot run %s: %s\n", path, g_strerror(errno));
    return 1;
}

/* Whom the front becomes: nobody else when we are not root; never root. FALSE with *error. */
static gboolean choose_account(const struct conf *c, struct account **account, GError **error)
{
    *account = NULL;
    if (geteuid() != 0)
        return TRUE;
    *account = account_find(c->user, error);
    if (!*account) {
        g_prefix_error(error, "user=%s: ", c->user);
        return FALSE;
    }
    if ((*account)->uid == 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PERM,
                    "user=%s: the process that faces the network is not run as root; name another user", c->user);
        return FALSE;
    }
    return TRUE;
}

static gboolean dir_error(GError **error, const char *dir, const char *option, const char *what)
{
    int code = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(code), "%s: %s: %s%s%s", dir, what, g_strerror(code),
                geteuid() ? "; choose another place with --" : "", geteuid() ? option : "");
    return FALSE;
}

/* Opens the directory, made if need be; -1 with errno. */
static int open_dir(const char *dir, mode_t mode)
{
    g_autofree char *parent = g_path_get_dirname(dir);
    if (g_mkdir_with_parents(parent, 0755) < 0 || (mkdir(dir, mode) < 0 && errno != EEXIST))
        return -1;
    return open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The front's own: nobody else looks in. Locked as long as we live, so that two do not share one. */
static gboolean take_state_dir(const struct conf *c, const struct account *account, int *lock, GError **error)
{
    struct stat st;
    uid_t owner = account ? account->uid : geteuid();
    int fd = open_dir(c->state_dir, 0700);
    if (fd < 0 || fstat(fd, &st) < 0)
        return dir_error(error, c->state_dir, "state-dir", "cannot be used");
    *lock = fd;
    if (st.st_uid != owner && st.st_uid != 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PERM,
                    "%s belongs to user %u, not to %u: chown -R it or choose another", c->state_dir,
                    (unsigned) st.st_uid, (unsigned) owner);
        return FALSE;
    }
    if (account && fchown(fd, account->uid, account->gid) < 0)
        return dir_error(error, c->state_dir, "state-dir", "chown");
    if ((st.st_mode & 0777) != 0700 && fchmod(fd, 0700) < 0)
        return dir_error(error, c->state_dir, "state-dir", "chmod");
    if (faccessat(fd, ".", W_OK | X_OK, 0) < 0)
        return dir_error(error, c->state_dir, "state-dir", "cannot be written");
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s: another xenapid uses it", c->state_dir);
        return FALSE;
    }
    return TRUE;
}

/* The simulator keeps its domains there and has no rights of its own. */
static gboolean make_runtime_dir(const struct conf *c, const struct account *account, GError **error)
{
    int fd = open_dir(c->runtime_dir, 0755);
    if (fd < 0)
        return dir_error(error, c->runtime_dir, "runtime-dir", "cannot be used");
    gboolean ok = !account || c->backend != BACKEND_SIM || fchown(fd, account->uid, account->gid) == 0 ||
                  dir_error(error, c->runtime_dir, "runtime-dir", "chown");
    close(fd);
    return ok;
}

/* From a good configuration to the end. */
static int run(struct conf **c)
{
    g_autoptr(GError) error = NULL;
    struct account *account = NULL;
    struct listeners listeners = {0};
    int lock = -1, status = 1;
    if (choose_account(*c, &account, &error) && take_state_dir(*c, account, &lock, &error) &&
        make_runtime_dir(*c, account, &error) && listeners_open(&listeners, *c, account, &error))
        status = supervisor_run(c, &listeners, account);
    else
        g_critical("%s", error->message);
    listeners_close(&listeners);
    account_free(account);
    if (lock >= 0)
        close(lock);
    return status;
}

int main(int argc, char **argv)
{
    int status;
    gboolean check_only, describe_api, version;
    umask(022);
    struct conf *c = conf_from_args(&argc, &argv, &status, &check_only, &describe_api, &version);
    if (!c)
        return status;
    if (version) {
        puts(PACKAGE_STRING);
    } else if (describe_api) {
        status = print_api(c);
    } else if (check_only) {
        printf("%s: the configuration is good\n", c->config_file ? c->config_file : "xenapid");
    } else {
        log_init("xenapid", c->log_level);
        g_message("%s%s%s", PACKAGE_STRING, c->config_file ? " with " : "", c->config_file ? c->config_file : "");
        status = run(&c);
    }
    conf_free(c);
    return status;
}
