/* comm.c: the ranks of a job: start and end, agreement, ordered sums. The only caller of MPI.
 *
 * MPI_Allreduce may add in any order, and does so differently when ranks are placed differently, so
 * a resumed run would not repeat its bits. Here a large vector is cut into one slice a rank; slice
 * s of every rank goes to rank s (MPI_Alltoallv), which adds them in a fixed order, and the sums
 * are gathered (MPI_Allgatherv): the volume of a ring all-reduce. (Gradients go by exchange.c.) Short vectors are gathered whole
 * and added by every rank, in the same order.
 *
 * The order is a balanced binary tree over the ranks, ((r0 + r1) + (r2 + r3)) + ..., cut at the
 * largest power of two below their number. A tree, because a rank that stands for several leaves
 * adds its own in the same way, and the whole is then one tree whatever the number of ranks.
 *
 * Vectors go through in rounds of at most ROUND_BYTES, which keeps MPI's int counts and the scratch
 * memory bounded; elements are independent, so rounds do not change a bit. */
#include "dist/comm.h"

#include "base/error.h"
#include "base/log.h"
#include "dist/comm_impl.h"
#include "dist/watchdog.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define ROUND_BYTES ((int64_t)64 << 20)
enum {
    SHORT_VECTOR = 4096, /* elements up to which everybody adds everything, */
    SHORT_SUM = 1 << 18, /* of all ranks together */
    PIECE = 4096,        /* elements added at a time, of all ranks */
    FILES_BESIDE = 128   /* open files of a rank beside its messages */
};

void comm_check_mpi(int rc, const char *call) {
    if (rc == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int len = 0;
    MPI_Error_string(rc, text, &len);
    log_warn("%s failed: %s; see the messages of mpirun or the batch system above", call, text);
    error_end(70);
}

static void *scratch(Comm *c, size_t bytes) {
    if (bytes > c->scratch_bytes) {
        free(c->scratch);
        c->scratch = xmalloc(bytes);
        c->scratch_bytes = bytes;
    }
    return c->scratch;
}

/* --- start and end ---------------------------------------------------------------------------- */

void comm_abort(int status) {
    int started = 0;
    MPI_Initialized(&started);
    if (started) MPI_Abort(MPI_COMM_WORLD, status);
    _exit(status);
}

/* The first of these variables that is set; NULL: none is. */
static const char *first_set(const char *const *names) {
    while (*names && !getenv(*names)) names++;
    return *names ? getenv(*names) : NULL;
}

static bool launched(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE",
                                        NULL};
    return first_set(names) != NULL;
}

int comm_launch_rank(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "SLURM_PROCID", NULL};
    const char *rank = first_set(names);
    return rank ? atoi(rank) : 0;
}

int comm_launch_size(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS",
                                        NULL};
    const char *size = first_set(names);
    return size && atoi(size) > 0 ? atoi(size) : 1;
}

static Comm *new_comm(int size) {
    Comm *c = xcalloc(1, sizeof *c);
    c->size = c->groups = size;
    c->group = 1;
    size_t n = (size_t)size;
    c->send_n = xcalloc(4 * n, sizeof(int));
    c->send_at = c->send_n + n;
    c->recv_n = c->send_at + n;
    c->recv_at = c->recv_n + n;
    c->part = xcalloc(n, sizeof *c->part);
    return c;
}

/* The largest groups of ranks that follow each other on one node, of equal size everywhere.
 * RHETOR_GROUP=N: of N ranks at most (1: as if every rank had a node of its own). */
