/* forecast.h: what the parts of rhetor-plan share. */
#ifndef PLAN_FORECAST_H
#define PLAN_FORECAST_H

#include <jansson.h>

#include "train/plan.h"

/* What is not in the files, as the command line has it; 0: not given. */
typedef struct PlanGiven {
    int stage; /* of a single config */
    int64_t vocab, records;
    double length, answers, response; /* tokens a sequence, answers a prompt, tokens a response */
} PlanGiven;

/* A stage to plan for. */
typedef struct PlanStage {
    char *name, *config; /* config: path of its file */
    const char **set;    /* overrides; borrowed, the list owned */
    int nset, kind;      /* IN_* */
    PlanWork work;
    char *assumed; /* "tokens an example: 32 (half the context)", lines; "" if nothing */
} PlanStage;

typedef struct PlanStages {
    PlanStage *v;
    int n;
} PlanStages;

/* A recipe's folder, or the file of one stage, in whose folder a recipe may lie. RUN and what else
 * recipes need must be set. ERR_CONFIG, or what loading says. */
int stages_load(PlanStages *out, const char *path, const char *const *overrides, int n,
                const PlanGiven *given);
void stages_free(PlanStages *s);

/* Rates for several numbers of threads, and the network. */
enum { RATES_MAX = 8 };
typedef struct PlanMachine {
    PlanRates rates[RATES_MAX];
    int nrates;
    PlanNet net;
    int64_t cores; /* of a node */
    double memory; /* of a node, bytes */
    char *origin;  /* where the rates come from; malloc'd */
} PlanMachine;

/* Takes what a file holds: {"rates": [...]} of rhetor-plan, "cases" of rhetor-bench, "comm" of
 * rhetor-bench comm. ERR_DATA names what is missing. */
int machine_read(PlanMachine *m, const char *path);
/* Measures this process's threads, and one, at some real work of the first stage, for about
 * `seconds` each. */
int machine_measure(PlanMachine *m, const PlanStages *s, double seconds);
json_t *machine_json(const PlanMachine *m);
/* The entry for that many threads: the nearest below, else the smallest. */
const PlanRates *machine_rates(const PlanMachine *m, int64_t threads);

/* The layout that is fastest on `nodes` nodes and fits; *why malloc'd. ERR_CONFIG: none fits. */
int choose_layout(const PlanStage *s, const PlanMachine *m, int64_t nodes, PlanLayout *out,
                  char **why);

/* Runs a few steps of each stage and compares: prints a table; ERR_INTERNAL if a step or a peak is
 * off by more than the given shares. */
typedef struct CheckOptions {
    double time, memory; /* 0.15, 0.05 */
    int64_t steps;
} CheckOptions;
int check_stages(const PlanStages *s, const PlanMachine *m, const PlanLayout *l,
                 const CheckOptions *o);

/* The report: text for people, or JSON. layouts[n]: the ranks to tell about; shard PLAN_SHARDS: as
 * the settings of each stage say. */
void report_print(const PlanStages *s, const PlanMachine *m, const PlanLayout *layout, int n,
                  int64_t nodes);
json_t *report_json(const PlanStages *s, const PlanMachine *m, const PlanLayout *layout, int n,
                    int64_t nodes);

#endif
