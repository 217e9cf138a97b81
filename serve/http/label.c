/* label.c: see label.h. */
#include "serve/http/label.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/utf8.h"
#include "core/rng.h"
#include "serve/http/http.h"
#include "serve/http/label_form.h"

#define VERSION 1
#define NOW     "strftime('%Y-%m-%dT%H:%M:%fZ','now')"
/* An open task that nobody touched for so long no longer holds its place. */
#define LEASE "'-2 hours'"

static const char schema[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);"
    "CREATE TABLE labeller(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, token TEXT NOT NULL, "
    "admin INTEGER NOT NULL, made TEXT NOT NULL);"
    "CREATE TABLE item(id INTEGER PRIMARY KEY, task TEXT NOT NULL, prompt TEXT NOT NULL, "
    "completions TEXT NOT NULL, record TEXT NOT NULL, gold TEXT, priority REAL NOT NULL, hash TEXT "
    "UNIQUE NOT NULL);"
    "CREATE TABLE assignment(id INTEGER PRIMARY KEY, item INTEGER NOT NULL REFERENCES item(id), "
    "labeller INTEGER NOT NULL REFERENCES labeller(id), pass INTEGER NOT NULL, state TEXT NOT NULL "
    "CHECK(state IN ('open','done','skipped')), touched TEXT NOT NULL, draft TEXT, reason TEXT, "
    "UNIQUE(item, labeller, pass));"
    "CREATE INDEX assignment_of ON assignment(labeller, state);"
    /* Every answer is kept; an assignment's newest one counts. */
    "CREATE TABLE answer(n INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, assignment INTEGER NOT "
    "NULL REFERENCES assignment(id), body TEXT NOT NULL, seconds REAL NOT NULL, at TEXT NOT NULL);"
    "CREATE INDEX answer_of ON answer(assignment);";

/* --- a database ------------------------------------------------------------------------------- */

static int begin(Label *l) { return (int)sql_run(l->db, "BEGIN IMMEDIATE", ""); }

