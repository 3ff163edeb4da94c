/* Allow-all: every handler calls this already, so that access rules need one change here and none there. */
#include "broker/authorize.h"

#include <assert.h>

int authorize(const struct principal *principal, enum action action, struct bytes topic)
{
    assert(principal->name && principal->address);
    (void)action;
    (void)topic;
    return 0;
}
