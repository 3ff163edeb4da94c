/* Which partition a key belongs to: the same as Kafka's Java client chooses, so that clients of both kinds
 * agree. Pure; any thread. */
#ifndef CLYMQ_CLIENT_PARTITIONER_H
#define CLYMQ_CLIENT_PARTITIONER_H

#include <stdint.h>

#include "base/buf.h"

/* murmur2, 32 bits, with the seed 0x9747b28c of Kafka's org.apache.kafka.common.utils.Utils. */
int32_t partitioner_murmur2(struct bytes key);
/* The number of the partition, 0 … count - 1; count > 0. */
uint32_t partitioner_choose(struct bytes key, uint32_t count);

#endif
