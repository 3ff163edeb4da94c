/* What the server asks of the machine it runs on: its names, cores and descriptor limit. */
#ifndef CLYMQ_SERVER_MACHINE_H
#define CLYMQ_SERVER_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MACHINE_NAME_CAP = 128 };

/* "<host>-<MAC address without colons>", of the first network interface that has one; "<host>" without. */
void machine_name(char out[MACHINE_NAME_CAP]);
/* The host name alone. */
void machine_host(char out[MACHINE_NAME_CAP]);
/* Processor cores that this process may use, 1–256. */
unsigned machine_cores(void);
/* Raises the limit of open descriptors as far as allowed; the limit now. */
uint64_t machine_raise_descriptors(void);
/* Gives the kernel's table of descriptors room for as many, 8 bytes each. It doubles as it fills, and where
 * there are threads whoever opens the next one then waits for up to 15 ms: call it before there are. */
void machine_expect_descriptors(uint64_t count);

#endif
