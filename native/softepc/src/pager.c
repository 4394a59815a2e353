/*
 * The pager: loads pages on demand and evicts others to stay within the budget.
 *
 * Order matters in two places:
 * - A page is unmapped from the enclave before it is sealed. MADV_DONTNEED returns after all
 *   processors have dropped the translation, so no write is lost: a writer faults and waits for
 *   the lock.
 * - Pages are evicted before one is loaded, so the memfd never holds more than the budget.
 *
 * The exact policy (tests/softepc simulates it page by page): there is one list of resident pages,
 * oldest at the head. When a page is needed and the budget is used up, reclaim() runs until there
 * is room. It takes up to 16 pages from the head. With second-chance (sgx_reclaim_pages in Linux),
 * a page that is mapped in the enclave counts as accessed: it is unmapped and goes to the tail, in
 * order; the others are evicted. With fifo all are evicted. A minor fault maps a page again and
 * does not move it. A page that becomes resident goes to the tail, mapped. Pinned pages go to the
 * tail and stay as they are.
 */
#include "pager.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "address.h"
#include "config.h"
#include "layout.h"
#include "lock.h"
#include "memory.h"
#include "message.h"
#include "reserve.h"
#include "seal.h"

struct page {
    uint32_t older, newer; /* neighbours in the list of resident pages */
    uint32_t pins;
    struct seal_record seal; /* version 0: its slot in untrusted memory was never written */
};

struct softepc_counters counters;

static struct page *pages;
static uint8_t *states; /* enum page_state of each page */
static uint32_t oldest = NO_PAGE, newest = NO_PAGE;
static uint64_t allocated, resident, pinned, sealed; /* pages */

/* Pages are opened into this buffer; only an authentic page is copied into the enclave. */
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

/* Calls `action` once for each run of consecutive pages: one system call for a run. */
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

    for_each_run(mapped, mapped_count, memory_unmap);
    for (unsigned i = 0; i < evicted_count; i++) {
        uint32_t page = evicted[i];
        seal_page(page, memory_view(page), memory_untrusted_slot(page),
                  &pages[page].seal);
        states[page] = PAGE_SEALED;
    }
    for_each_run(evicted, evicted_count, memory_remove);
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
        memory_fill_zeros(page);
        list_append(page);
        counters.zero_fills++;
        count_fault(page, SOFTEPC_FAULT_ZERO_FILL);
        break;
    case PAGE_SEALED:
        make_room();
        if (!seal_open(page, memory_untrusted_slot(page), opened, &pages[page].seal))
            die(SOFTEPC_EXIT_INTEGRITY,
                "page %u of the enclave failed its authentication when it was loaded: its sealed "
                "copy in untrusted memory is not the one last written (version %llu). Someone "
                "changed it, exchanged it or replayed an older one; none of its content was used, "
                "and the enclave ends here",
                page, (unsigned long long)pages[page].seal.version);
        memory_fill(page, opened);
        sealed--;
        list_append(page);
        counters.loads++;
        count_fault(page, SOFTEPC_FAULT_LOAD);
        break;
    case PAGE_UNMAPPED:
        memory_map(page);
        counters.minor_faults++;
        count_fault(page, SOFTEPC_FAULT_MINOR);
        break;
    case PAGE_MAPPED:
        /* Another thread was served first, or the kernel dropped the translation (swap). */
        memory_map(page);
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
    allocated += count;
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
        /* Writing the entry of a page that was never touched would take trusted memory for it. */
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
    if (next == PAGE_UNALLOCATED)
        allocated -= count;
    if (resident_end) /* removing pages also unmaps them from both mappings */
        memory_remove(resident_first, resident_end - resident_first);
    if (slot_end)
        memory_forget_slots(slot_first, slot_end - slot_first);
}

int pager_pin(uint32_t first, uint32_t count)
{
    uint32_t done = 0;
    for (; done < count && pager_is_allocated(first + done); done++) {
        struct page *entry = &pages[first + done];
        /* At most half of the budget is pinned, so that reclaim always finds a page to evict. */
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

void pager_start(void)
{
    memory_start();
    pages = reserve_memory(config.region_pages * sizeof *pages, "the state of pages");
    states = reserve_memory(config.region_pages, "the state of pages");
}

/* ---- the functions that a program may call ---- */

SOFTEPC_API void softepc_counters(struct softepc_counters *out)
{
    uint64_t saved = lock_enter();
    struct softepc_counters now = counters;
    now.resident_bytes = resident * PAGE_BYTES;
    now.sealed_bytes = sealed * PAGE_BYTES;
    now.live_bytes = allocated * PAGE_BYTES;
    now.budget_bytes = config.budget_pages * PAGE_BYTES;
    lock_leave(saved);
    *out = now; /* after the lock is released: this may fault, if `out` lies in the region */
}

SOFTEPC_API int softepc_set_budget(uint64_t bytes)
{
    const uint64_t wanted = bytes / PAGE_BYTES;
    if (bytes && wanted < SOFTEPC_MIN_BUDGET_PAGES) {
        errno = EINVAL;
        return -1;
    }
    uint64_t saved = lock_enter();
    const bool possible = !wanted || pinned <= wanted / 2;
    if (possible) {
        config.budget_pages = wanted;
        while (wanted && resident > wanted)
            reclaim();
    }
    lock_leave(saved);
    if (!possible)
        errno = EBUSY;
    return possible ? 0 : -1;
}

SOFTEPC_API int softepc_set_policy(const char *name)
{
    enum policy policy;
    if (!name || !policy_from_name(name, &policy)) {
        errno = EINVAL;
        return -1;
    }
    const uint64_t saved = lock_enter();
    config.policy = policy;
    lock_leave(saved);
    return 0;
}

SOFTEPC_API int softepc_trace_start(uint64_t *page_numbers, uint8_t *kinds, size_t capacity)
{
    if (!page_numbers || !kinds || in_region((uintptr_t)page_numbers) ||
        in_region((uintptr_t)kinds)) {
        errno = EINVAL;
        return -1;
    }
    uint64_t saved = lock_enter();
    trace.pages = page_numbers;
    trace.kinds = kinds;
    trace.capacity = capacity;
    trace.seen = 0;
    lock_leave(saved);
    return 0;
}

SOFTEPC_API size_t softepc_trace_stop(void)
{
    uint64_t saved = lock_enter();
    size_t seen = trace.seen;
    trace.pages = NULL;
    trace.seen = 0;
    lock_leave(saved);
    return seen;
}

SOFTEPC_API int softepc_untrusted(uint64_t page, void **ciphertext, size_t *bytes)
{
    uint64_t saved = lock_enter();
    const bool there = page < config.region_pages && states[page] == PAGE_SEALED;
    lock_leave(saved);
    if (!there)
        return -1;
    *ciphertext = memory_untrusted_slot((uint32_t)page);
    *bytes = PAGE_BYTES;
    return 0;
}
