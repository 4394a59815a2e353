/* Copies through memory outside of the enclave, for system calls. Called without the lock. */
#ifndef SOFTEPC_BOUNCE_H
#define SOFTEPC_BOUNCE_H

#include <stddef.h>

/* Memory outside of the enclave for one call. NULL if there is none. */
void *bounce_take(size_t bytes);
void bounce_release(void *memory, size_t bytes);
/* Adds one call to the counters. Takes the lock. */
void bounce_count(void);

#endif
