/* Changes untrusted memory, like an attacker: none | flip | replay | swap. */
#include "common.h"

enum { PAGES = 256 };

static unsigned char *memory;

static unsigned char *sealed_copy(uint64_t page)
{
    void *copy;
    size_t bytes;
    CHECK(softepc_untrusted(page, &copy, &bytes) == 0 && bytes == SOFTEPC_PAGE_BYTES);
    return copy;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    unsigned char old[SOFTEPC_PAGE_BYTES], other[SOFTEPC_PAGE_BYTES];
    memory = malloc(PAGES * SOFTEPC_PAGE_BYTES);
    CHECK(memory == softepc_region_base());
    for (unsigned page = 0; page < PAGES; page++)
        memset(memory + page * SOFTEPC_PAGE_BYTES, (int)page, SOFTEPC_PAGE_BYTES);
    evict_all();
    memcpy(old, sealed_copy(0), sizeof old);
    for (unsigned i = 0; i + 64 < sizeof old; i += 64)
        CHECK(memcmp(old + i, old + i + 64, 64) != 0); /* 64 equal bytes of plaintext */

    if (strcmp(argv[1], "flip") == 0) {
        sealed_copy(0)[1234] ^= 1;
    } else if (strcmp(argv[1], "replay") == 0) {
        memory[0] = 77;
        evict_all();
        CHECK(memcmp(old, sealed_copy(0), sizeof old) != 0);
        memcpy(sealed_copy(0), old, sizeof old);
    } else if (strcmp(argv[1], "swap") == 0) {
        memcpy(other, sealed_copy(1), sizeof other);
        memcpy(sealed_copy(1), old, sizeof old);
        memcpy(sealed_copy(0), other, sizeof other);
    }
    const int seen = *(volatile unsigned char *)memory;
    printf("read %d\n", seen);
    return 0;
}
