/* Which pages are resident. Everything but pager_start is called under the lock. */
#ifndef SOFTEPC_PAGER_H
#define SOFTEPC_PAGER_H

#include <stdbool.h>
#include <stdint.h>

#include "../softepc.h"

enum page_state {
    PAGE_UNALLOCATED, /* touching it is an error */
    PAGE_FRESH,       /* allocated, not touched yet: reads as zero */
    PAGE_MAPPED,      /* resident and mapped into the enclave: "accessed" */
    PAGE_UNMAPPED,    /* resident, not mapped */
    PAGE_SEALED,      /* not resident: only the sealed copy exists */
};

/* Changed under the lock. softepc_counters fills in the fields *_bytes when it copies them. */
extern struct softepc_counters counters;

void pager_start(void);
/* Makes the page resident and mapped. False if it is not allocated. */
bool pager_touch(uint32_t page);
bool pager_is_allocated(uint32_t page);
/* Makes unallocated pages fresh. */
void pager_allocate(uint32_t first, uint32_t count);
/* Drops the content of allocated pages; they become fresh or unallocated. */
void pager_discard(uint32_t first, uint32_t count, enum page_state next);
/* Keeps allocated pages resident and mapped until they are unpinned. Returns how many of `count`
 * are allocated and now pinned, or -1 if that many cannot be held within the budget. */
int pager_pin(uint32_t first, uint32_t count);
void pager_unpin(uint32_t first, uint32_t count);

#endif
