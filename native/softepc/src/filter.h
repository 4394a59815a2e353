/* The seccomp filter that stops system calls on enclave memory. */
#ifndef SOFTEPC_FILTER_H
#define SOFTEPC_FILTER_H

/* The filter puts this into its SIGSYS, which tells it from those of other filters. */
#define FILTER_MARK 0x5ec

/* Installs the filter in all threads. Dies with SOFTEPC_EXIT_UNSUPPORTED if that fails. */
void filter_start(void);

#endif
