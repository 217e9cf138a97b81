/* openmp.c: the OpenMP runtime's patience. See openmp.h. */
#include "base/openmp.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void openmp_wait_briefly(char **argv) {
    const char *threads = getenv("OMP_NUM_THREADS");
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (threads && strcmp(threads, "1") == 0) return;
    char *path = realpath("/proc/self/exe", NULL); /* the real name, so that ps and pkill know it */
    if (!path) return;
    setenv("GOMP_SPINCOUNT", "5000", 1); /* rounds: some tens of microseconds */
    execv(path, argv);                   /* if it cannot be, we go on as we are */
    free(path);
}
