"""The trainings that `train.py` compares; each returns its measurements."""

# ruff: noqa: ANN001, ANN201, PLC0415

import logging
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from fresh_process import busy_seconds

from cellseg3d.core.clock import CLOCKS

BUNDLES = {
    "2d": "cell_tomo_unet2d",
    "2.5d": "cell_tomo_unet25d",
    "3d": "cell_tomo_unet3d",
}
CONTEXT = {"2d": 0, "2.5d": 2}
SIDE = {"2d": 256, "2.5d": 256, "3d": 96}
BATCH = {"2d": 8, "2.5d": 8, "3d": 2}
KEYS = ("image", "label")


@dataclass
class Setting:
    """The settings that all cases share."""

    kind: str
    folder: Path
    size: int
    seconds: float
    every: float
    seed: int
    clock: str = "wall"
    changes: tuple[str, ...] = ()
    device: str = "cpu"
    workers: int = 0

    @property
    def patch(self) -> list[int]:
        """The shape of a crop, in voxels."""
        dims = 3 if self.kind == "3d" else 2
        return [min(SIDE[self.kind], self.size // 16 * 16)] * dims

    @property
    def spec(self) -> dict:
        """The description of the network's input."""
        context = CONTEXT.get(self.kind, 0)
        return {
            "spatial_dims": len(self.patch),
            "patch_shape": self.patch,
            "context": context,
        }

    def fold(self):
        """Return two volumes to train on and one for scoring."""
        from cellseg3d.datasets.volumes import load_fold

        return load_fold(self.folder / "data" / "datalist.json")


@dataclass
class Meter:
    """A clock that stops during scoring, with the samples and scores so far."""

    setting: Setting
    validation: tuple = ()
    classes: tuple = ()
    samples: int = 0
    waited_s: float = 0.0
    scores: list = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take the clock that the setting names."""
        self.clock = CLOCKS[self.setting.clock]

    def start(self) -> None:
        """Start the clock."""
        self.began, self.paused_s = self.clock(), 0.0
        self.busy, self.cpu = busy_seconds(), time.process_time()
        self.wall = time.perf_counter()
        self.next_s = self.setting.every

    def now(self) -> float:
        """Return the seconds of training so far."""
        return self.clock() - self.began - self.paused_s

    def due(self) -> bool:
        """Return whether it is time to score."""
        return self.now() >= self.next_s

    def score(self, network) -> None:
        """Score a network on the unseen volume."""
        from cellseg3d.prediction.inferer import VolumeInferer
        from cellseg3d.training.scores import VolumeScores

        seconds, paused = self.now(), self.clock()
        training = network.training
        inferer = VolumeInferer(self.setting.spec, trial=False)
        scores = VolumeScores({"classes": self.classes})
        for case in self.validation:
            image = case.scale.apply(case.image, case.offset, case.factor)
            whole = torch.from_numpy(image[None, None]).to(self.setting.device)
            logits = inferer(whole, network.eval())[0].cpu()
            scores.add(case.name, logits, torch.from_numpy(case.label[None]))
        network.train(training)
        self.scores.append([seconds, scores.mean])
        self.paused_s += self.clock() - paused
        self.next_s = self.now() + self.setting.every

    def result(self) -> dict:
        """Return the measurements."""
        seconds, wall = self.now(), time.perf_counter() - self.wall
        cpu = time.process_time() - self.cpu
        return {
            "samples_per_s": self.samples / seconds,
            "samples": self.samples,
            "waiting": self.waited_s / seconds,
            "best_dice": max(dice for _, dice in self.scores),
            "scores": self.scores,
            "others": max(0.0, (busy_seconds() - self.busy - cpu) / wall),
        }


def prepare(setting: Setting) -> dict:
    """Simulate the volumes if they do not exist."""
    from cellseg3d.datasets.simulated import ensure_dataset

    ensure_dataset(setting.folder / "data", 3, setting.size)
    return {}


def ours(setting: Setting) -> dict:
    """Train the shipped bundle as `cellseg3d train` does, with a meter."""
    from ignite.engine import Events

    from cellseg3d.bundle.compose import parse_setting
    from cellseg3d.bundle.shipped import find_bundle
    from cellseg3d.runs.folder import create_run
    from cellseg3d.runs.options import TrainOptions
    from cellseg3d.training.train import run_config

    batch = BATCH[setting.kind]
    settings = {
        "spec::patch_shape": setting.patch,
        "train::dataloader::batch_size": batch,
        "train::dataset::samples": 50 * batch,
        "val_interval": 10**6,
    }
    settings |= dict(map(parse_setting, setting.changes))
    options = TrainOptions(
        minutes=setting.seconds / 60,
        seed=setting.seed,
        device=setting.device,
        workers=setting.workers,
        progress=False,
        settings=settings,
    )
    out = setting.folder / f"run_{setting.kind}_{time.time_ns()}"
    bundle = find_bundle(BUNDLES[setting.kind])
    config = create_run(bundle, setting.folder / "data" / "datalist.json", out, options)
    logging.disable(logging.WARNING)
    meter = Meter(setting)
    found: dict = {}

    def prepare_meter(parser) -> None:
        get = parser.get_parsed_content
        trainer, average = get("train::trainer"), get("average").module
        schedule, data = get("lr_scheduler"), get("data")
        meter.validation, meter.classes = data.validation, data.datalist.classes
        # The meter scores in place of the validation, and its clock stops meanwhile,
        # so the training must not reserve time for it.
        get("train::validation").lasted_s = 0.0

        def begin() -> None:
            meter.start()
            schedule.clock, schedule._started_s = meter.now, 0.0

        def end() -> None:
            meter.score(average)
            found.update(meter.result())
            # The bundle's own last validation is not part of the measurement.
            trainer._event_handlers[Events.COMPLETED].clear()

        trainer.add_event_handler(Events.STARTED, begin)
        watch(trainer, average, meter)
        trainer._event_handlers[Events.COMPLETED].insert(0, (end, (), {}))

    run_config(config, prepare_meter)
    return found


def watch(trainer, network, meter: Meter) -> None:
    """Let a meter count the samples of a trainer and its time of waiting for them."""
    from ignite.engine import Events

    asked = [0.0]

    @trainer.on(Events.GET_BATCH_STARTED)
    def ask() -> None:
        asked[0] = meter.clock()

    @trainer.on(Events.GET_BATCH_COMPLETED)
    def get() -> None:
        meter.waited_s += meter.clock() - asked[0]

    @trainer.on(Events.ITERATION_COMPLETED)
    def step() -> None:
        meter.samples += len(trainer.state.batch["image"])
        if meter.due():
            meter.score(network)


def stock(setting: Setting, *, slices: bool = False) -> dict:
    """Train as MONAI's tutorials do, with the same volumes, crop and batch."""
    from monai.data import CacheDataset, DataLoader
    from monai.losses import DiceCELoss
    from monai.utils import set_determinism

    from cellseg3d.models.layout import memory_layout

    fold = setting.fold()
    set_determinism(setting.seed)
    items = [scaled(case) for case in fold.training]
    if slices:
        items = [each for item in items for each in item_slices(item)]
    # Crops of one volume share one index of its classes, which makes stock faster.
    crops, size = (1, BATCH[setting.kind]) if slices else (BATCH[setting.kind], 1)
    transform = tutorial(setting, crops, slices=slices)
    dataset = CacheDataset(items, transform, progress=False)
    on_gpu = setting.device != "cpu"
    loader = DataLoader(
        dataset,
        batch_size=size,
        shuffle=True,
        drop_last=slices,
        num_workers=setting.workers,
        persistent_workers=setting.workers > 0,
        pin_memory=on_gpu,
    )
    network = build(setting, len(fold.datalist.classes)).to(setting.device)
    # On a GPU as MONAI's tuning guide says: half precision, channels last.
    layout = memory_layout(len(setting.patch)) if on_gpu else torch.contiguous_format
    network = network.to(memory_format=layout)
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    meter = Meter(setting, fold.validation, fold.datalist.classes)
    meter.start()
    batches = forever(loader)
    while meter.now() < setting.seconds:
        asked = meter.clock()
        drawn = next(batches)
        meter.waited_s += meter.clock() - asked
        network.train()
        optimizer.zero_grad()
        image = drawn["image"].to(setting.device, memory_format=layout)
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
            logits = network(image)
        loss = loss_function(logits.float(), drawn["label"].to(setting.device))
        loss.backward()
        optimizer.step()
        meter.samples += len(drawn["image"])
        if meter.due():
            meter.score(network)
    meter.score(network)
    return meter.result()


def build(setting: Setting, classes: int):
    """Return MONAI's UNet, which is the network of the shipped bundles."""
    from cellseg3d.core.input_spec import InputSpec
    from cellseg3d.models.unet import build_network

    return build_network("unet", InputSpec.parse(setting.spec), classes)


def tutorial(setting: Setting, count: int, *, slices: bool):
    """Return the transforms of MONAI's tutorials: crop, flips, affine, intensities."""
    from monai.transforms import Compose, EnsureChannelFirstd, RandCropByPosNegLabeld

    from cellseg3d.benchmark.stock_monai import stock_augmentation

    patch = setting.patch
    thick = slices or setting.kind == "3d"
    crop = patch if thick else [2 * CONTEXT[setting.kind] + 1, *patch]
    as_input = [] if thick else [partial(centre_slice, KEYS)]
    return Compose(
        [
            EnsureChannelFirstd(KEYS, channel_dim="no_channel"),
            RandCropByPosNegLabeld(
                KEYS, "label", spatial_size=crop, pos=1, neg=1, num_samples=count
            ),
            *as_input,
            *stock_augmentation(patch),
        ]
    )


def centre_slice(keys, item):
    """Return an item with its slices as channels and the label of the middle slice."""
    image, label = (item[key] for key in keys)
    middle = label.shape[1] // 2
    return {**item, "image": image[0], "label": label[0, middle : middle + 1]}


def scaled(case) -> dict:
    """Return a volume with its intensities scaled as for all networks."""
    image = case.scale.apply(case.image, case.offset, case.factor)
    return {"image": image, "label": case.label}


def item_slices(item: dict) -> list[dict]:
    """Return the slices whose labels hold foreground."""
    pairs = zip(item["image"], item["label"], strict=True)
    return [{"image": image, "label": label} for image, label in pairs if label.any()]


def forever(loader):
    """Yield batches endlessly."""
    while True:
        yield from loader


CASE = {
    "prepare": prepare,
    "ours": ours,
    "stock": stock,
    "stock_slices": partial(stock, slices=True),
}
