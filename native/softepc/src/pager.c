/*
 * The pager: which pages are resident, and how they come and go.
 *
 * The region is a memfd mapped twice. The enclave's mapping is what the program uses; userfaultfd
 * turns each touch of a page that is not mapped there into SIGBUS, and the thread that touched it
 * runs pager_touch. The pager's own mapping, read-only, is what pages are sealed from.
 *
 * Order matters in two places:
 * - A page is unmapped from the enclave before it is sealed. MADV_DONTNEED returns after all
 *   processors have dropped the translation, so no write can be lost: a writer faults, and waits
 *   for the lock.
 * - Room is made before a page is brought in, so the memfd never holds more than the budget.
 *
 * Policy, exactly (tests/softepc simulates it page by page): one list of resident pages, oldest at
 * the head. When a page is needed and the budget is used up, reclaim() runs until there is room. It
 * takes up to 16 pages from the head. With second-chance (sgx_reclaim_pages in Linux), those mapped
 * in the enclave count as accessed: they are unmapped and go to the tail, in their order; the
 * others are evicted. With fifo all are evicted. A minor fault maps a page again and does not move
 * it. A page that comes in goes to the tail, mapped. Pinned pages go to the tail as they are.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch.h"

struct page {
    uint32_t older, newer; /* neighbours in the list of resident pages */
    uint32_t pins;
    struct seal_record seal; /* version 0: its slot in untrusted memory was never written */
};

struct softepc_counters counters;

static int memory_fd = -1, fault_fd = -1;
static const uint8_t *own_view; /* the pager's mapping of the memfd */
static uint8_t *untrusted;      /* one slot for each page */
static struct page *pages;
static uint8_t *states; /* enum page_state of each page */
static uint32_t oldest = NO_PAGE, newest = NO_PAGE;
static uint64_t resident, pinned, sealed;

/* A page is opened here, and only an authentic one is copied into the enclave. */
static _Alignas(PAGE_BYTES) uint8_t opened[PAGE_BYTES];

static struct {
    uint64_t *pages;
    uint8_t *kinds;
    size_t capacity, seen;
} trace;

/* ---- the list of resident pages ---- */

static void list_append(uint32_t page)
{
    pages[page].older = newest;
    pages[page].newer = NO_PAGE;
    if (newest == NO_PAGE)
        oldest = page;
    else
        pages[newest].newer = page;
    newest = page;
}

static void list_remove(uint32_t page)
{
    const struct page *entry = &pages[page];
    if (entry->older == NO_PAGE)
        oldest = entry->newer;
    else
        pages[entry->older].newer = entry->newer;
    if (entry->newer == NO_PAGE)
        newest = entry->older;
    else
        pages[entry->newer].older = entry->older;
}

/* ---- what the kernel does for the pager ---- */

static void must(long result, const char *call, uint32_t page)
{
    if (result < 0)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "%s failed on page %u with errno %ld; the enclave cannot go on: if it is 12 (ENOMEM) "
            "or 28 (ENOSPC), give the process more memory or a smaller SOFTEPC_BUDGET_BYTES",
            call, page, -result);
}

static void unmap_from_enclave(uint32_t first, uint32_t count)
{
    must(RAW3(SYS_madvise, address_of(first), (size_t)count * PAGE_BYTES, MADV_DONTNEED), "madvise",
         first);
}

static void remove_from_memory(uint32_t first, uint32_t count)
{
    must(RAW4(SYS_fallocate, memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              (uint64_t)first * PAGE_BYTES, (uint64_t)count * PAGE_BYTES),
         "fallocate", first);
}

static long fault_ioctl(unsigned long request, void *argument)
{
    long result;
    do
        result = RAW3(SYS_ioctl, fault_fd, request, argument);
    while (result == -EAGAIN); /* the address space was changing at that moment */
    return result;
}

static void map_into_enclave(uint32_t page)
{
    struct uffdio_continue request = {.range = {address_of(page), PAGE_BYTES}};
    long result = fault_ioctl(UFFDIO_CONTINUE, &request);
    if (result != -EEXIST) /* another thread's fault may have mapped it since */
        must(result, "UFFDIO_CONTINUE", page);
}

static void fill_with_zeros(uint32_t page)
{
    struct uffdio_zeropage request = {.range = {address_of(page), PAGE_BYTES}};
    must(fault_ioctl(UFFDIO_ZEROPAGE, &request), "UFFDIO_ZEROPAGE", page);
}

