/* events.h: TensorBoard's event files: scalars and texts by step. docs/FORMATS.md has the format.
 * Not collective: rank 0 writes. */
#ifndef TRAIN_EVENTS_H
#define TRAIN_EVENTS_H

#include <stddef.h>
#include <stdint.h>

typedef struct Events Events;

/* Opens a new event file in the folder `dir`, which begins with the records of steps <= `step` of
 * the newest one there; older ones are removed. So the files say of every step what happened to it
 * last. A torn end (a kill, a crash of the machine) is left out. ERR_IO. */
int events_open(Events **out, const char *dir, int64_t step);
void events_close(Events **e);

/* The values of a step, collected until events_flush writes them as one record. A value that is not
 * finite is kept. */
void events_scalar(Events *e, const char *tag, double value);
void events_text(Events *e, const char *tag, const char *text, size_t len); /* shown as it is */
int events_flush(Events *e, int64_t step);                                  /* ERR_IO */

#endif
