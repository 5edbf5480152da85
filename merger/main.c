/*
 * nwm-merger - merges the sorted datasets of a job into one sorted stream.
 *
 * The life of a merge, in the order it happens:
 *
 *   options    what is asked for
 *   roster     which datasets take part; wait until all are ready
 *   order      adopt the one they are sealed with
 *   sink       open the output, before anything is read (with --resume: first of all, and continue it)
 *   verify     with --verify: fetch and sort everything by the plain way first
 *   session    streams → heap → merge → sink, on one event loop
 *   partial    with --partial: what could not be had is left out, named, and the exit code says so
 *   the end    are all lists still as they were? then the output is finished and the receipt printed
 */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "merger/closing.h"
#include "merger/consume.h"
#include "merger/proof.h"
#include "merger/receipt.h"
#include "merger/resume.h"
#include "merger/roster.h"
#include "merger/session.h"
#include "merger/sink.h"
#include "merger/stats.h"
#include "merger/status.h"
#include "merger/verify.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/stdfd.h"
#include "shared/stop.h"

/* Everything a merge needs, so that it can be freed in one place. */
struct job {
    struct options options;
    struct roster *roster;
    struct order *order;
    struct sink *sink;
    struct resume *resume;   /* with --resume */
    bool settled;            /* an earlier process had done it all */
    struct consume *consume; /* with --consume */
    struct verify *verify;
    struct session *session;
};

/* An earlier process was complete but for its last steps: what it consumed is given back before its checkpoint, which alone says who it
 * was, goes. `fault` is the roster's. */
static struct fault *settle(struct job *j, struct fault *fault)
{
    enum resume_past past;
    fault = resume_settle(j->resume, j->roster, fault, &past);
    if (past == RESUME_NO_PAST) return fault;
    j->settled = past == RESUME_SAME;
    const char *who = resume_consumer(j->resume);
    struct fault *failed = who && j->roster ? consume_settle(&j->options, j->roster, who) : NULL;
    if (!failed) failed = resume_settled(j->resume, past);
    if (!failed) return fault;
    fault_free(fault);
    return failed;
}

/* With --resume the output is opened first: it is locked before anything is waited for, and may hold the result already. */
static struct fault *open_roster(struct job *j)
{
    const struct options *o = &j->options;
    struct fault *fault = o->resume ? resume_open(o, &j->sink, &j->resume) : NULL;
    if (fault) return fault;
    fault = roster_open(o, &j->roster);
    if (j->resume) fault = settle(j, fault);
    if (!fault && o->consume && j->resume && resume_is_found(j->resume)) roster_accept_consumed(j->roster);
    return fault;
}

static struct fault *prepare(struct job *j)
{
    const struct options *o = &j->options;
    struct fault *fault = open_roster(j);
    if (fault || j->settled) return fault;
    fault = roster_wait(j->roster);
    if (!fault) fault = roster_order(j->roster, &j->order);
    if (!fault && j->resume) fault = resume_begin(j->resume, j->roster, j->order);
    if (!fault && !j->resume) fault = sink_open(o->output, o->timeout_ms, &j->sink);
    if (!fault && o->verify) fault = verify_new(o, j->roster, j->order, &j->verify);
    if (!fault) fault = roster_settle(j->roster);
    if (!fault && o->consume) fault = consume_new(o, j->roster, j->resume, &j->consume);
    if (fault) return fault;
    fault = session_new(o, j->roster, j->order, j->sink, j->resume, j->consume, o->verify ? verify_observe : NULL,
                        j->verify, &j->session);
    if (!fault && j->verify) verify_follow(j->verify, session_merge(j->session));
    return fault;
}

/* The trims prove that each list was what it should be, so they come before anything is called complete. */
static struct fault *remove_rest(struct job *j)
{
    consume_hold(j->consume, session_merge(j->session));
    struct fault *fault = resume_save(j->resume, session_merge(j->session));
    return fault ? fault : consume_finish(j->consume, session_merge(j->session));
}

/* --partial: what the merge had to do without is missing like what did not come at all. */
static struct fault *leave_out(struct job *j)
{
    for (size_t i = 0; i < session_streams(j->session); i++)
        if (merge_left_out(session_merge(j->session), i))
            roster_leave_out(j->roster, i, stream_take_fault(session_stream(j->session, i)));
    return roster_settle(j->roster);
}

