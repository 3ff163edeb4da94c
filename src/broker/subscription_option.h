/* The subscription kinds of the RPC contract's `option` fields. */
#ifndef CLYMQ_BROKER_SUBSCRIPTION_OPTION_H
#define CLYMQ_BROKER_SUBSCRIPTION_OPTION_H

#include <stdint.h>

enum subscription_option {
    OPTION_PTP_PUSH = 1,
    OPTION_PTP_PULL = 2,
    OPTION_PSB_PUSH = 3,
    OPTION_PSB_PULL = 4
};

/* NULL where the option works today, otherwise the sentence for the client. */
const char *subscription_option_refusal(int8_t option);
/* Why the methods of push mode fail for now. */
extern const char push_mode_refusal[];

#endif
