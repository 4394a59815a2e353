/* Messages of the pager. Safe in a signal handler, with or without the lock. */
#ifndef SOFTEPC_MESSAGE_H
#define SOFTEPC_MESSAGE_H

/* Writes one line to stderr. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Writes one line to stderr and ends the process, without its exit handlers. */
_Noreturn void die(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
