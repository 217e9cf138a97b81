/* submit_script.c: the job scripts. What each directive is for stands in docs/CLUSTER.md. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "pipeline/submit.h"

/* A word of the shell: in single quotes where it needs them. */
static void put_word(Text *t, const char *word) {
    const bool plain = *word && !word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST"
                                                   "UVWXYZ0123456789_-./:=,+@%")];
    if (!plain) text_put(t, "'");
    for (; *word; word++) text_put(t, *word == '\'' && !plain ? "'\\''" : "%c", *word);
    if (!plain) text_put(t, "'");
}

static const char *clock_text(int64_t s, char out[32]) {
    snprintf(out, 32, "%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
    return out;
}

static int64_t minutes(int64_t seconds) { return (seconds + 59) / 60; }

/* --- directives ------------------------------------------------------------------------------- */
typedef struct Shape { /* of a job: a command is one rank that has all cores of a node's ranks */
    int64_t nodes, ranks, threads;
} Shape;

static Shape shape_of(const Task *t) {
    const Config *c = &t->c;
    if (t->stage) return (Shape){c->cluster_nodes, c->cluster_ranks_per_node, c->cluster_threads};
    return (Shape){1, 1, c->cluster_ranks_per_node * c->cluster_threads};
}

static void put_slurm(Text *x, const Task *t, const char *name, const char *output) {
    const Config *c = &t->c;
    const Shape s = shape_of(t);
    char clock[32];
    text_put(x, "#SBATCH --job-name=%s\n", name);
    text_put(x, "#SBATCH --nodes=%" PRId64 "\n", s.nodes);
    text_put(x, "#SBATCH --ntasks-per-node=%" PRId64 "\n", s.ranks);
    text_put(x, "#SBATCH --cpus-per-task=%" PRId64 "\n", s.threads);
    if (t->seconds) text_put(x, "#SBATCH --time=%s\n", clock_text(t->seconds, clock));
    if (*c->cluster_partition) text_put(x, "#SBATCH --partition=%s\n", c->cluster_partition);
    if (*c->cluster_account) text_put(x, "#SBATCH --account=%s\n", c->cluster_account);
    if (t->stage)
        text_put(x, "#SBATCH --signal=%sUSR1@%" PRId64 "\n", t->srun ? "" : "B:", c->cluster_lead);
    text_put(x,
             "#SBATCH --requeue\n#SBATCH --open-mode=append\n#SBATCH --kill-on-invalid-dep=yes\n");
    text_put(x, "#SBATCH --output=%s\n", output);
    for (int i = 0; i < c->cluster_options.n; i++)
        text_put(x, "#SBATCH %s\n", c->cluster_options.v[i]);
}

static void put_pbs(Text *x, const Task *t, const char *name, const char *output) {
    const Config *c = &t->c;
    const Shape s = shape_of(t);
    char clock[32];
    text_put(x, "#PBS -N %s\n", name);
    text_put(x,
             "#PBS -l select=%" PRId64 ":ncpus=%" PRId64 ":mpiprocs=%" PRId64 ":ompthreads=%" PRId64
             "\n",
             s.nodes, s.ranks * s.threads, s.ranks, s.threads);
    text_put(x, "#PBS -l place=scatter\n");
    if (t->seconds) text_put(x, "#PBS -l walltime=%s\n", clock_text(t->seconds, clock));
    if (*c->cluster_partition) text_put(x, "#PBS -q %s\n", c->cluster_partition);
    if (*c->cluster_account) text_put(x, "#PBS -A %s\n", c->cluster_account);
    text_put(x, "#PBS -r y\n#PBS -V\n#PBS -j oe\n#PBS -o %s\n", output);
    for (int i = 0; i < c->cluster_options.n; i++)
        text_put(x, "#PBS %s\n", c->cluster_options.v[i]);
}

static void put_lsf(Text *x, const Task *t, const char *name, const char *output) {
    const Config *c = &t->c;
    const Shape s = shape_of(t);
    text_put(x, "#BSUB -J %s\n", name);
    text_put(x, "#BSUB -n %" PRId64 "\n", s.nodes * s.ranks);
    text_put(x, "#BSUB -R \"span[ptile=%" PRId64 "]\"\n", s.ranks);
    text_put(x, "#BSUB -R \"affinity[core(%" PRId64 ")]\"\n", s.threads);
    if (t->seconds) text_put(x, "#BSUB -W %" PRId64 "\n", minutes(t->seconds));
    if (t->seconds && t->stage)
        text_put(x, "#BSUB -wt %" PRId64 "\n#BSUB -wa USR1\n", minutes(c->cluster_lead));
    if (*c->cluster_partition) text_put(x, "#BSUB -q %s\n", c->cluster_partition);
    if (*c->cluster_account) text_put(x, "#BSUB -P %s\n", c->cluster_account);
    if (t->stage) text_put(x, "#BSUB -Q 75\n");
    text_put(x, "#BSUB -r\n#BSUB -ti\n#BSUB -o %s\n", output);
    for (int i = 0; i < c->cluster_options.n; i++)
        text_put(x, "#BSUB %s\n", c->cluster_options.v[i]);
}

/* --- the command ------------------------------------------------------------------------------ */
static void put_launcher(Text *x, const Plan *p, const Task *t) {
    const Shape s = shape_of(t);
    if (t->srun) {
        text_put(x, "launch='srun --mpi=pmix --cpu-bind=cores --kill-on-bad-exit=1 --wait=60'\n");
        return;
    }
    /* mpirun would pin each rank, with all its threads, to one core. */
    text_put(x,
             "launch=\"mpirun -n %" PRId64 " --map-by ppr:%" PRId64 ":node:PE=%" PRId64
             " --bind-to core -x OMP_NUM_THREADS -x RHETOR_LIFE",
             s.nodes * s.ranks, s.ranks, s.threads);
    if (p->queue == QUEUE_PBS) text_put(x, " --hostfile $PBS_NODEFILE");
    if (p->queue == QUEUE_LSF)
        text_put(x, " --hostfile $LSB_DJOB_HOSTFILE --mca plm_rsh_agent blaunch");
    text_put(x, "\"\n");
}

static void put_command(Text *x, const Plan *p, const Task *t) {
    const Order *o = p->order;
    const Step *first = &p->recipe.step[t->first], *last = &p->recipe.step[t->last];
    text_put(x, "exec ");
    char *program = xasprintf("%s/rhetor-pipeline", getenv("BIN"));
    put_word(x, program);
    free(program);
    text_put(x, " ");
    put_word(x, p->recipe.folder);
    text_put(x, " --run ");
    put_word(x, getenv("RUN"));
    text_put(x, " --seed %s", p->seed);
    if (o->recipe.place.data) text_put(x, " --data ");
    if (o->recipe.place.data) put_word(x, o->recipe.place.data);
    text_put(x, " \\\n    --job %s", first->name);
    if (t->first == t->last)
        text_put(x, " --only %s", first->name);
    else
        text_put(x, " --from %s --until %s", first->name, last->name);
    if (t->stage) text_put(x, " --launch \"$launch\"");
    if (t->stage && p->queue == QUEUE_PBS && t->seconds) /* PBS gives no warning */
        text_put(x, " %s:run.deadline=%" PRId64, first->name, t->seconds - t->c.cluster_lead);
    for (int i = 0; i < o->recipe.nset; i++) {
        text_put(x, i ? " " : " \\\n    ");
        put_word(x, o->recipe.set[i]);
    }
    text_put(x, "\n");
}

static void put_comment(Text *x, const Plan *p, const Task *t) {
    static const char *const back[] = {
        [QUEUE_SLURM] =
            "Slurm's SIGUSR1 comes cluster.lead before the end (and before a preemption, "
            "where the\n# site sends it): the stage saves and leaves with 75, and "
            "rhetor-pipeline has Slurm put this job\n# back (scontrol requeue).",
        [QUEUE_PBS] =
            "run.deadline is cluster.lead before the end: the stage saves and leaves with "
            "75, and\n# rhetor-pipeline has PBS put this job back (qrerun; where that is "
            "not for users, this script is\n# submitted again and the next job told to "
            "wait for it).",
        [QUEUE_LSF] = "LSF's SIGUSR1 comes cluster.lead before the end: the stage saves and leaves "
                      "with 75, with\n# which LSF puts this job back (-Q 75)."};
    const Recipe *r = &p->recipe;
    text_put(x, "# %s, seed %s: step%s", r->folder, p->seed, t->first == t->last ? "" : "s");
    for (int i = t->first; i <= t->last; i++)
        text_put(x, "%s %s", i > t->first ? "," : "", r->step[i].name);
    text_put(x, ". Written by rhetor-submit, each time anew.\n");
    if (t->stage)
        text_put(x, "# %s\n", back[p->queue]);
    else
        text_put(
            x,
            "# Commands begin anew when they are interrupted; one that exceeds its time fails.\n");
}

char *script_path(const Plan *p, int i) {
    return xasprintf("%s/jobs/%s.sh", getenv("RUN"), p->recipe.step[p->task[i].first].name);
}

char *script_text(const Plan *p, int i) {
    static void (*const directives[])(Text *, const Task *, const char *, const char *) = {
        [QUEUE_SLURM] = put_slurm, [QUEUE_PBS] = put_pbs, [QUEUE_LSF] = put_lsf};
    const Task *t = &p->task[i];
    const Shape s = shape_of(t);
    const char *step = p->recipe.step[t->first].name;
    /* PBS: older servers take 15 characters. The names of the run's folders are not ours. */
    char *output = xasprintf("%s/jobs/%s.out", getenv("RUN"), step), *here = realpath(".", NULL);
    char *name = p->queue == QUEUE_PBS ? xasprintf("%.15s", step)
                                       : xasprintf("%s.%s", file_basename(getenv("RUN")), step);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("-_.", *c)) *c = '_';
    Text x = {0};
    text_put(&x, "#!/bin/bash\n");
    put_comment(&x, p, t);
    directives[p->queue](&x, t, name, output);
    text_put(&x, "\n");
    const char *prologue = t->c.cluster_prologue;
    const size_t n = strlen(prologue);
    if (n) text_put(&x, "%s%s\n", prologue, prologue[n - 1] == '\n' ? "" : "\n");
    text_put(&x, "cd ");
    put_word(&x, here ? here : ".");
    text_put(&x, " || exit 74\n");
    text_put(&x, "export OMP_NUM_THREADS=%" PRId64 "\n", s.threads);
    if (t->stage && t->srun) /* since 22.05 srun does not take it from the job */
        text_put(&x, "export SRUN_CPUS_PER_TASK=%" PRId64 "\n", s.threads);
    if (t->stage) put_launcher(&x, p, t);
    put_command(&x, p, t);
    free(name);
    free(output);
    free(here);
    return x.s;
}
