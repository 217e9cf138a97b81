/* run.c: the run directory and the state in it. See run.h; the command line is in run_main.c.
 *
 * runs/<name>/<stage>/ holds config.yaml, status.json, metrics.jsonl, TensorBoard's event file,
 * log.txt, samples.txt and checkpoints/. What a checkpoint holds is the list of registered entries
 * below: run_save and run_resume walk it in the same way. */
#include "train/run.h"

#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoints/checkpoint.h"
#include "checkpoints/exchange/load.h"
#include "core/kernel.h"
#include "dist/signals.h"
#include "dist/watchdog.h"
#include "model/lora.h"
#include "train/health.h"
#include "train/run_impl.h"

_Static_assert(sizeof(real) == sizeof(float), "checkpoints hold float");

const char *run_path(const Run *run, const char *name) {
    free(run->priv->path);
    run->priv->path = file_join(run->cfg.run_dir, name);
    return run->priv->path;
}

/* --- what a checkpoint holds ------------------------------------------------------------------ */

static CkptArray *keep(RunPriv *p, char *name, int type, void *data, int ndim,
                       const int64_t *shape) {
    p->array = xrealloc(p->array, (size_t)(p->narray + 1) * sizeof *p->array);
    CkptArray *a = &p->array[p->narray++];
    *a = (CkptArray){.name = name, .type = type, .ndim = ndim, .data = data};
    memcpy(a->shape, shape, (size_t)ndim * sizeof *shape);
    return a;
}

static CkptArray *keep_param(Run *run, const char *group, const char *kind, const Param *p,
                             real *data) {
    return keep(run->priv, xasprintf("%s%s/%s", group, kind, p->name), H5_F32, data, p->tensor.ndim,
                p->tensor.shape);
}

void run_keep_params(Run *run, const char *group, const ParamSet *ps, real *data) {
    for (int i = 0; i < ps->n; i++) keep_param(run, group, "", &ps->v[i], data + ps->v[i].offset);
}

/* Muon's momentum has a name of its own: neither optimizer resumes with the other's state. */
void run_keep_adamw(Run *run, const char *group, const ParamSet *ps, AdamW *a) {
    char name[PARAM_NAME_MAX];
    const Shard *shard = a->shard ? a->shard : &a->whole;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < ps->n; i++) {
            const Param *p = &ps->v[i];
            const bool muon = a->muon && p->matrices;
            if (muon && k == 1) continue;
            int64_t begin, end;
            const int64_t at = shard_of_param(shard, ps, i, &begin, &end);
            real *data = k == 0        ? a->m + at
                         : begin < end ? a->v + a->v_at[i] + p->offset + begin
                                       : a->v;
            CkptArray *array = keep_param(run, group,
                                          muon ? "/momentum"
                                          : k  ? "/v"
                                               : "/m",
                                          p, data);
            if (!shard->whole) ckpt_set_part(array, begin, end);
        }
    snprintf(name, sizeof name, "%s/step", group);
    run_keep_i64(run, name, &a->step);
}

void run_keep_doubles(Run *run, const char *name, double *v, int64_t n) {
    keep(run->priv, xstrdup(name), H5_F64, v, 1, &n);
}

static void keep_counter(RunPriv *p, const char *name, int64_t *i, double *f) {
    CHECK(p->ncounter < RUN_MAX_COUNTERS, "more than %d counters", RUN_MAX_COUNTERS);
    p->counter[p->ncounter++] = (Counter){xstrdup(name), i, f};
}

void run_keep_i64(Run *run, const char *name, int64_t *v) {
    keep_counter(run->priv, name, v, NULL);
}
void run_keep_f64(Run *run, const char *name, double *v) { keep_counter(run->priv, name, NULL, v); }

