/* exchange.c: sums over the ranks that move on while the caller computes. See exchange.h.
 *
 * Two levels. Ranks that share a node's memory form groups (comm_impl.h), and a group is a subtree
 * of the sums' tree: it is added there first, through memory that all its members see, and one sum
 * a group goes between the nodes. No member leads: the owner of a share is member m of group g, and
 * of that share the m-th members of all groups send their groups' sums to it. So a node sends and
 * receives every element once for each of its groups, not for each of its ranks, and all its ranks
 * have the same share of the work.
 *
 * A vector goes through in rounds: a piece of every share at a time, CHUNK bytes in all, so that
 * the scratch memory is bounded whatever the number of ranks. A round goes through five stages: (1)
 * each member lays its pieces into the group's memory; (2) member m adds those of the owners m of
 * all groups, and sends them there; (3) the owner adds the groups' sums; where all shall have the
 * sum, it goes to member m of each group, (4) which lays it into the group's memory, and (5) from
 * there everybody takes it. A rank without a group works in the vector itself, and (1) and (5) are
 * nothing. A few rounds are under way at a time. Every stage takes rounds in their order, on every
 * rank, so between two ranks the messages of one exchange and stage arrive in the order in which
 * they are expected: a tag an exchange and stage is all that distinguishes them. Members tell each
 * other by counters how many rounds have been through a stage. */
#include "dist/exchange.h"

#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "dist/comm_impl.h"

/* Calls that do not wait. */
#define MPI_NOW(call) comm_check_mpi((call), #call)

enum {
    UNDER_WAY = 4,     /* rounds at a time */
    CHUNK = 2 << 20,   /* bytes of a round */
    LINE = 64,         /* of the cache */
    PARALLEL = 1 << 18 /* bytes that are worth waking threads for */
};
enum { TAG_PARTS, TAG_SUMS, TAG_ROUNDS, TAGS, TAG_LIMIT = 32767 /* MPI promises this much */ };
enum { LAID, NODE_ADDED, ADDED, HANDED_OUT, TAKEN, STAGES };

typedef struct ExchangeJob {
    char *buf, *into;
    int64_t n, first;
    int where;     /* EXCHANGE_*, or GATHER */
    int owners;    /* shares that are not empty: those with the lowest index */
    int64_t piece; /* elements of a share in a round */
} ExchangeJob;
enum { GATHER = -1 };

/* Piece [at, at + piece) of every share of a job. */
typedef struct Round {
    ExchangeJob job;
    int64_t at;
    bool last; /* of its job */
    int slot;
    char *parts;          /* [groups][piece] the groups' sums of this rank's piece */
    MPI_Request *request; /* [2 groups] of the stage it is in */
    int nrequest;
} Round;

/* A member's memory that its group sees. */
typedef struct GroupMemory {
    _Alignas(LINE) _Atomic int64_t laid, handed_out, taken; /* rounds */
    _Alignas(4096) char slot[UNDER_WAY][CHUNK]; /* [owners][piece]; of the first member: sums */
} GroupMemory;

struct Exchange {
    Comm *c;
    Exchange *next;
    size_t element;
    int tag;
    ExchangeJob
        *job; /* [njob] queued; [first] is the next of which rounds begin, at `at` of the shares */
    int njob, cap, first;
    int64_t at;
    int64_t queued, done; /* jobs, ever */
    Round round[UNDER_WAY];
    int64_t through[STAGES]; /* rounds, ever */
    MPI_Win window;
    GroupMemory **member; /* [group]; NULL: this rank is alone */
    char *zeros;          /* [CHUNK] when they are first needed */
    double waited;
    int64_t *said; /* [size] rounds announced; negative: -1 - rounds, and there are no more */
    bool over;     /* so are ours */
};

/* --- who owns what ---------------------------------------------------------------------------- */

static int group_of(const Comm *c, int rank) { return rank / c->group; }
static int member_of(const Comm *c, int rank) { return rank % c->group; }
static int place_of(const Comm *c, int rank) {
    return member_of(c, rank) * c->groups + group_of(c, rank);
}
int exchange_place(const Comm *c) { return place_of(c, c->rank); }

/* The i-th share, in units. */
static void share_at(int64_t n, int64_t unit, int i, int size, int64_t *begin, int64_t *end) {
    comm_share((n + unit - 1) / unit, i, size, begin, end);
    *begin *= unit;
    *end *= unit;
    if (*begin > n) *begin = n;
    if (*end > n) *end = n;
}

static int index_of_place(int64_t first, int place, int size) {
    return (int)((place - first % size + size) % size);
}

void exchange_share(int64_t n, int64_t first, int place, int size, int64_t *begin, int64_t *end) {
    share_at(n, EXCHANGE_BLOCK, index_of_place(first, place, size), size, begin, end);
}

