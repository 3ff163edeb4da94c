/* Which kinds of subscription this version has. */
#include "broker/subscription_option.h"

#include <stddef.h>

const char push_mode_refusal[] =
    "push mode is not there yet: it comes with subscriptions; use option 4 (PSB_PULL) and pull";

const char *subscription_option_refusal(int8_t option)
{
    switch (option) {
    case OPTION_PSB_PULL:
        return NULL;
    case OPTION_PTP_PUSH:
        return "option 1 (PTP_PUSH) is not there yet: point-to-point and push mode come with subscriptions; "
               "use option "
               "4 (PSB_PULL)";
    case OPTION_PTP_PULL:
        return "option 2 (PTP_PULL) is not there yet: point-to-point comes with subscriptions; use option 4 "
               "(PSB_PULL)";
    case OPTION_PSB_PUSH:
        return "option 3 (PSB_PUSH) is not there yet: push mode comes with subscriptions; use option 4 "
               "(PSB_PULL)";
    default:
        return "unknown option: use 4 (PSB_PULL)";
    }
}
