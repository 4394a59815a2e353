/*
 * One lock guards the whole pager.
 *
 * No code touches region memory while it holds the lock, so a thread that holds it never faults.
 * The fault handler runs with all signals blocked and uses lock_take and lock_release. All others
 * use lock_enter and lock_leave, which block all signals as well: a signal handler of the program
 * could touch region memory, and its fault would wait for a lock that its own thread holds.
 */
#ifndef SOFTEPC_LOCK_H
#define SOFTEPC_LOCK_H

#include <stdint.h>

void lock_take(void);
void lock_release(void);
/* Blocks all signals of this thread and takes the lock. Returns the mask for lock_leave. */
uint64_t lock_enter(void);
void lock_leave(uint64_t saved_mask);

#endif
