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
    bool halves;               /* paramset_alloc_half keeps it in bfloat16 */
    int matrices;       /* hidden matrices, one above another; 0: embedding, head, norm or bias */
    int64_t first_rows; /* of the first; the others are equally high. 0: all are */
} Param;

/* Parameters that follow each other and whose gradients the backward pass completes together; it
 * goes through the parts from the last to the first. */
typedef struct ParamPart {
    int first; /* parameter; up to the next part's */
    int64_t offset;
    bool throughout; /* written to in the whole backward pass, not only when its turn has come */
} ParamPart;

typedef struct ParamSet {
    Param *v;
    int n;
    ParamPart *part;
    int nparts;
    int64_t size;   /* elements of the flat buffers, padding (always zero) included */
    int64_t count;  /* parameters, padding not counted */
    real *data;     /* [size] */
    real *grad;     /* [size]; NULL when made without gradients, or when they lie elsewhere */
    bool dry;       /* without memory */
    uint16_t *half; /* [half_size] paramset_alloc_half: what `halves`, which size is without */
    int64_t half_size;
} ParamSet;

/* Build in two steps: add every parameter, then paramset_alloc gives them memory, cleared and owned
 * by the set. paramset_add returns the index of the parameter; pointers into `v` are valid after
 * paramset_alloc. */
int paramset_add(ParamSet *ps, const char *name, int ndim, const int64_t *shape, bool decay);
/* The parameters added from now on are a new part. Without a call all are one, throughout. */
void paramset_part(ParamSet *ps, bool throughout);
void paramset_alloc(ParamSet *ps, bool with_grad);
/* The same without memory: data and grad are addresses that nobody may touch, for dry passes. */
void paramset_alloc_dry(ParamSet *ps);
/* Frozen parameters at half the memory, or (dry) with none. Offsets are those in `data`, of what
 * does not halve. */
void paramset_alloc_half(ParamSet *ps, bool dry);
size_t paramset_bytes(const ParamSet *ps);               /* of the weights */
int64_t paramset_part_end(const ParamSet *ps, int part); /* element of the flat buffers */
/* Frees the flat gradient and leaves the tensors without: they are lent memory part by part. */
void paramset_drop_grad(ParamSet *ps);
/* Gives the tensors of a part the gradient memory [end - offset of the part], unset; the padding
 * between them is cleared. NULL: takes it away. */
void paramset_lend_grad(ParamSet *ps, int part, real *grad);
/* Clears those that are still unset. */
void paramset_complete_grad(ParamSet *ps, int part);
void paramset_free(ParamSet *ps);
Tensor *paramset_find(ParamSet *ps, const char *name); /* NULL if there is none */
void paramset_zero_grad(ParamSet *ps);

#endif