static void fill_with_opened(uint32_t page)
{
    struct uffdio_copy request = {
        .dst = address_of(page), .src = (uintptr_t)opened, .len = PAGE_BYTES};
    must(fault_ioctl(UFFDIO_COPY, &request), "UFFDIO_COPY", page);
}

/* Applies `action` to each run of neighbours: one system call for a run, not for a page. */
static void for_each_run(const uint32_t *batch, unsigned count,
                         void (*action)(uint32_t first, uint32_t count))
{
    for (unsigned start = 0, end; start < count; start = end) {
        end = start + 1;
        while (end < count && batch[end] == batch[end - 1] + 1)
            end++;
        action(batch[start], end - start);
    }
}

/* ---- the policy ---- */

static uint8_t *untrusted_slot(uint32_t page)
{
    return untrusted + (size_t)page * PAGE_BYTES;
}

static void reclaim(void)
{
    uint32_t mapped[SOFTEPC_RECLAIM_BATCH], evicted[SOFTEPC_RECLAIM_BATCH];
    uint32_t kept[SOFTEPC_RECLAIM_BATCH];
    unsigned mapped_count = 0, evicted_count = 0, kept_count = 0;

    for (unsigned taken = 0; taken < SOFTEPC_RECLAIM_BATCH && oldest != NO_PAGE; taken++) {
        uint32_t page = oldest;
        list_remove(page);
        if (pages[page].pins) {
            kept[kept_count++] = page;
            continue;
        }
        bool young = states[page] == PAGE_MAPPED;
        if (young) {
            mapped[mapped_count++] = page;
            states[page] = PAGE_UNMAPPED;
        }
        if (young && config.policy == POLICY_SECOND_CHANCE)
            kept[kept_count++] = page;
        else
            evicted[evicted_count++] = page;
    }
    for (unsigned i = 0; i < kept_count; i++)
        list_append(kept[i]);

    for_each_run(mapped, mapped_count, unmap_from_enclave);
    for (unsigned i = 0; i < evicted_count; i++) {
        uint32_t page = evicted[i];
        seal_page(page, own_view + (size_t)page * PAGE_BYTES, untrusted_slot(page),
                  &pages[page].seal);
        states[page] = PAGE_SEALED;
    }
    for_each_run(evicted, evicted_count, remove_from_memory);
    resident -= evicted_count;
    sealed += evicted_count;
    counters.evictions += evicted_count;
}

static void make_room(void)
{
    while (config.budget_pages && resident >= config.budget_pages)
        reclaim();
    if (++resident * PAGE_BYTES > counters.peak_resident_bytes)
        counters.peak_resident_bytes = resident * PAGE_BYTES;
}

static void count_fault(uint32_t page, enum softepc_fault_kind kind)
{
    counters.faults++;
    if (!trace.pages)
        return;
    if (trace.seen < trace.capacity) {
        trace.pages[trace.seen] = page;
        trace.kinds[trace.seen] = (uint8_t)kind;
    }
    trace.seen++;
}

bool pager_touch(uint32_t page)
{
    switch ((enum page_state)states[page]) {
    case PAGE_UNALLOCATED:
        return false;
    case PAGE_FRESH:
        make_room();
        fill_with_zeros(page);
        list_append(page);
        counters.zero_fills++;
        count_fault(page, SOFTEPC_FAULT_ZERO_FILL);
        break;
    case PAGE_SEALED:
        make_room();
        if (!seal_open(page, untrusted_slot(page), opened, &pages[page].seal))
            die(SOFTEPC_EXIT_INTEGRITY,
                "page %u of the enclave failed its authentication when it was loaded: its sealed "
                "copy in untrusted memory is not the one last written (version %llu). Someone "
                "changed it, exchanged it or replayed an older one; nothing of it was used and "
                "the enclave ends here",
                page, (unsigned long long)pages[page].seal.version);
        fill_with_opened(page);
        sealed--;
        list_append(page);
        counters.loads++;
        count_fault(page, SOFTEPC_FAULT_LOAD);
        break;
    case PAGE_UNMAPPED:
        map_into_enclave(page);
        counters.minor_faults++;
        count_fault(page, SOFTEPC_FAULT_MINOR);
        break;
    case PAGE_MAPPED:
        /* Another thread was served first, or the kernel dropped the translation (swap). */
        map_into_enclave(page);
        break;
    }
    states[page] = PAGE_MAPPED;
    return true;
}