void run_describe(Run *run, const GptConfig *model, const Tokenizer *tk, Template tmpl,
                  const char *use) {
    RunPriv *p = run->priv;
    json_object_set_new(p->meta, "model", arch_to_json(model));
    json_object_set_new(p->meta, "template", template_to_json(tmpl));
    json_object_set_new(p->meta, "use", json_string(use));
    const char *jinja = tokenizer_chat_template(tk);
    Template own;
    if (jinja && template_of_jinja(jinja, &own) == 0 && own == tmpl)
        json_object_set_new(p->meta, "chat_template", json_string(jinja));
    free(p->tokenizer);
    p->tokenizer = tokenizer_json(tk);
    int64_t n;
    const int32_t *stop = tokenizer_stops(tk, &n); /* no part of its text */
    for (int64_t i = 0; i < n; i++) {
        json_t *list = i ? json_object_get(p->meta, "eos") : json_array();
        json_array_append_new(list, json_integer(stop[i]));
        if (i == 0) json_object_set_new(p->meta, "eos", list);
    }
}

void run_adapters(Run *run, const LoraConfig *o, const char *path, const char *id) {
    json_t *j = lora_to_json(o);
    AUTOFREE char *whole = realpath(path, NULL);
    json_object_set_new(j, "base", json_string(whole ? whole : path));
    json_object_set_new(j, "base_id", json_string(id));
    json_object_set_new(run->priv->meta, "lora", j);
}

void run_stop_token(Run *run, int32_t id) {
    json_object_set_new(run->priv->meta, "stop", json_integer(id));
}

static json_t *meta_object(RunPriv *p, const char *name) {
    json_t *o = json_object_get(p->meta, name);
    if (!o) json_object_set_new(p->meta, name, o = json_object());
    return o;
}

void run_parent(Run *run, const char *role, const char *id) {
    json_object_set_new(meta_object(run->priv, "parents"), role, json_string(id));
}

void run_data(Run *run, const char *role, uint64_t hash) {
    char hex[17];
    snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    json_object_set_new(meta_object(run->priv, "data"), role, json_string(hex));
}

void run_keep_steps(Run *run, const int64_t *steps, int n) {
    run->priv->keep_step = steps;
    run->priv->nkeep_step = n;
}

static bool is_keep_step(const Run *run) {
    for (int i = 0; i < run->priv->nkeep_step; i++)
        if (run->priv->keep_step[i] == run->step) return true;
    return false;
}

static void meta_refresh(Run *run) {
    RunPriv *p = run->priv;
    json_object_set_new(p->meta, "kept", json_boolean(is_keep_step(run)));
    json_t *counters = json_object();
    for (int i = 0; i < p->ncounter; i++) {
        const Counter *c = &p->counter[i];
        json_object_set_new(counters, c->name, c->i ? json_integer(*c->i) : json_real(*c->f));
    }
    json_object_set_new(p->meta, "counters", counters);
    json_object_set_new(p->meta, "program", json_string("rhetor " RHETOR_VERSION));
    json_object_set_new(p->meta, "kernel", json_string(kernel_text()));
    json_object_set_new(p->meta, "steps", json_integer(run->steps));
    const bool chosen = p->new_best || is_keep_step(run);
    json_object_set_new(p->meta, "unfinished", json_boolean(run->step < run->steps && !chosen));
}

/* The best weights could not be saved, and a later step must not go by their result: what comes is
 * compared with the best that was. */
static void forget_best(RunPriv *p) {
    p->best = p->saved_best;
    p->new_best = false;
}

/* A run that has lost its folder saves nothing more there, nor how it ended. */
static int check_lock(Run *run) {
    int rc = comm_agree(run->comm, lock_check(run->priv->lock));
    if (rc < 0) run->priv->ours = false;
    return rc;
}

static void set_saved(Run *run) {
    run->priv->saved_step = run->step;
    signals_saved(run->step);
}

