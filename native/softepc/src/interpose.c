/*
 * The malloc family. The region serves requests of SOFTEPC_MIN_BYTES and more, libc serves all
 * others; the address of a pointer tells which of them owns it. libc is called by the names that
 * glibc exports for this purpose: they work before dlsym does. Any thread calls these functions;
 * the lock is held only around calls of the allocator.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "config.h"
#include "enclave.h"
#include "layout.h"
#include "lock.h"
#include "message.h"
#include "region.h"

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *pointer, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *pointer);

static bool belongs_in_region(size_t bytes)
{
    return enclave_open && bytes >= config.min_bytes;
}

/* The memory is zeroed, because new pages are. */
static void *allocate(size_t bytes, size_t alignment)
{
    const uint64_t pages = bytes / PAGE_BYTES + (bytes % PAGE_BYTES != 0);
    const uint64_t align_pages = alignment > PAGE_BYTES ? alignment / PAGE_BYTES : 1;
    uint32_t first = NO_PAGE;
    if (pages <= config.region_pages && align_pages <= config.region_pages) {
        const uint64_t saved = lock_enter();
        first = region_allocate((uint32_t)pages, (uint32_t)align_pages);
        lock_leave(saved);
    }
    if (first == NO_PAGE) {
        errno = ENOMEM;
        return NULL;
    }
    return (void *)address_of(first);
}

/* Takes the lock, and requires that a live allocation starts at `pointer`. */
static uint64_t enter_with_live(const void *pointer, const char *function)
{
    const uint64_t address = (uintptr_t)pointer;
    const uint64_t saved = lock_enter();
    if (address % PAGE_BYTES || !region_size(page_of(address))) {
        lock_leave(saved);
        say("%s(%p): no live allocation of the enclave starts at this address; it was freed "
            "before, or the pointer is wrong",
            function, pointer);
        abort();
    }
    return saved;
}

static void release(void *pointer)
{
    if (!enclave_open) /* a child of fork does not have this memory */
        return;
    const uint64_t saved = enter_with_live(pointer, "free");
    region_free(page_of((uintptr_t)pointer));
    lock_leave(saved);
}

/* `alignment` is a power of two. */
static void *aligned(size_t alignment, size_t bytes)
{
    return belongs_in_region(bytes) ? allocate(bytes, alignment)
                                    : __libc_memalign(alignment, bytes);
}

SOFTEPC_API void *malloc(size_t bytes)
{
    return belongs_in_region(bytes) ? allocate(bytes, 1) : __libc_malloc(bytes);
}

SOFTEPC_API void *calloc(size_t count, size_t bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return belongs_in_region(total) ? allocate(total, 1) : __libc_calloc(count, bytes);
}

SOFTEPC_API void free(void *pointer)
{
    if (in_region((uintptr_t)pointer))
        release(pointer);
    else
        __libc_free(pointer);
}

SOFTEPC_API size_t malloc_usable_size(void *pointer)
{
    static size_t (*next)(void *);
    if (in_region((uintptr_t)pointer)) {
        const uint64_t saved = enter_with_live(pointer, "malloc_usable_size");
        const size_t bytes = (size_t)region_size(page_of((uintptr_t)pointer)) * PAGE_BYTES;
        lock_leave(saved);
        return bytes;
    }
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "malloc_usable_size");
    return next(pointer);
}

static bool resized_in_place(void *pointer, size_t bytes)
{
    const uint64_t pages = bytes / PAGE_BYTES + (bytes % PAGE_BYTES != 0);
    if (pages > config.region_pages)
        return false;
    const uint64_t saved = enter_with_live(pointer, "realloc");
    const bool done = region_resize(page_of((uintptr_t)pointer), (uint32_t)pages);
    lock_leave(saved);
    return done;
}

SOFTEPC_API void *realloc(void *pointer, size_t bytes)
{
    const bool was_inside = in_region((uintptr_t)pointer), stays = belongs_in_region(bytes);
    if (!pointer)
        return malloc(bytes);
    if (!was_inside && !stays)
        return __libc_realloc(pointer, bytes);
    if (!bytes) {
        free(pointer);
        return NULL;
    }
    if (was_inside && stays && resized_in_place(pointer, bytes))
        return pointer;

    void *moved = malloc(bytes);
    if (!moved)
        return NULL;
    const size_t old_bytes = malloc_usable_size(pointer);
    memcpy(moved, pointer, old_bytes < bytes ? old_bytes : bytes);
    free(pointer);
    return moved;
}

SOFTEPC_API void *reallocarray(void *pointer, size_t count, size_t bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(pointer, total);
}

SOFTEPC_API void *memalign(size_t alignment, size_t bytes)
{
    size_t power = sizeof(void *); /* glibc rounds up too */
    while (power < alignment && power <= SIZE_MAX / 2)
        power *= 2;
    return aligned(power, bytes);
}

SOFTEPC_API void *aligned_alloc(size_t alignment, size_t bytes)
{
    return memalign(alignment, bytes);
}

SOFTEPC_API int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)))
        return EINVAL;
    const int saved_errno = errno;
    void *pointer = aligned(alignment, bytes);
    errno = saved_errno;
    if (!pointer)
        return ENOMEM;
    *out = pointer;
    return 0;
}

SOFTEPC_API void *valloc(size_t bytes)
{
    return aligned(PAGE_BYTES, bytes);
}

SOFTEPC_API void *pvalloc(size_t bytes)
{
    if (bytes > SIZE_MAX - PAGE_BYTES) {
        errno = ENOMEM;
        return NULL;
    }
    return aligned(PAGE_BYTES, (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
}

SOFTEPC_API void *softepc_region_base(void)
{
    return enclave_open ? (void *)REGION_BASE : NULL;
}

SOFTEPC_API int softepc_in_region(const void *address)
{
    return enclave_open && in_region((uintptr_t)address);
}
