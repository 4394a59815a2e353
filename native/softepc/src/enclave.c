/* The state of the enclave, which the roof (lifecycle.c) sets and everybody reads. */
#include "enclave.h"

#include <sys/syscall.h>

#include "../softepc.h"
#include "arch.h"
#include "message.h"

atomic_bool enclave_open;

static bool forked;
static long closing_thread; /* 0 until the enclave is closed */

void enclave_set_open(void)
{
    enclave_open = true;
}

void enclave_set_closed(void)
{
    closing_thread = RAW3(SYS_gettid, 0, 0, 0);
    enclave_open = false;
}

void enclave_set_forked(void)
{
    enclave_open = false;
    forked = true;
}

bool enclave_is_unused(void)
{
    return !enclave_open && !forked && !closing_thread;
}

void enclave_refuse(uintptr_t address)
{
    if (forked)
        die(SOFTEPC_EXIT_FORKED,
            "a child of fork() touched address %#lx of its parent's enclave; the enclave does not "
            "extend to children: start a new program instead (Python: the spawn start method)",
            (unsigned long)address);
    if (RAW3(SYS_gettid, 0, 0, 0) == closing_thread)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "address %#lx of the enclave was touched after the exit handlers had run and the key "
            "was wiped; nothing may use enclave memory that late",
            (unsigned long)address);
    for (;;) /* another thread is ending the process */
        RAW4(SYS_ppoll, NULL, 0, NULL, NULL);
}
