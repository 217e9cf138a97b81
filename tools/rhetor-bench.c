/* rhetor-bench: what this machine can do, and how much of it Rhetor gets.
 *
 * On a shared machine the same loop can be twice as fast a second later, so a time alone says
 * little. Every case is therefore measured in turns with its limits: sgemm 2048^3, and reading
 * memory where a case moves much of it. A round's share is
 *
 *     max(FLOPs / rate of sgemm, bytes / rate of reading) / time
 *
 * with the rates measured just before and just after, and the median over the rounds is printed. A
 * case in several parts (a PPO iteration) has its limits measured between them too; its own share
 * is the sum of the parts' shortest possible times over the sum of their times.
 *
 * A case runs in a process of its own, so its peak memory is its own too. The parent must not start
 * OpenMP threads: they do not live on in a child.
 *
 * The cases are in bench/. With --turns another program decides when a round is run, so that it
 * can run its own work in between: tests/peers/ does. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/openmp.h"
#include "base/option.h"
#include "core/blas.h"
#include "core/kernel.h"
#include "tools/bench/bench.h"

enum { NCASE_MAX = 64, MIN_ROUNDS = 3, LIMIT_ROUNDS = 7 };

static const struct {
    const char *name, *unit;
    double (*rate)(void);
} limits[] = {{"FMA peak", "GFLOP/s", bench_fma},
              {"sgemm 2048^3", "GFLOP/s", bench_sgemm},
              {"memory, read", "GB/s", bench_read},
              {"memory, triad", "GB/s", bench_triad}};
enum { NLIMIT = sizeof limits / sizeof *limits };

static int double_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(const double *v, int n) {
    double s[BENCH_ROUNDS];
    memcpy(s, v, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, double_order);
    return n % 2 ? s[n / 2] : (s[n / 2 - 1] + s[n / 2]) / 2;
}

/* --- measuring, in the case's process --------------------------------------------------------- */

/* A part's figures, or those of a whole case. Medians over the rounds. */
typedef struct Figure {
    BenchPart part;
    double seconds, share, limit_rate;
    const char *limit; /* "sgemm" or "read" */
} Figure;

typedef struct Result { /* in memory shared with the parent */
    Figure whole, part[PARTS];
    int parts, rounds;
    double arena, peak;
    double best[NLIMIT][2]; /* of the limits; [0]: 1 thread, [1]: all */
} Result;

/* One round. Limits are seconds for 1 FLOP or byte, before each part and after the last. */
typedef struct BenchRound {
    double seconds[PARTS], shortest[PARTS], sgemm[PARTS + 1], read[PARTS + 1];
} BenchRound;

static int measure_limits(Result *r) {
    int threads = omp_get_max_threads();
    bench_limits_open(true, 3);
    for (int i = 0; i < LIMIT_ROUNDS; i++)
        for (int k = 0; k < NLIMIT; k++)
            for (int all = 0; all < 2; all++) {
                omp_set_num_threads(all ? threads : 1);
                r->best[k][all] = fmax(r->best[k][all], limits[k].rate());
            }
    return 0;
}

/* Which limits matter to the case. */
static bool needs_sgemm(const BenchWork *w) { return w->part[0].flops > 0; }
static bool needs_read(const BenchWork *w) { return w->part[0].bytes > 0; }

static void measure_reference(const BenchWork *w, BenchRound *r, int at) {
    r->sgemm[at] = needs_sgemm(w) ? 1e-9 / bench_sgemm() : 0;
    r->read[at] = needs_read(w) ? 1e-9 / bench_read() : 0;
}

/* The time of a part at the limits beside it. */
static double shortest(const BenchPart *p, const BenchRound *r, int at) {
    return fmax(p->flops * (r->sgemm[at] + r->sgemm[at + 1]),
                p->bytes * (r->read[at] + r->read[at + 1])) /
           2;
}

/* The limits measured after the round before are those before this one. */
static void measure_round(BenchWork *w, int64_t repeat, const BenchRound *before, BenchRound *r) {
    r->sgemm[0] = before->sgemm[w->nparts];
    r->read[0] = before->read[w->nparts];
    for (int k = 0; k < w->nparts; k++) {
        double sum = 0;
        for (int64_t i = 0; i < repeat; i++) sum += w->c->kind->run(w, k);
        r->seconds[k] = sum / (double)repeat;
        measure_reference(w, r, k + 1);
        r->shortest[k] = shortest(&w->part[k], r, k);
    }
}

