/* Shared by the test programs: they run under LD_PRELOAD=libsoftepc.so. */
#ifndef COMMON_H
#define COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "softepc.h"

#pragma weak softepc_counters
#pragma weak softepc_set_budget
#pragma weak softepc_set_policy
#pragma weak softepc_trace_start
#pragma weak softepc_trace_stop
#pragma weak softepc_region_base
#pragma weak softepc_in_region
#pragma weak softepc_untrusted

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Memory that is not in the enclave. */
static inline void *outside_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* Evicts everything else by touching three times the budget. */
static inline void evict_all(void)
{
    struct softepc_counters counters;
    softepc_counters(&counters);
    const size_t bytes = 3 * counters.budget_bytes;
    volatile char *scratch = malloc(bytes);
    CHECK(scratch && softepc_in_region((const void *)scratch));
    for (size_t i = 0; i < bytes; i += SOFTEPC_PAGE_BYTES)
        scratch[i] = 1;
    free((void *)scratch);
}

#endif
