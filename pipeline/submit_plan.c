/* submit_plan.c: from a recipe and cluster.yaml to jobs. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/nearest.h"
#include "base/process.h"
#include "base/text.h"
#include "pipeline/submit.h"

/* --- settings --------------------------------------------------------------------------------- */
/* The step that "STEP:key=value" is for (-1: all of them), and what follows the colon. */
static int step_of(const Recipe *r, const char *setting, int *step, const char **rest) {
    const char *colon = strchr(setting, ':'), *equals = strchr(setting, '=');
    *rest = setting;
    *step = -1;
    if (!colon || (equals && equals < colon)) return 0;
    AUTOFREE char *name = xasprintf("%.*s", (int)(colon - setting), setting);
    *step = recipe_find(r, name);
    *rest = colon + 1;
    return *step < 0 ? error_wrap(ERR_CONFIG, "%s", setting) : 0;
}

/* Settings for step i of those (i = -1: for all steps) go to `out`; `each`: settings of one step
 * only. */
static int take(const Recipe *r, int i, const char *const *v, int n, bool each, OptionList *out) {
    for (int k = 0; k < n; k++) {
        const char *rest;
        int step;
        TRY(step_of(r, v[k], &step, &rest));
        if (each && step < 0)
            return error_set(ERR_CONFIG, "cluster.steps: \"%s\", expected STEP:setting=value",
                             v[k]);
        if (step != i) continue;
        const bool bare = strncmp(rest, "cluster.", 8) != 0;
        option_add(&out->v, &out->n, xasprintf("%s%s", bare ? "cluster." : "", rest));
    }
    return 0;
}

/* The settings of the job with the steps first to last. What is said of one step comes after what
 * is said of all, the command line after the file. */
static int settings_of(const SubmitPlan *p, const Config *all, const char *file, int first,
                       int last, Config *out, bool *own) {
    const Order *o = p->order;
    const char *const *steps = (const char *const *)all->cluster_steps.v;
    OptionList l = {0};
    int rc = 0;
    *own = false;
    for (int i = first; rc >= 0 && i <= last; i++)
        rc = take(&p->recipe, i, steps, all->cluster_steps.n, true, &l);
    int before = l.n;
    if (rc >= 0) rc = take(&p->recipe, -1, o->cluster.v, o->cluster.n, false, &l);
    int between = l.n;
    for (int i = first; rc >= 0 && i <= last; i++)
        rc = take(&p->recipe, i, o->cluster.v, o->cluster.n, false, &l);
    *own = before > 0 || l.n > between;
    if (rc >= 0) rc = config_load(out, STAGE_SUBMIT, file, l.v, l.n);
    if (rc < 0 && before > 0) error_wrap(rc, "cluster.steps or command line");
    option_free(&l);
    return rc;
}

/* Of "minutes", "H:MM:SS" or "D-H:MM:SS"; -1: it is none of them. */
static int64_t seconds_of(const char *text) {
    long long d = 0, h = 0, m = 0, s = 0;
    int end = 0;
    const char *dash = strchr(text, '-'), *clock = dash ? dash + 1 : text;
    if (text[strspn(text, "0123456789:-")] || dash == text || strchr(clock, '-')) return -1;
    if (dash) d = atoll(text);
    bool good = sscanf(clock, "%lld:%2lld:%2lld%n", &h, &m, &s, &end) == 3 && !clock[end];
    if (!good && !dash) {
        h = s = 0;
        good = sscanf(clock, "%lld%n", &m, &end) == 1 && !clock[end];
    }
    if (!good || d > 10000 || h > 1000000 || m > 100000000) return -1;
    return ((d * 24 + h) * 60 + m) * 60 + s;
}

static int read_time(const Config *c, int64_t *seconds) {
    *seconds = *c->cluster_time ? seconds_of(c->cluster_time) : 0;
    if (*c->cluster_time && *seconds <= 0)
        return config_bad(c, "cluster.time", "expected minutes, H:MM:SS or D-H:MM:SS");
    return 0;
}

/* --- does it fit? ----------------------------------------------------------------------------- */
static int64_t batch_of(const SubmitPlan *p, int i, const char **key) {
    const RecipeStep *s = &p->recipe.step[i];
    Config c;
    if (config_load(&c, s->stage, s->config, s->set, s->nset) < 0) return INT64_MAX;
    const bool ppo = config_has_episodes(s->stage);
    *key = ppo ? "ppo.batch" : "train.batch";
    const int64_t n = ppo ? c.ppo_batch / c.ppo_minibatches : c.train_batch;
    config_free(&c);
    return n;
}

