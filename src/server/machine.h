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
/* Raises the limit of open descriptors as far as allowed, and makes room for as many (65,536 at most) in the
 * kernel's table of them; the limit now. Before there are threads. */
uint64_t machine_raise_descriptors(void);

#endif
