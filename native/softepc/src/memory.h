/* The memory of the region. Called under the lock. Dies if the kernel refuses a call. */
#ifndef SOFTEPC_MEMORY_H
#define SOFTEPC_MEMORY_H

#include <stdint.h>

void memory_start(void);
/* Called by the only thread of a child of fork: takes the parent's memory away from it. */
void memory_abandon_after_fork(void);
/* When this returns, each use of the pages by any thread faults. Their content stays. */
void memory_unmap(uint32_t first, uint32_t count);
/* Frees the memory of the pages. */
void memory_remove(uint32_t first, uint32_t count);
/* Maps a resident page into the enclave, if it is not mapped. */
void memory_map(uint32_t page);
/* Make a page resident, with this content, and map it. */
void memory_fill_zeros(uint32_t page);
void memory_fill(uint32_t page, const void *content);
/* The content of a resident page, mapped into the enclave or not. */
const void *memory_view(uint32_t page);
/* Where the sealed copy of a page lies, in untrusted memory. */
void *memory_untrusted_slot(uint32_t page);
/* Frees the untrusted memory of the pages. */
void memory_forget_slots(uint32_t first, uint32_t count);

#endif
