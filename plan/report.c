/* report.c: the plan as tables, and as JSON. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/config.h"
#include "base/error.h"
#include "plan/forecast.h"

static const double mib = 1024.0 * 1024.0;

/* The whole of a stage's figures for one layout. */
typedef struct Row {
    PlanLayout l;
    PlanMemory memory[PLAN_SHARDS];
    PlanTime t;
    double sent, efficiency, tokens_s, wall, core_hours;
} Row;

static double tokens_of(const PlanWork *w) {
    double n = w->items * w->sequences * w->length + w->windows * w->window;
    return n;
}

static Row row_of(const PlanStage *s, const PlanMachine *m, PlanLayout l) {
    const PlanWork *w = &s->work;
    if (l.shard == PLAN_SHARDS) l.shard = w->shard;
    Row r = {.l = l};
    for (int k = 0; k < PLAN_SHARDS; k++) {
        PlanLayout sharded = l;
        sharded.shard = k;
        plan_memory(w, &sharded, &r.memory[k]);
    }
    const PlanLayout one = {.ranks = 1, .per_node = 1, .threads = l.threads};
    PlanTime alone;
    plan_time(w, &l, machine_rates(m, l.threads), &m->net, &r.t);
    plan_time(w, &one, machine_rates(m, l.threads), &m->net, &alone);
    r.sent = plan_exchange_bytes(w, &l);
    r.efficiency = alone.step / (r.t.step * (double)l.ranks);
    r.tokens_s = tokens_of(w) / r.t.step;
    r.wall = (double)w->steps * r.t.step;
    r.core_hours = r.wall * (double)(l.ranks * l.threads) / 3600;
    return r;
}

/* "3.1 ms", "12 min", "4.5 h", "31 d"; "-" for what is not known or nothing. */
static const char *duration(double s, char out[16]) {
    static const struct {
        double up_to, one;
        const char *unit;
    } units[] = {{0.1, 1e-3, "ms"}, {100, 1, "s"}, {6000, 60, "min"}, {360000, 3600, "h"}};
    enum { UNITS = sizeof units / sizeof *units };
    int k = 0;
    while (k < UNITS && s >= units[k].up_to) k++;
    const double v = k < UNITS ? s / units[k].one : s / 86400;
    if (s > 0)
        snprintf(out, 16, v < 99.95 ? "%.3g %s" : "%.0f %s", v, k < UNITS ? units[k].unit : "d");
    else
        snprintf(out, 16, "-");
    return out;
}

static const char *core_hours(double h, char out[16]) {
    if (h > 0)
        snprintf(out, 16, h < 99.95 ? "%.3g" : "%.0f", h);
    else
        snprintf(out, 16, "-");
    return out;
}

/* --- text ------------------------------------------------------------------------------------- */

static void print_stage(const PlanStage *s) {
    const PlanWork *w = &s->work;
    const GptConfig *g = &w->model;
    double part[3];
    const double flops = plan_flops(w, part);
    printf("%s: %" PRId64 " layers, %" PRId64 " heads, width %" PRId64 ", context %" PRId64
           ", vocabulary %" PRId64 "\n",
           s->name, g->layers, g->heads, g->width, g->context, g->vocab);
    printf("  parameters        %" PRId64 "\n  steps             ", plan_parameters(w));
    if (w->steps > 0)
        printf("%" PRId64 "\n", w->steps);
    else
        printf("not known\n");
    printf("  tokens a step     %.0f\n  FLOPs             %.3g a step", tokens_of(w), flops);
    if (config_has_episodes(w->stage))
        printf(" (rollout %.3g, scoring %.3g, update %.3g)", part[0], part[1], part[2]);
    if (w->steps > 0) printf(", %.3g in all", flops * (double)w->steps);
    printf("\n");
    if (*s->assumed) printf("  assumed           %s\n", s->assumed);
}

static void print_memory(const PlanStage *s, const Row *r) {
    printf("  memory a rank, MiB, on %" PRId64 " rank%s; times with dist.shard %s\n"
           "  %-10s %9s %9s %9s %9s %11s %9s %9s %9s %9s\n",
           r->l.ranks, r->l.ranks == 1 ? "" : "s", plan_shard_name(r->l.shard), "sharded",
           "weights", "gradient", "moments", "frozen", "activations", "beside", "messages",
           "program", "in all");
    for (int k = 0; k < PLAN_SHARDS; k++) {
        const PlanMemory *m = &r->memory[k];
        if (k > 0 && r->l.ranks == 1) break;
        printf("  %-10s %9.1f %9.1f %9.1f %9.1f %11.1f %9.1f %9.1f %9.1f %9.1f\n",
               plan_shard_name(k), m->weights / mib, m->gradients / mib, m->moments / mib,
               m->frozen / mib, m->activations / mib, m->beside / mib, m->exchange / mib,
               m->program / mib, m->total / mib);
    }
}