/* What everybody gets nobody keeps as a shard: such shares need not be of whole blocks. */
static int64_t unit_of(const Exchange *x, const ExchangeJob *j) {
    return j->where == EXCHANGE_ALL ? LINE / (int64_t)x->element : EXCHANGE_BLOCK;
}

/* Elements of the i-th share's piece of a round; *begin: where it lies in the vector. */
static int64_t piece_of(const Exchange *x, const Round *r, int i, int64_t *begin) {
    int64_t end;
    share_at(r->job.n, unit_of(x, &r->job), i, x->c->size, begin, &end);
    *begin += r->at;
    const int64_t n = end - *begin;
    return n < 0 ? 0 : n < r->job.piece ? n : r->job.piece;
}

static int index_of(const Exchange *x, const Round *r, int rank) {
    return index_of_place(r->job.first, place_of(x->c, rank), x->c->size);
}
static int peer(const Exchange *x, int group) { /* our like there */
    return group * x->c->group + member_of(x->c, x->c->rank);
}

/* --- opening ---------------------------------------------------------------------------------- */

size_t exchange_bytes(int ranks) { return ranks == 1 ? 0 : (size_t)2 * UNDER_WAY * CHUNK; }

/* A window may begin anywhere in a page, but in all processes at the same place of it: mappings are
 * of whole pages. So everybody rounds an address up to the same byte. */
static void open_window(Exchange *x) {
    Comm *c = x->c;
    const size_t align = _Alignof(GroupMemory);
    void *base;
    MPI_TRY(MPI_Win_allocate_shared((MPI_Aint)(sizeof(GroupMemory) + align), 1, MPI_INFO_NULL,
                                    c->members, &base, &x->window));
    x->member = xcalloc((size_t)c->group, sizeof *x->member);
    for (int m = 0; m < c->group; m++) {
        MPI_Aint size;
        int unit;
        MPI_TRY(MPI_Win_shared_query(x->window, m, &size, &unit, &base));
        x->member[m] = (GroupMemory *)(((uintptr_t)base + align - 1) / align * align);
    }
    GroupMemory *mine = x->member[member_of(c, c->rank)];
    atomic_init(&mine->laid, 0);
    atomic_init(&mine->handed_out, 0);
    atomic_init(&mine->taken, 0);
    MPI_TRY(MPI_Barrier(c->members));
}

void exchange_open(Exchange **out, Comm *c, size_t element) {
    Exchange *x = xcalloc(1, sizeof *x);
    x->c = c;
    x->element = element;
    x->tag = c->nexchange++ * TAGS % (TAG_LIMIT - TAGS);
    x->said = xcalloc((size_t)c->size, sizeof *x->said);
    for (int i = 0; i < UNDER_WAY && c->mpi; i++) {
        x->round[i].slot = i;
        x->round[i].parts = xmalloc(CHUNK);
        x->round[i].request = xcalloc((size_t)(2 * c->groups), sizeof(MPI_Request));
    }
    if (c->group > 1) open_window(x);
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
    /* A run that ends early leaves messages, and MPI may still write there: to the end. */
    int busy = x->through[LAID] > x->through[TAKEN];
    if (x->member) {
        MPI_TRY(MPI_Allreduce(MPI_IN_PLACE, &busy, 1, MPI_INT, MPI_MAX, x->c->members));
        if (!busy) MPI_TRY(MPI_Win_free(&x->window));
    }
    for (int i = 0; i < UNDER_WAY && !busy; i++) {
        free(x->round[i].parts);
        free(x->round[i].request);
    }
    free(x->member);
    free(x->job);
    free(x->said);
    free(x->zeros);
    free(x);
    *exchange = NULL;
}

double exchange_waited(const Exchange *x) { return x->waited; }

/* --- rounds ----------------------------------------------------------------------------------- */

static char *slot_of(const Exchange *x, const Round *r, int member, int i) {
    return x->member[member]->slot[r->slot] + (size_t)(i * r->job.piece) * x->element;
}
/* Where the sum of the i-th share's piece lies; *n: elements. */
static char *sum_of(const Exchange *x, const Round *r, int i, int64_t *n) {
    int64_t begin;
    *n = piece_of(x, r, i, &begin);
    if (x->member) return slot_of(x, r, 0, i);
    if (r->job.buf) return r->job.buf + (size_t)begin * x->element;
    const bool mine = i == index_of(x, r, x->c->rank);
    return mine ? r->parts + (size_t)(x->c->rank * r->job.piece) * x->element : x->zeros;
}
static char *part_of(const Exchange *x, const Round *r, int group) {
    return r->parts + (size_t)(group * r->job.piece) * x->element;
}

