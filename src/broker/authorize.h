/* The one gate that every request passes: may this principal do this to this topic? Today it lets everybody
 * do everything; access rules come with TLS and SASL. Pure; any shard's thread. */
#ifndef CLYMQ_BROKER_AUTHORIZE_H
#define CLYMQ_BROKER_AUTHORIZE_H

#include "base/buf.h"
#include "net/principal.h"

enum action { ACTION_PUSH, ACTION_PULL, ACTION_DESCRIBE, ACTION_CREATE, ACTION_ALTER, ACTION_DELETE };

/* topic is empty for what concerns the whole cluster. 0 or CLYMQ_EDENIED. */
int authorize(const struct principal *principal, enum action action, struct bytes topic);

#endif