static void print_times(const PlanStage *s, const Row *row, int n) {
    const bool ppo = config_has_episodes(s->kind);
    printf("  %6s %6s %9s ", "ranks", "nodes", "MB sent");
    if (ppo) printf("%9s %9s ", "rollout", "scoring");
    printf("%9s %9s %9s %9s %6s %10s %9s %9s   %s\n", ppo ? "training" : "compute", "update",
           "exchange", "step", "effic.", "tokens/s", "wall", "core-h", "MiB none/optim./grad.");
    for (int i = 0; i < n; i++) {
        const Row *r = &row[i];
        char a[8][16];
        printf("  %6" PRId64 " %6" PRId64 " %9.1f ", r->l.ranks,
               (r->l.ranks + r->l.per_node - 1) / r->l.per_node, r->sent / 1e6);
        if (ppo) printf("%9s %9s ", duration(r->t.rollout, a[0]), duration(r->t.scoring, a[1]));
        printf("%9s %9s %9s %9s %5.1f%% %10.0f %9s %9s  ", duration(r->t.compute, a[2]),
               duration(r->t.update, a[3]), duration(r->t.exposed, a[4]), duration(r->t.step, a[5]),
               100 * r->efficiency, r->tokens_s, duration(r->wall, a[6]),
               core_hours(r->core_hours, a[7]));
        printf(" %.0f/%.0f/%.0f\n", r->memory[0].total / mib, r->memory[1].total / mib,
               r->memory[2].total / mib);
    }
}

static void print_pipeline(const PlanStages *s, const PlanMachine *m, const PlanLayout *layout,
                           int n) {
    printf("the whole pipeline, all stages on the same ranks\n  %6s %6s %10s %10s\n", "ranks",
           "nodes", "wall", "core-h");
    for (int i = 0; i < n; i++) {
        double wall = 0, hours = 0;
        char a[2][16];
        for (int k = 0; k < s->n; k++) {
            const Row r = row_of(&s->v[k], m, layout[i]);
            wall += r.wall;
            hours += r.core_hours;
        }
        printf("  %6" PRId64 " %6" PRId64 " %10s %10s\n", layout[i].ranks,
               (layout[i].ranks + layout[i].per_node - 1) / layout[i].per_node,
               duration(wall, a[0]), core_hours(hours, a[1]));
    }
    bool unknown = false;
    for (int k = 0; k < s->n; k++) unknown |= s->v[k].work.steps == 0;
    if (unknown) printf("  without the stages whose steps are not known\n");
    printf("\n");
}

static void print_choice(const PlanStages *s, const PlanMachine *m, int64_t nodes) {
    printf("layout for %" PRId64 " node%s of %" PRId64 " core%s and %.1f GiB\n", nodes,
           nodes == 1 ? "" : "s", m->cores, m->cores == 1 ? "" : "s", m->memory / (1 << 30));
    for (int i = 0; i < s->n; i++) {
        PlanLayout l;
        char *why;
        if (choose_layout(&s->v[i], m, nodes, &l, &why) < 0) {
            printf("  %s: none: %s\n", s->v[i].name, error_message());
            continue;
        }
        const Row r = row_of(&s->v[i], m, l);
        char a[2][16];
        printf("  %-10s %" PRId64 " rank%s a node with %" PRId64 " thread%s, dist.shard %s, "
               "train.micro_tokens %" PRId64
               ": %s a step, %s in all, efficiency %.1f %%\n             %s\n",
               s->v[i].name, l.per_node, l.per_node == 1 ? "" : "s", l.threads,
               l.threads == 1 ? "" : "s", plan_shard_name(l.shard), l.micro_tokens,
               duration(r.t.step, a[0]), duration(r.wall, a[1]), 100 * r.efficiency, why);
        free(why);
    }
}

/* Reading the weights of a small model may take no time that can be measured. */
static const char *reading_text(double rate, char out[48]) {
    if (rate < 1e14)
        snprintf(out, 48, "%.3g GB/s of weights", rate * 1e-9);
    else
        snprintf(out, 48, "its weights in no measurable time");
    return out;
}

static void print_assumptions(const PlanMachine *m, const PlanLayout *l) {
    const PlanRates *r = machine_rates(m, l->threads);
    const PlanNet *n = &m->net;
    char reading[48];
    printf("rates of a rank of %" PRId64 " thread%s, from one of %" PRId64 " (%s): training %.4g "
           "GFLOP/s, forward %.4g, update %.3g GB/s, decoding %.4g GFLOP/s and %s\n",
           l->threads, l->threads == 1 ? "" : "s", r->threads, m->origin ? m->origin : "",
           r->train * 1e-9, r->forward * 1e-9, r->update * 1e-9, r->decode * 1e-9,
           reading_text(r->decode_read, reading));
    printf("network: %.3g us and %.3g GB/s a node, within a node %.3g us and %.3g GB/s, its memory "
           "%.3g "
           "GB/s; %.0f %% of the last backward pass hides the exchange\n\n",
           n->latency * 1e6, n->bandwidth * 1e-9, n->node_latency * 1e6, n->node_bandwidth * 1e-9,
           n->memory * 1e-9, 100 * n->overlap);
}

