/* comm.h: the ranks of a job. The only caller of MPI. Everything here is Collective (all ranks call
 * it, in the same order) unless it says otherwise. Without mpirun there is one rank. */
#ifndef DIST_COMM_H
#define DIST_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Comm Comm;

/* Starts MPI (thread level FUNNELED), tells base/ our rank and how to end the job (MPI_Abort with
 * the exit status). When no launcher started us (no OMPI_COMM_WORLD_SIZE / PMI / PMIX variable)
 * MPI is not started at all, so a single process starts at once and needs no MPI daemon. */
int comm_open(Comm **out, int *argc, char ***argv);
/* One rank that never starts MPI, whatever launched us: for --dry-run and the tools. Not
 * collective. */
int comm_open_alone(Comm **out);
/* The last of `size` ranks, of which the others do not exist: shares are those of a real job, sums
 * hold this rank's part only. For the plan of a job; none has more virtual ranks. Not
 * collective. */
int comm_open_planned(Comm **out, int size);
void comm_close(Comm **c);
/* Ends all ranks with this status, without a word; also from a signal handler. Not collective. */
void comm_abort(int status) __attribute__((noreturn, cold));
/* Our rank as the launcher's environment has it, before or without MPI; 0 without a launcher. For
 * what one rank shall say before comm_open. Not collective. */
int comm_launch_rank(void);
int comm_launch_size(void); /* the same for the number of ranks; 1 without a launcher */

/* Not collective. */
int comm_rank(const Comm *c);
int comm_size(const Comm *c);
int comm_group(const Comm *c);  /* ranks that exchange gradients through a node's memory; 1: none */
const char *comm_library(void); /* "Open MPI v4.1.4"; also before comm_open */
bool comm_alone(const Comm *c); /* no other process takes part: one rank, or comm_open_planned */

/* After a step that can fail on some ranks: every rank passes its rc; all return the same: 0 if all
 * were >= 0, else the code of the lowest failing rank, whose message replaces the others'. */
int comm_agree(Comm *c, int rc);

/* Sums in a fixed order, so equal inputs give equal bits on every rank and in every run: a balanced
 * binary tree over the ranks, ((r0 + r1) + (r2 + r3)) + ..., of n ranks cut at the largest power of
 * two below n: an all-reduce in a fixed order. buf[n] holds each rank's part, afterwards the sum.
 * Slices are exchanged (MPI_Alltoallv), added, gathered (MPI_Allgatherv). */
void comm_sum_f32(Comm *c, float *buf, int64_t n);
void comm_sum_f64(Comm *c, double *buf, int64_t n);
void comm_max_f64(Comm *c, double *buf, int64_t n);
void comm_bcast(Comm *c, void *buf, size_t bytes, int root); /* any size */
/* Every rank's bytes, in rank order, on all ranks: *out malloc'd, offsets[size+1] the caller's. */
void comm_allgather_bytes(Comm *c, const void *mine, size_t bytes, char **out, size_t *offsets);
/* Bytes for each rank: send_n[r] of them go to rank r, recv_n[r] come from it, side by side in rank
 * order in `send` and `recv`. Both sides know the counts; only pairs that have something talk. */
void comm_exchange_bytes(Comm *c, const void *send, const size_t *send_n, void *recv,
                         const size_t *recv_n);
/* True on all ranks when the 64-bit values are equal everywhere. */
bool comm_equal_u64(Comm *c, uint64_t v);

/* Share of n items for a rank: contiguous, sizes differ by at most one. Not collective. */
void comm_share(int64_t n, int rank, int size, int64_t *begin, int64_t *end);

/* Cores this process may run on (sched_getaffinity). Not collective. When a rank has fewer of them
 * than threads, when the ranks of one node are bound to the same cores, or when mpirun left most of
 * a node's cores idle, comm_check_binding warns with the mpirun or srun option that mends it
 * (true on rank 0, which speaks). */
int comm_cores(void);
bool comm_check_binding(Comm *c, int threads);

#endif
