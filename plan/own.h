/* own.h: a recipe for one's own data: sizes of tokenizer, model, context and steps by the text
 * and the machine. The work of rhetor-size, which configs/own runs before its first step. */
#ifndef PLAN_OWN_H
#define PLAN_OWN_H

#include <stdbool.h>

/* Reads the folder `data`, measures this machine for a few seconds, prints what it chose, the time
 * that will take and what is too little, and writes an ordinary recipe into the folder `out` (NULL:
 * writes none). RUN must be set. ERR_CONFIG, ERR_DATA: nothing to begin with. */
int own_recipe(const char *data, const char *out, double minutes);

#endif