static void find_groups(Comm *c) {
    const char *most = getenv("RHETOR_GROUP");
    int limit = most && atoi(most) > 0 ? atoi(most) : COMM_GROUP_MAX, first = c->rank;
    MPI_Comm node;
    MPI_TRY(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
    MPI_TRY(MPI_Bcast(&first, 1, MPI_INT, 0, node));
    MPI_TRY(MPI_Comm_free(&node));
    const int mine[2] = {first, limit < COMM_GROUP_MAX ? limit : COMM_GROUP_MAX};
    AUTOFREE int *all = xcalloc(2 * (size_t)c->size, sizeof *all);
    MPI_TRY(MPI_Allgather(mine, 2, MPI_INT, all, 2, MPI_INT, MPI_COMM_WORLD));
    for (int r = 0; r < c->size; r++) limit = all[2 * r + 1] < limit ? all[2 * r + 1] : limit;
    for (int n = 2; n <= limit && c->size % n == 0; n *= 2) {
        for (int r = 0; r < c->size; r++)
            if (all[2 * r] != all[2 * (r / n * n)]) return;
        c->group = n;
        c->groups = c->size / n;
    }
}

int comm_open_alone(Comm **out) { return comm_open_planned(out, 1); }

int comm_open_planned(Comm **out, int size) {
    *out = new_comm(size);
    (*out)->rank = size - 1;
    return 0;
}

/* A socket for each other rank and some for files: what is allowed is raised before MPI fails over
 * it in the middle of a run. */
static int make_room_for_sockets(int size) {
    const rlim_t need = (rlim_t)size + FILES_BESIDE;
    struct rlimit now;
    if (getrlimit(RLIMIT_NOFILE, &now) != 0 || now.rlim_cur >= need) return 0;
    const rlim_t had = now.rlim_cur;
    now.rlim_cur = now.rlim_max < need ? now.rlim_max : need;
    if (setrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur >= need) return 0;
    return error_set(ERR_CONFIG,
                     "%d ranks take up to %llu open files each; %llu are allowed (ulimit -n), at "
                     "most %llu (ulimit -Hn); raise LimitNOFILE or /etc/security/limits.conf",
                     size, (unsigned long long)need, (unsigned long long)had,
                     (unsigned long long)now.rlim_max);
}

int comm_open(Comm **out, int *argc, char ***argv) {
    *out = NULL;
    if (launched()) {
        const int expected = comm_launch_size(); /* MPI_Init may set what this reads */
        TRY(make_room_for_sockets(expected));
        int level = MPI_THREAD_SINGLE, rank, size;
        comm_check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level), "MPI_Init_thread");
        error_end_hook = comm_abort; /* the caller has said why */
        MPI_TRY(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
        MPI_TRY(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
        MPI_TRY(MPI_Comm_size(MPI_COMM_WORLD, &size));
        log_rank(rank);
        Comm *c = new_comm(size);
        c->rank = rank;
        c->mpi = true;
        if (level < MPI_THREAD_FUNNELED) {
            comm_close(&c);
            return error_set(ERR_INTERNAL, "this MPI does not support threads "
                                           "(MPI_THREAD_FUNNELED); use Open MPI 4.1");
        }
        if (size == 1 && expected > 1) {
            comm_close(&c);
            return error_set(
                ERR_USAGE,
                "%d ranks were started, but each is alone: the launcher's PMI and this "
                "MPI do not know each other; use srun --mpi=pmix or --mpi=pmi2 (srun "
                "--mpi=list), or the mpirun that belongs to this MPI",
                expected);
        }
        find_groups(c);
        if (c->group > 1)
            MPI_TRY(MPI_Comm_split(MPI_COMM_WORLD, c->rank / c->group, c->rank, &c->members));
        *out = c;
        return 0;
    }
    /* srun without a PMI would start n single runs that overwrite each other. */
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    if (tasks && atoi(tasks) > 1)
        return error_set(ERR_USAGE,
                         "srun started %s tasks that cannot find each other (no PMIx); use srun "
                         "--mpi=pmix, or mpirun inside the job",
                         tasks);
    return comm_open_alone(out);
}

void comm_close(Comm **comm) {
    Comm *c = *comm;
    if (!c) return;
    if (c->mpi) {
        error_end_hook = NULL;
        if (c->group > 1) MPI_Comm_free(&c->members);
        MPI_Finalize();
    }
    free(c->scratch);
    free(c->send_n);
    free(c->part);
    free(c);
    *comm = NULL;
}

int comm_group(const Comm *c) { return c->group; }
const char *comm_library(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING + 1];
    int n;
    MPI_Get_library_version(text, &n);
    text[strcspn(text, ",\n")] = '\0';
    return text;
}
int comm_rank(const Comm *c) { return c->rank; }
int comm_size(const Comm *c) { return c->size; }
bool comm_alone(const Comm *c) { return !c->mpi || c->size == 1; }

void comm_share(int64_t n, int rank, int size, int64_t *begin, int64_t *end) {
    int64_t each = n / size, more = n % size;
    *begin = rank * each + (rank < more ? rank : more);
    *end = *begin + each + (rank < more);
}

/* --- agreement -------------------------------------------------------------------------------- */

