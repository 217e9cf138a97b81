/* bench_checkpoint.c: saving and loading a training state, beside what the disk gives.
 *
 * The state is that of AdamW on a GPT: weights, and moments of which each rank holds a part, with
 * values that compress as real ones do. A round writes the bytes of the compressed file plainly
 * (write, fsync), saves without reading back, saves as a run does, and loads; the medians over the
 * rounds are printed. Files lie in a folder of their own and are removed. */
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/option.h"
#include "checkpoints/checkpoint.h"
#include "core/rng.h"
#include "dist/comm.h"
#include "model/gpt.h"
#include "tools/bench/bench.h"

enum { GROUPS = 3 };
enum { PLAIN, UNREAD, SAVE, LOAD, MEASURES };

typedef struct CheckpointLab {
    Comm *comm;
    bool main_rank, raw;
    int64_t layers, width, rounds;
    const char *where;
    char *dir;
    CkptArray *array;
    int n;
    int64_t bytes; /* of all values */
    char *file;    /* rank 0: the bytes of a saved file */
    size_t file_bytes;
} CheckpointLab, Args;

static const Option options[] = {
    {"dir", 'd', "DIR", "measure the disk that this folder lies on (.)", OPT_TEXT(where)},
    {"layers", 'l', "N", "of the model (12: GPT-2 124M, 1.5 GB)", OPT_WHOLE(layers, 1, 1000)},
    {"width", 'w', "N", "of the model, a multiple of 64 (768)", OPT_WHOLE(width, 64, 65536)},
    {"rounds", 'r', "N", "1 to 25 (5)", OPT_WHOLE(rounds, 1, BENCH_ROUNDS)},
    {"raw", 'R', NULL, "without compression", OPT_FLAG(raw)},
    {0}};

/* Weights as they are initialised, first and second moments of noise of their size. */
static void make_state(CheckpointLab *l) {
    static const char *const group[GROUPS] = {"params", "optimizer/m", "optimizer/v"};
    const RngKey key = {.seed = 1, .purpose = RNG_TEST};
    GptConfig cfg = {.layers = (int)l->layers,
                     .heads = (int)(l->width / 64),
                     .width = (int)l->width,
                     .vocab = 50257,
                     .context = 1024,
                     .bias = 1,
                     .norm_eps = 1e-5};
    Gpt *gpt;
    CHECK(gpt_open(&gpt, &cfg, false) >= 0, "%s", error_message());
    gpt_init(gpt, 1, INIT_GPT2);
    const ParamSet *ps = &gpt->params; /* never closed: the process ends */
    l->array = xcalloc((size_t)(GROUPS * ps->n), sizeof *l->array);
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < ps->n; i++) {
            const Param *p = &ps->v[i];
            CkptArray *a = &l->array[l->n++];
            *a = (CkptArray){.name = xasprintf("%s/%s", group[g], p->name),
                             .type = H5_F32,
                             .ndim = p->tensor.ndim,
                             .data = p->tensor.data};
            int64_t n = 1, begin, end;
            for (int d = 0; d < a->ndim; d++) n *= a->shape[d] = p->tensor.shape[d];
            l->bytes += n * (int64_t)sizeof(float);
            if (g == 0) continue;
            comm_share(n, comm_rank(l->comm), comm_size(l->comm), &begin, &end);
            ckpt_set_part(a, begin, end);
            float *x = a->data = xmalloc((size_t)(end - begin) * sizeof *x + 1);
            rng_normal_fill(&key, (uint64_t)l->n, x, end - begin, 1e-4);
            for (int64_t k = 0; g == 2 && k < end - begin; k++) x[k] *= x[k];
        }
}

static int write_plainly(const char *path, const char *data, size_t bytes) {
    enum { BLOCK = 8 << 20 };
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return file_error(path, "create");
    int rc = 0;
    for (size_t at = 0; at < bytes && rc == 0;) {
        const ssize_t n = write(fd, data + at, bytes - at < BLOCK ? bytes - at : BLOCK);
        if (n < 0)
            rc = file_error(path, "write");
        else
            at += (size_t)n;
    }
    if (rc == 0 && fsync(fd) != 0) rc = file_error(path, "fsync");
    close(fd);
    return rc;
}

static int load(CheckpointLab *l, const char *dir) {
    Ckpt *k;
    TRY(ckpt_open_newest(&k, dir, l->comm));
    CHECK(k, "%s: nothing was saved", dir);
    const int rc = ckpt_load(k, l->array, l->n, l->comm);
    ckpt_close(&k);
    return rc;
}