int run_save(Run *run) {
    RunPriv *p = run->priv;
    TRY(check_lock(run));
    if (p->saved_step == run->step) return 0;
    double began = clock_seconds();
    watchdog_enter(PHASE_SAVE);
    if (run->cfg.dist_check_every > 0) TRY(health_compare(run));
    meta_refresh(run);
    CkptContent content = {
        .stage = config_stage_name(run->cfg.stage),
        .step = run->step,
        .arrays = p->array,
        .narrays = p->narray,
        .meta = p->meta,
        .config = p->config_text,
        .tokenizer = p->tokenizer,
        .compress = run->cfg.save_compression == COMPRESS_ZSTD,
    };
    int rc = ckpt_save(p->ckpt_dir, &content, run->comm);
    if (rc < 0) {
        forget_best(p);
        /* A full disk must not end a run that could go on; three failures in a row do. */
        if (++p->save_failures >= 3) return error_wrap(rc, "3 checkpoints in a row failed");
        if (run->main_rank)
            log_warn("step %" PRId64 " was not saved: %s; training goes on", run->step,
                     error_message());
        return 0;
    }
    p->save_failures = 0;
    set_saved(run);
    p->last_save = clock_seconds();
    if (run->main_rank)
        log_info("saved step %" PRId64 " in %.2f s", run->step, clock_seconds() - began);

    /* What is saved is saved: a disk that is full now does not end the run. */
    if (p->new_best) rc = ckpt_mark_best(p->ckpt_dir, run->step, p->best, run->comm);
    if (rc < 0)
        forget_best(p);
    else if (p->new_best)
        p->saved_best = p->best;
    p->new_best = false;
    int nkeep = p->nkeep_step;
    int64_t *keep = xmalloc((size_t)(nkeep + 1) * sizeof *keep);
    if (nkeep) memcpy(keep, p->keep_step, (size_t)nkeep * sizeof *keep);
    int64_t best = run->cfg.save_keep_best ? ckpt_best_step(p->ckpt_dir, NULL) : -1;
    if (best >= 0) keep[nkeep++] = best;
    if (rc == 0)
        rc = ckpt_rotate(p->ckpt_dir, run->step, run->cfg.save_keep_last, keep, nkeep, run->comm);
    free(keep);
    if (rc < 0 && run->main_rank) log_warn("%s; training goes on", error_message());
    if (run->main_rank) run_write_status(run, "running", 0, "");
    return 0;
}

/* Both objects say the same about `what` (parents, data)? */
static int same_lineage(const Ckpt *k, const json_t *now, const char *what) {
    const json_t *then = json_object_get(ckpt_meta(k), what), *mine = json_object_get(now, what);
    if (json_equal(then, mine) || (json_object_size(then) == 0 && json_object_size(mine) == 0))
        return 0;
    char *a = json_dumps(then, JSON_SORT_KEYS), *b = json_dumps(mine, JSON_SORT_KEYS);
    int rc = error_set(ERR_CONFIG,
                       "%s was made with other %s: found %s, now %s; resume with the same ones, or "
                       "choose another run.dir",
                       ckpt_path(k), what, a ? a : "none", b ? b : "none");
    free(a);
    free(b);
    return rc;
}

/* Does the checkpoint go with this run? There are *n arrays to be read. */
static int check_saved(Run *run, Ckpt *k, CkptArray *there, int *n) {
    RunPriv *p = run->priv;
    if (strcmp(ckpt_stage(k), config_stage_name(run->cfg.stage)) != 0)
        return error_set(ERR_CONFIG,
                         "%s is a checkpoint of stage %s, this is %s; choose another run.dir",
                         ckpt_path(k), ckpt_stage(k), config_stage_name(run->cfg.stage));
    TRY(same_lineage(k, p->meta, "parents"));
    TRY(same_lineage(k, p->meta, "data"));
    for (int i = 0; i < p->narray; i++) {
        const CkptArray *a = &p->array[i];
        const char *name = a->name;
        if (a->type == H5_F64 && !ckpt_has(k, name)) continue; /* run_keep_doubles */
        if (!ckpt_has(k, name) && strstr(name, "optimizer/"))
            return error_set(ERR_CONFIG,
                             "%s has no %s: it was made with another optim.name than %s; resume "
                             "with the same one, or choose another run.dir",
                             ckpt_path(k), name,
                             run->cfg.optim_name == OPTIM_MUON ? "muon" : "adamw");
        if (!ckpt_has(k, name)) /* else only the moving average is a choice */
            return error_set(
                ERR_CONFIG,
                "%s has no %s: it was made without %.*s (ppo.ema: 0?); resume with the "
                "same settings, or choose another run.dir",
                ckpt_path(k), name, (int)strcspn(name, "/"), name);
        there[(*n)++] = *a;
    }
    return 0;
}

