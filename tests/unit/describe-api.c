/* describe-api.c - prints the model as JSON, for the check against the contract. */
#include "daemon/codec/jsonrpc.h"
#include "xapi-classes/model/model.h"

int main(void)
{
    model_init();
    g_autoptr(value) v = model_describe();
    g_autofree char *text = json_text(v);
    g_print("%s\n", text);
    return 0;
}
