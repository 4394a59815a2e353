/*
 * The memory of the region, as the kernel provides it.
 *
 * The region is a memfd mapped twice. The program uses the enclave's mapping: userfaultfd turns
 * each touch of a page that is not mapped there into SIGBUS, and the handler serves the thread that
 * touched it. The pager reads pages that it seals through its own, read-only mapping. The sealed
 * copies lie in a third mapping, which represents the memory outside of the enclave.
 */
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "address.h"
#include "arch.h"
#include "config.h"
#include "layout.h"
#include "message.h"
#include "reserve.h"

static int memory_fd = -1, fault_fd = -1;
static const uint8_t *view; /* the pager's mapping of the memfd */
static uint8_t *untrusted;  /* one slot for each page */

const void *memory_view(uint32_t page)
{
    return view + (size_t)page * PAGE_BYTES;
}

void *memory_untrusted_slot(uint32_t page)
{
    return untrusted + (size_t)page * PAGE_BYTES;
}

static void must(long result, const char *call, uint32_t page)
{
    if (result < 0)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "%s failed on page %u with errno %ld; the enclave cannot go on: if it is 12 (ENOMEM) "
            "or 28 (ENOSPC), give the process more memory or a smaller SOFTEPC_BUDGET_BYTES",
            call, page, -result);
}

void memory_unmap(uint32_t first, uint32_t count)
{
    must(RAW3(SYS_madvise, address_of(first), (size_t)count * PAGE_BYTES, MADV_DONTNEED), "madvise",
         first);
}

void memory_remove(uint32_t first, uint32_t count)
{
    must(RAW4(SYS_fallocate, memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              (uint64_t)first * PAGE_BYTES, (uint64_t)count * PAGE_BYTES),
         "fallocate", first);
}

static long fault_ioctl(unsigned long request, void *argument)
{
    long result;
    do
        result = RAW3(SYS_ioctl, fault_fd, request, argument);
    while (result == -EAGAIN); /* the address space was changing at that moment */
    return result;
}

void memory_map(uint32_t page)
{
    struct uffdio_continue request = {.range = {address_of(page), PAGE_BYTES}};
    long result = fault_ioctl(UFFDIO_CONTINUE, &request);
    if (result != -EEXIST) /* another thread's fault may have mapped it since */
        must(result, "UFFDIO_CONTINUE", page);
}

void memory_fill_zeros(uint32_t page)
{
    struct uffdio_zeropage request = {.range = {address_of(page), PAGE_BYTES}};
    must(fault_ioctl(UFFDIO_ZEROPAGE, &request), "UFFDIO_ZEROPAGE", page);
}

void memory_fill(uint32_t page, const void *content)
{
    struct uffdio_copy request = {
        .dst = address_of(page), .src = (uintptr_t)content, .len = PAGE_BYTES};
    must(fault_ioctl(UFFDIO_COPY, &request), "UFFDIO_COPY", page);
}

void memory_forget_slots(uint32_t first, uint32_t count)
{
    must(RAW3(SYS_madvise, memory_untrusted_slot(first), (size_t)count * PAGE_BYTES,
              MADV_DONTNEED),
         "madvise of untrusted memory", first);
}

/* ---- start, fork ---- */

static int open_fault_fd(void)
{
    long fd = RAW3(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY, 0, 0);
    if (fd < 0)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "the system call userfaultfd failed with errno %ld; the pager needs Linux 5.14 or "
            "newer with CONFIG_USERFAULTFD, and a sandbox that allows the call (Docker: a seccomp "
            "profile with userfaultfd; gVisor has none)",
            -fd);
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM |
                                         UFFD_FEATURE_MINOR_SHMEM};
    long result = RAW3(SYS_ioctl, fd, UFFDIO_API, &api);
    if (result < 0)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "this kernel's userfaultfd lacks SIGBUS, missing or minor faults on shared memory "
            "(errno %ld): use Linux 5.14 or newer on x86-64",
            -result);
    return (int)fd;
}

static void register_region(size_t bytes)
{
    struct uffdio_register request = {.range = {REGION_BASE, bytes},
                                      .mode = UFFDIO_REGISTER_MODE_MISSING |
                                              UFFDIO_REGISTER_MODE_MINOR};
    const uint64_t needed =
        1ull << _UFFDIO_COPY | 1ull << _UFFDIO_ZEROPAGE | 1ull << _UFFDIO_CONTINUE;
    long result = RAW3(SYS_ioctl, fault_fd, UFFDIO_REGISTER, &request);
    if (result < 0 || (request.ioctls & needed) != needed)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "userfaultfd does not serve missing and minor faults on a memfd here (errno %ld): use "
            "Linux 5.14 or newer on x86-64",
            result < 0 ? -result : 0);
}

void memory_start(void)
{
    const size_t bytes = config.region_pages * PAGE_BYTES;

    memory_fd = memfd_create("softepc", MFD_CLOEXEC);
    if (memory_fd < 0 || ftruncate(memory_fd, (off_t)bytes) != 0)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "no memfd of %zu bytes (%s): raise the limit on file size (ulimit -f), or lower "
            "SOFTEPC_REGION_BYTES",
            bytes, strerror(errno));
    void *enclave = mmap((void *)REGION_BASE, bytes, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, memory_fd, 0);
    void *second = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, memory_fd, 0);
    if (enclave != (void *)REGION_BASE || second == MAP_FAILED)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "the region of %zu bytes could not be mapped at %#llx (%s): lower "
            "SOFTEPC_REGION_BYTES, or raise the limit on address space (ulimit -v)",
            bytes, (unsigned long long)REGION_BASE, strerror(errno));
    view = second;
    if (madvise(enclave, bytes, MADV_DONTFORK) || madvise(second, bytes, MADV_DONTFORK) ||
        madvise(enclave, bytes, MADV_DONTDUMP) || madvise(second, bytes, MADV_DONTDUMP))
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "madvise refused to keep the region out of children and core dumps (%s): use Linux "
            "5.14 or newer",
            strerror(errno));
    /* Huge pages would break the budget. It is fine if a kernel without them refuses this. */
    madvise(enclave, bytes, MADV_NOHUGEPAGE);
    madvise(second, bytes, MADV_NOHUGEPAGE);

    untrusted = reserve_memory(bytes, "sealed pages");
    madvise(untrusted, bytes, MADV_NOHUGEPAGE);
    fault_fd = open_fault_fd();
    register_region(bytes);
}

void memory_abandon_after_fork(void)
{
    close(fault_fd);
    close(memory_fd);
    /* Maps an empty file over the region: a touch raises SIGBUS, whose handler explains the error.
     * If this fails, the child gets SIGSEGV instead, which explains nothing. */
    memory_fd = (int)RAW3(SYS_memfd_create, "softepc-forked", MFD_CLOEXEC, 0);
    RAW6(SYS_mmap, REGION_BASE, config.region_pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
         MAP_SHARED | MAP_NORESERVE | MAP_FIXED, memory_fd, 0);
    close(memory_fd);
}
