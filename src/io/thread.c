/* Starting threads: see thread.h. */
#include "io/thread.h"

#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"

enum { SHORT_SLICE_NS = 100000 }; /* the least that Linux grants */

/* The argument of sched_setattr(2) in its first version, which not every C library declares. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

static _Thread_local bool short_turns;
static _Thread_local uint64_t worked_ns; /* since the last yield */

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

uint64_t io_thread_slice_ns(void)
{
    struct scheduling now;
    return syscall(SYS_sched_getattr, 0, &now, sizeof(now), 0) ? 0 : now.runtime_ns;
}

bool io_thread_short_turns(void)
{
    struct scheduling wish;
    if (syscall(SYS_sched_getattr, 0, &wish, sizeof(wish), 0) || wish.policy != SCHED_OTHER)
        return false;
    wish.runtime_ns = SHORT_SLICE_NS;
    if (syscall(SYS_sched_setattr, 0, &wish, 0))
        return false;
    short_turns = io_thread_slice_ns() == SHORT_SLICE_NS; /* systems that know no such wish pass over it */
    return short_turns;
}

void io_thread_worked(uint64_t ns)
{
    worked_ns += ns;
    if (!short_turns || worked_ns < SHORT_SLICE_NS)
        return;
    worked_ns = 0;
    sched_yield();
}