/* Parts begin .. end-1 over all rounds. */
static Figure figure(const BenchWork *w, const BenchRound *round, int n, int begin, int end) {
    double seconds[BENCH_ROUNDS], share[BENCH_ROUNDS], sgemm[BENCH_ROUNDS], read[BENCH_ROUNDS];
    Figure f = {0};
    for (int k = begin; k < end; k++) {
        f.part.flops += w->part[k].flops;
        f.part.bytes += w->part[k].bytes;
    }
    f.part.tokens = end - begin == w->nparts ? w->tokens : w->part[begin].tokens;
    f.part.name = w->part[begin].name;
    for (int i = 0; i < n; i++) {
        double least = 0;
        seconds[i] = sgemm[i] = read[i] = 0;
        for (int k = begin; k < end; k++) {
            seconds[i] += round[i].seconds[k];
            least += round[i].shortest[k];
            sgemm[i] += (round[i].sgemm[k] + round[i].sgemm[k + 1]) / 2 / (end - begin);
            read[i] += (round[i].read[k] + round[i].read[k + 1]) / 2 / (end - begin);
        }
        share[i] = least / seconds[i];
    }
    const double sgemm_time = bench_median(sgemm, n), read_time = bench_median(read, n);
    const bool memory = f.part.bytes * read_time > f.part.flops * sgemm_time;
    f.seconds = bench_median(seconds, n);
    f.share = bench_median(share, n);
    f.limit_rate = 1e-9 / (memory ? read_time : sgemm_time);
    f.limit = memory ? "read" : "sgemm";
    return f;
}

/* A line of JSON for the program that takes turns with us. */
static void tell_round(const BenchWork *w, const BenchRound *r, double peak) {
    json_t *parts = json_array();
    for (int k = 0; k < w->nparts; k++)
        json_array_append_new(
            parts, json_pack("{s:s, s:f, s:f, s:f}", "name", w->part[k].name ? w->part[k].name : "",
                             "seconds", r->seconds[k], "shortest", r->shortest[k], "tokens",
                             w->part[k].tokens > 0 ? w->part[k].tokens : w->tokens));
    json_auto_t *line = json_pack("{s:o, s:f}", "parts", parts, "peak_bytes", peak);
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
}

/* Waits for the word to go on; false at the end of the input. */
static bool my_turn(void) {
    int c;
    while ((c = getchar()) != EOF)
        if (c == '\n') return true;
    return false;
}

static double run_parts(BenchWork *w) {
    double seconds = 0;
    for (int k = 0; k < w->nparts; k++) seconds += w->c->kind->run(w, k);
    return seconds;
}

static int measure(Result *r, const Case *c, double budget, bool turns) {
    core_init();
    if (!c->kind) return measure_limits(r);
    BenchWork w = {.c = c};
    TRY(c->kind->open(&w));
    double once = run_parts(&w); /* warm: after it nothing is allocated */
    if (once < 1) once = run_parts(&w);
    struct rusage usage; /* before the references take memory */
    getrusage(RUSAGE_SELF, &usage);
    r->peak = (double)usage.ru_maxrss * 1024;
    bench_limits_open(needs_sgemm(&w), needs_read(&w));
    if (needs_sgemm(&w)) bench_sgemm();
    /* Short work is repeated until it takes about as long as sgemm; parts follow one another. */
    const int64_t repeat = once < 0.06 && w.nparts == 1 ? (int64_t)(0.06 / once) + 1 : 1;
    static BenchRound round[BENCH_ROUNDS], first;
    measure_reference(&w, &first, w.nparts);
    const double begin = clock_seconds();
    int n = 0;
    if (turns) printf("{\"ready\":\"%s\"}\n", c->name), fflush(stdout);
    while (n < BENCH_ROUNDS && (turns || n < MIN_ROUNDS || clock_seconds() - begin <= budget)) {
        if (turns) {
            if (!my_turn()) break;
            measure_reference(&w, &first, w.nparts); /* others have been at work */
        }
        measure_round(&w, repeat, n == 0 || turns ? &first : &round[n - 1], &round[n]);
        if (turns) tell_round(&w, &round[n], r->peak);
        n++;
    }
    if (n == 0) return 0; /* nobody wanted a round */
    r->rounds = n;
    r->arena = w.activations ? (double)w.activations->high : 0;
    r->whole = figure(&w, round, n, 0, w.nparts);
    r->parts = w.nparts > 1 ? w.nparts : 0;
    for (int k = 0; k < r->parts; k++) r->part[k] = figure(&w, round, n, k, k + 1);
    return 0;
}

