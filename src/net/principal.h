/* Who is at the other end of a connection. Today every peer is "anonymous" with its address; TLS and SASL
 * fill in a name. Every request handler gets one and passes it to authorize() (broker/authorize.h). */
#ifndef CLYMQ_NET_PRINCIPAL_H
#define CLYMQ_NET_PRINCIPAL_H

struct principal {
    const char *name;    /* "anonymous" or the authenticated name */
    const char *address; /* "HOST:PORT" of the peer */
};

#endif
