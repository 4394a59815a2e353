/* The size of a page, and where the region lies. */
#ifndef SOFTEPC_LAYOUT_H
#define SOFTEPC_LAYOUT_H

#include <stdint.h>

#include "../softepc.h"

#define PAGE_BYTES SOFTEPC_PAGE_BYTES
#define NO_PAGE UINT32_MAX

/*
 * The region's address is fixed, because the seccomp filter contains it and programs that this
 * process executes inherit the filter: there, an argument that happens to look like an address of
 * the region would end the program. Nothing in common use maps this range: executables start at
 * 0x555555554000 or low, mmap works down from 0x7fffffffffff, the sanitizers own 0x00.. to 0x34..
 * and 0x50.. up, mimalloc hints below 0x1e.., and V8 draws hints of 46 bits. 1 TiB is reserved;
 * only the configured part is mapped. The address is a multiple of 4 GiB, so that the filter needs
 * to compare only the high halves of addresses.
 */
#define REGION_BASE UINT64_C(0x4ec000000000)
#define REGION_MAX_BYTES (UINT64_C(1) << 40)

#endif
