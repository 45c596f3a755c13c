"""Kill `dcbench run` at random moments, go on until it completes, and compare with a run that nobody disturbed.

By hand::

    python tests/support/kills.py --kills 300
    python tests/support/kills.py --kills 20 --cold

Starting Python and importing torch takes seconds. So runs are forked from this process, which has imported all
there is and has no other threads; with ``--cold`` each is a process of its own from the start.
"""

from __future__ import annotations

import argparse
import collections
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a process with threads cannot be forked

PHASES = ("importing", "starting", "training", "condensing", "evaluating", "writing")
DOING = {"train": "training", "condense": "condensing", "evaluate": "evaluating"}
COMMAND = """run -d digits -m gradmatch -m taught -m herding --ipc 1 --ipc 2 --evals 1 --budget quick
    --network convnet:depth=1,width=4 --eval-network mlp:width=8 --eval-network mlp:width=16
    -o gradmatch.iterations=40 -o gradmatch.batch_real=32 -o herding.epochs=1 --checkpoint-every 0.02""".split()


def words(folder):
    return [*COMMAND, "--results", str(folder)]


class Phase:
    """What a process is at, in a byte that outlives it."""

    def __init__(self, path):
        with open(path, "r+b") as file:
            self._byte = mmap.mmap(file.fileno(), 1)

    def get(self):
        return PHASES[self._byte[0]]

    def set(self, name):
        self._byte[0] = PHASES.index(name)

    @contextmanager
    def within(self, name):
        before = self.get()
        self.set(name)
        try:
            yield
        finally:
            self.set(before)

    def watch(self):
        """Follow what dcbench does in this process."""
        import dcbench.results.store
        import dcbench.utils.files
        from dcbench.plugins import Plugins

        storing, observe = dcbench.utils.files.storing, Plugins.observe

        @contextmanager
        def watched(path):
            with self.within("writing"), storing(path):
                yield

        def told(plugins, hook, **arguments):
            if "progress" in arguments:
                self.set(DOING[arguments["progress"].phase])
            observe(plugins, hook, **arguments)

        dcbench.utils.files.storing = dcbench.results.store.storing = watched
        Plugins.observe = told
        self.set("starting")


def run_command(folder, phase):
    """Run the command in this process and end it."""
    from running import load_tiny_always

    from dcbench.cli import main

    load_tiny_always()
    phase.watch()
    try:
        main(words(folder))
        code = 0
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def start(folder, phase_file, log, cold):
    """Start the command; return its process id."""
    phase = Phase(phase_file)
    phase.set("importing" if cold else "starting")
    with open(log, "ab") as output:
        if cold:
            command = [sys.executable, __file__, "--child", str(phase_file), str(folder)]
            return subprocess.Popen(command, stdout=output, stderr=output).pid
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            run_command(folder, phase)
        return pid


def wait(pid, seconds=None):
    """Kill a process after some seconds unless it ends before; return its exit code, negative for a signal."""
    end = time.monotonic() + seconds if seconds is not None else None
    while True:
        found, status = os.waitpid(pid, os.WNOHANG if end else 0)
        if found:
            return os.waitstatus_to_exitcode(status)
        if end and time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            end = None
        time.sleep(0.001)


class Results:
    """What a folder has, without what differs between two runs of the same."""

    def __init__(self, folder):
        from running import UNALIKE

        path = folder / "records.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # a torn last line is none yet
        self.raw = collections.Counter(lines)
        records = [{**json.loads(line), **dict.fromkeys(UNALIKE)} for line in lines]
        self.records = collections.Counter(json.dumps(record, sort_keys=True) for record in records)
        kept = ("sets/*.safetensors", "sets/*.png", "networks/*.safetensors")
        self.files = {path.name: path.read_bytes() for pattern in kept for path in folder.glob(pattern)}
        self.left_over = [*folder.glob("checkpoints/*"), *folder.rglob("*.tmp")]

    def done(self):
        return len(self.raw) + sum(name.endswith(".safetensors") for name in self.files)

    def compare(self, expected):
        """Count what is lost, what is there twice, and what is different."""
        keys, theirs = (
            collections.Counter(json.loads(record)["key"] for record in each.records.elements())
            for each in (self, expected)
        )
        missing = expected.files.keys() - self.files.keys()
        return {
            "lost": sum((theirs - keys).values()) + len(missing),
            "duplicated": sum((keys - theirs).values()) + len(self.files.keys() - expected.files.keys()),
            "different": sum((self.records - expected.records).values()) + self.damaged(expected),
        }

    def damaged(self, expected):
        """Count the sets and pictures that are not what they should be."""
        return sum(data != expected.files.get(name, data) for name, data in self.files.items())


