/* Memory outside of the enclave that holds the buffers of one system call. */
#include "bounce.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "arch.h"
#include "lock.h"
#include "pager.h"

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

void bounce_count(void)
{
    const uint64_t saved = lock_enter();
    counters.syscalls_bounced++;
    lock_leave(saved);
}