/* Collective. */
static int restore(Run *run, Ckpt *k) {
    RunPriv *p = run->priv;
    CkptArray *there = xcalloc((size_t)p->narray, sizeof *there);
    int n = 0, rc = comm_agree(run->comm, check_saved(run, k, there, &n));
    if (rc == 0) rc = ckpt_load(k, there, n, run->comm);
    free(there);
    TRY(rc);
    const json_t *counters = json_object_get(ckpt_meta(k), "counters");
    for (int i = 0; i < p->ncounter; i++) {
        const Counter *c = &p->counter[i];
        const json_t *v = json_object_get(counters, c->name);
        if (!json_is_number(v))
            return error_set(ERR_DATA, "%s: the counter \"%s\" is missing", ckpt_path(k), c->name);
        if (c->i)
            *c->i = json_integer_value(v);
        else
            *c->f = json_number_value(v);
    }
    run->step = ckpt_step(k);
    set_saved(run);
    return 0;
}

/* Keeps the lines of metrics.jsonl that belong to steps before `step`. */
static int metrics_rewind(Run *run, int64_t step) {
    char *text;
    size_t len;
    const char *path = run_path(run, "metrics.jsonl");
    if (!file_exists(path)) return 0;
    TRY(file_read(path, &text, &len));
    size_t keep = 0;
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n');
        int64_t at;
        if (!end || sscanf(line, "{\"step\": %" SCNd64, &at) != 1 || at > step) break;
        line = end + 1;
        keep = (size_t)(line - text);
    }
    int rc = keep < len ? file_write_durable(path, text, keep) : 0;
    free(text);
    return rc;
}

/* metrics.jsonl and the event file as they were after run->step. */
static int metrics_open(Run *run) {
    RunPriv *p = run->priv;
    TRY(metrics_rewind(run, run->step));
    const char *path = run_path(run, "metrics.jsonl");
    p->metrics_file = fopen(path, "a");
    if (!p->metrics_file) return file_error(path, "open");
    if (!run->cfg.run_tensorboard) return 0;
    TRY(events_open(&p->events, run->cfg.run_dir, run->step));
    if (run->step > 0) return 0;
    events_text(p->events, "config", p->config_text, strlen(p->config_text));
    return events_flush(p->events, 0);
}

/* The settings that change the result and differ from those of k; other kernels round differently. */
static char *differences(const Run *run, const Ckpt *k) {
    char *settings = config_diff(run->cfg.stage, ckpt_config(k), run->priv->config_text);
    const char *was = json_string_value(json_object_get(ckpt_meta(k), "kernel")),
               *is = kernel_text(), *end = was ? strstr(was, ", OpenMP") : NULL;
    const int n = end ? (int)(end - was) : 0;
    if (n == 0 || strncmp(was, is, (size_t)n + 1) == 0) return settings;
    char *all = xasprintf("%s%s%.*s -> %.*s (RHETOR_KERNEL, or another processor)", settings,
                          *settings ? "\n" : "", n, was, (int)(strstr(is, ", OpenMP") - is), is);
    free(settings);
    return all;
}

/* Where the run goes on, and what is asked for now that it was not begun with. */
static void say_resumed(const Run *run, const Ckpt *k) {
    char *diff = differences(run, k), asked[64] = "";
    if (run->step > run->steps)
        snprintf(asked, sizeof asked, ", and %" PRId64 " %s asked for now", run->steps,
                 run->steps == 1 ? "is" : "are");
    if (run_goes_on(run)) {
        log_info("resuming at step %" PRId64 " of %" PRId64 " from %s", run->step, run->steps,
                 ckpt_path(k));
        if (*diff) log_warn("what is left is done with settings that change the result:\n%s", diff);
    } else if (*diff || *asked)
        log_warn("this run ended with step %" PRId64
                 "%s: nothing took effect; for a run with other "
                 "settings choose another run.dir%s%s",
                 run->step, asked, *diff ? "\n" : "", diff);
    else
        log_info("this run ended with step %" PRId64 ": nothing is left to do", run->step);
    free(diff);
}

