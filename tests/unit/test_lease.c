/* The heartbeat's thread, with leases of a fraction of a second. */
#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#include "shared/conn.h"
#include "shared/fault.h"
#include "shared/script.h"
#include "shared/stop.h"
#include "tests/unit/private_redis.h"
#include "worker/lease.h"

#define LEASE "nwm:{j:1}:lease"
enum { LEASE_MS = 300, DEADLINE_MS = 10000 };

static struct claim claim;
static struct lease *lease;

static void fine(struct fault *f) { cr_assert(f == NULL, "%s: %s", fault_name(f), fault_message(f)); }

static void setup(void)
{
    stop_install();
    private_redis_start(NULL);
    claim_init(&claim, "nwm:", "j", "1", LEASE_MS);
    fine(script_begin(private_redis_conn(), &claim, "", "x", 0));
    fine(lease_start(private_redis_endpoint(), &claim, 1000, &lease));
}

static void teardown(void)
{
    claim_fini(&claim);
    private_redis_end();
}

TestSuite(lease, .init = setup, .fini = teardown, .timeout = 60);

static void nap(void) { nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); }

/* The fault that ends the lease, waited for. */
static struct fault *the_end(void)
{
    int64_t deadline = clock_ms() + DEADLINE_MS;
    struct fault *f;
    while (!(f = lease_check(lease))) {
        cr_assert(clock_ms() < deadline, "the lease does not end");
        nap();
    }
    return f;
}

static void wait_for_value(const char *expected, const char *command)
{
    int64_t deadline = clock_ms() + DEADLINE_MS;
    while (strcmp(redis_text("%s", command), expected) != 0) {
        cr_assert(clock_ms() < deadline, "%s is %s, not %s", command, redis_text("%s", command), expected);
        nap();
    }
}

static void end(void)
{
    struct conn *left = lease_stop(lease);
    cr_assert(left != NULL);
    fine(script_heartbeat(left, &claim)); /* it can be used */
    lease_free(lease);
}

Test(lease, outlives_its_length)
{
    int64_t until = clock_ms() + 3 * LEASE_MS;
    while (clock_ms() < until) {
        cr_assert_eq(redis_do("EXISTS " LEASE)->integer, 1);
        nap();
    }
    fine(lease_check(lease));
    end();
}

Test(lease, is_taken_again_and_the_sets_are_joined_again)
{
    redis_do("DEL " LEASE);
    wait_for_value(claim.token, "GET " LEASE);
    wait_for_value("1", "SMEMBERS nwm:j:datasets");
    wait_for_value("j", "SMEMBERS nwm:jobs");
    end();
}

Test(lease, ends_when_another_has_the_dataset)
{
    redis_do("HSET nwm:{j:1} token elsewhere:9:aaaaaaaaaaaa");
    struct fault *f = the_end();
    cr_assert(fault_is(f, FAULT_LEASE_LOST));
    cr_assert(strstr(fault_message(f), "worker elsewhere:9 has taken") != NULL);
    fault_free(f);
    fine(lease_check(lease)); /* told once */
    cr_assert(lease_stop(lease) != NULL);
    lease_free(lease);
}

Test(lease, survives_the_loss_of_its_connection)
{
    redis_do("CLIENT KILL TYPE normal SKIPME yes");
    redis_do("DEL " LEASE);
    wait_for_value(claim.token, "GET " LEASE);
    fine(lease_check(lease));
    end();
}

/* Nobody answers for the length of a lease: then it is over, and the reason is the connection's. */
Test(lease, ends_when_redis_stays_away)
{
    private_redis_stop();
    struct fault *f = the_end();
    cr_assert(fault_is(f, FAULT_TIMEOUT) || fault_is(f, FAULT_UNREACHABLE), "%s", fault_name(f));
    fault_free(f);
    int64_t began = clock_ms();
    lease_stop(lease);
    cr_assert(clock_ms() - began < 1000);
    lease_free(lease);
}

Test(lease, is_ended_at_once)
{
    end();
    claim.lease_ms = 60000;
    fine(lease_start(private_redis_endpoint(), &claim, 1000, &lease));
    int64_t began = clock_ms();
    end();
    cr_assert(clock_ms() - began < 5000);
}
