/* The open loop's arithmetic: see schedule.h. Whole seconds and the rest are counted apart, so that nothing
 * is rounded away in a long run and nothing overflows. */
#include "cli/schedule.h"

static uint64_t messages_each(const struct schedule *schedule)
{
    return schedule->each ? (uint64_t)schedule->each : 1;
}

int64_t schedule_due_us(const struct schedule *schedule, uint64_t i, int64_t now_us)
{
    uint64_t rate = (uint64_t)schedule->rate;
    if (rate == 0)
        return now_us;
    i *= messages_each(schedule);
    /* Rounded up: a message is never due before its time, so that due_count at due_us counts it. */
    return schedule->start_us + (int64_t)(i / rate * 1000000 + (i % rate * 1000000 + rate - 1) / rate);
}

uint64_t schedule_due_count(const struct schedule *schedule, int64_t now_us)
{
    uint64_t rate = (uint64_t)schedule->rate;
    if (rate == 0)
        return UINT64_MAX;
    if (now_us < schedule->start_us)
        return 0;
    uint64_t passed_us = (uint64_t)(now_us - schedule->start_us);
    uint64_t last = passed_us / 1000000 * rate + passed_us % 1000000 * rate / 1000000;
    return last / messages_each(schedule) + 1;
}
