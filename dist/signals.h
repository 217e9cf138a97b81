/* signals.h: requests to save and stop, agreed by all ranks. */
#ifndef DIST_SIGNALS_H
#define DIST_SIGNALS_H

#include "dist/comm.h"

enum { STOP_NONE, STOP_SAVE_GO_ON, STOP_SAVE_AND_LEAVE };

/* Catches SIGTERM, SIGUSR1, SIGHUP (unless nohup has it ignored) and SIGINT, which is answered on
 * stderr (the second SIGINT ends at once); ignores SIGPIPE. Not collective. */
void signals_install(void);
/* Called within the second SIGINT, with what is lost: nothing that takes memory. Not collective. */
void signals_on_leave(void (*fn)(const char *lost));
/* What a second SIGINT would lose is what came after this step. Not collective. */
void signals_saved(int64_t step);

/* What to do at this step boundary: a signal on any rank, a file STOP or SAVE in run_dir (looked at
 * by rank 0, removed when honoured), or `deadline` seconds since start (0: none). The answer is the
 * same on all ranks. Collective. *why: a static text for the log, e.g. "SIGTERM". */
int signals_poll(Comm *c, const char *run_dir, double deadline, const char **why);

#endif
