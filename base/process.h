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
 * it, so that a stage saves before it leaves; a launcher (mpirun, srun) gets SIGUSR1 for the first
 * of them, as it would kill its ranks at once otherwise. When this process is killed, the program
 * gets a SIGTERM. With `log` all output goes to our standard output and is copied there. *status as
 * a shell says it: 127 when it cannot be started, 128 + the signal that killed it. ERR_IO when
 * there is no process to be had.
 *
 * over(ctx), which is asked every few seconds, says that the work is done whatever the program does: one
 * that is still there half a minute later (mpirun, when the way to a node is cut) is ended. NULL:
 * never. */
int process_run(char *const *argv, FILE *log, bool launcher, bool (*over)(const void *ctx),
                const void *ctx, int *status);

/* Runs argv[0] (found in PATH) with standard input from `input` (NULL: none) and collects what it
 * prints, errors included, in *text (malloc'd, without line breaks at its end). *status and errors
 * as process_run has them. */
int process_capture(char *const *argv, const char *input, char **text, int *status);

/* Is there a program of that name in PATH? */
bool process_exists(const char *name);

#endif
