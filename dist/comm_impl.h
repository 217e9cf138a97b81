/* comm_impl.h: what comm.c and exchange.c share. Private to dist/. */
#ifndef DIST_COMM_IMPL_H
#define DIST_COMM_IMPL_H

#include "dist/comm.h"
#include "dist/exchange.h"
#include "dist/watchdog.h"

#include <mpi.h>

enum { COMM_GROUP_MAX = 64 };

struct Comm {
    int rank, size;
    bool mpi; /* false: this process is alone, whatever size says */
    void *scratch;
    size_t scratch_bytes;
    int *send_n, *send_at, *recv_n, *recv_at; /* [size] arguments of Alltoallv */
    char **part;                              /* [size] arguments of comm_fold_tree */
    Exchange *exchanges;                      /* open ones, a list */
    int nexchange;                            /* ever opened: their message tags follow */
    /* Ranks that follow each other and share a node's memory: of a group `group`, a power of two
     * that divides size, so a group is a subtree of the sums' tree. 1: each is alone. */
    int group, groups;
    MPI_Comm members; /* of this rank's group, where it is not alone */
};

/* Ends the job when an MPI call failed. */
void comm_check_mpi(int rc, const char *call);
/* A rank that waits inside MPI is not one that hangs: the watchdog distinguishes them. */
#define MPI_TRY(call)                  \
    do {                               \
        watchdog_mpi = #call;          \
        comm_check_mpi((call), #call); \
        watchdog_mpi = NULL;           \
    } while (0)

typedef enum CommKind { KIND_F32, KIND_F64, KIND_MAX_F64 } CommKind;

/* part[r][n] of all ranks -> part[0][n], in the order of the tree; the others are used up. */
void comm_fold_tree(CommKind kind, char *const *part, int ranks, int64_t n);

#endif