int comm_agree(Comm *c, int rc) {
    if (comm_alone(c)) return rc < 0 ? rc : 0;
    int *codes = scratch(c, (size_t)c->size * sizeof *codes);
    MPI_TRY(MPI_Allgather(&rc, 1, MPI_INT, codes, 1, MPI_INT, MPI_COMM_WORLD));
    int failed = 0;
    while (failed < c->size && codes[failed] >= 0) failed++;
    if (failed == c->size) return 0;
    int code = codes[failed];
    char text[4096] = "";
    snprintf(text, sizeof text, "%s", error_message());
    comm_bcast(c, text, sizeof text, failed);
    return failed == 0 ? error_set(code, "%s", text) : error_set(code, "rank %d: %s", failed, text);
}

bool comm_equal_u64(Comm *c, uint64_t v) {
    if (comm_alone(c)) return true;
    uint64_t *all = scratch(c, (size_t)c->size * sizeof *all);
    MPI_TRY(MPI_Allgather(&v, 1, MPI_UINT64_T, all, 1, MPI_UINT64_T, MPI_COMM_WORLD));
    for (int r = 0; r < c->size; r++)
        if (all[r] != v) return false;
    return true;
}

/* --- bytes ------------------------------------------------------------------------------------ */

void comm_bcast(Comm *c, void *buf, size_t bytes, int root) {
    if (comm_alone(c)) return;
    for (size_t at = 0; at < bytes;) {
        size_t n = bytes - at < (size_t)ROUND_BYTES ? bytes - at : (size_t)ROUND_BYTES;
        MPI_TRY(MPI_Bcast((char *)buf + at, (int)n, MPI_BYTE, root, MPI_COMM_WORLD));
        at += n;
    }
}

void comm_allgather_bytes(Comm *c, const void *mine, size_t bytes, char **out, size_t *offsets) {
    uint64_t n = bytes;
    uint64_t *sizes = scratch(c, (size_t)c->size * sizeof *sizes);
    memset(sizes, 0, (size_t)c->size * sizeof *sizes);
    sizes[c->rank] = n;
    if (!comm_alone(c))
        MPI_TRY(MPI_Allgather(&n, 1, MPI_UINT64_T, sizes, 1, MPI_UINT64_T, MPI_COMM_WORLD));
    offsets[0] = 0;
    for (int r = 0; r < c->size; r++) offsets[r + 1] = offsets[r] + sizes[r];
    size_t total = offsets[c->size];
    char *all = xmalloc(total);
    *out = all;
    if (bytes) memcpy(all + offsets[c->rank], mine, bytes);
    if (comm_alone(c)) return;
    if (total <= INT_MAX) {
        for (int r = 0; r < c->size; r++) {
            c->recv_n[r] = (int)(offsets[r + 1] - offsets[r]);
            c->recv_at[r] = (int)offsets[r];
        }
        MPI_TRY(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, c->recv_n, c->recv_at,
                               MPI_BYTE, MPI_COMM_WORLD));
    } else {
        for (int r = 0; r < c->size; r++)
            comm_bcast(c, all + offsets[r], offsets[r + 1] - offsets[r], r);
    }
}

/* --- ordered sums ----------------------------------------------------------------------------- */

static MPI_Datatype mpi_type(CommKind kind) { return kind == KIND_F32 ? MPI_FLOAT : MPI_DOUBLE; }
static size_t element_bytes(CommKind kind) { return kind == KIND_F32 ? 4 : 8; }

/* acc[n] += x[n], or the maximum, in which a NaN wins. */
static void fold(CommKind kind, void *acc, const void *x, int64_t n) {
    switch (kind) {
    case KIND_F32: {
        float *a = acc;
        const float *b = x;
        for (int64_t i = 0; i < n; i++) a[i] += b[i];
        break;
    }
    case KIND_F64: {
        double *a = acc;
        const double *b = x;
        for (int64_t i = 0; i < n; i++) a[i] += b[i];
        break;
    }
    case KIND_MAX_F64: {
        double *a = acc;
        const double *b = x;
        for (int64_t i = 0; i < n; i++)
            if (b[i] > a[i] || isnan(b[i])) a[i] = b[i];
        break;
    }
    }
}

/* Piece by piece, so that a piece of all ranks stays in the cache from the leaves to the root. */
void comm_fold_tree(CommKind kind, char *const *part, int ranks, int64_t n) {
    const size_t element = element_bytes(kind);
#pragma omp parallel for schedule(static) if (n > 65536)
    for (int64_t at = 0; at < n; at += PIECE) {
        const int64_t m = n - at < PIECE ? n - at : PIECE;
        const size_t byte = (size_t)at * element;
        for (int step = 1; step < ranks; step *= 2)
            for (int r = 0; r + step < ranks; r += 2 * step)
                fold(kind, part[r] + byte, part[r + step] + byte, m);
    }
}

