/*
 * Runs a script of operations and prints the fault trace and the counters.
 * Script, from stdin: "a ID PAGES" allocates, "f ID" frees, "t ID PAGE" writes to a page,
 * "b BYTES" sets the budget, "p POLICY" the policy, "d ID PAGE COUNT" is MADV_DONTNEED.
 */
#include "common.h"

enum { ALLOCATIONS = 64, TRACE = 1 << 20 };

int main(void)
{
    char *live[ALLOCATIONS] = {0};
    uint64_t *pages = outside_memory(TRACE * sizeof *pages);
    uint8_t *kinds = outside_memory(TRACE);
    char operation, name[32];
    unsigned id;
    unsigned long number, count;
    CHECK(softepc_trace_start(pages, kinds, TRACE) == 0);

    while (scanf(" %c", &operation) == 1) {
        switch (operation) {
        case 'a':
            CHECK(scanf("%u %lu", &id, &number) == 2 && id < ALLOCATIONS);
            live[id] = malloc(number * SOFTEPC_PAGE_BYTES);
            CHECK(softepc_in_region(live[id]));
            break;
        case 'f':
            CHECK(scanf("%u", &id) == 1);
            free(live[id]);
            break;
        case 't': {
            CHECK(scanf("%u %lu", &id, &number) == 2);
            volatile unsigned *word = (unsigned *)(live[id] + number * SOFTEPC_PAGE_BYTES);
            CHECK(*word == 0 || *word == id + number * ALLOCATIONS + 1);
            *word = (unsigned)(id + number * ALLOCATIONS + 1);
            break;
        }
        case 'b':
            CHECK(scanf("%lu", &number) == 1 && softepc_set_budget(number) == 0);
            break;
        case 'p':
            CHECK(scanf("%31s", name) == 1 && softepc_set_policy(name) == 0);
            break;
        case 'd':
            CHECK(scanf("%u %lu %lu", &id, &number, &count) == 3);
            CHECK(madvise(live[id] + number * SOFTEPC_PAGE_BYTES, count * SOFTEPC_PAGE_BYTES,
                          MADV_DONTNEED) == 0);
            break;
        default:
            CHECK(!"a known operation");
        }
    }
    const size_t seen = softepc_trace_stop();
    struct softepc_counters c;
    softepc_counters(&c);
    CHECK(seen <= TRACE && seen == c.faults);
    printf("%llu %llu %llu %llu %llu %llu %llu\n", (unsigned long long)c.zero_fills,
           (unsigned long long)c.loads, (unsigned long long)c.minor_faults,
           (unsigned long long)c.evictions, (unsigned long long)c.resident_bytes,
           (unsigned long long)c.sealed_bytes, (unsigned long long)c.live_bytes);
    for (size_t i = 0; i < seen; i++)
        printf("%llu %d\n", (unsigned long long)pages[i], kinds[i]);
    return 0;
}
