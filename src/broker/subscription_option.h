/* The subscription kinds of the RPC contract's `option` fields. */
#ifndef CLYMQ_BROKER_SUBSCRIPTION_OPTION_H
#define CLYMQ_BROKER_SUBSCRIPTION_OPTION_H

#include <stdbool.h>
#include <stdint.h>

enum subscription_option {
    OPTION_PTP_PUSH = 1,
    OPTION_PTP_PULL = 2,
    OPTION_PSB_PUSH = 3,
    OPTION_PSB_PULL = 4
};

struct net_call;

/* Whether the option does not work today: then the call is answered with the reason. */
bool subscription_option_refused(struct net_call *call, int8_t option);
/* Why the methods of push mode fail for now. */
extern const char push_mode_refusal[];

#endif
