/* CRC-32C (Castagnoli), as Kafka's record batch v2 uses it: initial value and final xor 0xffffffff. ISA-L
 * where the processor has it, a portable table otherwise; both give the same numbers. Thread-safe. */
#ifndef CLYMQ_BASE_CRC32C_H
#define CLYMQ_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* crc32c of data; crc = 0 to begin, or the result so far to go on. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
/* The portable form, for comparison in tests. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
