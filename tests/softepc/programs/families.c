/* Random calls of the malloc family, checked against its manual. Argument: a seed. */
#include "common.h"

#include <errno.h>
#include <malloc.h>

enum { SLOTS = 48, ROUNDS = 4000 };

struct slot {
    unsigned char *memory;
    size_t bytes;
    unsigned char value;
};

static uint64_t state;

/* Sizes on both sides of the threshold of 64 KiB. */
static size_t some_size(void)
{
    const size_t range[] = {100, 65535, 65537, 70000, 300000, 1000000};
    return 1 + random_next(&state) % range[random_next(&state) % 6];
}

static void fill(struct slot *slot, unsigned char value)
{
    slot->value = value;
    memset(slot->memory, value, slot->bytes);
}

static void check(const struct slot *slot, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        CHECK(slot->memory[i] == slot->value);
}

static void fresh(struct slot *slot)
{
    const size_t alignment = (size_t)8 << random_next(&state) % 15;
    size_t aligned_to = 16;
    slot->bytes = some_size();
    switch (random_next(&state) % 6) {
    case 0:
        slot->memory = malloc(slot->bytes);
        break;
    case 1:
        slot->memory = calloc(1 + slot->bytes / 7, 7);
        for (size_t i = 0; i < slot->bytes; i++)
            CHECK(slot->memory[i] == 0);
        break;
    case 2:
        CHECK(posix_memalign((void **)&slot->memory, alignment, slot->bytes) == 0);
        aligned_to = alignment;
        break;
    case 3:
        slot->memory = aligned_alloc(alignment, slot->bytes);
        aligned_to = alignment;
        break;
    case 4:
        slot->memory = memalign(alignment, slot->bytes);
        aligned_to = alignment;
        break;
    default:
        slot->memory = valloc(slot->bytes);
        aligned_to = SOFTEPC_PAGE_BYTES;
    }
    CHECK(slot->memory && (uintptr_t)slot->memory % aligned_to == 0);
    CHECK(softepc_in_region(slot->memory) == (slot->bytes >= 65536));
    CHECK(malloc_usable_size(slot->memory) >= slot->bytes);
    fill(slot, (unsigned char)random_next(&state));
}

int main(int argc, char **argv)
{
    struct slot slots[SLOTS] = {{0}};
    state = argc > 1 ? strtoull(argv[1], NULL, 10) * 2654435761u + 1 : 1;

    for (unsigned round = 0; round < ROUNDS; round++) {
        struct slot *slot = &slots[random_next(&state) % SLOTS];
        if (!slot->memory) {
            fresh(slot);
        } else if (random_next(&state) % 2) {
            const size_t bytes = some_size();
            slot->memory = random_next(&state) % 2 ? realloc(slot->memory, bytes)
                                                   : reallocarray(slot->memory, bytes, 1);
            CHECK(slot->memory && softepc_in_region(slot->memory) == (bytes >= 65536));
            check(slot, bytes < slot->bytes ? bytes : slot->bytes);
            slot->bytes = bytes;
            fill(slot, (unsigned char)random_next(&state));
        } else {
            check(slot, slot->bytes);
            free(slot->memory);
            slot->memory = NULL;
        }
    }
    for (unsigned i = 0; i < SLOTS; i++)
        free(slots[i].memory);
    struct softepc_counters counters;
    softepc_counters(&counters);
    CHECK(counters.live_bytes == 0 && counters.resident_bytes == 0 && counters.sealed_bytes == 0);

    void *none = NULL, *huge;
    CHECK(posix_memalign(&none, 24, 1 << 20) == EINVAL && !none);
    CHECK(!malloc(SIZE_MAX / 4) && errno == ENOMEM);
    CHECK(!calloc(SIZE_MAX / 2, 3) && errno == ENOMEM);
    CHECK(!reallocarray(NULL, SIZE_MAX / 2, 3) && errno == ENOMEM);
    CHECK(posix_memalign(&huge, (size_t)1 << 21, 1 << 20) == 0);
    CHECK((uintptr_t)huge % (1 << 21) == 0);
    free(huge);

    /* The lowest address is used first, and adjacent free ranges are merged. */
    char *a = malloc(1 << 20), *b = malloc(1 << 20), *c = malloc(1 << 20);
    CHECK((void *)a == softepc_region_base() && b == a + (1 << 20) && c == b + (1 << 20));
    free(a);
    free(b);
    char *d = malloc(2 << 20);
    CHECK(d == a);
    errno = 4711;
    free(d);
    free(c);
    CHECK(errno == 4711);

    /* Thousands of live allocations with holes must stay fast: the caller has a time limit. */
    static char *many[20000];
    for (unsigned i = 0; i < 20000; i++)
        CHECK((many[i] = malloc(65536 + (i % 7) * 4096)));
    for (unsigned i = 0; i < 20000; i += 2)
        free(many[i]);
    for (unsigned i = 0; i < 20000; i += 2)
        CHECK((many[i] = malloc(65536 + (i % 5) * 4096)));
    for (unsigned i = 0; i < 20000; i++)
        free(many[i]);
    softepc_counters(&counters);
    CHECK(counters.live_bytes == 0);
    return 0;
}
