/* Address space from mmap, which works before malloc does. */
#include "reserve.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "../softepc.h"
#include "message.h"

void *reserve_memory(size_t bytes, const char *purpose)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "no address space of %zu bytes for %s (%s): lower SOFTEPC_REGION_BYTES, or raise the "
            "limit (ulimit -v)",
            bytes, purpose, strerror(errno));
    return memory;
}
