/* fault.h: failures on demand, in the program that ships, so that what is tested is what runs.
 *
 *     RHETOR_FAULT=point[:rank[:count]]:action
 *
 * `point` is the name handed to fault_point (grep for it); `rank` a number or *
 * (the default: every rank); `count` says at which visit of the point it happens: 3 at the third
 * only, 3+ at the third and every later one (default 1). Actions:
 *     kill     the process ends as by kill -9
 *     hang     it sleeps for ever
 *     enospc   fault_point returns ERR_IO, as if the disk were full
 * Without the variable a point costs one comparison. */
#ifndef DIST_FAULT_H
#define DIST_FAULT_H

/* 0, or the error that was asked for here. Use it with TRY. A malformed RHETOR_FAULT ends the job
 * with 64 at the first point. Not collective. */
int fault_point(const char *point);

#endif
