/*
 * System calls on enclave memory. The kernel cannot serve a fault of the region (nor could SGX: the
 * buffers of a system call lie outside of the enclave), so a call with a pointer into the region
 * would fail with EFAULT. A seccomp filter stops exactly these calls with SIGSYS, wherever in the
 * process they are made, and syscall_serve makes them in the thread's place:
 *
 *   copied    a buffer with a length goes through memory outside of the enclave, whole: a call
 *             keeps its atomicity and its result, whatever its size
 *   pinned    structures of fixed size are held resident for as long as the call takes
 *   retried   the pages are made resident and the call is repeated for as long as the kernel finds
 *             one gone: right where EFAULT has no effect. A waiter for a futex so holds no page,
 *             and an execve, which does not return, leaves none pinned
 *   mapping   calls that would change the region's mapping; advice is accepted
 *
 * Calls that reach memory through pointers inside of structures cannot be told by their arguments:
 * vectored.c takes readv, sendmsg and their like at their libc names.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "arch.h"
#include "rules.h"

/* Structures of fixed size, paths included, are at most this long. */
#define PINNED_PAGES 2
/* A copy up to this size takes no mapping, and little of a stack that may be small. */
#define STACK_BOUNCE_BYTES 1024
/* Between making a page resident and the kernel's look at it, an eviction can come; that it comes
 * this often in a row does not happen by chance. */
#define ATTEMPTS 10000

static const struct rule *rule_for(long number)
{
    for (size_t i = 0; i < rule_count; i++)
        if (rules[i].number == number)
            return &rules[i];
    return NULL;
}

void *bounce_take(size_t bytes)
{
    const long at = RAW6(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at < 0 ? NULL : (void *)at;
}

void bounce_release(void *memory, size_t bytes)
{
    RAW3(SYS_munmap, memory, bytes, 0);
}

void count_bounced_call(void)
{
    const uint64_t saved = enclave_enter();
    counters.syscalls_bounced++;
    enclave_leave(saved);
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

    uint64_t saved = enclave_enter();
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
    enclave_leave(saved);

    if (result == 0)
        result = call(number, arguments);

    saved = enclave_enter();
    for (int i = 0; i < 6; i++)
        pager_unpin(held[i].first, (uint32_t)held[i].count);
    enclave_leave(saved);
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
        const uint64_t saved = enclave_enter();
        bool allocated = true;
        for (int i = 0; i < 6; i++)
            if (rule->pointers & A(i) && in_region((uint64_t)arguments[i]))
                allocated &= pager_touch(page_of((uint64_t)arguments[i]));
        enclave_leave(saved);
        if (!allocated)
            return -EFAULT;
        result = call(rule->number, arguments);
    }
    return result;
}

/* The pages of the range read as zero from now on, as private memory does after MADV_DONTNEED. */
static void forget(uint64_t address, size_t bytes)
{
    const uint64_t saved = enclave_enter();
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
    enclave_leave(saved);
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
            return 0; /* hints: nothing may depend on them */
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
        return -ENOMEM; /* what a limit on locked memory gives: the pager decides what stays */
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
                fault_without_enclave((uintptr_t)arguments[i]);
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
    count_bounced_call();
    return call_copied(rule, arguments);
}
