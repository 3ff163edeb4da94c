/* Which kinds of subscription this version has. */
#include "broker/subscription_option.h"

#include <stddef.h>

#include "base/error.h"
#include "net/server.h"

const char push_mode_refusal[] =
    "push mode is not there yet: it comes with subscriptions; use option 4 (PSB_PULL) and pull";

/* NULL where the option works today, otherwise the sentence for the client. */
static const char *refusal(int8_t option)
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

bool subscription_option_refused(struct net_call *call, int8_t option)
{
    const char *sentence = refusal(option);

    if (sentence)
        net_call_fail(call, THRIFT_INTERNAL_ERROR, CLYMQ_EUNSUPPORTED, "%s", sentence);
    return sentence != NULL;
}
