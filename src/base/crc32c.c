/* CRC-32C: ISA-L's vector code where the library is there (it picks the instructions at run time), eight
 * table look-ups for eight bytes otherwise. */
#include "base/crc32c.h"

#include <pthread.h>

#if __has_include(<isa-l/crc.h>) && !defined(CLYMQ_NO_ISAL)
#include <isa-l/crc.h>
#define HAVE_ISAL 1
#else
#define HAVE_ISAL 0
#endif

/* The polynomial 0x1edc6f41 with its bits reversed, as the reflected algorithm needs it (RFC 3720,
 * section 12.1). */
#define POLYNOMIAL 0x82f63b78u

static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void tables_fill(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        tables[0][byte] = crc;
    }
    /* tables[k][b] is b followed by k zero bytes. */
    for (int k = 1; k < 8; k++)
        for (int byte = 0; byte < 256; byte++)
            tables[k][byte] = tables[k - 1][byte] >> 8 ^ tables[0][tables[k - 1][byte] & 0xff];
}

static uint32_t load_le32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&tables_once, tables_fill);
    const uint8_t *at = data;
    crc = ~crc;
    for (; len >= 8; at += 8, len -= 8) {
        uint32_t low = load_le32(at) ^ crc, high = load_le32(at + 4);
        crc = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^
              tables[4][low >> 24] ^ tables[3][high & 0xff] ^ tables[2][high >> 8 & 0xff] ^
              tables[1][high >> 16 & 0xff] ^ tables[0][high >> 24];
    }
    for (; len > 0; at++, len--)
        crc = crc >> 8 ^ tables[0][(crc ^ *at) & 0xff];
    return ~crc;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
#if HAVE_ISAL
    /* ISA-L takes an int for the length and a pointer it does not write through. */
    const size_t most = (size_t)1 << 30;
    uint8_t *at = (uint8_t *)(uintptr_t)data;
    crc = ~crc;
    while (len > 0) {
        size_t part = len < most ? len : most;
        crc = crc32_iscsi(at, (int)part, crc);
        at += part;
        len -= part;
    }
    return ~crc;
#else
    return crc32c_portable(crc, data, len);
#endif
}
