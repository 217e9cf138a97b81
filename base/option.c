/* option.c: values of command-line options. */
#include "base/option.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

int64_t option_whole(struct argp_state *state, const char *name, const char *arg, int64_t lowest) {
    char *end;
    errno = 0;
    const long long v = strtoll(arg, &end, 10);
    if (end == arg || *end || errno || v < lowest)
        argp_error(state, "--%s is \"%s\"; expected a whole number from %" PRId64 " up", name, arg,
                   lowest);
    return v;
}

double option_number(struct argp_state *state, const char *name, const char *arg, double lowest,
                     double highest) {
    char *end;
    const double v = strtod(arg, &end);
    if (end == arg || *end || !(v >= lowest && v <= highest))
        argp_error(state, "--%s is \"%s\"; expected a number from %g to %g", name, arg, lowest,
                   highest);
    return v;
}

void option_push(struct argp_state *state, const char *name, const char **list, int *n, int room,
                 const char *arg) {
    if (*n == room) argp_error(state, "more than %d --%s", room, name);
    list[(*n)++] = arg;
}
