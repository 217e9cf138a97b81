/* sql.c: see sql.h. */
#include "serve/http/sql.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

enum { PATIENCE_MS = 10000 };

static int failed(sqlite3 *db, const char *what) {
    return error_set(ERR_IO, "%s: %s: %s", sqlite3_db_filename(db, "main"), what,
                     sqlite3_errmsg(db));
}

int sql_open(sqlite3 **out, const char *path, bool create) {
    *out = NULL;
    if (!create && !file_exists(path))
        return error_set(ERR_IO, "%s: no such database; \"rhetor-label import %s FILE\" makes one",
                         path, path);
    if (create) { /* only its owner may read what labellers and tokens are */
        const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) return file_error(path, "open");
        close(fd);
    }
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_busy_timeout(db, PATIENCE_MS);
        rc = sqlite3_exec(db,
                          "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA "
                          "foreign_keys=ON; PRAGMA trusted_schema=OFF",
                          NULL, NULL, NULL);
    }
    if (rc != SQLITE_OK) {
        rc = error_set(rc == SQLITE_NOTADB ? ERR_DATA : ERR_IO, "%s: %s", path,
                       db ? sqlite3_errmsg(db) : "out of memory");
        sqlite3_close(db);
        return rc;
    }
    *out = db;
    return 0;
}

static int prepare(sqlite3_stmt **out, sqlite3 *db, const char *text, const char *types,
                   va_list ap) {
    if (sqlite3_prepare_v2(db, text, -1, out, NULL) != SQLITE_OK) return failed(db, text);
    CHECK(sqlite3_bind_parameter_count(*out) == (int)strlen(types), "%s: %d values", text,
          (int)strlen(types));
    for (int i = 1; *types; i++, types++) {
        if (*types == 'i') sqlite3_bind_int64(*out, i, va_arg(ap, int64_t));
        if (*types == 'd') sqlite3_bind_double(*out, i, va_arg(ap, double));
        if (*types == 't') sqlite3_bind_text(*out, i, va_arg(ap, char *), -1, SQLITE_TRANSIENT);
    }
    return 0;
}

int sql_prepare(sqlite3_stmt **out, sqlite3 *db, const char *text, const char *types, ...) {
    va_list ap;
    va_start(ap, types);
    const int rc = prepare(out, db, text, types, ap);
    va_end(ap);
    return rc;
}

int sql_step(sqlite3_stmt *s) {
    const int rc = sqlite3_step(s);
    return rc == SQLITE_ROW    ? 1
           : rc == SQLITE_DONE ? 0
                               : failed(sqlite3_db_handle(s), sqlite3_sql(s));
}

int64_t sql_run(sqlite3 *db, const char *text, const char *types, ...) {
    AUTOSTMT *s = NULL;
    va_list ap;
    va_start(ap, types);
    int rc = prepare(&s, db, text, types, ap);
    va_end(ap);
    while (rc >= 0 && (rc = sql_step(s)) > 0) continue;
    return rc < 0 ? rc : sqlite3_changes(db);
}

int64_t sql_whole(sqlite3 *db, int64_t fallback, const char *text, const char *types, ...) {
    AUTOSTMT *s = NULL;
    va_list ap;
    va_start(ap, types);
    int rc = prepare(&s, db, text, types, ap);
    va_end(ap);
    if (rc < 0 || sql_step(s) <= 0 || sqlite3_column_type(s, 0) == SQLITE_NULL) return fallback;
    return sqlite3_column_int64(s, 0);
}

char *sql_text(sqlite3 *db, const char *text, const char *types, ...) {
    AUTOSTMT *s = NULL;
    va_list ap;
    va_start(ap, types);
    int rc = prepare(&s, db, text, types, ap);
    va_end(ap);
    if (rc < 0 || sql_step(s) <= 0 || sqlite3_column_type(s, 0) == SQLITE_NULL) return NULL;
    return xstrdup(sql_column(s, 0));
}

const char *sql_column(sqlite3_stmt *s, int column) {
    const char *text = (const char *)sqlite3_column_text(s, column);
    return text ? text : "";
}

void sql_finalize_at(sqlite3_stmt **s) { sqlite3_finalize(*s); }
