"""The soak: all adapters at once on faulty engines for an hour; results are checked, memory and descriptors sampled.

Run it from the root of the repository::

    python -m tests.soak --minutes 60

It ends with status 1 if a job has ended as it must not, a job hangs, or memory, descriptors, threads or processes grow.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import os
import platform
import random
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attachproto
from attachproto_engine import Engine
from tests.adapters.tls_engine import Certificates
from tests.soak.front import Front
from tests.soak.hooks import FRAMEWORKS, Main
from tests.soak.samples import ALLOWED, Sample, growth, take, use_one_arena
from tests.soak.worker import Control, Tally, Worker

# The longest job, a `run` whose engine does not answer its removal, takes 40 seconds.
_HANG_SECONDS = 150.0

# What is noticed of an end only later: a connection that the engine closes, a thread that ends.
_SETTLE_SECONDS = 12.0
_SETTLES = ("descriptors", "threads", "processes")


class Soak:
    """The engines, the workers, and the samples."""

    def __init__(self, seed: int) -> None:
        self.tally = Tally()
        self.samples: list[Sample] = []
        self._control = Control()
        self._seed = seed
        self._workers: list[Worker] = []
        self._threads: list[threading.Thread] = []
        self._began = time.monotonic()

    def run(self, minutes: float, sample_seconds: float) -> None:
        """Soak for so long, with a sample and a line each so many seconds."""
        with self._running():
            end = self._began + minutes * 60
            while (left := end - time.monotonic()) > 0:
                self._watch(min(left, sample_seconds))
                self._sample()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        with contextlib.ExitStack() as opened:
            dockerd = opened.enter_context(Engine())
            tcp = opened.enter_context(Engine("tcp://127.0.0.1:0"))
            podman = opened.enter_context(Engine(emulate="podman"))
            directory = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            certificates = Certificates(directory)
            server = certificates.server_context(ssl.TLSVersion.TLSv1_3)
            context = ssl.create_default_context(cafile=certificates.client / "ca.pem")
            context.load_cert_chain(certificates.client / "cert.pem", certificates.client / "key.pem")
            mains: dict[int, list[Main]] = collections.defaultdict(list)
            for number, hooks in enumerate(FRAMEWORKS):
                front = Front(server, dockerd.host)
                opened.callback(front.close)
                ways = {"unix": (dockerd, None), "tcp": (tcp, None), "tls": (dockerd, front), "podman": (podman, None)}
                for position, (way, (engine, before)) in enumerate(ways.items()):
                    worker = Worker(
                        f"{hooks.name}-{way}",
                        hooks,
                        engine,
                        before,
                        {} if before is None else {"tls": context},
                        self._control,
                        self.tally,
                        self._seed,
                        keeps=position == 0,
                    )
                    self._workers.append(worker)
                    mains[number].append(worker)
            for number, hooks in enumerate(FRAMEWORKS):
                thread = threading.Thread(target=self._work, args=(hooks.run, mains[number]), daemon=True)
                self._threads.append(thread)
                thread.start()
            yield
            self._control.stop = True
            for thread in self._threads:
                thread.join(_HANG_SECONDS)
                if thread.is_alive():
                    self.tally.findings.append("a worker does not end")

    def _work(self, run: object, mains: list[Main]) -> None:
        assert callable(run)
        try:
            run(mains)
        except BaseException as exc:
            self.tally.findings.append(f"a worker has failed: {exc!r}")
            raise

    def _watch(self, seconds: float) -> None:
        """Wait, and end the process if a job hangs."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            self._check_hangs()
            if not all(thread.is_alive() for thread in self._threads):
                return

    def _check_hangs(self) -> None:
        for name, (job, began) in [*self.tally.running.items()]:
            if time.monotonic() - began > _HANG_SECONDS:
                print(f"FINDING {name} hangs:\n    {job}", flush=True)
                for hooks in FRAMEWORKS:
                    print(f"\ntasks of {hooks.name}:", *hooks.stacks(), sep="\n", flush=True)
                faulthandler.dump_traceback()
                os._exit(1)

    def _sample(self) -> None:
        """Let all jobs end, wait until what they held is given back, and sample."""
        self._control.pause = True
        while not all(worker.idle for worker in self._workers):
            time.sleep(0.02)
            self._check_hangs()
            if not all(thread.is_alive() for thread in self._threads):
                return
        taken = [take(time.monotonic() - self._began, self.tally.jobs)]
        settled = time.monotonic() + _SETTLE_SECONDS
        while self.samples and time.monotonic() < settled:
            first = self.samples[0]
            last = taken[-1]
            if all(getattr(last, name) <= getattr(first, name) + ALLOWED[name][1] for name in _SETTLES):
                break
            time.sleep(0.2)
            taken.append(take(time.monotonic() - self._began, self.tally.jobs))
        self.samples.append(taken[-1])
        print(f"{taken[-1]}  {len(self.tally.findings)} findings", flush=True)
        for worker in self._workers:
            worker.idle = False
        self._control.pause = False

    # ---- the table at the end ----

    def report(self) -> list[str]:
        """Print the closing table; returns the findings."""
        tally = self.tally
        grown = growth(self.samples)
        ends = sorted({end for _, end in tally.ends})
        print(f"\n{'jobs':14}" + "".join(f"{end:>20}" for end in ends))
        for kind in sorted({kind for kind, _ in tally.ends}):
            print(f"{kind:14}" + "".join(f"{tally.ends[kind, end]:20}" for end in ends))
        print(f"{'all':14}" + "".join(f"{sum(tally.ends[k, e] for k, e in tally.ends if e == end):20}" for end in ends))
        for title, counts in (("faults", tally.faults), ("errors", tally.errors)):
            print(f"\n{title}: {counts.total()}")
            for name, count in sorted(counts.items()):
                print(f"  {name:34} {count:8}")
        if self.samples:
            print(f"\nfirst  {self.samples[0]}\nlast   {self.samples[-1]}")
        print(f"growth, the median of the last third against that of the first one: {'; '.join(grown) or 'none'}")
        print(f"findings: {len(tally.findings)}")
        return tally.findings + grown


def main() -> int:
    """Run the soak as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--sample-seconds", type=float, default=60.0, metavar="SECONDS")
    options = parser.parse_args()
    libraries = f"attachproto {attachproto.__version__}, {ssl.OPENSSL_VERSION}"
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC  seed {options.seed}  {options.minutes} minutes\n"
        f"{platform.python_implementation()} {platform.python_version()}, {libraries}, "
        f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} processors",
        flush=True,
    )
    use_one_arena()
    soak = Soak(options.seed)
    soak.run(options.minutes, options.sample_seconds)
    return 1 if soak.report() else 0


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main())
