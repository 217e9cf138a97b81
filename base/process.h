/* process.h: a program run to its end. */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stdbool.h>
#include <stdio.h>

/* The folder this program lies in; malloc'd. */
char *process_folder(void);

/* Catches SIGINT, SIGTERM, SIGUSR1 and (without nohup) SIGHUP for process_run; they are held back
 * outside of it. Ignores SIGPIPE. */
void process_signals(void);

/* Runs argv[0] (found in PATH) in a process group of its own. The signals are handed on to
 * it, so that a stage saves before it leaves; mpirun gets SIGUSR1 for the first of them, as it
 * would kill its ranks at once otherwise. When this process is killed, the program gets a SIGTERM.
 * With `log` all output goes to our standard output and is copied there.
 * *status as a shell says it: 127 when it cannot be started, 128 + the signal that killed it.
 * ERR_IO when there is no process to be had. */
int process_run(char *const *argv, FILE *log, bool mpirun, int *status);

#endif
