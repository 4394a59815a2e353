/*
 * THREADS threads share all pages of a buffer far larger than the budget: each owns one strip of
 * every page, and keeps a copy of what it wrote outside of the enclave. They write, compare, move
 * strips through a file with pwrite and pread, and add to shared counters. Any lost write shows.
 */
#include "common.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 8, PAGES = 512, STRIP = 384, COUNTERS = THREADS * STRIP };

static unsigned char *shared;
static atomic_bool stopping;

struct worker {
    pthread_t thread;
    unsigned index;
    unsigned char *copy; /* PAGES strips */
    uint64_t additions, operations;
};

static unsigned char *strip(const struct worker *worker, unsigned page)
{
    return shared + (size_t)page * SOFTEPC_PAGE_BYTES + worker->index * STRIP;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    uint64_t random = 88172645463325252u + worker->index * 7919u;
    FILE *file = tmpfile();
    CHECK(file);
    const int fd = fileno(file);

    while (!stopping) {
        const unsigned page = random_next(&random) % PAGES;
        const unsigned start = random_next(&random) % STRIP;
        const unsigned bytes = 1 + random_next(&random) % (STRIP - start);
        unsigned char *inside = strip(worker, page) + start;
        unsigned char *copy = worker->copy + page * STRIP + start;
        switch (random_next(&random) % 8) {
        case 0:
        case 1:
        case 2: {
            const unsigned char value = (unsigned char)random_next(&random);
            memset(inside, value, bytes);
            memset(copy, value, bytes);
            break;
        }
        case 3:
        case 4:
            CHECK(memcmp(inside, copy, bytes) == 0);
            break;
        case 5: /* another page's strip becomes this one's, through a file */
            if (worker->index % 2) {
                const unsigned from = random_next(&random) % PAGES;
                unsigned char *source = strip(worker, from) + start;
                CHECK(pwrite(fd, source, bytes, 0) == (ssize_t)bytes);
                CHECK(pread(fd, inside, bytes, 0) == (ssize_t)bytes);
                memmove(copy, worker->copy + from * STRIP + start, bytes);
            }
            break;
        default: {
            atomic_uint *counter =
                (atomic_uint *)(shared + (size_t)page * SOFTEPC_PAGE_BYTES + COUNTERS);
            atomic_fetch_add(counter, 1);
            worker->additions++;
        }
        }
        worker->operations++;
    }
    fclose(file);
    return NULL;
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? atof(argv[1]) : 5;
    static struct worker workers[THREADS];
    shared = malloc((size_t)PAGES * SOFTEPC_PAGE_BYTES);
    CHECK(softepc_in_region(shared));
    memset(shared, 0, (size_t)PAGES * SOFTEPC_PAGE_BYTES);

    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].index = i;
        workers[i].copy = outside_memory(PAGES * STRIP);
        CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    const struct timespec pause = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    nanosleep(&pause, NULL);
    stopping = true;

    uint64_t additions = 0, counted = 0, operations = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK(pthread_join(workers[i].thread, NULL) == 0);
        additions += workers[i].additions;
        operations += workers[i].operations;
        for (unsigned page = 0; page < PAGES; page++)
            CHECK(memcmp(strip(&workers[i], page), workers[i].copy + page * STRIP, STRIP) == 0);
    }
    for (unsigned page = 0; page < PAGES; page++)
        counted += *(unsigned *)(shared + (size_t)page * SOFTEPC_PAGE_BYTES + COUNTERS);
    CHECK(additions == counted);

    struct softepc_counters counters;
    softepc_counters(&counters);
    CHECK(counters.evictions > PAGES && counters.syscalls_bounced > 0);
    CHECK(counters.peak_resident_bytes <= counters.budget_bytes);
    printf("operations %llu faults %llu\n", (unsigned long long)operations,
           (unsigned long long)counters.faults);
    return 0;
}
