/* filter-script - prints the rules for a locked interface: filter-script MAC IPV4,.. IPV6,.. NAME [NAME], or those that
 * take them away: filter-script remove NAME [NAME]. */
#include "xenbackend/xen/filter.h"

#include <stdio.h>
#include <string.h>

static struct value *set_of(const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, ",", -1);
    return *text != '\0' ? value_string_set(NULL, (const char *const *) words) : value_empty_set();
}

int main(int argc, char **argv)
{
    struct fault f = FAULT_INIT;
    g_autofree char *script = NULL;
    if (argc >= 3 && strcmp(argv[1], "remove") == 0) {
        script = filter_script_removal((const char *const *) argv + 2);
    } else if (argc >= 5) {
        g_autoptr(value) ipv4 = set_of(argv[2]), ipv6 = set_of(argv[3]);
        script = filter_script((const char *const *) argv + 4, argv[1], ipv4, ipv6, &f);
    }
    g_autofree char *why = script == NULL ? fault_text(&f) : NULL;
    puts(script != NULL ? script : why);
    fault_clear(&f);
    return script != NULL ? 0 : 1;
}
