/* fault.h: failures on demand, in the program that ships, so that what is tested is what runs.
 *
 *     RHETOR_FAULT=point[:rank[:count]]:action
 *
 * `point` is a phase of dist/watchdog.h (at each entry) or a name handed to a function below (grep
 * for them); `rank` a number or * (the default: every rank); `count` says at which visit of the
 * point it happens: 3 at the third only, 3+ at the third and every later one (default 1). Actions:
 *     kill     the process ends as by kill -9
 *     exit     it leaves with 70, without a word and without MPI_Finalize
 *     hang     it sleeps for ever
 *     term     it gets a SIGTERM, and goes on as that asks; usr1: a SIGUSR1
 *     enospc   fault_point returns ERR_IO, as if the disk were full
 *     eio      the same, as if the disk were broken
 *     nan      a value becomes NaN             (fault_values: "gradient", before the exchange)
 *     flip     the lowest bit of a value flips ("weights", after the update)
 * Without the variable a point costs one comparison. Not collective. */
#ifndef DIST_FAULT_H
#define DIST_FAULT_H

#include <stdint.h>

/* 0, or the error that was asked for here. Use it with TRY. A malformed RHETOR_FAULT, or one whose
 * action cannot happen at its point, ends the job with 64 at the first point. */
int fault_point(const char *point);
/* A point that has v[n] at hand and returns no error: nan and flip change its middle element. */
void fault_values(const char *point, float *v, int64_t n);

#endif