/* Commits what went well, else takes it back; hands rc on. */
static int end(Label *l, int rc) {
    if (rc >= 0) {
        const int64_t done = sql_run(l->db, "COMMIT", "");
        if (done >= 0) return rc;
        rc = (int)done;
    }
    sqlite3_exec(l->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

static int64_t put_meta(Label *l, const char *key, const char *value) {
    return sql_run(l->db, "INSERT OR REPLACE INTO meta VALUES(?, ?)", "tt", key, value);
}

static int64_t put_whole(Label *l, const char *key, int64_t value) {
    AUTOFREE char *text = xasprintf("%" PRId64, value);
    return put_meta(l, key, text);
}

static int64_t meta(Label *l, const char *key) {
    return sql_whole(l->db, 0, "SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?", "t", key);
}

static int make(Label *l) {
    if (sqlite3_exec(l->db, schema, NULL, NULL, NULL) != SQLITE_OK)
        return error_set(ERR_IO, "the database cannot be made: %s", sqlite3_errmsg(l->db));
    TRY(put_meta(l, "program", "rhetor-label"));
    TRY(put_whole(l, "version", VERSION));
    TRY(put_whole(l, "seed", 1));
    TRY(put_whole(l, "overlap", 1));
    TRY(put_whole(l, "gold_every", 10));
    return (int)put_whole(l, "repeat_every", 20);
}

static int put_settings(Label *l, const LabelSettings *s, bool fresh) {
    const struct {
        const char *key;
        int64_t value;
    } whole[] = {{"seed", s->seed},
                 {"overlap", s->overlap},
                 {"gold_every", s->gold_every},
                 {"repeat_every", s->repeat_every}};
    for (int i = 0; i < 4; i++)
        if (whole[i].value >= 0) TRY(put_whole(l, whole[i].key, whole[i].value));
    if (!fresh && !s->form) return 0;
    json_auto_t *form = NULL;
    TRY(label_form_read(&form, s->form));
    AUTOFREE char *text = json_dumps(form, JSON_COMPACT);
    return (int)put_meta(l, "form", text);
}

static int check_version(Label *l, const char *path) {
    AUTOFREE char *program = sql_text(l->db, "SELECT value FROM meta WHERE key = 'program'", "");
    if (!program || strcmp(program, "rhetor-label") != 0)
        return error_set(ERR_DATA, "%s is a database of another program", path);
    if (meta(l, "version") != VERSION)
        return error_set(ERR_DATA,
                         "%s has version %" PRId64 " of the tables, this program reads %d", path,
                         meta(l, "version"), VERSION);
    return 0;
}

static int open_tables(Label *l, const char *path, const LabelSettings *s) {
    const bool fresh =
        sql_whole(l->db, 0, "SELECT count(*) FROM sqlite_master WHERE type = 'table'", "") == 0;
    if (fresh && !s) return error_set(ERR_DATA, "%s: an empty database", path);
    if (s) {
        TRY(begin(l));
        int rc = fresh ? make(l) : check_version(l, path);
        if (rc >= 0) rc = put_settings(l, s, fresh);
        TRY(end(l, rc));
    } else
        TRY(check_version(l, path));
    AUTOFREE char *form = sql_text(l->db, "SELECT value FROM meta WHERE key = 'form'", "");
    if (!form) return error_set(ERR_DATA, "%s has no form", path);
    TRY(json_parse(&l->form, form, strlen(form), path, 1));
    l->seed = meta(l, "seed");
    l->overlap = meta(l, "overlap");
    l->gold_every = meta(l, "gold_every");
    l->repeat_every = meta(l, "repeat_every");
    return 0;
}

int label_open(Label **out, const char *path, const LabelSettings *s) {
    *out = NULL;
    Label *l = xcalloc(1, sizeof *l);
    int rc = sql_open(&l->db, path, s != NULL);
    if (rc >= 0) rc = open_tables(l, path, s);
    if (rc < 0) {
        label_close(&l);
        return rc;
    }
    *out = l;
    return 0;
}

void label_close(Label **l) {
    if (!*l) return;
    json_decref((*l)->form);
    sqlite3_close((*l)->db);
    free(*l);
    *l = NULL;
}

/* --- labellers -------------------------------------------------------------------------------- */

int label_token(Label *l, const char *name, bool admin, char token[33]) {
    const size_t n = strlen(name);
    bool plain = n > 0 && n <= 100 && utf8_valid(name, n) == n;
    for (size_t i = 0; i < n; i++) plain = plain && (unsigned char)name[i] >= ' ';
    if (!plain)
        return error_set(ERR_USAGE,
                         "a labeller's name has 1 to 100 bytes of text (UTF-8) on one line");
    TRY(http_token(token));
    const int64_t rc =
        sql_run(l->db,
                "INSERT INTO labeller(name, token, admin, made) VALUES(?1, ?2, ?3, " NOW
                ") ON CONFLICT(name) DO UPDATE SET token = ?2, admin = ?3",
                "tti", name, token, (int64_t)admin);
    return rc < 0 ? (int)rc : 0;
}

int64_t label_whose(Label *l, const char *token, bool *admin) {
    AUTOSTMT *s = NULL;
    int64_t who = 0;
    if (!token || sql_prepare(&s, l->db, "SELECT id, token, admin FROM labeller", "") < 0) return 0;
    while (sql_step(s) > 0)
        if (http_equal(sql_column(s, 1), token)) {
            who = sqlite3_column_int64(s, 0);
            *admin = sqlite3_column_int(s, 2) != 0;
        }
    return who;
}

int64_t label_by_name(Label *l, const char *name) {
    return sql_whole(l->db, 0, "SELECT id FROM labeller WHERE name = ?", "t", name);
}

/* --- items ------------------------------------------------------------------------------------ */

static char *dump(const json_t *j) {
    return json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
}

/* A page that is given anything else shows nothing, and its labeller cannot go on. */
static int check_prompt(const json_t *prompt) {
    size_t i;
    json_t *one;
    if (!json_is_string(prompt) && json_array_size(prompt) == 0)
        return error_set(ERR_DATA, "\"prompt\" must be a text, or messages and one at least");
    json_array_foreach(prompt, i, one) {
        if (!json_is_string(json_object_get(one, "role")) ||
            !json_is_string(json_object_get(one, "content")))
            return error_set(ERR_DATA, "message %zu needs a \"role\" and a \"content\"", i + 1);
    }
    return 0;
}

/* What tells an item from others; of answers of models, which are no two's, also whose. */
static char *item_hash(const char *task, const char *prompt, const char *completions,
                       const json_t *record) {
    const json_t *models = json_object_get(record, "models");
    AUTOFREE char *whose = models ? dump(models) : NULL;
    AUTOFREE char *all = xasprintf("%s\n%s\n%s%s%s", task, prompt, completions, whose ? "\n" : "",
                                   whose ? whose : "");
    uint64_t hash[2];
    hash_bytes128(all, strlen(all), hash);
    return xasprintf("%016" PRIx64 "%016" PRIx64, hash[0], hash[1]);
}

int label_add(Label *l, const char *task, json_t *prompt, json_t *completions, json_t *record,
              json_t *ranks, double priority) {
    const size_t k = json_array_size(completions);
    const bool rank = strcmp(task, "rank") == 0;
    if (rank && (k < 2 || k > LABEL_COMPLETIONS))
        return error_set(ERR_DATA, "%zu completion%s, expected 2 to %d", k, k == 1 ? "" : "s",
                         LABEL_COMPLETIONS);
    TRY(check_prompt(prompt));
    if (ranks && json_array_size(ranks) != k)
        return error_set(ERR_DATA, "%zu ranks for %zu completions", json_array_size(ranks), k);
    for (size_t i = 0; ranks && i < k; i++)
        if (!json_is_number(json_array_get(ranks, i)))
            return error_set(ERR_DATA, "rank %zu is no number", i + 1);
    AUTOFREE char *p = dump(prompt), *c = dump(completions), *r = dump(record);
    AUTOFREE char *g = ranks ? dump(ranks) : NULL;
    AUTOFREE char *id = item_hash(task, p, c, record);
    return (int)sql_run(l->db,
                        "INSERT OR IGNORE INTO item(task, prompt, completions, record, gold, "
                        "priority, hash) VALUES(?, ?, ?, ?, ?, ?, ?)",
                        "tttttdt", task, p, c, r, g, priority, id);
}

void label_order(const Label *l, int64_t labeller, int64_t item, int64_t pass, int k, int *order) {
    const RngKey key = {.seed = (uint64_t)l->seed, .purpose = RNG_SHUFFLE, .step = (uint32_t)pass};
    for (int i = 0; i < k; i++) order[i] = i;
    for (int i = k - 1; i > 0; i--) {
        const int64_t j =
            rng_below(&key, (uint64_t)item, (uint32_t)labeller, (uint32_t)i, (int64_t)i + 1);
        const int t = order[i];
        order[i] = order[j], order[j] = t;
    }
}

/* --- tasks ------------------------------------------------------------------------------------ */

/* A new assignment's id; 0 where the query finds no item. */
static int64_t assign(Label *l, int64_t labeller, int64_t pass, const char *query) {
    const int64_t item = sql_whole(l->db, 0, query, "i", labeller);
    if (!item) return 0;
    TRY((int)sql_run(l->db,
                     "INSERT INTO assignment(item, labeller, pass, state, touched) VALUES(?, ?, ?, "
                     "'open', " NOW ")",
                     "iii", item, labeller, pass));
    return sqlite3_last_insert_rowid(l->db);
}

/* Quality control comes at fixed places of a labeller's work, so that a restart changes nothing. */
static int64_t choose(Label *l, int64_t labeller) {
    const int64_t nth = 1 + sql_whole(l->db, 0,
                                      "SELECT count(*) FROM assignment WHERE labeller = ? AND "
                                      "state = 'done'",
                                      "i", labeller);
    int64_t id = 0;
    if (l->gold_every && nth % l->gold_every == 0)
        id = assign(l, labeller, 0,
                    "SELECT id FROM item WHERE gold IS NOT NULL AND id NOT IN (SELECT item FROM "
                    "assignment WHERE labeller = ?) ORDER BY id LIMIT 1");
    /* The oldest of what they did, so that they have forgotten it. */
    if (!id && l->repeat_every && nth % l->repeat_every == 0)
        id = assign(l, labeller, 1,
                    "SELECT a.item FROM assignment a JOIN item i ON i.id = a.item WHERE a.labeller "
                    "= ?1 AND a.state = 'done' AND a.pass = 0 AND i.task = 'rank' AND i.gold IS "
                    "NULL AND a.item NOT IN (SELECT item FROM assignment WHERE labeller = ?1 AND "
                    "pass = 1) ORDER BY a.id LIMIT 1");
    if (id) return id;
    AUTOFREE char *query = xasprintf(
        "SELECT i.id FROM item i LEFT JOIN assignment a ON a.item = i.id AND a.pass = 0 AND "
        "(a.state = 'done' OR (a.state = 'open' AND a.touched > strftime('%%Y-%%m-%%dT%%H:%%M:"
        "%%fZ','now'," LEASE "))) WHERE i.gold IS NULL AND i.id NOT IN (SELECT item FROM "
        "assignment WHERE labeller = ?) GROUP BY i.id HAVING count(a.id) < %" PRId64
        " ORDER BY i.priority DESC, count(a.id) DESC, i.id LIMIT 1",
        l->overlap);
    return assign(l, labeller, 0, query);
}

static int load(json_t **out, sqlite3_stmt *s, int column) {
    const char *text = sql_column(s, column);
    if (!*text) return 0;
    return json_parse(out, text, strlen(text), "the database", 1);
}

static int describe(Label *l, int64_t id, json_t **out) {
    AUTOSTMT *s = NULL;
    TRY(sql_prepare(&s, l->db,
                    "SELECT a.item, a.labeller, a.pass, i.task, i.prompt, i.completions, a.draft "
                    "FROM assignment a JOIN item i ON i.id = a.item WHERE a.id = ?",
                    "i", id));
    TRY(sql_step(s));
    json_auto_t *prompt = NULL, *all = NULL, *draft = NULL, *shown = json_array();
    TRY(load(&prompt, s, 4));
    TRY(load(&all, s, 5));
    TRY(load(&draft, s, 6));
    int order[LABEL_COMPLETIONS];
    const int k = (int)json_array_size(all);
    const int64_t pass = sqlite3_column_int64(s, 2);
    label_order(l, sqlite3_column_int64(s, 1), sqlite3_column_int64(s, 0), pass, k, order);
    for (int i = 0; i < k; i++) json_array_append(shown, json_array_get(all, (size_t)order[i]));
    *out = json_pack("{s:I, s:s, s:O, s:O, s:O?, s:I}", "assignment", (json_int_t)id, "task",
                     sql_column(s, 3), "prompt", prompt, "completions", shown, "draft", draft,
                     "pass", (json_int_t)pass);
    return 0;
}

int label_task(Label *l, int64_t labeller, json_t **out) {
    *out = NULL;
    TRY(begin(l));
    int64_t id = sql_whole(l->db, 0,
                           "SELECT id FROM assignment WHERE labeller = ? AND state = 'open' ORDER "
                           "BY touched DESC LIMIT 1",
                           "i", labeller);
    if (!id) id = choose(l, labeller);
    if (id > 0)
        id = sql_run(l->db, "UPDATE assignment SET touched = " NOW " WHERE id = ?", "i", id) < 0
                 ? -1
                 : id;
    TRY(end(l, id < 0 ? ERR_IO : 0));
    if (id) return describe(l, id, out);
    *out = json_null();
    return 0;
}

/* The assignment's item, how many completions it has, and the blind order. ERR_DATA: not theirs. */
static int order_of(Label *l, int64_t labeller, int64_t assignment, int *k, int *order) {
    AUTOSTMT *s = NULL;
    TRY(sql_prepare(&s, l->db,
                    "SELECT a.item, a.pass, json_array_length(i.completions) FROM assignment a "
                    "JOIN item i ON i.id = a.item WHERE a.id = ? AND a.labeller = ?",
                    "ii", assignment, labeller));
    const int found = sql_step(s);
    if (found <= 0)
        return found < 0 ? found : error_set(ERR_DATA, "task %" PRId64 " is not yours", assignment);
    *k = sqlite3_column_int(s, 2);
    label_order(l, labeller, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), *k, order);
    return 0;
}

static const char *const lists[] = {"rank", "quality", "flags"};

/* The lists of a body from the blind order to the completions' own, or back. */
static json_t *reorder(const json_t *body, int k, const int *order, bool back) {
    json_t *to = json_deep_copy(body);
    for (int i = 0; i < 3; i++) {
        const json_t *from = json_object_get(body, lists[i]);
        json_t *list = json_object_get(to, lists[i]);
        for (int j = 0; from && j < k; j++)
            json_array_set(list, (size_t)(back ? j : order[j]),
                           json_array_get(from, (size_t)(back ? order[j] : j)));
    }
    return to;
}

static int save_answer(Label *l, int64_t assignment, const char *id, const char *text,
                       double seconds) {
    const int64_t saved =
        sql_run(l->db,
                "INSERT OR IGNORE INTO answer(id, assignment, body, seconds, at) VALUES(?, ?, ?, "
                "?, " NOW ")",
                "titd", id, assignment, text, seconds);
    if (saved < 0) return (int)saved;
    if (saved == 0) /* sent once more; or the id is another answer's, which would be lost */
        return sql_whole(l->db, 0, "SELECT assignment FROM answer WHERE id = ?", "t", id) ==
                       assignment
                   ? 0
                   : error_set(ERR_DATA, "the id %s is another answer's", id);
    return (int)sql_run(
        l->db, "UPDATE assignment SET state = 'done', draft = NULL, touched = " NOW " WHERE id = ?",
        "i", assignment);
}

int label_answer(Label *l, int64_t labeller, int64_t assignment, const char *id, const json_t *body,
                 double seconds) {
    int k, order[LABEL_COMPLETIONS];
    if (!id || !*id || strlen(id) > 64) return error_set(ERR_DATA, "an answer needs an id");
    TRY(order_of(l, labeller, assignment, &k, order));
    json_auto_t *checked = NULL, *own = NULL;
    TRY(label_form_check(&checked, l->form, body, k));
    own = reorder(checked, k, order, false);
    AUTOFREE char *text = dump(own);
    TRY(begin(l));
    return end(l,
               save_answer(l, assignment, id, text, seconds >= 0 && seconds < 1e6 ? seconds : 0));
}

int label_draft(Label *l, int64_t labeller, int64_t assignment, const json_t *body) {
    AUTOFREE char *text = dump(body);
    const int64_t n = sql_run(l->db,
                              "UPDATE assignment SET draft = ?, touched = " NOW
                              " WHERE id = ? AND labeller = ? AND state = 'open'",
                              "tii", text, assignment, labeller);
    return n < 0 ? (int)n : 0;
}

int label_skip(Label *l, int64_t labeller, int64_t assignment, const char *reason) {
    const int64_t n = sql_run(l->db,
                              "UPDATE assignment SET state = 'skipped', reason = ?, touched = " NOW
                              " WHERE id = ? AND labeller = ? AND state <> 'done'",
                              "tii", reason, assignment, labeller);
    return n < 0 ? (int)n : 0;
}

int label_undo(Label *l, int64_t labeller) {
    AUTOSTMT *s = NULL;
    TRY(sql_prepare(&s, l->db,
                    "SELECT a.id, (SELECT body FROM answer WHERE assignment = a.id ORDER BY n DESC "
                    "LIMIT 1) FROM assignment a WHERE labeller = ? AND state <> 'open' ORDER BY "
                    "touched DESC, id DESC LIMIT 1",
                    "i", labeller));
    const int found = sql_step(s);
    if (found <= 0) return found;
    int k, order[LABEL_COMPLETIONS];
    json_auto_t *body = NULL, *shown = NULL;
    const int64_t id = sqlite3_column_int64(s, 0);
    TRY(order_of(l, labeller, id, &k, order));
    TRY(load(&body, s, 1));
    if (body) shown = reorder(body, k, order, true);
    AUTOFREE char *draft = shown ? dump(shown) : NULL;
    const int64_t n = sql_run(
        l->db, "UPDATE assignment SET state = 'open', draft = ?, touched = " NOW " WHERE id = ?",
        "ti", draft, id);
    return n < 0 ? (int)n : 1;
}

int64_t label_unfinished(Label *l) {
    return sql_whole(l->db, -1,
                     "SELECT count(*) FROM item i WHERE gold IS NULL AND (SELECT count(*) FROM "
                     "assignment a WHERE a.item = i.id AND a.pass = 0 AND a.state = 'done') < ?",
                     "i", l->overlap);
}

int label_progress(Label *l, int64_t labeller, json_t **out) {
    AUTOSTMT *s = NULL;
    AUTOFREE char *query = xasprintf(
        "SELECT (SELECT count(*) FROM assignment WHERE labeller = ?1 AND state = 'done'), (SELECT "
        "count(*) FROM assignment WHERE labeller = ?1 AND state = 'skipped'), (SELECT count(*) "
        "FROM "
        "item i WHERE gold IS NULL AND NOT EXISTS (SELECT 1 FROM assignment a WHERE a.item = i.id "
        "AND a.labeller = ?1 AND a.state <> 'open') AND (SELECT count(*) FROM assignment a WHERE "
        "a.item = i.id AND a.pass = 0 AND a.state = 'done') < %" PRId64 ")",
        l->overlap);
    TRY(sql_prepare(&s, l->db, query, "i", labeller));
    TRY(sql_step(s));
    *out = json_pack("{s:I, s:I, s:I}", "done", (json_int_t)sqlite3_column_int64(s, 0), "skipped",
                     (json_int_t)sqlite3_column_int64(s, 1), "left",
                     (json_int_t)sqlite3_column_int64(s, 2));
    return 0;
}

/* --- rankings of the chat page ----------------------------------------------------------------- */

static int add_ranked(Label *l, int64_t labeller, json_t *prompt, json_t *completions,
                      json_t *record, const json_t *body) {
    char id[33];
    TRY(label_add(l, "rank", prompt, completions, record, NULL, -1));
    AUTOFREE char *p = dump(prompt), *c = dump(completions), *text = dump(body);
    AUTOFREE char *hash = item_hash("rank", p, c, record);
    const int64_t item = sql_whole(l->db, 0, "SELECT id FROM item WHERE hash = ?", "t", hash);
    TRY((int)sql_run(l->db,
                     "INSERT OR IGNORE INTO assignment(item, labeller, pass, state, touched) "
                     "VALUES(?, ?, 0, 'open', " NOW ")",
                     "ii", item, labeller));
    const int64_t assignment = sql_whole(
        l->db, 0, "SELECT id FROM assignment WHERE item = ? AND labeller = ? AND pass = 0", "ii",
        item, labeller);
    TRY(http_token(id));
    return save_answer(l, assignment, id, text, 0);
}

int label_ranked(Label *l, int64_t labeller, json_t *prompt, json_t *completions, json_t *record,
                 const json_t *body) {
    TRY(begin(l));
    return end(l, add_ranked(l, labeller, prompt, completions, record, body));
}

/* --- reading answers --------------------------------------------------------------------------- */

int label_answers(Label *l, sqlite3_stmt **cursor) {
    return sql_prepare(
        cursor, l->db,
        "SELECT a.item, a.labeller, a.pass, w.name, i.task, i.prompt, i.completions, "
        "i.record, i.gold, b.body, b.seconds, b.at FROM assignment a JOIN item i ON "
        "i.id = a.item JOIN labeller w ON w.id = a.labeller JOIN answer b ON b.n = "
        "(SELECT max(n) FROM answer WHERE assignment = a.id) WHERE a.state = 'done' "
        "ORDER BY a.item, a.pass, w.name",
        "");
}

int label_answers_next(sqlite3_stmt *s, LabelAnswer *a) {
    const int rc = sql_step(s);
    *a = (LabelAnswer){0};
    if (rc <= 0) return rc;
    *a = (LabelAnswer){.item = sqlite3_column_int64(s, 0),
                       .labeller = sqlite3_column_int64(s, 1),
                       .pass = sqlite3_column_int64(s, 2),
                       .name = sql_column(s, 3),
                       .task = sql_column(s, 4),
                       .seconds = sqlite3_column_double(s, 10),
                       .at = sql_column(s, 11)};
    json_t **to[] = {&a->prompt, &a->completions, &a->record, &a->gold, &a->body};
    for (int i = 0; i < 5; i++) TRY(load(to[i], s, 5 + i));
    return 1;
}

void label_answers_drop(LabelAnswer *a) {
    json_t *all[] = {a->prompt, a->completions, a->record, a->gold, a->body};
    for (int i = 0; i < 5; i++) json_decref(all[i]);
    *a = (LabelAnswer){0};
}
