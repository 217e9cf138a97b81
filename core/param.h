/* param.h: all parameters of a model in one flat buffer, so that reductions, clipping, the
 * optimizer and checkpoints work on slices. */
#ifndef CORE_PARAM_H
#define CORE_PARAM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/tensor.h"

enum { PARAM_NAME_MAX = 64, PARAM_ALIGN = 16 /* elements: 64 bytes of float */ };

typedef struct Param {
    char name[PARAM_NAME_MAX]; /* also the path in a checkpoint: /params/<name> */
    Tensor tensor;             /* data and grad point into the flat buffers */
    int64_t offset;            /* element offset in the flat buffers, a multiple of PARAM_ALIGN */
    bool decay;                /* weight decay applies (matrices) */
} Param;

typedef struct ParamSet {
    Param *v;
    int n;
    int64_t size;  /* elements of the flat buffers, padding (always zero) included */
    int64_t count; /* parameters, padding not counted */
    real *data;    /* [size] */
    real *grad;    /* [size]; NULL when made without gradients */
} ParamSet;

/* Build in two steps: add every parameter, then paramset_alloc gives them memory, cleared and owned
 * by the set. paramset_add returns the index of the parameter; pointers into `v` are valid after
 * paramset_alloc. */
int paramset_add(ParamSet *ps, const char *name, int ndim, const int64_t *shape, bool decay);
void paramset_alloc(ParamSet *ps, bool with_grad);
void paramset_free(ParamSet *ps);
Tensor *paramset_find(ParamSet *ps, const char *name); /* NULL if there is none */
void paramset_zero_grad(ParamSet *ps);

#endif
