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
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>

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

/* Two threads that always have work, on one processor. */
enum { TURNS = 500, TURN_NS = 100000 };
struct rivals {
    pthread_barrier_t start;
    bool short_turns;
    atomic_int next_id, running; /* who had the last turn */
    atomic_int changes;
};

/* Not by the thread's own clock: reading that makes the kernel look whether the slice is over. */
static void work(void)
{
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begun.tv_sec) * 1000000000 + now.tv_nsec - begun.tv_nsec < TURN_NS);
}

static void *take_turns(void *ctx)
{
    struct rivals *rivals = ctx;
    int id = atomic_fetch_add(&rivals->next_id, 1);
    if (rivals->short_turns)
        (void)io_thread_short_turns();
    pthread_barrier_wait(&rivals->start);
    for (int i = 0; i < TURNS; i++) {
        if (atomic_exchange(&rivals->running, id) != id)
            atomic_fetch_add(&rivals->changes, 1);
        work();
        io_thread_worked(TURN_NS);
    }
    return NULL;
}

/* How often the turn went from one to the other. */
static int compete(bool short_turns)
{
    struct rivals rivals = {.short_turns = short_turns};
    pthread_t threads[2];
    pthread_barrier_init(&rivals.start, NULL, 2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(io_thread_start("rival", take_turns, &rivals, &threads[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&rivals.start);
    return rivals.changes;
}

static void turns_end_with_rounds(void **state)
{
    cpu_set_t allowed, one;
    int cpu = 0;
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    while (!CPU_ISSET(cpu, &allowed))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    int changes = compete(true), without = compete(false);
    assert_int_equal(sched_setaffinity(0, sizeof(allowed), &allowed), 0);
    print_message("turns changed %d times, %d without\n", changes, without);
    assert_true(without > 0);
    if (short_turns_are_to_be_had())
        assert_true(changes > TURNS / 2 && changes > 2 * without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_its_name_and_leaves_signals_to_others),
        cmocka_unit_test(short_turns_are_granted_and_leave_niceness),
        cmocka_unit_test(another_policy_stays),
        cmocka_unit_test(turns_end_with_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
