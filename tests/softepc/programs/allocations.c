/* Counts the allocations of the fault handler: its malloc takes precedence over libsoftepc's. */
#include "common.h"

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *pointer, size_t bytes);

static volatile int counting;
static volatile unsigned allocations;
static char *memory;

/* The executable's definitions come before those of a preloaded library. */
void *malloc(size_t bytes)
{
    allocations += counting;
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    allocations += counting;
    return __libc_calloc(count, bytes);
}

void *realloc(void *pointer, size_t bytes)
{
    allocations += counting;
    return __libc_realloc(pointer, bytes);
}

int main(void)
{
    CHECK(posix_memalign((void **)&memory, 4096, 4 << 20) == 0 && softepc_in_region(memory));
    counting = 1;
    for (unsigned round = 0; round < 3; round++)
        for (size_t i = 0; i < 4 << 20; i += SOFTEPC_PAGE_BYTES)
            ((volatile char *)memory)[i]++;
    counting = 0;
    struct softepc_counters counters;
    softepc_counters(&counters);
    CHECK(counters.loads >= 2048 && counters.evictions > 2048);
    printf("%u allocations\n", allocations);
    return 0;
}
