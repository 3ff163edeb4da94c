/* Folders of blocks that the metadata does not know. */
#ifndef CLYMQ_BROKER_ORPHANS_H
#define CLYMQ_BROKER_ORPHANS_H

#include "broker/broker.h"

/* Logs them at start; they are never deleted automatically: after a lost metadata file they are all there is.
 * Folders with nothing in them go. Shard 0. */
void orphans_report(struct broker_node *node);

#endif
