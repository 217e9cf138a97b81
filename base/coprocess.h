/* coprocess.h: a program that stays: it reads lines and answers each with a line. Where it dies,
 * says too little or is late it is started again and asked once more. Not collective. */
#ifndef BASE_COPROCESS_H
#define BASE_COPROCESS_H

#include <stddef.h>
#include <stdint.h>

typedef struct Coprocess Coprocess;

/* `command` is the shell's; it is started at the first question. seconds: what an answer may
 * take. */
Coprocess *coprocess_new(const char *command, double seconds);
void coprocess_close(Coprocess **c); /* ends it; accepts NULL, nulls the pointer */

/* Sends text (lines) and reads as many numbers, one a line, to v[n]. ERR_IO after three starts that
 * gave no answer; ERR_DATA for a line that is no number. */
int coprocess_ask(Coprocess *c, const char *text, size_t len, int64_t n, double *v);
int64_t coprocess_restarts(const Coprocess *c);

#endif
