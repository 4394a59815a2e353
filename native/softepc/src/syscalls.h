/* Serves the system calls that the filter stopped. */
#ifndef SOFTEPC_SYSCALLS_H
#define SOFTEPC_SYSCALLS_H

/* Called in the SIGSYS handler of the thread that made the call, without the lock. Returns what the
 * kernel would return, -errno included. */
long syscall_serve(long number, const long arguments[6]);

#endif
