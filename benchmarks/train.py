"""Compare training with stock MONAI and with cellseg3d, in the same time.

    python benchmarks/train.py                             # 2D, 2.5D and 3D
    python benchmarks/train.py --kinds 3d --seconds 30 --size 160

"Stock" trains as MONAI's tutorials do: `CacheDataset`, `RandCropByPosNegLabeld`, flips,
`RandAffined`, intensity changes, `DataLoader`, `DiceCELoss`, Adam and float32. In 2D
and 2.5D it crops slices and stacks out of the cached volumes; `stock_slices` caches 2D
slices instead. "Ours" is the shipped bundle as `cellseg3d train` runs it. Both use
MONAI's UNet, the same crop, batch and volumes, and each runs in a fresh process.

Both are scored by the same code on the same unseen volume every few seconds of
training, and the clock stops while they are. The columns are: samples a second; the
samples a second of ours over those of each case; the share of the time that the network
waits for a batch; the best Dice; the seconds of training that the case, and that ours,
took to reach it; and how busy other programs kept the machine. Run the script on a
quiet machine. On a shared one, count processor time and take one thread:
``python benchmarks/train.py --threads 1 --clock cpu``.
"""

import argparse

from fresh_process import case_parser, run_all, run_fresh

CASES = {
    "2d": ("stock_slices", "stock", "ours"),
    "2.5d": ("stock", "ours"),
    "3d": ("stock", "ours"),
}


def main() -> None:
    """Run the cases of each kind and print the tables."""
    parser = case_parser(__doc__, size=256)
    parser.add_argument("--kinds", default="2d,2.5d,3d")
    parser.add_argument("--seconds", type=float, default=90.0, help="of each training")
    parser.add_argument("--every", type=float, default=10.0, help="seconds to a score")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="what seconds are: cpu is processor time, for a busy machine",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--workers", type=int, default=0, help="that draw samples")
    parser.add_argument(
        "--set", action="append", default=[], help="KEY=VALUE of our training"
    )
    run_all(parser.parse_args(), compare_all, run_case)


def compare_all(arguments: argparse.Namespace) -> list[dict]:
    """Measure the cases of every kind."""
    kinds = arguments.kinds.split(",")
    return [row for kind in kinds for row in compare(arguments, kind)]


def compare(arguments: argparse.Namespace, kind: str) -> list[dict]:
    """Measure the cases of one kind, and print and return a row for each."""
    child(arguments, kind, "prepare")
    wanted = arguments.cases.split(",") if arguments.cases else CASES[kind]
    rows = [child(arguments, kind, case) for case in wanted]
    print(
        f"\n{kind:14}samples/s   ours x  waits  best Dice  s to it  ours to it  "
        "busy elsewhere"
    )
    ours = next((row for row in rows if row["case"] == "ours"), rows[-1])
    for row in rows:
        goal = row["best_dice"]
        row["to_goal_s"] = seconds_to(row["scores"], goal)
        row["ours_to_goal_s"] = seconds_to(ours["scores"], goal)
        print(
            f"{row['case']:14}{row['samples_per_s']:9.2f}"
            f"{ours['samples_per_s'] / row['samples_per_s']:9.2f}{row['waiting']:7.1%}"
            f"{goal:11.4f}{row['to_goal_s'] or float('nan'):9.0f}"
            f"{row['ours_to_goal_s'] or float('nan'):12.0f}{row['others']:16.2f}",
            flush=True,
        )
    return rows


def seconds_to(scores: list[list[float]], goal: float) -> float | None:
    """Return the seconds of training until a score was first reached."""
    reached = [seconds for seconds, dice in scores if dice >= goal]
    return min(reached, default=None)


def child(arguments: argparse.Namespace, kind: str, case: str) -> dict:
    """Run one case in a fresh process and return what it measured."""
    names = ("size", "seconds", "every", "clock", "seed", "device", "workers")
    names += ("folder",)
    options = {"kinds": kind} | {name: getattr(arguments, name) for name in names}
    options |= {"set": arguments.set}
    found = run_fresh(__file__, case, arguments.threads, options)
    return {"kind": kind, "case": case, "clock": arguments.clock, **found}


def run_case(arguments: argparse.Namespace) -> dict:
    """Run one case and return what it measured."""
    import torch  # noqa: PLC0415 - seconds
    from train_cases import CASE, Setting  # noqa: PLC0415

    torch.set_num_threads(arguments.threads)
    setting = Setting(
        arguments.kinds,
        arguments.folder,
        arguments.size,
        arguments.seconds,
        arguments.every,
        arguments.seed,
        arguments.clock,
        tuple(arguments.set),
        arguments.device,
        arguments.workers,
    )
    return CASE[arguments.child](setting)


if __name__ == "__main__":
    main()
