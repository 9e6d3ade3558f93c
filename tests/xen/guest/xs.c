/* xs.c - the guest's xenstore tool: xs PATH VALUE writes, xs PATH reads; paths are relative to the domain's own. */
#include <stdio.h>
#include <string.h>
#include <xenstore.h>

int main(int argc, char **argv)
{
    struct xs_handle *h = xs_open(0);
    unsigned len;
    char *text;
    if (h == NULL || argc < 2) {
        perror("xs");
        return 2;
    }
    if (argc == 3)
        return !xs_write(h, XBT_NULL, argv[1], argv[2], strlen(argv[2]));
    text = xs_read(h, XBT_NULL, argv[1], &len);
    if (text == NULL)
        return 1;
    puts(text);
    return 0;
}
