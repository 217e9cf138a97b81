/* exchange.c: sums over the ranks that move on while the caller computes. See exchange.h.
 *
 * A vector goes through in rounds: a piece of every rank's share at a time, so that the scratch
 * memory is bounded. A round has two phases of non-blocking messages: (1) everybody sends to each
 * owner its part of the owner's piece, and the owner adds the parts in the order of the tree; (2)
 * where all shall have the sum, the owner sends it to everybody. A few rounds are under way at a
 * time. Rounds begin, are added and end in their order, on every rank, so between two ranks the
 * messages of one exchange and phase arrive in the order in which they are expected: a tag an
 * exchange and phase is all that distinguishes them. */
#include "dist/exchange.h"

#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "dist/comm_impl.h"

/* Calls that do not wait. */
#define MPI_NOW(call) comm_check_mpi((call), #call)

enum { UNDER_WAY = 4 }; /* rounds at a time */
enum { TAG_PARTS, TAG_SUMS, TAG_ROUNDS, TAGS, TAG_LIMIT = 32767 /* MPI promises this much */ };

static const int64_t scratch_aim = (int64_t)4 << 20, message_least = 16 << 10; /* bytes */

typedef struct ExchangeJob {
    char *buf, *into;
    int64_t n;
    int where; /* EXCHANGE_*, or GATHER */
} ExchangeJob;
enum { GATHER = -1 };

/* Piece [at, at + piece) of every rank's share of a job. */
typedef struct Round {
    ExchangeJob job;
    int64_t at;
    bool last; /* of its job */
    char *scratch;
    MPI_Request *request; /* [2 (size - 1)] of the phase it is in */
    int nrequest;
} Round;

struct Exchange {
    Comm *c;
    Exchange *next;
    size_t element;
    int64_t piece; /* elements */
    int tag;
    ExchangeJob
        *job; /* [njob] queued; [first] is the next of which rounds begin, at `at` of the shares */
    int njob, cap, first;
    int64_t at;
    int64_t queued, done; /* jobs, ever */
    Round round[UNDER_WAY];
    int64_t begun, added, ended; /* rounds, ever */
    char **part;                 /* [size] scratch of comm_fold_tree */
    char *zeros;                 /* [piece] when they are first needed */
    double waited;
    int64_t *said; /* [size] rounds announced; negative: -1 - rounds, and there are no more */
    bool over;     /* so are ours */
};

void exchange_share(int64_t n, int rank, int size, int64_t *begin, int64_t *end) {
    comm_share((n + EXCHANGE_BLOCK - 1) / EXCHANGE_BLOCK, rank, size, begin, end);
    *begin *= EXCHANGE_BLOCK;
    *end *= EXCHANGE_BLOCK;
    if (*begin > n) *begin = n;
    if (*end > n) *end = n;
}

/* Elements of a message: a multiple of a cache line. */
static int64_t piece_elements(int ranks, size_t element) {
    int64_t bytes = scratch_aim / ranks;
    if (bytes < message_least) bytes = message_least;
    return bytes / 64 * 64 / (int64_t)element;
}

size_t exchange_bytes(int ranks, size_t element) {
    if (ranks == 1) return 0;
    return (size_t)UNDER_WAY * (size_t)ranks * (size_t)piece_elements(ranks, element) * element;
}

void exchange_open(Exchange **out, Comm *c, size_t element) {
    Exchange *x = xcalloc(1, sizeof *x);
    x->c = c;
    x->element = element;
    x->piece = piece_elements(c->size, element);
    x->tag = c->nexchange++ * TAGS % (TAG_LIMIT - TAGS);
    x->part = xcalloc((size_t)c->size, sizeof *x->part);
    x->said = xcalloc((size_t)c->size, sizeof *x->said);
    if (c->mpi)
        for (int i = 0; i < UNDER_WAY; i++) {
            x->round[i].scratch = xmalloc((size_t)(c->size * x->piece) * element);
            x->round[i].request = xcalloc((size_t)(2 * c->size), sizeof(MPI_Request));
        }
    x->next = c->exchanges;
    c->exchanges = x;
    *out = x;
}

void exchange_close(Exchange **exchange) {
    Exchange *x = *exchange;
    if (!x) return;
    Exchange **link = &x->c->exchanges;
    while (*link != x) link = &(*link)->next;
    *link = x->next;
    for (int i = 0; i < UNDER_WAY; i++) {
        /* A run that ends early leaves messages, and MPI may still write there: to the end. */
        if (x->begun > x->ended) break;
        free(x->round[i].scratch);
        free(x->round[i].request);
    }
    free(x->job);
    free(x->part);
    free(x->said);
    free(x->zeros);
    free(x);
    *exchange = NULL;
}