static void post(Exchange *x, Round *r, bool send, char *buf, int64_t n, int rank, int tag) {
    if (n == 0) return;
    MPI_Datatype type = x->element == 4 ? MPI_FLOAT : MPI_DOUBLE;
    MPI_Request *q = &r->request[r->nrequest++];
    if (send)
        MPI_NOW(MPI_Isend(buf, (int)n, type, rank, x->tag + tag, MPI_COMM_WORLD, q));
    else
        MPI_NOW(MPI_Irecv(buf, (int)n, type, rank, x->tag + tag, MPI_COMM_WORLD, q));
}

static bool arrived(Round *r) {
    int flag = 1;
    if (r->nrequest > 0) MPI_NOW(MPI_Testall(r->nrequest, r->request, &flag, MPI_STATUSES_IGNORE));
    if (flag) r->nrequest = 0;
    return flag;
}

/* All members have had more than `rounds` rounds through what `counter` counts. */
#define MEMBERS_PASSED(x, counter, rounds)                                                        \
    ({                                                                                            \
        bool all_ = true;                                                                         \
        for (int m_ = 0; (x)->member && all_ && m_ < (x)->c->group; m_++)                         \
            all_ =                                                                                \
                atomic_load_explicit(&(x)->member[m_]->counter, memory_order_acquire) > (rounds); \
        all_;                                                                                     \
    })
#define PASSED(x, counter, rounds)                                                        \
    do {                                                                                  \
        if ((x)->member)                                                                  \
            atomic_store_explicit(&(x)->member[member_of((x)->c, (x)->c->rank)]->counter, \
                                  (rounds), memory_order_release);                        \
    } while (0)

/* Of the i-th share between the vector and the group's memory. */
static void copy(const Exchange *x, const Round *r, int member, int i, bool out) {
    int64_t begin;
    const size_t bytes = (size_t)piece_of(x, r, i, &begin) * x->element;
    char *slot = slot_of(x, r, member, i), *buf = r->job.buf;
    if (bytes == 0) return;
    if (buf) buf += (size_t)begin * x->element;
    if (out)
        memcpy(buf, slot, bytes);
    else if (buf)
        memcpy(slot, buf, bytes);
    else
        memset(slot, 0, bytes);
}
static void copy_all(const Exchange *x, const Round *r, int member, bool out) {
    const int n = r->job.owners;
    const bool large = (size_t)(n * r->job.piece) * x->element >= PARALLEL;
#pragma omp parallel for schedule(static) if (large)
    for (int i = 0; i < n; i++) copy(x, r, member, i, out);
}

/* The next round of what is queued. */
static void next_round(Exchange *x, Round *r) {
    int64_t begin, end;
    r->job = x->job[x->first];
    r->at = x->at;
    x->at += r->job.piece;
    share_at(r->job.n, unit_of(x, &r->job), 0, x->c->size, &begin, &end); /* the largest */
    r->last = x->at >= end;
    if (!r->last) return;
    x->at = 0;
    if (++x->first == x->njob) x->first = x->njob = 0;
}

static bool lay(Exchange *x, Round *r, int64_t t) {
    Comm *c = x->c;
    if (!MEMBERS_PASSED(x, taken, t - UNDER_WAY)) return false;
    next_round(x, r);
    const int me = index_of(x, r, c->rank);
    int64_t n;
    char *mine = sum_of(x, r, me, &n);
    if (x->member && r->job.where == GATHER)
        copy(x, r, 0, me, false);
    else if (x->member)
        copy_all(x, r, member_of(c, c->rank), false);
    else if (!r->job.buf)
        memset(mine, 0, (size_t)n * x->element);
    PASSED(x, laid, t + 1);
    for (int k = 1; k < c->groups && r->job.where != GATHER; k++) {
        const int from = (group_of(c, c->rank) + c->groups - k) % c->groups;
        post(x, r, false, part_of(x, r, from), n, peer(x, from), TAG_PARTS);
    }
    return true;
}

static bool add_node(Exchange *x, Round *r, int64_t t) {
    Comm *c = x->c;
    const CommKind kind = x->element == 4 ? KIND_F32 : KIND_F64;
    if (!MEMBERS_PASSED(x, laid, t)) return false;
    if (r->job.where == GATHER) return true;
    const bool large = (size_t)(r->job.owners * r->job.piece) * x->element >= PARALLEL;
#pragma omp parallel for schedule(static) if (large && c->groups > 1)
    for (int g = 0; g < c->groups; g++) {
        char *part[COMM_GROUP_MAX];
        int64_t n;
        const int i = index_of(x, r, peer(x, g));
        sum_of(x, r, i, &n);
        if (!x->member || n == 0) continue;
        for (int m = 0; m < c->group; m++) part[m] = slot_of(x, r, m, i);
        comm_fold_tree(kind, part, c->group, n);
    }
    for (int k = 1; k < c->groups; k++) {
        int64_t n;
        const int to = peer(x, (group_of(c, c->rank) + k) % c->groups);
        char *sum = sum_of(x, r, index_of(x, r, to), &n);
        post(x, r, true, sum, n, to, TAG_PARTS);
    }
    return true;
}

