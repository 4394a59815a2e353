/* Address space for the pager's own tables. */
#ifndef SOFTEPC_RESERVE_H
#define SOFTEPC_RESERVE_H

#include <stddef.h>

/* Reserves address space that takes memory only where it is written, and reads as zero before.
 * Dies with SOFTEPC_EXIT_UNSUPPORTED if there is none. `purpose` is named in the message. */
void *reserve_memory(size_t bytes, const char *purpose);

#endif
