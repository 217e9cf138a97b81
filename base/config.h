/* config.h: settings. base/config_keys.h is the one table of keys; from it come the struct below,
 * parsing, ranges, "did you mean", --help, docs/CONFIG.md and the resolved config that every run
 * directory and checkpoint carries. */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct StrList {
    char **v;
    int n;
} StrList; /* owned by the Config */

/* Which stages know a key. IN_SUBMIT: none, but rhetor-submit's cluster.yaml. */
enum { IN_PRETRAIN = 1, IN_SFT = 2, IN_REWARD = 4, IN_PPO = 8, IN_ALL = 15, IN_SUBMIT = 16 };

/* C types of the kinds of keys. ENUM holds the index of the word in its list of choices. */
typedef int64_t ConfigI64;
typedef double ConfigF64;
typedef bool ConfigBool;
typedef const char *ConfigStr;
typedef StrList ConfigList;
typedef int ConfigEnum;

typedef struct Config {
    int stage;          /* IN_PRETRAIN ... one of them */
    const char *origin; /* the file it came from, "" if none */
#define KEY(field, name, Kind, def, lo, hi, choices, stages, help) Config##Kind field;
#include "base/config_keys.h"
    void *priv; /* strings, where each value was set */
} Config;

/* Words of the ENUM keys, in the order of their choices. */
enum { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE };
enum { ON_LONG_DROP, ON_LONG_TRUNCATE_LEFT, ON_LONG_STOP };
enum { ON_BAD_STOP, ON_BAD_SKIP };
enum { LOSS_ON_RESPONSE, LOSS_ON_ALL };
enum { KL_FIXED, KL_ADAPTIVE };
enum { SHARD_NONE, SHARD_OPTIMIZER, SHARD_GRADIENTS };
enum { COMPRESS_ZSTD, COMPRESS_NONE };
enum { LAUNCHER_AUTO, LAUNCHER_SRUN, LAUNCHER_MPIRUN };

/* Reads `path` (NULL: defaults only), then the overrides "section.key=value" in order. In values
 * ${NAME} and ${NAME:-default} are replaced from the environment (unset without default: error).
 * ERR_CONFIG: path:line:column (or the override), what was found, the range or the choices or the
 * nearest known key, and for a key of another stage which stage has it. */
int config_load(Config *c, int stage, const char *path, const char *const *overrides, int n);
void config_free(Config *c);

char *config_yaml(const Config *c); /* resolved, every key of the stage; malloc'd */
char *config_help(int stage);       /* text for --help; malloc'd */
char *config_markdown(void);        /* docs/CONFIG.md; malloc'd */
/* "key: old -> new" lines for the keys that differ between two resolved texts; malloc'd, "" if
 * none. Keys `run.*` are left out. */
char *config_diff(const char *yaml_old, const char *yaml_new);
const char *config_stage_name(int stage); /* "pretrain", "sft", "reward", "ppo"; "submit" */

/* For a value that is only found wrong later: "demo/ppo.yaml:12: ppo.batch is 30, ...". */
int config_bad(const Config *c, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
