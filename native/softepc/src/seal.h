/* Sealing of evicted pages with AES-128-GCM. All but seal_start are called under the lock. */
#ifndef SOFTEPC_SEAL_H
#define SOFTEPC_SEAL_H

#include <stdbool.h>
#include <stdint.h>

struct seal_record { /* trusted: kept for each evicted page */
    uint64_t version;
    uint8_t tag[16];
};

/* Finds libcrypto and makes the key. Dies with SOFTEPC_EXIT_UNSUPPORTED if that fails. */
void seal_start(void);
void seal_page(uint32_t page, const void *plain, void *cipher, struct seal_record *record);
/* False if the sealed copy is not what seal_page last wrote for this page. */
bool seal_open(uint32_t page, const void *cipher, void *plain, const struct seal_record *record);
void seal_wipe(void);

#endif
