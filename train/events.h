/* events.h: TensorBoard's event files: scalars and texts by step. docs/FORMATS.md has the format.
 * Not collective: rank 0 writes. */
#ifndef TRAIN_EVENTS_H
#define TRAIN_EVENTS_H

#include <stddef.h>
#include <stdint.h>

typedef struct Events Events;

/* Opens an event file in the folder `dir`, beside those of earlier parts of the run: to a reader
 * all of them together say of every step what happened to it last, and of the steps after `step`
 * nothing yet. ERR_IO. */
int events_open(Events **out, const char *dir, int64_t step);
void events_close(Events **e);

/* The values of a step, collected until events_flush writes them as one record. A value that is not
 * finite is kept. */
void events_scalar(Events *e, const char *tag, double value);
void events_text(Events *e, const char *tag, const char *text, size_t len); /* shown as it is */
int events_flush(Events *e, int64_t step);                                  /* ERR_IO */

#endif