static int run_case(Result *r, const Case *c, double budget, bool turns) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return error_set(ERR_MEMORY, "cannot start a process for %s: %m", c->name);
    if (pid == 0) {
        int rc = measure(r, c, budget, turns);
        if (rc < 0) fprintf(stderr, "rhetor-bench: %s: %s\n", c->name, error_message());
        _exit(error_exit_code(rc)); /* the memory goes with the process */
    }
    int status;
    if (waitpid(pid, &status, 0) < 0) return error_set(ERR_INTERNAL, "%s: waitpid: %m", c->name);
    if (status == 0) return 0;
    return error_set(ERR_INTERNAL, "%s failed: exit status %d, signal %d (9: out of memory?)",
                     c->name, WEXITSTATUS(status), WTERMSIG(status));
}

/* --- the tables ------------------------------------------------------------------------------- */

static void print_limits(const Result *r) {
    printf("%-16s %10s %10s\n", "limit", "1 thread", "all");
    for (int k = 0; k < NLIMIT; k++)
        printf("%-16s %10.1f %10.1f  %s\n", limits[k].name, r->best[k][0], r->best[k][1],
               limits[k].unit);
    printf("\n");
}

/* A number, or a dash where there is none. */
static void print_cell(int width, int digits, double v) {
    if (v > 0)
        printf(" %*.*f", width, digits, v);
    else
        printf(" %*s", width, "-");
}

static void print_figure(const char *name, const Figure *f) {
    printf("%-16s %9.2f", name, f->seconds * 1e3);
    print_cell(8, 1, f->part.flops / f->seconds * 1e-9);
    print_cell(6, 1, f->part.bytes / f->seconds * 1e-9);
    print_cell(9, 0, f->part.tokens / f->seconds);
    printf("  %-5s %6.1f %6.2f", f->limit, f->limit_rate, f->share);
}

static void print_case(const Case *c, const Result *r, bool head) {
    if (head)
        printf("%-16s %9s %8s %6s %9s  %-12s %6s %8s %8s\n", "case", "median ms", "GFLOP/s", "GB/s",
               "tokens/s", "limit beside", "share", "arena MB", "peak MB");
    print_figure(c->name, &r->whole);
    print_cell(8, 1, r->arena * 1e-6);
    print_cell(8, 0, r->peak * 1e-6);
    printf("\n");
    for (int k = 0; k < r->parts; k++) {
        char name[32];
        snprintf(name, sizeof name, "  %s", r->part[k].part.name);
        print_figure(name, &r->part[k]);
        printf("\n");
    }
}

static json_t *figure_json(const char *name, const Figure *f) {
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:s, s:f, s:f}", "name", name, "seconds",
                     f->seconds, "flops", f->part.flops, "bytes", f->part.bytes, "tokens",
                     f->part.tokens, "limit", f->limit, "limit_rate", f->limit_rate, "share",
                     f->share);
}

static json_t *case_json(const Case *c, const Result *r) {
    json_t *j = figure_json(c->name, &r->whole), *parts = json_array();
    for (int k = 0; k < r->parts; k++)
        json_array_append_new(parts, figure_json(r->part[k].part.name, &r->part[k]));
    json_auto_t *more = json_pack("{s:s, s:i, s:f, s:f, s:o}", "what", c->what, "rounds", r->rounds,
                                  "arena_bytes", r->arena, "peak_bytes", r->peak, "parts", parts);
    json_object_update(j, more);
    return j;
}

static json_t *limits_json(const Result *r) {
    json_t *list = json_array();
    for (int k = 0; k < NLIMIT && r->best[k][0] > 0; k++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:[ff]}", "name", limits[k].name, "unit",
                                        limits[k].unit, "best", r->best[k][0], r->best[k][1]));
    return list;
}

/* --- main ------------------------------------------------------------------------------------- */

typedef struct Args {
    bool list, run[NCASE_MAX], named, all, cpu;
    const char *json, *turns;
    double seconds;
} Args;

