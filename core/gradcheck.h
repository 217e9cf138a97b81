/* gradcheck.h: every op brings cases on which its gradient is compared with finite differences
 * (tests/core/test_gradcheck.c does it). The builder of an op's cases stands next to its backward
 * function:
 *
 *     static double add_run(Tape *t, const GradCase *c) {
 *         return gradcheck_project(t, op_add(t, c->in[0], c->in[1]));
 *     }
 *     bool op_add_case(GradCase *c, int i) {
 *         if (i > 0) return false;             // there is one case
 *         gradcheck_input(c, 2, (int64_t[]){5, 7}); // gets random data and a gradient
 *         gradcheck_input(c, 2, (int64_t[]){5, 7});
 *         c->run = add_run;
 *         return true;
 *     }
 */
#ifndef CORE_GRADCHECK_H
#define CORE_GRADCHECK_H

#include <stdbool.h>

#include "core/tape.h"

enum { GRAD_MAX_INPUT = 4 };

typedef struct GradCase {
    Arena *arena; /* the checker's; case builders may allocate here */
    Tensor *in[GRAD_MAX_INPUT];
    int nin;
    int variant;       /* for the builder's own use */
    const void *extra; /* likewise */
    const char *what;  /* a word for messages */
    /* Runs the op on the inputs and returns a scalar loss. On a tape that records, it also puts
     * that loss's gradient into the output (gradcheck_project), or the op has done so itself. */
    double (*run)(Tape *t, const struct GradCase *c);
} GradCase;

/* Adds an input with standard normal numbers and a cleared gradient. */
Tensor *gradcheck_input(GradCase *c, int ndim, const int64_t *shape);

/* Loss = sum of y times fixed random weights, a different one for each element. */
double gradcheck_project(Tape *t, Tensor *y);

#endif
