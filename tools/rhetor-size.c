/* rhetor-size: a recipe for somebody's own data, sized by the text and this machine (plan/own.h).
 * configs/own runs it before its first step:
 *
 *     rhetor-pipeline configs/own --data DIR --minutes 30
 */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/openmp.h"
#include "base/option.h"
#include "core/blas.h"
#include "plan/own.h"

typedef struct Args {
    const char *data, *out;
    double minutes;
    bool dry;
} Args;

enum { OPT_DATA = 1000, OPT_OUT, OPT_MINUTES, OPT_DRY };
static const struct argp_option options[] = {
    {"data", OPT_DATA, "DIR", 0, "folder with texts, demonstrations, rankings, prompts", 0},
    {"out", OPT_OUT, "DIR", 0, "folder for the recipe", 0},
    {"minutes", OPT_MINUTES, "N", 0, "time that the whole recipe may take (30)", 0},
    {"dry-run", OPT_DRY, 0, 0, "tell, but write nothing", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    Args *a = state->input;
    switch (key) {
    case OPT_DATA: a->data = arg; break;
    case OPT_OUT: a->out = arg; break;
    case OPT_MINUTES: a->minutes = option_number(state, "minutes", arg, 0.1, 1e6); break;
    case OPT_DRY: a->dry = true; break;
    case ARGP_KEY_ARG: argp_error(state, "what is \"%s\"?", arg); break;
    case ARGP_KEY_END:
        if (!a->data) argp_error(state, "which data? --data DIR");
        if (!a->out && !a->dry) argp_error(state, "where to? --out DIR, or --dry-run");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    static const struct argp argp = {options,
                                     parse,
                                     "--data DIR --out DIR",
                                     "Writes a recipe for one's own data, and says what it is and "
                                     "how long it will take.",
                                     0,
                                     0,
                                     0};
    Args a = {.minutes = 30};
    argp_program_version = "rhetor-size " RHETOR_VERSION;
    argp_err_exit_status = error_exit_code(ERR_USAGE);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    setenv("RUN", "runs/own", 0);
    core_init();
    int rc = own_recipe(a.data, a.dry ? NULL : a.out, a.minutes);
    if (rc < 0) fprintf(stderr, "rhetor-size: %s\n", error_message());
    return error_exit_code(rc);
}
