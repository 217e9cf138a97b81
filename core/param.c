/* param.c: the flat buffers of a model's parameters. */
#include "core/param.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { LINE = 64 };

static int64_t padded(int64_t n) { return (n + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN; }

void paramset_part(ParamSet *ps, bool throughout) {
    ps->part = xrealloc(ps->part, (size_t)(ps->nparts + 1) * sizeof *ps->part);
    ps->part[ps->nparts++] = (ParamPart){ps->n, ps->size, throughout};
}

int64_t paramset_part_end(const ParamSet *ps, int part) {
    return part + 1 < ps->nparts ? ps->part[part + 1].offset : ps->size;
}

static int part_end_param(const ParamSet *ps, int part) {
    return part + 1 < ps->nparts ? ps->part[part + 1].first : ps->n;
}

int paramset_add(ParamSet *ps, const char *name, int ndim, const int64_t *shape, bool decay) {
    CHECK(!ps->data, "parameter %s is added after paramset_alloc", name);
    CHECK(strlen(name) < PARAM_NAME_MAX, "parameter name %s is longer than %d bytes", name,
          PARAM_NAME_MAX - 1);
    if (ps->nparts == 0) paramset_part(ps, true);
    CHECK(ndim >= 1 && ndim <= TENSOR_MAX_DIM, "parameter %s has %d dimensions", name, ndim);
    if ((ps->n & (ps->n - 1)) == 0) /* full: it doubles */
        ps->v = xrealloc(ps->v, (size_t)(ps->n ? 2 * ps->n : 1) * sizeof *ps->v);
    Param *p = &ps->v[ps->n];
    memset(p, 0, sizeof *p);
    strcpy(p->name, name);
    p->tensor.ndim = ndim;
    for (int d = 0; d < ndim; d++) {
        CHECK(shape[d] > 0, "parameter %s: dimension %d is %lld", name, d, (long long)shape[d]);
        p->tensor.shape[d] = shape[d];
    }
    p->offset = ps->size;
    p->decay = decay;
    int64_t n = tensor_size(&p->tensor);
    ps->count += n;
    ps->size += padded(n);
    return ps->n++;
}

static real *flat(int64_t n) {
    return memset(xaligned(LINE, (size_t)n * sizeof(real)), 0, (size_t)n * sizeof(real));
}

static void place(ParamSet *ps, real *data, real *grad) {
    CHECK(!ps->data, "paramset_alloc called twice");
    ps->data = data;
    ps->grad = grad;
    for (int i = 0; i < ps->n; i++) {
        Param *p = &ps->v[i];
        p->tensor.data = ps->data + p->offset;
        p->tensor.grad = grad ? grad + p->offset : NULL;
    }
}

void paramset_alloc(ParamSet *ps, bool with_grad) {
    for (int i = 0; i < ps->n; i++)
        CHECK(paramset_find(ps, ps->v[i].name) == &ps->v[i].tensor,
              "there are two parameters named %s", ps->v[i].name);
    place(ps, flat(ps->size), with_grad ? flat(ps->size) : NULL);
}

void paramset_alloc_dry(ParamSet *ps) {
    ps->dry = true;
    place(ps, (real *)ARENA_NOWHERE, (real *)ARENA_NOWHERE);
}

void paramset_alloc_half(ParamSet *ps, bool dry) {
    ps->size = 0;
    for (int i = 0; i < ps->n; i++) {
        Param *p = &ps->v[i];
        int64_t *total = p->halves ? &ps->half_size : &ps->size;
        p->offset = *total;
        *total += padded(tensor_size(&p->tensor));
    }
    ps->dry = dry;
    const size_t bytes = (size_t)ps->half_size * sizeof *ps->half;
    ps->half = dry ? (uint16_t *)ARENA_NOWHERE : memset(xaligned(LINE, bytes), 0, bytes);
    place(ps, dry ? (real *)ARENA_NOWHERE : flat(ps->size), NULL);
    for (int i = 0; i < ps->n; i++)
        if (ps->v[i].halves) {
            ps->v[i].tensor.half = ps->half + ps->v[i].offset;
            ps->v[i].tensor.data = NULL;
        }
}

size_t paramset_bytes(const ParamSet *ps) {
    return (size_t)ps->size * sizeof *ps->data + (size_t)ps->half_size * sizeof *ps->half;
}

void paramset_free(ParamSet *ps) {
    free(ps->v);
    free(ps->part);
    if (!ps->dry) {
        free(ps->half);
        free(ps->data);
        free(ps->grad);
    }
    *ps = (ParamSet){0};
}

Tensor *paramset_find(ParamSet *ps, const char *name) {
    for (int i = 0; i < ps->n; i++)
        if (strcmp(ps->v[i].name, name) == 0) return &ps->v[i].tensor;
    return NULL;
}

void paramset_zero_grad(ParamSet *ps) {
    if (ps->grad) memset(ps->grad, 0, (size_t)ps->size * sizeof(real));
}

void paramset_drop_grad(ParamSet *ps) {
    if (!ps->dry) free(ps->grad);
    ps->grad = NULL;
    for (int i = 0; i < ps->n; i++) ps->v[i].tensor.grad = NULL;
}

void paramset_lend_grad(ParamSet *ps, int part, real *grad) {
    const int64_t begin = ps->part[part].offset, end = paramset_part_end(ps, part);
    for (int i = ps->part[part].first; i < part_end_param(ps, part); i++) {
        Param *p = &ps->v[i];
        p->tensor.grad = grad ? grad + (p->offset - begin) : NULL;
        p->tensor.grad_unset = grad != NULL;
        if (!grad) continue;
        const int64_t used = p->offset + tensor_size(&p->tensor);
        const int64_t next = i + 1 < part_end_param(ps, part) ? ps->v[i + 1].offset : end;
        memset(grad + (used - begin), 0, (size_t)(next - used) * sizeof(real));
    }
}

void paramset_complete_grad(ParamSet *ps, int part) {
    for (int i = ps->part[part].first; i < part_end_param(ps, part); i++)
        tensor_grad(&ps->v[i].tensor);
}
