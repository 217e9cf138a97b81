/* rhetor-size: a recipe for one's own data, sized by the text and this machine (plan/own.h).
 * configs/own runs it before its first step:
 *
 *     rhetor-pipeline configs/own --data DIR --minutes 30
 */
#include <stdlib.h>

#include "base/error.h"
#include "base/openmp.h"
#include "base/option.h"
#include "core/kernel.h"
#include "plan/own.h"

typedef struct Args {
    const char *data, *out;
    double minutes;
    bool dry;
} Args;

static const Option options[] = {
    {"data", 0, "DIR", "folder with texts, demonstrations, rankings, prompts", OPT_TEXT(data)},
    {"out", 0, "DIR", "folder for the recipe", OPT_TEXT(out)},
    {"minutes", 0, "N", "time that the whole recipe may take (30)", OPT_NUMBER(minutes, 0.1, 1e6)},
    {"dry-run", 0, NULL, "tell, but write nothing", OPT_FLAG(dry)},
    {0}};

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    Args a = {.minutes = 30};
    option_parse(
        options, "--data DIR --out DIR",
        "Writes a recipe for one's own data, and says what it is and how long it will take.", argc,
        argv, &a);
    if (!a.data || (!a.out && !a.dry))
        return option_end(error_set(ERR_USAGE, "which data, and where to? --data DIR --out DIR"));
    setenv("RUN", "runs/own", 0);
    core_init();
    return option_end(own_recipe(a.data, a.dry ? NULL : a.out, a.minutes));
}