/* The parts of n elements lie one after the other. */
static void fold_rows(Comm *c, CommKind kind, char *parts, int64_t n) {
    for (int r = 0; r < c->size; r++) c->part[r] = parts + (size_t)(r * n) * element_bytes(kind);
    comm_fold_tree(kind, c->part, c->size, n);
}

static void reduce_short(Comm *c, CommKind kind, void *buf, int64_t n) {
    size_t bytes = (size_t)n * element_bytes(kind);
    char *all = scratch(c, bytes * (size_t)c->size);
    MPI_TRY(
        MPI_Allgather(buf, (int)n, mpi_type(kind), all, (int)n, mpi_type(kind), MPI_COMM_WORLD));
    fold_rows(c, kind, all, n);
    memcpy(buf, all, bytes);
}

static void reduce_round(Comm *c, CommKind kind, char *buf, int64_t n) {
    size_t element = element_bytes(kind);
    int64_t begin, end;
    comm_share(n, c->rank, c->size, &begin, &end);
    int64_t mine = end - begin;
    for (int r = 0; r < c->size; r++) {
        int64_t b, e;
        comm_share(n, r, c->size, &b, &e);
        c->send_n[r] = (int)(e - b);
        c->send_at[r] = (int)b;
        c->recv_n[r] = (int)mine;
        c->recv_at[r] = (int)(r * mine);
    }
    char *parts = scratch(c, (size_t)(mine * c->size) * element);
    MPI_TRY(MPI_Alltoallv(buf, c->send_n, c->send_at, mpi_type(kind), parts, c->recv_n, c->recv_at,
                          mpi_type(kind), MPI_COMM_WORLD));
    fold_rows(c, kind, parts, mine);
    memcpy(buf + (size_t)begin * element, parts, (size_t)mine * element);
    MPI_TRY(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, buf, c->send_n, c->send_at,
                           mpi_type(kind), MPI_COMM_WORLD));
}

static void reduce(Comm *c, CommKind kind, void *buf, int64_t n) {
    if (comm_alone(c) || n == 0) return;
    if (n <= SHORT_VECTOR && n * c->size <= SHORT_SUM) {
        reduce_short(c, kind, buf, n);
        return;
    }
    int64_t round = ROUND_BYTES / (int64_t)element_bytes(kind);
    for (int64_t at = 0; at < n; at += round)
        reduce_round(c, kind, (char *)buf + (size_t)at * element_bytes(kind),
                     n - at < round ? n - at : round);
}

void comm_sum_f32(Comm *c, float *buf, int64_t n) { reduce(c, KIND_F32, buf, n); }
void comm_sum_f64(Comm *c, double *buf, int64_t n) { reduce(c, KIND_F64, buf, n); }
void comm_max_f64(Comm *c, double *buf, int64_t n) { reduce(c, KIND_MAX_F64, buf, n); }

/* --- bytes between pairs ---------------------------------------------------------------------- */

void comm_exchange_bytes(Comm *c, const void *send, const size_t *send_n, void *recv,
                         const size_t *recv_n) {
    AUTOFREE MPI_Request *request = xcalloc(2 * (size_t)c->size, sizeof *request);
    int n = 0;
    char *to = recv;
    for (int r = 0; r < c->size; to += recv_n[r++]) {
        CHECK(recv_n[r] <= INT_MAX && send_n[r] <= INT_MAX, "%zu and %zu bytes", recv_n[r],
              send_n[r]);
        if (r != c->rank && recv_n[r] > 0)
            MPI_TRY(MPI_Irecv(to, (int)recv_n[r], MPI_BYTE, r, 0, MPI_COMM_WORLD, &request[n++]));
    }
    const char *from = send;
    to = recv;
    for (int r = 0; r < c->size; from += send_n[r], to += recv_n[r++]) {
        if (r != c->rank && send_n[r] > 0)
            MPI_TRY(MPI_Isend(from, (int)send_n[r], MPI_BYTE, r, 0, MPI_COMM_WORLD, &request[n++]));
        if (r != c->rank || send_n[r] == 0) continue;
        CHECK(send_n[r] == recv_n[r], "%zu bytes for myself, %zu expected", send_n[r], recv_n[r]);
        memcpy(to, from, send_n[r]);
    }
    if (n > 0) MPI_TRY(MPI_Waitall(n, request, MPI_STATUSES_IGNORE));
}
