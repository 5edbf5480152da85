"""One program behind a gate, struck at one of its commands; or in time."""
import signal

from gate import PHASES, Gate, Strike
from scene import SLACK_S
from table import Missed


def put_back(scene, files, data):
    """As before an undisturbed run."""
    for path in scene.work.iterdir():
        path.unlink()
    for path, content in files.items():
        path.write_bytes(content)
    scene.fill(data)


def files_of(scene):
    return {path: path.read_bytes() for path in scene.work.iterdir()}


def count_commands(scene, argv_of, data, only=None):
    """How many commands it takes undisturbed, counted once for each command line; also how many seconds."""
    key = (tuple(str(w) for w in argv_of("")), id(data), only, scene.server.aof)
    if key not in scene.counts:
        files = files_of(scene)
        gate = Gate(scene.work, scene.server, Strike(only=only))
        program = scene.start(argv_of(gate.url))
        gate.serve(program, SLACK_S * 3)
        run = program.finish(SLACK_S * 3)
        gate.close()
        if run.code != 0:
            raise RuntimeError(f"undisturbed it failed: {run.err}")
        scene.counts[key] = gate.seen
        put_back(scene, files, data)
    return scene.counts[key]


def strike(scene, point, argv_of, data, action, phase=None, only=None, answer=None, again=False, bound=0,
           then=None, **how):
    """Runs argv_of(url) and lets action(program, gate) happen at a command that the point decides. Returns the Run.
    data: what the server is filled with, to count undisturbed first. then: called when the program has ended."""
    total = count_commands(scene, argv_of, data, only)
    s = Strike(point.of(total), phase or PHASES[point.i % len(PHASES)], None, only, answer, again)
    gate = Gate(scene.work, scene.server, s)
    program = scene.start(argv_of(gate.url), **how)
    s.action = lambda: action(program, gate)
    try:
        gate.serve(program, bound + SLACK_S, then)
        run = program.finish(bound + SLACK_S)
    finally:
        gate.close()
    if not gate.struck:
        raise Missed
    return run


def span(scene, argv, data):
    """How long it takes undisturbed, in seconds; measured once."""
    key = ("span", tuple(str(w) for w in argv), scene.server.aof)
    if key not in scene.counts:
        files = files_of(scene)
        scene.counts[key] = scene.run(argv).seconds
        put_back(scene, files, data)
    return scene.counts[key]


def strike_in_time(scene, point, argv, data, action, bound=0, **how):
    """Lets action(program) happen after a part of the time it usually takes."""
    after = span(scene, argv, data) * point.place
    program = scene.start(argv, **how)
    if program.is_over(after):
        program.finish(bound + SLACK_S)
        raise Missed
    early = point.place < 0.5 or not program.catches(signal.SIGTERM) or scene.server.is_quiet()
    action(program)
    run = program.finish(bound + SLACK_S)
    run.early = early
    return run
