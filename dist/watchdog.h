/* watchdog.h: a job that hangs ends by itself and says where. Neither mpirun nor a batch system
 * notices a hang; the job would burn its time limit.
 *
 * The program says which phase it is in; each entry is a sign of life. A rank without one for the
 * phase's limit prints rank, phase and backtrace and ends the job with 70, also from within MPI.
 * A rank that waits for others inside MPI has WATCHDOG_WAITING, twice the longest limit: the one
 * that hangs may be in another phase, and speaks first; a slow one is not taken for one that hangs.
 *
 * Each phase is also a point of dist/fault.h, visited at every entry. Not collective. */
#ifndef DIST_WATCHDOG_H
#define DIST_WATCHDOG_H

#include "dist/comm.h"

/* name, word, limit in units of dist.hang_seconds: larger where a sign of life may take long:
 * models are loaded, a micro-batch of a large model goes forward and back, files are written */
#define PHASES(X)              \
    X(START, "start", 3)       \
    X(STEP, "step", 1)         \
    X(DATA, "data", 1)         \
    X(FORWARD, "forward", 3)   \
    X(EXCHANGE, "exchange", 1) \
    X(UPDATE, "update", 1)     \
    X(ROLLOUT, "rollout", 3)   \
    X(SCORE, "score", 3)       \
    X(EVAL, "eval", 3)         \
    X(SAVE, "save", 3)

typedef enum Phase {
#define X(name, word, limit) PHASE_##name,
    PHASES(X)
#undef X
} Phase;

enum { WATCHDOG_WAITING = 6 }; /* units of dist.hang_seconds */

/* Watches the calling thread, from the phase START on. seconds 0: nobody watches. `hung` is called,
 * in a signal handler, before the end: it may leave the reason behind, and must be quick. */
int watchdog_open(double seconds, void (*hung)(const char *reason));
void watchdog_close(void);

/* The thread is in this phase now, and alive. Two stores and the fault point. */
void watchdog_enter(Phase phase);
void watchdog_beat(void); /* alive, in the same phase */

/* The MPI call that this thread is in, NULL if none: for comm.c. */
extern const char *volatile watchdog_mpi;

#endif
