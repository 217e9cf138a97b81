/* keep_plugins.c: part of every program of the asan variant. Open MPI unloads its plugins before
 * LeakSanitizer looks, which then cannot name what they leaked (nor match it with lsan.supp):
 * here nothing is ever unloaded. */
#include <dlfcn.h>

int dlclose(void *handle) { return 0; }
