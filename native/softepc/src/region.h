/* The allocator of the region, in whole pages. Called under the lock. */
#ifndef SOFTEPC_REGION_H
#define SOFTEPC_REGION_H

#include <stdbool.h>
#include <stdint.h>

void region_start(void);
/* First page of the lowest free range that fits, or NO_PAGE. */
uint32_t region_allocate(uint32_t pages, uint32_t align_pages);
/* Pages of the live allocation that starts here, or 0. */
uint32_t region_size(uint32_t first);
void region_free(uint32_t first);
/* Shrinks or grows an allocation without moving it. False if there is no room to grow. */
bool region_resize(uint32_t first, uint32_t pages);

#endif