double exchange_waited(const Exchange *x) { return x->waited; }

/* --- rounds ----------------------------------------------------------------------------------- */

/* Elements of rank r's piece of a round; *begin: where it lies in the vector. */
static int64_t piece_of(const Exchange *x, const Round *r, int rank, int64_t *begin) {
    int64_t end;
    exchange_share(r->job.n, rank, x->c->size, begin, &end);
    *begin += r->at;
    int64_t n = end - *begin;
    return n < 0 ? 0 : n < x->piece ? n : x->piece;
}

static void post(Exchange *x, Round *r, bool send, char *buf, int64_t n, int rank, int phase) {
    if (n == 0) return;
    MPI_Datatype type = x->element == 4 ? MPI_FLOAT : MPI_DOUBLE;
    MPI_Request *q = &r->request[r->nrequest++];
    if (send)
        MPI_NOW(MPI_Isend(buf, (int)n, type, rank, x->tag + phase, MPI_COMM_WORLD, q));
    else
        MPI_NOW(MPI_Irecv(buf, (int)n, type, rank, x->tag + phase, MPI_COMM_WORLD, q));
}

/* Where the part of `rank` lies in the scratch. */
static char *part_of(const Exchange *x, const Round *r, int rank) {
    return r->scratch + (size_t)(rank * x->piece) * x->element;
}

static void begin_parts(Exchange *x, Round *r) {
    const int me = x->c->rank, size = x->c->size;
    int64_t begin;
    r->nrequest = 0;
    if (r->job.where == GATHER) return;
    const int64_t mine = piece_of(x, r, me, &begin);
    for (int k = 1; k < size; k++) {
        const int from = (me + size - k) % size;
        post(x, r, false, part_of(x, r, from), mine, from, TAG_PARTS);
    }
    for (int k = 1; k < size; k++) {
        const int to = (me + k) % size;
        const int64_t n = piece_of(x, r, to, &begin);
        char *from = r->job.buf ? r->job.buf + (size_t)begin * x->element : x->zeros;
        post(x, r, true, from, n, to, TAG_PARTS);
    }
}

/* The parts have come: adds them, and hands the sum on. */
static void begin_sums(Exchange *x, Round *r) {
    const int me = x->c->rank, size = x->c->size;
    const CommKind kind = x->element == 4 ? KIND_F32 : KIND_F64;
    int64_t begin, at;
    const int64_t mine = piece_of(x, r, me, &begin);
    char *own = r->job.buf ? r->job.buf + (size_t)begin * x->element : part_of(x, r, me);
    r->nrequest = 0;
    if (!r->job.buf) memset(own, 0, (size_t)mine * x->element);
    if (r->job.where != GATHER && mine > 0) {
        for (int k = 0; k < size; k++) x->part[k] = k == me ? own : part_of(x, r, k);
        comm_fold_tree(kind, x->part, size, mine);
        if (r->job.where == EXCHANGE_ADD) {
            char *to[2] = {r->job.into + (size_t)r->at * x->element, x->part[0]};
            comm_fold_tree(kind, to, 2, mine);
        } else if (x->part[0] != own) {
            memcpy(own, x->part[0], (size_t)mine * x->element);
        }
    }
    if (r->job.where != GATHER && r->job.where != EXCHANGE_ALL) return;
    for (int k = 1; k < size; k++) {
        const int from = (me + size - k) % size;
        const int64_t n = piece_of(x, r, from, &at);
        post(x, r, false, r->job.buf + (size_t)at * x->element, n, from, TAG_SUMS);
    }
    for (int k = 1; k < size; k++) post(x, r, true, own, mine, (me + k) % size, TAG_SUMS);
}

static bool arrived(Round *r) {
    int flag = 1;
    if (r->nrequest > 0) MPI_NOW(MPI_Testall(r->nrequest, r->request, &flag, MPI_STATUSES_IGNORE));
    return flag;
}

/* The next round of what is queued. */
static void begin_round(Exchange *x) {
    Round *r = &x->round[x->begun++ % UNDER_WAY];
    int64_t begin, end;
    r->job = x->job[x->first];
    r->at = x->at;
    x->at += x->piece;
    exchange_share(r->job.n, 0, x->c->size, &begin, &end); /* rank 0 has the largest share */
    r->last = x->at >= end;
    if (r->last) {
        x->at = 0;
        x->first++;
    }
    begin_parts(x, r);
}

