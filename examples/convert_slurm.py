"""Convert files on a cluster: jobs of Slurm or HTCondor are the workers of a Dask cluster.

python examples/convert_slurm.py OUT FILE... --jobs 16 --cores 32 --memory 64GB --walltime 04:00:00
python examples/convert_slurm.py OUT FILE... --system htcondor --jobs 16 --cores 8
python examples/convert_slurm.py OUT FILE... --print          the job script, and nothing is submitted
python examples/convert_slurm.py OUT FILE... --local          on this machine, to try it out

pip install 'e2eio[parquet,dask]' dask-jobqueue, in an environment that the nodes see, too. Run it on a login node, or in a small
job of its own; stop it with Ctrl-C and start it again as you like: it goes on from the shards that are there. Jobs that are
killed or end at their time limit cost the shards that they were writing, and new ones take their place.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from typing import Any

from dask.distributed import Client, LocalCluster

import e2eio

__all__ = ["main", "make_cluster"]


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", help="directory of the dataset, on a file system that all nodes see")
    parser.add_argument("files", nargs="+", help="what e2eio convert takes, seen by all nodes")
    parser.add_argument("--system", choices=("slurm", "htcondor"), default="slurm")
    parser.add_argument("--jobs", type=int, default=4, help="at most at a time (default 4)")
    parser.add_argument("--cores", type=int, default=8, help="of a job, a process each (default 8)")
    parser.add_argument("--memory", default="16GB", help="of a job; 1 GB a core is plenty")
    parser.add_argument("--disk", default="2GB", help="of a job of HTCondor")
    parser.add_argument("--queue", help="partition of Slurm")
    parser.add_argument("--account", help="whom Slurm charges")
    parser.add_argument("--walltime", default="02:00:00", help="of a job of Slurm")
    parser.add_argument("--preset", help="of e2eio convert")
    parser.add_argument("--print", action="store_true", help="print the job script, and end")
    parser.add_argument("--local", action="store_true", help="processes of this machine instead")
    return parser.parse_args(words)


def make_cluster(args: argparse.Namespace) -> Any:
    """Make a cluster without workers; nothing is submitted yet."""
    if args.local:
        return LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None)
    interrupt = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import HTCondorCluster, SLURMCluster  # type: ignore[attr-defined]

    signal.signal(signal.SIGINT, interrupt)  # the import makes Ctrl-C an exit without a word

    common = {
        "cores": args.cores,
        "processes": args.cores,  # a source is read by one thread of a process
        "memory": args.memory,
        "death_timeout": 120,  # a job whose scheduler has gone ends by itself
    }
    if args.system == "htcondor":
        return HTCondorCluster(disk=args.disk, **common)
    return SLURMCluster(
        queue=args.queue, account=args.account, walltime=args.walltime,
        job_extra_directives=["--requeue"], **common,
    )  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    args = parse(words)
    with make_cluster(args) as cluster:
        if args.print:
            print(cluster.job_script())
            return
        if args.local:
            cluster.scale(args.jobs)
        else:
            # Jobs come while there is work and go when there is none; one is kept, so that it never stalls.
            cluster.adapt(minimum_jobs=1, maximum_jobs=args.jobs)
        with Client(cluster) as client:
            content = e2eio.convert(args.files, args.out, preset=args.preset, dask=client)
    print(f"{args.out}: {content.n_samples} samples in {len(content.shards)} shard(s)")


if __name__ == "__main__":
    main()