class Campaign:
    """Kills until there were enough, in one results folder after the other."""

    def __init__(self, base, kills, seed, cold):
        self.base, self.kills, self.cold = base, kills, cold
        self.draws = random.Random(seed)
        self.phase_file, self.log = base / "phase", base / "log"
        self.phase_file.write_bytes(b"\0")
        self.counts = collections.Counter(dict.fromkeys(PHASES, 0))
        self.found = collections.Counter(lost=0, duplicated=0, different=0, left_over=0, problems=0)
        self.killed = self.folders = 0

    def run(self):
        self.measure()
        while self.killed < self.kills:
            self.torment(self.base / f"r{self.folders}")
            self.folders += 1
        return {
            "kills": self.killed,
            "phases": {name: self.counts[name] for name in PHASES},
            "runs completed": self.folders,
            "undisturbed seconds": round(self.seconds, 2),
            **self.found,
        }

    def measure(self):
        """Run undisturbed, twice: in this process, which imports all there is, and as the others will be run."""
        from click.testing import CliRunner
        from running import load_tiny_always

        from dcbench.cli import main

        load_tiny_always()
        done = CliRunner().invoke(main, words(self.base / "expected"))
        assert done.exit_code == 0, done.output
        self.expected = Results(self.base / "expected")
        started = time.monotonic()
        assert wait(start(self.base / "again", self.phase_file, self.log, self.cold)) == 0, self.log.read_text()
        self.seconds = time.monotonic() - started
        assert not any(Results(self.base / "again").compare(self.expected).values())

    def torment(self, folder):
        """Kill and go on until the run completes, then compare."""
        before = Results(folder)
        while self.killed < self.kills:
            share = 1 - before.done() / self.expected.done()
            # What is left, and the start, which there always is.
            left = self.seconds * max(share, 0.15) + (5.0 if self.cold else 0.0)
            code = wait(start(folder, self.phase_file, self.log, self.cold), self.draws.uniform(0, left))
            now = Results(folder)
            self.found["lost"] += sum((before.raw - now.raw).values()) + len(
                before.files.keys() - now.files.keys()
            )
            self.found["different"] += now.damaged(self.expected)
            before = now
            if code == 0:
                break
            if code != -signal.SIGKILL:
                self.problem(f"exit code {code}")
            self.killed += 1
            self.counts[Phase(self.phase_file).get()] += 1
        self.complete(folder)

    def complete(self, folder):
        """Let a run complete, with all that is left over from long ago; compare."""
        from running import grow_old

        grow_old(folder)
        if wait(start(folder, self.phase_file, self.log, self.cold)) != 0:
            self.problem("a run that nobody disturbed failed")
        results = Results(folder)
        self.found.update(results.compare(self.expected))
        self.found["left_over"] += len(results.left_over)

    def problem(self, text):
        self.found["problems"] += 1
        print(f"{text}:\n{self.log.read_text()[-2000:]}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cold", action="store_true", help="start every run anew instead of forking it")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        phase_file, folder = map(Path, arguments.child)
        run_command(folder, Phase(phase_file))
    with tempfile.TemporaryDirectory() as base:
        found = Campaign(Path(base), arguments.kills, arguments.seed, arguments.cold).run()
    print(json.dumps(found))
    sys.exit(any(found[name] for name in ("lost", "duplicated", "different", "left_over", "problems")))


if __name__ == "__main__":
    main()
