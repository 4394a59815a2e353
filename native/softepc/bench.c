/*
 * Measures the cost of a fault, and of each of its parts. Runs under LD_PRELOAD=libsoftepc.so with
 * a budget of half the memory that it sweeps; benchmarks/pager_fault.py starts it and reads its
 * output.
 *
 * A fault: a sweep over twice the budget, where each touch evicts one page and loads another.
 * Its parts: the same work on a memfd of this program, each step in a loop of its own: a signal for
 * a missing page and the return from it, sealing, opening, unmapping and punching in batches of 16,
 * and UFFDIO_COPY. Parts and faults are measured alternately, REPETITIONS times.
 *
 * Output: "name unit", then one value for each repetition, a line for each quantity.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "src/layout.h"
#include "src/message.h"
#include "src/seal.h"

#pragma weak softepc_counters
#pragma weak softepc_in_region

enum { PAGES = 1024, SWEEP_PAGES = 4096, BATCH = SOFTEPC_RECLAIM_BATCH, REPETITIONS_MAX = 101 };

enum quantity {
    FAULT,         /* one touch of the sweep */
    FAULT_HANDLER, /* its time in the handler, by the pager's own (wall) clock */
    SIGNAL,        /* the parts start here */
    SEAL,
    OPEN,
    UNMAP,
    PUNCH,
    COPY,
    VIEW, /* the pager's first look at a page that is to be sealed */
    HOT_INSIDE,
    HOT_OUTSIDE,
    QUANTITIES
};
static const char *const names[QUANTITIES] = {
    "fault", "fault_in_handler", "signal", "seal",       "open",       "unmap",
    "punch", "copy",             "view",   "hot_inside", "hot_outside"};
static double samples_ns[QUANTITIES][REPETITIONS_MAX];

static uint8_t *mapped, *view, *sealed, *scratch;
static struct seal_record records[PAGES];
static int memory_fd, fault_fd;

/* glibc's own, under a name that libsoftepc leaves alone. */
int __sigaction(int signal, const struct sigaction *new, struct sigaction *old);

static void require(bool condition, const char *what)
{
    if (!condition)
        die(1, "bench: %s failed", what);
}

/* The thread's CPU time: it never sleeps, and other load on the machine disturbs this less. */
static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void prepare(void)
{
    const size_t bytes = (size_t)PAGES * PAGE_BYTES;
    memory_fd = memfd_create("bench", MFD_CLOEXEC);
    require(memory_fd >= 0 && ftruncate(memory_fd, (off_t)bytes) == 0, "memfd");
    mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    view = mmap(NULL, bytes, PROT_READ, MAP_SHARED, memory_fd, 0);
    sealed = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    scratch = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(sealed, 1, bytes);
    memset(scratch, 1, PAGE_BYTES);

    fault_fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM |
                                         UFFD_FEATURE_MINOR_SHMEM};
    struct uffdio_register region = {.range = {(uintptr_t)mapped, bytes},
                                     .mode = UFFDIO_REGISTER_MODE_MISSING |
                                             UFFDIO_REGISTER_MODE_MINOR};
    require(fault_fd >= 0 && !ioctl(fault_fd, UFFDIO_API, &api) &&
                !ioctl(fault_fd, UFFDIO_REGISTER, &region),
            "userfaultfd");
}

/* Steps over the faulting instruction: `movb $1, (%reg)` of touch_once is 3 bytes long. */
static void step_over(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 3;
}

static void touch_once(uint8_t *address)
{
    __asm__ volatile("movb $1, (%%rax)" : : "a"(address) : "memory");
}

