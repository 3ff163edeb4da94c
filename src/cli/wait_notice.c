/* Says what a command waits for, once it has waited a while: nobody should wonder at a silent terminal. The
 * text is made beforehand and written by a signal's handler, since the command itself is blocked in the
 * library. */
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "cli/cli.h"

enum { NOTICE_S = 2 };

static char text[512];
static volatile sig_atomic_t text_len;

static void on_alarm(int number)
{
    size_t len = (size_t)text_len;
    text_len = 0;
    if (len)
        (void)!write(STDERR_FILENO, text, len);
}

static void arm(int seconds)
{
    struct itimerval time = {.it_value.tv_sec = seconds};
    setitimer(ITIMER_REAL, &time, NULL);
}

void cli_waiting(const char *format, ...)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    va_list args;
    cli_waiting_over();
    va_start(args, format);
    int len = snprintf(text, sizeof(text), "clymq: waiting for ");
    len += vsnprintf(text + len, sizeof(text) - (size_t)len, format, args);
    va_end(args);
    if (len > (int)sizeof(text) - 2)
        len = (int)sizeof(text) - 2;
    text[len] = '\n';
    text_len = len + 1;
    sigaction(SIGALRM, &action, NULL);
    arm(NOTICE_S);
}

void cli_waiting_for_outcomes(void)
{
    cli_waiting("messages to be acknowledged (Ctrl-C%s gives up)",
                cli_interrupted() ? " once more" : " twice");
}

void cli_waiting_over(void)
{
    arm(0);
    text_len = 0;
}
