/*
 * fake.h - a scripted server: says what a test wants a Redis to say, at the moment the test wants it.
 *
 *     struct fake *f = fake_start("RELAY LRANGE\n"            everything up to the first LRANGE goes to the private server
 *                                 "EXPECT LRANGE *\n"
 *                                 "SEND *2\\r\\n$1\\r\\nx\n"   half a reply
 *                                 "CLOSE\n");
 *     struct run r = run("nwm-merger -U %s", fake_url(f));
 *     cr_assert_str_eq(fake_end(f, 5000), "");
 *
 * A script is lines, one step each. Steps act on the newest connection; the first is waited for at the start.
 *
 *     ACCEPT             waits for the next connection; the older ones stay open and are not read
 *     EXPECT WORD...     reads a command, which must begin with these words; * is any word. CLIENT, AUTH, SELECT and HELLO
 *                        are answered with +OK on the way, unless they are what is expected
 *     SEND TEXT          the rest of the line, where \r \n \\ and \xNN mean what they do in C
 *     SEND-ITEMS N LEN   an array of N items of LEN bytes
 *     RELAY WORD         passes commands to the private server and its replies back, until a command begins with WORD,
 *                        which is left for the next EXPECT. RELAY alone: until the client hangs up
 *     RELAY-UNTIL-NEXT   passes commands and replies, until there is another connection, which is then the newest
 *     STALL MS           silence, with the connection open. STALL alone: until the client hangs up
 *     CLOSE              ends the connection
 */
#ifndef NWM_TESTS_FAKE_H
#define NWM_TESTS_FAKE_H

#include "tests/system/harness.h"

struct fake;

/* Listens on a unix socket when this returns; runs in a process of its own, which dies with the test. */
struct fake *fake_start(const char *script);
const char *fake_url(const struct fake *f);
const char *fake_socket(const struct fake *f);
/* Waits until the script is done: "" then, else what went wrong or where it stood ("line 3: expected LRANGE, got PING"). */
const char *fake_end(struct fake *f, int64_t ms);

#endif
