/*
 * libsoftepc: a software Enclave Page Cache (EPC) for an unmodified process.
 *
 * Load it with LD_PRELOAD. Large allocations then live in a region; at most SOFTEPC_BUDGET_BYTES of
 * it are in memory at any time. The other pages are sealed with AES-128-GCM and kept in untrusted
 * memory, like the pages of an SGX enclave.
 *
 * Environment, read once when the process starts and then removed from it:
 *   SOFTEPC_BUDGET_BYTES  resident bytes allowed; 0 or unset: no limit; else at least 64 pages
 *   SOFTEPC_POLICY        second-chance (default; what Linux does for SGX) or fifo
 *   SOFTEPC_MIN_BYTES     allocations of at least this size live in the region (default 65536)
 *   SOFTEPC_REGION_BYTES  address space of the region (default 64 GiB, at most 1 TiB)
 *   SOFTEPC_REPORT        a path; the counters are written there at exit, as one line of JSON
 *   SOFTEPC_DEFER         1: the enclave opens only when the process, or a child that it forks,
 *                         calls softepc_start
 * The entry of LD_PRELOAD is removed too: a child process is not in the enclave.
 *
 * The functions below are called from inside the process (dlsym, or ctypes.CDLL(None)).
 * Any thread may call them, but no signal handler.
 */
#ifndef SOFTEPC_H
#define SOFTEPC_H

#include <stddef.h>
#include <stdint.h>

#define SOFTEPC_PAGE_BYTES 4096u
#define SOFTEPC_MIN_BUDGET_PAGES 64u
#define SOFTEPC_RECLAIM_BATCH 16u

/* Exit codes of a process that libsoftepc ends. A message on stderr gives the reason. */
#define SOFTEPC_EXIT_INTEGRITY 86   /* a sealed page was changed, replaced or replayed */
#define SOFTEPC_EXIT_CONFIG 87      /* an environment variable has a bad value */
#define SOFTEPC_EXIT_UNSUPPORTED 88 /* the machine lacks something, or refused a call */
#define SOFTEPC_EXIT_FORKED 89      /* a child of fork() touched the enclave's memory */

#define SOFTEPC_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

struct softepc_counters {
    uint64_t faults;              /* zero_fills + loads + minor_faults */
    uint64_t zero_fills;          /* first touch of a page since its allocation */
    uint64_t loads;               /* sealed pages loaded again */
    uint64_t minor_faults;        /* resident pages mapped again (second-chance only) */
    uint64_t evictions;           /* pages sealed and removed from memory */
    uint64_t sealed_bytes;        /* bytes that exist only sealed, now */
    uint64_t handler_ns;          /* time of all threads in the fault handler, waiting included */
    uint64_t resident_bytes;      /* bytes in memory, now */
    uint64_t peak_resident_bytes; /* the most that resident_bytes has been */
    uint64_t live_bytes;          /* bytes allocated in the region, now, in whole pages */
    uint64_t budget_bytes;        /* 0: no limit */
    uint64_t syscalls_pinned;     /* system calls for which pages were held resident */
    uint64_t syscalls_bounced;    /* system calls whose buffer was copied through memory outside */
};

enum softepc_fault_kind {
    SOFTEPC_FAULT_ZERO_FILL = 0,
    SOFTEPC_FAULT_LOAD = 1,
    SOFTEPC_FAULT_MINOR = 2,
};

/* Opens the enclave of a process started with SOFTEPC_DEFER=1; allocations from now on live in it.
 * A process can load what it needs, then fork children that each have an enclave. 0, or -1 with
 * errno EALREADY (it is open, was open, or was not deferred). */
SOFTEPC_API int softepc_start(void);

/* A consistent copy of the counters. */
SOFTEPC_API void softepc_counters(struct softepc_counters *out);

/* Sets the budget, rounded down to whole pages; 0 removes it. A smaller budget evicts pages by the
 * policy until the rest fits. 0, or -1 with errno EINVAL (under 64 pages) or EBUSY (system calls
 * hold too many pages). */
SOFTEPC_API int softepc_set_budget(uint64_t bytes);

/* "second-chance" or "fifo", from the next reclaim on. 0, or -1 with errno EINVAL. */
SOFTEPC_API int softepc_set_policy(const char *name);

/* Records page number (within the region) and softepc_fault_kind of each fault until capacity is
 * reached. The buffers must lie outside of the region. 0, or -1 with errno EINVAL. */
SOFTEPC_API int softepc_trace_start(uint64_t *pages, uint8_t *kinds, size_t capacity);

/* Ends the recording. Returns the number of faults since its start; those beyond the capacity were
 * not recorded. */
SOFTEPC_API size_t softepc_trace_stop(void);

/* The address of page 0, or NULL in a process without an enclave. */
SOFTEPC_API void *softepc_region_base(void);

/* 1 if the address lies in the region, else 0. */
SOFTEPC_API int softepc_in_region(const void *address);

/* For tests: where the sealed copy of a page lies in untrusted memory. The test plays the attacker,
 * who may read and write it. 0, or -1 if the page is not sealed at this moment. */
SOFTEPC_API int softepc_untrusted(uint64_t page, void **ciphertext, size_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
