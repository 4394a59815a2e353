/* What a child of fork does with the parent's enclave: touch | call | resize | leave. */
#include "common.h"

#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    const size_t bytes = 1 << 20;
    unsigned char *memory = malloc(bytes);
    memset(memory, 7, bytes);
    evict_all();

    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        unsigned char *new = malloc(bytes); /* an allocation of libc */
        CHECK(new && !softepc_in_region(new) && !softepc_region_base());
        memset(new, 1, bytes);
        free(new);
        if (strcmp(argv[1], "touch") == 0)
            printf("%d\n", ((volatile unsigned char *)memory)[5]);
        else if (strcmp(argv[1], "call") == 0)
            CHECK(write(STDOUT_FILENO, memory, 10) == -1);
        else if (strcmp(argv[1], "resize") == 0)
            CHECK(!realloc(memory, 2 * bytes));
        else
            free(memory);
        exit(4); /* exit handlers included */
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    for (size_t i = 0; i < bytes; i++)
        CHECK(memory[i] == 7);
    free(memory);
    printf("%d\n", WEXITSTATUS(status));
    return 0;
}
