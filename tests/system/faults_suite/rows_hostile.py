"""A server, or something between, that answers what no Redis answers."""
import invariants
from common import judge_load, judge_merge, load_argv, merge_argv
from strikes import strike
from table import row

ANSWERS = (
    b"*2147483647\r\n", b"*4294967297\r\n", b"*-5\r\n", b"*-1\r\n", b"*0\r\n", b"$-1\r\n", b"$-7\r\n", b"$999999999999\r\n", b"$536870913\r\n",
    b"*50\r\n" + b"$1\r\nx\r\n" * 50, b"*51\r\n" + b"$1\r\nx\r\n" * 51, b"*50\r\n" + b":1\r\n" * 50, b"*50\r\n" + b"*0\r\n" * 50,
    b"*1\r\n" * 10_000, b"*50\r\n$1\r\nx\r\n", b"*50\r\n$100\r\nshort\r\n", b":1\r\n", b":-1\r\n", b":99999999999999999999\r\n", b"+OK\r\n", b"+\r\n",
    b"+QUEUED\r\n", b"-\r\n", b"-ERR something\r\n", b"-LOADING Redis is loading the dataset in memory\r\n", b"-OOM command not allowed\r\n",
    b"-MOVED 1234 127.0.0.1:1\r\n", b"-READONLY You can't write against a read only replica.\r\n", b"-NOAUTH Authentication required.\r\n",
    b"-MISCONF Redis is configured to save\r\n", b"-EXECABORT Transaction discarded\r\n", b"$5\r\nhello\r\n", b"%1\r\n+a\r\n+b\r\n", b"_\r\n", b",1.5\r\n",
    b">2\r\n+push\r\n+x\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x00", b"\r\n\r\n", b"x" * 70_000, b"*1\r\n$3\r\nabcd\r\n", b"*\r\n", b"$\r\n",
    b"*2\r\n$4\r\n\xff\xfe\x00\n\r\n*-1\r\n",
)
# An answer too few or too many leaves the two sides apart; what then follows is anything.
FAULTS = ("Protocol", "Changed", "Vanished", "Mismatch", "Unsorted", "WrongType", "ServerFull", "Denied", "Unreachable", "Timeout", "Lost", "LeaseLost",
          "NoDatasets", "BadContract", "DuplicateWorker", "BadItem", "NoMemory", "WorkerLost", "Consumed")


@row("hostile-merger", "hostile answers to the merger", f"{len(ANSWERS)} answers that are none (huge counts, nesting, wrong types, errors), each in place of "
     "others", "a fault within its bound, or the right output; bounded memory", len(ANSWERS) * 8, 8)
def hostile_merger(scene, point):
    scene.reset(scene.small)
    run = strike(scene, point, merge_argv(scene, timeout="1s"), scene.small, None, answer=point.choose(ANSWERS), again=point.i % 4 == 3, bound=10)
    return judge_merge(scene, run, scene.small, allowed=FAULTS)


@row("hostile-lrange", "hostile answers to LRANGE", "the same, in place of a batch", "a fault within its bound, or the right output", len(ANSWERS) * 4, 4)
def hostile_lrange(scene, point):
    scene.reset(scene.small)
    run = strike(scene, point, merge_argv(scene, timeout="1s"), scene.small, None, only="LRANGE", answer=point.choose(ANSWERS), bound=10)
    return judge_merge(scene, run, scene.small, allowed=FAULTS)


@row("hostile-worker", "hostile answers to the worker", "the same, in place of the load's answers",
     "a fault within its bound, or the load; never ready with something else", len(ANSWERS) * 6, 4)
def hostile_worker(scene, point):
    scene.reset()
    run = strike(scene, point, load_argv(scene, scene.large, timeout="1s"), None, None, answer=point.choose(ANSWERS), bound=10)
    invariants.ended(run, (), FAULTS)
    if run.code == 0 and not scene.server.ask("EXISTS", "nwm:{job:0}"):
        return "complete, as the gate said"  # the answer to a script was forged
    return judge_load(scene, run, scene.large, allowed=FAULTS)