/* One step of each kind, if it can be done; whether any was. */
static bool advance(Exchange *x) {
    bool moved = false;
    while (x->first < x->njob && x->begun - x->ended < UNDER_WAY) {
        begin_round(x);
        moved = true;
    }
    if (x->added < x->begun) {
        Round *r = &x->round[x->added % UNDER_WAY];
        if (arrived(r)) {
            begin_sums(x, r);
            x->added++;
            moved = true;
        }
    }
    if (x->ended < x->added) {
        Round *r = &x->round[x->ended % UNDER_WAY];
        if (arrived(r)) {
            x->done += r->last;
            x->ended++;
            moved = true;
        }
    }
    if (x->first == x->njob) x->first = x->njob = 0;
    return moved;
}

void exchange_progress(Exchange *x) {
    while (advance(x)) {
    }
}

void exchange_progress_all(Comm *c) {
    for (Exchange *x = c->exchanges; x; x = x->next) exchange_progress(x);
}

/* --- what is asked for ------------------------------------------------------------------------ */

static int64_t queue(Exchange *x, ExchangeJob job) {
    const int64_t ticket = x->queued++;
    if (comm_alone(x->c)) {
        x->done++;
        return ticket;
    }
    CHECK(job.n > 0 && job.n <= INT_MAX, "a vector of %lld elements, expected 1 to %d",
          (long long)job.n, INT_MAX);
    if (x->njob == x->cap) {
        x->cap = x->cap ? 2 * x->cap : 64;
        x->job = xrealloc(x->job, (size_t)x->cap * sizeof *x->job);
    }
    if (!job.buf && !x->zeros) x->zeros = xcalloc((size_t)x->piece, x->element);
    x->job[x->njob++] = job;
    exchange_progress(x);
    return ticket;
}

int64_t exchange_sum(Exchange *x, void *buf, int64_t n, int where, void *into) {
    return queue(x, (ExchangeJob){.buf = buf, .into = into, .n = n, .where = where});
}

int64_t exchange_gather(Exchange *x, void *buf, int64_t n) {
    return queue(x, (ExchangeJob){.buf = buf, .n = n, .where = GATHER});
}

void exchange_idle(Comm *c) {
    bool moved = false;
    for (Exchange *x = c->exchanges; x; x = x->next) moved |= advance(x);
    if (!moved) sched_yield(); /* another rank may want our core */
}

void exchange_wait(Exchange *x, int64_t ticket) {
    if (x->done > ticket) return;
    const double began = clock_seconds();
    watchdog_mpi = "exchange_wait";
    while (x->done <= ticket) exchange_idle(x->c);
    watchdog_mpi = NULL;
    x->waited += clock_seconds() - began;
}

void exchange_finish(Exchange *x) { exchange_wait(x, x->queued - 1); }

/* --- rounds of unknown number ----------------------------------------------------------------- */

static void tell_all(Exchange *x, const char *word) {
    for (int k = 1; k < x->c->size; k++) {
        MPI_Request q;
        const int to = (x->c->rank + k) % x->c->size;
        MPI_NOW(MPI_Isend(word, 1, MPI_BYTE, to, x->tag + TAG_ROUNDS, MPI_COMM_WORLD, &q));
        MPI_NOW(MPI_Request_free(&q));
    }
}

static const char one_more[1] = {1}, no_more[1] = {0};

void exchange_announce(Exchange *x) {
    if (!comm_alone(x->c)) tell_all(x, one_more);
}

/* Takes in what `rank` has announced. */
static void listen(Exchange *x, int rank) {
    for (int there = 1; x->said[rank] >= 0;) {
        MPI_NOW(MPI_Iprobe(rank, x->tag + TAG_ROUNDS, MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE));
        if (!there) return;
        char word;
        MPI_NOW(MPI_Recv(&word, 1, MPI_BYTE, rank, x->tag + TAG_ROUNDS, MPI_COMM_WORLD,
                         MPI_STATUS_IGNORE));
        x->said[rank] = word ? x->said[rank] + 1 : -1 - x->said[rank];
    }
}

int exchange_others(Exchange *x, int64_t rounds) {
    if (comm_alone(x->c)) return 0;
    if (!x->over) tell_all(x, no_more);
    x->over = true;
    bool unknown = false, more = false;
    for (int r = 0; r < x->c->size; r++) {
        if (r == x->c->rank) continue;
        listen(x, r);
        const bool over = x->said[r] < 0;
        if ((over ? -1 - x->said[r] : x->said[r]) > rounds)
            more = true;
        else if (!over)
            unknown = true;
    }
    if (more || unknown) return more ? 1 : -1;
    memset(x->said, 0, (size_t)x->c->size * sizeof *x->said);
    x->over = false;
    return 0;
}
