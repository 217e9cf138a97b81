/* submit_script.c: the job scripts. The lines before the command come from the queue's entry in
 * base/queue.c; what each is for stands in docs/CLUSTER.md. */
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

#define PLAIN "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,+@%"

/* --- words ------------------------------------------------------------------------------------ */
static const char *control_in(const char *text) {
    while (*text && !iscntrl((unsigned char)*text)) text++;
    return *text ? text : NULL;
}

/* A word of bash: in quotes where it needs them; control characters as $'\012', so that no word
 * begins a line of its own. */
void submit_word(Text *t, const char *word) {
    const bool plain = *word && !word[strspn(word, PLAIN)], control = control_in(word);
    if (!plain) text_put(t, control ? "$'" : "'");
    for (; *word; word++) {
        const unsigned char c = (unsigned char)*word;
        if (control && (iscntrl(c) || c == '\'' || c == '\\'))
            text_put(t, "\\%03o", c);
        else
            text_put(t, c == '\'' && !plain ? "'\\''" : "%c", c);
    }
    if (!plain) text_put(t, "'");
}

static const char *check_word(const char *word, bool directive) {
    if (control_in(word)) return "a control character, such as a line break";
    return directive && strpbrk(word, "\"\\$`") ? "one of \" \\ $ `" : NULL;
}

int submit_check_script(const SubmitPlan *p, const Task *t) {
    const Config *c = &t->c;
    const char *wrong, *run = getenv("RUN");
    if ((wrong = check_word(c->cluster_partition, true)))
        return config_bad(c, "cluster.partition", "with %s no directive can name it", wrong);
    if ((wrong = check_word(c->cluster_account, true)))
        return config_bad(c, "cluster.account", "with %s no directive can name it", wrong);
    for (int i = 0; i < c->cluster_options.n; i++)
        if ((wrong = check_word(c->cluster_options.v[i], false)))
            return config_bad(c, "cluster.options", "%s in one of them; expected one option each",
                              wrong);
    if ((wrong = check_word(p->recipe.folder, false)))
        return error_set(ERR_CONFIG, "\"%s\": the recipe's folder has %s in its name; rename it",
                         p->recipe.folder, wrong);
    wrong = check_word(run, true);
    if (!wrong && !p->queue->percent && strchr(run, '%')) wrong = "a %, which is a pattern there";
    if (wrong)
        return error_set(ERR_CONFIG,
                         "\"%s\": with %s in its name the run's folder cannot stand in a script of "
                         "%s; choose another with --run",
                         run, wrong, p->queue->title);
    return 0;
}

/* --- templates -------------------------------------------------------------------------------- */
/* What the names of a template stand for. */
typedef struct Value {
    const char *name;
    char *text; /* malloc'd; NULL: not set, the line is left out */
} Value;
enum { VALUES = 20 };

typedef struct Values {
    Value v[VALUES];
    int n;
} Values;

static void set_text(Values *v, const char *name, char *text) {
    CHECK(v->n < VALUES, "no room for %s", name);
    v->v[v->n++] = (Value){name, text};
}

static void set_number(Values *v, const char *name, int64_t n) {
    set_text(v, name, n > 0 ? xasprintf("%" PRId64, n) : NULL);
}

/* A word of a directive; submit_check_script has seen to it that quotes are enough. */
static void set_word(Values *v, const char *name, const char *word) {
    const bool plain = !word[strspn(word, PLAIN)];
    set_text(v, name, *word ? xasprintf(plain ? "%s" : "\"%s\"", word) : NULL);
}

static const char *value_of(const Values *v, const char *name, size_t n) {
    for (int i = 0; i < v->n; i++)
        if (strlen(v->v[i].name) == n && strncmp(v->v[i].name, name, n) == 0) return v->v[i].text;
    CHECK(false, "a script's template has {%.*s}", (int)n, name);
    return NULL;
}

/* The lines of a template, each after `before`. */
static void put_lines(Text *x, const char *before, const char *template, const Values *v) {
    while (*template) {
        Text line = {0};
        bool whole = true;
        text_put(&line, "%s", before);
        for (; *template != '\n'; template ++) {
            if (*template != '{') {
                text_put(&line, "%c", *template);
                continue;
            }
            const size_t n = strcspn(++template, "}");
            const char *value = value_of(v, template, n);
            if (value) text_put(&line, "%s", value);
            whole = whole && value;
            template += n;
        }
        template ++;
        if (whole) text_put(x, "%s\n", line.s);
        free(line.s);
    }
}

