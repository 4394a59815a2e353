/* Which system calls take which pointers, and what is done when one points into the region. */
#ifndef SOFTEPC_RULES_H
#define SOFTEPC_RULES_H

#include <stddef.h>
#include <stdint.h>

enum handling { /* explained in syscalls.c */
    COPIED_IN = 1,
    COPIED_OUT = 2,
    COPIED_BOTH = COPIED_IN | COPIED_OUT,
    PINNED,
    RETRIED,
    MAPPING,
};

struct rule {
    uint16_t number;
    uint8_t pointers; /* bit i: argument i is a pointer */
    uint8_t handling;
    int8_t buffer, length; /* copied: arguments with the address, and the number of units */
    uint8_t unit_bytes;
};

/* The set that contains only argument i. */
#define A(i) (1u << (i))

extern const struct rule rules[];
extern const size_t rule_count;

#endif
