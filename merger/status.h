/*
 * status.h - --status and --jobs: what the manifests say, as a table on standard output.
 */
#ifndef NWM_STATUS_H
#define NWM_STATUS_H

#include "shared/fault.h"
#include "shared/options.h"

/* Prints the table of the job. *exit_code: 0 when all are ready, EXIT_SOURCE when something failed, EXIT_TIMEOUT when something is still
 * loading or missing. */
struct fault *status_print(const struct options *o, int *exit_code) MUST_CHECK;
/* Prints the jobs on all servers, one a line. */
struct fault *status_print_jobs(const struct options *o) MUST_CHECK;

#endif
