/* What the parts of libsoftepc share. Nothing here is visible outside of the library. */
#ifndef SOFTEPC_INTERNAL_H
#define SOFTEPC_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../softepc.h"

#define PAGE_BYTES SOFTEPC_PAGE_BYTES
#define NO_PAGE UINT32_MAX

/*
 * The region's address is fixed because the seccomp filter, which knows it, is inherited by
 * programs that this process executes: there an argument that merely looks like a region address
 * would kill. Nothing in common use maps this range: executables start at 0x555555554000 or low,
 * mmap works down from 0x7fffffffffff, the sanitizers own 0x00.. to 0x34.. and 0x50.. up, mimalloc
 * hints below 0x1e.., and V8 draws hints of 46 bits. 1 TiB is reserved for it; only the configured
 * part is mapped. It is a multiple of 4 GiB, so that the filter can compare high halves alone.
 */
#define REGION_BASE UINT64_C(0x4ec000000000)
#define REGION_MAX_BYTES (UINT64_C(1) << 40)

enum policy { POLICY_SECOND_CHANCE, POLICY_FIFO };

struct config {
    uint64_t budget_pages; /* 0: no limit */
    uint64_t region_pages;
    size_t min_bytes;
    enum policy policy;
    bool deferred; /* the enclave opens when softepc_start is called */
    char report_path[4096]; /* absolute; empty: no report */
};

/* ---- lifecycle.c ---- */

/* True from the end of the start-up until the key is wiped; false in a child of fork. */
extern atomic_bool enclave_open;
extern struct config config;

/* Says what happened on stderr and ends the process. Safe in a signal handler. */
_Noreturn void die(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Called on a region fault in a child of fork, or after the key was wiped: never returns. */
_Noreturn void fault_without_enclave(uintptr_t address);

static inline bool in_region(uint64_t address)
{
    return address - REGION_BASE < config.region_pages * PAGE_BYTES;
}

static inline uint32_t page_of(uint64_t address)
{
    return (uint32_t)((address - REGION_BASE) / PAGE_BYTES);
}

static inline uintptr_t address_of(uint32_t page)
{
    return REGION_BASE + (uint64_t)page * PAGE_BYTES;
}

/* Untouched address space, zero when first read. Dies if there is none. */
void *reserve_memory(size_t bytes, const char *purpose);

/* ---- lock.c ---- */

/*
 * One lock guards the whole pager. No code touches region memory while it holds the lock, so a
 * holder never faults. `enclave_enter` also blocks all signals: a signal handler of the program may
 * touch region memory, and must not do so on top of a holder. The fault handler runs with signals
 * blocked already and takes the bare lock.
 */
void lock_take(void);
void lock_release(void);
uint64_t enclave_enter(void);
void enclave_leave(uint64_t saved_mask);

/* ---- seal.c ---- */

struct seal_record { /* trusted: kept for each evicted page */
    uint64_t version;
    uint8_t tag[16];
};

/* Finds libcrypto, makes the key. Dies with SOFTEPC_EXIT_UNSUPPORTED if there is none. */
void seal_start(void);
void seal_page(uint32_t page, const void *plain, void *cipher, struct seal_record *record);
/* False if the sealed copy is not what seal_page last wrote for this page. */
bool seal_open(uint32_t page, const void *cipher, void *plain, const struct seal_record *record);
void seal_wipe(void);

/* ---- memory.c: what the kernel refuses ends the process ---- */

void memory_start(void);
void memory_abandon_after_fork(void);
/* On return no thread can use the pages any more without a fault; their content stays. */
void memory_unmap(uint32_t first, uint32_t pages);
/* Frees the memory of the pages. */
void memory_remove(uint32_t first, uint32_t pages);
/* Maps a resident page into the enclave, if it is not mapped. */
void memory_map(uint32_t page);
/* Make a page resident, with this content, and map it. */
void memory_fill_zeros(uint32_t page);
void memory_fill(uint32_t page, const void *content);
const void *memory_view(uint32_t page);
void *memory_untrusted_slot(uint32_t page);
void memory_forget_slots(uint32_t first, uint32_t pages);

/* ---- pager.c: all but pager_start are called with the lock held ---- */

enum page_state {
    PAGE_UNALLOCATED, /* touching it is an error */
    PAGE_FRESH,       /* allocated, not touched yet: reads as zero */
    PAGE_MAPPED,      /* resident and mapped into the enclave: "accessed" */
    PAGE_UNMAPPED,    /* resident, not mapped */
    PAGE_SEALED,      /* not resident: only the sealed copy exists */
};

extern struct softepc_counters counters; /* the *_bytes fields are filled in when read */

void pager_start(void);
/* Makes the page resident and mapped. False if it is not allocated. */
bool pager_touch(uint32_t page);
bool pager_is_allocated(uint32_t page);
void pager_allocate(uint32_t first, uint32_t pages);
void pager_discard(uint32_t first, uint32_t pages, enum page_state next);
/* Keeps allocated pages resident and mapped until unpinned. Returns how many of `pages` are
 * allocated and now pinned, or -1 if that many cannot be held within the budget. */
int pager_pin(uint32_t first, uint32_t pages);
void pager_unpin(uint32_t first, uint32_t pages);

/* ---- region.c: called with the lock held ---- */

void region_start(void);
/* First page of the lowest free range that fits, or NO_PAGE. */
uint32_t region_allocate(uint32_t pages, uint32_t align_pages);
/* Pages of the live allocation that starts here, or 0. */
uint32_t region_size(uint32_t first);
void region_free(uint32_t first);
/* Shrinks, or grows where it stands. False if there is no room to grow. */
bool region_resize(uint32_t first, uint32_t pages);
uint64_t region_live_pages(void);

/* ---- signals.c ---- */

void signals_start(void);
uint64_t clock_ns(void);

/* ---- filter.c ---- */

/* What the filter adds to its SIGSYS, to tell it from those of other filters. */
#define FILTER_MARK 0x5ec

void filter_start(void);

/* ---- syscalls.c ---- */

/* Serves a system call that the filter stopped: returns what the kernel would, -errno included. */
long syscall_serve(long number, const long arguments[6]);

/* Memory outside of the enclave for one call. NULL if there is none. */
void *bounce_take(size_t bytes);
void bounce_release(void *memory, size_t bytes);
void count_bounced_call(void);

#endif
