"""What the keys of train, evaluate, prepare and synthesize may be; their defaults stand in `conf/`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from mpanet_pl.system.hints import Range
from mpanet_pl.system.keys import Checkpoint, ClassOrWord, Hints, Run, WordOrList, group, keys, text
from mpanet_pl.system.ranges import Count, Place, Seed, Share, Weight, Workers, number

DATA = group("mpanet_pl.data.ReIDDataModule")
TRAINER = group("mpanet_pl.run.trainer.KEYS")
MODEL = group(
    "mpanet_pl.MPANetModule",
    _recursive_=Annotated[bool, Range("false: the module builds its own parts", lambda value: value is False)],
    _convert_=Annotated[str, Range("all: a checkpoint keeps plain values", lambda value: value == "all")],
)
VALIDATION: Hints = {"on": Literal["test", "held_out"], "start": Count, "last": bool, "monitor": list[str] | None}
OF_DATA = keys(
    data=DATA,
    protocol=group() | None,
    dataset=str,
    data_dir=Place | None,
    trial=Count | None,
    seed=Seed,
    train_on__test_on=list[str],
    data_dirs=Mapping[str, Any],
)
TRAIN = keys(
    OF_DATA,
    model=MODEL,
    trainer=TRAINER,
    validation=group(VALIDATION),
    logger__callbacks=Mapping[str, Any] | None,  # by name: their `_target_`s say what they take
    method__rung__experiment=str,
    resume=Run | None,
    run_dir=Place | None,
    trust=WordOrList,
    compile__channels_last__pictures=bool,
)
EVALUATE = keys(
    OF_DATA,
    trainer=TRAINER,
    ckpt=Checkpoint | None,
    ckpts=list[Checkpoint],
    features__data_dir__save_features__run_dir=Place | None,
    name__notes__dataset__method=str | None,
    rerank__measure=ClassOrWord | None,
    k1__k2__last_stride__draws=Count | None,
    corrupt=WordOrList | None,
    severity=Annotated[int, number(1, 5)] | None,
    corrupted=Literal["visible", "infrared", "both", "queries", "gallery"],
    rank_list=Annotated[int | str, text("spread, first, worst or a person's number")],
    slices=WordOrList | None,
    embedding=Literal["embedding", "descriptor"],
    flip__allow_trained_people__pictures=bool,
    trust=WordOrList,
)
SYNTHESIZE = keys(
    out=Place,
    layout=Literal["sysu", "regdb", "llcm", "folder", "vcm", "buptcampus", "orbench", "mp_reid", "video"],
    scale=Literal["small", "full"],
    identities=Count | None,
    frames__images_per_camera__height__width=Count,
    siblings=Share,
    hardness=Weight,
    seed=Seed,
    workers=Workers | None,
)
RUN_COMMANDS: dict[str, Hints] = {"train": TRAIN, "evaluate": EVALUATE, "prepare": OF_DATA, "synthesize": SYNTHESIZE}
