"""What the keys of embed, search, export, forget, push and serve may be; their defaults stand in `conf/`."""

from typing import Annotated, Literal

from mpanet_pl.system.hints import Range
from mpanet_pl.system.keys import Checkpoint, Hints, WordOrList, group, keys, text
from mpanet_pl.system.ranges import Count, Finite, Place, Whole, Workers, number

EMBEDDER = keys(  # what `load` asks of a checkpoint, and what makes its vectors small
    ckpt=Checkpoint,
    compact=Annotated[int | str, text("a whole number, or the path of a gallery")] | None,
    embedding=Literal["embedding", "descriptor"],
    whiten__flip=bool,
    data_dir=Place | None,
    height__width__last_stride=Count | None,
    method__dataset=str | None,
    trust=WordOrList,
)
EMBED = keys(
    EMBEDDER,
    trainer=group("mpanet_pl.run.trainer.KEYS"),
    out=Place,
    images__video__tracks__crops=Place | None,
    camera=str | None,
    start=Finite,
    modality=Literal["visible", "infrared"] | None,
    name__group=str | None,
    dtype=Literal["float32", "float16"],
    prune__strict=bool,
    batch_size__shard_size=Count,
    workers=Workers | None,
)
THRESHOLD = Literal["auto"] | Annotated[float, Range("a cosine", lambda value: abs(value) <= 1, "a cosine")]
MILVUS = keys(
    uri=Annotated[str, text("a file such as people.db, or http://HOST:19530")] | None,
    collection=str,
    index=Literal["FLAT", "HNSW", "IVF_FLAT"],
    uri_token=str | None,
)
GALLERY = keys(
    MILVUS,
    gallery=Place,
    engine=Literal["exact", "milvus"],
    threshold=THRESHOLD | None,
    ckpt=Checkpoint | None,
    device=str,
    trust=WordOrList,
)
GALLERY_COMMANDS: dict[str, Hints] = {
    "embed": EMBED,
    "export": keys(EMBEDDER, out=Place, format=Literal["onnx", "torch"], quantize=Literal["int8"] | None),
    "search": keys(
        GALLERY,
        queries__out=Place,
        k=Count,
        only=group("mpanet_pl.gallery.searching.Filter"),
        name__group=str | None,
        sheet=Whole,
    ),
    "forget": keys(
        MILVUS,
        gallery=Place,
        identity__track__camera__path=list[str],
        before=Finite | None,
        older_than=str | None,
        path_list__like__report=Place | None,
        threshold=THRESHOLD | None,
        ckpt=Checkpoint | None,
        device=str,
        trust=WordOrList,
    ),
    "push": keys(ckpt=Checkpoint, repo__allowed_by=str | None, out=Place | None, private=bool),
    "serve": keys(
        GALLERY,
        host=str,
        port=Annotated[int, number(0, 65535)],
        hosts__proxies=list[str],
        token_file__access_file=Place | None,
        rate=str | None,
        connections=Annotated[int, number(1, 100_000)],
        access_log=Literal["off", "on", "hashed"],
    ),
}