static int64_t minutes(int64_t seconds) { return (seconds + 59) / 60; }

static const char *step_name(const SubmitPlan *p, const Task *t) {
    return p->order && p->order->doctor ? "doctor" : p->recipe.step[t->first].name;
}

/* The name of a job. Those of the run's folders are not ours. */
static char *name_of(const SubmitPlan *p, const Task *t) {
    const char *step = step_name(p, t);
    char *name = p->queue->name_most ? xasprintf("%.*s", p->queue->name_most, step)
                                     : xasprintf("%s.%s", file_basename(getenv("RUN")), step);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("-_.", *c)) *c = '_';
    return name;
}

static char *output_of(const SubmitPlan *p, const Task *t) {
    Text x = {0};
    for (const char *c = getenv("RUN"); *c; c++)
        if (*c == '%')
            text_put(&x, "%s", p->queue->percent);
        else
            text_put(&x, "%c", *c);
    text_put(&x, "/jobs/%s.out", step_name(p, t));
    return x.s;
}

static Values values_of(const SubmitPlan *p, const Task *t) {
    const Config *c = &t->c;
    const int64_t s = t->seconds, cores = c->cluster_ranks_per_node * c->cluster_threads;
    const int64_t nodes = t->stage ? c->cluster_nodes : 1; /* a command: one rank with all cores */
    const int64_t ranks = t->stage ? c->cluster_ranks_per_node : 1;
    Values v = {0};
    AUTOFREE char *output = output_of(p, t);
    set_text(&v, "name", name_of(p, t));
    set_word(&v, "output", output);
    set_number(&v, "nodes", nodes);
    set_number(&v, "ranks", ranks);
    set_number(&v, "tasks", nodes * ranks);
    set_number(&v, "threads", t->stage ? c->cluster_threads : cores);
    set_number(&v, "cores", cores);
    set_number(&v, "minutes", minutes(s));
    set_text(&v, "time",
             s ? xasprintf("%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60))
               : NULL);
    set_number(&v, "lead", t->stage ? c->cluster_lead : 0);
    set_number(&v, "lead_minutes", s && t->stage ? minutes(c->cluster_lead) : 0);
    set_text(&v, "if_lead_minutes", s && t->stage ? xstrdup("") : NULL);
    set_text(&v, "if_stage", t->stage ? xstrdup("") : NULL);
    set_text(&v, "to_script", xstrdup(t->srun ? "" : "B:")); /* mpirun hands it on */
    static const char *const pmi[] = {[MPI_OPEN] = "pmix",
                                      [MPI_MPICH] = "pmi2",
                                      [MPI_INTEL] = "pmi2",
                                      [MPI_CRAY] = "cray_shasta"};
    set_text(&v, "pmi", xstrdup(pmi[c->cluster_mpi]));
    set_word(&v, "partition", c->cluster_partition);
    set_word(&v, "account", c->cluster_account);
    return v;
}

/* --- the script ------------------------------------------------------------------------------- */
static void put_command(Text *x, const SubmitPlan *p, const Task *t) {
    const Order *o = p->order;
    const RecipeStep *first = &p->recipe.step[t->first], *last = &p->recipe.step[t->last];
    AUTOFREE char *program = xasprintf("%s/rhetor-pipeline", getenv("BIN"));
    if (p->command) {
        text_put(x, "exec %s\n", p->command);
        return;
    }
    if (o->doctor) {
        text_put(x, "exec $launch ");
        AUTOFREE char *doctor = xasprintf("%s/rhetor-doctor", getenv("BIN"));
        submit_word(x, doctor);
        text_put(x, " ");
        submit_word(x, p->recipe.folder);
        text_put(x, " --dir ");
        submit_word(x, getenv("RUN"));
        text_put(x, "\n");
        return;
    }
    text_put(x, "exec ");
    submit_word(x, program);
    text_put(x, " ");
    submit_word(x, p->recipe.folder);
    text_put(x, " --run ");
    submit_word(x, getenv("RUN"));
    text_put(x, " --seed %s", getenv("SEED"));
    if (o->request.data) text_put(x, " --data ");
    if (o->request.data) submit_word(x, o->request.data);
    text_put(x, " \\\n    --job %s", first->name);
    if (t->first == t->last)
        text_put(x, " --only %s", first->name);
    else
        text_put(x, " --from %s --until %s", first->name, last->name);
    if (t->stage) text_put(x, " --launch \"$launch\"");
    if (t->stage && !p->queue->warns && t->seconds)
        text_put(x, " %s:run.deadline=%" PRId64, first->name, t->seconds - t->c.cluster_lead);
    for (int i = 0; i < o->request.set.n; i++) {
        text_put(x, i ? " " : " \\\n    ");
        submit_word(x, o->request.set.v[i]);
    }
    text_put(x, "\n");
}

static void put_comment(Text *x, const SubmitPlan *p, const Task *t) {
    const Recipe *r = &p->recipe;
    if (p->command) {
        text_put(x, "# A worker of rhetor-lab. Rewritten by each submission.\n");
        return;
    }
    if (p->order->doctor) {
        text_put(x, "# rhetor-doctor with the layout of step %s.\n", r->step[t->first].name);
        return;
    }
    text_put(x, "# %s, seed %s: step%s", r->folder, getenv("SEED"), TEXT_S(t->last - t->first + 1));
    for (int i = t->first; i <= t->last; i++)
        text_put(x, "%s %s", i > t->first ? "," : "", r->step[i].name);
    text_put(x, ". Rewritten by rhetor-submit each time.\n# %s\n",
             t->stage ? p->queue->goes_back
                      : "Commands start over when they are interrupted; one that exceeds its time "
                        "fails.");
}

char *submit_script_path(const SubmitPlan *p, int i) {
    return xasprintf("%s/jobs/%s.sh", getenv("RUN"), step_name(p, &p->task[i]));
}

char *submit_script(const SubmitPlan *p, int i) {
    const Task *t = &p->task[i];
    const StrList *options = &t->c.cluster_options;
    const char *prologue = t->c.cluster_prologue;
    const size_t n = strlen(prologue);
    Values v = values_of(p, t);
    Text x = {0};
    AUTOFREE char *here = realpath(".", NULL), *directive = xasprintf("%s ", p->queue->directive);
    text_put(&x, "#!/bin/bash\n");
    put_comment(&x, p, t);
    put_lines(&x, directive, p->queue->header, &v);
    for (int k = 0; k < options->n; k++) text_put(&x, "%s%s\n", directive, options->v[k]);
    text_put(&x, "\n");
    if (n) text_put(&x, "%s%s\n", prologue, prologue[n - 1] == '\n' ? "" : "\n");
    text_put(&x, "cd ");
    submit_word(&x, here ? here : ".");
    text_put(&x, " || exit 74\n");
    put_lines(&x, "", "export OMP_NUM_THREADS={threads}\n", &v);
    if (t->stage && t->srun && !p->command)
        put_lines(&x, "", p->queue->launch, &v);
    else if (t->stage &&
             !p->command) { /* mpirun would pin each rank, with all its threads, to one core */
        /* Hydra, which MPICH and Intel MPI share, finds the job's hosts by itself. */
        static const char *const words[] = {
            [MPI_OPEN] =
                "mpirun -n {tasks} --map-by ppr:{ranks}:node:PE={threads} --bind-to core -x "
                "OMP_NUM_THREADS -x RHETOR_LIFE",
            [MPI_MPICH] = "mpiexec -n {tasks} -ppn {ranks} -bind-to core:{threads} -genvlist "
                          "OMP_NUM_THREADS,RHETOR_LIFE",
            [MPI_INTEL] =
                "mpirun -n {tasks} -ppn {ranks} -genv I_MPI_PIN_DOMAIN {threads} -genvlist "
                "OMP_NUM_THREADS,RHETOR_LIFE",
            [MPI_CRAY] = "mpiexec -n {tasks} -ppn {ranks} -bind-to core:{threads} -genvlist "
                         "OMP_NUM_THREADS,RHETOR_LIFE"};
        const int mpi = t->c.cluster_mpi;
        char *launch =
            xasprintf("launch=\"%s%s\"\n", words[mpi], mpi == MPI_OPEN ? p->queue->hosts : "");
        put_lines(&x, "", launch, &v);
        free(launch);
    }
    put_command(&x, p, t);
    for (int k = 0; k < v.n; k++) free(v.v[k].text);
    return x.s;
}