void report_print(const PlanStages *s, const PlanMachine *m, const PlanLayout *layout, int n,
                  int64_t nodes) {
    print_assumptions(m, &layout[0]);
    Row *row = xcalloc((size_t)n, sizeof *row);
    for (int k = 0; k < s->n; k++) {
        for (int i = 0; i < n; i++) row[i] = row_of(&s->v[k], m, layout[i]);
        print_stage(&s->v[k]);
        print_memory(&s->v[k], &row[n - 1]);
        print_times(&s->v[k], row, n);
        printf("\n");
    }
    free(row);
    if (s->n > 1) print_pipeline(s, m, layout, n);
    print_choice(s, m, nodes);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static json_t *memory_json(const PlanMemory *m) {
    const struct {
        const char *name;
        double bytes;
    } part[] = {{"weights", m->weights},
                {"gradients", m->gradients},
                {"moments", m->moments},
                {"frozen", m->frozen},
                {"activations", m->activations},
                {"decoding", m->decoding},
                {"evaluation", m->evaluation},
                {"first", m->first},
                {"save", m->save},
                {"messages", m->exchange},
                {"program", m->program},
                {"total", m->total}};
    json_t *j = json_object();
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        json_object_set_new(j, part[i].name, json_real(part[i].bytes));
    return j;
}

static json_t *row_json(const PlanStage *s, const Row *r) {
    json_t *memory = json_object();
    for (int k = 0; k < PLAN_SHARDS; k++)
        json_object_set_new(memory, plan_shard_name(k), memory_json(&r->memory[k]));
    const PlanTime *t = &r->t;
    return json_pack(
        "{s:I, s:I, s:I, s:s, s:f, s:{s:f, s:f, s:f, s:f, s:f, s:f, s:f}, s:f, s:f, s:f, s:f, s:o}",
        "ranks", (json_int_t)r->l.ranks, "ranks_per_node", (json_int_t)r->l.per_node, "threads",
        (json_int_t)r->l.threads, "shard", plan_shard_name(r->l.shard), "sent_bytes", r->sent,
        "seconds", "rollout", t->rollout, "scoring", t->scoring, "compute", t->compute, "update",
        t->update, "exchange", t->exchange, "exposed", t->exposed, "step", t->step, "efficiency",
        r->efficiency, "tokens_per_s", r->tokens_s, "wall_s", r->wall, "core_hours", r->core_hours,
        "memory_bytes", memory);
}

static json_t *choice_json(const PlanStage *s, const PlanMachine *m, int64_t nodes) {
    PlanLayout l;
    char *why;
    if (choose_layout(s, m, nodes, &l, &why) < 0)
        return json_pack("{s:I, s:s}", "nodes", (json_int_t)nodes, "none", error_message());
    json_t *j =
        json_pack("{s:I, s:I, s:I, s:s, s:I, s:s}", "nodes", (json_int_t)nodes, "ranks_per_node",
                  (json_int_t)l.per_node, "threads", (json_int_t)l.threads, "shard",
                  plan_shard_name(l.shard), "micro_tokens", (json_int_t)l.micro_tokens, "why", why);
    free(why);
    return j;
}

json_t *report_json(const PlanStages *s, const PlanMachine *m, const PlanLayout *layout, int n,
                    int64_t nodes) {
    json_t *stages = json_array();
    for (int k = 0; k < s->n; k++) {
        const PlanStage *p = &s->v[k];
        double part[3];
        const double flops = plan_flops(&p->work, part);
        json_t *rows = json_array();
        for (int i = 0; i < n; i++) {
            const Row r = row_of(p, m, layout[i]);
            json_array_append_new(rows, row_json(p, &r));
        }
        json_array_append_new(
            stages, json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:[f,f,f], s:s, s:o, s:o}", "name",
                              p->name, "stage", config_stage_name(p->kind), "parameters",
                              (json_int_t)plan_parameters(&p->work), "steps",
                              (json_int_t)p->work.steps, "tokens", tokens_of(&p->work), "flops",
                              flops, "flops_parts", part[0], part[1], part[2], "assumed",
                              p->assumed, "layouts", rows, "choice", choice_json(p, m, nodes)));
    }
    const PlanNet *net = &m->net;
    json_t *j = machine_json(m);
    json_object_set_new(j, "network",
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "latency_us",
                                  net->latency * 1e6, "bandwidth_gbs", net->bandwidth * 1e-9,
                                  "node_latency_us", net->node_latency * 1e6, "node_bandwidth_gbs",
                                  net->node_bandwidth * 1e-9, "memory_gbs", net->memory * 1e-9,
                                  "overlap", net->overlap));
    json_object_set_new(j, "stages", stages);
    return j;
}
