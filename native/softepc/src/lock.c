/* A futex lock for signal handlers: it uses no libc, no errno and no thread identity. */
#include "lock.h"

#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "arch.h"

enum { FREE, HELD, HELD_WITH_WAITERS };

/* A fault is served in a few microseconds: spinning that long is cheaper than sleeping. */
#define SPINS 200

static _Atomic uint32_t lock_word = FREE;

void lock_take(void)
{
    uint32_t seen = FREE;
    if (atomic_compare_exchange_strong(&lock_word, &seen, HELD))
        return;
    for (int spin = 0; spin < SPINS; spin++) {
        arch_relax();
        seen = FREE;
        if (atomic_load_explicit(&lock_word, memory_order_relaxed) == FREE &&
            atomic_compare_exchange_strong(&lock_word, &seen, HELD))
            return;
    }
    while (atomic_exchange(&lock_word, HELD_WITH_WAITERS) != FREE)
        RAW4(SYS_futex, &lock_word, FUTEX_WAIT_PRIVATE, HELD_WITH_WAITERS, NULL);
}

void lock_release(void)
{
    if (atomic_exchange(&lock_word, FREE) == HELD_WITH_WAITERS)
        RAW3(SYS_futex, &lock_word, FUTEX_WAKE_PRIVATE, 1);
}

uint64_t lock_enter(void)
{
    uint64_t all = ~UINT64_C(0), saved = 0;
    RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &saved, sizeof all);
    lock_take();
    return saved;
}

void lock_leave(uint64_t saved_mask)
{
    lock_release();
    RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &saved_mask, NULL, sizeof saved_mask);
}
