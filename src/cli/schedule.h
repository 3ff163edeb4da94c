/* When the messages of a measured load are due: an open loop, in which message i is due at start + i / rate,
 * whatever became of those before it; those that are sent at once are due with the first of them. A latency
 * counted from that time holds the wait behind a server that stalls, which one counted from the real sending
 * leaves out ("coordinated omission": Gil Tene, "How NOT to Measure Latency").
 *
 * Rate 0 is a closed loop: each message is due when it can be sent. Times are microseconds of the monotonic
 * clock. Pure. */
#ifndef CLYMQ_CLI_SCHEDULE_H
#define CLYMQ_CLI_SCHEDULE_H

#include <stdint.h>

struct schedule {
    int64_t start_us;
    int64_t rate; /* messages a second; 0 = as fast as it goes */
    int64_t each; /* messages sent at once; 0 = 1 */
};

/* When sending i (0, 1 …) is due; now_us at rate 0. */
int64_t schedule_due_us(const struct schedule *schedule, uint64_t i, int64_t now_us);
/* How many sendings are due up to and at now_us; UINT64_MAX at rate 0. */
uint64_t schedule_due_count(const struct schedule *schedule, int64_t now_us);

#endif
