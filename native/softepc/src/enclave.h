/* Whether there is an enclave: it opens once, and ends at exit or in a child of fork. */
#ifndef SOFTEPC_ENCLAVE_H
#define SOFTEPC_ENCLAVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Read by any thread without the lock. A thread that acts on the region reads it again under the
 * lock, because another thread may end the enclave. False in a child of fork. */
extern atomic_bool enclave_open;

/* Called by the thread that starts the enclave, when everything else is ready. */
void enclave_set_open(void);
/* Called under the lock by the thread that ends the process. */
void enclave_set_closed(void);
/* Called under the lock by the only thread of a child of fork, if the enclave was open. */
void enclave_set_forked(void);

/* True if the enclave was never open in this process. */
bool enclave_is_unused(void);

/* Called, without the lock, by a thread that touched the region while no enclave is open. Ends the
 * process with a message; if another thread is ending the process already, waits for that. */
_Noreturn void enclave_refuse(uintptr_t address);

#endif
