/* serve.c: rhetor-label serve. */
#include <signal.h>

#include "base/log.h"
#include "serve/http/label_service.h"
#include "tools/label/commands.h"

enum { BODY_MAX = 1 << 20 };

int label_serve(Args *a) {
    Label *l;
    Http *h;
    sigset_t stop;
    int signal_number;
    TRY(label_open(&l, a->db, NULL));
    sigemptyset(&stop);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stop, NULL); /* for the server's thread too */
    signal(SIGPIPE, SIG_IGN);
    const HttpOptions o = {
        .listen = a->listen, .host = a->host, .port = (int)a->port, .body_max = BODY_MAX};
    int rc = http_open(&h, &o, label_service, l);
    if (rc >= 0) {
        log_info("labelling: http://%s:%d/ (labellers enter with their token; Ctrl-C ends)",
                 a->listen ? a->listen : "127.0.0.1", http_port(h));
        sigwait(&stop, &signal_number);
        http_close(&h);
    }
    label_close(&l);
    return rc;
}
