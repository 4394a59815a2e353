/* Addresses of the region, and the numbers of its pages. */
#ifndef SOFTEPC_ADDRESS_H
#define SOFTEPC_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "layout.h"

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

#endif