static int find_case(void *args, const Option *o, char *name) {
    for (int i = 0; i < bench_cases; i++)
        if (bench_case[i].kind && strcmp(bench_case[i].name, name) == 0) {
            ((Args *)args)->turns = name;
            return 0;
        }
    return error_set(ERR_USAGE, "no case \"%s\" to take turns with; --list shows all", name);
}

static int choose(void *args, const Option *o, char *name) {
    Args *a = args;
    bool found = false;
    for (int i = 0; i < bench_cases; i++) {
        size_t n = strlen(name) + bench_case[i].slow; /* slow: up to the terminating zero */
        if (strncmp(bench_case[i].name, name, n) == 0) found = a->run[i] = true;
    }
    a->named = true;
    return found ? 0 : error_set(ERR_USAGE, "no case \"%s\"; --list shows all", name);
}

static const Option options[] = {
    {"all", 'a', NULL, "the slow cases too", OPT_FLAG(all)},
    {"cpu", 'c', NULL, "one thread, whose own time counts instead of the clock's", OPT_FLAG(cpu)},
    {"json", 'j', "FILE", "also write the results as JSON", OPT_TEXT(json)},
    {"list", 'l', NULL, "print the names of the cases and leave", OPT_FLAG(list)},
    {"seconds", 's', "X", "time for each case, at least three rounds (3)",
     OPT_NUMBER(seconds, 0, 3600)},
    {"turns", 't', "NAME",
     "a round of this case for every line read, and a line of JSON for every round; no tables",
     OPT_CALL(find_case)},
    {NULL, 0, "[NAME...]", NULL, OPT_CALL(choose)},
    {0}};

static bool chosen(const Args *a, int i) {
    if (a->turns) return strcmp(bench_case[i].name, a->turns) == 0;
    return a->named ? a->run[i] : a->all || !bench_case[i].slow;
}

static int bench(const Args *a) {
    Result *r = mmap(NULL, NCASE_MAX * sizeof *r, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r == MAP_FAILED) return error_set(ERR_MEMORY, "cannot share memory: %m");
    const char *type = getenv("OPENBLAS_CORETYPE");
    json_t *all = json_array();
    bool head = true;
    int rc = 0;
    kernel_level = kernel_wanted(); /* for the name; core_init would start threads */
    if (!a->turns)
        printf("%s; sgemm: %s\nOPENBLAS_CORETYPE %s\n\n", kernel_text(), blas_name(),
               type ? type : "is not set");
    for (int i = 0; i < bench_cases; i++) {
        if (!chosen(a, i)) continue;
        TRY_GOTO(done, run_case(&r[i], &bench_case[i], a->seconds, a->turns));
        if (a->turns) continue;
        if (!bench_case[i].kind) {
            print_limits(&r[i]);
            continue;
        }
        print_case(&bench_case[i], &r[i], head);
        head = false;
        json_array_append_new(all, case_json(&bench_case[i], &r[i]));
    }
    if (a->json) {
        json_auto_t *j =
            json_pack("{s:s, s:s?, s:o, s:O}", "kernel", kernel_text(), "openblas_coretype", type,
                      "limits", limits_json(&r[0]), "cases", all);
        rc = json_write_file(j, a->json);
    }
done:
    json_decref(all);
    munmap(r, NCASE_MAX * sizeof *r);
    return rc;
}

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    if (argc > 1 && strcmp(argv[1], "checkpoint") == 0) return bench_checkpoint(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "comm") == 0) return bench_comm(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "products") == 0) return bench_products(argc - 1, argv + 1);
    CHECK(bench_cases <= NCASE_MAX, "%d cases, room for %d", bench_cases, NCASE_MAX);
    Args a = {.seconds = 3};
    option_parse(
        options, NULL,
        "Measures this machine's limits and Rhetor's share of them. NAME is a "
        "case or the beginning of several; without one all quick ones run. \"rhetor-bench "
        "checkpoint\" measures saving and loading beside the disk, \"mpirun -n N "
        "rhetor-bench comm\" the exchange between ranks, \"rhetor-bench products\" each product "
        "beside OpenBLAS's; these have a --help of their own.",
        argc, argv, &a);
    if (a.list) {
        for (int i = 0; i < bench_cases; i++)
            printf("%-16s %s%s\n", bench_case[i].name, bench_case[i].what,
                   bench_case[i].slow ? " (only when named in full, or with --all)" : "");
        return 0;
    }
    if (a.cpu) bench_count_cpu();
    return option_end(bench(&a));
}