static void measure_parts(unsigned repetition)
{
    const struct sigaction action = {.sa_sigaction = step_over,
                                     .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigaction before;
    double start;
#define MEASURE(quantity, ...)                                              \
    start = now_ns();                                                       \
    for (uint32_t page = 0; page < PAGES; page++)                           \
        __VA_ARGS__                                                         \
    samples_ns[quantity][repetition] = (now_ns() - start) / PAGES;

    __sigaction(SIGBUS, &action, &before); /* bypasses libsoftepc, which would keep it */
    MEASURE(SIGNAL, touch_once(mapped + (size_t)page * PAGE_BYTES);)
    __sigaction(SIGBUS, &before, NULL);

    MEASURE(COPY, {
        struct uffdio_copy copy = {.dst = (uintptr_t)mapped + (size_t)page * PAGE_BYTES,
                                   .src = (uintptr_t)scratch, .len = PAGE_BYTES};
        require(!ioctl(fault_fd, UFFDIO_COPY, &copy), "UFFDIO_COPY");
    })
    MEASURE(VIEW, *(volatile uint8_t *)(view + (size_t)page * PAGE_BYTES);)
    MEASURE(SEAL, seal_page(page, view + (size_t)page * PAGE_BYTES,
                            sealed + (size_t)page * PAGE_BYTES, &records[page]);)
    MEASURE(OPEN, require(seal_open(page, sealed + (size_t)page * PAGE_BYTES, scratch,
                                    &records[page]),
                          "seal_open");)
    MEASURE(UNMAP, if (page % BATCH == 0) {
        require(!madvise(mapped + (size_t)page * PAGE_BYTES, BATCH * PAGE_BYTES, MADV_DONTNEED),
                "madvise");
    })
    MEASURE(PUNCH, if (page % BATCH == 0) {
        require(!fallocate(memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           (off_t)page * PAGE_BYTES, BATCH * PAGE_BYTES),
                "fallocate");
    })
}

static void measure_faults(volatile uint8_t *memory, unsigned repetition)
{
    struct softepc_counters before, after;
    softepc_counters(&before);
    const double start = now_ns();
    for (size_t page = 0; page < SWEEP_PAGES; page++)
        memory[page * PAGE_BYTES]++;
    const double elapsed = now_ns() - start;
    softepc_counters(&after);
    const uint64_t loads = after.loads - before.loads;
    const uint64_t evictions = after.evictions - before.evictions;
    require(loads == SWEEP_PAGES && evictions > SWEEP_PAGES * 9 / 10 &&
                evictions < SWEEP_PAGES * 11 / 10,
            "one load and one eviction for each touch (SOFTEPC_BUDGET_BYTES=8388608 gives it)");
    samples_ns[FAULT][repetition] = elapsed / SWEEP_PAGES;
    samples_ns[FAULT_HANDLER][repetition] =
        (double)(after.handler_ns - before.handler_ns) / SWEEP_PAGES;
}

/* A loop over memory that fits: the pager must not slow it down. */
static double hot_loop(volatile uint64_t *memory, size_t bytes)
{
    const double start = now_ns();
    for (unsigned round = 0; round < 20; round++)
        for (size_t i = 0; i < bytes / sizeof *memory; i++)
            memory[i] += i;
    return (now_ns() - start) / 20;
}

int main(int argc, char **argv)
{
    const unsigned repetitions = argc > 1 ? (unsigned)atoi(argv[1]) : 21;
    require(repetitions > 0 && repetitions <= REPETITIONS_MAX, "a number of repetitions up to 101");
    require(softepc_in_region != NULL, "LD_PRELOAD of libsoftepc.so");
    const size_t hot_bytes = 1 << 20;
    uint8_t *memory = malloc((size_t)SWEEP_PAGES * PAGE_BYTES);
    uint64_t *outside =
        mmap(NULL, hot_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(outside, hot_bytes, MADV_NOHUGEPAGE);
    require(softepc_in_region(memory), "an allocation in the enclave");
    seal_start();
    prepare();
    for (int round = 0; round < 2; round++) /* until the sweep is in its steady state */
        for (size_t page = 0; page < SWEEP_PAGES; page++)
            ((volatile uint8_t *)memory)[page * PAGE_BYTES]++;

    for (unsigned repetition = 0; repetition < repetitions; repetition++) {
        measure_parts(repetition);
        measure_faults(memory, repetition);
    }
    free(memory);
    uint64_t *inside = malloc(hot_bytes);
    hot_loop(inside, hot_bytes);
    hot_loop(outside, hot_bytes);
    for (unsigned repetition = 0; repetition < repetitions; repetition++) {
        samples_ns[HOT_INSIDE][repetition] = hot_loop(inside, hot_bytes);
        samples_ns[HOT_OUTSIDE][repetition] = hot_loop(outside, hot_bytes);
    }
    for (unsigned quantity = 0; quantity < QUANTITIES; quantity++) {
        printf("%s_ns", names[quantity]);
        for (unsigned repetition = 0; repetition < repetitions; repetition++)
            printf(" %.1f", samples_ns[quantity][repetition]);
        putchar('\n');
    }
    return 0;
}
