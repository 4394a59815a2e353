/* Memory errors: after-free | overrun | double-free. */
#include "common.h"

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    volatile char *memory = malloc(1 << 20);
    memory[0] = 1;
    if (strcmp(argv[1], "overrun") == 0)
        memory[1 << 20] = 1;
    free((void *)memory);
    if (strcmp(argv[1], "double-free") == 0)
        free((void *)memory);
    else
        memory[0] = 1;
    return 0;
}
