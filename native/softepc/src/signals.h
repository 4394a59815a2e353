/* The handlers of SIGBUS and SIGSYS. */
#ifndef SOFTEPC_SIGNALS_H
#define SOFTEPC_SIGNALS_H

void signals_start(void);

#endif