static int check_task(const SubmitPlan *p, const Task *t) {
    const Config *c = &t->c;
    const char *name = p->recipe.step[t->first].name, *key = "";
    const int64_t ranks = c->cluster_nodes * c->cluster_ranks_per_node,
                  cores = c->cluster_ranks_per_node * c->cluster_threads;
    const int64_t nodes = t->stage ? c->cluster_nodes : 1;
    if (t->seconds > 0 && t->stage && c->cluster_lead >= t->seconds)
        return config_bad(c, "cluster.lead",
                          "cluster.time is %s, so %s would be asked to stop before it began",
                          c->cluster_time, name);
    if (t->srun && !p->queue->launch)
        return config_bad(c, "cluster.launcher", "srun is Slurm's; expected mpirun with %s",
                          p->queue->name);
    TRY(submit_check_script(p, t));
    const int64_t batch = t->stage ? batch_of(p, t->first, &key) : INT64_MAX;
    if (ranks > batch)
        return error_set(ERR_CONFIG,
                         "%s: %" PRId64 " nodes x %" PRId64 " ranks are more than %s gives work "
                         "to (%" PRId64 "%s); fewer nodes, fewer ranks with more threads, or a "
                         "larger batch",
                         name, c->cluster_nodes, c->cluster_ranks_per_node, key, batch,
                         strcmp(key, "ppo.batch") == 0 ? " a minibatch" : "");
    const int64_t there = p->order->dry ? -1 : queue_nodes(p->queue, c->cluster_partition, cores);
    if (there >= 0 && there < nodes)
        return error_set(ERR_CONFIG,
                         "%s asks for %" PRId64 " node%s of %" PRId64 " core%s, but sinfo shows "
                         "%" PRId64 " of that size%s%s; cluster.nodes, cluster.ranks_per_node, "
                         "cluster.threads",
                         name, nodes, TEXT_S(nodes), cores, TEXT_S(cores), there,
                         *c->cluster_partition ? " in partition " : "", c->cluster_partition);
    return 0;
}

/* --- the queue -------------------------------------------------------------------------------- */
static int wrong_queue(const Config *c) {
    const char *names[8];
    int n = 0;
    for (const Queue *q = queues; q->name; q++) names[n++] = q->name;
    AUTOFREE char *all = queue_list(QUEUE_NAMES, " or "),
                  *hint = nearest_hint(c->cluster_scheduler, names, n);
    return config_bad(c, "cluster.scheduler", "expected auto, %s%s", all, hint);
}

static int choose_queue(const Order *o, const Config *c, const Queue **out) {
    const bool given = strcmp(c->cluster_scheduler, "auto") != 0;
    const Queue *found = NULL;
    for (const Queue *q = queues; q->name && !given; q++) {
        if (!process_exists(q->submit[0])) continue;
        if (found)
            return error_set(ERR_USAGE, "both %s and %s are in PATH: --scheduler %s or %s",
                             found->submit[0], q->submit[0], found->name, q->name);
        found = q;
    }
    *out = given ? queue_by_name(c->cluster_scheduler) : found;
    if (given && !*out) return wrong_queue(c);
    if (!*out) {
        AUTOFREE char *programs = queue_list(QUEUE_PROGRAMS, ", ");
        error_set(
            ERR_USAGE,
            "no queue here: none of %s is in PATH; rhetor-pipeline %s runs the recipe on this "
            "machine, --scheduler slurm --dry-run shows the job scripts",
            programs, o->request.recipe);
        return ERR_USAGE;
    }
    if (!o->dry && !process_exists((*out)->submit[0]))
        return error_set(ERR_USAGE, "%s is not in PATH: is this a host from which one submits?",
                         (*out)->submit[0]);
    return 0;
}

/* --- jobs ------------------------------------------------------------------------------------- */
static int add_task(SubmitPlan *p, const Config *all, const char *file, int i) {
    const bool stage = p->recipe.step[i].stage != 0;
    Task *last = p->n ? &p->task[p->n - 1] : NULL;
    Config c;
    bool own, joined;
    TRY(settings_of(p, all, file, i, i, &c, &own));
    joined = last && !stage && !last->stage && !own;
    if (joined) { /* not to a command with settings of its own */
        Config other;
        int rc = settings_of(p, all, file, last->first, last->last, &other, &own);
        if (rc >= 0) config_free(&other);
        joined = rc >= 0 && !own;
    }
    if (joined) {
        config_free(&c);
        last->last = i;
        return 0;
    }
    p->task = xrealloc(p->task, (size_t)(p->n + 1) * sizeof *p->task);
    Task *t = &p->task[p->n++];
    *t = (Task){.first = i, .last = i, .stage = stage, .c = c};
    t->srun = c.cluster_launcher == LAUNCHER_SRUN ||
              (c.cluster_launcher == LAUNCHER_AUTO && p->queue->launch);
    TRY(read_time(&t->c, &t->seconds));
    return check_task(p, t);
}

int submit_plan(SubmitPlan *p) {
    const Order *o = p->order;
    AUTOFREE char *own = file_join(p->recipe.folder, "cluster.yaml");
    const char *file = o->file ? o->file : file_exists(own) ? own : NULL;
    Config all;
    OptionList l = {0};
    int rc = take(&p->recipe, -1, o->cluster.v, o->cluster.n, false, &l);
    if (rc >= 0) rc = config_load(&all, STAGE_SUBMIT, file, l.v, l.n);
    option_free(&l);
    if (rc >= 0) {
        rc = choose_queue(o, &all, &p->queue);
        for (int i = 0; rc >= 0 && i < p->recipe.n; i++) rc = add_task(p, &all, file, i);
        config_free(&all);
    }
    return rc < 0 ? rc : 0;
}

void submit_plan_free(SubmitPlan *p) {
    for (int i = 0; i < p->n; i++) config_free(&p->task[i].c);
    free(p->task);
    recipe_free(&p->recipe);
    *p = (SubmitPlan){0};
}
