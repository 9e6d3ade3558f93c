/* xen_boot.c - what a domain boots from. Whoever may edit a VM names files that root is going to open here, so nothing
 * but what looks like a kernel, a ramdisk or a known bootloader is taken. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_SIZE    0x206
#define BZIMAGE_SIGN 0x202

struct magic {
    gsize offset, len;
    const char *bytes;
};

static const struct magic kernels[] = {
    {0, 4, "\177ELF"},
    {BZIMAGE_SIGN, 4, "HdrS"},
    {0, 2, "MZ"},
    {0, 2, "\x1f\x8b"},
};
static const struct magic ramdisks[] = {
    {0, 2, "\x1f\x8b"},
    {0, 6, "\xfd\x37zXZ\0"},
    {0, 4, "\x28\xb5\x2f\xfd"},
    {0, 4, "\x02\x21\x4c\x18"},
    {0, 4, "\x04\x22\x4d\x18"},
    {0, 3, "\x5d\0\0"},
    {0, 3, "BZh"},
    {0, 4, "0707"},
    {0, 4, "\x89LZO"},
};

static gboolean has_magic(const char *head, gsize len, const struct magic *m, gsize n)
{
    for (gsize i = 0; i < n; i++)
        if (len >= m[i].offset + m[i].len && memcmp(head + m[i].offset, m[i].bytes, m[i].len) == 0)
            return TRUE;
    return FALSE;
}

static gboolean file_fault(const char *path, const char *why, struct fault *f)
{
    g_autofree char *text = g_strdup_printf("%s: %s", path, why);
    return fault_set(f, "DOMAIN_BUILDER_ERROR", "kernel", "2", text, NULL);
}

static gboolean check_file(const char *path, const struct magic *m, gsize n, const char *what, struct fault *f)
{
    char head[HEAD_SIZE];
    struct stat st;
    if (*path != '/')
        return file_fault(path, "not an absolute path", f);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return file_fault(path, g_strerror(errno), f);
    gboolean regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    gssize len = regular ? pread(fd, head, sizeof head, 0) : -1;
    close(fd);
    if (len < 0 || !has_magic(head, (gsize) len, m, n))
        return file_fault(path, what, f);
    return TRUE;
}

/* What pygrub may be told; its others name files to write. */
static gboolean bootloader_arg_is_harmless(const char *arg)
{
    static const char *const known[] = {
        "-q", "--quiet", "--entry=", "--kernel=", "--ramdisk=", "--offset=", "--isconfig", NULL};
    for (gsize i = 0; known[i] != NULL; i++) {
        gboolean prefix = g_str_has_suffix(known[i], "=");
        if (prefix ? g_str_has_prefix(arg, known[i]) : strcmp(arg, known[i]) == 0)
            return TRUE;
    }
    return FALSE;
}

static libxl_string_list string_list(char **words)
{
    guint n = g_strv_length(words);
    char **list = calloc(n + 1, sizeof *list); /* libxl frees it */
    for (guint i = 0; list != NULL && i < n; i++)
        list[i] = strdup(words[i]);
    return list;
}

static gboolean fill_bootloader(struct value *config, const char *name, libxl_domain_build_info *b, struct fault *f)
{
    const char *args = value_get_str(config, "bootloader_args", "");
    g_auto(GStrv) words = NULL;
    if (strcmp(name, "pygrub") != 0)
        return fault_set(f, "UNKNOWN_BOOTLOADER", value_get_str(config, "uuid", ""), name, NULL);
    if (*args != '\0' && !g_shell_parse_argv(args, NULL, &words, NULL))
        return fault_set(f, "INVALID_VALUE", "PV_bootloader_args", args, NULL);
    for (guint i = 0; words != NULL && words[i] != NULL; i++)
        if (!bootloader_arg_is_harmless(words[i]))
            return fault_set(f, "INVALID_VALUE", "PV_bootloader_args", words[i], NULL);
    b->bootloader = strdup(name);
    if (words != NULL)
        b->bootloader_args = string_list(words);
    return TRUE;
}

static gboolean fill_kernel(struct value *config, const char *kernel, libxl_domain_build_info *b, struct fault *f)
{
    const char *ramdisk = value_get_str(config, "ramdisk", "");
    if (!check_file(kernel, kernels, G_N_ELEMENTS(kernels), "not a kernel", f))
        return FALSE;
    if (*ramdisk != '\0' && !check_file(ramdisk, ramdisks, G_N_ELEMENTS(ramdisks), "not a ramdisk", f))
        return FALSE;
    b->kernel = strdup(kernel);
    if (*ramdisk != '\0')
        b->ramdisk = strdup(ramdisk);
    return TRUE;
}

gboolean xen_boot_fill(struct value *config, libxl_domain_build_info *b, struct fault *f)
{
    const char *kernel = value_get_str(config, "kernel", ""), *args = value_get_str(config, "args", "");
    const char *bootloader = value_get_str(config, "bootloader", "");
    gboolean hvm = b->type == LIBXL_DOMAIN_TYPE_HVM;
    if (*args != '\0')
        b->cmdline = strdup(args);
    if (*kernel != '\0')
        return fill_kernel(config, kernel, b, f);
    if (hvm)
        return TRUE;
    if (*bootloader != '\0')
        return fill_bootloader(config, bootloader, b, f);
    return fault_set(f, "DOMAIN_BUILDER_ERROR", "kernel", "2", "The VM has neither a kernel nor a bootloader", NULL);
}