/* The groups' sums have come: adds them, and hands the sum on. */
static bool add(Exchange *x, Round *r, int64_t t) {
    Comm *c = x->c;
    const CommKind kind = x->element == 4 ? KIND_F32 : KIND_F64;
    (void)t;
    if (!arrived(r)) return false;
    int64_t mine;
    char *own = sum_of(x, r, index_of(x, r, c->rank), &mine);
    if (r->job.where != GATHER && mine > 0) {
        for (int g = 0; g < c->groups; g++)
            c->part[g] = g == group_of(c, c->rank) ? own : part_of(x, r, g);
        comm_fold_tree(kind, c->part, c->groups, mine);
        if (r->job.where == EXCHANGE_ADD) {
            char *to[2] = {r->job.into + (size_t)r->at * x->element, c->part[0]};
            comm_fold_tree(kind, to, 2, mine);
        } else if (c->part[0] != own) {
            memcpy(own, c->part[0], (size_t)mine * x->element);
        }
    }
    if (r->job.where != GATHER && r->job.where != EXCHANGE_ALL) return true;
    for (int k = 1; k < c->groups; k++) {
        const int from = peer(x, (group_of(c, c->rank) + c->groups - k) % c->groups);
        int64_t n;
        char *sum = sum_of(x, r, index_of(x, r, from), &n);
        post(x, r, false, sum, n, from, TAG_SUMS);
    }
    for (int k = 1; k < c->groups; k++)
        post(x, r, true, own, mine, peer(x, (group_of(c, c->rank) + k) % c->groups), TAG_SUMS);
    return true;
}

static bool hand_out(Exchange *x, Round *r, int64_t t) {
    if (!arrived(r)) return false;
    PASSED(x, handed_out, t + 1);
    return true;
}

static bool take(Exchange *x, Round *r, int64_t t) {
    const int me = index_of(x, r, x->c->rank);
    if (x->member && (r->job.where == GATHER || r->job.where == EXCHANGE_ALL)) {
        if (!MEMBERS_PASSED(x, handed_out, t)) return false;
        copy_all(x, r, 0, true);
    } else if (x->member && r->job.where == EXCHANGE_OWN) {
        copy(x, r, 0, me, true);
    }
    PASSED(x, taken, t + 1);
    x->done += r->last;
    return true;
}

static bool (*const stages[STAGES])(Exchange *, Round *, int64_t) = {
    [LAID] = lay, [NODE_ADDED] = add_node, [ADDED] = add, [HANDED_OUT] = hand_out, [TAKEN] = take};

/* One step of each stage, if it can be done; whether any was. */
static bool advance(Exchange *x) {
    bool moved = false;
    for (int s = 0; s < STAGES; s++) {
        const int64_t t = x->through[s];
        const bool there = s == LAID ? x->first < x->njob && t - x->through[TAKEN] < UNDER_WAY
                                     : t < x->through[s - 1];
        if (!there || !stages[s](x, &x->round[t % UNDER_WAY], t)) continue;
        x->through[s]++;
        moved = true;
    }
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
    if (!job.buf && !x->zeros) x->zeros = xcalloc(CHUNK, 1);
    const int64_t unit = unit_of(x, &job), blocks = (job.n + unit - 1) / unit;
    job.owners = blocks < x->c->size ? (int)blocks : x->c->size;
    /* A round's pieces fit into a slot, the groups' sums of one piece into `parts`. */
    const int64_t most = job.owners > x->c->groups ? job.owners : x->c->groups;
    const int64_t line = LINE / (int64_t)x->element;
    job.piece = CHUNK / most / LINE * line;
    CHECK(job.piece > 0, "%d ranks, expected at most %d", x->c->size, CHUNK / LINE);
    x->job[x->njob++] = job;
    exchange_progress(x);
    return ticket;
}

int64_t exchange_sum(Exchange *x, void *buf, int64_t n, int64_t first, int where, void *into) {
    return queue(x,
                 (ExchangeJob){.buf = buf, .into = into, .n = n, .first = first, .where = where});
}

int64_t exchange_gather(Exchange *x, void *buf, int64_t n, int64_t first) {
    return queue(x, (ExchangeJob){.buf = buf, .n = n, .first = first, .where = GATHER});
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
