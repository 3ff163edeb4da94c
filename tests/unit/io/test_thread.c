/* Threads: their name and signals, and how the scheduler is asked to treat them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "io/thread.h"

static sem_t started; /* io_thread_start has returned */

static void run_and_join(void *(*run)(void *ctx), void *ctx)
{
    pthread_t thread;
    sem_init(&started, 0, 0);
    assert_int_equal(io_thread_start("worker-3", run, ctx, &thread), 0);
    sem_post(&started);
    assert_int_equal(pthread_join(thread, NULL), 0);
    sem_destroy(&started);
}

/* What threads saw, looked at by the test's own: an assertion may not fail elsewhere. */
struct seen {
    char name[16];
    sigset_t mask;
    bool granted;
    int policy, nice;
};

static void *look(void *ctx)
{
    struct seen *seen = ctx;
    sem_wait(&started);
    pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
    pthread_sigmask(SIG_BLOCK, NULL, &seen->mask);
    return NULL;
}

static void has_its_name_and_leaves_signals_to_others(void **state)
{
    struct seen seen;
    run_and_join(look, &seen);
    assert_string_equal(seen.name, "worker-3");
    assert_true(sigismember(&seen.mask, SIGTERM));
    assert_true(sigismember(&seen.mask, SIGHUP));
    assert_false(sigismember(&seen.mask, SIGSEGV));
}

static bool linux_at_least(int major, int minor)
{
    struct utsname name;
    char *dot;
    assert_int_equal(uname(&name), 0);
    long has_major = strtol(name.release, &dot, 10);
    assert_int_equal(*dot, '.');
    long has_minor = strtol(dot + 1, NULL, 10);
    return has_major > major || (has_major == major && has_minor >= minor);
}

static bool short_turns_are_to_be_had(void)
{
    return linux_at_least(6, 12) && sched_getscheduler(0) == SCHED_OTHER;
}

static void *be_nice(void *ctx)
{
    struct seen *seen = ctx;
    if (setpriority(PRIO_PROCESS, 0, 7)) /* the calling thread's, on Linux */
        return NULL;
    seen->granted = io_thread_short_turns();
    seen->nice = getpriority(PRIO_PROCESS, 0);
    seen->policy = sched_getscheduler(0);
    return NULL;
}

static void short_turns_are_granted_and_leave_niceness(void **state)
{
    struct seen seen = {.nice = -1};
    run_and_join(be_nice, &seen);
    assert_int_equal(seen.granted, short_turns_are_to_be_had());
    assert_int_equal(seen.nice, 7);
    assert_int_equal(seen.policy, sched_getscheduler(0));
}

static void *be_idle(void *ctx)
{
    struct seen *seen = ctx;
    struct sched_param none = {0};
    if (sched_setscheduler(0, SCHED_IDLE, &none))
        return NULL;
    seen->granted = io_thread_short_turns();
    seen->policy = sched_getscheduler(0);
    return NULL;
}

static void another_policy_stays(void **state)
{
    struct seen seen = {.granted = true, .policy = -1};
    run_and_join(be_idle, &seen);
    assert_false(seen.granted);
    assert_int_equal(seen.policy, SCHED_IDLE);
}

/* In place of the system's: how often a thread gave its turn away. */
static _Thread_local int yields;

int sched_yield(void)
{
    yields++;
    return 0;
}

enum { SLICE_NS = 100000 }; /* what short turns last */

struct turns {
    bool short_turns, granted;
    int after_less, after_one, after_two;
};

static void *take_turns(void *ctx)
{
    struct turns *turns = ctx;
    turns->granted = turns->short_turns && io_thread_short_turns();
    for (int i = 0; i < 9; i++)
        io_thread_worked(SLICE_NS / 10);
    turns->after_less = yields;
    io_thread_worked(SLICE_NS / 10);
    turns->after_one = yields;
    io_thread_worked(SLICE_NS / 2); /* counted from the last yield on */
    io_thread_worked(3 * SLICE_NS);
    turns->after_two = yields;
    return NULL;
}

static void short_turns_end_with_rounds(void **state)
{
    struct turns turns = {.short_turns = true};
    run_and_join(take_turns, &turns);
    assert_int_equal(turns.granted, short_turns_are_to_be_had());
    assert_int_equal(turns.after_less, 0);
    assert_int_equal(turns.after_one, turns.granted ? 1 : 0);
    assert_int_equal(turns.after_two, turns.granted ? 2 : 0);
}

static void other_turns_end_when_the_kernel_says(void **state)
{
    struct turns turns = {.short_turns = false};
    run_and_join(take_turns, &turns);
    assert_int_equal(turns.after_two, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_its_name_and_leaves_signals_to_others),
        cmocka_unit_test(short_turns_are_granted_and_leave_niceness),
        cmocka_unit_test(another_policy_stays),
        cmocka_unit_test(short_turns_end_with_rounds),
        cmocka_unit_test(other_turns_end_when_the_kernel_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
