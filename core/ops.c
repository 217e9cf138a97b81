/* ops.c: the table of all ops. */
#include "core/ops.h"

const OpInfo core_ops[] = {
#define X(name) {"op_" #name, op_##name##_case},
    OP_LIST(X)
#undef X
};
const int core_nops = sizeof core_ops / sizeof core_ops[0];
