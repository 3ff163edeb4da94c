/* Network addresses as text: "HOST:PORT", "[v6]:PORT", ":PORT". Pure; any thread. */
#ifndef CLYMQ_IO_ADDRESS_H
#define CLYMQ_IO_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

/* The host, without brackets ("" for ":PORT"), and the port. CLYMQ_EINVAL also when host has no room. */
int io_address_split(const char *text, char *host, size_t host_cap, uint16_t *ret_port);

#endif