static struct fault *finish(struct job *j)
{
    struct fault *fault = NULL;
    const struct merge *merge = session_merge(j->session);
    if (!j->consume) fault = closing_check(j->roster);
    if (!fault && j->verify) fault = verify_result(j->verify);
    if (!fault && j->consume && j->resume) fault = remove_rest(j);
    if (!fault && j->resume) fault = resume_complete(j->resume, merge);
    if (!fault) fault = sink_finish(j->sink);
    if (!fault && j->consume && !j->resume) fault = consume_finish(j->consume, merge);
    if (!fault && j->consume) fault = consume_give_back(j->consume);
    if (!fault && j->resume) fault = resume_remove(j->resume);
    if (fault) return fault;
    if (j->verify && !j->options.quiet) fputs("local == remote: true\n", stderr);
    roster_print_faults(j->roster);
    receipt_print(&j->options, j->roster, j->session, j->order);
    return NULL;
}

/* A merge that did not begin leaves nothing behind. */
static void release(struct job *j)
{
    bool released = consume_release(j->consume);
    if (released && !j->session && j->resume) resume_forget(j->resume);
}

static struct fault *merge_job(struct job *j)
{
    struct fault *fault = prepare(j);
    if (!fault && j->settled) return NULL;
    if (!fault) fault = session_run(j->session);
    if (!fault) fault = leave_out(j);
    if (!fault) fault = finish(j);
    if (fault && j->consume) release(j);
    fault = stop_explain(fault);
    if (!j->session) return fault;
    struct fault *failed = stats_print(&j->options, j->roster, j->session, j->order, sink_bytes(j->sink), fault);
    if (!fault) return failed;
    fault_free(failed);
    return fault;
}

/* --check: the manifests are asked, the lists are not. */
static struct fault *check_file(struct job *j)
{
    struct fault *fault = roster_open(&j->options, &j->roster);
    if (!fault) fault = roster_wait(j->roster);
    if (!fault) fault = roster_order(j->roster, &j->order);
    return fault ? fault : proof_check(&j->options, j->roster, j->order);
}

static void free_job(struct job *j)
{
    session_free(j->session);
    verify_free(j->verify);
    consume_free(j->consume);
    resume_free(j->resume);
    sink_close(j->sink);
    order_free(j->order);
    roster_free(j->roster);
    options_free(&j->options);
}

/* Prints every fault that is known; the code is that of the first in stream order. */
static int report(const struct job *j, const struct fault *fault)
{
    log_fault(fault);
    if (j->resume) resume_tell(j->resume, fault);
    if (j->roster) roster_print_faults(j->roster);
    for (size_t i = 0; j->session && i < session_streams(j->session); i++)
        if (stream_fault(session_stream(j->session, i))) log_fault(stream_fault(session_stream(j->session, i)));
    return fault_exit(fault);
}

static struct fault *run(struct job *j, int *code)
{
    const struct options *o = &j->options;
    *code = EXIT_DONE;
    if (o->jobs) return status_print_jobs(o);
    if (o->status) return status_print(o, code);
    if (o->check_file) return check_file(j);
    struct fault *fault = merge_job(j);
    if (!fault && j->roster && roster_left_out(j->roster) > 0) *code = EXIT_PARTIAL;
    return fault;
}

/* Blocks of up to 1 MB come and go with every batch. Left alone, malloc gives each its own mapping, and faulting the pages in anew was
 * 15 % of the CPU (N, measured); what is freed is kept for the next block instead. Larger ones go back to the system. */
static void keep_freed_blocks(void)
{
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

int main(int argc, char **argv)
{
    struct job j = {0};
    int code = EXIT_DONE;
    keep_freed_blocks();
    stdfd_hold();
    stop_install();
    log_init("nwm-merger", false, false);
    struct fault *fault = options_parse(&j.options, PROGRAM_MERGER, argc, argv);
    if (!fault && j.options.help) {
        options_print_help(PROGRAM_MERGER);
    } else if (!fault && j.options.version) {
        options_print_version(PROGRAM_MERGER);
    } else if (!fault) {
        log_init("nwm-merger", j.options.quiet, j.options.verbose);
        stop_at_deadline(j.options.deadline_ms);
        fault = stop_explain(run(&j, &code));
    }
    bool reader_gone = j.sink && sink_reader_is_gone(j.sink);
    if (fault && !reader_gone) code = report(&j, fault);
    bool interrupted = fault && fault_is(fault, FAULT_INTERRUPTED) && stop_signal();
    fault_free(fault);
    free_job(&j);
    if (reader_gone) stop_raise(SIGPIPE);
    if (interrupted) stop_raise(stop_signal());
    return code;
}
