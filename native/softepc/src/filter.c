/*
 * The seccomp filter: stops a system call of rules.c with SIGSYS if one of its pointers lies in the
 * region, and lets everything else pass. It compares only the high halves of pointers: the region
 * starts at a multiple of 4 GiB, and nothing else lies in its last 4 GiB.
 *
 * The filter cannot be removed, and programs that this process executes inherit it; there it stops
 * nothing, because none of their addresses lies where the region would be (see REGION_BASE). It
 * recognizes the pager's own calls by the address of their instruction. Setting a filter needs
 * no_new_privs, so set-user-ID programs started from an enclave gain no privilege.
 */
#include "filter.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "arch.h"
#include "config.h"
#include "layout.h"
#include "message.h"
#include "rules.h"

#define INSTRUCTIONS_MAX 1024

/* Offsets of the halves of a 64-bit field of seccomp_data, on a little-endian machine. */
#define LOW_HALF(field) ((uint32_t)offsetof(struct seccomp_data, field))
#define HIGH_HALF(field) (LOW_HALF(field) + 4)

static struct sock_filter program[INSTRUCTIONS_MAX];
static unsigned length;

static void emit(uint16_t code, uint32_t operand, unsigned if_true, unsigned if_false)
{
    if (length == INSTRUCTIONS_MAX || if_true > UINT8_MAX || if_false > UINT8_MAX)
        die(SOFTEPC_EXIT_UNSUPPORTED, "the table of system calls no longer fits into a filter: "
                                      "this is a bug in libsoftepc, split a group in rules.c");
    program[length++] =
        (struct sock_filter){code, (uint8_t)if_true, (uint8_t)if_false, operand};
}

static void emit_load(uint32_t offset)
{
    emit(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

static void emit_jump_if_equal(uint32_t operand, unsigned if_true, unsigned if_false)
{
    emit(BPF_JMP | BPF_JEQ | BPF_K, operand, if_true, if_false);
}

static void emit_return(uint32_t action)
{
    emit(BPF_RET | BPF_K, action, 0, 0);
}

/* Checks the calls that take this set of pointers. Falls through if the call is another. */
static void emit_group(unsigned pointers)
{
    const uint64_t last = REGION_BASE + config.region_pages * PAGE_BYTES - 1;
    const uint64_t own = (uintptr_t)raw_syscall_return;
    unsigned calls = 0, left = (unsigned)__builtin_popcount(pointers);
    for (size_t i = 0; i < rule_count; i++)
        calls += rules[i].pointers == pointers;

    for (size_t i = 0; i < rule_count; i++)
        if (rules[i].pointers == pointers)
            emit_jump_if_equal(rules[i].number, calls--, 0); /* over the jump below */
    const unsigned checks = 3 * left + 1, stop = 6;
    emit(BPF_JMP | BPF_JA, checks + stop, 0, 0);

    for (unsigned i = 0; i < 6; i++) {
        if (!(pointers & A(i)))
            continue;
        left--;
        emit_load(HIGH_HALF(args[i]));
        emit(BPF_JMP | BPF_JGE | BPF_K, REGION_BASE >> 32, 0, 1);
        emit(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)(last >> 32), 0, 3 * left + 1);
    }
    emit_return(SECCOMP_RET_ALLOW);

    emit_load(LOW_HALF(instruction_pointer));
    emit_jump_if_equal((uint32_t)own, 0, 3);
    emit_load(HIGH_HALF(instruction_pointer));
    emit_jump_if_equal((uint32_t)(own >> 32), 0, 1);
    emit_return(SECCOMP_RET_ALLOW);
    emit_return(SECCOMP_RET_TRAP | FILTER_MARK);
}

void filter_start(void)
{
    emit_load(offsetof(struct seccomp_data, arch));
    emit_jump_if_equal(ARCH_AUDIT, 1, 0);
    emit_return(SECCOMP_RET_ALLOW); /* a 32-bit call cannot name the region */
    emit_load(offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < rule_count; i++) {
        bool first = true;
        for (size_t j = 0; j < i; j++)
            first &= rules[j].pointers != rules[i].pointers;
        if (first)
            emit_group(rules[i].pointers);
    }
    emit_return(SECCOMP_RET_ALLOW);

    const struct sock_fprog filter = {.len = (unsigned short)length, .filter = program};
    /* Older kernels slow a filtered process down (a Spectre mitigation) unless told not to. */
    const unsigned long flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    long result = 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        result = RAW3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
    if (result != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "no seccomp filter could be set (errno %ld); system calls on enclave memory are served "
            "through one: use a kernel with CONFIG_SECCOMP_FILTER, and a sandbox that allows it",
            -result);
}