int run_resume(Run *run) {
    RunPriv *p = run->priv;
    if (run->dry) return 0;
    Ckpt *k;
    TRY(ckpt_open_newest(&k, p->ckpt_dir, run->comm));
    int rc = 0;
    bool fresh = true; /* there are steps to do with these settings */
    if (k) {
        TRY_GOTO(out, comm_agree(run->comm, restore(run, k)));
        fresh = run_goes_on(run);
        if (run->main_rank) say_resumed(run, k);
        if (!fresh) run->steps = run->step;
        double best;
        if (ckpt_best_step(p->ckpt_dir, &best) >= 0) p->best = p->saved_best = best;
    }
    p->ours = true;
    if (run->main_rank) {
        const char *config = run_path(run, "config.yaml");
        if (fresh) rc = file_write_durable(config, p->config_text, strlen(p->config_text));
        if (rc == 0) rc = metrics_open(run);
    }
    rc = comm_agree(run->comm, rc);
    if (rc == 0 && run->main_rank) run_write_status(run, "running", 0, "");
out:
    ckpt_close(&k);
    malloc_trim(0); /* what opening gave back */
    p->began = p->last_log = p->last_save = p->step_began = clock_seconds();
    p->first_step = run->step;
    watchdog_enter(PHASE_STEP);
    return rc;
}

/* --- the loop --------------------------------------------------------------------------------- */

bool run_goes_on(const Run *run) { return run->step < run->steps; }

static void add_metric(Run *run, const char *name, double value, bool timing) {
    RunPriv *p = run->priv;
    CHECK(p->nmetric < RUN_MAX_METRICS, "more than %d metrics", RUN_MAX_METRICS);
    p->metric[p->nmetric++] = (Metric){name, value, timing};
    if (strcmp(name, config_stage[run->cfg.stage].headline) == 0) p->result = value;
}

void run_metric(Run *run, const char *name, double value) { add_metric(run, name, value, false); }
void run_timing(Run *run, const char *name, double value) { add_metric(run, name, value, true); }

void run_headline(Run *run, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(run->priv->headline, sizeof run->priv->headline, fmt, ap);
    va_end(ap);
}

void run_text(Run *run, const char *fmt, ...) {
    if (!run->main_rank) return;
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    const int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    CHECK(n >= 0, "format \"%s\"", fmt);
    if (file_append(run_path(run, "samples.txt"), text, (size_t)n) < 0)
        log_warn("%s", error_message());
    text_bytes(&run->priv->texts, text, (size_t)n);
    free(text);
}

bool run_eval_due(const Run *run) {
    int64_t done = run->step + 1;
    return done == run->steps || (run->cfg.eval_every > 0 && done % run->cfg.eval_every == 0);
}

void run_eval_result(Run *run, double value) {
    RunPriv *p = run->priv;
    if (!run->cfg.save_keep_best || !(value < p->best)) return;
    p->best = value;
    p->new_best = true;
}

static void metrics_write(Run *run) {
    RunPriv *p = run->priv;
    FILE *f = p->metrics_file;
    if (f) {
        fprintf(f, "{\"step\": %" PRId64, run->step);
        for (const Metric *m = p->metric; m < p->metric + p->nmetric; m++)
            if (!m->timing)
                fprintf(f, isfinite(m->value) ? ", \"%s\": %.10g" : ", \"%s\": null", m->name,
                        m->value);
        if (fprintf(f, "}\n") < 0 || fflush(f) != 0) {
            log_warn("%s: %m; metrics are no longer written", run_path(run, "metrics.jsonl"));
            fclose(f);
            p->metrics_file = NULL;
        }
    }
    if (p->events) {
        for (const Metric *m = p->metric; m < p->metric + p->nmetric; m++)
            events_scalar(p->events, m->name, m->value);
        if (p->texts.n > 0) events_text(p->events, "samples", p->texts.s, p->texts.n);
        if (events_flush(p->events, run->step) < 0) {
            log_warn("%s; TensorBoard's events are no longer written", error_message());
            events_close(&p->events);
        }
    }
    p->nmetric = 0;
    p->texts.n = 0;
}

/* The progress line: every run.log_every steps, and where the last one is old, a line in the log.
 * The time left stands in front, since on a terminal the end is cut. */