/* Seconds of this process's threads together: what waits for the disk does not count. */
static double cpu_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int measure(CheckpointLab *l, int what, double *seconds, double *cpu) {
    AUTOFREE char *file = file_join(l->dir, "step_00000001.h5"),
                  *json = file_join(l->dir, "step_00000001.json"),
                  *plain = file_join(l->dir, "plain");
    json_auto_t *meta = json_object();
    const CkptContent content = {.stage = "pretrain",
                                 .step = 1,
                                 .arrays = l->array,
                                 .narrays = l->n,
                                 .meta = meta,
                                 .compress = !l->raw,
                                 .skip_verify = what == UNREAD};
    int rc = 0;
    if (what != LOAD && l->main_rank) {
        file_remove(json);
        file_remove(file);
        sync(); /* what earlier measures left to write is theirs */
    }
    comm_agree(l->comm, 0);
    const double began = clock_seconds(), cpu_began = cpu_now();
    if (what == LOAD)
        rc = load(l, l->dir);
    else if (what != PLAIN)
        rc = ckpt_save(l->dir, &content, l->comm);
    else if (l->main_rank)
        rc = write_plainly(plain, l->file, l->file_bytes);
    rc = comm_agree(l->comm, rc);
    *seconds = clock_seconds() - began;
    *cpu = cpu_now() - cpu_began;
    if (rc >= 0 && what == UNREAD && l->main_rank && !l->file)
        rc = file_read(file, &l->file, &l->file_bytes);
    if (l->main_rank) file_remove(plain);
    return comm_agree(l->comm, rc);
}

static void print_results(const CheckpointLab *l, double seconds[MEASURES][BENCH_ROUNDS],
                          double cpu[MEASURES][BENCH_ROUNDS]) {
    static const char *const name[MEASURES] = {"plain write, fsync", "save, not read back", "save",
                                               "load"};
    printf("%d ranks, %d threads each; %.0f MB of values, %.0f MB in the file; medians of %lld\n",
           comm_size(l->comm), omp_get_max_threads(), (double)l->bytes * 1e-6,
           (double)l->file_bytes * 1e-6, (long long)l->rounds);
    printf("%-20s %9s %14s %14s %16s\n", "", "seconds", "MB/s of file", "of plain write",
           "CPU s of rank 0");
    double plain = 0;
    for (int k = 0; k < MEASURES; k++) {
        const double s = bench_median(seconds[k], (int)l->rounds);
        if (k == PLAIN) plain = s;
        printf("%-20s %9.3f %14.0f %14.2f %16.3f\n", name[k], s, (double)l->file_bytes * 1e-6 / s,
               plain / s, bench_median(cpu[k], (int)l->rounds));
    }
}

static int bench(CheckpointLab *l) {
    double seconds[MEASURES][BENCH_ROUNDS], cpu[MEASURES][BENCH_ROUNDS];
    char dir[4096] = "";
    int rc = 0;
    if (l->main_rank) {
        AUTOFREE char *name = file_join(l->where, "rhetor-bench.XXXXXX");
        if (!mkdtemp(name)) rc = file_error(name, "create the folder");
        snprintf(dir, sizeof dir, "%s", name);
    }
    TRY(comm_agree(l->comm, rc));
    comm_bcast(l->comm, dir, sizeof dir, 0);
    l->dir = dir;
    make_state(l);
    TRY_GOTO(done,
             measure(l, UNREAD, seconds[0], cpu[0])); /* gives the bytes for the plain write, too */
    for (int i = 0; i < l->rounds; i++)
        for (int k = 0; k < MEASURES; k++)
            TRY_GOTO(done, measure(l, k, &seconds[k][i], &cpu[k][i]));
    if (l->main_rank) print_results(l, seconds, cpu);
done:
    if (l->main_rank) {
        static const char *const names[] = {"step_00000001.h5", "step_00000001.json"};
        AUTOFREE char *why = xstrdup(error_message());
        for (int i = 0; i < 2; i++) {
            AUTOFREE char *path = file_join(dir, names[i]);
            file_remove(path);
        }
        rmdir(dir);
        if (rc < 0) error_set(rc, "%s", why);
    }
    return rc;
}

int bench_checkpoint(int argc, char **argv) {
    CheckpointLab l = {.layers = 12, .width = 768, .rounds = 5, .where = "."};
    argv[0] = "rhetor-bench checkpoint";
    log_rank(comm_launch_rank());
    option_parse(options, NULL,
                 "Saves and loads a training state, beside writing the same bytes plainly. Under "
                 "mpirun each rank holds a part of the moments.",
                 argc, argv, &l);
    int rc = l.width % 64
                 ? error_set(ERR_USAGE, "--width %" PRId64 ": expected a multiple of 64", l.width)
                 : comm_open(&l.comm, &argc, &argv);
    if (rc >= 0) {
        l.main_rank = comm_rank(l.comm) == 0;
        rc = bench(&l);
        comm_close(&l.comm);
    }
    return option_end(rc);
}
