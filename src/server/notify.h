/* Telling the service manager how this process does: systemd's notification protocol (sd_notify(3)), a
 * datagram to the socket that it names in NOTIFY_SOCKET. */
#ifndef CLYMQ_SERVER_NOTIFY_H
#define CLYMQ_SERVER_NOTIFY_H

/* Sends "READY=1", "STOPPING=1" … Without a manager, and where it cannot be reached, nothing happens: a queue
 * that serves must not fail for that. */
void notify_manager(const char *state);

#endif
