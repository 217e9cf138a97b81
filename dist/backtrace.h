/* backtrace.h: where this thread stands. Not collective. */
#ifndef DIST_BACKTRACE_H
#define DIST_BACKTRACE_H

void backtrace_load(void); /* once, before a signal handler may print one */
/* A line a frame: function, static ones too, and the address for addr2line -fipe PROGRAM. Allocates
 * nothing, so it may run in a signal handler. */
void backtrace_print(int fd);

#endif
