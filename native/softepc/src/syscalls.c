/*
 * System calls on enclave memory. The kernel cannot serve a fault in the region (with SGX, too, the
 * buffers of a system call lie outside of the enclave), so a call with a pointer into the region
 * fails with EFAULT. A seccomp filter stops exactly these calls with SIGSYS, wherever in the
 * process they are made. syscall_serve makes them in the signal handler of the same thread. It
 * takes the lock to pin or touch pages and releases it before it makes the call, which may block:
 *
 *   copied    a buffer with a length is copied, as a whole, through memory outside of the enclave:
 *             the call keeps its atomicity and its result, whatever its size
 *   pinned    structures of fixed size are held resident while the call runs
 *   retried   the pages are made resident, and the call is repeated while it fails with EFAULT
 *             because a page was evicted in between. Only for calls that have no effect when they
 *             fail so. A thread that waits for a futex thus pins no page, and an execve, which does
 *             not return, leaves none pinned
 *   mapping   calls that would change the region's mapping; advice is accepted
 *
 * The arguments of some calls do not show that they reach the region, because the pointers lie
 * inside structures: vectored.c replaces readv, sendmsg and the like at their libc names.
 */
#include "syscalls.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "address.h"
#include "arch.h"
#include "bounce.h"
#include "config.h"
#include "enclave.h"
#include "layout.h"
#include "lock.h"
#include "pager.h"
#include "rules.h"

/* Structures of fixed size and paths span at most this many pages. */
#define PINNED_PAGES 2
/* A copy up to this size lies on the stack, which may be small; a larger one takes a mapping. */
#define STACK_BOUNCE_BYTES 1024
/* Another thread can evict a page after it was made resident and before the kernel reads it. This
 * many evictions in a row do not happen by chance. */
#define ATTEMPTS 10000

static const struct rule *rule_for(long number)
{
    for (size_t i = 0; i < rule_count; i++)
        if (rules[i].number == number)
            return &rules[i];
    return NULL;
}

static long call(long number, const long a[6])
{
    return RAW6(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- the four ways of handling ---- */

static long call_pinned(long number, unsigned pointers, const long arguments[6])
{
    struct {
        uint32_t first;
        int count;
    } held[6] = {{0, 0}};
    bool any = false;
    long result = 0;

    uint64_t saved = lock_enter();
    for (int i = 0; i < 6; i++) {
        if (!(pointers & A(i)) || !in_region((uint64_t)arguments[i]))
            continue;
        held[i].first = page_of((uint64_t)arguments[i]);
        held[i].count = pager_pin(held[i].first, PINNED_PAGES);
        if (held[i].count < 0) {
            held[i].count = 0;
            result = -ENOMEM;
        }
        any = true;
    }
    counters.syscalls_pinned += any;
    lock_leave(saved);

    if (result == 0)
        result = call(number, arguments);

    saved = lock_enter();
    for (int i = 0; i < 6; i++)
        pager_unpin(held[i].first, (uint32_t)held[i].count);
    lock_leave(saved);
    return result;
}

static long call_copied(const struct rule *rule, const long arguments[6])
{
    char *inside = (char *)arguments[rule->buffer];
    const size_t units = (size_t)arguments[rule->length];
    const unsigned others = rule->pointers & ~A(rule->buffer);
    size_t bytes;
    if (__builtin_mul_overflow(units, (size_t)rule->unit_bytes, &bytes))
        return -EFAULT;

    char small[STACK_BOUNCE_BYTES];
    char *outside = bytes <= sizeof small ? small : bounce_take(bytes);
    if (!outside)
        return -ENOMEM;
    if (rule->handling & COPIED_IN)
        memcpy(outside, inside, bytes);

    long changed[6];
    memcpy(changed, arguments, sizeof changed);
    changed[rule->buffer] = (long)outside;
    const long result = call_pinned(rule->number, others, changed);

    if (result >= 0 && rule->handling == COPIED_BOTH) {
        memcpy(inside, outside, bytes);
    } else if (result > 0 && rule->handling == COPIED_OUT) {
        const size_t written = (size_t)result * rule->unit_bytes;
        memcpy(inside, outside, written < bytes ? written : bytes);
    }
    if (outside != small)
        bounce_release(outside, bytes);
    return result;
}

static long call_retried(const struct rule *rule, const long arguments[6])
{
    long result = -EFAULT;
    for (int attempt = 0; result == -EFAULT && attempt < ATTEMPTS; attempt++) {
        const uint64_t saved = lock_enter();
        bool allocated = true;
        for (int i = 0; i < 6; i++)
            if (rule->pointers & A(i) && in_region((uint64_t)arguments[i]))
                allocated &= pager_touch(page_of((uint64_t)arguments[i]));
        lock_leave(saved);
        if (!allocated)
            return -EFAULT;
        result = call(rule->number, arguments);
    }
    return result;
}

/* The pages of the range read as zero from now on, as private memory does after MADV_DONTNEED. */
static void forget(uint64_t address, size_t bytes)
{
    const uint64_t saved = lock_enter();
    const uint64_t count = (bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    const uint64_t end = page_of(address) + count;
    for (uint64_t page = page_of(address), after; page < end; page = after + 1) {
        for (after = page; after < end && pager_is_allocated((uint32_t)after);)
            after++;
        if (after > page)
            pager_discard((uint32_t)page, (uint32_t)(after - page), PAGE_FRESH);
        else if (page >= config.region_pages)
            break;
    }
    lock_leave(saved);
}

static long call_mapping(long number, const long arguments[6])
{
    const uint64_t address = (uint64_t)arguments[0];
    switch (number) {
    case SYS_madvise:
        if (address % PAGE_BYTES)
            return -EINVAL;
        switch (arguments[2]) {
        case MADV_DONTNEED:
            forget(address, (size_t)arguments[1]);
            return 0;
        case MADV_NORMAL:
        case MADV_RANDOM:
        case MADV_SEQUENTIAL:
        case MADV_WILLNEED:
        case MADV_FREE:
        case MADV_COLD:
        case MADV_PAGEOUT:
        case MADV_HUGEPAGE:
        case MADV_NOHUGEPAGE:
        case MADV_MERGEABLE:
        case MADV_UNMERGEABLE:
        case MADV_DONTDUMP:
        case MADV_DODUMP:
            return 0; /* hints, which a program must not depend on */
        default:
            return -EINVAL;
        }
    case SYS_mprotect: /* enclave memory stays readable and writable, and never executable */
        return arguments[2] == (PROT_READ | PROT_WRITE) ? 0 : -EACCES;
    case SYS_msync:
    case SYS_munlock:
    case SYS_mbind:
        return 0;
    case SYS_mlock:
    case SYS_mlock2:
        return -ENOMEM; /* as with a limit on locked memory: the pager decides which pages stay */
    default:
        return -EINVAL;
    }
}

long syscall_serve(long number, const long arguments[6])
{
    const struct rule *rule = rule_for(number);
    if (!enclave_open) {
        for (int i = 0; i < 6; i++)
            if (rule->pointers & A(i) && in_region((uint64_t)arguments[i]))
                enclave_refuse((uintptr_t)arguments[i]);
    }
    switch ((enum handling)rule->handling) {
    case MAPPING:
        return call_mapping(number, arguments);
    case RETRIED:
        return call_retried(rule, arguments);
    case PINNED:
        return call_pinned(number, rule->pointers, arguments);
    default:
        break;
    }
    if (!in_region((uint64_t)arguments[rule->buffer]))
        return call_pinned(number, rule->pointers, arguments);
    bounce_count();
    return call_copied(rule, arguments);
}
