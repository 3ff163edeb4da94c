/* Starting threads: see thread.h. */
#include "io/thread.h"

#include <signal.h>
#include <stddef.h>

#include "base/error.h"

int io_thread_start(const char *name, void *(*run)(void *ctx), void *ctx, pthread_t *ret_thread)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPROF};
    sigset_t mask, before;
    sigfillset(&mask);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigdelset(&mask, faults[i]);
    /* Blocked already when the thread begins. */
    pthread_sigmask(SIG_SETMASK, &mask, &before);
    int failed = pthread_create(ret_thread, NULL, run, ctx);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return CLYMQ_ELIMIT;
    pthread_setname_np(*ret_thread, name);
    return 0;
}