/* ---- allocation, pinning ---- */

bool pager_is_allocated(uint32_t page)
{
    return page < config.region_pages && states[page] != PAGE_UNALLOCATED;
}

void pager_allocate(uint32_t first, uint32_t count)
{
    memset(states + first, PAGE_FRESH, count);
}

void pager_discard(uint32_t first, uint32_t count, enum page_state next)
{
    uint32_t resident_first = NO_PAGE, resident_end = 0, slot_first = NO_PAGE, slot_end = 0;

    for (uint32_t page = first; page < first + count; page++) {
        struct page *entry = &pages[page];
        if (states[page] == PAGE_MAPPED || states[page] == PAGE_UNMAPPED) {
            list_remove(page);
            resident--;
            if (resident_first == NO_PAGE)
                resident_first = page;
            resident_end = page + 1;
        }
        if (states[page] == PAGE_SEALED)
            sealed--;
        /* An untouched page of an untouched allocation must not cost trusted memory. */
        if (states[page] > PAGE_FRESH) {
            pinned -= entry->pins != 0;
            entry->pins = 0;
            if (entry->seal.version) {
                entry->seal = (struct seal_record){0};
                if (slot_first == NO_PAGE)
                    slot_first = page;
                slot_end = page + 1;
            }
        }
    }
    memset(states + first, next, count);
    if (resident_end) /* a hole drops the translations of both mappings too */
        remove_from_memory(resident_first, resident_end - resident_first);
    if (slot_end)
        must(RAW3(SYS_madvise, untrusted_slot(slot_first),
                  (size_t)(slot_end - slot_first) * PAGE_BYTES, MADV_DONTNEED),
             "madvise of untrusted memory", slot_first);
}

int pager_pin(uint32_t first, uint32_t count)
{
    uint32_t done = 0;
    for (; done < count && pager_is_allocated(first + done); done++) {
        struct page *entry = &pages[first + done];
        /* At most half of the budget is held: reclaim always finds something to evict. */
        if (!entry->pins && config.budget_pages && pinned >= config.budget_pages / 2) {
            pager_unpin(first, done);
            return -1;
        }
        pager_touch(first + done);
        pinned += entry->pins++ == 0;
    }
    return (int)done;
}

void pager_unpin(uint32_t first, uint32_t count)
{
    for (uint32_t page = first; page < first + count; page++)
        if (pages[page].pins && --pages[page].pins == 0)
            pinned--;
}

/* ---- start, fork ---- */

static int open_fault_fd(void)
{
    long fd = RAW3(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY, 0, 0);
    if (fd < 0)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "the system call userfaultfd failed with errno %ld; the pager needs Linux 5.14 or newer "
            "with CONFIG_USERFAULTFD, and a sandbox that allows the call (Docker: a seccomp "
            "profile with userfaultfd; gVisor has none)",
            -fd);
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM |
                                         UFFD_FEATURE_MINOR_SHMEM};
    long result = RAW3(SYS_ioctl, fd, UFFDIO_API, &api);
    if (result < 0)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "this kernel's userfaultfd lacks SIGBUS, missing or minor faults on shared memory "
            "(errno %ld): use Linux 5.14 or newer on x86-64",
            -result);
    return (int)fd;
}

static void register_region(size_t bytes)
{
    struct uffdio_register request = {.range = {REGION_BASE, bytes},
                                      .mode = UFFDIO_REGISTER_MODE_MISSING |
                                              UFFDIO_REGISTER_MODE_MINOR};
    const uint64_t needed =
        1ull << _UFFDIO_COPY | 1ull << _UFFDIO_ZEROPAGE | 1ull << _UFFDIO_CONTINUE;
    long result = RAW3(SYS_ioctl, fault_fd, UFFDIO_REGISTER, &request);
    if (result < 0 || (request.ioctls & needed) != needed)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "userfaultfd does not serve missing and minor faults on a memfd here (errno %ld): use "
            "Linux 5.14 or newer on x86-64",
            result < 0 ? -result : 0);
}