static void log_step(Run *run, int64_t tokens) {
    RunPriv *p = run->priv;
    p->tokens_since += tokens;
    p->steps_since++;
    if (!run->main_rank) return;
    const double now = clock_seconds(), dt = now - p->last_log;
    const bool last = run->step == run->steps, first = run->step == p->first_step + 1;
    const bool due = last || first || run->step % run->cfg.run_log_every == 0 || dt >= LOG_SECONDS;
    const int64_t left = run->steps - run->step;
    const int64_t eta =
        (int64_t)((now - p->began) / (double)(run->step - p->first_step) * (double)left + 0.5);
    char hours[24] = "";
    if (eta >= 3600) snprintf(hours, sizeof hours, "%" PRId64 ":", eta / 3600);
    log_progress(
        due, last, "step %" PRId64 "/%" PRId64 "  eta %s%0*d:%02d  %s  %.0f tok/s  %.0f ms/step",
        run->step, run->steps, hours, *hours ? 2 : 1, (int)(eta / 60 % 60), (int)(eta % 60),
        p->headline, (double)p->tokens_since / dt, 1e3 * dt / (double)p->steps_since);
    if (now - p->last_status >= LOG_SECONDS) run_write_status(run, "running", 0, "");
    if (!due) return;
    p->tokens_since = p->steps_since = 0;
    p->last_log = now;
}

/* Is the last checkpoint as old as save.every_seconds? Rank 0's clock. Collective. */
static bool save_is_late(Run *run) {
    const double limit = run->cfg.save_every_seconds;
    if (limit <= 0) return false;
    bool late = clock_seconds() - run->priv->last_save >= limit;
    comm_bcast(run->comm, &late, sizeof late, 0);
    return late;
}

/* Asked to stop, and the save failed: not 75, which says that all is saved. */
static int not_saved(const Run *run, const char *why) {
    char from[64] = "starts over";
    if (run->priv->saved_step >= 0)
        snprintf(from, sizeof from, "goes on from step %" PRId64, run->priv->saved_step);
    return error_set(ERR_IO,
                     "%s: step %" PRId64 " of %" PRId64
                     " could not be saved: %s; then the same command %s",
                     why, run->step, run->steps, error_message(), from);
}

int run_step_end(Run *run, int64_t tokens) {
    RunPriv *p = run->priv;
    run->step++;
    double now = clock_seconds();
    run_timing(run, "perf/step_s", now - p->step_began);
    run_timing(run, "perf/tokens_per_s", (double)tokens / (now - p->step_began));
    if (comm_size(run->comm) > 1) {
        const StepHealth h = health_step(run->comm, now - p->step_began, run->exchange_s);
        run_timing(run, "perf/exchange_s", h.exchange_s);
        run_timing(run, "perf/exchange_max_s", h.exchange_max_s);
        run_timing(run, "perf/wait_share", h.wait_share);
        run_timing(run, "perf/slowest_rank", h.slowest);
    }
    run->exchange_s = 0;
    metrics_write(run);
    log_step(run, tokens);

    const char *why = "";
    const double deadline = lock_lost(p->lock) ? 1e-9 : run->cfg.run_deadline; /* save, refused */
    int stop = signals_poll(run->comm, run->cfg.run_dir, deadline, &why);
    bool due = save_is_late(run) || run->step == run->steps || is_keep_step(run) || p->new_best ||
               (run->cfg.save_every > 0 && run->step % run->cfg.save_every == 0);
    const int64_t check = run->cfg.dist_check_every;
    if (due || stop != STOP_NONE)
        TRY(run_save(run)); /* compares, too */
    else if (check > 0 && run->step % check == 0)
        TRY(health_compare(run));
    if (run->step == run->steps && p->saved_step != run->step)
        return error_set(ERR_IO, "the last step could not be saved: %s", error_message());
    if (stop == STOP_SAVE_AND_LEAVE && p->saved_step != run->step) return not_saved(run, why);
    if (stop == STOP_SAVE_AND_LEAVE && run->step < run->steps)
        return error_set(ERR_REQUEUE,
                         "%s: saved at step %" PRId64 " of %" PRId64
                         "; the same command goes on from there",
                         why, p->saved_step, run->steps);
    p->step_began = clock_seconds();
    watchdog_enter(PHASE_STEP);
    return 0;
}
