/* All processor-specific code: the raw system call, and the registers of a stopped one. */
#ifndef SOFTEPC_ARCH_H
#define SOFTEPC_ARCH_H

#include <linux/audit.h>
#include <ucontext.h>

#ifndef __x86_64__
#error "libsoftepc knows the registers and the system calls of x86-64 only: port src/arch.h first"
#endif

#define ARCH_AUDIT AUDIT_ARCH_X86_64

/* Makes a system call with the only instruction that the seccomp filter lets pass. Returns -errno
 * on failure. */
long raw_syscall(long number, long a, long b, long c, long d, long e, long f);
/* The address after that instruction, which is the one that the filter sees. */
extern const char raw_syscall_return[];

#define RAW6(n, a, b, c, d, e, f) \
    raw_syscall((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define RAW4(n, a, b, c, d) RAW6(n, a, b, c, d, 0, 0)
#define RAW3(n, a, b, c) RAW6(n, a, b, c, 0, 0, 0)

static inline void arch_stopped_arguments(const ucontext_t *context, long arguments[6])
{
    const greg_t *registers = context->uc_mcontext.gregs;
    arguments[0] = registers[REG_RDI];
    arguments[1] = registers[REG_RSI];
    arguments[2] = registers[REG_RDX];
    arguments[3] = registers[REG_R10];
    arguments[4] = registers[REG_R8];
    arguments[5] = registers[REG_R9];
}

static inline void arch_set_result(ucontext_t *context, long result)
{
    context->uc_mcontext.gregs[REG_RAX] = result;
}

static inline void arch_relax(void)
{
    __builtin_ia32_pause();
}

#endif