void pager_start(void)
{
    const size_t bytes = config.region_pages * PAGE_BYTES;

    memory_fd = memfd_create("softepc", MFD_CLOEXEC);
    if (memory_fd < 0 || ftruncate(memory_fd, (off_t)bytes) != 0)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "no memfd of %zu bytes (%s): raise the limit on file size (ulimit -f), or lower "
            "SOFTEPC_REGION_BYTES",
            bytes, strerror(errno));
    void *enclave = mmap((void *)REGION_BASE, bytes, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, memory_fd, 0);
    void *view = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, memory_fd, 0);
    if (enclave != (void *)REGION_BASE || view == MAP_FAILED)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "the region of %zu bytes could not be mapped at %#llx (%s): lower SOFTEPC_REGION_BYTES, "
            "or raise the limit on address space (ulimit -v)",
            bytes, (unsigned long long)REGION_BASE, strerror(errno));
    own_view = view;
    if (madvise(enclave, bytes, MADV_DONTFORK) || madvise(view, bytes, MADV_DONTFORK) ||
        madvise(enclave, bytes, MADV_DONTDUMP) || madvise(view, bytes, MADV_DONTDUMP))
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "madvise refused to keep the region out of children and core dumps (%s): use Linux "
            "5.14 or newer",
            strerror(errno));
    /* Huge pages would break the budget. A kernel without them refuses the advice: fine. */
    madvise(enclave, bytes, MADV_NOHUGEPAGE);
    madvise(view, bytes, MADV_NOHUGEPAGE);

    untrusted = reserve_memory(bytes, "sealed pages");
    madvise(untrusted, bytes, MADV_NOHUGEPAGE);
    pages = reserve_memory(config.region_pages * sizeof *pages, "the state of pages");
    states = reserve_memory(config.region_pages, "the state of pages");
    fault_fd = open_fault_fd();
    register_region(bytes);
}

void pager_abandon_after_fork(void)
{
    close(fault_fd);
    close(memory_fd);
    /* An empty file over the region: a touch raises SIGBUS, which says what is wrong. */
    memory_fd = (int)RAW3(SYS_memfd_create, "softepc-forked", MFD_CLOEXEC, 0);
    RAW6(SYS_mmap, REGION_BASE, config.region_pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
         MAP_SHARED | MAP_NORESERVE | MAP_FIXED, memory_fd, 0);
    close(memory_fd);
}

/* ---- the functions that a program may call ---- */

SOFTEPC_API void softepc_counters(struct softepc_counters *out)
{
    uint64_t saved = enclave_enter();
    struct softepc_counters now = counters;
    now.resident_bytes = resident * PAGE_BYTES;
    now.sealed_bytes = sealed * PAGE_BYTES;
    now.live_bytes = region_live_pages() * PAGE_BYTES;
    now.budget_bytes = config.budget_pages * PAGE_BYTES;
    enclave_leave(saved);
    *out = now; /* may fault, if it lies in the region: so not under the lock */
}

SOFTEPC_API int softepc_set_budget(uint64_t bytes)
{
    const uint64_t wanted = bytes / PAGE_BYTES;
    if (bytes && wanted < SOFTEPC_MIN_BUDGET_PAGES) {
        errno = EINVAL;
        return -1;
    }
    uint64_t saved = enclave_enter();
    const bool possible = !wanted || pinned <= wanted / 2;
    if (possible) {
        config.budget_pages = wanted;
        while (wanted && resident > wanted)
            reclaim();
    }
    enclave_leave(saved);
    if (!possible)
        errno = EBUSY;
    return possible ? 0 : -1;
}

SOFTEPC_API int softepc_trace_start(uint64_t *page_numbers, uint8_t *kinds, size_t capacity)
{
    if (!page_numbers || !kinds || in_region((uintptr_t)page_numbers) ||
        in_region((uintptr_t)kinds)) {
        errno = EINVAL;
        return -1;
    }
    uint64_t saved = enclave_enter();
    trace.pages = page_numbers;
    trace.kinds = kinds;
    trace.capacity = capacity;
    trace.seen = 0;
    enclave_leave(saved);
    return 0;
}

SOFTEPC_API size_t softepc_trace_stop(void)
{
    uint64_t saved = enclave_enter();
    size_t seen = trace.seen;
    trace.pages = NULL;
    trace.seen = 0;
    enclave_leave(saved);
    return seen;
}

SOFTEPC_API int softepc_untrusted(uint64_t page, void **ciphertext, size_t *bytes)
{
    uint64_t saved = enclave_enter();
    const bool there = page < config.region_pages && states[page] == PAGE_SEALED;
    enclave_leave(saved);
    if (!there)
        return -1;
    *ciphertext = untrusted_slot((uint32_t)page);
    *bytes = PAGE_BYTES;
    return 0;
}
